//! Artifacts on disk: `<root>/<kind>/<namespace>/<name>/<commit or digest>.tar.gz`, written in one step and collected later.
//!
//! Guarantees: a file under its final name is complete; the artifact in use is never collected; of a source's artifacts
//! the newest few and all young ones stay (`Retention`), so that a consumer that has just read a URL
//! can still fetch it. The root may be lost at any time; `has` then says so.
//!
//! Assumes that names come from the API server (they are checked all the same) and that time is given by the caller.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use tempfile::NamedTempFile;

use super::archive::{Archive, ArchiveError};
use super::artifact::{Archivable, PackError, pack_after};
use super::pieces::{Earlier, Pieces};
use crate::api::source::Artifact;

/// Artifacts of a source that are kept, the one in use among them. Flux's default for `--artifact-retention-records`.
pub const RETAINED_RECORDS: usize = 2;

/// How long any artifact is kept. Flux's default for `--artifact-retention-ttl`.
pub const RETAINED_FOR: Duration = Duration::from_secs(60);

/// Which artifacts of a source are kept beside the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// So many of the newest, the one in use among them.
    pub records: usize,
    /// All that are younger.
    pub ttl: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self {
            records: RETAINED_RECORDS,
            ttl: RETAINED_FOR,
        }
    }
}

/// Age at which an unfinished file must be left from a process that died: no archive takes an hour to write.
const ABANDONED_AFTER: Duration = Duration::from_secs(3600);

/// What the name of an artifact ends in.
const SUFFIX: &str = ".tar.gz";

/// What the name of an unfinished file begins with.
const UNFINISHED: &str = ".unfinished-";

/// Folder of the kind that a store is for unless it says otherwise.
const KIND: &str = "gitrepository";

/// Why an artifact could not be stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The tree could not be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The disk refused.
    #[error("cannot {what} {path}: {source}")]
    Disk {
        /// What was tried.
        what: &'static str,
        /// Relative to the storage root.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// A name that is no Kubernetes name; it would lead out of the storage root.
    #[error("{0:?} cannot be part of a path in the storage")]
    Name(String),
}

/// The store. Clones share what they remember.
#[derive(Debug, Clone)]
pub struct ArtifactStore {
    root: PathBuf,
    address: String,
    retention: Retention,
    kind: &'static str,
    packed: Arc<Mutex<HashMap<String, LastPacked>>>,
}

/// The archive that was packed last of a source, from which the next one copies what has not changed.
#[derive(Debug, Clone)]
struct LastPacked {
    path: String,
    pieces: Arc<Pieces>,
}

impl ArtifactStore {
    /// A store below `root` whose files are served at `address` (`host:port`, or a URL).
    #[must_use]
    pub fn new(root: impl Into<PathBuf>, address: &str) -> Self {
        Self {
            root: root.into(),
            address: address.trim_end_matches('/').to_owned(),
            retention: Retention::default(),
            kind: KIND,
            packed: Arc::default(),
        }
    }

    /// The same store, for artifacts of another kind of source, in small letters.
    #[must_use]
    pub fn of(&self, kind: &'static str) -> Self {
        Self { kind, ..self.clone() }
    }

    /// The same with another rule of what is kept.
    #[must_use]
    pub fn with_retention(self, retention: Retention) -> Self {
        Self { retention, ..self }
    }

    /// Where the files are, for the server.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Packs a tree and stores it in one step, in place of an older archive of the same commit.
    ///
    /// # Errors
    /// When the tree cannot be packed or the disk refuses.
    pub fn put(
        &self,
        namespace: &str,
        name: &str,
        revision: &str,
        tree: &dyn Archivable,
        now: Timestamp,
    ) -> Result<Artifact, StoreError> {
        let commit = revision.rsplit(':').next().unwrap_or(revision);
        self.write(namespace, name, tree, now, |_| (commit.to_owned(), revision.to_owned()))
    }

    /// Packs a tree and stores it under the digest of its archive. Without a revision it gets one that changes with its
    /// content only: `latest@<digest>`.
    ///
    /// # Errors
    /// When the tree cannot be packed or the disk refuses.
    pub fn put_by_content(
        &self,
        namespace: &str,
        name: &str,
        revision: Option<&str>,
        tree: &dyn Archivable,
        now: Timestamp,
    ) -> Result<Artifact, StoreError> {
        self.write(namespace, name, tree, now, |digest| {
            let hex = digest.rsplit(':').next().unwrap_or(digest);
            (
                hex.to_owned(),
                revision.map_or_else(|| format!("latest@{digest}"), str::to_owned),
            )
        })
    }

