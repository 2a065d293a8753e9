//! From PATHs to units: what is built together and decided as one change.

use std::io::Read;
use std::path::{Path, PathBuf};

use super::flux;
use super::report::{Failure, Skipped};
use super::tree::{KUSTOMIZATION, Renderer, Tree, join, reach, work_tree};
use crate::api::kustomize::CommonMetadata;
use crate::core::snapshot::{FileKind, Files, FilesError};
use crate::plan::{Desired, Owner};
use crate::render::RenderRequest;
use crate::source::dir::MAX_FILE_BYTES;

/// Objects that are one change.
pub(super) struct Unit {
    /// The path, or the Flux Kustomization.
    pub(super) name: String,
    pub(super) objects: Vec<Desired>,
    /// What the Flux Kustomization adds, when it is one.
    pub(super) owner: Option<(Owner, Option<CommonMetadata>)>,
}

/// Units that go to one cluster: they see each other's objects.
#[derive(Default)]
pub(super) struct Group {
    pub(super) units: Vec<Unit>,
    pub(super) skipped: Vec<Skipped>,
}

/// Builds every path. What goes wrong is added to `errors`; the rest is built all the same.
pub(super) async fn gather(
    paths: &[PathBuf],
    root: Option<&Path>,
    renderer: &Renderer,
    errors: &mut Vec<Failure>,
) -> Vec<Group> {
    let mut groups = Vec::new();
    // Files that are named one by one are one change.
    let mut loose = Unit {
        name: "files".to_owned(),
        objects: Vec::new(),
        owner: None,
    };
    let mut named = Vec::new();
    for path in paths {
        let outcome = if path.as_os_str() == "-" {
            named.push("standard input".to_owned());
            stdin(renderer).await.map(|objects| loose.objects.extend(objects))
        } else if path.is_file() && !is_kustomization_file(path) {
            named.push(path.display().to_string());
            file(path, renderer).await.map(|objects| loose.objects.extend(objects))
        } else {
            let directory = if path.is_file() { parent(path) } else { path.as_path() };
            directory_groups(directory, root, renderer, errors)
                .await
                .map(|found| groups.extend(found))
        };
        if let Err(failure) = outcome {
            errors.push(failure);
        }
    }
    if !loose.objects.is_empty() {
        if let [only] = named.as_slice() {
            loose.name.clone_from(only);
        }
        let first = paths
            .iter()
            .find(|path| path.is_file())
            .map_or(Path::new("."), |path| parent(path));
        let kustomizations = flux::declared(&loose.objects, errors);
        let mut group = Group {
            units: vec![loose],
            skipped: Vec::new(),
        };
        if !kustomizations.is_empty() {
            let root = root.map(Path::to_owned).or_else(|| work_tree(first));
            match open(root.as_deref().unwrap_or(first)) {
                Ok(tree) => {
                    flux::follow(&mut group, kustomizations, &tree, renderer, errors).await;
                }
                Err(failure) => errors.push(failure),
            }
        }
        groups.insert(0, group);
    }
    groups
}

async fn stdin(renderer: &Renderer) -> Result<Vec<Desired>, Failure> {
    let mut content = Vec::new();
    std::io::stdin()
        .take(MAX_FILE_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(|error| Failure::new(format!("standard input cannot be read: {error}")))?;
    let objects = renderer.read("stdin", content).await;
    let objects = objects.map_err(|error| Failure::new(error.to_string()))?;
    if objects.is_empty() {
        return Err(Failure::new("standard input holds no Kubernetes object"));
    }
    Ok(objects)
}

async fn file(path: &Path, renderer: &Renderer) -> Result<Vec<Desired>, Failure> {
    let shown = path.display().to_string();
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("{shown}: {error}"));
    let size = std::fs::metadata(path).map_err(|error| failed(&error))?.len();
    if size > MAX_FILE_BYTES {
        return Err(failed(&format!(
            "{size} bytes are more than the {MAX_FILE_BYTES} that a file may have"
        )));
    }
    let content = std::fs::read(path).map_err(|error| failed(&error))?;
    let objects = renderer.read(&shown, content).await;
    let objects = objects.map_err(|error| Failure::new(error.to_string()))?;
    if objects.is_empty() {
        return Err(failed(&"holds no Kubernetes object"));
    }
    Ok(objects)
}

