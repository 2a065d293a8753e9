//! One copy operation, as `cp` would do it.
//!
//! A file goes to the path, or into it when that ends in `/` or is a directory; a directory goes into the path by its name;
//! what a glob matches goes below the path: with its whole path, or, for `directory/**`, with what is below the directory.

use std::collections::HashMap;
use std::sync::Arc;

use super::glob::{Glob, base, is_glob};
use super::{ComposeError, Composed, Content, Tools};
use crate::api::extensions::{CopyOperation, CopyStrategy};
use crate::core::snapshot::{FileKind, Files, FilesError};
use crate::source::artifact::{MAX_DEPTH, join};
use crate::source::layers::clean;

/// What names of archives that can be extracted end in.
const ARCHIVES: [&str; 2] = [".tar.gz", ".tgz"];

struct Work<'a> {
    operation: &'a CopyOperation,
    files: Arc<dyn Files>,
    /// What is copied, relative to the source.
    from: String,
    /// Where to, relative to the result.
    to: String,
    excluded: Vec<Glob>,
    tools: &'a dyn Tools,
}

pub(super) fn carry_out(
    operation: &CopyOperation,
    sources: &HashMap<String, Arc<dyn Files>>,
    tools: &dyn Tools,
    into: &mut Composed,
) -> Result<(), ComposeError> {
    let work = prepare(operation, sources, tools).map_err(|reason| failed(operation, reason))?;
    if is_glob(&work.from) {
        return work.globbed(into);
    }
    match work.files.stat(&work.from)? {
        None => Err(work.failed(format!("source '{}' does not exist", work.from))),
        Some(FileKind::Dir) if work.strategy() == CopyStrategy::Extract => Err(work.failed(format!(
            "'{}' is a directory, and only files can be extracted",
            work.from
        ))),
        Some(FileKind::Dir) => {
            let name = work.from.rsplit('/').next().unwrap_or_default();
            let to = match name {
                "" => work.to.clone(),
                name => join(&work.to, name),
            };
            let base = work.from.clone();
            work.directory(&work.from, &to, &base, 0, into)
        }
        Some(FileKind::File) if work.is_excluded(&work.from, "") => Ok(()),
        Some(FileKind::File) if work.strategy() == CopyStrategy::Extract => {
            if !is_archive(&work.from) {
                return Err(work.failed(format!("'{}' is no .tar.gz or .tgz", work.from)));
            }
            work.extract(&work.from, into)
        }
        Some(FileKind::File) => {
            let name = work.from.rsplit('/').next().unwrap_or_default();
            let inside = operation.to.ends_with('/') || into.is_directory(&work.to);
            let to = if inside { join(&work.to, name) } else { work.to.clone() };
            work.file(&work.from, &to, into)
        }
    }
}

fn prepare<'a>(
    operation: &'a CopyOperation,
    sources: &HashMap<String, Arc<dyn Files>>,
    tools: &'a dyn Tools,
) -> Result<Work<'a>, String> {
    let (alias, from) = operation
        .from
        .strip_prefix('@')
        .and_then(|rest| rest.split_once('/'))
        .ok_or("what is copied is written as '@alias/path'")?;
    let files = sources
        .get(alias)
        .ok_or_else(|| format!("source alias '{alias}' not found"))?;
    let to = operation
        .to
        .strip_prefix("@artifact/")
        .ok_or("where it is copied to is written as '@artifact/path'")?;
    let inside = |path: &str| match clean(path) {
        Some(clean) if !path.split('/').any(|part| part == "..") => Ok(clean),
        _ => Err(format!("'{path}' leads out of it")),
    };
    let excluded = operation.exclude.iter().flatten().map(|glob| Glob::new(glob));
    Ok(Work {
        operation,
        files: Arc::clone(files),
        from: inside(from)?,
        to: inside(to)?,
        excluded: excluded.collect::<Result<_, _>>()?,
        tools,
    })
}

