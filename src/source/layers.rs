//! A tree that is put together: a commit limited to some directories, with other trees mounted into it (submodules,
//! included repositories), and the ignore rules over all of it.
//!
//! Guarantees: shows exactly what Flux's work tree would hold at that point; nothing is copied. A plain commit does not come
//! here: `tree` then knows by tree id what did not change, while here every ignore file is looked for in each revision.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex};

use super::artifact::{Archivable, MAX_DEPTH, MAX_ENTRIES, join};
use super::dir::is_plain;
use super::git_repo::lock;
use super::ignore::{IGNORE_FILE, MAX_IGNORE_BYTES, Rules, Summary};
use crate::core::snapshot::{DirEntry, FileKind, Files, FilesError};

/// A tree that is seen below a directory of another.
#[derive(Clone)]
pub struct Mount {
    /// Where it is seen.
    pub path: String,
    /// The directory of it that is seen there; empty for all.
    pub from: String,
    /// The tree.
    pub files: Arc<dyn Files>,
}

impl fmt::Debug for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mount")
            .field("path", &self.path)
            .field("from", &self.from)
            .finish_non_exhaustive()
    }
}

/// Trees laid over each other, nothing left out.
pub(super) struct Layers {
    base: Arc<dyn Files>,
    /// The directories that the base is limited to; all of it when empty.
    sparse: Vec<String>,
    mounts: Vec<Mount>,
}

/// The same without what the ignore rules exclude.
pub struct Layered {
    layers: Layers,
    rules: Rules,
    /// Whether an excluded directory shows because something below is taken back in.
    reincluded: Mutex<HashMap<String, bool>>,
}

/// Reads a path of a spec: relative, without `.`, `..` and empty parts. `None` when it leads out of the tree.
#[must_use]
pub fn clean(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part if is_plain(part) => parts.push(part),
            _ => return None,
        }
    }
    Some(parts.join("/"))
}

impl Layers {
    pub(super) fn new(base: Arc<dyn Files>, sparse: Vec<String>) -> Self {
        Self {
            base,
            sparse,
            mounts: Vec::new(),
        }
    }

    /// Mounts a tree. Later mounts lie over earlier ones.
    pub(super) fn mount(&mut self, mount: Mount) {
        self.mounts.push(mount);
    }

    /// Whether a path of the base is part of it.
    pub(super) fn keeps(&self, path: &str) -> bool {
        let above = |dir: &str| path.is_empty() || below(dir, path).is_some();
        self.sparse.is_empty()
            || self
                .sparse
                .iter()
                .any(|dir| dir.is_empty() || below(path, dir).is_some() || above(dir))
    }

    /// The tree that answers for a path, and the path in it.
    fn answering(&self, path: &str) -> Option<(&dyn Files, String)> {
        for mount in self.mounts.iter().rev() {
            if let Some(rest) = below(path, &mount.path) {
                let inside = match (mount.from.as_str(), rest) {
                    ("", rest) => rest.to_owned(),
                    (from, "") => from.to_owned(),
                    (from, rest) => format!("{from}/{rest}"),
                };
                return Some((mount.files.as_ref(), inside));
            }
        }
        self.keeps(path).then(|| (self.base.as_ref(), path.to_owned()))
    }

    /// Names right below a directory that only mounts bring there.
    fn mounted_below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = &'a str> {
        self.mounts
            .iter()
            .filter_map(move |mount| below(&mount.path, path)?.split('/').next())
            .filter(|name| !name.is_empty())
    }

    /// Whether a path of the base that is above a sparse directory has something of it: `a` for `a/b`, when there is `a/b`.
    fn is_there(&self, path: &str, kind: FileKind) -> bool {
        self.sparse.is_empty()
            || path.is_empty()
            || self.sparse.iter().any(|dir| dir.is_empty() || below(path, dir).is_some())
            // Files above the directories are not checked out.
            || kind == FileKind::Dir
    }
}

/// What is left of a path below a directory; empty for the directory itself.
fn below<'a>(path: &'a str, directory: &str) -> Option<&'a str> {
    if directory.is_empty() {
        return Some(path);
    }
    let rest = path.strip_prefix(directory)?;
    if rest.is_empty() {
        Some("")
    } else {
        rest.strip_prefix('/')
    }
}

impl Files for Layers {
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
        if self.mounted_below(path).next().is_some() {
            return Ok(Some(FileKind::Dir));
        }
        let Some((files, inside)) = self.answering(path) else {
            return Ok(None);
        };
        let found = files.stat(&inside)?;
        Ok(found.filter(|kind| self.is_mounted(path) || self.is_there(path, *kind)))
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        match self.answering(path) {
            Some((files, inside)) if self.stat(path)? == Some(FileKind::File) => files.read(&inside),
            _ => Ok(None),
        }
    }

    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        if self.stat(path)? != Some(FileKind::Dir) {
            return Ok(None);
        }
        let mut found = BTreeMap::new();
        if let Some((files, inside)) = self.answering(path) {
            for entry in files.list(&inside)?.unwrap_or_default() {
                let child = join(path, &entry.name);
                if self.is_mounted(path) || self.keeps(&child) && self.is_there(&child, entry.kind) {
                    found.insert(entry.name, entry.kind);
                }
            }
        }
        for name in self.mounted_below(path) {
            found.insert(name.to_owned(), FileKind::Dir);
        }
        let entries = found.into_iter().map(|(name, kind)| DirEntry { name, kind });
        Ok(Some(entries.collect()))
    }

    fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
        match self.answering(path) {
            Some((files, inside)) if self.stat(path)? == Some(FileKind::File) => files.digest(&inside),
            _ => Ok(None),
        }
    }

    fn is_executable(&self, path: &str) -> Result<bool, FilesError> {
        match self.answering(path) {
            Some((files, inside)) => files.is_executable(&inside),
            None => Ok(false),
        }
    }
}

