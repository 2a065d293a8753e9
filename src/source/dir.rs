//! A directory on the local disk as a tree of files, for `weir check`.
//!
//! Shows what a Git artifact of the same content would show: regular files and directories, without links and without
//! what the ignore rules exclude, so that a check on a laptop decides over the same files as the cluster.
//!
//! Guarantees: nothing outside of the root is ever read, through no link and no `..`; a file above `MAX_FILE_BYTES` is an
//! error. Assumes that nobody changes the directory meanwhile; the answers are then those of the moment.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::artifact::{Archivable, MAX_DEPTH, MAX_ENTRIES, hex, join};
use super::ignore::{IGNORE_FILE, MAX_IGNORE_BYTES, Rules, Summary};
use crate::core::snapshot::{DirEntry, FileKind, Files, FilesError};

/// Largest file that is read: the most that GitHub takes into a repository.
pub const MAX_FILE_BYTES: u64 = 100 << 20;

/// A rooted directory.
pub struct Dir {
    root: PathBuf,
    rules: Rules,
}

impl Dir {
    /// Opens a directory; `ignore` stands for a `spec.ignore`.
    ///
    /// # Errors
    /// When it is no readable directory or holds more than an artifact may hold.
    pub fn open(path: &Path, ignore: Option<&str>) -> Result<Self, FilesError> {
        let shown = path.display().to_string();
        let root = fs::canonicalize(path).map_err(|e| failed(&shown, &e))?;
        if !root.is_dir() {
            return Err(reason(&shown, "it is not a directory"));
        }
        let mut seen = 0;
        let summary = summarise(&root, "", 0, &mut seen)?;
        Ok(Self {
            root,
            rules: Rules::new(ignore, summary),
        })
    }

    /// What stands at a path, links being nothing; ignore rules aside.
    fn raw(&self, path: &str) -> Result<Option<fs::Metadata>, FilesError> {
        if path.is_empty() {
            return Ok(fs::metadata(&self.root).ok());
        }
        let mut at = self.root.clone();
        let mut found = None;
        for part in path.split('/') {
            if !is_plain(part) {
                return Ok(None);
            }
            at.push(part);
            found = match fs::symlink_metadata(&at) {
                Ok(metadata) if metadata.is_file() || metadata.is_dir() => Some(metadata),
                Ok(_) => return Ok(None),
                Err(error) if is_missing(&error) => return Ok(None),
                Err(error) => return Err(failed(path, &error)),
            };
        }
        Ok(found)
    }

    fn excluded(&self, path: &str, is_dir: bool) -> Result<bool, FilesError> {
        let load = |directory: &str| read_ignore(&self.root, directory);
        self.rules.excludes(path, is_dir, load)
    }

    /// Whether anything below an excluded directory is taken back in.
    fn reincludes(&self, path: &str, depth: usize) -> Result<bool, FilesError> {
        if !self.rules.may_reinclude() || depth > MAX_DEPTH {
            return Ok(false);
        }
        for (name, kind) in entries(&self.root.join(path), path)? {
            let child = join(path, &name);
            if !self.excluded(&child, kind == FileKind::Dir)? {
                return Ok(true);
            }
            if kind == FileKind::Dir && self.reincludes(&child, depth + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn shown(&self, path: &str, kind: FileKind) -> Result<bool, FilesError> {
        let is_dir = kind == FileKind::Dir;
        Ok(path.is_empty() || !self.excluded(path, is_dir)? || is_dir && self.reincludes(path, 0)?)
    }

    fn file(&self, path: &str) -> Result<Option<fs::Metadata>, FilesError> {
        match self.raw(path)? {
            Some(metadata) if metadata.is_file() && self.shown(path, FileKind::File)? => Ok(Some(metadata)),
            _ => Ok(None),
        }
    }
}

impl Files for Dir {
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
        let Some(metadata) = self.raw(path)? else {
            return Ok(None);
        };
        let kind = if metadata.is_dir() {
            FileKind::Dir
        } else {
            FileKind::File
        };
        Ok(self.shown(path, kind)?.then_some(kind))
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        Ok(self.read_executable(path)?.map(|(content, _)| content))
    }

    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        if self.stat(path)? != Some(FileKind::Dir) {
            return Ok(None);
        }
        let mut listed = Vec::new();
        for (name, kind) in entries(&self.root.join(path), path)? {
            if self.shown(&join(path, &name), kind)? {
                listed.push(DirEntry { name, kind });
            }
        }
        Ok(Some(listed))
    }

    fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
        let content = self.read(path)?;
        Ok(content.map(|content| format!("sha256:{}", hex(&Sha256::digest(&content)))))
    }

    fn is_executable(&self, path: &str) -> Result<bool, FilesError> {
        Ok(self
            .file(path)?
            .is_some_and(|file| file.permissions().mode() & 0o111 != 0))
    }
}

impl Archivable for Dir {
    fn read_executable(&self, path: &str) -> Result<Option<(Vec<u8>, bool)>, FilesError> {
        let Some(metadata) = self.file(path)? else {
            return Ok(None);
        };
        if metadata.len() > MAX_FILE_BYTES {
            return Err(reason(path, &format!("it is larger than {MAX_FILE_BYTES} bytes")));
        }
        let content = fs::read(self.root.join(path)).map_err(|e| failed(path, &e))?;
        Ok(Some((content, metadata.permissions().mode() & 0o111 != 0)))
    }
}

/// Whether a part of a path names an entry of its directory.
pub(super) fn is_plain(part: &str) -> bool {
    !matches!(part, "" | "." | "..") && !part.contains(['\0', '\\'])
}

