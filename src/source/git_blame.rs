//! Who wrote a file: the commit that brought each of its lines, and the one that changed it last, from as much history as is
//! there.
//!
//! Weir fetches without history, so the history is deepened for this, step by step, until nothing is left open or the last of
//! `DEPTHS` is reached. Like `git blame`, without looking for lines that came from other files: a commit that left the file
//! as one of its parents has it is passed over, and a line belongs to the first commit whose parents do not have it.
//!
//! Guarantees: what lies before the history that is there is unknown, never somebody's; the walk is bounded. Assumes it is
//! called where blocking is allowed, except `authorship_within`.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use git2::{DiffOptions, ErrorCode, Oid, Patch, Repository};

use super::git::{FetchRequest, GRACE, GitFetcher, timed_out};
use super::git_attempt::{Attempt, describe, storage};
use super::git_error::FetchError;
use super::git_history::stored_parents;
use super::git_remote::Bounds;
use super::git_turn::Turn;
use super::reference::{Want, select};
use super::tree::Showing;
use crate::core::snapshot::Commit;

/// Depths that are tried, in this order. The first covers what is being worked on; the second is about a year of a busy
/// repository, and more would be most of it.
const DEPTHS: [i32; 2] = [64, 1024];

/// Most commits of history that are asked for, for people.
pub const MOST_COMMITS: i32 = DEPTHS[1];

/// Most visits of commits for one file: servers that know no shallow history send all of it, and at some 50 µs for a visit
/// this is about a second.
const MAX_VISITS: usize = 20_000;

/// Largest file whose lines are told apart: the most that one object can be in the cluster, where a file has one.
const MAX_BYTES: usize = 3 << 20;

/// Who wrote a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Authorship {
    /// The commits that wrote it.
    pub commits: Vec<Commit>,
    /// For each line its commit's place in `commits`; `None` when it lies before the history that is there.
    pub lines: Vec<Option<usize>>,
    /// The place of the one that changed it last.
    pub last: Option<usize>,
}

impl Authorship {
    /// The commit that brought a line, counted from 1, as it is now.
    #[must_use]
    pub fn of_line(&self, line: u32) -> Option<&Commit> {
        let index = usize::try_from(line).ok()?.checked_sub(1)?;
        self.commits.get((*self.lines.get(index)?)?)
    }

    /// The commit that changed the file last.
    #[must_use]
    pub fn last(&self) -> Option<&Commit> {
        self.commits.get(self.last?)
    }
}

impl GitFetcher {
    /// Who wrote files of a commit that was fetched with this request. A path that is no file of the commit itself is not in
    /// the answer.
    ///
    /// # Errors
    /// When the repository is not here any more, or is damaged. That the server gives no more history is none.
    pub async fn authorship_within(
        self: &Arc<Self>,
        request: FetchRequest,
        commit: String,
        paths: Vec<String>,
    ) -> Result<HashMap<String, Authorship>, FetchError> {
        let late = timed_out(&request, "the server is silent");
        let deadline = request.timeout + GRACE;
        let fetcher = Arc::clone(self);
        let asked = tokio::task::spawn_blocking(move || fetcher.authorship(&request, &commit, &paths));
        match tokio::time::timeout(deadline, asked).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(FetchError::Storage {
                reason: "reading the history broke off unexpectedly".to_owned(),
            }),
            Err(_) => Err(late),
        }
    }

    /// The same from a thread that may block.
    ///
    /// # Errors
    /// As above.
    pub fn authorship(
        &self,
        request: &FetchRequest,
        commit: &str,
        paths: &[String],
    ) -> Result<HashMap<String, Authorship>, FetchError> {
        let source = self.source(&request.namespace, &request.name)?;
        let turn = Turn::take(&source.turns, request.timeout, Instant::now());
        let _turn = turn.map_err(|doing| timed_out(request, doing))?;
        let bounds = Bounds::new(request.timeout, self.max_bytes);
        let dir = source.generations.existing().ok_or_else(|| FetchError::Storage {
            reason: "it has no repository on this disk".to_owned(),
        })?;
        let attempt = Attempt::new(request, &bounds, dir, Showing::All)?;
        let commit = Oid::from_str(commit).map_err(|error| storage(&error))?;
        attempt.authorship(commit, paths)
    }
}

impl Attempt<'_> {
    fn authorship(&self, commit: Oid, paths: &[String]) -> Result<HashMap<String, Authorship>, FetchError> {
        let mut depths = DEPTHS.into_iter();
        loop {
            // Opened anew each time: libgit2 reads where a shallow history ends when it opens a repository.
            let repo = self.dir.open().map_err(|error| storage(&error))?;
            let mut found = HashMap::new();
            let mut complete = true;
            for path in paths {
                if let Some((authorship, whole)) = blame(&repo, commit, path).map_err(|error| storage(&error))? {
                    complete &= whole;
                    found.insert(path.clone(), authorship);
                }
            }
            match depths.next() {
                Some(depth) if !complete && self.deepen(&repo, depth).is_ok() => {}
                _ => return Ok(found),
            }
        }
    }

    /// Brings more commits of the history that the request leads to.
    fn deepen(&self, repo: &Repository, depth: i32) -> Result<(), FetchError> {
        let mut exchange = self.exchange(repo)?;
        let refs = exchange.list().map_err(|error| self.failed(&error))?;
        let selection = select(self.request.reference.as_ref(), &refs).map_err(|source| FetchError::Reference {
            url: self.url(),
            source,
        })?;
        let from = match &selection.want {
            Want::Tip(tip) | Want::Commit { on: Some(tip), .. } => &tip.name,
            Want::Commit { id, on: None } => id,
        };
        exchange
            .download(&[Self::incoming(from)], depth)
            .map_err(|error| self.failed(&error))
    }
}

