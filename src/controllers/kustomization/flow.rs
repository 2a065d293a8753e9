//! One reconciliation of a Kustomization: the stages in their order, and what is recorded when one of them stops it.
//!
//! `source`, `build`, `health` and `report` hold what each stage does; here is only who follows whom.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;

use super::build::digest;
use super::inputs::{self, Times};
use super::memory::{Built, Memory};
use super::status::{self, Attempt, Ending, Health};
use super::{Context, RecordError, STATUS_MANAGER, dependencies};
use crate::api::kustomize::{Kustomization, KustomizationStatus};
use crate::api::meta::{REQUESTED_AT, UNSUPPORTED};
use crate::apply;
use crate::cluster::events::Severity;
use crate::controllers::drift;
use crate::controllers::record::{self, Reconciled};
use crate::core::duration::format_duration;
use crate::core::inventory::Inventory;
use crate::core::snapshot::Snapshot;
use crate::render::variables;

/// How soon a build whose worker died is tried again; a fresh worker starts in about 100 ms.
pub(super) const WORKER_RETRY: Duration = Duration::from_secs(2);
/// How soon to apply again when the API server was away or busy; it restarts in about this time.
pub(super) const APPLY_RETRY: Duration = Duration::from_secs(5);
/// How soon to look again while policies are still being read at start; they also tell when they are ready.
const POLICIES_RETRY: Duration = Duration::from_secs(2);
/// Intervals are stretched by up to this share, so that objects made together do not stay together; Flux's default.
const JITTER: f64 = 0.05;

/// Reconciles a Kustomization that is not being deleted.
pub(super) async fn run(kustomization: &Arc<Kustomization>, context: &Arc<Context>) -> Result<Reconciled, RecordError> {
    record::add_finalizer(&context.shared.client, kustomization.as_ref()).await?;
    if kustomization.spec.suspend == Some(true) {
        return Ok(Reconciled::well(Action::await_change()));
    }
    let run = Run {
        kustomization,
        context,
        memory: context.memories.get(kustomization),
        started: Instant::now(),
    };
    let times = match inputs::check(&kustomization.spec) {
        Ok(times) => times,
        Err(error) => {
            let attempt = run.attempt(Ending::Stalled {
                reason: UNSUPPORTED,
                message: error.to_string(),
            });
            run.tell(&attempt, true);
            run.record(attempt).await?;
            return Ok(Reconciled::badly(Action::await_change()));
        }
    };
    match run.stages(&times).await {
        Ok(action) => Ok(Reconciled::well(action)),
        Err(stop) => run.stopped(*stop, &times).await,
    }
}

/// Why a reconciliation ends before its end.
pub(super) struct Stop {
    pub(super) attempt: Attempt,
    pub(super) again: Again,
}

/// When a reconciliation that ended early is tried again.
pub(super) enum Again {
    /// After the retry interval.
    Retry,
    /// After a time of its own.
    After(Duration),
    /// When something else has happened that this one waits for, at the latest after that time. No failure.
    Wait(Duration),
    /// When something changes, and at the interval all the same.
    Change,
    /// Nothing was found out; nothing is recorded.
    Quietly(Duration),
}

/// One reconciliation under way.
pub(super) struct Run<'a> {
    pub(super) kustomization: &'a Arc<Kustomization>,
    pub(super) context: &'a Arc<Context>,
    pub(super) memory: Memory,
    started: Instant,
}

