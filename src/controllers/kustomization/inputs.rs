//! What a Kustomization's spec asks for, checked and with its defaults: pure.
//!
//! Guarantees: a value that cannot be used is named, never ignored.

use std::time::Duration;

use crate::api::kustomize::{KustomizationSpec, SubstituteStrategy};
use crate::api::meta::UNSUPPORTED;
use crate::core::duration::{format_duration, parse_duration};
use crate::core::gates::Gates;
use crate::render::variables::Variables;
use crate::render::{RenderRequest, Substitution};

/// Flux's floor for timeouts: shorter ones would end before anything can become ready.
const TIMEOUT_FLOOR: Duration = Duration::from_secs(30);
/// Reason when a field needs a gate that is closed; Flux's.
const FEATURE_GATE_DISABLED: &str = "FeatureGateDisabled";
/// By how much the default timeout is shorter than the interval.
const TIMEOUT_MARGIN: Duration = Duration::from_secs(30);

/// Times of a Kustomization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Between reconciliations that nothing asked for.
    pub interval: Duration,
    /// After a failure.
    pub retry: Duration,
    /// For applying and for health.
    pub timeout: Duration,
}

/// Why a spec is not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A value cannot be used.
    #[error("spec.{field}: {reason}")]
    Invalid {
        /// Field below `spec`.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
}

/// Checks a spec and reads its times.
///
/// # Errors
/// Names the first field that is not valid.
pub fn check(spec: &KustomizationSpec) -> Result<Times, SpecError> {
    let time = |field, text: &str| {
        parse_duration(text).map_err(|error| SpecError::Invalid {
            field,
            reason: error.to_string(),
        })
    };
    let interval = time("interval", &spec.interval)?;
    let retry = spec
        .retry_interval
        .as_deref()
        .map_or(Ok(interval), |text| time("retryInterval", text))?;
    let timeout = match spec.timeout.as_deref() {
        Some(text) => time("timeout", text)?,
        None => interval.saturating_sub(TIMEOUT_MARGIN),
    };
    Ok(Times {
        interval,
        retry,
        timeout: timeout.max(TIMEOUT_FLOOR),
    })
}

/// What is being done, as Flux tells it in `Reconciling` and `Healthy`.
#[must_use]
pub fn doing(what: &str, revision: &str, times: &Times) -> String {
    let timeout = format_duration(times.timeout);
    format!("{what} for revision {revision} with a timeout of {timeout}")
}

/// Refuses an identity of its own for decryption: reason and message. Without its gate that is Flux's answer too.
///
/// # Errors
/// When `spec.decryption.serviceAccountName` is set, and nobody can be asked in its name: there is no gate for that, or no
/// Vault that takes its token.
pub fn check_identity(spec: &KustomizationSpec, gates: &Gates, vault: bool) -> Result<(), (&'static str, String)> {
    let account = spec
        .decryption
        .as_ref()
        .and_then(|one| one.service_account_name.as_deref());
    if account.is_none_or(str::is_empty) {
        return Ok(());
    }
    if gates.object_level_workload_identity && vault {
        return Ok(());
    }
    if gates.object_level_workload_identity {
        let message = "spec.decryption.serviceAccountName is supported for Vault only, with --sops-vault-configmap; give the \
            credentials of other key management services in the Secret of spec.decryption.secretRef";
        return Err((UNSUPPORTED, message.to_owned()));
    }
    let message = "to use spec.decryption.serviceAccountName for decryption authentication please enable the \
        ObjectLevelWorkloadIdentity feature gate in the controller";
    Err((FEATURE_GATE_DISABLED, message.to_owned()))
}