    /// `called` gives the name of the file, without its end, and the revision, for the digest of the archive.
    fn write(
        &self,
        namespace: &str,
        name: &str,
        tree: &dyn Archivable,
        now: Timestamp,
        called: impl FnOnce(&str) -> (String, String),
    ) -> Result<Artifact, StoreError> {
        let folder = self.folder(namespace, name)?;
        let disk = |what| {
            let path = folder.clone();
            move |source| StoreError::Disk { what, path, source }
        };
        let directory = self.root.join(&folder);
        fs::create_dir_all(&directory).map_err(disk("create"))?;
        let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&directory);
        let file: NamedTempFile = file.map_err(disk("create a file in"))?;
        let last = self.last_packed(|packed| packed.get(&folder).cloned());
        let archive = last
            .as_ref()
            .and_then(|last| fs::File::open(self.root.join(&last.path)).ok());
        let earlier = last.as_ref().zip(archive.as_ref()).map(|(last, archive)| Earlier {
            archive,
            pieces: &last.pieces,
        });
        let (packed, pieces) = pack_after(tree, io::BufWriter::new(file.as_file()), earlier.as_ref())?;
        let (file_name, revision) = called(&packed.digest);
        let path = format!("{folder}/{}{SUFFIX}", checked(&file_name)?);
        // A crash after the rename must not leave an empty file under the final name.
        file.as_file().sync_all().map_err(disk("write a file in"))?;
        file.persist(self.root.join(&path))
            .map_err(|e| disk("rename a file in")(e.error))?;
        let last = LastPacked {
            path: path.clone(),
            pieces: Arc::new(pieces),
        };
        self.last_packed(|packed| packed.insert(folder.clone(), last));
        Ok(Artifact {
            url: self.url(&path),
            path,
            revision,
            digest: packed.digest,
            last_update_time: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            size: i64::try_from(packed.size).ok(),
            metadata: None,
        })
    }

    /// Whether an artifact that a status names is still here, by size; its digest was taken when it was written.
    #[must_use]
    pub fn has(&self, artifact: &Artifact) -> bool {
        let plain = artifact.path.split('/').all(|part| checked(part).is_ok());
        let size = plain
            .then(|| fs::metadata(self.root.join(&artifact.path)).ok())
            .flatten();
        size.is_some_and(|file| {
            file.is_file() && artifact.size.is_none_or(|size| i64::try_from(file.len()) == Ok(size))
        })
    }

    /// Opens an artifact as a tree.
    ///
    /// # Errors
    /// When it is not here, or not as it was written.
    pub fn open(&self, artifact: &Artifact) -> Result<Archive, ArchiveError> {
        if artifact.path.split('/').any(|part| checked(part).is_err()) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        let file = fs::File::open(self.root.join(&artifact.path))?;
        Archive::unpack(io::BufReader::new(file), &self.root)
    }

    /// Opens what was stored of an earlier revision, if it is still kept: of a source that is named after its commit or its
    /// content.
    ///
    /// # Errors
    /// When it is not here any more, or not as it was written.
    pub fn open_former(&self, namespace: &str, name: &str, revision: &str) -> Result<Archive, ArchiveError> {
        let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
        let file = checked(revision.rsplit(':').next().unwrap_or(revision)).map_err(invalid)?;
        let folder = self.folder(namespace, name).map_err(invalid)?;
        let file = fs::File::open(self.root.join(folder).join(format!("{file}{SUFFIX}")))?;
        Archive::unpack(io::BufReader::new(file), &self.root)
    }

    /// The address of an artifact that was stored under another `--storage-adv-addr`, made right.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        if self.address.contains("://") {
            format!("{}/{path}", self.address)
        } else {
            format!("http://{}/{path}", self.address)
        }
    }

    /// Deletes what a source no longer needs and gives the names of the deleted files.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn collect_garbage(
        &self,
        namespace: &str,
        name: &str,
        current: Option<&Artifact>,
        now: SystemTime,
    ) -> Result<Vec<String>, StoreError> {
        let folder = self.folder(namespace, name)?;
        let directory = self.root.join(&folder);
        let disk = |what, path: &str| {
            let path = path.to_owned();
            move |source| StoreError::Disk { what, path, source }
        };
        let listed = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            listed => listed.map_err(disk("list", &folder))?,
        };
        let mut files = Vec::new();
        for entry in listed {
            let entry = entry.map_err(disk("list", &folder))?;
            let modified = entry
                .metadata()
                .and_then(|m| m.modified())
                .map_err(disk("read", &folder))?;
            files.push((entry.file_name().to_string_lossy().into_owned(), modified));
        }
        let current = current.and_then(|artifact| artifact.path.rsplit('/').next());
        let garbage = garbage(&files, current, self.retention, now);
        for file in &garbage {
            match fs::remove_file(directory.join(file)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(disk("delete", &format!("{folder}/{file}"))(error));
                }
                _ => {}
            }
        }
        Ok(garbage)
    }

    /// Deletes all artifacts of a source that is gone, and says whether there were any.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn remove(&self, namespace: &str, name: &str) -> Result<bool, StoreError> {
        let folder = self.folder(namespace, name)?;
        self.last_packed(|packed| packed.remove(&folder));
        match fs::remove_dir_all(self.root.join(&folder)) {
            Err(source) if source.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::Disk {
                what: "delete",
                path: folder,
                source,
            }),
            Ok(()) => Ok(true),
        }
    }

    fn folder(&self, namespace: &str, name: &str) -> Result<String, StoreError> {
        Ok(format!("{}/{}/{}", self.kind, checked(namespace)?, checked(name)?))
    }
}