/// Lines that are being followed: their place in the file as it is now, and their number in the version at hand.
type Lines = Vec<(usize, usize)>;

/// Who wrote a file, and whether nothing was left open; `None` when the commit has no such file.
fn blame(repo: &Repository, commit: Oid, path: &str) -> Result<Option<(Authorship, bool)>, git2::Error> {
    let Some(now) = blob(repo, commit, path)? else {
        return Ok(None);
    };
    let count = count_lines(repo, now)?;
    let mut walk = Walk {
        repo,
        path,
        queue: VecDeque::from([(commit, now, (0..count).map(|index| (index, index + 1)).collect())]),
        commits: HashMap::new(),
        found: Authorship {
            lines: vec![None; count],
            ..Authorship::default()
        },
    };
    let mut complete = true;
    for _ in 0..MAX_VISITS {
        let Some((commit, blob, lines)) = walk.queue.pop_front() else {
            return Ok(Some((walk.found, complete)));
        };
        complete &= walk.visit(commit, blob, lines)?;
    }
    Ok(Some((walk.found, false)))
}

struct Walk<'a> {
    repo: &'a Repository,
    path: &'a str,
    queue: VecDeque<(Oid, Oid, Lines)>,
    commits: HashMap<Oid, usize>,
    found: Authorship,
}

impl Walk<'_> {
    /// Hands lines to the parents that have them; what is left is this commit's. Whether that could be told.
    fn visit(&mut self, commit: Oid, now: Oid, mut lines: Lines) -> Result<bool, git2::Error> {
        let (mut before, mut known) = (Vec::new(), true);
        for parent in stored_parents(self.repo.odb()?.read(commit)?.data()) {
            let parent = Oid::from_str(&parent)?;
            match blob(self.repo, parent, self.path) {
                Ok(Some(blob)) if blob == now => {
                    self.queue.push_back((parent, now, lines));
                    return Ok(true);
                }
                Ok(Some(blob)) => before.push((parent, blob)),
                Ok(None) => {}
                Err(error) if error.code() == ErrorCode::NotFound => known = false,
                Err(error) => return Err(error),
            }
        }
        let last = self.found.last.is_none() && self.commits.is_empty();
        for (parent, blob) in before {
            let kept;
            (kept, lines) = split(self.repo, blob, now, lines)?;
            if !kept.is_empty() {
                self.queue.push_back((parent, blob, kept));
            }
        }
        if !known {
            return Ok(lines.is_empty() && !last);
        }
        if last || !lines.is_empty() {
            let index = self.name(commit)?;
            if last {
                self.found.last = Some(index);
            }
            for (place, _) in lines {
                if let Some(line) = self.found.lines.get_mut(place) {
                    *line = Some(index);
                }
            }
        }
        Ok(true)
    }

    fn name(&mut self, commit: Oid) -> Result<usize, git2::Error> {
        if let Some(index) = self.commits.get(&commit) {
            return Ok(*index);
        }
        self.found.commits.push(describe(self.repo, commit)?);
        let index = self.found.commits.len() - 1;
        self.commits.insert(commit, index);
        Ok(index)
    }
}

