//! An artifact that somebody else made, as a tree of files: a tar.gz, unpacked into one nameless temporary file.
//!
//! Guarantees: nothing in the archive decides where anything is written; symbolic links do not exist; devices, other links
//! and paths that lead elsewhere are an error; entries, bytes and sizes of files are bounded; the file is gone with the last
//! reader, also after a crash.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Component, Path};

use flate2::read::MultiGzDecoder;
use sha2::{Digest, Sha256};
use tar::EntryType;

use super::artifact::{MAX_BYTES, MAX_DEPTH, MAX_ENTRIES, hex};
use super::dir::{MAX_FILE_BYTES, is_plain};
use crate::core::snapshot::{DirEntry, FileKind, Files, FilesError};

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is no tar.gz, or the disk refuses.
    #[error("the artifact cannot be unpacked: {0}")]
    Read(#[from] io::Error),
    /// It holds what an artifact must not hold.
    #[error("the artifact holds {what} at {path:?}")]
    Forbidden {
        /// Where.
        path: String,
        /// What.
        what: &'static str,
    },
    /// It is larger than is taken.
    #[error("the artifact holds more than {limit} {what}")]
    TooLarge {
        /// The bound.
        limit: u64,
        /// What is bounded.
        what: &'static str,
    },
}

/// The files of an artifact.
pub struct Archive {
    content: File,
    files: HashMap<String, Entry>,
    directories: BTreeMap<String, BTreeMap<String, FileKind>>,
}

#[derive(Clone)]
struct Entry {
    offset: u64,
    length: usize,
    executable: bool,
    digest: String,
}

impl Archive {
    /// Unpacks a tar.gz into a temporary file in `directory`.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn unpack(archive: impl Read, directory: &Path) -> Result<Self, ArchiveError> {
        let mut unpacked = Self {
            content: tempfile::tempfile_in(directory)?,
            files: HashMap::new(),
            directories: BTreeMap::from([(String::new(), BTreeMap::new())]),
        };
        let (mut offset, mut seen) = (0, 0);
        let mut tar = tar::Archive::new(MultiGzDecoder::new(archive));
        for entry in tar.entries()? {
            let mut entry = entry?;
            seen += 1;
            if seen > MAX_ENTRIES {
                return Err(too_large(MAX_ENTRIES as u64, "files and directories"));
            }
            let kind = entry.header().entry_type();
            // A link is left out, as Flux leaves it out: what it leads to is not there.
            if matches!(kind, EntryType::XGlobalHeader | EntryType::Symlink) {
                continue;
            }
            let path = plain(&entry.path()?)?;
            match kind {
                EntryType::Directory => unpacked.directory(&path),
                EntryType::Regular | EntryType::Continuous if !path.is_empty() => {
                    let executable = entry.header().mode()? & 0o111 != 0;
                    let stored = unpacked.store(&mut entry, offset, executable)?;
                    offset += stored.length as u64;
                    unpacked.file(&path, stored);
                }
                _ => {
                    return Err(ArchiveError::Forbidden {
                        path,
                        what: "something that is neither a file nor a directory",
                    });
                }
            }
        }
        Ok(unpacked)
    }

    fn store(&mut self, from: &mut impl Read, offset: u64, executable: bool) -> Result<Entry, ArchiveError> {
        let (mut hash, mut length) = (Sha256::new(), 0_u64);
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let read = from.read(&mut buffer)?;
            let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
                break;
            };
            length += read as u64;
            if length > MAX_FILE_BYTES {
                return Err(too_large(MAX_FILE_BYTES, "bytes in one file"));
            }
            if offset + length > MAX_BYTES {
                return Err(too_large(MAX_BYTES, "bytes"));
            }
            hash.update(bytes);
            self.content.write_all(bytes)?;
        }
        Ok(Entry {
            offset,
            length: usize::try_from(length).unwrap_or_default(),
            executable,
            digest: format!("sha256:{}", hex(&hash.finalize())),
        })
    }

    fn file(&mut self, path: &str, entry: Entry) {
        self.name(path, FileKind::File);
        self.files.insert(path.to_owned(), entry);
    }

    fn directory(&mut self, path: &str) {
        if !path.is_empty() {
            self.name(path, FileKind::Dir);
        }
        self.directories.entry(path.to_owned()).or_default();
    }

    /// Enters a path into the directory above it, which need not have an entry of its own in the archive.
    fn name(&mut self, path: &str, kind: FileKind) {
        let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
        if !self.directories.contains_key(above) {
            self.directory(above);
        }
        let names = self.directories.entry(above.to_owned()).or_default();
        names.insert(name.to_owned(), kind);
    }
}