/// `spec.path` as a path in the snapshot: `./apps/prod/` is `apps/prod`, the root is empty. Nothing leads above the root.
#[must_use]
pub fn path(spec: &KustomizationSpec) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in spec.path.as_deref().unwrap_or_default().split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// What to build for a spec, with the variables that were gathered for it; `strict` refuses those without a value.
#[must_use]
pub fn request(spec: &KustomizationSpec, variables: Option<&Variables>, strict: bool) -> RenderRequest {
    let strategy = spec
        .post_build
        .as_ref()
        .and_then(|post_build| post_build.substitute_strategy);
    RenderRequest {
        path: path(spec),
        target_namespace: spec.target_namespace.clone(),
        name_prefix: spec.name_prefix.clone(),
        name_suffix: spec.name_suffix.clone(),
        patches: spec.patches.clone().unwrap_or_default(),
        images: spec.images.clone().unwrap_or_default(),
        components: spec.components.clone().unwrap_or_default(),
        ignore_missing_components: spec.ignore_missing_components == Some(true),
        build_metadata: spec
            .build_metadata
            .iter()
            .flatten()
            .map(|option| option.as_str().to_owned())
            .collect(),
        substitute: variables.map(|variables| Substitution {
            variables: variables.values.clone(),
            strict,
            always: strategy == Some(SubstituteStrategy::Always),
        }),
        decrypt: None,
        keep_encrypted: false,
    }
}

/// An interval, stretched by a part of its share in percent; `spread` says which part, from 0 to 1.
pub(super) fn stretched(interval: Duration, percent: u8, spread: f64) -> Duration {
    interval.mul_f64(1.0 + f64::from(percent) / 100.0 * spread)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use serde_json::{Value, json};

    pub(in super::super) fn spec(extra: &Value) -> KustomizationSpec {
        let mut spec = json!({"interval": "10m", "prune": true,
            "sourceRef": {"kind": "GitRepository", "name": "repo"}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    #[test]
    fn an_interval_is_stretched_by_at_most_its_share() {
        let minutes = |percent, spread| stretched(Duration::from_secs(600), percent, spread).as_secs();
        assert_eq!([minutes(5, 0.0), minutes(5, 0.5), minutes(5, 1.0)], [600, 615, 630]);
        assert_eq!(minutes(0, 1.0), 600);
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let check = |extra: Value, expect: &str| {
            let error = super::check(&spec(&extra)).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        check(json!({"interval": "soon"}), "spec.interval: \"soon\" is not a duration");
    }

    #[test]
    fn an_account_for_decryption_needs_its_gate_and_more() {
        let account = json!({"decryption": {"provider": "sops", "serviceAccountName": "kms"}});
        let check = |extra: &Value, gates: &str, expect: Option<(&str, &str)>| {
            let (gates, _) = Gates::parse(gates).unwrap();
            let refused = check_identity(&spec(extra), &gates, false).err();
            assert_eq!(refused.is_some(), expect.is_some());
            if let (Some((reason, message)), Some((because, part))) = (refused, expect) {
                assert!(reason == because && message.contains(part), "{reason}: {message}");
            }
        };
        check(&json!({"decryption": {"provider": "sops"}}), "", None);
        let gate = "please enable the ObjectLevelWorkloadIdentity feature gate in the controller";
        check(&account, "", Some(("FeatureGateDisabled", gate)));
        let secret = "in the Secret of spec.decryption.secretRef";
        check(
            &account,
            "ObjectLevelWorkloadIdentity=true",
            Some(("Unsupported", secret)),
        );
        let (gates, _) = Gates::parse("ObjectLevelWorkloadIdentity=true").unwrap();
        assert_eq!(check_identity(&spec(&account), &gates, true), Ok(()));
        assert!(check_identity(&spec(&account), &Gates::default(), true).is_err());
    }

    #[test]
    fn times_have_flux_s_defaults() {
        let seconds = |extra: Value| {
            let times = super::check(&spec(&extra)).unwrap();
            (times.interval.as_secs(), times.retry.as_secs(), times.timeout.as_secs())
        };
        assert_eq!(seconds(json!({})), (600, 600, 570));
        assert_eq!(seconds(json!({"interval": "40s"})), (40, 40, 30));
        assert_eq!(seconds(json!({"retryInterval": "5s", "timeout": "2m"})), (600, 5, 120));
        assert_eq!(seconds(json!({"timeout": "1s"})), (600, 600, 30));
    }

    #[test]
    fn paths_stay_in_the_snapshot() {
        let check = |text: &str, expect: &str| assert_eq!(path(&spec(&json!({"path": text}))), expect);
        check("./apps/prod/", "apps/prod");
        check("/apps", "apps");
        check("./", "");
        check("../../etc", "etc");
        check("a/../b", "b");
    }
}
