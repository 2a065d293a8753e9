//! A commit's tree as files, read straight from the bare repository.
//!
//! Shows exactly what the artifact of the commit holds: regular files and directories, without links, submodules and what
//! the ignore rules exclude. Blob ids are the digests.
//!
//! Guarantees: a lookup costs the depth of its path, not the size of the repository; answers never change, and the files
//! under a tree stay on disk until it is dropped. A read that fails has the next fetch start with a new repository.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use git2::{ObjectType, Oid, Repository, Tree, TreeEntry};

use super::artifact::{Archivable, MAX_DEPTH, join};
use super::dir::{MAX_FILE_BYTES, is_plain};
use super::git_repo::{RepoDir, lock};
use super::ignore::{IGNORE_FILE, MAX_IGNORE_BYTES, Rules, Summary};
use crate::core::snapshot::{Commit, DirEntry, FileKind, Files, FilesError};

/// Most entries of directories that an open tree keeps in memory, some 5 MiB. libgit2 keeps no directory larger than 4 KiB,
/// and reading one of thousands of entries anew for each lookup makes a walk quadratic.
const MAX_KEPT_ENTRIES: usize = 50_000;

/// Git's modes of entries: the type, and the bit that makes a file executable.
const MODE_TYPE: i32 = 0o170_000;
const MODE_REGULAR: i32 = 0o100_000;
const MODE_EXECUTABLE: i32 = 0o100;

/// The files of a commit.
pub struct GitTree {
    commit: String,
    root: Oid,
    /// Nothing: all is shown.
    rules: Option<Rules>,
    /// Whether an excluded directory shows because something below is taken back in.
    reincluded: Mutex<HashMap<String, bool>>,
    directories: Mutex<Directories>,
    /// libgit2's handles may not be used by two threads at once.
    repo: Mutex<Repository>,
    dir: Arc<RepoDir>,
}

/// How much of a commit is shown.
#[derive(Debug, Clone, Copy)]
pub(super) enum Showing<'a> {
    /// What the artifact of the commit alone holds, with this `spec.ignore`.
    Artifact(Option<&'a str>),
    /// All files, for trees that are put together and have their rules on top.
    All,
}

/// A regular file or a directory in the tree, ignore rules aside.
#[derive(Clone, Copy)]
struct Found {
    kind: FileKind,
    id: Oid,
    executable: bool,
}

/// What a directory holds, sorted by name.
type Directory = Vec<(String, Found)>;

/// Directories that were read, by tree id.
#[derive(Default)]
struct Directories {
    kept: HashMap<Oid, Arc<Directory>>,
    entries: usize,
}

impl GitTree {
    /// The tree of a commit that is in the repository.
    pub(super) fn open(dir: &Arc<RepoDir>, commit: Oid, showing: Showing<'_>) -> Result<Self, git2::Error> {
        let repo = dir.open()?;
        let root = repo.find_commit(commit)?.tree_id();
        let rules = match showing {
            Showing::Artifact(ignore) => Some(Rules::new(ignore, summarise(&repo, dir, root, 0)?)),
            Showing::All => None,
        };
        Ok(Self {
            commit: commit.to_string(),
            root,
            rules,
            reincluded: Mutex::default(),
            directories: Mutex::default(),
            repo: Mutex::new(repo),
            dir: Arc::clone(dir),
        })
    }

    /// The id of the commit.
    #[must_use]
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// What is told about the commit; `None` when the repository is broken.
    #[must_use]
    pub fn describe(&self) -> Option<Commit> {
        let id = Oid::from_str(&self.commit).ok()?;
        super::git_attempt::describe(&lock(&self.repo), id).ok()
    }

    /// The commit of the submodule at a path.
    pub(super) fn submodule(&self, path: &str) -> Option<String> {
        let repo = lock(&self.repo);
        let root = repo.find_tree(self.root).ok()?;
        let entry = root.get_path(std::path::Path::new(path)).ok()?;
        (entry.kind() == Some(ObjectType::Commit)).then(|| entry.id().to_string())
    }

