//! The status of a Kustomization as a pure function of the old status, what happened, and the time.
//!
//! Guarantees, as Flux gives them: `observedGeneration` moves only when the spec was carried out or given up;
//! `lastAppliedRevision` moves only on full success; a failure keeps the inventory unless it says otherwise; Reconciling
//! and Stalled are there only while true; the history keeps five entries, newest first, one for each build and outcome.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use crate::api::kustomize::{HistoryEntry, InventoryEntry, InventoryStatus, KustomizationStatus};
use crate::api::meta::{HEALTHY, PROGRESSING, READY, RECONCILING, STALLED};
use crate::core::conditions::Conditions;
use crate::core::duration::format_duration;
use crate::core::inventory::Inventory;

/// How many history entries are kept; Flux's number.
const HISTORY: usize = 5;

/// What `Ready` says while work is under way; Flux's words. What is being done, `Reconciling` says.
const IN_PROGRESS: &str = "Reconciliation in progress";

/// How one attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Applied and, where asked for, healthy.
    Applied,
    /// Failed and tried again later.
    Failed {
        /// Ready reason, as in `BuildFailed`.
        reason: &'static str,
        /// What went wrong.
        message: String,
    },
    /// Given up until somebody changes something.
    Stalled {
        /// Ready and Stalled reason, as in `PolicyDenied`.
        reason: &'static str,
        /// What went wrong.
        message: String,
    },
    /// Under way, for those who watch.
    Progressing {
        /// What is being done.
        message: String,
    },
}

/// What one attempt found out; everything that is `None` stays as it was.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// How it ended.
    pub ending: Ending,
    /// Generation of the spec that was read.
    pub generation: i64,
    /// Value of the request annotation that was acted on.
    pub requested_at: Option<String>,
    /// What was under way when it failed, as Flux leaves it in `Reconciling`; what went wrong when nothing was.
    pub doing: Option<String>,
    /// Revision that it is about.
    pub revision: Option<String>,
    /// Whether that revision was there to be tried: Flux does not call one attempted whose files it did not get.
    pub attempted: bool,
    /// What that revision was built from.
    pub origin_revision: Option<String>,
    /// What is owned now.
    pub inventory: Option<Inventory>,
    /// Digest of the build, once there was one; makes a history entry.
    pub digest: Option<String>,
    /// Whether health is checked: `None` when nothing is to be checked.
    pub health: Option<Health>,
    /// How long it took.
    pub took: Duration,
}

impl Attempt {
    /// What is told of its end.
    #[must_use]
    pub fn message(&self) -> &str {
        match &self.ending {
            Ending::Applied => "applied",
            Ending::Failed { message, .. } | Ending::Stalled { message, .. } | Ending::Progressing { message } => {
                message
            }
        }
    }
}

/// What is known of the health of what was applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// All is well.
    Healthy(String),
    /// Being looked at.
    Checking(String),
    /// Something is not well.
    Unhealthy(String),
    /// This attempt did not get that far.
    NotReached,
}

/// The status after an attempt.
#[must_use]
pub fn after(old: &KustomizationStatus, attempt: &Attempt, now: Timestamp) -> KustomizationStatus {
    let mut status = old.clone();
    if attempt.requested_at.is_some() {
        status.last_handled_reconcile_at.clone_from(&attempt.requested_at);
    }
    if attempt.attempted && attempt.revision.is_some() {
        status.last_attempted_revision.clone_from(&attempt.revision);
    }
    if let Some(inventory) = &attempt.inventory {
        status.inventory = Some(written(inventory));
    }
    let generation = Some(attempt.generation);
    let mut conditions = Conditions::from(std::mem::take(&mut status.conditions));
    match &attempt.ending {
        Ending::Applied => {
            let revision = attempt.revision.clone().unwrap_or_default();
            conditions.remove(RECONCILING);
            conditions.remove(STALLED);
            conditions.mark_true(
                READY,
                "ReconciliationSucceeded",
                &format!("Applied revision: {revision}"),
                generation,
                now,
            );
            status.last_applied_revision.clone_from(&attempt.revision);
            status.last_applied_origin_revision.clone_from(&attempt.origin_revision);
            status.observed_generation = generation;
        }
        Ending::Failed { reason, message } => {
            let doing = attempt.doing.as_ref().unwrap_or(message);
            conditions.mark_retrying((reason, message), doing, generation, now);
        }
        Ending::Stalled { reason, message } => {
            conditions.mark_given_up((reason, message), generation, now);
            status.observed_generation = generation;
        }
        Ending::Progressing { message } => {
            conditions.remove(STALLED);
            conditions.mark_reconciling(PROGRESSING, message, generation, now);
            conditions.mark_unknown(READY, PROGRESSING, IN_PROGRESS, generation, now);
        }
    }
    match &attempt.health {
        None => conditions.remove(HEALTHY),
        Some(Health::Healthy(message)) => conditions.mark_true(HEALTHY, "Succeeded", message, generation, now),
        Some(Health::Checking(message)) => conditions.mark_unknown(HEALTHY, PROGRESSING, message, generation, now),
        Some(Health::Unhealthy(message)) => {
            conditions.mark_false(HEALTHY, "HealthCheckFailed", message, generation, now);
        }
        Some(Health::NotReached) => {}
    }
    status.conditions = conditions.into_vec();
    if let (Some(digest), Some(outcome)) = (&attempt.digest, outcome(&attempt.ending)) {
        status.history = Some(remember(
            status.history.unwrap_or_default(),
            digest,
            outcome,
            attempt,
            now,
        ));
    }
    status
}

