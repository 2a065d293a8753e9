//! Packs a tree into an archive whose bytes depend on its content alone.
//!
//! The archive is a tar.gz of regular files and directories in sorted order, with Flux's sanitised headers (files 0600,
//! executables 0700, directories 0750, no owner, no time), so equal trees give equal digests on every machine. It is
//! streamed: neither the tree nor the archive is ever held in memory. Runs of entries that the source's last archive holds
//! as they are now are copied from there, so that a commit packs what it changed.

use std::io::{self, Write};

use sha2::{Digest, Sha256};

use super::packer;
use super::pieces::{Earlier, Pieces};
use crate::core::snapshot::{Files, FilesError};

/// Most files and directories in an artifact. The largest public repositories of manifests have some ten thousand.
pub const MAX_ENTRIES: usize = 200_000;

/// Most bytes before compression, half a KiB for each entry included. Ten thousand manifests are some 50 MiB; this leaves twentyfold room for charts and
/// binaries and still keeps one source from filling a disk.
pub const MAX_BYTES: u64 = 1 << 30;

/// Deepest directory: far beyond any repository, and it keeps a hostile tree from exhausting the stack.
pub const MAX_DEPTH: usize = 128;

/// A tree that also knows which of its files are executable.
pub trait Archivable: Files {
    /// The digest of a file and whether it is executable; `None` when there is no file at the path.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn identity(&self, path: &str) -> Result<Option<(String, bool)>, FilesError> {
        let digest = self.digest(path)?;
        let executable = self.is_executable(path)?;
        Ok(digest.map(|digest| (digest, executable)))
    }

    /// Identifies all that the archive holds below a directory, where that can be told without looking at it.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn below(&self, path: &str) -> Result<Option<String>, FilesError> {
        let _ = path;
        Ok(None)
    }

    /// The content of a file and whether it is executable; `None` when there is no file at the path.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn read_executable(&self, path: &str) -> Result<Option<(Vec<u8>, bool)>, FilesError>;
}

/// What was packed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packed {
    /// `sha256:<hex>` of the archive.
    pub digest: String,
    /// Bytes of the archive.
    pub size: u64,
    /// Files and directories in it.
    pub entries: usize,
}

/// Why a tree could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The tree could not be read.
    #[error(transparent)]
    Tree(#[from] FilesError),
    /// The archive could not be written.
    #[error("cannot write the archive: {0}")]
    Write(#[from] io::Error),
    /// There is more than an artifact may hold.
    #[error(
        "the artifact would hold more than {limit} {what}; exclude what is not needed with spec.ignore or .sourceignore"
    )]
    TooLarge {
        /// The bound.
        limit: u64,
        /// What is bounded.
        what: &'static str,
    },
}

/// Writes a tree as an archive.
///
/// # Errors
/// When the tree cannot be read, the archive not written, or a bound is met.
pub fn pack(tree: &dyn Archivable, to: impl Write) -> Result<Packed, PackError> {
    pack_after(tree, to, None).map(|(packed, _)| packed)
}

/// Writes a tree as an archive, with what an earlier archive already holds; says which pieces the new one has.
pub(super) fn pack_after(
    tree: &dyn Archivable,
    to: impl Write,
    earlier: Option<&Earlier<'_>>,
) -> Result<(Packed, Pieces), PackError> {
    let hashing = Hashing {
        inner: to,
        hash: Sha256::new(),
        size: 0,
    };
    let walked = packer::walk(tree, earlier)?;
    let entries = walked.entries;
    let (hashing, pieces) = packer::write(tree, earlier, walked, hashing)?;
    let (digest, size) = hashing.finish();
    Ok((Packed { digest, size, entries }, pieces))
}

/// Joins a directory, empty for the root, and a name.
#[must_use]
pub fn join(directory: &str, name: &str) -> String {
    match directory {
        "" => name.to_owned(),
        _ => format!("{directory}/{name}"),
    }
}

pub(super) fn too_large(limit: u64, what: &'static str) -> PackError {
    PackError::TooLarge { limit, what }
}

