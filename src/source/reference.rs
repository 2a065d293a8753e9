//! Which commit a GitRepository means, decided from `spec.ref` and what the remote advertises. Pure.
//!
//! Precedence is Flux's: commit, name, semver, tag, branch; the branch `master` when nothing is given. Revisions are
//! written as Flux writes them: `main@sha1:…`, `v1.2.3@sha1:…`, `refs/pull/1/head@sha1:…`, `sha1:…`.

use crate::api::source::GitRef;
use crate::core::semver_range::{Range, RangeError, parse_tag};

/// Flux's default for a GitRepository without `spec.ref`.
pub const DEFAULT_BRANCH: &str = "master";

/// How many existing names an error lists: enough to spot a typing error, few enough for a condition message.
const MAX_NEARBY: usize = 5;

/// Length of a SHA-1 in hexadecimal.
const SHA1_LENGTH: usize = 40;

/// A reference that the remote advertises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRef {
    /// Full name, as in `refs/heads/main`.
    pub name: String,
    /// What it points at, in hexadecimal.
    pub oid: String,
    /// For an annotated tag, the commit behind it.
    pub peeled: Option<String>,
}

impl RemoteRef {
    /// The object behind the reference, tags peeled.
    #[must_use]
    pub fn target(&self) -> &str {
        self.peeled.as_deref().unwrap_or(&self.oid)
    }
}

/// What has to be brought in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Want {
    /// The tip of an advertised reference.
    Tip(RemoteRef),
    /// A commit, which must be in the history of `on` when that is given.
    Commit {
        /// Full id.
        id: String,
        /// The branch it must be on.
        on: Option<RemoteRef>,
    },
}

/// A decided reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// What has to be brought in.
    pub want: Want,
    /// What stands before the `@` of the revision; empty when only a commit is named.
    pub label: String,
}

impl Selection {
    /// The commit that the selection leads to.
    #[must_use]
    pub fn commit(&self) -> &str {
        match &self.want {
            Want::Tip(tip) => tip.target(),
            Want::Commit { id, .. } => id,
        }
    }

    /// Flux's revision string.
    #[must_use]
    pub fn revision(&self) -> String {
        format_revision(&self.label, self.commit())
    }
}

/// Why a reference leads nowhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The remote has no references at all.
    #[error("git repository is empty")]
    Empty,
    /// The remote has no such reference.
    #[error("couldn't find remote ref {name:?}: {nearby}")]
    NotFound {
        /// Full name.
        name: String,
        /// What there is instead.
        nearby: String,
    },
    /// `spec.ref.semver` cannot be read.
    #[error("spec.ref.semver: {0}")]
    Range(#[from] RangeError),
    /// No tag is in the range.
    #[error("no match found for semver: {range}; {nearby}")]
    NoMatch {
        /// The range.
        range: String,
        /// What there is instead.
        nearby: String,
    },
    /// `spec.ref.commit` is no full commit id.
    #[error("spec.ref.commit {0:?} is not a commit id of {SHA1_LENGTH} hexadecimal digits")]
    BadCommit(String),
}

/// Decides what `spec.ref` means at a remote.
///
/// # Errors
/// When it means nothing there.
pub fn select(reference: Option<&GitRef>, refs: &[RemoteRef]) -> Result<Selection, ReferenceError> {
    if refs.is_empty() {
        return Err(ReferenceError::Empty);
    }
    let empty = GitRef::default();
    let reference = reference.unwrap_or(&empty);
    let given = |field: &Option<String>| {
        field
            .as_deref()
            .map(str::trim)
            .filter(|v| !v.is_empty())
            .map(str::to_owned)
    };
    if let Some(id) = given(&reference.commit) {
        return select_commit(&id, given(&reference.branch), refs);
    }
    if let Some(name) = given(&reference.name) {
        return select_name(&name, refs);
    }
    if let Some(range) = given(&reference.semver) {
        return select_semver(&range, refs);
    }
    if let Some(tag) = given(&reference.tag) {
        let tip = find(&format!("refs/tags/{tag}"), refs)?;
        return Ok(tip_of(tip, tag));
    }
    let branch = given(&reference.branch).unwrap_or_else(|| DEFAULT_BRANCH.to_owned());
    let tip = find(&format!("refs/heads/{branch}"), refs)?;
    Ok(tip_of(tip, branch))
}

/// Writes a revision as Flux does.
#[must_use]
pub fn format_revision(label: &str, commit: &str) -> String {
    if label.is_empty() {
        format!("sha1:{commit}")
    } else {
        format!("{label}@sha1:{commit}")
    }
}