/// The status of a suspended Kustomization: a request counts as handled, and what is ready stays ready at the new spec, so
/// that those who wait for it (a Kustomization that declares it) need not wait for its end.
#[must_use]
pub fn rested(old: &KustomizationStatus, generation: i64, requested_at: Option<&String>) -> KustomizationStatus {
    let mut status = old.clone();
    if requested_at.is_some() {
        status.last_handled_reconcile_at = requested_at.cloned();
    }
    let mut conditions = Conditions::from(std::mem::take(&mut status.conditions));
    if conditions.is_true(READY) {
        conditions.remove(RECONCILING);
        status.observed_generation = Some(generation);
    }
    status.conditions = conditions.into_vec();
    status
}

fn outcome(ending: &Ending) -> Option<&'static str> {
    match ending {
        Ending::Applied => Some("ReconciliationSucceeded"),
        Ending::Failed { reason, .. } | Ending::Stalled { reason, .. } => Some(reason),
        Ending::Progressing { .. } => None,
    }
}

fn remember(
    mut history: Vec<HistoryEntry>,
    digest: &str,
    outcome: &str,
    attempt: &Attempt,
    now: Timestamp,
) -> Vec<HistoryEntry> {
    let now = format!("{now:.0}");
    let same = history
        .iter()
        .position(|entry| entry.digest == digest && entry.last_reconciled_status == outcome);
    let mut entry = same.map_or_else(
        || HistoryEntry {
            digest: digest.to_owned(),
            first_reconciled: now.clone(),
            last_reconciled: String::new(),
            last_reconciled_duration: String::new(),
            last_reconciled_status: outcome.to_owned(),
            total_reconciliations: 0,
            metadata: None,
        },
        |position| history.remove(position),
    );
    entry.last_reconciled = now;
    entry.last_reconciled_duration = format_duration(Duration::from_millis(rounded(attempt.took)));
    entry.total_reconciliations += 1;
    let named = [
        ("revision", &attempt.revision),
        ("originRevision", &attempt.origin_revision),
    ];
    let metadata: BTreeMap<String, String> = named
        .into_iter()
        .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)))
        .collect();
    entry.metadata = (!metadata.is_empty()).then_some(metadata);
    history.insert(0, entry);
    history.truncate(HISTORY);
    history
}

fn rounded(took: Duration) -> u64 {
    u64::try_from(took.as_millis()).unwrap_or(u64::MAX)
}

fn written(inventory: &Inventory) -> InventoryStatus {
    let entries = inventory
        .entries()
        .into_iter()
        .map(|(id, v)| InventoryEntry { id, v })
        .collect();
    InventoryStatus { entries }
}