impl Run<'_> {
    async fn stages(&self, times: &Times) -> Result<Action, Box<Stop>> {
        let (shared, spec) = (&self.context.shared, &self.kustomization.spec);
        let snapshot = self.snapshot().await?;
        self.dependencies(&snapshot)?;
        let policies = shared.policies.borrow().clone();
        if !policies.ready {
            return Err(self.stop(
                self.attempt(progressing("Waiting for policies")),
                Again::Quietly(POLICIES_RETRY),
            ));
        }
        let variables = variables::gather(&shared.client, &self.namespace(), spec.post_build.as_ref())
            .await
            .map_err(|error| self.failed("BuildFailed", error.to_string(), &snapshot))?;
        if let Some(remaining) = self.unchanged(&snapshot, variables.as_ref(), policies.number, times)? {
            let mut attempt = self.attempt(Ending::Applied).at(&snapshot);
            attempt.health = self.known_health();
            self.record(attempt).await.map_err(|error| self.unrecorded(&error))?;
            self.wake_dependents();
            return Ok(Action::requeue(remaining));
        }

        let access = self.access(&snapshot).await?;
        let rendered = self.unless_stopping(self.render(&snapshot, variables.as_ref())).await?;
        let digest = digest(&rendered);
        let reads = rendered.reads.clone();
        let (plan, verdict) = self.decide(rendered, &access, &snapshot, &digest, &policies).await?;
        shared.metrics.gated(verdict.label());
        if verdict.denied() {
            return Err(self.denied(&verdict, &snapshot, digest));
        }
        for warning in verdict.warning_lines() {
            self.event(Severity::Warning, "PolicyWarning", warning, &snapshot);
        }

        let (previous, _) = self.previous();
        let owner = drift::owner_of(self.kustomization);
        let outcome = if access.elsewhere {
            drift::forget(shared, &owner).await;
            apply::carry_out(&access.objects, &plan, &previous).await
        } else {
            drift::carry_out(shared, &access.objects, &owner, &plan, &previous).await
        };
        for one in &outcome.applied {
            shared.metrics.applied(one.done.word(), 1);
        }
        shared.metrics.applied("failed", outcome.failures.len() as u64);
        let changes = outcome.change_log();
        if !changes.is_empty() {
            self.event(Severity::Normal, "Progressing", changes.join("\n"), &snapshot);
        }
        if !outcome.failures.is_empty() {
            return Err(self.not_applied(&outcome, &snapshot, digest));
        }
        let health = self.wait_for_health(&access, &outcome, &snapshot, times).await?;

        let mut attempt = self.attempt(Ending::Applied).at(&snapshot);
        attempt.inventory = Some(outcome.inventory);
        attempt.digest = Some(digest);
        attempt.health = health;
        let first_of_revision =
            self.status().and_then(|status| status.last_applied_revision.as_ref()) != Some(&snapshot.revision);
        self.record(attempt).await.map_err(|error| self.unrecorded(&error))?;
        self.context.memories.with(self.kustomization, |memory| {
            memory.drifted = false;
            memory.stale = false;
            memory.built = Some(Arc::new(Built {
                generation: self.generation(),
                variables: variables.map(|variables| variables.values).unwrap_or_default(),
                policies: policies.number,
                reads,
                at: Instant::now(),
            }));
        });
        if first_of_revision || !changes.is_empty() {
            let took = Duration::from_millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
            let message = format!(
                "Reconciliation finished in {}, next run in {}",
                format_duration(took),
                format_duration(times.interval)
            );
            self.event(Severity::Normal, "ReconciliationSucceeded", message, &snapshot);
        }
        self.wake_dependents();
        Ok(Action::requeue(jittered(times.interval)))
    }

    /// Stops when a Kustomization that this one depends on is not ready.
    fn dependencies(&self, snapshot: &Snapshot) -> Result<(), Box<Stop>> {
        let memories = &self.context.memories;
        memories.wait(self.kustomization);
        let unmet = dependencies::unmet(self.kustomization, &snapshot.revision, |namespace, name| {
            let found = self.context.store.get(&ObjectRef::new(name).within(namespace))?;
            let mut newest = found.as_ref().clone();
            newest.status = self.context.memories.status(&found);
            Some(Arc::new(newest))
        });
        let Some(message) = unmet else {
            memories.stop_waiting(self.kustomization);
            return Ok(());
        };
        let wait = self.context.shared.settings.requeue_dependency;
        let message = format!(
            "{message}; checked again when it changes, at the latest in {}",
            format_duration(wait)
        );
        let attempt = self.attempt(Ending::Failed {
            reason: "DependencyNotReady",
            message,
        });
        Err(self.stop(attempt, Again::Wait(wait)))
    }

    /// Records why a reconciliation ended early and says when to come back.
    async fn stopped(&self, stop: Stop, times: &Times) -> Result<Reconciled, RecordError> {
        if let Again::Quietly(after) = stop.again {
            return Ok(Reconciled::waiting(Action::requeue(after)));
        }
        let failed = !matches!(stop.again, Again::Wait(_));
        self.context
            .memories
            .with(self.kustomization, |memory| memory.built = None);
        self.tell(&stop.attempt, failed);
        self.record(stop.attempt).await?;
        Ok(match stop.again {
            Again::Retry => Reconciled::badly(Action::requeue(jittered(times.retry))),
            Again::Change => Reconciled::badly(Action::requeue(jittered(times.interval))),
            Again::After(after) => Reconciled::badly(Action::requeue(after)),
            Again::Wait(after) | Again::Quietly(after) => Reconciled::waiting(Action::requeue(after)),
        })
    }

    /// Lets go of something that writes nothing when the process is told to stop: nobody would see what came of it.
    async fn unless_stopping<T>(&self, work: impl Future<Output = Result<T, Box<Stop>>>) -> Result<T, Box<Stop>> {
        tokio::select! {
            done = work => done,
            () = self.context.shared.stopping.cancelled() => Err(self.interrupted()),
        }
    }

    /// The process is told to stop. Nothing is recorded, so that whoever comes next finds what was there.
    pub(super) fn interrupted(&self) -> Box<Stop> {
        self.stop(self.attempt(progressing("stopping")), Again::Quietly(Duration::ZERO))
    }

    pub(super) async fn record(&self, attempt: Attempt) -> Result<(), RecordError> {
        let known = self.context.memories.get(self.kustomization).status;
        let old = known.or_else(|| self.kustomization.status.clone());
        let new = status::after(&old.clone().unwrap_or_default(), &attempt, Timestamp::now());
        record::status(
            &self.context.shared.client,
            self.kustomization.as_ref(),
            old.as_ref(),
            &new,
            STATUS_MANAGER,
        )
        .await?;
        self.context
            .memories
            .with(self.kustomization, |memory| memory.status = Some(new));
        Ok(())
    }

    pub(super) fn stop(&self, attempt: Attempt, again: Again) -> Box<Stop> {
        Box::new(Stop { attempt, again })
    }

    pub(super) fn attempt(&self, ending: Ending) -> Attempt {
        Attempt {
            ending,
            generation: self.generation(),
            requested_at: self.kustomization.annotations().get(REQUESTED_AT).cloned(),
            revision: None,
            origin_revision: None,
            inventory: None,
            digest: None,
            health: self.checks_health().then_some(Health::NotReached),
            took: self.started.elapsed(),
        }
    }

    pub(super) fn status(&self) -> Option<&KustomizationStatus> {
        self.memory.status.as_ref().or(self.kustomization.status.as_ref())
    }

    pub(super) fn previous(&self) -> (Inventory, Vec<String>) {
        status::inventory(self.status())
    }

    pub(super) fn namespace(&self) -> String {
        self.kustomization.namespace().unwrap_or_default()
    }

    pub(super) fn generation(&self) -> i64 {
        self.kustomization.metadata.generation.unwrap_or_default()
    }

    /// Queues those that wait for this Kustomization.
    fn wake_dependents(&self) {
        for waiter in self.context.memories.take_waiters(self.kustomization) {
            let name = waiter.name.clone();
            if self.context.kick.try_send(waiter).is_err() {
                tracing::debug!(name, "not woken, the queue is full; its own timer will");
            }
        }
    }
}

impl Attempt {
    /// Says which snapshot was tried.
    pub(super) fn at(mut self, snapshot: &Snapshot) -> Self {
        self.revision = Some(snapshot.revision.clone());
        self.origin_revision.clone_from(&snapshot.origin_revision);
        self
    }
}

/// An ending for those who watch.
pub(super) fn progressing(message: &str) -> Ending {
    Ending::Progressing {
        message: message.to_owned(),
    }
}

fn jittered(interval: Duration) -> Duration {
    // Enough spread from the clock's lower digits; nothing secret depends on it.
    let nanos = f64::from(Timestamp::now().subsec_nanosecond().unsigned_abs() % 1_000_000) / 1e6;
    interval.mul_f64(1.0 + JITTER * nanos)
}
