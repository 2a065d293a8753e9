//! The reconcilers of `weir run`: made at once, because the webhook reads their stores, and started when this process leads.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::NamespaceResourceScope;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef, Store};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::api::extensions::{self, ArtifactGenerator};
use crate::api::kustomize::Kustomization;
use crate::api::source::GitRepository;
use crate::controllers::kustomization::Memories;
use crate::controllers::{Shared, artifactgenerator, drift, exemptions, gitrepository, kustomization, queue};
use crate::telemetry::metrics::Metrics;

/// How many Kustomizations may wait to be looked at again because another became ready; each has its own timer besides.
const KICKS: usize = 4096;

/// How often a kind that is not installed is asked for: an install takes longer than that, and a request costs nothing.
const ASK_AGAIN: Duration = Duration::from_secs(30);

/// The controllers before they run.
pub(super) struct Reconcilers {
    shared: Arc<Shared>,
    repositories: (Store<GitRepository>, Writer<GitRepository>),
    generators: (Store<ArtifactGenerator>, Writer<ArtifactGenerator>),
    writer: Writer<Kustomization>,
    context: Arc<kustomization::Context>,
    listed: watch::Sender<bool>,
    kicks: mpsc::Receiver<ObjectRef<Kustomization>>,
}

impl Reconcilers {
    /// Makes the stores; nothing is asked yet.
    pub(super) fn prepare(shared: &Arc<Shared>) -> Self {
        let (store, writer) = reflector::store();
        let (kick, kicks) = mpsc::channel(KICKS);
        let (listed, known) = watch::channel(false);
        let context = kustomization::Context {
            shared: Arc::clone(shared),
            store,
            listed: known,
            memories: Memories::default(),
            kick,
        };
        Self {
            shared: Arc::clone(shared),
            repositories: reflector::store(),
            generators: reflector::store(),
            writer,
            context: Arc::new(context),
            listed,
            kicks,
        }
    }

    /// What is known of Kustomizations.
    pub(super) fn kustomizations(&self) -> &Arc<kustomization::Context> {
        &self.context
    }

    /// The GitRepositories of the cluster.
    pub(super) fn repositories(&self) -> &Store<GitRepository> {
        &self.repositories.0
    }

    /// Fills the stores, and reconciles once this process leads. Losing the lead ends the process: another one takes over,
    /// and what was under way is safe to repeat.
    pub(super) fn start(
        self,
        kinds: &[String],
        leads: watch::Receiver<bool>,
        shutdown: &CancellationToken,
    ) -> Vec<JoinHandle<()>> {
        let runs = |kind: &str| kinds.iter().any(|one| one == kind);
        let (shared, (store, writer)) = (self.shared, self.repositories);
        tokio::spawn(stop_when_lost(leads.clone(), shared.metrics.clone(), shutdown.clone()));
        let sources = Arc::new(gitrepository::Context::new(Arc::clone(&shared)));
        let repositories = controller(&shared, store, writer, watch::Sender::new(false), shutdown).run(
            elected(leads.clone(), runs("gitrepository")),
            futures::stream::pending(),
            gitrepository::reconcile,
            gitrepository::on_error,
            sources,
        );
        let made = runs("artifactgenerator").then(|| {
            let (store, writer) = self.generators;
            let context = artifactgenerator::Context {
                shared: Arc::clone(&shared),
                store: store.clone(),
            };
            let (client, stopped) = (shared.client.clone(), shutdown.clone());
            let work = controller(&shared, store, writer, watch::Sender::new(false), shutdown).run(
                elected(leads.clone(), true),
                artifactgenerator::triggers(&context),
                artifactgenerator::reconcile,
                artifactgenerator::on_error,
                Arc::new(context),
            );
            async move {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    () = served(&client) => {}
                }
                work.await;
            }
        });
        // Every replica notes what is declared, because its webhook asks; the leader puts back.
        let runs_kustomizations = runs("kustomization");
        let (_never, nobody) = watch::channel(false);
        let leads_here = if runs_kustomizations { leads.clone() } else { nobody };
        let (drift, leading, stopped) = (
            Arc::clone(&self.context),
            elected(leads.clone(), runs_kustomizations),
            shutdown.clone(),
        );
        let drift = async move {
            let _never = _never;
            let exempting = async {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    () = leading => {}
                }
                exemptions::run(Arc::clone(&drift), stopped.clone()).await;
            };
            tokio::join!(drift::run(Arc::clone(&drift), leads_here, stopped.clone()), exempting);
        };
        let triggers = kustomization::triggers(&self.context, self.kicks);
        let kustomizations = controller(&shared, self.context.store.clone(), self.writer, self.listed, shutdown).run(
            elected(leads, runs("kustomization")),
            triggers,
            kustomization::reconcile,
            kustomization::on_error,
            self.context,
        );
        let mut tasks = vec![
            tokio::spawn(repositories),
            tokio::spawn(kustomizations),
            tokio::spawn(drift),
        ];
        tasks.extend(made.map(tokio::spawn));
        tasks
    }
}

fn controller<K>(
    shared: &Arc<Shared>,
    store: Store<K>,
    writer: Writer<K>,
    listed: watch::Sender<bool>,
    shutdown: &CancellationToken,
) -> queue::Controller<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + Debug
        + Send
        + Sync
        + 'static,
{
    queue::Controller {
        api: shared.settings.watched.api(shared.client.clone()),
        selector: shared.settings.watch_label_selector.clone(),
        writer,
        store,
        listed,
        concurrency: shared.settings.concurrent,
        shutdown: shutdown.clone(),
    }
}

/// Resolves when the API server knows ArtifactGenerators: many clusters do without.
async fn served(client: &Client) {
    let version = format!("{}/v1beta1", extensions::GROUP);
    while let Err(error) = client.list_api_group_resources(&version).await {
        tracing::debug!(error = %error, version, "not served");
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

/// Resolves when this process may reconcile; never for a kind that it leaves to others.
async fn elected(mut leads: watch::Receiver<bool>, runs: bool) {
    if !runs || leads.wait_for(|leads| *leads).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn stop_when_lost(mut leads: watch::Receiver<bool>, metrics: Metrics, shutdown: CancellationToken) {
    metrics.leader(false);
    let lost = async {
        // An error means that the process is stopping.
        if leads.wait_for(|leads| *leads).await.is_err() {
            return false;
        }
        metrics.leader(true);
        let lost = leads.wait_for(|leads| !*leads).await.is_ok();
        metrics.leader(false);
        lost
    };
    tokio::select! {
        biased;
        () = shutdown.cancelled() => {}
        lost = lost => if lost {
            tracing::error!("the lead was lost; stopping so that the new leader works alone");
            shutdown.cancel();
        },
    }
}