/// Splits a revision into what stands before the `@`, empty when nothing does, and the commit.
#[must_use]
pub fn parse_revision(revision: &str) -> Option<(&str, &str)> {
    let (label, digest) = revision.rsplit_once('@').unwrap_or(("", revision));
    let commit = digest.strip_prefix("sha1:")?;
    is_commit_id(commit).then_some((label, commit))
}

/// Whether a text is a full commit id.
#[must_use]
pub fn is_commit_id(text: &str) -> bool {
    text.len() == SHA1_LENGTH && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn tip_of(tip: &RemoteRef, label: String) -> Selection {
    Selection {
        want: Want::Tip(tip.clone()),
        label,
    }
}

fn select_commit(id: &str, branch: Option<String>, refs: &[RemoteRef]) -> Result<Selection, ReferenceError> {
    let id = id.to_ascii_lowercase();
    if !is_commit_id(&id) {
        return Err(ReferenceError::BadCommit(id));
    }
    let on = match &branch {
        Some(branch) => Some(find(&format!("refs/heads/{branch}"), refs)?.clone()),
        None => None,
    };
    Ok(Selection {
        want: Want::Commit { id, on },
        label: branch.unwrap_or_default(),
    })
}

fn select_name(name: &str, refs: &[RemoteRef]) -> Result<Selection, ReferenceError> {
    // Flux lets a name end in `^{}`, Git's notation for "what the tag points at". Here tags are always peeled.
    let plain = name.strip_suffix("^{}").unwrap_or(name);
    let tip = find(plain, refs)?;
    Ok(tip_of(tip, name.to_owned()))
}

fn select_semver(range: &str, refs: &[RemoteRef]) -> Result<Selection, ReferenceError> {
    let parsed = Range::parse(range)?;
    let tags = refs.iter().filter_map(|r| {
        let tag = r.name.strip_prefix("refs/tags/")?;
        Some((parse_tag(tag)?, tag, r))
    });
    let (inside, outside): (Vec<_>, Vec<_>) = tags.partition(|(version, ..)| parsed.matches(version));
    // Equal versions can be tagged twice (`v1.0.0` and `1.0.0`, or by build metadata); the name then decides, so that
    // the answer is always the same.
    let highest = inside.into_iter().max_by(|a, b| {
        a.0.cmp_precedence(&b.0)
            .then_with(|| a.0.build.cmp(&b.0.build))
            .then_with(|| a.1.cmp(b.1))
    });
    match highest {
        Some((_, tag, tip)) => Ok(tip_of(tip, tag.to_owned())),
        None => {
            let newest = outside.into_iter().max_by(|a, b| a.0.cmp_precedence(&b.0));
            Err(ReferenceError::NoMatch {
                range: range.to_owned(),
                nearby: newest.map_or_else(
                    || "the repository has no tag that is a version".to_owned(),
                    |(_, tag, _)| format!("the highest version tag is {tag}"),
                ),
            })
        }
    }
}

fn find<'a>(name: &str, refs: &'a [RemoteRef]) -> Result<&'a RemoteRef, ReferenceError> {
    refs.iter()
        .find(|r| r.name == name)
        .ok_or_else(|| ReferenceError::NotFound {
            name: name.to_owned(),
            nearby: nearby(name, refs),
        })
}

/// What exists beside a missing reference: the names of the same kind, those most like it first.
fn nearby(name: &str, refs: &[RemoteRef]) -> String {
    let kinds = [
        ("refs/heads/", "branches"),
        ("refs/tags/", "tags"),
        ("refs/", "references"),
    ];
    let (prefix, kind) = kinds
        .into_iter()
        .find(|(prefix, _)| name.starts_with(prefix))
        .unwrap_or(("", "references"));
    let wanted = name.strip_prefix(prefix).unwrap_or(name);
    let mut names: Vec<&str> = refs.iter().filter_map(|r| r.name.strip_prefix(prefix)).collect();
    if names.is_empty() {
        return format!("the repository has no {kind}");
    }
    let common = |candidate: &str| {
        candidate
            .chars()
            .zip(wanted.chars())
            .take_while(|(a, b)| a == b)
            .count()
    };
    names.sort_by_key(|candidate| (std::cmp::Reverse(common(candidate)), *candidate));
    let more = names.len().saturating_sub(MAX_NEARBY);
    names.truncate(MAX_NEARBY);
    let listed = names.join(", ");
    match more {
        0 => format!("its {kind} are {listed}"),
        _ => format!("its {kind} are {listed} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
