//! Controllers: observe, call the stages, record. One file (or folder) for each reconciled kind.
//!
//! Nothing is decided here that could be decided by a pure function elsewhere; these are the only rooms, with `serve/`,
//! that know several stages.

pub mod artifactgenerator;
pub mod drift;
pub mod exemptions;
pub mod foreign;
pub mod freeze;
pub mod gitrepository;
pub mod kustomization;
pub mod owners;
pub mod policies;
pub mod queue;
pub mod record;
pub mod snapshots;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Namespace;
use kube::core::{ApiResource, DynamicObject};
use kube::runtime::reflector::{ObjectRef as StoreRef, Store};
use kube::{Api, Client, Resource};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::kustomize::Kustomization;
use crate::apply::objects::Objects;
use crate::cluster::events::Recorder;
use crate::core::gates::Gates;
use crate::core::identity::Identity;
use crate::core::object::ObjectRef;
use crate::guard::freeze::Freeze;
use crate::guard::{Mode, modes};
use crate::policy::Inventory;
use crate::render::keys::SecretName;
use crate::render::{Decrypting, Pool};
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
    /// Render workers that decrypt.
    pub decrypting: Decrypting,
    /// Git repositories on disk.
    pub fetcher: Arc<GitFetcher>,
    /// Artifacts on disk.
    pub artifacts: ArtifactStore,
    /// What sources hold now.
    pub snapshots: snapshots::Snapshots,
    /// Sources that other processes reconcile.
    pub foreign: foreign::Foreign,
    /// Other clusters that Kustomizations are applied to.
    pub remotes: kustomization::remote::Remotes,
    /// The policies in force.
    pub policies: watch::Receiver<policies::Policies>,
    /// What they see of the cluster.
    pub inventory: watch::Receiver<Inventory>,
    /// What was applied last, to recognise drift by.
    pub book: drift::Book,
    /// Who may edit what Git declares for a while.
    pub exemptions: exemptions::Exemptions,
    /// Whether the guard is frozen.
    pub freeze: watch::Receiver<Option<Freeze>>,
    /// Namespaces, for policies that select by their labels.
    pub namespaces: Store<Namespace>,
    /// Whether they have been read once.
    pub namespaces_listed: watch::Receiver<bool>,
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
    /// The webhook's certificates.
    pub certificates: SecretName,
    /// `--concurrent`: how many objects of a kind are reconciled at a time.
    pub concurrent: u16,
    /// `--requeue-dependency`: how long to wait for a dependency or an artifact when no event tells of it.
    pub requeue_dependency: Duration,
    /// `--interval-jitter-percentage`: by how much of itself an interval is stretched at most.
    pub interval_jitter_percentage: u8,
    /// `--min-retry-delay` and `--max-retry-delay`: the first and the longest wait after failures of a source in a row.
    pub source_retry: (Duration, Duration),
    /// `--no-cross-namespace-refs`.
    pub no_cross_namespace_refs: bool,
    /// `--default-service-account`: in whose name a Kustomization is carried out that names nobody.
    pub default_service_account: Option<String>,
    /// `--default-kubeconfig-service-account`: whose token is used where a ConfigMap of `spec.kubeConfig` names nobody.
    pub default_kubeconfig_service_account: Option<String>,
    /// `--insecure-kubeconfig-tls`: whether a kubeconfig may do without checking the server's certificate.
    pub insecure_kubeconfig_tls: bool,
    /// `--sops-age-secret`: age identities for Kustomizations that name no Secret of their own.
    pub sops_age_secret: Option<SecretName>,
    /// `--sops-vault-configmap`: where logins at Vault by service account are allowed.
    pub sops_vault_config_map: Option<SecretName>,
    /// `--default-decryption-service-account`: who logs in for Kustomizations that name nobody.
    pub default_decryption_service_account: Option<String>,
    /// `--override-manager`: managers beside kubectl's whose fields are taken over, by the beginning of their names.
    pub override_managers: Arc<[String]>,
    /// `--watch-configs-label-selector`: which ConfigMaps and Secrets are watched for those who use them.
    pub watch_configs_label_selector: String,
    /// `--webhook`: whether there is a door. Without one, markers that somebody puts on by hand count, as for Flux.
    pub guards: bool,
    /// `--watch-all-namespaces`.
    pub watched: Watched,
    /// `--max-prune`: how many objects one revision may delete without a nod; 0 for any number.
    pub max_prune: usize,
    /// `--custom-apply-stage-kinds`: group and kind.
    pub custom_stage: Arc<[(String, String)]>,
    /// `--feature-gates`.
    pub gates: Gates,
    /// `--watch-label-selector`.
    pub watch_label_selector: Option<String>,
}

/// Where reconciled objects are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Watched {
    /// In all namespaces.
    All,
    /// In the namespace of Weir.
    Only(String),
}

impl Watched {
    /// The objects of a kind there.
    pub fn api<K>(&self, client: Client) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        match self {
            Self::All => Api::all(client),
            Self::Only(namespace) => Api::namespaced(client, namespace),
        }
    }

    /// The same for a kind that is known by its resource only.
    #[must_use]
    pub fn api_of(&self, client: Client, resource: &ApiResource) -> Api<DynamicObject> {
        match self {
            Self::All => Api::all_with(client, resource),
            Self::Only(namespace) => Api::namespaced_with(client, namespace, resource),
        }
    }
}

/// How strict the guard is with an object of a Kustomization.
#[must_use]
pub fn guard_mode(shared: &Shared, kustomization: &Kustomization, object: &ObjectRef) -> Mode {
    let namespace = shared.namespaces.get(&StoreRef::new(&object.namespace));
    modes::mode(kustomization, namespace.as_deref())
}
