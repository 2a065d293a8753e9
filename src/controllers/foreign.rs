//! Sources that other processes reconcile: Flux's own source-controller, another Weir, whoever writes an ExternalArtifact.
//!
//! Flow: their objects are followed, each kind from its first use on; what `status.artifact` names is fetched over HTTP, checked and handed over as a snapshot
//! like Weir's own. What nobody builds from is not fetched.
//!
//! Guarantees: an artifact is fetched once, however many build from it; a new one of a source in use is fetched as soon as
//! its status tells of it, and those who build from it hear of it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::sync::Mutex as Turn;
use tokio_util::sync::CancellationToken;

use super::Watched;
use super::snapshots::{Snapshots, SourceKey};
use crate::api::source::{Artifact, GROUP};
use crate::cluster::client::explain;
use crate::core::selector::LabelSelector;
use crate::core::snapshot::Snapshot;
use crate::source::download::{DownloadError, download};

/// Kinds of sources and what the API server calls them in paths.
const KINDS: [(&str, &str); 5] = [
    ("GitRepository", "gitrepositories"),
    ("OCIRepository", "ocirepositories"),
    ("Bucket", "buckets"),
    ("HelmChart", "helmcharts"),
    ("ExternalArtifact", "externalartifacts"),
];

/// Longest time for one artifact; Flux's default timeout of a source.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where OCI artifacts say which commit they were made of.
const ORIGIN: &str = "org.opencontainers.image.revision";

/// Why there is no snapshot.
#[derive(Debug)]
pub enum Missing {
    /// There is no such object.
    Source,
    /// It has no artifact yet.
    Artifact,
    /// Its artifact is not where it should be.
    File(String),
    /// Everything else.
    Failed(String),
}

/// Follows the sources that are reconciled elsewhere. Clones share it.
#[derive(Clone)]
pub struct Foreign {
    client: Client,
    watched: Watched,
    snapshots: Snapshots,
    directory: PathBuf,
    /// Kinds that this process reconciles, in small letters.
    own: Arc<[String]>,
    /// Which objects of those kinds are this process's; all of them when there is none.
    own_labels: Option<LabelSelector>,
    stores: Arc<HashMap<&'static str, Store<DynamicObject>>>,
    /// Of the kinds that nobody has used yet. Most clusters have only some of them installed.
    unused: Arc<Mutex<HashMap<&'static str, Writer<DynamicObject>>>>,
    shutdown: CancellationToken,
    /// The artifact that each source in use holds; who fetches it has the turn.
    held: Arc<Mutex<HashMap<SourceKey, Held>>>,
}

/// What makes an artifact another one: revision, digest, and where it is. Who moves one has it fetched from there, and
/// hears when it is not.
type Identity = (String, String, String);
type Held = Arc<Turn<Option<Identity>>>;

impl Foreign {
    /// Answers for all kinds of sources but those that this process reconciles (`own`, in small letters), and for objects of
    /// those that are not its own. Temporary files are made in `directory`.
    #[must_use]
    pub fn new(
        client: &Client,
        watched: &Watched,
        (own, own_labels): (&[String], Option<LabelSelector>),
        snapshots: Snapshots,
        directory: PathBuf,
        shutdown: &CancellationToken,
    ) -> Self {
        let (mut stores, mut unused) = (HashMap::new(), HashMap::new());
        for (kind, _) in KINDS {
            let writer = Writer::new(resource(kind));
            stores.insert(kind, writer.as_reader());
            unused.insert(kind, writer);
        }
        Self {
            client: client.clone(),
            watched: watched.clone(),
            snapshots,
            directory,
            own: own.into(),
            own_labels,
            stores: Arc::new(stores),
            unused: Arc::new(Mutex::new(unused)),
            shutdown: shutdown.clone(),
            held: Arc::default(),
        }
    }

    /// Whether sources of a kind are reconciled elsewhere.
    #[must_use]
    pub fn answers_for(&self, kind: &str) -> bool {
        !self.own.contains(&kind.to_ascii_lowercase())
    }

    /// Whether an object of a kind that this process reconciles is another process's all the same: the installation is
    /// divided by `--watch-label-selector` or by namespaces.
    #[must_use]
    pub fn has(&self, object: &impl ResourceExt) -> bool {
        let elsewhere = match &self.watched {
            Watched::All => false,
            Watched::Only(namespace) => object.namespace().as_ref() != Some(namespace),
        };
        let labels = self.own_labels.as_ref();
        elsewhere || labels.is_some_and(|labels| !labels.matches(object.labels()))
    }

    /// What a source holds now, fetched if that has not been done yet.
    ///
    /// # Errors
    /// Why there is nothing.
    pub async fn bring(&self, key: &SourceKey) -> Result<Snapshot, Missing> {
        self.fetch(key).await.map(|(_, snapshot)| snapshot)
    }

