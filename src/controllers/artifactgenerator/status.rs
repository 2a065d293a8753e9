//! The status of an ArtifactGenerator as a pure function of the old one, what happened, and the time.
//!
//! Guarantees: a failure keeps the inventory.

use jiff::Timestamp;

use crate::api::extensions::{ArtifactGenerator, ArtifactGeneratorStatus, GeneratedArtifact};
use crate::api::meta::{READY, RECONCILING, STALLED, SUCCEEDED};
use crate::core::conditions::Conditions;

/// How a reconciliation ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// Everything was made and is offered.
    Made(Made),
    /// It will be tried again.
    Failed {
        /// Ready reason.
        reason: &'static str,
        /// What went wrong.
        message: String,
    },
    /// Given up until somebody changes something.
    Stalled {
        /// Ready and Stalled reason.
        reason: &'static str,
        /// What is wrong.
        message: String,
    },
}

/// What was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Made {
    /// The ExternalArtifacts.
    pub inventory: Vec<GeneratedArtifact>,
    /// State of the sources that they were made of.
    pub digest: String,
}

impl Ending {
    /// Whether it is as it should be.
    #[must_use]
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Made(_))
    }

    /// Reason and text of the event that tells it.
    #[must_use]
    pub fn told(&self) -> (&'static str, String) {
        match self {
            Self::Made(made) => (READY, made.message()),
            Self::Failed { reason, message } | Self::Stalled { reason, message } => (reason, message.clone()),
        }
    }
}

impl Made {
    fn message(&self) -> String {
        format!(
            "reconciliation succeeded, generated {} artifact(s)",
            self.inventory.len()
        )
    }
}

/// Whether the status tells of this spec and of sources in this state, and all went well.
#[must_use]
pub fn is_current(generator: &ArtifactGenerator, digest: &str) -> bool {
    let Some(status) = &generator.status else {
        return false;
    };
    let ready = status.conditions.iter().find(|one| one.type_ == READY);
    ready.is_some_and(|ready| ready.status == "True" && ready.observed_generation == generator.metadata.generation)
        && status.observed_sources_digest.as_deref() == Some(digest)
}

/// The status after a reconciliation.
#[must_use]
pub fn after(
    old: &ArtifactGeneratorStatus,
    ending: &Ending,
    generation: i64,
    requested_at: Option<&String>,
    now: Timestamp,
) -> ArtifactGeneratorStatus {
    let mut status = old.clone();
    if requested_at.is_some() {
        status.last_handled_reconcile_at = requested_at.cloned();
    }
    let mut conditions = Conditions::from(std::mem::take(&mut status.conditions));
    let generation = Some(generation);
    match ending {
        Ending::Made(made) => {
            conditions.remove(RECONCILING);
            conditions.remove(STALLED);
            conditions.mark_true(READY, SUCCEEDED, &made.message(), generation, now);
            status.inventory.clone_from(&made.inventory);
            status.observed_sources_digest = Some(made.digest.clone());
        }
        Ending::Failed { reason, message } => {
            conditions.mark_retrying((reason, message), message, generation, now);
        }
        Ending::Stalled { reason, message } => {
            conditions.mark_given_up((reason, message), generation, now);
        }
    }
    status.conditions = conditions.into_vec();
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(status: &ArtifactGeneratorStatus) -> Vec<String> {
        let line = |one: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| {
            format!("{}={}/{}", one.type_, one.status, one.reason)
        };
        status.conditions.iter().map(line).collect()
    }

    #[test]
    fn a_failure_keeps_what_was_made_and_recovery_clears_it() {
        let now = "2026-01-02T03:04:05Z".parse().unwrap();
        let token = "t".to_owned();
        let next = |old: &ArtifactGeneratorStatus, ending: &Ending| after(old, ending, 1, Some(&token), now);
        let made = Ending::Made(Made {
            inventory: vec![GeneratedArtifact {
                name: "web".into(),
                namespace: "apps".into(),
                digest: "sha256:1".into(),
                filename: "1.tar.gz".into(),
            }],
            digest: "sha256:2".into(),
        });
        let good = next(&ArtifactGeneratorStatus::default(), &made);
        assert_eq!(shown(&good), ["Ready=True/Succeeded"]);
        assert_eq!(
            good.conditions[0].message,
            "reconciliation succeeded, generated 1 artifact(s)"
        );
        assert_eq!(good.last_handled_reconcile_at.as_deref(), Some("t"));
        let failed = Ending::Failed {
            reason: "BuildFailed",
            message: "web build failed: x".into(),
        };
        let bad = next(&good, &failed);
        assert_eq!(
            shown(&bad),
            ["Reconciling=True/ProgressingWithRetry", "Ready=False/BuildFailed"]
        );
        assert_eq!(
            (&bad.inventory, &bad.observed_sources_digest),
            (&good.inventory, &good.observed_sources_digest)
        );
        let stalled = Ending::Stalled {
            reason: "ValidationFailed",
            message: "x".into(),
        };
        let given_up = next(&bad, &stalled);
        assert_eq!(
            shown(&given_up),
            ["Stalled=True/ValidationFailed", "Ready=False/ValidationFailed"]
        );
        assert_eq!(shown(&next(&given_up, &made)), shown(&good));
    }
}
