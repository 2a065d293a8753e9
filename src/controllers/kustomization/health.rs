//! The last stage: waiting until what was applied is healthy, where the spec asks for it.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef as StoreRef;
use tokio::time::Instant;

use super::access::Access;
use super::flow::{Again, Run, Stop, progressing};
use super::inputs::{self, Times};
use super::source_of;
use super::status::Health;
use crate::api::kustomize::{GROUP, Kustomization};
use crate::api::meta::{HEALTHY, REQUESTED_AT};
use crate::apply::health::{self, Patience, Teller, WaitError, Wanted};
use crate::apply::{Done, Outcome};
use crate::cel::health::HealthChecks;
use crate::cluster::events::Severity;
use crate::core::duration::format_duration;
use crate::core::object::{Gvk, Object, ObjectRef};
use crate::core::snapshot::Snapshot;

/// How often to look whether the spec changed meanwhile; the store does not tell. Cheap, and it bounds the wait.
const LOOK: Duration = Duration::from_secs(1);

/// What is being checked: a build of a snapshot.
pub(super) struct Build<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) digest: &'a str,
}

impl Run<'_> {
    /// Waits for what was applied. `None` when the spec asks for no check.
    pub(super) async fn wait_for_health(
        &self,
        access: &Access,
        outcome: &Outcome,
        build: &Build<'_>,
        times: &Times,
        checks: &HealthChecks,
    ) -> Result<Option<Health>, Box<Stop>> {
        let (shared, snapshot) = (&self.context.shared, build.snapshot);
        let wanted = self.watched(outcome, checks);
        if wanted.is_empty() {
            return Ok(None);
        }
        let message = inputs::doing("Running health checks", &snapshot.revision, times);
        let mut attempt = self.attempt(progressing(&message)).at(snapshot);
        attempt.health = Some(Health::Checking(message));
        attempt.inventory = Some(outcome.inventory.clone());
        self.record(attempt).await.map_err(|error| self.unrecorded(&error))?;

        let started = Instant::now();
        let superseded = self.superseded(&snapshot.revision);
        let patience = Patience {
            timeout: times.timeout,
            fail_fast: !shared.settings.gates.disable_fail_fast,
        };
        let waited = health::wait(&access.objects, wanted, patience, superseded).await;
        if shared.stopping.is_cancelled() && waited.is_err() {
            return Err(self.interrupted());
        }
        shared.metrics.health_checked(match &waited {
            Ok(()) => "healthy",
            Err(WaitError::Failed(_)) => "failed",
            Err(WaitError::TimedOut(_)) => "timeout",
            Err(WaitError::Cancelled(_)) => "canceled",
        });
        let took = Duration::from_millis(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX));
        match waited {
            Ok(()) => {
                let was_healthy = matches!(self.known_health(), Some(Health::Healthy(_)));
                let message = format!("Health check passed in {}", format_duration(took));
                let applied = self.status().and_then(|status| status.last_applied_revision.as_ref());
                let changed = applied != Some(&snapshot.revision) && !outcome.change_log().is_empty();
                if !was_healthy || changed {
                    self.event(Severity::Normal, "Progressing", message.clone(), snapshot);
                }
                Ok(Some(Health::Healthy(message)))
            }
            Err(WaitError::Cancelled(by)) => Err(self.cancelled(&by, outcome, build)),
            Err(error) => Err(self.unhealthy(&error, took, outcome, build)),
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
    fn watched(&self, outcome: &Outcome, checks: &HealthChecks) -> Vec<Wanted> {
        let spec = &self.kustomization.spec;
        let itself = ObjectRef {
            group: GROUP.to_owned(),
            kind: "Kustomization".to_owned(),
            namespace: self.namespace(),
            name: self.kustomization.name_any(),
        };
        let applied = || outcome.applied.iter().filter(|one| one.done != Done::Deleted);
        let vanishing: HashSet<&ObjectRef> = applied()
            .filter(|one| one.stored.as_ref().is_some_and(removes_itself))
            .map(|one| &one.object)
            .collect();
        let named: Vec<(Gvk, ObjectRef)> = if spec.wait == Some(true) {
            let not_skipped = applied().filter(|one| one.stored.is_some());
            not_skipped.map(|one| (one.gvk.clone(), one.object.clone())).collect()
        } else {
            let named = spec.health_checks.iter().flatten().map(|check| {
                let gvk = Gvk::new(check.api_version.as_deref().unwrap_or("v1"), &check.kind);
                let object = ObjectRef {
                    group: gvk.group.clone(),
                    kind: gvk.kind.clone(),
                    namespace: check.namespace.clone().unwrap_or_default(),
                    name: check.name.clone(),
                };
                (gvk, object)
            });
            named.collect()
        };
        let others = named.into_iter().filter(|(_, object)| *object != itself);
        others
            .map(|(gvk, object)| Wanted {
                may_vanish: vanishing.contains(&object),
                teller: checks.of(&gvk).map(|asked| {
                    let teller: Teller = Arc::new(move |live| asked.health(live));
                    teller
                }),
                gvk,
                object,
            })
            .collect()
    }

    fn unhealthy(&self, error: &WaitError, took: Duration, outcome: &Outcome, build: &Build<'_>) -> Box<Stop> {
        let message = format!("health check failed after {}: {error}", format_duration(took));
        let mut stop = self.failed("HealthCheckFailed", message, build.snapshot);
        stop.attempt.inventory = Some(outcome.inventory.clone());
        stop.attempt.digest = Some(build.digest.to_owned());
        stop.attempt.health = Some(Health::Unhealthy(error.to_string()));
        stop
    }

    /// Somebody had something better to do than to wait. What is known of health stays.
    fn cancelled(&self, by: &str, outcome: &Outcome, build: &Build<'_>) -> Box<Stop> {
        let message = format!("New reconciliation triggered by {by}");
        let mut stop = self.failed("HealthCheckCanceled", message, build.snapshot);
        stop.attempt.inventory = Some(outcome.inventory.clone());
        stop.again = Again::Wait(Duration::ZERO);
        stop
    }

    /// Resolves when there is something better to do than to wait, and says whose doing that is: a new revision, a new spec
    /// or a request, or to stop.
    async fn superseded(&self, revision: &str) -> String {
        let key = source_of(self.kustomization);
        let snapshots = &self.context.shared.snapshots;
        let mut news = snapshots.listen();
        let own = StoreRef::from_obj(self.kustomization.as_ref());
        let asked = |of: &Kustomization| of.annotations().get(REQUESTED_AT).cloned();
        loop {
            if snapshots.revision(&key).is_some_and(|held| held != revision) {
                return format!("{}/{}/{}", key.kind, key.namespace, key.name);
            }
            let changed = self.context.store.get(&own).is_none_or(|now| {
                now.metadata.generation != self.kustomization.metadata.generation
                    || now.metadata.deletion_timestamp.is_some()
                    || asked(&now) != asked(self.kustomization)
            });
            if changed || self.context.shared.stopping.is_cancelled() {
                return format!("Kustomization/{}/{}", self.namespace(), self.kustomization.name_any());
            }
            tokio::select! {
                () = self.context.shared.stopping.cancelled() => {}
                () = tokio::time::sleep(LOOK) => {}
                _ = news.recv() => {}
            }
        }
    }
}

/// A job that is deleted some time after it is done.
fn removes_itself(object: &Object) -> bool {
    let time = object.value().pointer("/spec/ttlSecondsAfterFinished");
    object.gvk().group == "batch" && object.kind() == "Job" && time.is_some_and(|time| !time.is_null())
}
