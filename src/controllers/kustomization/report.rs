//! How an attempt that did not succeed is told: the status it leaves, the event, and whether it is news.

use kube::ResourceExt;

use super::flow::{APPLY_RETRY, Again, Run, Stop};
use super::status::{Attempt, Ending};
use super::{COMPONENT, RecordError, flow};
use crate::api::meta::{POLICY_DENIED, READY};
use crate::apply::Outcome;
use crate::apply::objects::ObjectError;
use crate::cluster::events::Severity;
use crate::controllers::record;
use crate::core::snapshot::Snapshot;
use crate::gate::Verdict;

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
        self.stop(
            self.attempt(Ending::Failed { reason, message }).at(snapshot),
            Again::Retry,
        )
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
            self.event_at(severity, reason, message.clone(), &revision);
        }
    }

    /// Records an event about what is being done with a snapshot.
    pub(super) fn event(&self, severity: Severity, reason: &str, message: String, snapshot: &Snapshot) {
        self.event_at(severity, reason, message, &snapshot.revision);
    }

    fn event_at(&self, severity: Severity, reason: &str, message: String, revision: &str) {
        record::event(
            &self.context.shared.events,
            self.kustomization.as_ref(),
            COMPONENT,
            severity,
            reason,
            message,
            &[("kustomize.toolkit.fluxcd.io/revision", revision)],
        );
    }

    /// Whether the last recorded outcome was another one.
    fn is_news(&self, reason: &str, message: &str) -> bool {
        let ready = self
            .status()
            .and_then(|status| status.conditions.iter().find(|one| one.type_ == READY));
        ready.is_none_or(|ready| ready.reason != reason || ready.message != message)
    }
}
