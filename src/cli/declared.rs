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
use crate::api::kustomize::Kustomization;
use crate::api::source::{GitRef, GitRepository};
use crate::apply::objects::Objects;
use crate::cluster::client::explain;
use crate::controllers::{gitrepository, kustomization};
use crate::core::snapshot::{Commit, Snapshot};
use crate::plan::{self, Desired, Owner, Scope};
use crate::render::{Decrypting, Pool, keys, variables};
use crate::source::git::GitFetcher;
use crate::source::redact;

/// How long a source may take: somebody is waiting, but a large repository is read from its beginning.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);

/// What one Kustomization declares.
pub(super) struct Declared {
    /// The objects, with owner labels.
    pub(super) objects: Vec<Desired>,
    /// Where they come from.
    pub(super) origin: Origin,
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
    known: Mutex<HashMap<(String, String, String), Snapshot>>,
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
        let (snapshot, url) = self.snapshot(of, &revision).await?;
        let namespace = of.namespace().unwrap_or_default();
        let variables = variables::gather(&self.client, &namespace, of.spec.post_build.as_ref())
            .await
            .map_err(|error| error.to_string())?;
        let request = kustomization::inputs::request(&of.spec, variables.as_ref(), true);
        let files = Arc::clone(&snapshot.files);
        let rendered = match &of.spec.decryption {
            None => self.pool.render(&request, files).await,
            Some(decryption) => {
                let keys = keys::gather(&self.client, &namespace, decryption, None, None).await;
                let keys = keys.map_err(|error| error.to_string())?;
                self.decrypting.render(request, keys, files).await
            }
        };
        let rendered = rendered.map_err(|error| error.to_string())?.objects.into_iter();
        let built: Vec<Desired> = rendered
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
                url,
                revision,
                commit: snapshot.commit,
            },
        })
    }

    async fn snapshot(&self, of: &Kustomization, revision: &str) -> Result<(Snapshot, String), String> {
        let source = kustomization::source_of(of);
        let api: Api<GitRepository> = Api::namespaced(self.client.clone(), &source.namespace);
        let repository = api.get(&source.name).await.map_err(|error| explain(&error))?;
        let url = redact(&repository.spec.url);
        let commit = revision.rsplit_once(':').map_or(revision, |(_, id)| id).to_owned();
        let key = (source.namespace.clone(), source.name.clone(), commit.clone());
        let mut known = self.known.lock().await;
        if let Some(snapshot) = known.get(&key) {
            return Ok((snapshot.clone(), url));
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
        let fetched = self.fetcher.fetch_within(request).await;
        let fetched = fetched.map_err(|error| format!("{url} cannot be read: {error}"))?;
        let snapshot = Snapshot {
            revision: revision.to_owned(),
            origin_revision: None,
            commit: Some(fetched.commit),
            files: Arc::new(fetched.tree),
        };
        known.insert(key, snapshot.clone());
        Ok((snapshot, url))
    }
}