impl Work<'_> {
    fn strategy(&self) -> CopyStrategy {
        self.operation.strategy.unwrap_or_default()
    }

    fn failed(&self, reason: String) -> ComposeError {
        failed(self.operation, reason)
    }

    fn is_excluded(&self, path: &str, base: &str) -> bool {
        self.excluded.iter().any(|glob| glob.excludes(path, base))
    }

    /// Everything that the glob matches.
    fn globbed(&self, into: &mut Composed) -> Result<(), ComposeError> {
        let glob = Glob::new(&self.from).map_err(|reason| self.failed(reason))?;
        let (base, mut found) = (base(&self.from), Found::default());
        self.search(&base, &base, &glob, 0, &mut found)?;
        if found.taken.is_empty() {
            let reason = if found.excluded {
                format!("everything that matches '{}' is excluded", self.from)
            } else {
                format!("nothing matches '{}'", self.from)
            };
            return Err(self.failed(reason));
        }
        let below = self.from.strip_suffix("/**").map(|directory| format!("{directory}/"));
        for (path, kind) in found.taken {
            let rest = below
                .as_deref()
                .and_then(|below| path.strip_prefix(below))
                .unwrap_or(&path);
            let to = join(&self.to, rest);
            match kind {
                FileKind::File if self.strategy() == CopyStrategy::Extract => {
                    if is_archive(&path) {
                        self.extract(&path, into)?;
                    }
                }
                FileKind::Dir if self.strategy() == CopyStrategy::Extract => {}
                FileKind::File => self.file(&path, &to, into)?,
                FileKind::Dir => self.directory(&path, &to, &base, 0, into)?,
            }
        }
        Ok(())
    }

    /// What the glob matches below a directory. What is in a directory that it matches is copied with it.
    fn search(
        &self,
        directory: &str,
        base: &str,
        glob: &Glob,
        depth: usize,
        found: &mut Found,
    ) -> Result<(), ComposeError> {
        for entry in self.list(directory, depth)? {
            let path = join(directory, &entry.name);
            if self.is_excluded(&path, base) {
                found.excluded |= glob.matches(&path);
                continue;
            }
            // An archive is looked for in directories too, never taken as part of one.
            let whole = entry.kind == FileKind::File || self.strategy() != CopyStrategy::Extract;
            if whole && glob.matches(&path) {
                found.taken.push((path, entry.kind));
            } else if entry.kind == FileKind::Dir {
                self.search(&path, base, glob, depth + 1, found)?;
            }
        }
        Ok(())
    }

    fn directory(
        &self,
        from: &str,
        to: &str,
        base: &str,
        depth: usize,
        into: &mut Composed,
    ) -> Result<(), ComposeError> {
        for entry in self.list(from, depth)? {
            let (path, to) = (join(from, &entry.name), join(to, &entry.name));
            if self.is_excluded(&path, base) {
                continue;
            }
            match entry.kind {
                FileKind::File => self.file(&path, &to, into)?,
                FileKind::Dir => self.directory(&path, &to, base, depth + 1, into)?,
            }
        }
        Ok(())
    }

    fn list(&self, directory: &str, depth: usize) -> Result<Vec<crate::core::snapshot::DirEntry>, ComposeError> {
        if depth > MAX_DEPTH {
            return Err(self.failed(format!("more than {MAX_DEPTH} nested directories")));
        }
        Ok(self.files.list(directory)?.unwrap_or_default())
    }

    fn file(&self, from: &str, to: &str, into: &mut Composed) -> Result<(), ComposeError> {
        if to.is_empty() {
            return Err(self.failed("the root of the artifact is no file".to_owned()));
        }
        if self.strategy() == CopyStrategy::Merge
            && let Some(below) = into.content(to)?
        {
            let above = self.read(from)?;
            let merged = self.tools.merge(&below, &above);
            let merged =
                merged.map_err(|reason| self.failed(format!("'{from}' cannot be merged into '{to}': {reason}")))?;
            return into.put(to, Content::Made(Arc::new(merged)));
        }
        into.put(to, Content::At(Arc::clone(&self.files), from.to_owned()))
    }

    fn extract(&self, from: &str, into: &mut Composed) -> Result<(), ComposeError> {
        let unpacked = self.tools.extract(&self.read(from)?);
        let unpacked = unpacked.map_err(|reason| self.failed(format!("'{from}': {reason}")))?;
        self.extracted(&unpacked, "", 0, into)
    }

    fn extracted(
        &self,
        unpacked: &Arc<dyn Files>,
        directory: &str,
        depth: usize,
        into: &mut Composed,
    ) -> Result<(), ComposeError> {
        if depth > MAX_DEPTH {
            return Err(self.failed(format!("more than {MAX_DEPTH} nested directories")));
        }
        for entry in unpacked.list(directory)?.unwrap_or_default() {
            let path = join(directory, &entry.name);
            match entry.kind {
                FileKind::File => {
                    let content = Content::At(Arc::clone(unpacked), path.clone());
                    into.put(&join(&self.to, &path), content)?;
                }
                FileKind::Dir => self.extracted(unpacked, &path, depth + 1, into)?,
            }
        }
        Ok(())
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, ComposeError> {
        let content = self.files.read(path)?;
        content.ok_or_else(|| {
            ComposeError::Files(FilesError {
                path: path.to_owned(),
                reason: "it is listed and yet missing".to_owned(),
            })
        })
    }
}

/// What a glob found.
#[derive(Default)]
struct Found {
    taken: Vec<(String, FileKind)>,
    /// Whether something would have been taken that is excluded.
    excluded: bool,
}

fn is_archive(path: &str) -> bool {
    ARCHIVES.iter().any(|suffix| path.ends_with(suffix))
}

fn failed(operation: &CopyOperation, reason: String) -> ComposeError {
    ComposeError::Operation {
        from: operation.from.clone(),
        to: operation.to.clone(),
        reason,
    }
}