/// The inventory that a status holds; entries that cannot be read are named beside it.
#[must_use]
pub fn inventory(status: Option<&KustomizationStatus>) -> (Inventory, Vec<String>) {
    let entries = status
        .and_then(|status| status.inventory.as_ref())
        .map(|inventory| inventory.entries.as_slice());
    let (inventory, bad) = Inventory::read(
        entries
            .unwrap_or_default()
            .iter()
            .map(|entry| (entry.id.as_str(), entry.v.as_str())),
    );
    (inventory, bad.iter().map(ToString::to_string).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(ending: Ending) -> Attempt {
        Attempt {
            ending,
            generation: 2,
            requested_at: None,
            doing: None,
            revision: Some("main@sha1:aa".into()),
            attempted: true,
            origin_revision: None,
            inventory: None,
            digest: Some("sha256:1".into()),
            health: None,
            took: Duration::from_millis(1500),
        }
    }

    fn shown(status: &KustomizationStatus) -> Vec<String> {
        let mut lines: Vec<String> = status
            .conditions
            .iter()
            .map(|c| format!("{}={}/{}", c.type_, c.status, c.reason))
            .collect();
        lines.sort();
        lines
    }

    fn now() -> Timestamp {
        "2026-01-02T03:04:05Z".parse().unwrap()
    }

    #[test]
    fn success_moves_generation_and_revision() {
        let old = KustomizationStatus {
            observed_generation: Some(-1),
            ..Default::default()
        };
        let status = after(&old, &attempt(Ending::Applied), now());
        assert_eq!(shown(&status), ["Ready=True/ReconciliationSucceeded"]);
        assert_eq!(status.conditions[0].message, "Applied revision: main@sha1:aa");
        assert_eq!(status.observed_generation, Some(2));
        assert_eq!(status.last_applied_revision.as_deref(), Some("main@sha1:aa"));
        let history = status.history.unwrap();
        assert_eq!(history[0].last_reconciled, "2026-01-02T03:04:05Z");
        assert_eq!(history[0].last_reconciled_duration, "1.5s");
    }

    #[test]
    fn a_failure_keeps_what_was_applied_and_does_not_claim_the_generation() {
        let good = after(&KustomizationStatus::default(), &attempt(Ending::Applied), now());
        let failed = Ending::Failed {
            reason: "BuildFailed",
            message: "no such file".into(),
        };
        let status = after(
            &good,
            &Attempt {
                generation: 3,
                revision: Some("main@sha1:bb".into()),
                ..attempt(failed)
            },
            now(),
        );
        assert_eq!(
            shown(&status),
            ["Ready=False/BuildFailed", "Reconciling=True/ProgressingWithRetry"]
        );
        assert_eq!(status.observed_generation, Some(2));
        assert_eq!(status.last_applied_revision.as_deref(), Some("main@sha1:aa"));
        assert_eq!(status.last_attempted_revision.as_deref(), Some("main@sha1:bb"));
        assert_eq!(status.history.unwrap().len(), 2);
    }

    #[test]
    fn what_was_under_way_is_told_beside_what_went_wrong() {
        let failed = Ending::Failed {
            reason: "ArtifactFailed",
            message: "kustomization path not found: app".into(),
        };
        let doing = "Fetching manifests for revision main@sha1:aa with a timeout of 30s";
        let failed = Attempt {
            doing: Some(doing.into()),
            attempted: false,
            ..attempt(failed)
        };
        let status = after(&KustomizationStatus::default(), &failed, now());
        let message = |kind: &str| {
            let found = status.conditions.iter().find(|one| one.type_ == kind);
            found.unwrap().message.clone()
        };
        assert_eq!(message("Reconciling"), doing);
        assert_eq!(message("Ready"), "kustomization path not found: app");
        assert_eq!(status.last_attempted_revision, None);
        let under_way = Ending::Progressing { message: doing.into() };
        let status = after(&KustomizationStatus::default(), &attempt(under_way), now());
        let ready = status.conditions.iter().find(|one| one.type_ == "Ready").unwrap();
        assert_eq!(
            (ready.status.as_str(), ready.message.as_str()),
            ("Unknown", "Reconciliation in progress")
        );
    }

    #[test]
    fn a_suspended_kustomization_that_is_ready_is_ready_at_its_new_spec() {
        let good = after(&KustomizationStatus::default(), &attempt(Ending::Applied), now());
        let token = "t".to_owned();
        let rests = rested(&good, 3, Some(&token));
        assert_eq!(rests.observed_generation, Some(3));
        assert_eq!(rests.last_handled_reconcile_at.as_deref(), Some("t"));
        assert_eq!(rests.conditions, good.conditions);
        let failed = Ending::Failed {
            reason: "BuildFailed",
            message: "no".into(),
        };
        let bad = after(&good, &attempt(failed), now());
        let rests = rested(&bad, 3, None);
        assert_eq!((rests.observed_generation, shown(&rests)), (Some(2), shown(&bad)));
    }

    #[test]
    fn a_refusal_is_final_until_something_changes() {
        let denied = Ending::Stalled {
            reason: "PolicyDenied",
            message: "no".into(),
        };
        let status = after(&KustomizationStatus::default(), &attempt(denied), now());
        assert_eq!(
            shown(&status),
            ["Ready=False/PolicyDenied", "Stalled=True/PolicyDenied"]
        );
        assert_eq!(status.observed_generation, Some(2));
        let again = after(&status, &attempt(Ending::Applied), now());
        assert_eq!(shown(&again), ["Ready=True/ReconciliationSucceeded"]);
    }

    #[test]
    fn history_counts_equal_builds_and_keeps_five() {
        let mut status = KustomizationStatus::default();
        for digest in ["a", "b", "a", "c", "d", "e", "f"] {
            let attempt = Attempt {
                digest: Some(digest.into()),
                ..attempt(Ending::Applied)
            };
            status = after(&status, &attempt, now());
        }
        let history = status.history.unwrap();
        let shown: Vec<(&str, i64)> = history
            .iter()
            .map(|e| (e.digest.as_str(), e.total_reconciliations))
            .collect();
        assert_eq!(shown, [("f", 1), ("e", 1), ("d", 1), ("c", 1), ("a", 2)]);
    }
}
