//! One document as a tree of its own, so that the render worker reads a single file, or what came through a pipe, just as
//! it reads a repository.

use sha2::{Digest, Sha256};

use super::artifact::hex;
use crate::core::snapshot::{DirEntry, FileKind, Files, FilesError};

/// What the file is called in its tree. Not what it is called outside: a file named `kustomization.yaml` would be built.
pub const NAME: &str = "manifest.yaml";

/// A tree that holds one file.
pub struct One {
    content: Vec<u8>,
}

impl One {
    /// Takes the content.
    #[must_use]
    pub fn new(content: Vec<u8>) -> Self {
        Self { content }
    }

    fn at(&self, path: &str) -> Option<&Vec<u8>> {
        (path == NAME).then_some(&self.content)
    }
}

impl Files for One {
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
        Ok(match path {
            "" => Some(FileKind::Dir),
            NAME => Some(FileKind::File),
            _ => None,
        })
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        Ok(self.at(path).cloned())
    }

    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        let entry = DirEntry {
            name: NAME.to_owned(),
            kind: FileKind::File,
        };
        Ok(path.is_empty().then(|| vec![entry]))
    }

    fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
        Ok(self
            .at(path)
            .map(|content| format!("sha256:{}", hex(&Sha256::digest(content)))))
    }
}