fn summarise(root: &Path, path: &str, depth: usize, seen: &mut usize) -> Result<Summary, FilesError> {
    if depth > MAX_DEPTH {
        return Err(reason(path, &format!("directories are nested deeper than {MAX_DEPTH}")));
    }
    let mut summary = read_ignore(root, path)?.map_or_else(Summary::default, |text| Summary::of(&text));
    for (name, kind) in entries(&root.join(path), path)? {
        *seen += 1;
        if *seen > MAX_ENTRIES {
            return Err(reason(
                path,
                &format!("there are more than {MAX_ENTRIES} files; check a smaller directory"),
            ));
        }
        if kind == FileKind::Dir && name != ".git" {
            summary = summary.and(summarise(root, &join(path, &name), depth + 1, seen)?);
        }
    }
    Ok(summary)
}

/// The `.sourceignore` of a directory, links and oversized files aside.
fn read_ignore(root: &Path, directory: &str) -> Result<Option<String>, FilesError> {
    let file = root.join(directory).join(IGNORE_FILE);
    match fs::symlink_metadata(&file) {
        Ok(metadata) if metadata.is_file() && metadata.len() <= MAX_IGNORE_BYTES as u64 => {
            let text = fs::read(&file).map_err(|e| failed(&join(directory, IGNORE_FILE), &e))?;
            Ok(Some(String::from_utf8_lossy(&text).into_owned()))
        }
        Ok(metadata) if metadata.is_file() => {
            let too_large = format!("it is larger than {MAX_IGNORE_BYTES} bytes");
            Err(reason(&join(directory, IGNORE_FILE), &too_large))
        }
        Ok(_) => Ok(None),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(failed(&join(directory, IGNORE_FILE), &error)),
    }
}

/// Names and kinds in a directory, sorted; without links, devices and names that are not UTF-8.
fn entries(directory: &Path, shown: &str) -> Result<Vec<(String, FileKind)>, FilesError> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).map_err(|e| failed(shown, &e))? {
        let entry = entry.map_err(|e| failed(shown, &e))?;
        let kind = entry.file_type().map_err(|e| failed(shown, &e))?;
        let kind = match (kind.is_dir(), kind.is_file()) {
            (true, _) => FileKind::Dir,
            (_, true) => FileKind::File,
            _ => continue,
        };
        if let Ok(name) = entry.file_name().into_string() {
            found.push((name, kind));
        }
    }
    found.sort();
    Ok(found)
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn failed(path: &str, error: &io::Error) -> FilesError {
    reason(path, &error.to_string())
}

fn reason(path: &str, reason: &str) -> FilesError {
    FilesError {
        path: if path.is_empty() {
            ".".to_owned()
        } else {
            path.to_owned()
        },
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn fixture(files: &[(&str, &str)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        directory
    }

    fn names(tree: &dyn Files, path: &str) -> Vec<String> {
        tree.list(path).unwrap().unwrap().into_iter().map(|e| e.name).collect()
    }

    #[test]
    fn a_directory_is_read_like_an_artifact() {
        let directory = fixture(&[
            ("a/x.yaml", "x"),
            ("b.yaml", "b"),
            (".git/config", ""),
            ("logo.png", ""),
        ]);
        let tree = Dir::open(directory.path(), None).unwrap();
        assert_eq!(names(&tree, ""), ["a", "b.yaml"]);
        assert_eq!(tree.stat("a").unwrap(), Some(FileKind::Dir));
        assert_eq!(tree.read("a/x.yaml").unwrap().as_deref(), Some(&b"x"[..]));
        assert_eq!(tree.read("a").unwrap(), None);
        assert_eq!(tree.stat("b.yaml/x").unwrap(), None);
        assert_eq!(tree.stat(".git/config").unwrap(), None);
        assert_eq!(tree.list("nothing").unwrap(), None);
        assert_eq!(
            tree.digest("b.yaml").unwrap().as_deref(),
            Some("sha256:3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d")
        );
    }

    #[test]
    fn nothing_outside_of_the_root_is_read() {
        let outside = fixture(&[("secret", "s")]);
        let directory = fixture(&[("inside", "i"), ("d/f", "f")]);
        symlink(outside.path().join("secret"), directory.path().join("link")).unwrap();
        symlink(outside.path(), directory.path().join("linked")).unwrap();
        symlink("inside", directory.path().join("alias")).unwrap();
        let tree = Dir::open(directory.path(), None).unwrap();
        assert_eq!(names(&tree, ""), ["d", "inside"]);
        for path in [
            "link",
            "linked/secret",
            "alias",
            "../secret",
            "d/../inside",
            "/etc/passwd",
            "d//f",
            "./d",
        ] {
            assert_eq!(tree.stat(path).unwrap(), None, "{path}");
            assert_eq!(tree.read(path).unwrap(), None, "{path}");
        }
    }

    #[test]
    fn sourceignore_files_apply_and_a_directory_with_something_taken_back_in_shows() {
        let directory = fixture(&[
            (".sourceignore", "/*\n!/deploy/prod\n"),
            ("deploy/prod/a", ""),
            ("deploy/dev/a", ""),
        ]);
        let tree = Dir::open(directory.path(), None).unwrap();
        assert_eq!(names(&tree, ""), ["deploy"]);
        assert_eq!(names(&tree, "deploy"), ["prod"]);
        let tree = Dir::open(directory.path(), Some("prod/")).unwrap();
        assert_eq!(names(&tree, ""), [] as [&str; 0]);
    }

    #[test]
    fn what_is_no_directory_is_refused() {
        let directory = fixture(&[("f", "")]);
        let error = |path: &str| Dir::open(&directory.path().join(path), None).err().unwrap().to_string();
        assert!(error("f").ends_with("/f: it is not a directory"), "{}", error("f"));
        assert!(error("g").contains("No such file or directory"), "{}", error("g"));
    }
}
