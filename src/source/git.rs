//! Brings commits from Git servers into bare repositories on disk and opens them as trees.
//!
//! Flow: list what the server advertises → decide what `spec.ref` means (`reference`) → nothing more when it is here
//! already; else download it without history → compare with the last revision (`git_history`), deepening a little when one
//! commit is not enough → open the tree.
//!
//! Guarantees: a damaged repository is thrown away and fetched anew, within the same call; one fetch per source at a time;
//! a fetch ends within its timeout, which closes its sockets; should a thread be held longer all the same, the caller of
//! `fetch_within` does not wait, and their number per source is bounded; no credential is in any error. Assumes it is called where blocking is allowed, except `fetch_within`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use git2::Oid;

use super::git_attempt::{Attempt, local, once_local, storage};
use super::git_auth::{Credentials, Proxy, Tls};
use super::git_compose::{Composer, SourceTree};
use super::git_error::FetchError;
use super::git_history::History;
use super::git_remote::Bounds;
use super::git_repo::{Generations, RepoDir, lock};
use super::git_turn::{Turn, Turns};
use super::git_url::redact;
use super::layers::Mount;
use super::signature::Signed;
use super::store::checked;
use super::tree::{GitTree, Showing};
use crate::api::source::GitRef;
use crate::core::snapshot::Commit;

/// Most bytes of packs in one fetch: as `artifact::MAX_BYTES`, since what does not fit there need not come.
pub const MAX_FETCH_BYTES: u64 = 1 << 30;

/// Folder of the repositories of submodules, below that of their source.
const MODULES: &str = "modules";

/// What `fetch_within` waits beyond the timeout, for the fetch to notice by itself and say what it was doing.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// What to fetch.
#[derive(Debug, Clone)]
pub struct FetchRequest {
    /// Of the GitRepository.
    pub namespace: String,
    /// Of the GitRepository.
    pub name: String,
    /// `spec.url`.
    pub url: String,
    /// `spec.ref`.
    pub reference: Option<GitRef>,
    /// `spec.ignore`.
    pub ignore: Option<String>,
    /// From `spec.secretRef`.
    pub credentials: Credentials,
    /// From `spec.secretRef`.
    pub tls: Tls,
    /// From `spec.proxySecretRef`.
    pub proxy: Option<Proxy>,
    /// `spec.timeout`.
    pub timeout: Duration,
    /// The revision of the last artifact.
    pub previous: Option<String>,
    /// What belongs to the tree beyond the commit, and what does not.
    pub shape: Shape,
}

/// What the tree of a source is made of.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    /// `spec.recurseSubmodules`.
    pub submodules: bool,
    /// `spec.sparseCheckout`: the directories that the commit is limited to.
    pub sparse: Vec<String>,
    /// `spec.include`.
    pub includes: Vec<Mount>,
}

impl Shape {
    /// The commit and nothing but the commit.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        !self.submodules && self.sparse.is_empty() && self.includes.is_empty()
    }
}

/// A tag, signed or not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// Without `refs/tags/`.
    pub name: String,
    /// Of the tag object, or the commit when there is none.
    pub id: String,
    /// The tag object.
    pub signed: Signed,
}

/// What was found.
pub struct Fetched<T = SourceTree> {
    /// Flux's revision string.
    pub revision: String,
    /// The commit.
    pub commit: Commit,
    /// It is the revision that the request named as the last.
    pub unchanged: bool,
    /// How the commit stands to the last.
    pub history: History,
    /// The last commit, and those before it that are here, when the new one is known not to descend from them.
    pub rewritten: Vec<String>,
    /// Bytes of packs that came over the network.
    pub received_bytes: u64,
    /// The commit, to verify who signed it.
    pub signed: Signed,
    /// The tag that `spec.ref` leads to, if it does.
    pub tag: Option<Tag>,
    /// The files.
    pub tree: T,
}

impl<T> Fetched<T> {
    fn with_tree<U>(self, make: impl FnOnce(T) -> Result<U, FetchError>) -> Result<Fetched<U>, FetchError> {
        Ok(Fetched {
            tree: make(self.tree)?,
            revision: self.revision,
            commit: self.commit,
            unchanged: self.unchanged,
            history: self.history,
            rewritten: self.rewritten,
            received_bytes: self.received_bytes,
            signed: self.signed,
            tag: self.tag,
        })
    }
}

/// Fetches, and owns the repositories below its root.
pub struct GitFetcher {
    root: PathBuf,
    pub(super) max_bytes: u64,
    sources: Mutex<HashMap<(String, String), Arc<Source>>>,
}

pub(super) struct Source {
    root: PathBuf,
    pub(super) turns: Mutex<Turns>,
    pub(super) generations: Generations,
    /// Repositories of submodules, by a name made of their address.
    modules: Mutex<HashMap<String, Arc<Generations>>>,
}

impl GitFetcher {
    /// A fetcher that keeps its repositories below `<storage>/git`.
    #[must_use]
    pub fn new(storage: impl Into<PathBuf>) -> Self {
        Self {
            root: storage.into().join("git"),
            max_bytes: MAX_FETCH_BYTES,
            sources: Mutex::default(),
        }
    }

    /// The same with another limit of bytes for one fetch.
    #[must_use]
    pub fn with_max_bytes(self, max_bytes: u64) -> Self {
        Self { max_bytes, ..self }
    }