    /// Runs a read; an error of Git's own means that the repository is broken.
    fn with<T>(&self, path: &str, read: impl FnOnce(&Repository) -> Result<T, ReadError>) -> Result<T, FilesError> {
        let result = read(&lock(&self.repo));
        result.map_err(|error| {
            let reason = match error {
                ReadError::Git(error) => {
                    self.dir.suspect();
                    format!(
                        "the local repository is damaged and will be fetched anew: {}",
                        error.message()
                    )
                }
                ReadError::TooLarge(limit) => format!("it is larger than {limit} bytes"),
            };
            FilesError {
                path: if path.is_empty() {
                    ".".to_owned()
                } else {
                    path.to_owned()
                },
                reason,
            }
        })
    }

    fn directory(&self, repo: &Repository, id: Oid) -> Result<Arc<Directory>, ReadError> {
        if let Some(known) = lock(&self.directories).kept.get(&id) {
            return Ok(Arc::clone(known));
        }
        let read = Arc::new(children(&repo.find_tree(id)?));
        let mut directories = lock(&self.directories);
        if directories.entries > MAX_KEPT_ENTRIES {
            *directories = Directories::default();
        }
        directories.entries += read.len();
        directories.kept.insert(id, Arc::clone(&read));
        Ok(read)
    }

    /// What stands at a path, ignore rules aside.
    fn find(&self, repo: &Repository, path: &str) -> Result<Option<Found>, ReadError> {
        let mut found = Found {
            kind: FileKind::Dir,
            id: self.root,
            executable: false,
        };
        for part in path.split('/').filter(|_| !path.is_empty()) {
            if found.kind == FileKind::File {
                return Ok(None);
            }
            let directory = self.directory(repo, found.id)?;
            let at = directory.binary_search_by(|(name, _)| name.as_str().cmp(part));
            match at.ok().and_then(|at| directory.get(at)) {
                Some((_, child)) => found = *child,
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    /// What stands at a path, when the artifact holds it.
    fn shown(&self, repo: &Repository, path: &str) -> Result<Option<Found>, ReadError> {
        let Some(found) = self.find(repo, path)? else {
            return Ok(None);
        };
        Ok(self.is_shown(repo, path, found)?.then_some(found))
    }

    fn is_shown(&self, repo: &Repository, path: &str, found: Found) -> Result<bool, ReadError> {
        let is_dir = found.kind == FileKind::Dir;
        Ok(path.is_empty()
            || !self.excluded(repo, path, is_dir)?
            || is_dir && self.reincludes(repo, path, found.id, 0)?)
    }

    fn excluded(&self, repo: &Repository, path: &str, is_dir: bool) -> Result<bool, ReadError> {
        let Some(rules) = &self.rules else {
            return Ok(false);
        };
        rules.excludes(path, is_dir, |directory| {
            let file = self.find(repo, &join(directory, IGNORE_FILE))?;
            file.filter(|file| file.kind == FileKind::File)
                .map(|file| read_ignore(repo, file.id))
                .transpose()
        })
    }

    /// Whether anything below an excluded directory is taken back in.
    fn reincludes(&self, repo: &Repository, path: &str, id: Oid, depth: usize) -> Result<bool, ReadError> {
        if !self.rules.as_ref().is_some_and(Rules::may_reinclude) || depth > MAX_DEPTH {
            return Ok(false);
        }
        if let Some(known) = lock(&self.reincluded).get(path) {
            return Ok(*known);
        }
        let mut answer = false;
        for (name, found) in self.directory(repo, id)?.iter() {
            let child = join(path, name);
            let is_dir = found.kind == FileKind::Dir;
            answer = !self.excluded(repo, &child, is_dir)?
                || is_dir && self.reincludes(repo, &child, found.id, depth + 1)?;
            if answer {
                break;
            }
        }
        lock(&self.reincluded).insert(path.to_owned(), answer);
        Ok(answer)
    }

    fn file(&self, repo: &Repository, path: &str) -> Result<Option<Found>, ReadError> {
        Ok(self.shown(repo, path)?.filter(|found| found.kind == FileKind::File))
    }
}

impl Files for GitTree {
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
        self.with(path, |repo| Ok(self.shown(repo, path)?.map(|found| found.kind)))
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        Ok(self.read_executable(path)?.map(|(content, _)| content))
    }

    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        self.with(path, |repo| {
            let Some(directory) = self.shown(repo, path)?.filter(|found| found.kind == FileKind::Dir) else {
                return Ok(None);
            };
            let mut listed = Vec::new();
            for (name, found) in self.directory(repo, directory.id)?.iter() {
                if self.is_shown(repo, &join(path, name), *found)? {
                    listed.push(DirEntry {
                        name: name.clone(),
                        kind: found.kind,
                    });
                }
            }
            Ok(Some(listed))
        })
    }

    fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
        self.with(path, |repo| Ok(self.file(repo, path)?.map(|file| file.id.to_string())))
    }