/// The file at a path in a commit. That the commit is not there is an error.
fn blob(repo: &Repository, commit: Oid, path: &str) -> Result<Option<Oid>, git2::Error> {
    let tree = repo.find_commit(commit)?.tree()?;
    match tree.get_path(Path::new(path)) {
        Ok(entry) if entry.kind() == Some(git2::ObjectType::Blob) => Ok(Some(entry.id())),
        Ok(_) => Ok(None),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn count_lines(repo: &Repository, blob: Oid) -> Result<usize, git2::Error> {
    let blob = repo.find_blob(blob)?;
    if blob.size() > MAX_BYTES {
        return Ok(0);
    }
    let unended = blob.content().last().is_some_and(|byte| *byte != b'\n');
    Ok(blob.content().iter().filter(|byte| **byte == b'\n').count() + usize::from(unended))
}

/// The lines that the older version has too, with their numbers there, and the others.
fn split(repo: &Repository, old: Oid, new: Oid, lines: Lines) -> Result<(Lines, Lines), git2::Error> {
    if lines.is_empty() {
        return Ok((Vec::new(), lines));
    }
    let (old, new) = (repo.find_blob(old)?, repo.find_blob(new)?);
    let mut options = DiffOptions::new();
    options.context_lines(0).force_text(true);
    let patch = Patch::from_blobs(&old, None, &new, None, Some(&mut options))?;
    let mut hunks = Vec::with_capacity(patch.num_hunks());
    for index in 0..patch.num_hunks() {
        let hunk = patch.hunk(index)?.0;
        // A hunk without new lines stands behind the line that it names.
        let begins = hunk.new_start() + u32::from(hunk.new_lines() == 0);
        hunks.push((begins as usize, hunk.new_lines() as usize, hunk.old_lines() as usize));
    }
    let (mut kept, mut changed) = (Vec::new(), Vec::new());
    for (place, line) in lines {
        let before = hunks.iter().take_while(|(begins, _, _)| *begins <= line);
        let (mut added, mut removed, mut within) = (0, 0, false);
        for (begins, new_lines, old_lines) in before {
            within |= line < begins + new_lines;
            added += new_lines;
            removed += old_lines;
        }
        if within {
            changed.push((place, line));
        } else {
            kept.push((place, line + removed - added));
        }
    }
    Ok((kept, changed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use git2::Signature;

    struct Made {
        dir: tempfile::TempDir,
        repo: Repository,
    }

    impl Made {
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let repo = Repository::init_bare(dir.path()).unwrap();
            Self { dir, repo }
        }

        /// A commit named after its subject, with one file.
        fn commit(&self, subject: &str, text: &str, parents: &[Oid]) -> Oid {
            let blob = self.repo.blob(text.as_bytes()).unwrap();
            let mut tree = self.repo.treebuilder(None).unwrap();
            tree.insert("a.yaml", blob, 0o100_644).unwrap();
            let tree = self.repo.find_tree(tree.write().unwrap()).unwrap();
            let who = Signature::now("Ann", "ann@example.com").unwrap();
            let parents: Vec<_> = parents.iter().map(|id| self.repo.find_commit(*id).unwrap()).collect();
            let parents: Vec<_> = parents.iter().collect();
            self.repo.commit(None, &who, &who, subject, &tree, &parents).unwrap()
        }

        /// Takes a commit away, as if the history ended before it.
        fn forget(&self, id: Oid) {
            let id = id.to_string();
            let (folder, file) = id.split_at(2);
            std::fs::remove_file(self.dir.path().join("objects").join(folder).join(file)).unwrap();
        }

        /// The subject of each line's commit, and that of the last change.
        fn check(&self, commit: Oid, expect: &str, whole: bool) {
            let repo = Repository::open_bare(self.dir.path()).unwrap();
            let (found, complete) = blame(&repo, commit, "a.yaml").unwrap().unwrap();
            let subject = |commit: Option<&Commit>| commit.map_or("?".to_owned(), |commit| commit.subject.clone());
            let lines = 1..=u32::try_from(found.lines.len()).unwrap();
            let lines: Vec<String> = lines.map(|line| subject(found.of_line(line))).collect();
            assert_eq!(
                (
                    format!("{} last {}", lines.join(" "), subject(found.last())).as_str(),
                    complete
                ),
                (expect, whole)
            );
        }
    }

    #[test]
    fn each_line_belongs_to_the_commit_that_brought_it() {
        let made = Made::new();
        let one = made.commit("one", "a\nb\nc\n", &[]);
        let two = made.commit("two", "a\nB\nc\n", &[one]);
        let same = made.commit("same", "a\nB\nc\n", &[two]);
        made.check(same, "one two one last two", true);
        let three = made.commit("three", "x\ny\na\nB\n", &[same]);
        made.check(three, "three three one two last three", true);
        let four = made.commit("four", "y\na\nB\nz", &[three]);
        made.check(four, "three one two four last four", true);
        assert_eq!(blame(&made.repo, four, "b.yaml").unwrap(), None);
    }

    #[test]
    fn a_merge_is_nobodys_change_but_where_it_has_lines_of_its_own() {
        let made = Made::new();
        let base = made.commit("base", "a\nb\nc\nd\n", &[]);
        let left = made.commit("left", "A\nb\nc\nd\n", &[base]);
        let right = made.commit("right", "a\nb\nc\nD\n", &[base]);
        let clean = made.commit("clean", "A\nb\nc\nD\n", &[left, right]);
        made.check(clean, "left base base right last clean", true);
        let ours = made.commit("ours", "A\nb\nc\nd\n", &[left, right]);
        made.check(ours, "left base base base last left", true);
        let edited = made.commit("edited", "A\nb\nX\nD\n", &[left, right]);
        made.check(edited, "left base edited right last edited", true);
    }

    #[test]
    fn what_lies_before_the_history_is_unknown() {
        let made = Made::new();
        let one = made.commit("one", "a\nb\n", &[]);
        let two = made.commit("two", "a\nb\n", &[one]);
        let three = made.commit("three", "a\nB\n", &[two]);
        made.forget(one);
        made.check(three, "? three last three", false);
        made.check(two, "? ? last ?", false);
    }
}
