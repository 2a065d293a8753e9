//! The status of a GitRepository as a pure function of the old status, what happened, and the time.
//!
//! Guarantees: a failure keeps the last artifact; `observedGeneration` moves only when the spec was carried out or given
//! up; conditions that are bad when true are there only while true.

use jiff::Timestamp;

use crate::api::meta::{
    ARTIFACT_IN_STORAGE, FETCH_FAILED, INCLUDE_UNAVAILABLE, READY, RECONCILING, SOURCE_VERIFIED, STALLED,
    STORAGE_FAILED, SUCCEEDED,
};
use crate::api::source::{Artifact, GitRepositorySpec, GitRepositoryStatus};
use crate::core::conditions::Conditions;

/// How one look at the repository ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// An artifact of the current revision is in storage.
    Stored(Box<Stored>),
    /// It was not possible to fetch.
    FetchFailed {
        /// Ready reason, as in `GitOperationFailed`.
        reason: &'static str,
        /// What went wrong.
        message: String,
    },
    /// It was fetched but could not be stored.
    StorageFailed {
        /// Ready reason.
        reason: &'static str,
        /// What went wrong.
        message: String,
    },
    /// The signatures that the spec asks for are not there, or not trusted.
    VerificationFailed {
        /// Ready and SourceVerified reason.
        reason: &'static str,
        /// What is wrong.
        message: String,
        /// Only a change of the spec could help.
        for_good: bool,
    },
    /// What the spec includes is not there.
    IncludeUnavailable {
        /// Ready reason.
        reason: &'static str,
        /// What is missing.
        message: String,
    },
    /// Given up until somebody changes the spec.
    Stalled {
        /// Ready and Stalled reason.
        reason: &'static str,
        /// What is wrong.
        message: String,
    },
}

/// What is in storage.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// The artifact.
    pub artifact: Artifact,
    /// Artifacts that were copied in.
    pub included: Vec<Artifact>,
    /// What was verified, if the spec asks for it.
    pub verified: Option<Verified>,
}

/// Signatures that were found to be good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// `HEAD`, `Tag` or `TagAndHEAD`.
    pub mode: &'static str,
    /// What was signed by which key.
    pub message: String,
}

impl Ending {
    /// Reason and message of everything but success.
    #[must_use]
    pub fn failure(&self) -> Option<(&'static str, &str)> {
        match self {
            Self::Stored(_) => None,
            Self::FetchFailed { reason, message }
            | Self::StorageFailed { reason, message }
            | Self::VerificationFailed { reason, message, .. }
            | Self::IncludeUnavailable { reason, message }
            | Self::Stalled { reason, message } => Some((reason, message)),
        }
    }

    /// Whether only a change of the spec could help.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Stalled { .. } | Self::VerificationFailed { for_good: true, .. }
        )
    }
}

/// Whether an artifact of this status was made of the same parts as the spec asks for now, the revision aside.
#[must_use]
pub fn same_parts(status: &GitRepositoryStatus, spec: &GitRepositorySpec) -> bool {
    status.observed_ignore == spec.ignore
        && status.observed_include.clone().unwrap_or_default() == spec.include.clone().unwrap_or_default()
        && status.observed_sparse_checkout.clone().unwrap_or_default()
            == spec.sparse_checkout.clone().unwrap_or_default()
        && status.observed_recurse_submodules.unwrap_or_default() == spec.recurse_submodules.unwrap_or_default()
}