    fn is_executable(&self, path: &str) -> Result<bool, FilesError> {
        self.with(path, |repo| {
            Ok(self.file(repo, path)?.is_some_and(|file| file.executable))
        })
    }
}

impl Archivable for GitTree {
    fn below(&self, path: &str) -> Result<Option<String>, FilesError> {
        let Some(rules) = self.rules.as_ref().and_then(Rules::uniform) else {
            return Ok(None);
        };
        self.with(path, |repo| {
            let found = self.find(repo, path)?;
            Ok(found.map(|found| format!("{} {rules}", found.id)))
        })
    }

    fn identity(&self, path: &str) -> Result<Option<(String, bool)>, FilesError> {
        self.with(path, |repo| {
            let file = self.file(repo, path)?;
            Ok(file.map(|file| (file.id.to_string(), file.executable)))
        })
    }

    fn read_executable(&self, path: &str) -> Result<Option<(Vec<u8>, bool)>, FilesError> {
        self.with(path, |repo| {
            let file = self.shown(repo, path)?.filter(|found| found.kind == FileKind::File);
            let read = |file: Found| Ok((read_blob(repo, file.id, MAX_FILE_BYTES)?, file.executable));
            file.map(read).transpose()
        })
    }
}

enum ReadError {
    Git(git2::Error),
    TooLarge(u64),
}

impl From<git2::Error> for ReadError {
    fn from(error: git2::Error) -> Self {
        Self::Git(error)
    }
}

/// Links and submodules are nothing.
fn found(entry: &TreeEntry<'_>) -> Option<Found> {
    let kind = match entry.kind()? {
        ObjectType::Tree => FileKind::Dir,
        ObjectType::Blob if entry.filemode() & MODE_TYPE == MODE_REGULAR => FileKind::File,
        _ => return None,
    };
    Some(Found {
        kind,
        id: entry.id(),
        executable: entry.filemode() & MODE_EXECUTABLE != 0,
    })
}

/// What a directory holds; names that are not UTF-8 or no names are left out.
fn children(tree: &Tree<'_>) -> Directory {
    let child = |entry: TreeEntry<'_>| {
        let name = std::str::from_utf8(entry.name_bytes())
            .ok()
            .filter(|name| is_plain(name))?;
        Some((name.to_owned(), found(&entry)?))
    };
    let mut directory: Directory = tree.iter().filter_map(child).collect();
    // Git sorts a directory as if its name ended in a slash.
    directory.sort_by(|a, b| a.0.cmp(&b.0));
    directory
}

fn read_blob(repo: &Repository, id: Oid, limit: u64) -> Result<Vec<u8>, ReadError> {
    let (size, _) = repo.odb()?.read_header(id)?;
    if size as u64 > limit {
        return Err(ReadError::TooLarge(limit));
    }
    Ok(repo.find_blob(id)?.content().to_vec())
}

fn read_ignore(repo: &Repository, id: Oid) -> Result<String, ReadError> {
    let text = read_blob(repo, id, MAX_IGNORE_BYTES as u64)?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// What all ignore files of a tree amount to. Remembered by tree id, so that a commit walks only what it changed.
fn summarise(repo: &Repository, dir: &RepoDir, id: Oid, depth: usize) -> Result<Summary, git2::Error> {
    if let Some(known) = dir.summary(id) {
        return Ok(known);
    }
    let mut summary = Summary::default();
    if depth > MAX_DEPTH {
        return Ok(summary);
    }
    for (name, found) in children(&repo.find_tree(id)?) {
        let below = match found.kind {
            FileKind::Dir => summarise(repo, dir, found.id, depth + 1)?,
            FileKind::File if name == IGNORE_FILE => match read_ignore(repo, found.id) {
                Ok(text) => Summary::of(&text),
                Err(ReadError::Git(error)) => return Err(error),
                // The first lookup that needs it will fail with the reason.
                Err(ReadError::TooLarge(_)) => Summary {
                    patterns: true,
                    negations: true,
                },
            },
            FileKind::File => continue,
        };
        summary = summary.and(below);
    }
    dir.remember(id, summary);
    Ok(summary)
}
