//! What was decided: findings, and what follows from them.

use serde::Serialize;
use serde_json::Value as Json;

/// What a finding means for the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Recorded only.
    DryRun,
    /// Told to whoever asks.
    Warn,
    /// The request is refused.
    Deny,
}

impl Action {
    /// As Gatekeeper writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DryRun => "dryrun",
            Self::Warn => "warn",
            Self::Deny => "deny",
        }
    }
}

/// Where a decision is asked for; constraints may differ by it (`scopedEnforcementActions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EnforcementPoint {
    /// Before something is written: the webhook, and Weir's gate.
    #[default]
    Validation,
    /// What is in the cluster already.
    Audit,
    /// On a laptop or in CI.
    Check,
}

impl EnforcementPoint {
    /// Gatekeeper's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Validation => "validation.gatekeeper.sh",
            Self::Audit => "audit.gatekeeper.sh",
            Self::Check => "gator.gatekeeper.sh",
        }
    }
}

/// One thing that a policy has to say about an object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The policy: `Kind/name` of a constraint, or a Rego package.
    pub policy: String,
    /// What it means.
    pub action: Action,
    /// What is wrong with the object.
    pub message: String,
    /// What else the policy said; null when nothing.
    #[serde(skip_serializing_if = "Json::is_null")]
    pub details: Json,
    /// The policy's name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The file or object that the policy comes from.
    pub source: String,
    /// Whether the policy could not be evaluated; the message says why.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub failed: bool,
}

impl Finding {
    /// The policy without its kind: what a denial puts in brackets.
    #[must_use]
    pub fn short_policy(&self) -> &str {
        self.policy.rsplit('/').next().unwrap_or(&self.policy)
    }
}

/// What all policies have to say about one review.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Decision {
    /// The findings: denials first, then in the order of their policies.
    pub findings: Vec<Finding>,
    /// How many policies were asked.
    pub evaluated: usize,
}

impl Decision {
    pub(crate) fn new(mut findings: Vec<Finding>, evaluated: usize) -> Self {
        // The order must not depend on how policies were found or sets were stored.
        fn key(finding: &Finding) -> (std::cmp::Reverse<Action>, &str, &str) {
            (std::cmp::Reverse(finding.action), &finding.policy, &finding.message)
        }
        findings.sort_by(|left, right| key(left).cmp(&key(right)));
        Self { findings, evaluated }
    }

    /// Whether the request is refused.
    #[must_use]
    pub fn denied(&self) -> bool {
        self.denials().next().is_some()
    }

    /// The findings that refuse it.
    pub fn denials(&self) -> impl Iterator<Item = &Finding> {
        self.of(Action::Deny)
    }

    /// The findings that are told to whoever asks.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        self.of(Action::Warn)
    }

    /// The denial as Gatekeeper words it: a line per finding, `[policy] message`.
    #[must_use]
    pub fn denial_message(&self) -> String {
        let lines = self
            .denials()
            .map(|finding| format!("[{}] {}", finding.short_policy(), finding.message));
        lines.collect::<Vec<_>>().join("\n")
    }

    fn of(&self, action: Action) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(move |finding| finding.action == action)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(policy: &str, action: Action, message: &str) -> Finding {
        Finding {
            policy: policy.to_owned(),
            action,
            message: message.to_owned(),
            details: Json::Null,
            title: None,
            hint: None,
            source: "x".to_owned(),
            failed: false,
        }
    }

    #[test]
    fn denials_come_first_and_are_worded_as_gatekeeper_does() {
        let decision = Decision::new(
            vec![
                finding("b", Action::Warn, "careful"),
                finding("K8sX/owner", Action::Deny, "no owner"),
                finding("a.b", Action::Deny, "two"),
                finding("a.b", Action::Deny, "one"),
                finding("a", Action::DryRun, "seen"),
            ],
            4,
        );
        assert!(decision.denied());
        assert_eq!(decision.denial_message(), "[owner] no owner\n[a.b] one\n[a.b] two");
        assert_eq!(decision.warnings().count(), 1);
        assert!(!Decision::new(vec![finding("b", Action::Warn, "careful")], 1).denied());
    }
}
