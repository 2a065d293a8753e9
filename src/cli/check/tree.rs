//! Files on the disk and the render worker, put together: a directory, one file or what came through a pipe becomes
//! objects that know the file and line they were declared in, named as the user would name them.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::core::object::Object;
use crate::core::snapshot::{FileKind, Files, FilesError};
use crate::plan::Desired;
use crate::render::{Place, Pool, RenderError, RenderRequest, Rendered};
use crate::source::dir::Dir;
use crate::source::one::One;

/// File names that make a directory a kustomization.
pub(super) const KUSTOMIZATION: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// A directory of the disk as the root of a repository.
#[derive(Clone)]
pub(super) struct Tree {
    pub(super) files: Arc<Dir>,
    /// Canonical.
    pub(super) root: PathBuf,
    /// What stands before a path of the tree when it is shown.
    shown: Shown,
}

#[derive(Clone)]
enum Shown {
    Here,
    /// The working directory is this far below the root.
    Above(PathBuf),
    Prefix(PathBuf),
}

impl Tree {
    pub(super) fn open(root: &Path) -> Result<Self, FilesError> {
        let files = Arc::new(Dir::open(root, None)?);
        let root = std::fs::canonicalize(root).unwrap_or_else(|_| root.to_owned());
        let here = std::env::current_dir()
            .and_then(std::fs::canonicalize)
            .unwrap_or_default();
        let shown = if let Ok(below) = here.strip_prefix(&root) {
            if below.as_os_str().is_empty() {
                Shown::Here
            } else {
                Shown::Above(below.to_owned())
            }
        } else {
            Shown::Prefix(root.strip_prefix(&here).unwrap_or(&root).to_owned())
        };
        Ok(Self { files, root, shown })
    }

    /// A path of the tree as it is reached from the working directory.
    pub(super) fn show(&self, path: &str) -> String {
        let shown = match &self.shown {
            Shown::Here => PathBuf::from(path),
            Shown::Prefix(prefix) => prefix.join(path),
            Shown::Above(below) => {
                let mut up = PathBuf::new();
                let mut rest = below.as_path();
                while Path::new(path).strip_prefix(rest).is_err() {
                    up.push("..");
                    rest = rest.parent().unwrap_or(Path::new(""));
                }
                up.join(Path::new(path).strip_prefix(rest).unwrap_or(Path::new(path)))
            }
        };
        let shown = shown.display().to_string();
        if shown.is_empty() { ".".to_owned() } else { shown }
    }

    /// A path of the disk as a path of the tree; `None` when it lies outside.
    pub(super) fn relative(&self, path: &Path) -> Option<String> {
        let path = std::fs::canonicalize(path).ok()?;
        let parts = path.strip_prefix(&self.root).ok()?.components();
        let parts: Option<Vec<&str>> = parts.map(|part| part.as_os_str().to_str()).collect();
        Some(parts?.join("/"))
    }

