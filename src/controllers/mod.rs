//! Controllers: observe, call the stages, record. One file (or folder) for each reconciled kind.
//!
//! Nothing is decided here that could be decided by a pure function elsewhere; these are the only rooms, with `serve/`,
//! that know several stages.

pub mod artifactgenerator;
pub mod drift;
pub mod foreign;
pub mod freeze;
pub mod gitrepository;
pub mod kustomization;
pub mod policies;
pub mod queue;
pub mod record;
pub mod snapshots;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::Client;
use kube::runtime::reflector::{ObjectRef as StoreRef, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::kustomize::Kustomization;
use crate::apply::objects::Objects;
use crate::cluster::events::Recorder;
use crate::core::identity::Identity;
use crate::core::object::ObjectRef;
use crate::guard::freeze::Freeze;
use crate::guard::{Mode, modes};
use crate::render::Pool;
use crate::source::git::GitFetcher;
use crate::source::store::ArtifactStore;
use crate::telemetry::metrics::Metrics;

/// What every controller works with. Made once by `weir run`.
pub struct Shared {
    /// Connection to the cluster.
    pub client: Client,
    /// Reads and writes objects of any kind.
    pub objects: Objects,
    /// Whom the API server takes Weir for.
    pub identity: Identity,
    /// Render workers.
    pub pool: Pool,
    /// Git repositories on disk.
    pub fetcher: Arc<GitFetcher>,
    /// Artifacts on disk.
    pub artifacts: ArtifactStore,
    /// What sources hold now.
    pub snapshots: snapshots::Snapshots,
    /// Sources that other processes reconcile.
    pub foreign: foreign::Foreign,
    /// The policies in force.
    pub policies: watch::Receiver<policies::Policies>,
    /// What was applied last, to recognise drift by.
    pub book: drift::Book,
    /// Whether the guard is frozen.
    pub freeze: watch::Receiver<Option<Freeze>>,
    /// Namespaces, for policies that select by their labels.
    pub namespaces: Store<Namespace>,
    /// Takes events.
    pub events: Recorder,
    /// Counts.
    pub metrics: Metrics,
    /// Flags.
    pub settings: Settings,
    /// Cancelled when the process is told to stop.
    pub stopping: CancellationToken,
}

/// Flags of `weir run` that change what controllers do.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--concurrent`: how many objects of a kind are reconciled at a time.
    pub concurrent: u16,
    /// `--requeue-dependency`: how long to wait for a dependency or an artifact when no event tells of it.
    pub requeue_dependency: Duration,
    /// `--no-cross-namespace-refs`.
    pub no_cross_namespace_refs: bool,
    /// `--default-service-account`: in whose name a Kustomization is carried out that names nobody.
    pub default_service_account: Option<String>,
    /// `--watch-label-selector`.
    pub watch_label_selector: Option<String>,
}

/// How strict the guard is with an object of a Kustomization.
#[must_use]
pub fn guard_mode(shared: &Shared, kustomization: &Kustomization, object: &ObjectRef) -> Mode {
    let namespace = shared.namespaces.get(&StoreRef::new(&object.namespace));
    modes::mode(kustomization, namespace.as_deref())
}