    /// Fetches, from a thread that may block.
    ///
    /// # Errors
    /// See `FetchError`; what was fetched before stays usable.
    pub fn fetch(&self, request: &FetchRequest) -> Result<Fetched, FetchError> {
        let source = self.source(&request.namespace, &request.name)?;
        let turn = Turn::take(&source.turns, request.timeout, Instant::now());
        let turn = turn.map_err(|doing| timed_out(request, doing))?;
        let bounds = Bounds::new(request.timeout, self.max_bytes);
        let showing = if request.shape.is_plain() {
            Showing::Artifact(request.ignore.as_deref())
        } else {
            Showing::All
        };
        let still_ours = || turn.is_current();
        let fetched = fetch_into(&source.generations, request, &bounds, showing, &still_ours)?;
        fetched.with_tree(|tree| {
            let composer = Composer {
                source: &source,
                request,
                bounds: &bounds,
                still_ours: &still_ours,
            };
            composer.compose(tree)
        })
    }

    /// Fetches from asynchronous code, and gives up a little after the timeout even when the server keeps silent.
    ///
    /// # Errors
    /// See `FetchError`.
    pub async fn fetch_within(self: &Arc<Self>, request: FetchRequest) -> Result<Fetched, FetchError> {
        let late = timed_out(&request, "the server is silent");
        let deadline = request.timeout + GRACE;
        let fetcher = Arc::clone(self);
        let fetch = tokio::task::spawn_blocking(move || fetcher.fetch(&request));
        match tokio::time::timeout(deadline, fetch).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(FetchError::Storage {
                reason: "the fetch broke off unexpectedly".to_owned(),
            }),
            Err(_) => Err(late),
        }
    }

    /// Opens the tree of a commit that was fetched before, as after a restart, without the network.
    #[must_use]
    pub fn open(&self, namespace: &str, name: &str, commit: &str, ignore: Option<&str>) -> Option<GitTree> {
        let dir = self.source(namespace, name).ok()?.generations.existing()?;
        local(&dir, Oid::from_str(commit).ok()?, Showing::Artifact(ignore))
    }

    /// The same of a commit that others have followed since, as long as its objects are still there.
    #[must_use]
    pub fn open_former(&self, namespace: &str, name: &str, commit: &str, ignore: Option<&str>) -> Option<GitTree> {
        let dir = self.source(namespace, name).ok()?.generations.existing()?;
        once_local(&dir, Oid::from_str(commit).ok()?, Showing::Artifact(ignore))
    }

    /// Deletes what is kept of a source that is gone.
    pub fn remove(&self, namespace: &str, name: &str) {
        if let Ok(source) = self.source(namespace, name) {
            source.retain_modules(&[]);
            source.generations.remove();
        }
    }

    pub(super) fn source(&self, namespace: &str, name: &str) -> Result<Arc<Source>, FetchError> {
        let bad = |error: super::store::StoreError| FetchError::Storage {
            reason: error.to_string(),
        };
        let root = self
            .root
            .join(checked(namespace).map_err(bad)?)
            .join(checked(name).map_err(bad)?);
        let mut sources = lock(&self.sources);
        let source = sources
            .entry((namespace.to_owned(), name.to_owned()))
            .or_insert_with(|| {
                Arc::new(Source {
                    turns: Mutex::default(),
                    generations: Generations::new(root.clone()),
                    modules: Mutex::default(),
                    root,
                })
            });
        Ok(Arc::clone(source))
    }
}

/// Fetches into the repository of a source or submodule, once more when it turns out to be damaged.
pub(super) fn fetch_into(
    generations: &Generations,
    request: &FetchRequest,
    bounds: &Bounds,
    showing: Showing<'_>,
    still_ours: &dyn Fn() -> bool,
) -> Result<Fetched<GitTree>, FetchError> {
    let attempt = |dir: Result<Arc<RepoDir>, git2::Error>| {
        let dir = dir.map_err(|error| storage(&error))?;
        Attempt::new(request, bounds, dir, showing)?.run()
    };
    match attempt(generations.current()) {
        // One that lost its turn must not take the repository from the one that has it.
        Err(FetchError::Storage { reason }) if still_ours() => {
            tracing::warn!(
                namespace = request.namespace,
                name = request.name,
                reason,
                "the local repository is damaged; fetching anew"
            );
            attempt(generations.renew())
        }
        result => result,
    }
}

impl Source {
    /// The repository of a submodule.
    pub(super) fn module(&self, name: &str) -> Arc<Generations> {
        let mut modules = lock(&self.modules);
        let made = || Arc::new(Generations::new(self.root.join(MODULES).join(name)));
        Arc::clone(modules.entry(name.to_owned()).or_insert_with(made))
    }

    /// Deletes the repositories of submodules that are no longer there.
    pub(super) fn retain_modules(&self, used: &[String]) {
        let folder = self.root.join(MODULES);
        let names = std::fs::read_dir(&folder).into_iter().flatten().flatten();
        for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
            if !used.contains(&name) {
                self.module(&name).remove();
                lock(&self.modules).remove(&name);
            }
        }
        // Fails while there are any.
        let _ = std::fs::remove_dir(folder);
    }
}

pub(super) fn timed_out(request: &FetchRequest, doing: &'static str) -> FetchError {
    FetchError::TimedOut {
        url: redact(&request.url),
        timeout: request.timeout,
        doing,
    }
}
