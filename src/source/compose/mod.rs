//! Puts a tree together from parts of others, as an ArtifactGenerator's copy operations say.
//!
//! Flow: `compose` walks the sources and notes for each path of the result where its content is; nothing is copied before
//! the archive is packed. Only what is merged or extracted is made here: by `Tools`, which the caller brings, because this
//! room reads no YAML.
//!
//! Guarantees: operations happen in their order, later ones over earlier ones; nothing leads out of the result; what sources
//! leave out by default is left out of the result too; the number of files is bounded, and so is what is merged.

mod glob;
mod operation;
pub mod pattern;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::artifact::{Archivable, MAX_ENTRIES, hex};
use super::ignore::{Rules, Summary};
use crate::api::extensions::CopyOperation;
use crate::core::snapshot::{DirEntry, FileKind, Files, FilesError};

/// Why nothing came of it.
#[derive(Debug, thiserror::Error)]
pub enum ComposeError {
    /// A source could not be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// An operation cannot be carried out.
    #[error("copy from '{from}' to '{to}': {reason}")]
    Operation {
        /// What was to be copied.
        from: String,
        /// Where.
        to: String,
        /// Why not.
        reason: String,
    },
    /// There is more than an artifact may hold.
    #[error("the artifact would hold more than {MAX_ENTRIES} files; copy less")]
    TooMany,
}

/// What an operation may need done that this room does not do.
pub trait Tools {
    /// Merges a YAML file over another; the error says what is wrong.
    ///
    /// # Errors
    /// When one of them is no YAML.
    fn merge(&self, below: &[u8], above: &[u8]) -> Result<Vec<u8>, String>;

    /// Unpacks a tar.gz; the error says what is wrong.
    ///
    /// # Errors
    /// When it is none, or holds what it must not.
    fn extract(&self, archive: &[u8]) -> Result<Arc<dyn Files>, String>;
}

/// Where the content of a file is.
#[derive(Clone)]
enum Content {
    /// In another tree.
    At(Arc<dyn Files>, String),
    /// Here.
    Made(Arc<Vec<u8>>),
}

/// A tree that was put together.
#[derive(Default)]
pub struct Composed {
    files: BTreeMap<String, Content>,
    directories: BTreeMap<String, BTreeMap<String, FileKind>>,
}

/// Carries out operations; `sources` are trees by alias.
///
/// # Errors
/// When one of them cannot be carried out.
pub fn compose(
    operations: &[CopyOperation],
    sources: &HashMap<String, Arc<dyn Files>>,
    tools: &dyn Tools,
) -> Result<Composed, ComposeError> {
    let mut composed = Composed::default();
    for operation in operations {
        operation::carry_out(operation, sources, tools, &mut composed)?;
    }
    composed.leave_out_defaults();
    composed.directories = directories(composed.files.keys());
    Ok(composed)
}

impl Composed {
    /// What a source leaves out of its artifact where nobody says otherwise, is not part of this one either.
    fn leave_out_defaults(&mut self) {
        let rules = Rules::new(None, Summary::default());
        let excluded = |path: &str| rules.excludes(path, false, |_| Ok::<_, Infallible>(None));
        self.files
            .retain(|path, _| !excluded(path).unwrap_or_else(|never| match never {}));
    }

    /// Puts a file there, in place of what is there.
    fn put(&mut self, path: &str, content: Content) -> Result<(), ComposeError> {
        // What was a directory is a file now, and the other way round.
        let below = format!("{path}/");
        let hidden: Vec<String> = self
            .files
            .range(below.clone()..)
            .take_while(|(other, _)| other.starts_with(&below))
            .map(|(other, _)| other.clone())
            .collect();
        for other in hidden {
            self.files.remove(&other);
        }
        for (at, _) in path.match_indices('/') {
            self.files.remove(path.get(..at).unwrap_or_default());
        }
        self.files.insert(path.to_owned(), content);
        if self.files.len() > MAX_ENTRIES {
            return Err(ComposeError::TooMany);
        }
        Ok(())
    }

    /// Whether there is a directory already.
    fn is_directory(&self, path: &str) -> bool {
        let below = format!("{path}/");
        path.is_empty()
            || self
                .files
                .range(below.clone()..)
                .next()
                .is_some_and(|(other, _)| other.starts_with(&below))
    }

    fn content(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        match self.files.get(path) {
            None => Ok(None),
            Some(Content::Made(bytes)) => Ok(Some(bytes.to_vec())),
            Some(Content::At(files, inside)) => files.read(inside),
        }
    }
}

/// Names below each directory.
fn directories<'a>(paths: impl Iterator<Item = &'a String>) -> BTreeMap<String, BTreeMap<String, FileKind>> {
    let mut directories = BTreeMap::from([(String::new(), BTreeMap::new())]);
    for path in paths {
        let (mut rest, mut kind) = (path.as_str(), FileKind::File);
        loop {
            let (above, name) = rest.rsplit_once('/').unwrap_or(("", rest));
            let names: &mut BTreeMap<String, FileKind> = directories.entry(above.to_owned()).or_default();
            let known = names.insert(name.to_owned(), kind).is_some();
            if above.is_empty() || known && kind == FileKind::Dir {
                break;
            }
            (rest, kind) = (above, FileKind::Dir);
        }
    }
    directories
}

impl Files for Composed {
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
        Ok(if self.files.contains_key(path) {
            Some(FileKind::File)
        } else {
            self.directories.contains_key(path).then_some(FileKind::Dir)
        })
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        self.content(path)
    }

    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        let Some(names) = self.directories.get(path) else {
            return Ok(None);
        };
        let entries = names.iter().map(|(name, kind)| DirEntry {
            name: name.clone(),
            kind: *kind,
        });
        Ok(Some(entries.collect()))
    }

    fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
        match self.files.get(path) {
            Some(Content::At(files, inside)) => files.digest(inside),
            Some(Content::Made(bytes)) => Ok(Some(format!("sha256:{}", hex(&Sha256::digest(bytes.as_slice()))))),
            None => Ok(None),
        }
    }

    fn is_executable(&self, path: &str) -> Result<bool, FilesError> {
        match self.files.get(path) {
            Some(Content::At(files, inside)) => files.is_executable(inside),
            Some(Content::Made(_)) | None => Ok(false),
        }
    }
}

impl Archivable for Composed {
    fn read_executable(&self, path: &str) -> Result<Option<(Vec<u8>, bool)>, FilesError> {
        let executable = self.is_executable(path)?;
        Ok(self.content(path)?.map(|content| (content, executable)))
    }
}