impl Layers {
    fn is_mounted(&self, path: &str) -> bool {
        self.mounts.iter().any(|mount| below(path, &mount.path).is_some())
    }
}

impl Layered {
    /// Lays the ignore rules over trees.
    ///
    /// # Errors
    /// When they cannot be read or are larger than an artifact may be.
    pub(super) fn new(layers: Layers, ignore: Option<&str>) -> Result<Self, FilesError> {
        let mut seen = 0;
        let summary = summarise(&layers, "", 0, &mut seen)?;
        Ok(Self {
            layers,
            rules: Rules::new(ignore, summary),
            reincluded: Mutex::default(),
        })
    }

    fn excluded(&self, path: &str, is_dir: bool) -> Result<bool, FilesError> {
        self.rules
            .excludes(path, is_dir, |directory| read_ignore(&self.layers, directory))
    }

    fn reincludes(&self, path: &str, depth: usize) -> Result<bool, FilesError> {
        if !self.rules.may_reinclude() || depth > MAX_DEPTH {
            return Ok(false);
        }
        if let Some(known) = lock(&self.reincluded).get(path) {
            return Ok(*known);
        }
        let mut answer = false;
        for entry in self.layers.list(path)?.unwrap_or_default() {
            let child = join(path, &entry.name);
            let is_dir = entry.kind == FileKind::Dir;
            answer = !self.excluded(&child, is_dir)? || is_dir && self.reincludes(&child, depth + 1)?;
            if answer {
                break;
            }
        }
        lock(&self.reincluded).insert(path.to_owned(), answer);
        Ok(answer)
    }

    fn is_shown(&self, path: &str, kind: FileKind) -> Result<bool, FilesError> {
        let is_dir = kind == FileKind::Dir;
        Ok(path.is_empty() || !self.excluded(path, is_dir)? || is_dir && self.reincludes(path, 0)?)
    }

    fn is_file(&self, path: &str) -> Result<bool, FilesError> {
        Ok(self.stat(path)? == Some(FileKind::File))
    }
}

impl Files for Layered {
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
        match self.layers.stat(path)? {
            Some(kind) if self.is_shown(path, kind)? => Ok(Some(kind)),
            _ => Ok(None),
        }
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        if self.is_file(path)? {
            self.layers.read(path)
        } else {
            Ok(None)
        }
    }

    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        if self.stat(path)? != Some(FileKind::Dir) {
            return Ok(None);
        }
        let mut shown = Vec::new();
        for entry in self.layers.list(path)?.unwrap_or_default() {
            if self.is_shown(&join(path, &entry.name), entry.kind)? {
                shown.push(entry);
            }
        }
        Ok(Some(shown))
    }

    fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
        if self.is_file(path)? {
            self.layers.digest(path)
        } else {
            Ok(None)
        }
    }

    fn is_executable(&self, path: &str) -> Result<bool, FilesError> {
        Ok(self.is_file(path)? && self.layers.is_executable(path)?)
    }
}

impl Archivable for Layered {
    fn read_executable(&self, path: &str) -> Result<Option<(Vec<u8>, bool)>, FilesError> {
        match self.read(path)? {
            Some(content) => Ok(Some((content, self.layers.is_executable(path)?))),
            None => Ok(None),
        }
    }
}

fn summarise(layers: &Layers, path: &str, depth: usize, seen: &mut usize) -> Result<Summary, FilesError> {
    let too_large = |reason: String| FilesError {
        path: if path.is_empty() {
            ".".to_owned()
        } else {
            path.to_owned()
        },
        reason,
    };
    if depth > MAX_DEPTH {
        return Err(too_large(format!("directories are nested deeper than {MAX_DEPTH}")));
    }
    let mut summary = read_ignore(layers, path)?.map_or_else(Summary::default, |text| Summary::of(&text));
    for entry in layers.list(path)?.unwrap_or_default() {
        *seen += 1;
        if *seen > MAX_ENTRIES {
            return Err(too_large(format!("there are more than {MAX_ENTRIES} files")));
        }
        if entry.kind == FileKind::Dir {
            summary = summary.and(summarise(layers, &join(path, &entry.name), depth + 1, seen)?);
        }
    }
    Ok(summary)
}

fn read_ignore(layers: &Layers, directory: &str) -> Result<Option<String>, FilesError> {
    let path = join(directory, IGNORE_FILE);
    let Some(text) = layers.read(&path)? else {
        return Ok(None);
    };
    if text.len() > MAX_IGNORE_BYTES {
        let reason = format!("it is larger than {MAX_IGNORE_BYTES} bytes");
        return Err(FilesError { path, reason });
    }
    Ok(Some(String::from_utf8_lossy(&text).into_owned()))
}

#[cfg(test)]
mod tests;
