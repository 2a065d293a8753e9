//! The value that the source stage hands to the render stage: a tree of files at a revision.
//!
//! `Files` is how a tree is read without a checkout: answers come from a Git object database, an unpacked artifact or a
//! directory. Guarantees every implementation gives: paths are relative to the root of the tree, `/`-separated, without
//! `.` or `..`; only regular files and directories exist (links and submodules are missing, as in Flux's artifacts); the
//! answers for one `Files` never change.

use std::fmt;
use std::sync::Arc;

/// A source at one revision, ready to be rendered.
#[derive(Clone)]
pub struct Snapshot {
    /// Flux's revision string, as in `main@sha1:…`.
    pub revision: String,
    /// Revision of what the source was built from, when it says so (an OCI artifact's Git commit).
    pub origin_revision: Option<String>,
    /// The commit, for sources that have one.
    pub commit: Option<Commit>,
    /// The tree.
    pub files: Arc<dyn Files>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Snapshot")
            .field("revision", &self.revision)
            .finish_non_exhaustive()
    }
}

/// What is told about a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Full hexadecimal id.
    pub id: String,
    /// `Name <mail>`.
    pub author: String,
    /// First line of the message.
    pub subject: String,
}

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
}

/// One name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DirEntry {
    /// Name without any path.
    pub name: String,
    /// What it is.
    pub kind: FileKind,
}

/// Why a tree could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read {path}: {reason}")]
pub struct FilesError {
    /// The path that was asked for.
    pub path: String,
    /// What went wrong.
    pub reason: String,
}

/// A tree of files. Calls may block on the local disk and are made from threads that may block.
pub trait Files: Send + Sync {
    /// What stands at the path; `None` when nothing does. The empty path is the root.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError>;

    /// The content of a file; `None` when there is no file at the path.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError>;

    /// The names in a directory, sorted; `None` when there is no directory at the path.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError>;

    /// Identifies the content of a file without reading it (a Git blob id); equal digests mean equal bytes. `None` when
    /// there is no file at the path.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn digest(&self, path: &str) -> Result<Option<String>, FilesError>;

    /// Whether the file at the path is executable; a tree that cannot know says no.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn is_executable(&self, path: &str) -> Result<bool, FilesError> {
        let _ = path;
        Ok(false)
    }
}