impl Files for Archive {
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
        Ok(if self.files.contains_key(path) {
            Some(FileKind::File)
        } else {
            self.directories.contains_key(path).then_some(FileKind::Dir)
        })
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        let Some(entry) = self.files.get(path) else {
            return Ok(None);
        };
        let mut content = vec![0; entry.length];
        let read = self.content.read_exact_at(&mut content, entry.offset);
        read.map_err(|error| FilesError {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        Ok(Some(content))
    }

    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        Ok(self.directories.get(path).map(|names| {
            let entries = names.iter().map(|(name, kind)| DirEntry {
                name: name.clone(),
                kind: *kind,
            });
            entries.collect()
        }))
    }

    fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
        Ok(self.files.get(path).map(|entry| entry.digest.clone()))
    }

    fn is_executable(&self, path: &str) -> Result<bool, FilesError> {
        Ok(self.files.get(path).is_some_and(|entry| entry.executable))
    }
}

/// A path of the archive, if it stays inside.
fn plain(path: &Path) -> Result<String, ArchiveError> {
    let forbidden = || ArchiveError::Forbidden {
        path: path.to_string_lossy().into_owned(),
        what: "a path that leads elsewhere or is no text",
    };
    let mut parts = Vec::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(part) => {
                let part = part.to_str().filter(|part| is_plain(part)).ok_or_else(forbidden)?;
                parts.push(part);
            }
            _ => return Err(forbidden()),
        }
    }
    if parts.len() > MAX_DEPTH {
        return Err(too_large(MAX_DEPTH as u64, "nested directories"));
    }
    Ok(parts.join("/"))
}

fn too_large(limit: u64, what: &'static str) -> ArchiveError {
    ArchiveError::TooLarge { limit, what }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use tar::{Builder, Header};

    use super::*;

    fn packed(entries: &[(&str, EntryType, u32, &str)]) -> Vec<u8> {
        let mut tar = Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (path, kind, mode, content) in entries {
            let mut header = Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(*mode);
            header.set_size(content.len() as u64);
            // Written as it is: the library refuses to make what is to be refused here.
            header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
            header.set_cksum();
            tar.append(&header, content.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    fn unpack(bytes: &[u8]) -> Result<Archive, String> {
        let directory = tempfile::tempdir().unwrap();
        Archive::unpack(bytes, directory.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_archive_is_read_as_a_tree() {
        let file = EntryType::Regular;
        let bytes = packed(&[
            ("./", EntryType::Directory, 0o755, ""),
            ("./a", file, 0o644, "first"),
            ("d/e/x", file, 0o755, "second"),
            ("empty/", EntryType::Directory, 0o755, ""),
            ("link", EntryType::Symlink, 0o777, ""),
        ]);
        let tree = unpack(&bytes).unwrap();
        let names = |path| {
            let listed = tree.list(path).unwrap();
            listed.map(|entries| entries.into_iter().map(|entry| entry.name).collect::<Vec<_>>())
        };
        assert_eq!(names("").unwrap(), ["a", "d", "empty"]);
        assert_eq!(names("d").unwrap(), ["e"]);
        assert_eq!(names("empty").unwrap(), [] as [&str; 0]);
        assert_eq!(names("a"), None);
        assert_eq!(tree.read("d/e/x").unwrap().as_deref(), Some(&b"second"[..]));
        assert_eq!(tree.read("d").unwrap(), None);
        assert_eq!(
            (tree.is_executable("a"), tree.is_executable("d/e/x")),
            (Ok(false), Ok(true))
        );
        assert_eq!(tree.stat("d/e").unwrap(), Some(FileKind::Dir));
        let expect = format!("sha256:{}", hex(&Sha256::digest(b"first")));
        assert_eq!(tree.digest("a").unwrap(), Some(expect));
    }

    #[test]
    fn what_an_artifact_must_not_hold_is_refused() {
        let check = |path: &str, kind: EntryType, expect: &str| {
            let error = unpack(&packed(&[(path, kind, 0o644, "")])).err().unwrap();
            assert!(error.contains(expect), "{error}");
        };
        check("../a", EntryType::Regular, "a path that leads elsewhere");
        check("/etc/passwd", EntryType::Regular, "a path that leads elsewhere");
        check("a/../../b", EntryType::Regular, "a path that leads elsewhere");
        check("link", EntryType::Link, "neither a file nor a directory");
        check("pipe", EntryType::Fifo, "neither a file nor a directory");
        assert!(unpack(b"no gzip").err().unwrap().contains("cannot be unpacked"));
        let whole = packed(&[("a", EntryType::Regular, 0o644, "text")]);
        assert!(unpack(&whole[..whole.len() / 2]).is_err());
    }
}
