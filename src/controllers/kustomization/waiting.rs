//! Waiting for the Kustomizations that one depends on, and waking those that wait for it.

use std::collections::HashMap;
use std::sync::Arc;

use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};

use super::dependencies::{self, Unmet};
use super::flow::{Again, INVALID_CEL, Run, Stop, TERMINAL};
use super::status::Ending;
use crate::api::kustomize::{Dependency, Kustomization};
use crate::core::snapshot::Snapshot;

/// Reason while a dependency is not ready; Flux's.
pub(super) const DEPENDENCY_NOT_READY: &str = "DependencyNotReady";

impl Run<'_> {
    /// Stops when a Kustomization that this one depends on is not ready.
    pub(super) async fn dependencies(&self, snapshot: &Snapshot) -> Result<(), Box<Stop>> {
        let memories = &self.context.memories;
        memories.wait(self.kustomization);
        let mut found: HashMap<(&str, &str), Arc<Kustomization>> = HashMap::new();
        for (namespace, wanted) in dependencies::wanted(self.kustomization) {
            let there = self.dependency(namespace, &wanted.name).await;
            found.extend(there.map(|one| ((namespace, wanted.name.as_str()), one)));
        }
        let settings = &self.context.shared.settings;
        let additive = settings.gates.additive_cel_dependency_check;
        let find = |namespace: &str, name: &str| found.get(&(namespace, name)).cloned();
        let message = match dependencies::unmet(self.kustomization, &snapshot.revision, additive, find) {
            None => {
                memories.stop_waiting(self.kustomization);
                return Ok(());
            }
            Some(Unmet::NotReady(message)) => message,
            Some(Unmet::Invalid(error)) => {
                let attempt = self.attempt(Ending::Stalled {
                    reason: INVALID_CEL,
                    message: format!("{TERMINAL}: {error}"),
                });
                return Err(self.stop(attempt.about(snapshot), Again::Change));
            }
        };
        let attempt = self.attempt(Ending::Failed {
            reason: DEPENDENCY_NOT_READY,
            message,
        });
        Err(self.stop(attempt.about(snapshot), Again::Wait(settings.requeue_dependency)))
    }

    /// A Kustomization as it is now. Those that another process looks after are asked for.
    async fn dependency(&self, namespace: &str, name: &str) -> Option<Arc<Kustomization>> {
        if let Some(found) = self.context.store.get(&ObjectRef::new(name).within(namespace)) {
            let mut newest = found.as_ref().clone();
            newest.status = self.context.memories.status(&found);
            return Some(Arc::new(newest));
        }
        let api: Api<Kustomization> = Api::namespaced(self.context.shared.client.clone(), namespace);
        match api.get_opt(name).await {
            Ok(found) => found.map(Arc::new),
            Err(error) => {
                tracing::warn!(namespace, name, error = %error, "dependency cannot be read");
                None
            }
        }
    }

    /// Queues those that wait for this Kustomization.
    pub(super) fn wake_dependents(&self, which: impl Fn(&Dependency) -> bool) {
        let own = (self.namespace(), self.kustomization.name_any());
        let wants = |waiter: &ObjectRef<Kustomization>| {
            self.context.store.get(waiter).is_some_and(|waiter| {
                let mut wanted = dependencies::wanted(&waiter);
                wanted.any(|(namespace, one)| (namespace, &one.name) == (own.0.as_str(), &own.1) && which(one))
            })
        };
        for waiter in self.context.memories.take_waiters(self.kustomization, wants) {
            let name = waiter.name.clone();
            if self.context.kick.try_send(waiter).is_err() {
                tracing::debug!(name, "not woken, the queue is full; its own timer will");
            }
        }
    }
}
