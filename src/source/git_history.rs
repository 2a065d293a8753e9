//! Whether a new commit descends from the last one, told from as much history as is there.
//!
//! Weir fetches without history, so mostly only the new commit and its parents' ids are known. That suffices when one
//! commit was added; otherwise the fetcher deepens a little and asks again. Pure but for reading commits through `parents`.

use std::collections::{HashSet, VecDeque};

/// Most commits that are looked at: far more than the fetcher deepens to, and it bounds a walk through a full history.
const MAX_COMMITS: usize = 50_000;

/// Most commits that are named as lost: enough to find the others.
const MAX_LOST: usize = 10;

/// How the new commit stands to the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// There is no last one to compare with.
    First,
    /// It is the same commit.
    Same,
    /// The new commit descends from the last.
    Descends,
    /// It does not: the branch was rewritten, or set back.
    Rewritten,
    /// Not enough history is there to tell.
    Unknown,
}

/// Compares two commits. `parents` gives the parents of a commit, or nothing when the commit is not there.
pub(super) fn compare(old: &str, new: &str, parents: impl Fn(&str) -> Option<Vec<String>>) -> History {
    if old == new {
        return History::Same;
    }
    // No path through an ancestor of the last commit leads to the last commit.
    let before = ancestors(old, &parents);
    let mut seen = HashSet::from([new.to_owned()]);
    let mut queue = VecDeque::from([new.to_owned()]);
    let mut complete = true;
    while let Some(commit) = queue.pop_front() {
        if commit == old {
            return History::Descends;
        }
        if before.contains(&commit) {
            continue;
        }
        match parents(&commit) {
            _ if seen.len() > MAX_COMMITS => complete = false,
            None => complete = false,
            Some(parents) => queue.extend(parents.into_iter().filter(|parent| seen.insert(parent.clone()))),
        }
    }
    if complete { History::Rewritten } else { History::Unknown }
}

/// The last commit and those before it that the new one does not descend from, newest first, as far as they are here; at
/// most `MAX_LOST`.
pub(super) fn lost(old: &str, new: &str, parents: impl Fn(&str) -> Option<Vec<String>>) -> Vec<String> {
    let mut kept = ancestors(new, &parents);
    kept.insert(new.to_owned());
    let (mut found, mut queue) = (vec![old.to_owned()], VecDeque::from([old.to_owned()]));
    while let Some(commit) = queue.pop_front() {
        for parent in parents(&commit).unwrap_or_default() {
            if found.len() >= MAX_LOST {
                return found;
            }
            // One that is only known by name may be part of both.
            if !kept.contains(&parent) && !found.contains(&parent) && parents(&parent).is_some() {
                found.push(parent.clone());
                queue.push_back(parent);
            }
        }
    }
    found
}

/// All known ancestors of a commit, those included whose own parents are not known.
fn ancestors(of: &str, parents: &impl Fn(&str) -> Option<Vec<String>>) -> HashSet<String> {
    let mut seen = HashSet::new();
    let mut queue = VecDeque::from([of.to_owned()]);
    while let Some(commit) = queue.pop_front() {
        if seen.len() > MAX_COMMITS {
            break;
        }
        let found = parents(&commit).unwrap_or_default();
        queue.extend(found.into_iter().filter(|parent| seen.insert(parent.clone())));
    }
    seen
}

/// The parents that stand in a commit as it is stored. libgit2's own accessor hides them at the edge of a shallow clone.
pub(super) fn stored_parents(commit: &[u8]) -> Vec<String> {
    let lines = commit.split(|byte| *byte == b'\n').take_while(|line| !line.is_empty());
    lines
        .filter_map(|line| std::str::from_utf8(line.strip_prefix(b"parent ")?).ok())
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `"c:b b:a a:"` is a history of three, oldest last; what has no entry is not there.
    fn check(graph: &str, old: &str, new: &str, expect: History) {
        let parents = |commit: &str| {
            let entry = graph.split(' ').find_map(|e| e.strip_prefix(&format!("{commit}:")))?;
            Some(entry.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect())
        };
        assert_eq!(compare(old, new, parents), expect, "{graph}: {old} → {new}");
    }

    #[test]
    fn descent_is_told_from_what_history_is_there() {
        check("c:b b:a a:", "c", "c", History::Same);
        check("c:b b:a a:", "a", "c", History::Descends);
        check("c:b b:a a:", "c", "a", History::Rewritten);
        // Shallow: the new commit names the old one as its parent, though nothing more is there.
        check("c:b b:a", "b", "c", History::Descends);
        check("c:b", "b", "c", History::Descends);
        // Shallow: what is between is not there.
        check("d:c a:", "a", "d", History::Unknown);
        check("d:c c:b b:a a:", "a", "d", History::Descends);
        // Amended: both name the same parent, which is not there.
        check("c2:b c:b", "c", "c2", History::Rewritten);
        // A merge of something whose history is not there.
        check("m:x,b c:b", "c", "m", History::Unknown);
        check("m:x,c c:b", "c", "m", History::Descends);
        // Entirely new history.
        check("z:y y: c:b", "c", "z", History::Rewritten);
        // The old commit was lost with the cache.
        check("z:y y:", "c", "z", History::Rewritten);
        check("z:y", "c", "z", History::Unknown);
    }

    #[test]
    fn lost_is_what_the_new_commit_does_not_descend_from() {
        let check = |graph: &str, old: &str, new: &str, expect: &str| {
            let parents = |commit: &str| {
                let entry = graph.split(' ').find_map(|e| e.strip_prefix(&format!("{commit}:")))?;
                Some(entry.split(',').filter(|p| !p.is_empty()).map(str::to_owned).collect())
            };
            assert_eq!(lost(old, new, parents).join(" "), expect, "{graph}: {old} → {new}");
        };
        check("d:c c:b b:a a: x:a", "d", "x", "d c b");
        check("d:c c:b b:a a:", "d", "b", "d c");
        // Shallow: what lies before is not here, or is part of both.
        check("d:c c:b x:b", "d", "x", "d c");
        check("d:c x:y", "d", "x", "d");
        check("m:p,q p:a q:a a: x:a", "m", "x", "m p q");
        let long = (1..20).map(|n| format!("{}:{n}", n + 1)).collect::<Vec<_>>().join(" ");
        check(&long, "20", "x", "20 19 18 17 16 15 14 13 12 11");
    }

    #[test]
    fn parents_are_read_from_the_stored_commit_and_not_from_its_message() {
        let stored = b"tree 11\nparent aa\nparent bb\nauthor x\n\nparent cc\n";
        assert_eq!(stored_parents(stored), ["aa", "bb"]);
        assert_eq!(stored_parents(b""), [] as [&str; 0]);
    }
}
