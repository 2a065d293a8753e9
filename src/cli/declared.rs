//! What Git declares, for commands that look at a cluster: the source is read again at the revision that was applied
//! last, and built as `weir run` builds it.
//!
//! Guarantees: nothing is written, neither to the cluster nor to Git; every source is read once for each commit.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kube::{Api, Client, ResourceExt};
use tempfile::TempDir;
use tokio::sync::Mutex;

use super::renderer;
use crate::api::kustomize::{Kustomization, SourceKind};
use crate::api::source::{GitRef, GitRepository};
use crate::apply::objects::Objects;
use crate::cluster::client::explain;
use crate::controllers::{gitrepository, kustomization};
use crate::core::snapshot::{Commit, Files, Snapshot};
use crate::plan::{self, Desired, Owner, Scope};
use crate::render::{Decrypting, Pool, ReadSet, keys, variables};
use crate::source::git::GitFetcher;
use crate::source::{Authorship, FetchRequest, redact};

/// How long a source may take: somebody is waiting, but a large repository is read from its beginning.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);

/// What one Kustomization declares.
pub(super) struct Declared {
    /// The objects, with owner labels.
    pub(super) objects: Vec<Desired>,
    /// Where they come from.
    pub(super) origin: Origin,
    /// What the build read.
    pub(super) reads: ReadSet,
    source: Fetched,
}

impl Declared {
    /// The tree that it was built from.
    pub(super) fn files(&self) -> &dyn Files {
        self.source.snapshot.files.as_ref()
    }
}

/// A source that was read.
#[derive(Clone)]
struct Fetched {
    snapshot: Snapshot,
    url: String,
    /// What was asked for.
    request: FetchRequest,
}

/// Where the objects of a Kustomization come from.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    /// The repository, without credentials.
    pub(super) url: String,
    /// The revision that was applied last.
    pub(super) revision: String,
    /// Its commit.
    pub(super) commit: Option<Commit>,
}

/// Reads sources.
pub(super) struct Reader {
    client: Client,
    objects: Objects,
    pool: Pool,
    decrypting: Decrypting,
    fetcher: Arc<GitFetcher>,
    known: Mutex<HashMap<(String, String, String), Fetched>>,
    _storage: TempDir,
}

impl Reader {
    pub(super) fn new(client: Client, objects: Objects, pool: Pool) -> anyhow::Result<Self> {
        let storage = tempfile::tempdir()?;
        Ok(Self {
            client,
            objects,
            pool,
            decrypting: Decrypting::new(renderer::locate_decrypting(None)?, None),
            fetcher: Arc::new(GitFetcher::new(storage.path())),
            known: Mutex::default(),
            _storage: storage,
        })
    }

    /// What a Kustomization declares at the revision that was applied last.
    ///
    /// # Errors
    /// When its source cannot be read or does not build.
    pub(super) async fn declared(&self, of: &Kustomization) -> Result<Declared, String> {
        let revision = of
            .status
            .as_ref()
            .and_then(|status| status.last_applied_revision.clone());
        let revision = revision.ok_or("nothing of it was ever applied")?;
        if of.spec.kube_config.is_some() {
            return Err("its objects are in another cluster, where this command does not look".to_owned());
        }
        kustomization::inputs::check(&of.spec).map_err(|error| error.to_string())?;
        let source = self.source(of, &revision).await?;
        let namespace = of.namespace().unwrap_or_default();
        let variables = variables::gather(&self.client, &namespace, of.spec.post_build.as_ref())
            .await
            .map_err(|error| error.to_string())?;
        let request = kustomization::inputs::request(&of.spec, variables.as_ref(), true);
        let files = Arc::clone(&source.snapshot.files);
        let rendered = match &of.spec.decryption {
            None => self.pool.render(&request, files).await,
            Some(decryption) => {
                let keys = keys::gather(&self.client, &namespace, decryption, None, None).await;
                let keys = keys.map_err(|error| error.to_string())?;
                self.decrypting.render(request, keys, files).await
            }
        };
        let rendered = rendered.map_err(|error| error.to_string())?;
        let built: Vec<Desired> = rendered
            .objects
            .into_iter()
            .map(|one| Desired {
                object: one.object,
                file: one.file,
                line: one.line,
            })
            .collect();
        let mut scopes = HashMap::new();
        for gvk in built.iter().map(|one| one.object.gvk()) {
            if !scopes.contains_key(&gvk)
                && let Ok(resolved) = self.objects.discovery().resolve(&gvk).await
            {
                let scope = if resolved.namespaced {
                    Scope::Namespaced
                } else {
                    Scope::Cluster
                };
                scopes.insert(gvk, scope);
            }
        }
        let owner = Owner {
            name: of.name_any(),
            namespace,
        };
        let common = of.spec.common_metadata.as_ref();
        let objects = plan::prepare(built, &owner, common, |gvk| scopes.get(gvk).copied());
        Ok(Declared {
            objects: objects.map_err(|error| error.to_string())?,
            origin: Origin {
                url: source.url.clone(),
                revision,
                commit: source.snapshot.commit.clone(),
            },
            reads: rendered.reads,
            source,
        })
    }

    /// Who wrote files of what was read; those that its commit does not have itself, as a submodule's, are not in it.
    ///
    /// # Errors
    /// When the repository cannot be read any more.
    pub(super) async fn authorship(
        &self,
        of: &Declared,
        paths: Vec<String>,
    ) -> Result<HashMap<String, Authorship>, String> {
        let Some(commit) = of.origin.commit.as_ref() else {
            return Ok(HashMap::new());
        };
        let request = of.source.request.clone();
        let found = self.fetcher.authorship_within(request, commit.id.clone(), paths);
        found.await.map_err(|error| error.to_string())
    }

    async fn source(&self, of: &Kustomization, revision: &str) -> Result<Fetched, String> {
        let source = kustomization::source_of(of);
        if of.spec.source_ref.kind != SourceKind::GitRepository {
            return Err(format!(
                "its source is of kind {}, and only Git repositories are read here",
                source.kind
            ));
        }
        let api: Api<GitRepository> = Api::namespaced(self.client.clone(), &source.namespace);
        let repository = api.get(&source.name).await.map_err(|error| explain(&error))?;
        let url = redact(&repository.spec.url);
        let commit = revision.rsplit_once(':').map_or(revision, |(_, id)| id).to_owned();
        let key = (source.namespace.clone(), source.name.clone(), commit.clone());
        let mut known = self.known.lock().await;
        if let Some(fetched) = known.get(&key) {
            return Ok(fetched.clone());
        }
        let mut request = gitrepository::request(&repository, &self.client, FETCH_TIMEOUT)
            .await
            .map_err(|error| error.to_string())?;
        let branch = request.reference.take().and_then(|reference| reference.branch);
        request.reference = Some(GitRef {
            branch,
            commit: Some(commit),
            ..GitRef::default()
        });
        let fetched = self.fetcher.fetch_within(request.clone()).await;
        let fetched = fetched.map_err(|error| format!("{url} cannot be read: {error}"))?;
        let snapshot = Snapshot {
            revision: revision.to_owned(),
            origin_revision: None,
            commit: Some(fetched.commit),
            files: Arc::new(fetched.tree),
        };
        let fetched = Fetched { snapshot, url, request };
        known.insert(key, fetched.clone());
        Ok(fetched)
    }
}