/// The status after one look.
#[must_use]
pub fn after(
    old: &GitRepositoryStatus,
    ending: &Ending,
    generation: i64,
    spec: &GitRepositorySpec,
    requested_at: Option<&String>,
    now: Timestamp,
) -> GitRepositoryStatus {
    let mut status = old.clone();
    if requested_at.is_some() {
        status.last_handled_reconcile_at = requested_at.cloned();
    }
    let mut conditions = Conditions::from(std::mem::take(&mut status.conditions));
    let generation_of = Some(generation);
    match ending {
        Ending::Stored(stored) => {
            for gone in [RECONCILING, STALLED, FETCH_FAILED, STORAGE_FAILED, INCLUDE_UNAVAILABLE] {
                conditions.remove(gone);
            }
            let Stored {
                artifact,
                included,
                verified,
            } = stored.as_ref();
            match verified {
                Some(verified) => {
                    conditions.mark_true(SOURCE_VERIFIED, SUCCEEDED, &verified.message, generation_of, now);
                }
                None => conditions.remove(SOURCE_VERIFIED),
            }
            status.source_verification_mode = verified.as_ref().map(|verified| verified.mode.to_owned());
            let message = format!("stored artifact for revision '{}'", artifact.revision);
            conditions.mark_true(READY, SUCCEEDED, &message, generation_of, now);
            conditions.mark_true(ARTIFACT_IN_STORAGE, SUCCEEDED, &message, generation_of, now);
            status.artifact = Some(artifact.clone());
            status.included_artifacts = Some(included.clone()).filter(|included| !included.is_empty());
            status.observed_ignore = spec.ignore.clone();
            status.observed_include = spec.include.clone().filter(|list| !list.is_empty());
            status.observed_sparse_checkout = spec.sparse_checkout.clone().filter(|list| !list.is_empty());
            status.observed_recurse_submodules = spec.recurse_submodules.filter(|recurse| *recurse);
            status.observed_generation = generation_of;
        }
        Ending::FetchFailed { reason, message } => {
            conditions.remove(STORAGE_FAILED);
            conditions.remove(INCLUDE_UNAVAILABLE);
            conditions.mark_true(FETCH_FAILED, reason, message, generation_of, now);
            conditions.mark_retrying((reason, message), message, generation_of, now);
        }
        Ending::StorageFailed { reason, message } => {
            conditions.remove(FETCH_FAILED);
            conditions.mark_true(STORAGE_FAILED, reason, message, generation_of, now);
            conditions.mark_retrying((reason, message), message, generation_of, now);
        }
        Ending::VerificationFailed {
            reason,
            message,
            for_good,
        } => {
            conditions.remove(FETCH_FAILED);
            conditions.remove(INCLUDE_UNAVAILABLE);
            conditions.mark_false(SOURCE_VERIFIED, reason, message, generation_of, now);
            if *for_good {
                conditions.mark_given_up((reason, message), generation_of, now);
                status.observed_generation = generation_of;
            } else {
                conditions.mark_retrying((reason, message), message, generation_of, now);
            }
        }
        Ending::IncludeUnavailable { reason, message } => {
            conditions.remove(FETCH_FAILED);
            conditions.mark_true(INCLUDE_UNAVAILABLE, reason, message, generation_of, now);
            conditions.mark_retrying((reason, message), message, generation_of, now);
        }
        Ending::Stalled { reason, message } => {
            // What the spec asks for is wrong for the server, or for Weir.
            if matches!(*reason, "URLInvalid" | "InvalidProviderConfiguration") {
                conditions.mark_true(FETCH_FAILED, reason, message, generation_of, now);
            } else {
                conditions.remove(FETCH_FAILED);
            }
            conditions.mark_given_up((reason, message), generation_of, now);
            status.observed_generation = generation_of;
        }
    }
    status.conditions = conditions.into_vec();
    status
}

