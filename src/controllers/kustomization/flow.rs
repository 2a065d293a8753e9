//! One reconciliation of a Kustomization: the stages in their order, and what is recorded when one of them stops it.
//!
//! `source`, `waiting`, `build`, `health` and `report` hold what each stage does; here is only who follows whom.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use tokio::time::Instant;

use super::build::digest;
use super::health::Build;
use super::inputs::{self, Times};
use super::memory::{Built, Memory};
use super::status::{self, Attempt, Ending, Health};
use super::{Context, RecordError, STATUS_MANAGER};
use crate::api::kustomize::{Kustomization, KustomizationStatus};
use crate::api::meta::{READY, REQUESTED_AT, UNSUPPORTED};
use crate::apply;
use crate::cel::health::HealthChecks;
use crate::cluster::events::Severity;
use crate::controllers::drift;
use crate::controllers::record::{self, Reconciled};
use crate::core::inventory::Inventory;
use crate::core::snapshot::Snapshot;
use crate::plan::Change;
use crate::render::variables;

/// Reason when an expression of the spec can never be answered; Flux's.
pub(super) const INVALID_CEL: &str = "InvalidCELExpression";
/// What Flux writes before the reason when only another spec helps.
pub(super) const TERMINAL: &str = "Reconciliation failed terminally due to configuration error";
/// What takes longer is told while it lasts; most builds and dry runs take milliseconds, and each telling costs a request.
const TOLD_AFTER: Duration = Duration::from_secs(2);
/// How soon a build whose worker died is tried again; a fresh worker starts in about 100 ms.
pub(super) const WORKER_RETRY: Duration = Duration::from_secs(2);
/// How soon to apply again when the API server was away or busy; it restarts in about this time.
pub(super) const APPLY_RETRY: Duration = Duration::from_secs(5);
/// How soon to look again while policies are still being read at start; they also tell when they are ready.
const POLICIES_RETRY: Duration = Duration::from_secs(2);