async fn directory_groups(
    path: &Path,
    root: Option<&Path>,
    renderer: &Renderer,
    errors: &mut Vec<Failure>,
) -> Result<Vec<Group>, Failure> {
    let shown = path.display();
    if let Err(error) = std::fs::read_dir(path) {
        return Err(Failure::new(format!(
            "{shown}: cannot be read: {error}; PATH is a directory or a file of manifests"
        )));
    }
    let has_kustomization = KUSTOMIZATION.iter().any(|name| path.join(name).is_file());
    let chosen = root.map(Path::to_owned).or_else(|| work_tree(path));
    let chosen = chosen.unwrap_or_else(|| {
        if has_kustomization {
            reach(path)
        } else {
            path.to_owned()
        }
    });
    let tree = open(&chosen)?;
    let directory = tree.relative(path).ok_or_else(|| {
        Failure::new(format!(
            "{shown}: lies outside of the root {}; give another --root",
            chosen.display()
        ))
    })?;
    let unreadable = |error: FilesError| Failure::new(error.to_string());
    if tree.files.stat(&directory).map_err(unreadable)?.is_none() {
        return Err(Failure::new(format!(
            "{shown}: is left out by a .sourceignore file or by what a GitRepository leaves out by default, so the cluster \
             would not see it either"
        )));
    }
    if !tree.is_kustomization(&directory).map_err(unreadable)? {
        let candidates = candidates(&tree, &directory, renderer, errors)
            .await
            .map_err(unreadable)?;
        if !candidates.is_empty() {
            let tree = repository(tree, path, &candidates, root.is_some());
            return Ok(flux::clusters(candidates, &tree, renderer, errors).await);
        }
    }
    let request = RenderRequest {
        path: directory,
        keep_encrypted: true,
        ..RenderRequest::default()
    };
    let objects = renderer.build(&tree, &request).await.map_err(|error| {
        let error = error.to_string();
        // Kustomize knows its root by this name only.
        let hint = if error.contains("outside of the repository") {
            format!("; the repository is {}, give a wider one with --root", chosen.display())
        } else {
            String::new()
        };
        Failure::new(format!("{error}{hint}"))
    })?;
    if objects.is_empty() {
        return Err(Failure::new(format!(
            "{shown}: holds no Kubernetes object, in no .yaml or .yml file; name the directory of the manifests"
        )));
    }
    let kustomizations = flux::declared(&objects, errors);
    let mut group = Group {
        units: vec![Unit {
            name: shown.to_string(),
            objects,
            owner: None,
        }],
        skipped: Vec::new(),
    };
    flux::follow(&mut group, kustomizations, &tree, renderer, errors).await;
    Ok(vec![group])
}

/// Flux Kustomizations in the YAML files of a directory, each with its place. Files that only look like one, such as
/// patches, are left out.
async fn candidates(
    tree: &Tree,
    directory: &str,
    renderer: &Renderer,
    errors: &mut Vec<Failure>,
) -> Result<Vec<flux::Found>, FilesError> {
    let (mut found, mut open) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(at) = open.pop() {
        for entry in tree.files.list(&at)?.unwrap_or_default() {
            let path = join(&at, &entry.name);
            match entry.kind {
                FileKind::Dir => open.push(path),
                FileKind::File if path.ends_with(".yaml") || path.ends_with(".yml") => {
                    let content = tree.files.read(&path)?.unwrap_or_default();
                    if !flux::looks_like_one(&content) {
                        continue;
                    }
                    match renderer.decode(&tree.show(&path), content).await {
                        Ok(objects) => found.extend(flux::written(&objects)),
                        Err(error) => errors.push(Failure::new(error.to_string())),
                    }
                }
                FileKind::File => {}
            }
        }
    }
    found.sort_by(|left, right| left.place.cmp(&right.place));
    Ok(found)
}

/// The root that `spec.path` begins at: the work tree, unless PATH itself fits better, as a repository that is kept inside
/// of another one does.
fn repository(tree: Tree, path: &Path, candidates: &[flux::Found], fixed: bool) -> Tree {
    if fixed {
        return tree;
    }
    let Ok(inner) = Tree::open(path) else { return tree };
    let fits = |tree: &Tree| {
        let exists = |found: &&flux::Found| matches!(tree.files.stat(&found.path()), Ok(Some(FileKind::Dir)));
        candidates.iter().filter(exists).count()
    };
    if fits(&inner) > fits(&tree) { inner } else { tree }
}

fn open(root: &Path) -> Result<Tree, Failure> {
    Tree::open(root).map_err(|error| Failure::new(error.to_string()))
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn is_kustomization_file(path: &Path) -> bool {
    path.file_name()
        .is_some_and(|name| KUSTOMIZATION.iter().any(|known| name == *known))
}