/// The status of a suspended GitRepository: a request counts as handled, and what is ready stays ready at the new spec.
#[must_use]
pub fn rested(old: &GitRepositoryStatus, generation: i64, requested_at: Option<&String>) -> GitRepositoryStatus {
    let mut status = old.clone();
    if requested_at.is_some() {
        status.last_handled_reconcile_at = requested_at.cloned();
    }
    let ready = status.conditions.iter_mut().find(|one| one.type_ == READY);
    if let Some(ready) = ready.filter(|ready| ready.status == "True") {
        ready.observed_generation = Some(generation);
        status.observed_generation = Some(generation);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn artifact() -> Artifact {
        Artifact {
            url: "http://h/p".into(),
            path: "p".into(),
            revision: "main@sha1:aa".into(),
            digest: "sha256:1".into(),
            last_update_time: "2026-01-02T03:04:05Z".into(),
            size: Some(1),
            metadata: None,
        }
    }

    fn shown(status: &GitRepositoryStatus) -> Vec<String> {
        let mut lines: Vec<String> = status
            .conditions
            .iter()
            .map(|one| format!("{}={}/{}", one.type_, one.status, one.reason))
            .collect();
        lines.sort();
        lines
    }

    fn stored(verified: Option<Verified>) -> Ending {
        Ending::Stored(Box::new(Stored {
            artifact: artifact(),
            included: Vec::new(),
            verified,
        }))
    }

    fn spec(more: serde_json::Value) -> GitRepositorySpec {
        let mut spec = serde_json::json!({"url": "https://h/a", "interval": "1m"});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn next(old: &GitRepositoryStatus, ending: &Ending, generation: i64) -> GitRepositoryStatus {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let token = "t".to_owned();
        after(old, ending, generation, &spec(serde_json::json!({})), Some(&token), now)
    }

    #[test]
    fn a_failed_fetch_keeps_the_artifact_and_recovery_clears_it() {
        let good = next(&GitRepositoryStatus::default(), &stored(None), 1);
        assert_eq!(
            shown(&good),
            ["ArtifactInStorage=True/Succeeded", "Ready=True/Succeeded"]
        );
        assert_eq!(
            good.conditions[0].message,
            "stored artifact for revision 'main@sha1:aa'"
        );
        let failed = Ending::FetchFailed {
            reason: "GitOperationFailed",
            message: "down".into(),
        };
        let bad = next(&good, &failed, 2);
        assert_eq!(
            shown(&bad),
            [
                "ArtifactInStorage=True/Succeeded",
                "FetchFailed=True/GitOperationFailed",
                "Ready=False/GitOperationFailed",
                "Reconciling=True/ProgressingWithRetry"
            ]
        );
        assert_eq!(bad.artifact, Some(artifact()));
        assert_eq!(bad.observed_generation, Some(1));
        assert_eq!(bad.last_handled_reconcile_at.as_deref(), Some("t"));
        let again = next(&bad, &stored(None), 2);
        assert_eq!(shown(&again), shown(&good));
    }

    #[test]
    fn a_suspended_repository_that_is_ready_is_ready_at_its_new_spec() {
        let good = next(&GitRepositoryStatus::default(), &stored(None), 1);
        let token = "later".to_owned();
        let rests = rested(&good, 2, Some(&token));
        assert_eq!((rests.observed_generation, shown(&rests)), (Some(2), shown(&good)));
        assert_eq!(rests.last_handled_reconcile_at, Some(token));
        let failed = Ending::FetchFailed {
            reason: "GitOperationFailed",
            message: "down".into(),
        };
        let bad = next(&good, &failed, 1);
        assert_eq!(rested(&bad, 2, None), bad);
    }

    #[test]
    fn signatures_are_told_while_they_are_asked_for() {
        let verified = Verified {
            mode: "HEAD",
            message: "by ada".into(),
        };
        let good = next(&GitRepositoryStatus::default(), &stored(Some(verified)), 1);
        let lines = shown(&good);
        assert!(lines.contains(&"SourceVerified=True/Succeeded".to_owned()), "{lines:?}");
        assert_eq!(good.source_verification_mode.as_deref(), Some("HEAD"));
        let failed = |for_good| Ending::VerificationFailed {
            reason: "InvalidCommitSignature",
            message: "by eve".into(),
            for_good,
        };
        let bad = next(&good, &failed(false), 1);
        assert_eq!(
            shown(&bad),
            [
                "ArtifactInStorage=True/Succeeded",
                "Ready=False/InvalidCommitSignature",
                "Reconciling=True/ProgressingWithRetry",
                "SourceVerified=False/InvalidCommitSignature"
            ]
        );
        assert_eq!(bad.artifact, Some(artifact()));
        assert!(shown(&next(&good, &failed(true), 2)).contains(&"Stalled=True/InvalidCommitSignature".to_owned()));
        let without = next(&bad, &stored(None), 2);
        assert_eq!(
            shown(&without),
            ["ArtifactInStorage=True/Succeeded", "Ready=True/Succeeded"]
        );
        assert_eq!(without.source_verification_mode, None);
    }

    #[test]
    fn an_artifact_made_of_other_parts_is_made_anew() {
        let check = |parts: serde_json::Value, expect: bool| {
            let status = next(&GitRepositoryStatus::default(), &stored(None), 1);
            assert_eq!(same_parts(&status, &spec(parts.clone())), expect, "{parts}");
        };
        check(serde_json::json!({}), true);
        check(
            serde_json::json!({"recurseSubmodules": false, "include": [], "sparseCheckout": []}),
            true,
        );
        check(serde_json::json!({"ignore": "a"}), false);
        check(serde_json::json!({"recurseSubmodules": true}), false);
        check(serde_json::json!({"sparseCheckout": ["a"]}), false);
        check(serde_json::json!({"include": [{"repository": {"name": "b"}}]}), false);
    }
}
