//! Which paths a build asked for and what it found: enough to tell whether another tree would build the same.
//!
//! Guarantee: if `holds` says so, a build of the same request over that tree asks the same questions, gets the same answers
//! and so renders the same objects. Paths that were looked for in vain are part of it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use sha2::{Digest, Sha256};

use crate::core::snapshot::{DirEntry, FileKind, Files, FilesError};

/// What a build learned of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing is there.
    Missing,
    /// Something of this kind is there; what is in it was not asked.
    Kind(FileKind),
    /// A file with this digest, as the tree computes digests.
    File(String),
    /// A directory whose listing has this digest.
    Dir(String),
}

/// Every path that a build asked for, and what it found there. The root is the empty path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReadSet {
    entries: BTreeMap<String, Found>,
}

impl ReadSet {
    /// Notes what was found. Content says more than kind, and stays.
    pub fn note(&mut self, path: &str, found: Found) {
        match self.entries.entry(path.to_owned()) {
            Entry::Vacant(free) => {
                free.insert(found);
            }
            Entry::Occupied(mut taken) => {
                if matches!(taken.get(), Found::Kind(_) | Found::Missing) {
                    taken.insert(found);
                }
            }
        }
    }

    /// Every path with what was found there, in order of paths.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Found)> {
        self.entries.iter().map(|(path, found)| (path.as_str(), found))
    }

    /// What was found at a path, if it was asked for.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<&Found> {
        self.entries.get(path)
    }

    /// How many paths were asked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing was asked for, as in a read set that no build made.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the build would find the same everywhere in that tree.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub fn holds(&self, files: &dyn Files) -> Result<bool, FilesError> {
        for (path, found) in &self.entries {
            if !still(path, found, files)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the build would find the same in a tree that differs from its own only in the named files (those added,
    /// removed or changed). Costs what changed, not what was read.
    ///
    /// # Errors
    /// When the tree cannot be read.
    pub fn holds_after<'a>(
        &self,
        changed: impl IntoIterator<Item = &'a str>,
        files: &dyn Files,
    ) -> Result<bool, FilesError> {
        // Changed files that lie together share their directories; each is looked at once.
        let mut seen = std::collections::HashSet::new();
        for file in changed {
            for path in with_ancestors(file) {
                if !seen.insert(path) {
                    break;
                }
                if let Some(found) = self.entries.get(path)
                    && !still(path, found, files)?
                {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}

/// The path itself, the directory it is in, and so on up to the root.
fn with_ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| match path.rsplit_once('/') {
        Some((dir, _)) => Some(dir),
        None if path.is_empty() => None,
        None => Some(""),
    })
}

fn still(path: &str, found: &Found, files: &dyn Files) -> Result<bool, FilesError> {
    Ok(match found {
        Found::Missing => files.stat(path)?.is_none(),
        Found::Kind(kind) => files.stat(path)? == Some(*kind),
        Found::File(digest) => files.digest(path)?.as_ref() == Some(digest),
        Found::Dir(digest) => files
            .list(path)?
            .is_some_and(|entries| listing_digest(&entries) == *digest),
    })
}

/// Identifies a listing: the names and kinds, in the order in which the tree gives them, which is sorted.
pub(super) fn listing_digest(entries: &[DirEntry]) -> String {
    let mut hash = Sha256::new();
    for entry in entries {
        hash.update(entry.name.as_bytes());
        // Neither byte can be part of a name.
        hash.update(match entry.kind {
            FileKind::File => b"\0",
            FileKind::Dir => b"/",
        });
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}
