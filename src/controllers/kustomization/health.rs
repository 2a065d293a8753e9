//! The last stage: waiting until what was applied is healthy, where the spec asks for it.

use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef as StoreRef;
use tokio::time::Instant;

use super::access::Access;
use super::flow::{Again, Run, Stop, progressing};
use super::inputs::Times;
use super::source_of;
use super::status::Health;
use crate::api::kustomize::GROUP;
use crate::api::meta::HEALTHY;
use crate::apply::Outcome;
use crate::apply::health::{self, WaitError};
use crate::cluster::events::Severity;
use crate::core::duration::format_duration;
use crate::core::object::{Gvk, ObjectRef};
use crate::core::snapshot::Snapshot;

/// How often to look whether the spec changed meanwhile; the store does not tell. Cheap, and it bounds the wait.
const LOOK: Duration = Duration::from_secs(1);

impl Run<'_> {
    /// Waits for what was applied. `None` when the spec asks for no check.
    pub(super) async fn wait_for_health(
        &self,
        access: &Access,
        outcome: &Outcome,
        snapshot: &Snapshot,
        times: &Times,
    ) -> Result<Option<Health>, Box<Stop>> {
        let shared = &self.context.shared;
        let wanted = self.watched(outcome);
        if wanted.is_empty() {
            return Ok(None);
        }
        let message = format!(
            "Running health checks for revision {} with a timeout of {}",
            snapshot.revision,
            format_duration(times.timeout)
        );
        let mut attempt = self.attempt(progressing(&message)).at(snapshot);
        attempt.health = Some(Health::Checking(message));
        attempt.inventory = Some(outcome.inventory.clone());
        self.record(attempt).await.map_err(|error| self.unrecorded(&error))?;

        let started = Instant::now();
        let superseded = self.superseded(&snapshot.revision);
        let waited = health::wait(&access.objects, &wanted, times.timeout, superseded).await;
        if shared.stopping.is_cancelled() && waited.is_err() {
            return Err(self.interrupted());
        }
        shared.metrics.health_checked(match &waited {
            Ok(()) => "healthy",
            Err(WaitError::Failed(_)) => "failed",
            Err(WaitError::TimedOut { .. }) => "timeout",
            Err(WaitError::Cancelled) => "canceled",
        });
        match waited {
            Ok(()) => {
                let was_healthy = matches!(self.known_health(), Some(Health::Healthy(_)));
                let took = Duration::from_millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
                let message = format!("Health check passed in {}", format_duration(took));
                if !was_healthy || !outcome.change_log().is_empty() {
                    self.event(Severity::Normal, "Progressing", message.clone(), snapshot);
                }
                Ok(Some(Health::Healthy(message)))
            }
            Err(error) => Err(self.unhealthy(&error, outcome, snapshot)),
        }
    }

    /// What is known of health from before.
    pub(super) fn known_health(&self) -> Option<Health> {
        let conditions = &self.status()?.conditions;
        let healthy = conditions.iter().find(|one| one.type_ == HEALTHY)?;
        (healthy.status == "True").then(|| Health::Healthy(healthy.message.clone()))
    }

    /// Whether the spec asks for any check.
    pub(super) fn checks_health(&self) -> bool {
        let spec = &self.kustomization.spec;
        spec.wait == Some(true) || spec.health_checks.as_ref().is_some_and(|checks| !checks.is_empty())
    }

    /// What to wait for: with `wait` everything that was applied but the Kustomization itself, else `healthChecks`.
    fn watched(&self, outcome: &Outcome) -> Vec<(Gvk, ObjectRef)> {
        let spec = &self.kustomization.spec;
        if spec.wait != Some(true) {
            let checks = spec.health_checks.iter().flatten().map(|check| {
                let gvk = Gvk::new(check.api_version.as_deref().unwrap_or("v1"), &check.kind);
                let object = ObjectRef {
                    group: gvk.group.clone(),
                    kind: gvk.kind.clone(),
                    namespace: check.namespace.clone().unwrap_or_default(),
                    name: check.name.clone(),
                };
                (gvk, object)
            });
            return checks.collect();
        }
        let itself = ObjectRef {
            group: GROUP.to_owned(),
            kind: "Kustomization".to_owned(),
            namespace: self.namespace(),
            name: self.kustomization.name_any(),
        };
        let applied = outcome
            .applied
            .iter()
            .filter(|one| one.stored.is_some() && one.object != itself);
        applied.map(|one| (one.gvk.clone(), one.object.clone())).collect()
    }

    fn unhealthy(&self, error: &WaitError, outcome: &Outcome, snapshot: &Snapshot) -> Box<Stop> {
        let (reason, word, again) = match error {
            WaitError::Cancelled => ("HealthCheckCanceled", "canceled", Again::Wait(Duration::ZERO)),
            WaitError::TimedOut { .. } | WaitError::Failed(_) => ("HealthCheckFailed", "failed", Again::Retry),
        };
        let message = format!("health check {word}: {error}");
        let mut stop = self.failed(reason, message.clone(), snapshot);
        stop.attempt.inventory = Some(outcome.inventory.clone());
        stop.attempt.health = Some(Health::Unhealthy(message));
        stop.again = again;
        stop
    }

    /// Resolves when there is something better to do than to wait: a new revision, a new spec, or to stop.
    async fn superseded(&self, revision: &str) {
        let key = source_of(self.kustomization);
        let snapshots = &self.context.shared.snapshots;
        let mut news = snapshots.listen();
        let own = StoreRef::from_obj(self.kustomization.as_ref());
        loop {
            let newer = snapshots.revision(&key).is_some_and(|held| held != revision);
            let changed = self.context.store.get(&own).is_none_or(|now| {
                now.metadata.generation != self.kustomization.metadata.generation
                    || now.metadata.deletion_timestamp.is_some()
            });
            if newer || changed {
                return;
            }
            tokio::select! {
                () = self.context.shared.stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
                _ = news.recv() => {}
            }
        }
    }
}