/// Reconciles a Kustomization that is not being deleted.
pub(super) async fn run(kustomization: &Arc<Kustomization>, context: &Arc<Context>) -> Result<Reconciled, RecordError> {
    record::add_finalizer(&context.shared.client, kustomization.as_ref()).await?;
    context.memories.observe(kustomization);
    let run = Run {
        kustomization,
        context,
        memory: context.memories.get(kustomization),
        started: Instant::now(),
    };
    if kustomization.spec.suspend == Some(true) {
        return run.rests().await;
    }
    let checks = match HealthChecks::compile(kustomization.spec.health_check_exprs.as_deref().unwrap_or_default()) {
        Ok(checks) => checks,
        Err(error) => return run.stopped_for_good(INVALID_CEL, format!("{TERMINAL}: {error}")).await,
    };
    let settings = &context.shared.settings;
    let vault = settings.sops_vault_config_map.is_some();
    if let Err((reason, message)) = inputs::check_identity(&kustomization.spec, &settings.gates, vault) {
        return run.stopped_for_good(reason, message).await;
    }
    let times = match inputs::check(&kustomization.spec) {
        Ok(times) => times,
        Err(error) => return run.stopped_for_good(UNSUPPORTED, error.to_string()).await,
    };
    match run.stages(&times, &checks).await {
        Ok(action) => Ok(Reconciled::well(action)),
        Err(stop) => {
            if stop.attempt.revision.is_some() {
                // Something follows what was applied last and cannot be applied; what was applied last is to hold.
                Box::pin(run.recall()).await;
            }
            run.stopped(*stop, &times).await
        }
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
    pub(super) started: Instant,
}

impl Run<'_> {
    async fn stages(&self, times: &Times, checks: &HealthChecks) -> Result<Action, Box<Stop>> {
        let (shared, spec) = (&self.context.shared, &self.kustomization.spec);
        let snapshot = self.snapshot().await?;
        self.dependencies(&snapshot).await?;
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
            // A revision with the same objects counts in the history; another look at the same one does not.
            let built = self.memory.built.as_ref().filter(|_| self.is_first_of(&snapshot));
            attempt.digest = built.map(|built| built.digest.clone());
            let news = self.is_first_of(&snapshot) && !shared.settings.gates.disable_commit_status_event;
            self.record(attempt).await.map_err(|error| self.unrecorded(&error))?;
            if news {
                self.passed_over(&snapshot, times);
            }
            self.wake_dependents(|_| true);
            return Ok(Action::requeue(remaining));
        }

        let access = self.access(&snapshot).await?;
        let rendering = Box::pin(self.unless_stopping(self.render(&snapshot, variables.as_ref())));
        let rendered = self.telling("Building manifests", &snapshot, times, rendering).await?;
        let digest = digest(&rendered);
        let reads = rendered.reads.clone();
        let (plan, verdict) = self.decide(rendered, &access, &snapshot, &digest, &policies).await?;
        shared.metrics.gated(verdict.label());
        if verdict.denied() {
            return Err(self.denied(&verdict, &snapshot, digest));
        }
        self.unless_held(&plan, &snapshot, &digest)?;
        for warning in verdict.warning_lines() {
            self.event(Severity::Warning, "PolicyWarning", warning, &snapshot);
        }

        let (previous, _) = self.previous();
        let owner = drift::owner_of(self.kustomization);
        let carrying_out = Box::pin(async {
            if access.elsewhere {
                drift::forget(shared, &owner).await;
                apply::carry_out(&access.objects, &plan, &previous).await
            } else {
                let same = self.status().and_then(|status| status.last_applied_revision.as_ref());
                let same = same == Some(&snapshot.revision);
                drift::carry_out(shared, &access.objects, &owner, &plan, &previous, same).await
            }
        });
        let outcome = self.telling("Detecting drift", &snapshot, times, carrying_out).await;
        for one in &outcome.applied {
            shared.metrics.applied(one.done.word(), 1);
        }
        shared.metrics.applied("failed", outcome.failures.len() as u64);
        self.log_applied(&outcome, &snapshot);
        // Two events, as Flux has them: what was applied, and what was pruned.
        let (changes, pruned) = (outcome.change_log(), outcome.prune_log());
        for lines in [&changes, &pruned].into_iter().filter(|lines| !lines.is_empty()) {
            self.event(Severity::Normal, "Progressing", lines.join("\n"), &snapshot);
        }
        if !outcome.failures.is_empty() {
            return Err(self.not_applied(&outcome, &snapshot, digest));
        }
        let health = self
            .wait_for_health(
                &access,
                &outcome,
                &Build {
                    snapshot: &snapshot,
                    digest: &digest,
                },
                times,
                checks,
            )
            .await?;

        let mut attempt = self.attempt(Ending::Applied).at(&snapshot);
        attempt.inventory = Some(outcome.inventory);
        attempt.digest = Some(digest.clone());
        attempt.health = health;
        // Recovery is news too, and so is an answer to who asked; what the interval finds as it was, is not.
        let news = self.is_first_of(&snapshot) || !self.was_ready() || self.is_asked();
        self.record(attempt).await.map_err(|error| self.unrecorded(&error))?;
        self.context.memories.with(self.kustomization, |memory| {
            memory.drifted = false;
            memory.stale = false;
            memory.built = Some(Arc::new(Built {
                generation: self.generation(),
                variables: variables.map(|variables| variables.values).unwrap_or_default(),
                policies: policies.number,
                reads,
                digest,
                left: plan.changes.iter().any(Change::is_left_by_live),
                at: Instant::now(),
            }));
        });
        let news = news || !changes.is_empty() || !pruned.is_empty();
        if news && !shared.settings.gates.disable_commit_status_event {
            self.finished(&snapshot, times);
        }
        self.wake_dependents(|_| true);
        Ok(Action::requeue(self.jittered(times.interval)))
    }

    /// Nothing is done, but who asked gets the receipt.
    async fn rests(&self) -> Result<Reconciled, RecordError> {
        let old = self.status().cloned();
        let known = old.clone().unwrap_or_default();
        let requested_at = self.kustomization.annotations().get(REQUESTED_AT);
        self.write(old, status::rested(&known, self.generation(), requested_at))
            .await?;
        // Those who look at more than readiness may look at what has just changed.
        self.wake_dependents(|dependency| dependency.ready_expr.is_some());
        Ok(Reconciled::well(Action::await_change()))
    }

    /// Records that only another spec helps.
    async fn stopped_for_good(&self, reason: &'static str, message: String) -> Result<Reconciled, RecordError> {
        let attempt = self.attempt(Ending::Stalled { reason, message });
        self.tell(&attempt, true);
        self.record(attempt).await?;
        Ok(Reconciled::badly(Action::await_change()))
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
            Again::Retry => Reconciled::badly(Action::requeue(times.retry)),
            Again::Change => Reconciled::badly(Action::requeue(self.jittered(times.interval))),
            Again::After(after) => Reconciled::badly(Action::requeue(after)),
            Again::Wait(after) | Again::Quietly(after) => Reconciled::waiting(Action::requeue(after)),
        })
    }

    /// Says in the status what is being done, where that takes so long that somebody may wonder.
    async fn telling<T>(&self, doing: &str, snapshot: &Snapshot, times: &Times, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(TOLD_AFTER) => {}
        }
        let message = inputs::doing(doing, &snapshot.revision, times);
        let told = self.record(self.attempt(progressing(&message)).at(snapshot));
        // What comes of the work is recorded in any case.
        let (done, told) = tokio::join!(work, told);
        if let Err(error) = told {
            tracing::debug!(error = %error, "progress not recorded");
        }
        done
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
        let applied = attempt.ending == Ending::Applied;
        let new = status::after(&old.clone().unwrap_or_default(), &attempt, Timestamp::now());
        let changed = self.write(old, new).await?;
        // Those who look at more than readiness want to know of every change; success wakes all of them later.
        if !applied && changed {
            self.wake_dependents(|dependency| dependency.ready_expr.is_some());
        }
        Ok(())
    }

    /// Writes a status, and says whether it is another one than before.
    async fn write(&self, old: Option<KustomizationStatus>, new: KustomizationStatus) -> Result<bool, RecordError> {
        let (client, memories) = (&self.context.shared.client, &self.context.memories);
        let foreign = memories.get(self.kustomization).foreign;
        let there = foreign.as_ref().or(old.as_ref());
        record::status(client, self.kustomization.as_ref(), there, &new, STATUS_MANAGER).await?;
        let changed = there != Some(&new);
        memories.written(self.kustomization, new);
        Ok(changed)
    }

    /// The interval, stretched by up to its share, so that objects made together do not stay together.
    fn jittered(&self, interval: Duration) -> Duration {
        // Enough spread from the clock's lower digits; nothing secret depends on it.
        let spread = f64::from(Timestamp::now().subsec_nanosecond().unsigned_abs() % 1_000_000) / 1e6;
        inputs::stretched(
            interval,
            self.context.shared.settings.interval_jitter_percentage,
            spread,
        )
    }

    pub(super) fn stop(&self, attempt: Attempt, again: Again) -> Box<Stop> {
        Box::new(Stop { attempt, again })
    }

    pub(super) fn attempt(&self, ending: Ending) -> Attempt {
        Attempt {
            ending,
            generation: self.generation(),
            requested_at: self.kustomization.annotations().get(REQUESTED_AT).cloned(),
            doing: None,
            revision: None,
            attempted: true,
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

    pub(super) fn is_first_of(&self, snapshot: &Snapshot) -> bool {
        self.status().and_then(|status| status.last_applied_revision.as_ref()) != Some(&snapshot.revision)
    }

    fn was_ready(&self) -> bool {
        let conditions = self
            .status()
            .map(|status| status.conditions.as_slice())
            .unwrap_or_default();
        conditions.iter().any(|one| one.type_ == READY && one.status == "True")
    }

    /// Whether somebody asks for a reconciliation that has had none.
    pub(super) fn is_asked(&self) -> bool {
        let handled = self
            .status()
            .and_then(|status| status.last_handled_reconcile_at.as_ref());
        handled != self.kustomization.annotations().get(REQUESTED_AT)
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
}

impl Attempt {
    /// Says which snapshot it is about, where it did not come to trying that.
    pub(super) fn about(self, snapshot: &Snapshot) -> Self {
        Self {
            attempted: false,
            ..self.at(snapshot)
        }
    }

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
