//! What a GitRepository's tree is made of beyond its commit: submodules are fetched, included repositories mounted, the
//! rest left out that `spec.sparseCheckout` does not name.
//!
//! Guarantees: credentials are shown to submodules on the same host only; a submodule whose commit is here costs no
//! request; repositories of submodules that are gone are deleted.

use std::sync::Arc;

use git2::Oid;
use sha2::{Digest, Sha256};

use super::artifact::{Archivable, hex, join};
use super::git::{FetchRequest, Shape, Source, fetch_into};
use super::git_attempt::local;
use super::git_auth::{Credentials, Tls};
use super::git_error::FetchError;
use super::git_modules::{MAX_MODULES, MAX_NESTING, parse};
use super::git_remote::Bounds;
use super::git_url;
use super::layers::{Layered, Layers, Mount, clean};
use super::tree::{GitTree, Showing};
use crate::api::source::GitRef;
use crate::core::snapshot::{DirEntry, FileKind, Files, FilesError};

/// The file that names submodules.
const GITMODULES: &str = ".gitmodules";

/// Bytes of the digest of an address that name its repository on disk.
const NAME_BYTES: usize = 16;

/// The files of a source.
pub enum SourceTree {
    /// A commit.
    Plain(GitTree),
    /// The commit of that id and more, or less.
    Layered(String, Layered),
}

impl SourceTree {
    /// The id of the commit.
    #[must_use]
    pub fn commit(&self) -> &str {
        match self {
            Self::Plain(tree) => tree.commit(),
            Self::Layered(commit, _) => commit,
        }
    }

    fn files(&self) -> &dyn Archivable {
        match self {
            Self::Plain(tree) => tree,
            Self::Layered(_, tree) => tree,
        }
    }
}

impl Files for SourceTree {
    fn stat(&self, path: &str) -> Result<Option<FileKind>, FilesError> {
        self.files().stat(path)
    }

    fn read(&self, path: &str) -> Result<Option<Vec<u8>>, FilesError> {
        self.files().read(path)
    }

    fn list(&self, path: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        self.files().list(path)
    }

    fn digest(&self, path: &str) -> Result<Option<String>, FilesError> {
        self.files().digest(path)
    }

    fn is_executable(&self, path: &str) -> Result<bool, FilesError> {
        self.files().is_executable(path)
    }
}

impl Archivable for SourceTree {
    fn below(&self, path: &str) -> Result<Option<String>, FilesError> {
        self.files().below(path)
    }

    fn identity(&self, path: &str) -> Result<Option<(String, bool)>, FilesError> {
        self.files().identity(path)
    }

    fn read_executable(&self, path: &str) -> Result<Option<(Vec<u8>, bool)>, FilesError> {
        self.files().read_executable(path)
    }
}

/// Puts the tree of one fetch together.
pub(super) struct Composer<'a> {
    pub(super) source: &'a Source,
    pub(super) request: &'a FetchRequest,
    pub(super) bounds: &'a Bounds,
    pub(super) still_ours: &'a dyn Fn() -> bool,
}