    /// Whether a directory of the tree is a kustomization.
    pub(super) fn is_kustomization(&self, directory: &str) -> Result<bool, FilesError> {
        for name in KUSTOMIZATION {
            if self.files.stat(&join(directory, name))? == Some(FileKind::File) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

pub(super) fn join(directory: &str, name: &str) -> String {
    if directory.is_empty() {
        name.to_owned()
    } else {
        format!("{directory}/{name}")
    }
}

/// The render worker.
pub(super) struct Renderer {
    pool: Pool,
}

impl Renderer {
    pub(super) fn new(pool: Pool) -> Self {
        Self { pool }
    }

    /// Builds a directory of a tree.
    pub(super) async fn build(&self, tree: &Tree, request: &RenderRequest) -> Result<Vec<Desired>, RenderError> {
        let files: Arc<dyn Files> = Arc::<Dir>::clone(&tree.files);
        let show = |path: &str| tree.show(if path == "." { "" } else { path });
        match self.pool.render(request, files).await {
            Ok(rendered) => Ok(objects(rendered, show)),
            Err(error) => Err(relocated(error, show)),
        }
    }

    /// Reads one document stream without building it. What is no object is left out.
    pub(super) async fn decode(&self, name: &str, content: Vec<u8>) -> Result<Vec<Desired>, RenderError> {
        let documents = self.pool.decode(content).await.map_err(|error| error.in_file(name))?;
        let objects = documents.into_iter().filter_map(|document| {
            Some(Desired {
                object: Object::new(document.value).ok()?,
                file: Some(name.to_owned()),
                line: Some(document.line),
            })
        });
        Ok(objects.collect())
    }

    /// Builds one document stream as a directory that holds only it; `name` is what it is called.
    pub(super) async fn read(&self, name: &str, content: Vec<u8>) -> Result<Vec<Desired>, RenderError> {
        let show = |_: &str| name.to_owned();
        match self
            .pool
            .render(&RenderRequest::default(), Arc::new(One::new(content)))
            .await
        {
            Ok(rendered) => Ok(objects(rendered, show)),
            Err(error) => Err(relocated(error, show)),
        }
    }
}

fn objects(rendered: Rendered, show: impl Fn(&str) -> String) -> Vec<Desired> {
    let desired = rendered.objects.into_iter().map(|one| Desired {
        object: one.object,
        file: one.file.as_deref().map(&show),
        line: one.line,
    });
    desired.collect()
}

/// Says where in the words of the user.
fn relocated(error: RenderError, show: impl Fn(&str) -> String) -> RenderError {
    let moved = |place: Place| Place {
        path: place.path.as_deref().map(&show),
        line: place.line,
    };
    match error {
        RenderError::NotFound(path) => RenderError::NotFound(show(&path)),
        RenderError::Invalid {
            message,
            place,
            kustomize,
        } => RenderError::Invalid {
            message,
            place: moved(place),
            kustomize,
        },
        RenderError::TooLarge {
            what,
            limit,
            message,
            place,
        } => RenderError::TooLarge {
            what,
            limit,
            message,
            place: moved(place),
        },
        other => other,
    }
}

/// The Git work tree around a directory.
pub(super) fn work_tree(directory: &Path) -> Option<PathBuf> {
    let directory = std::fs::canonicalize(directory).ok()?;
    directory
        .ancestors()
        .find(|ancestor| ancestor.join(".git").exists())
        .map(Path::to_owned)
}

/// The directory that holds everything a kustomization refers to, for kustomizations outside of Git: what they name with
/// `../` and what that names in turn.
pub(super) fn reach(directory: &Path) -> PathBuf {
    /// More kustomizations than this are looked at by nobody; what lies beyond is then reported as missing.
    const MAX: usize = 1_000;
    let start = std::fs::canonicalize(directory).unwrap_or_else(|_| directory.to_owned());
    let (mut root, mut seen, mut open) = (start.clone(), vec![start.clone()], vec![start]);
    while let Some(at) = open.pop() {
        let files = KUSTOMIZATION
            .iter()
            .filter_map(|name| std::fs::read_to_string(at.join(name)).ok());
        for text in files {
            let words = text.split(|c: char| c.is_whitespace() || "\"'[],{}".contains(c));
            for word in words.filter(|word| word.contains('/') || !word.is_empty()) {
                let target = plain(&at.join(word));
                if word.starts_with("../") || word == ".." {
                    while !target.starts_with(&root) {
                        root = root.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
                    }
                }
                if target.is_dir() && !seen.contains(&target) && seen.len() < MAX {
                    seen.push(target.clone());
                    open.push(target);
                }
            }
        }
    }
    root
}

/// The path without `.` and `..`, whether or not it exists.
fn plain(path: &Path) -> PathBuf {
    let mut found = PathBuf::new();
    for part in path.components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => {
                found.pop();
            }
            part => found.push(part),
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kustomization_refers_to_is_reached() {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(directory.path()).unwrap();
        for (path, text) in [
            ("a/overlays/prod/kustomization.yaml", "resources: [../../base]"),
            (
                "a/base/kustomization.yaml",
                "resources:\n- ../../shared/x.yaml\n- below",
            ),
            ("a/base/below/kustomization.yaml", "{}"),
            ("shared/x.yaml", ""),
            ("alone/kustomization.yaml", "resources: [x.yaml]"),
        ] {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        assert_eq!(reach(&root.join("a/overlays/prod")), root);
        assert_eq!(reach(&root.join("alone")), root.join("alone"));
    }
}
