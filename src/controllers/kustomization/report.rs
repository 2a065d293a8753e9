//! How an attempt that did not succeed is told: the status it leaves, the event, and whether it is news.

use std::collections::BTreeMap;
use std::time::Duration;

use kube::ResourceExt;

use super::flow::{APPLY_RETRY, Again, Run, Stop};
use super::held::{NOD, PRUNE_HELD, held};
use super::inputs::Times;
use super::status::{Attempt, Ending};
use super::waiting::DEPENDENCY_NOT_READY;
use super::{COMPONENT, RecordError, flow, inputs};
use crate::api::kustomize::GROUP;
use crate::api::meta::{POLICY_DENIED, READY};
use crate::apply::Outcome;
use crate::apply::objects::ObjectError;
use crate::cluster::events::{NewEvent, Severity};
use crate::controllers::record;
use crate::core::duration::format_duration;
use crate::core::object::ObjectRef;
use crate::core::snapshot::Snapshot;
use crate::gate::Verdict;
use crate::plan::Plan;

/// Reason when there are no files to build; Flux's.
pub(super) const ARTIFACT_FAILED: &str = "ArtifactFailed";
/// Reason when a health check was given up for something newer; Flux's.
const HEALTH_CANCELED: &str = "HealthCheckCanceled";

impl Run<'_> {
    /// A policy refused the change.
    pub(super) fn denied(&self, verdict: &Verdict, snapshot: &Snapshot, digest: String) -> Box<Stop> {
        let commit = snapshot.commit.as_ref().map(|commit| commit.id.as_str());
        let message = verdict.message(&snapshot.revision, commit);
        let mut attempt = self
            .attempt(Ending::Stalled {
                reason: POLICY_DENIED,
                message,
            })
            .at(snapshot);
        attempt.digest = Some(digest);
        attempt.health = self.known_health();
        self.stop(attempt, Again::Change)
    }

    /// Stops before a change that deletes more than anybody is likely to mean, until somebody nods.
    pub(super) fn unless_held(&self, plan: &Plan, snapshot: &Snapshot, digest: &str) -> Result<(), Box<Stop>> {
        let deletions: Vec<ObjectRef> = plan.deletions.iter().map(|one| one.object.clone()).collect();
        let nod = self.kustomization.annotations().get(NOD).map(String::as_str);
        let (namespace, name) = (self.namespace(), self.kustomization.name_any());
        let most = self.context.shared.settings.max_prune;
        let Some(message) = held(&deletions, most, nod, &snapshot.revision, (&namespace, &name)) else {
            return Ok(());
        };
        let reason = PRUNE_HELD;
        let mut attempt = self.attempt(Ending::Stalled { reason, message }).at(snapshot);
        attempt.digest = Some(digest.to_owned());
        attempt.health = self.known_health();
        Err(self.stop(attempt, Again::Change))
    }

    /// The API server refused something.
    pub(super) fn not_applied(&self, outcome: &Outcome, snapshot: &Snapshot, digest: String) -> Box<Stop> {
        let reason = if outcome.only_pruning_failed {
            "PruneFailed"
        } else {
            "ReconciliationFailed"
        };
        let mut stop = self.failed(reason, outcome.to_string(), snapshot);
        stop.attempt.inventory = Some(outcome.inventory.clone());
        stop.attempt.digest = Some(digest);
        if outcome.failures.iter().all(ObjectError::is_passing) {
            stop.again = Again::After(APPLY_RETRY);
        }
        stop
    }

    /// Something failed that is tried again after the retry interval.
    pub(super) fn failed(&self, reason: &'static str, message: String, snapshot: &Snapshot) -> Box<Stop> {
        let attempt = self.attempt(Ending::Failed { reason, message });
        let mut attempt = match reason {
            ARTIFACT_FAILED => attempt.about(snapshot),
            _ => attempt.at(snapshot),
        };
        let times = inputs::check(&self.kustomization.spec).ok();
        attempt.doing = times.map(|times| inputs::doing(under_way(reason), &snapshot.revision, &times));
        self.stop(attempt, Again::Retry)
    }

    /// Recording in the middle failed: the caller requeues, and nothing more is recorded.
    pub(super) fn unrecorded(&self, error: &RecordError) -> Box<Stop> {
        let attempt = self.attempt(flow::progressing(&error.to_string()));
        self.stop(attempt, Again::Quietly(super::RECORD_RETRY))
    }

    /// Says in the log, and as an event if it is news, why a reconciliation ended early: as a failure, or because something
    /// else has to happen first.
    pub(super) fn tell(&self, attempt: &Attempt, failed: bool) {
        let (Ending::Failed { reason, message } | Ending::Stalled { reason, message }) = &attempt.ending else {
            return;
        };
        let revision = attempt.revision.clone().unwrap_or_default();
        let origin = attempt.origin_revision.clone().unwrap_or_default();
        let (name, namespace) = (self.kustomization.name_any(), self.namespace());
        let severity = if failed {
            tracing::error!(
                controller = "kustomization", controllerKind = "Kustomization", name, namespace, revision,
                reason = %reason, error = %message, "reconciliation failed"
            );
            Severity::Warning
        } else {
            tracing::info!(
                controller = "kustomization", controllerKind = "Kustomization", name, namespace, revision,
                reason = %reason, "{message}"
            );
            Severity::Normal
        };
        if self.is_news(reason, message) {
            let wait = self.context.shared.settings.requeue_dependency;
            let message = match *reason {
                HEALTH_CANCELED => canceled(message),
                DEPENDENCY_NOT_READY => format!(
                    "Dependencies do not meet ready condition, retrying in {}",
                    format_duration(wait)
                ),
                _ => message.clone(),
            };
            self.event_at(
                severity,
                reason,
                message,
                [("revision", revision.as_str()), ("originRevision", origin.as_str())],
            );
        }
    }

    /// Records an event about what is being done with a snapshot.
    pub(super) fn event(&self, severity: Severity, reason: &str, message: String, snapshot: &Snapshot) {
        let origin = snapshot.origin_revision.as_deref().unwrap_or_default();
        let marks = [("revision", snapshot.revision.as_str()), ("originRevision", origin)];
        self.event_at(severity, reason, message, marks);
    }

    /// Records an event about a revision.
    pub(super) fn event_of(&self, severity: Severity, reason: &str, message: String, revision: &str) {
        self.event_at(severity, reason, message, [("revision", revision)]);
    }

    /// Records that all went well; by the mark, those who write the status of commits know that it is for them.
    pub(super) fn finished(&self, snapshot: &Snapshot, times: &Times) {
        let message = self.success(times);
        tracing::info!(
            controller = "kustomization", controllerKind = "Kustomization", name = %self.kustomization.name_any(),
            namespace = %self.namespace(), revision = %snapshot.revision, "{message}"
        );
        self.context.shared.events.record(self.news_of(message, snapshot));
    }

    /// Tells those who write the status of commits that a revision is in force which changed nothing. An event of it in the
    /// cluster would cost a request for each Kustomization and commit.
    pub(super) fn passed_over(&self, snapshot: &Snapshot, times: &Times) {
        let news = self.news_of(self.success(times), snapshot);
        self.context.shared.events.notify(&news);
    }

    fn success(&self, times: &Times) -> String {
        let took = Duration::from_millis(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        let (took, next) = (format_duration(took), format_duration(times.interval));
        format!("Reconciliation finished in {took}, next run in {next}")
    }

    fn news_of(&self, message: String, snapshot: &Snapshot) -> NewEvent {
        let origin = snapshot.origin_revision.as_deref().unwrap_or_default();
        let marks = [
            ("revision", snapshot.revision.as_str()),
            ("originRevision", origin),
            ("commit_status", "update"),
        ];
        self.composed(Severity::Normal, "ReconciliationSucceeded", message, marks)
    }

    /// Says in the log what was done with each object.
    pub(super) fn log_applied(&self, outcome: &Outcome, snapshot: &Snapshot) {
        if outcome.applied.is_empty() {
            return;
        }
        let done = outcome
            .applied
            .iter()
            .map(|one| (one.object.to_string(), one.done.word()));
        let output = if self.context.shared.settings.gates.group_change_log {
            let mut grouped: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for (object, word) in done {
                grouped.entry(word).or_default().push(object);
            }
            serde_json::to_string(&grouped)
        } else {
            serde_json::to_string(&done.collect::<BTreeMap<_, _>>())
        };
        tracing::info!(
            controller = "kustomization", controllerKind = "Kustomization", name = %self.kustomization.name_any(),
            namespace = %self.namespace(), revision = %snapshot.revision, output = output.unwrap_or_default(),
            "server-side apply completed"
        );
    }

    fn event_at<'a>(
        &self,
        severity: Severity,
        reason: &str,
        message: String,
        marks: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let event = self.composed(severity, reason, message, marks);
        self.context.shared.events.record(event);
    }

    fn composed<'a>(
        &self,
        severity: Severity,
        reason: &str,
        message: String,
        marks: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> NewEvent {
        let known = marks.into_iter().filter(|(_, value)| !value.is_empty());
        let marks: Vec<(String, &str)> = known.map(|(key, value)| (format!("{GROUP}/{key}"), value)).collect();
        let marks: Vec<(&str, &str)> = marks.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        record::composed(
            self.kustomization.as_ref(),
            COMPONENT,
            severity,
            reason,
            message,
            &marks,
        )
    }

    /// Whether the last recorded outcome was another one.
    fn is_news(&self, reason: &str, message: &str) -> bool {
        let ready = self
            .status()
            .and_then(|status| status.conditions.iter().find(|one| one.type_ == READY));
        ready.is_none_or(|ready| ready.reason != reason || ready.message != message)
    }
}

/// What is under way when something fails for a reason, in Flux's words.
fn under_way(reason: &str) -> &'static str {
    match reason {
        ARTIFACT_FAILED => "Fetching manifests",
        "BuildFailed" => "Building manifests",
        "HealthCheckFailed" | HEALTH_CANCELED => "Running health checks",
        _ => "Detecting drift",
    }
}

/// What Flux's event says where its condition is shorter.
fn canceled(message: &str) -> String {
    let rest = message.strip_prefix("New reconciliation").unwrap_or(message);
    format!("Health checks canceled due to new reconciliation{rest}")
}