impl Composer<'_> {
    /// From the commit to the tree that the spec asks for.
    pub(super) fn compose(&self, tree: GitTree) -> Result<SourceTree, FetchError> {
        let shape = &self.request.shape;
        if shape.is_plain() {
            return Ok(SourceTree::Plain(tree));
        }
        let tree = Arc::new(tree);
        let mut layers = Layers::new(Arc::clone(&tree) as Arc<dyn Files>, sparse(shape, tree.as_ref())?);
        let mut used = Vec::new();
        if shape.submodules {
            self.submodules(&tree, "", &self.request.url, 0, &mut layers, &mut used)?;
        }
        self.source.retain_modules(&used);
        for include in &shape.includes {
            if layers
                .stat(&include.path)
                .map_err(|error| unreadable(&error))?
                .is_some()
            {
                let path = &include.path;
                let reason = format!("spec.include: there is already something at '{path}'; choose another toPath");
                return Err(FetchError::Shape(reason));
            }
            layers.mount(include.clone());
        }
        let layered = Layered::new(layers, self.request.ignore.as_deref());
        let commit = tree.commit().to_owned();
        layered
            .map(|layered| SourceTree::Layered(commit, layered))
            .map_err(|error| unreadable(&error))
    }

    fn submodules(
        &self,
        tree: &GitTree,
        at: &str,
        url: &str,
        depth: usize,
        layers: &mut Layers,
        used: &mut Vec<String>,
    ) -> Result<(), FetchError> {
        let Some(text) = tree.read(GITMODULES).map_err(|error| unreadable(&error))? else {
            return Ok(());
        };
        let modules =
            parse(&text, url).map_err(|reason| FetchError::Shape(format!("{}: {reason}", join(at, GITMODULES))))?;
        for module in modules {
            let path = join(at, &module.path);
            // One that is named but not there is nothing to git, too.
            let Some(commit) = tree.submodule(&module.path).filter(|_| layers.keeps(&path)) else {
                continue;
            };
            if depth >= MAX_NESTING || used.len() >= MAX_MODULES {
                return Err(FetchError::Shape(format!(
                    "submodule '{path}': more than {MAX_MODULES} submodules, or nested deeper than {MAX_NESTING}"
                )));
            }
            let fetched = self.module(&module.url, &commit, used);
            let fetched = Arc::new(fetched.map_err(|source| FetchError::Submodule {
                path: path.clone(),
                source: Box::new(source),
            })?);
            layers.mount(Mount {
                path: path.clone(),
                from: String::new(),
                files: Arc::clone(&fetched) as Arc<dyn Files>,
            });
            self.submodules(&fetched, &path, &module.url, depth + 1, layers, used)?;
        }
        Ok(())
    }

    fn module(&self, url: &str, commit: &str, used: &mut Vec<String>) -> Result<GitTree, FetchError> {
        let digest = hex(&Sha256::digest(url.as_bytes()));
        let name = digest.get(..2 * NAME_BYTES).unwrap_or(&digest).to_owned();
        let generations = self.source.module(&name);
        used.push(name);
        let here = generations
            .existing()
            .zip(Oid::from_str(commit).ok())
            .and_then(|(dir, id)| local(&dir, id, Showing::All));
        if let Some(tree) = here {
            return Ok(tree);
        }
        let known = same_host(url, &self.request.url);
        let request = FetchRequest {
            url: url.to_owned(),
            reference: Some(GitRef {
                commit: Some(commit.to_owned()),
                ..GitRef::default()
            }),
            credentials: if known {
                self.request.credentials.clone()
            } else {
                Credentials::Anonymous
            },
            tls: Tls {
                client: self.request.tls.client.clone().filter(|_| known),
                ..self.request.tls.clone()
            },
            previous: None,
            shape: Shape::default(),
            ..self.request.clone()
        };
        let fetched = fetch_into(&generations, &request, self.bounds, Showing::All, self.still_ours)?;
        Ok(fetched.tree)
    }
}

fn sparse(shape: &Shape, tree: &GitTree) -> Result<Vec<String>, FetchError> {
    let mut directories = Vec::new();
    for named in &shape.sparse {
        let bad = |what: &str| FetchError::Shape(format!("failed to sparse checkout directories: '{named}' {what}"));
        let path = clean(named).ok_or_else(|| bad("leads out of the repository"))?;
        match tree.stat(&path).map_err(|error| unreadable(&error))? {
            Some(FileKind::Dir) => directories.push(path),
            Some(FileKind::File) => return Err(bad("is a file")),
            None => return Err(bad("does not exist in the repository")),
        }
    }
    Ok(directories)
}

/// Whether two addresses are on one host, spoken to in the same way.
fn same_host(one: &str, other: &str) -> bool {
    let place = |url: &str| {
        let url = git_url::parse(url).ok()?;
        let scheme = url.scheme_str()?.to_owned();
        Some((scheme, url.host()?.to_ascii_lowercase(), url.port_u16()))
    };
    place(one).is_some_and(|one| place(other) == Some(one))
}

fn unreadable(error: &FilesError) -> FetchError {
    FetchError::Storage {
        reason: error.to_string(),
    }
}
