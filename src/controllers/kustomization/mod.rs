//! Kustomization: snapshot → render → plan → gate → apply → health → status.
//!
//! Flow: triggers (spec, annotation, new snapshot, variables, policies, drift, dependency, interval) queue an object; `reconcile`
//! observes, calls the stages in order, and `status::after` says what to record. What did not change is not done again:
//! when every path that the last build read is the same at the new revision, only the revision is recorded.
//!
//! Guarantees: nothing is written to the cluster before the gate has allowed the whole plan; whatever fails, the last
//! good state and the inventory stay.

pub mod access;
mod build;
pub mod dependencies;
mod flow;
mod health;
pub mod held;
pub mod inputs;
mod memory;
mod recall;
pub mod remote;
mod removal;
mod report;
mod source;
pub mod status;
mod triggers;
mod waiting;

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{ObjectRef, Store};
use tokio::sync::{mpsc, watch};

use super::snapshots::SourceKey;
use super::{Shared, record};
use crate::api::kustomize::Kustomization;
pub use memory::Memories;
pub use triggers::triggers;

/// Flux's name for the controller, in events and metrics.
pub(super) const COMPONENT: &str = "kustomize-controller";
/// Field manager of status patches; Flux's.
pub(super) const STATUS_MANAGER: &str = "gotk-kustomize-controller";

/// How long after a status could not be written the object is reconciled again.
const RECORD_RETRY: Duration = Duration::from_secs(5);

/// What the controller works with.
pub struct Context {
    /// What all controllers share.
    pub shared: Arc<Shared>,
    /// The Kustomizations of the cluster.
    pub store: Store<Kustomization>,
    /// Whether they have been read once.
    pub listed: watch::Receiver<bool>,
    /// What this process knows beyond the API.
    pub memories: Memories,
    /// Queues Kustomizations for another look.
    pub kick: mpsc::Sender<ObjectRef<Kustomization>>,
}

impl Context {
    /// Waits until all Kustomizations, with their inventories, and all namespaces have been read once.
    pub async fn known(&self) {
        let read = |listed: &watch::Receiver<bool>| {
            let mut listed = listed.clone();
            async move {
                // An error means that nothing is read any more: then nothing is known, either.
                if listed.wait_for(|listed| *listed).await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        };
        tokio::join!(read(&self.listed), read(&self.shared.namespaces_listed));
    }
}

/// What keeps a reconciliation from being recorded; everything else is recorded in the status.
#[derive(Debug, thiserror::Error)]
#[error("cannot record: {0}")]
pub struct RecordError(#[from] kube::Error);

/// Reconciles one Kustomization.
///
/// # Errors
/// When its status or finalizer could not be written.
pub async fn reconcile(kustomization: Arc<Kustomization>, context: Arc<Context>) -> Result<Action, RecordError> {
    let started = tokio::time::Instant::now();
    let result = if kustomization.metadata.deletion_timestamp.is_some() {
        removal::finalize(&kustomization, &context).await
    } else {
        flow::run(&kustomization, &context).await
    };
    record::counted(&context.shared.metrics, kustomization.as_ref(), started, result)
}

/// What to do when a reconciliation could not be recorded.
#[must_use]
pub fn on_error(kustomization: &Kustomization, error: &RecordError) -> Action {
    tracing::error!(
        controller = "kustomization", controllerKind = "Kustomization", name = %kustomization.name_any(),
        namespace = %kustomization.namespace().unwrap_or_default(), error = %error, "reconciliation not recorded"
    );
    Action::requeue(RECORD_RETRY)
}

/// The source of a Kustomization.
#[must_use]
pub fn source_of(kustomization: &Kustomization) -> SourceKey {
    let reference = &kustomization.spec.source_ref;
    SourceKey {
        kind: reference.kind.as_str(),
        namespace: reference
            .namespace
            .clone()
            .or_else(|| kustomization.namespace())
            .unwrap_or_default(),
        name: reference.name.clone(),
    }
}