    /// The same, with the artifact that it is of.
    ///
    /// # Errors
    /// Why there is nothing.
    pub async fn fetch(&self, key: &SourceKey) -> Result<(Artifact, Snapshot), Missing> {
        let unused = self
            .unused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(key.kind);
        if let Some(writer) = unused {
            tokio::spawn(self.clone().watch(key.kind, writer));
        }
        let object = self.object(key).await?;
        let artifact = artifact(&object).ok_or(Missing::Artifact)?;
        let turn = self.turn(key);
        let mut held = turn.lock().await;
        let wanted = identity(&artifact);
        if held.as_ref() == Some(&wanted)
            && let Some(snapshot) = self.snapshots.get(key)
        {
            return Ok((artifact, snapshot));
        }
        let archive = download(&artifact, &self.directory, TIMEOUT).await;
        let archive = archive.map_err(|error| match error {
            DownloadError::NotFound(_) => Missing::File(error.to_string()),
            other => Missing::Failed(other.to_string()),
        })?;
        let snapshot = Snapshot {
            revision: artifact.revision.clone(),
            origin_revision: artifact
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.get(ORIGIN).cloned()),
            commit: None,
            files: Arc::new(archive),
        };
        *held = Some(wanted);
        self.snapshots.publish(key.clone(), snapshot.clone());
        Ok((artifact, snapshot))
    }

    /// From what is followed, else from the API server: a source can be newer than what was followed so far.
    async fn object(&self, key: &SourceKey) -> Result<Arc<DynamicObject>, Missing> {
        let kind = resource(key.kind);
        let reference = ObjectRef::new_with(&key.name, kind.clone()).within(&key.namespace);
        let known = self.stores.get(key.kind).and_then(|store| store.get(&reference));
        if let Some(object) = known.filter(|object| artifact(object).is_some()) {
            return Ok(object);
        }
        let api: Api<DynamicObject> = Api::namespaced_with(self.client.clone(), &key.namespace, &kind);
        match api.get_opt(&key.name).await {
            Ok(Some(object)) => Ok(Arc::new(object)),
            Ok(None) => Err(Missing::Source),
            Err(error) => Err(Missing::Failed(explain(&error))),
        }
    }

    fn turn(&self, key: &SourceKey) -> Held {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(held.entry(key.clone()).or_default())
    }

    async fn watch(self, kind: &'static str, writer: Writer<DynamicObject>) {
        let api = self.watched.api_of(self.client.clone(), &resource(kind));
        let events = watcher(api, watcher::Config::default())
            .default_backoff()
            .reflect(writer);
        let mut events = std::pin::pin!(events.take_until(self.shutdown.clone().cancelled_owned()));
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => self.seen(kind, &object),
                Ok(watcher::Event::Delete(object)) if self.answers_for(kind) || self.has(&object) => {
                    let key = key(kind, &object);
                    self.held.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
                    self.snapshots.forget(&key);
                }
                Ok(watcher::Event::Delete(_) | watcher::Event::Init | watcher::Event::InitDone) => {}
                // Most likely the kind is not installed, which is as good as that there are none.
                Err(error) => tracing::debug!(kind, error = %error, "watch interrupted, resuming"),
            }
        }
    }

    /// Fetches what is new of a source in use; those who wait for their first artifact are told that there is one.
    fn seen(&self, kind: &'static str, object: &DynamicObject) {
        if !self.answers_for(kind) && !self.has(object) {
            return;
        }
        let key = key(kind, object);
        let Some(artifact) = artifact(object) else {
            return;
        };
        let turn = self
            .held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
            .cloned();
        let (foreign, wanted) = (self.clone(), identity(&artifact));
        tokio::spawn(async move {
            let in_use = match turn {
                Some(turn) => {
                    let held = turn.lock().await;
                    if held.as_ref() == Some(&wanted) {
                        return;
                    }
                    held.is_some()
                }
                None => false,
            };
            if in_use && foreign.bring(&key).await.is_ok() {
                return;
            }
            // They try for themselves, and say what goes wrong.
            foreign.snapshots.tell(key);
        });
    }
}

fn key(kind: &'static str, object: &DynamicObject) -> SourceKey {
    SourceKey {
        kind,
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
    }
}

/// What a status offers. Others write what they like: only where it is and what it is has to be there.
fn artifact(object: &DynamicObject) -> Option<Artifact> {
    let artifact = object.data.get("status")?.get("artifact")?;
    let text = |field: &str| artifact.get(field).and_then(Value::as_str).map(str::to_owned);
    let metadata = artifact.get("metadata").cloned().map(serde_json::from_value);
    Some(Artifact {
        url: text("url")?,
        revision: text("revision")?,
        path: text("path").unwrap_or_default(),
        digest: text("digest").unwrap_or_default(),
        last_update_time: text("lastUpdateTime").unwrap_or_default(),
        size: artifact.get("size").and_then(Value::as_i64),
        metadata: metadata.and_then(Result::ok).flatten(),
    })
}

fn identity(artifact: &Artifact) -> Identity {
    let Artifact {
        revision, digest, url, ..
    } = artifact;
    (revision.clone(), digest.clone(), url.clone())
}

fn resource(kind: &str) -> ApiResource {
    let plural = KINDS.iter().find(|(known, _)| *known == kind);
    let plural = plural.map(|(_, plural)| *plural).unwrap_or_default();
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, "v1", kind), plural)
}