impl ArtifactStore {
    fn last_packed<T>(&self, look: impl FnOnce(&mut HashMap<String, LastPacked>) -> T) -> T {
        look(&mut self.packed.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Decides which files of a source go.
#[must_use]
pub fn garbage(files: &[(String, SystemTime)], current: Option<&str>, keep: Retention, now: SystemTime) -> Vec<String> {
    let age = |modified: SystemTime| now.duration_since(modified).unwrap_or_default();
    let (mut artifacts, others): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| name.ends_with(SUFFIX));
    // The one in use first, then the newest; a name decides between files of one instant.
    artifacts.sort_by_key(|(name, modified)| (Some(name.as_str()) != current, age(*modified), name.clone()));
    let old = artifacts
        .into_iter()
        .skip(keep.records.max(1))
        .filter(|(name, modified)| Some(name.as_str()) != current && age(*modified) > keep.ttl);
    let abandoned = others
        .into_iter()
        .filter(|(name, modified)| name.starts_with(UNFINISHED) && age(*modified) > ABANDONED_AFTER);
    old.chain(abandoned).map(|(name, _)| name.clone()).collect()
}

/// Refuses what could lead out of a folder. Kubernetes names are lower case, digits, `-` and `.`.
pub(super) fn checked(part: &str) -> Result<&str, StoreError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'.';
    if part.is_empty() || part.starts_with('.') || !part.bytes().all(plain) {
        return Err(StoreError::Name(part.to_owned()));
    }
    Ok(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_what_is_neither_current_nor_recent_nor_young() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let check = |files: &[(&str, u64)], current: Option<&str>, expect: &[&str]| {
            let files: Vec<_> = files
                .iter()
                .map(|(name, age)| ((*name).to_owned(), now - Duration::from_secs(*age)))
                .collect();
            assert_eq!(garbage(&files, current, Retention::default(), now), expect, "{files:?}");
        };
        check(&[], None, &[]);
        check(&[("a.tar.gz", 900)], None, &[]);
        let three = [("a.tar.gz", 900), ("b.tar.gz", 800), ("c.tar.gz", 700)];
        check(&three, Some("c.tar.gz"), &["a.tar.gz"]);
        check(&three, Some("a.tar.gz"), &["b.tar.gz"]);
        check(&three, None, &["a.tar.gz"]);
        check(
            &[("a.tar.gz", 59), ("b.tar.gz", 30), ("c.tar.gz", 1)],
            Some("c.tar.gz"),
            &[],
        );
        check(
            &[("a.tar.gz", 61), ("b.tar.gz", 30), ("c.tar.gz", 1)],
            Some("c.tar.gz"),
            &["a.tar.gz"],
        );
        check(
            &[(".unfinished-x", 10), (".unfinished-y", 4000), ("other", 9000)],
            None,
            &[".unfinished-y"],
        );
    }

    #[test]
    fn names_that_lead_out_of_the_storage_are_refused() {
        for bad in ["", ".", "..", "a/b", "../x", "a\\b", "a\0"] {
            assert!(checked(bad).is_err(), "{bad:?}");
        }
        for good in ["flux-system", "a.b", "x0"] {
            assert!(checked(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn urls_are_built_from_the_advertised_address() {
        let url = |address| ArtifactStore::new("/s", address).url("gitrepository/a/b/c.tar.gz");
        assert_eq!(
            url("127.0.0.1:9090"),
            "http://127.0.0.1:9090/gitrepository/a/b/c.tar.gz"
        );
        assert_eq!(url("https://x/"), "https://x/gitrepository/a/b/c.tar.gz");
    }
}
