//! The room against the real worker, built from `renderer/`. Here is what its tests share.

mod outcomes;
mod processes;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, mpsc};
use std::time::Duration;

use super::*;
use crate::core::snapshot::{DirEntry, FileKind, Files};

/// The worker: `WEIR_RENDERER`, or what `hack/tool renderer` builds and prints the path of.
fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("WEIR_RENDERER") {
        return program.into();
    }
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/tool");
    let built = Command::new(&tool).arg("renderer").output().unwrap_or_else(|e| {
        panic!(
            "build renderer/ and name it in WEIR_RENDERER, or have {} do it: {e}",
            tool.display()
        )
    });
    assert!(
        built.status.success(),
        "hack/tool renderer: {}",
        String::from_utf8_lossy(&built.stderr)
    );
    let path = String::from_utf8(built.stdout).unwrap();
    path.lines().last().expect("hack/tool renderer printed no path").into()
}

fn pool() -> Pool {
    Pool::new(Options::new(program()))
}

type Hook = Box<dyn Fn(&str) + Send + Sync>;

/// A tree in memory. `on_read` runs in the middle of a build, when a file is read.
#[derive(Default)]
struct Tree {
    files: BTreeMap<String, String>,
    on_read: Option<Hook>,
    broken: Option<&'static str>,
}

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let files = files.iter().map(|(p, c)| ((*p).to_owned(), (*c).to_owned())).collect();
        Self {
            files,
            ..Self::default()
        }
    }

    fn with(mut self, path: &str, content: &str) -> Self {
        self.files.insert(path.to_owned(), content.to_owned());
        self
    }

    fn without(mut self, path: &str) -> Self {
        assert!(self.files.remove(path).is_some());
        self
    }

    fn on_read(mut self, f: impl Fn(&str) + Send + Sync + 'static) -> Self {
        self.on_read = Some(Box::new(f));
        self
    }

    fn names(&self, dir: &str) -> BTreeMap<String, FileKind> {
        let prefix = if dir.is_empty() {
            String::new()
        } else {
            format!("{dir}/")
        };
        let below = self.files.keys().filter_map(|p| p.strip_prefix(&prefix));
        below
            .map(|rest| match rest.split_once('/') {
                Some((name, _)) => (name.to_owned(), FileKind::Dir),
                None => (rest.to_owned(), FileKind::File),
            })
            .collect()
    }
}

impl Files for Tree {
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
        if self.files.contains_key(path) {
            return Ok(Some(FileKind::File));
        }
        Ok((path.is_empty() || !self.names(path).is_empty()).then_some(FileKind::Dir))
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        if self.broken == Some(path) {
            let reason = "the disk is on fire".to_owned();
            return Err(FilesError {
                path: path.to_owned(),
                reason,
            });
        }
        if let Some(f) = &self.on_read {
            f(path);
        }
        Ok(self.files.get(path).map(|c| c.clone().into_bytes()))
    }

    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        if self.stat(path)? != Some(FileKind::Dir) {
            return Ok(None);
        }
        let entry = |(name, kind)| DirEntry { name, kind };
        Ok(Some(self.names(path).into_iter().map(entry).collect()))
    }

    fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
        Ok(self.files.get(path).map(|c| format!("digest of {c}")))
    }
}

const CONFIG_MAP: &str =
    "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  colour: ${colour:=red}\n";

/// Has a deprecated field, for the sake of its warning.
const PROD: &str = "resources:\n- ../base\ncommonLabels:\n  team: a\n";

fn app() -> Tree {
    Tree::new(&[
        ("base/kustomization.yaml", "resources:\n- settings.yaml\n"),
        ("base/settings.yaml", CONFIG_MAP),
        ("prod/kustomization.yaml", PROD),
        ("unrelated/readme.md", "hello"),
    ])
}

fn at(path: &str) -> RenderRequest {
    RenderRequest {
        path: path.to_owned(),
        ..RenderRequest::default()
    }
}