/// Counts and hashes what passes through.
struct Hashing<W> {
    inner: W,
    hash: Sha256,
    size: u64,
}

impl<W> Hashing<W> {
    fn finish(self) -> (String, u64) {
        (format!("sha256:{}", hex(&self.hash.finalize())), self.size)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(bytes.get(..written).unwrap_or(bytes));
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            // Writing to a String cannot fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use flate2::read::GzDecoder;

    use super::*;
    use crate::core::snapshot::{DirEntry, FileKind};

    /// Files by path with their executable bit.
    struct Fixture(BTreeMap<String, (Vec<u8>, bool)>);

    impl Fixture {
        fn new(files: &[(&str, &str, bool)]) -> Self {
            let entry = |(path, content, executable): &(&str, &str, bool)| {
                ((*path).to_owned(), (content.as_bytes().to_vec(), *executable))
            };
            Self(files.iter().map(entry).collect())
        }
    }

    impl Files for Fixture {
        fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
            Ok(self.0.contains_key(path).then_some(FileKind::File))
        }

        fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
            Ok(self.0.get(path).map(|(content, _)| content.clone()))
        }

        fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
            let prefix = if path.is_empty() {
                String::new()
            } else {
                format!("{path}/")
            };
            let mut entries: Vec<DirEntry> = self
                .0
                .keys()
                .filter_map(|file| file.strip_prefix(&prefix))
                .map(|rest| match rest.split_once('/') {
                    Some((dir, _)) => (dir.to_owned(), FileKind::Dir),
                    None => (rest.to_owned(), FileKind::File),
                })
                .map(|(name, kind)| DirEntry { name, kind })
                .collect();
            entries.sort();
            entries.dedup();
            Ok(Some(entries))
        }

        fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
            let content = self.0.get(path).map(|(content, _)| content);
            Ok(content.map(|content| hex(&Sha256::digest(content))))
        }

        fn is_executable(&self, path: &str) -> Result<bool, FilesError> {
            Ok(self.0.get(path).is_some_and(|(_, executable)| *executable))
        }
    }

    impl Archivable for Fixture {
        fn read_executable(&self, path: &str) -> Result<Option<(Vec<u8>, bool)>, FilesError> {
            Ok(self.0.get(path).cloned())
        }
    }

    #[test]
    fn an_archive_has_sorted_entries_with_sanitised_headers() {
        let long = format!("{}/{}.yaml", "d".repeat(90), "f".repeat(90));
        let tree = Fixture::new(&[
            ("b.sh", "run", true),
            ("a/x.yaml", "x: 1\n", false),
            (&long, "long", false),
        ]);
        let mut bytes = Vec::new();
        let packed = pack(&tree, &mut bytes).unwrap();
        assert_eq!(packed.size, bytes.len() as u64);
        assert_eq!(packed.digest, format!("sha256:{}", hex(&Sha256::digest(&bytes))));
        assert_eq!(packed.entries, 5);
        assert_eq!(
            &bytes[..10],
            &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255],
            "no name and no time in the gzip header"
        );

        let mut archive = tar::Archive::new(GzDecoder::new(bytes.as_slice()));
        let mut seen = Vec::new();
        for entry in archive.entries().unwrap() {
            let mut entry = entry.unwrap();
            let header = entry.header().clone();
            assert_eq!(
                (header.uid().unwrap(), header.gid().unwrap(), header.mtime().unwrap()),
                (0, 0, 0)
            );
            assert_eq!(header.username().unwrap().unwrap_or_default(), "");
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut content = String::new();
            entry.read_to_string(&mut content).unwrap();
            seen.push((path, header.mode().unwrap(), content));
        }
        let expect = [
            ("a/".to_owned(), 0o750, ""),
            ("a/x.yaml".to_owned(), 0o600, "x: 1\n"),
            ("b.sh".to_owned(), 0o700, "run"),
            (format!("{}/", "d".repeat(90)), 0o750, ""),
            (long, 0o600, "long"),
        ];
        let expect: Vec<_> = expect.into_iter().map(|(p, m, c)| (p, m, c.to_owned())).collect();
        assert_eq!(seen, expect);
    }

    #[test]
    fn equal_trees_give_equal_digests_and_a_changed_mode_another() {
        let digest = |files: &[(&str, &str, bool)]| pack(&Fixture::new(files), io::sink()).unwrap().digest;
        let one = digest(&[("a", "1", false), ("b/c", "2", false)]);
        assert_eq!(one, digest(&[("b/c", "2", false), ("a", "1", false)]));
        assert_ne!(one, digest(&[("a", "1", true), ("b/c", "2", false)]));
        assert_ne!(one, digest(&[("a", "1", false), ("b/c", "3", false)]));
    }

    #[test]
    fn packing_after_an_earlier_archive_gives_the_same_bytes_and_reads_what_changed() {
        let files = |changed: &str| {
            let mut files: BTreeMap<String, (Vec<u8>, bool)> = (0..2000)
                .map(|n| (format!("apps/{}/{n:04}/config.yaml", n / 500), (vec![b'a'; 700], false)))
                .collect();
            files.insert("apps/2/1000/config.yaml".to_owned(), (changed.into(), false));
            Counting {
                files: Fixture(files),
                read: AtomicUsize::new(0),
                listed: AtomicUsize::new(0),
            }
        };
        let mut archive = tempfile::tempfile().unwrap();
        let (_, pieces) = pack_after(&files("one"), &mut archive, None).unwrap();
        let earlier = Earlier {
            archive: &archive,
            pieces: &pieces,
        };
        let tree = files("two");
        let mut second = tempfile::tempfile().unwrap();
        let (packed, pieces) = pack_after(&tree, &mut second, Some(&earlier)).unwrap();
        let read = tree.read.into_inner();
        assert!((1..500).contains(&read), "{read} files were read");
        let listed = tree.listed.into_inner();
        assert!((1..700).contains(&listed), "{listed} directories were listed");
        assert_eq!(packed, pack(&files("two"), io::sink()).unwrap());
        assert_ne!(packed.digest, pack(&files("one"), io::sink()).unwrap().digest);

        // What was copied is known as well as what was packed.
        let earlier = Earlier {
            archive: &second,
            pieces: &pieces,
        };
        let tree = files("two");
        assert_eq!(pack_after(&tree, io::sink(), Some(&earlier)).unwrap().0, packed);
        assert_eq!(
            (tree.read.into_inner(), tree.listed.into_inner()),
            (0, 1),
            "nothing below the root was looked at"
        );
    }

    /// Counts the files that are read and the directories that are listed.
    struct Counting {
        files: Fixture,
        read: AtomicUsize,
        listed: AtomicUsize,
    }

    impl Files for Counting {
        fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
            self.files.stat(path)
        }

        fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
            self.files.read(path)
        }

        fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
            self.listed.fetch_add(1, Ordering::Relaxed);
            self.files.list(path)
        }

        fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
            self.files.digest(path)
        }

        fn is_executable(&self, path: &str) -> Result<bool, FilesError> {
            self.files.is_executable(path)
        }
    }

    impl Archivable for Counting {
        fn below(&self, path: &str) -> Result<Option<String>, FilesError> {
            let prefix = format!("{path}/");
            let mut hash = Sha256::new();
            for (path, (content, _)) in self.files.0.iter().filter(|(path, _)| path.starts_with(&prefix)) {
                hash.update(path.as_bytes());
                hash.update(content);
            }
            Ok(Some(hex(&hash.finalize())))
        }

        fn read_executable(&self, path: &str) -> Result<Option<(Vec<u8>, bool)>, FilesError> {
            self.read.fetch_add(1, Ordering::Relaxed);
            self.files.read_executable(path)
        }
    }

    #[test]
    fn a_tree_that_is_too_deep_is_refused_with_the_bound() {
        let path = "d/".repeat(MAX_DEPTH + 1) + "f";
        let error = pack(&Fixture::new(&[(&path, "", false)]), io::sink()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the artifact would hold more than 128 nested directories; exclude what is not needed with spec.ignore or \
             .sourceignore"
        );
    }
}
