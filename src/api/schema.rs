//! The CRD manifests: what the types say plus what a derive cannot express.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::{kustomize::Kustomization, source::GitRepository};

/// Labels of every CRD; `flux check` and `flux version` look for them.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "flux");

/// Every CRD that Weir installs, as JSON, in the order of their names.
///
/// # Errors
/// When a type does not serialise; a test makes sure that it does.
pub fn crds() -> Result<Vec<Value>, serde_json::Error> {
    let mut crds = vec![
        flux(
            GitRepository::crd(),
            &[(
                "!has(self.serviceAccountName) || (has(self.provider) && (self.provider == 'azure' || self.provider == \
                 'aws'))",
                "serviceAccountName can only be set when provider is 'azure' or 'aws'",
            )],
        )?,
        flux(Kustomization::crd(), &[])?,
    ];
    if let Some(kube_config) = crds
        .last_mut()
        .and_then(|crd| {
            crd.pointer_mut("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/kubeConfig")
        })
        .and_then(Value::as_object_mut)
    {
        kube_config.insert(
            "x-kubernetes-validations".to_owned(),
            rules(&[
                (
                    "has(self.configMapRef) || has(self.secretRef)",
                    "exactly one of spec.kubeConfig.secretRef or spec.kubeConfig.configMapRef must be set",
                ),
                (
                    "!has(self.configMapRef) || !has(self.secretRef)",
                    "exactly one of spec.kubeConfig.secretRef or spec.kubeConfig.configMapRef must be set",
                ),
            ]),
        );
    }
    crds.push(constraint_template());
    Ok(crds)
}

/// Adds to a derived CRD: labels, the status default that makes kstatus wait for the first reconciliation, CEL rules.
fn flux(crd: CustomResourceDefinition, spec_rules: &[(&str, &str)]) -> Result<Value, serde_json::Error> {
    let mut crd = serde_json::to_value(crd)?;
    if let Some(metadata) = crd.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("labels".to_owned(), json!({PART_OF.0: PART_OF.1}));
    }
    let root = "/spec/versions/0/schema/openAPIV3Schema/properties";
    if let Some(status) = crd
        .pointer_mut(&format!("{root}/status"))
        .and_then(Value::as_object_mut)
    {
        status.remove("nullable");
        status.insert("default".to_owned(), json!({"observedGeneration": -1}));
    }
    if !spec_rules.is_empty()
        && let Some(spec) = crd.pointer_mut(&format!("{root}/spec")).and_then(Value::as_object_mut)
    {
        spec.insert("x-kubernetes-validations".to_owned(), rules(spec_rules));
    }
    Ok(crd)
}

fn rules(rules: &[(&str, &str)]) -> Value {
    rules
        .iter()
        .map(|(rule, message)| json!({"rule": rule, "message": message}))
        .collect()
}

/// Gatekeeper's ConstraintTemplate. Its spec is open: what is in it is checked by `policy/`, whose errors name position
/// and reason, and by nothing before.
fn constraint_template() -> Value {
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage,
            "subresources": {"status": {}},
            "additionalPrinterColumns": [
                {"name": "Created", "type": "boolean", "jsonPath": ".status.created"},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
            ],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                "spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            }}},
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "constrainttemplates.templates.gatekeeper.sh", "labels": {"gatekeeper.sh/system": "yes"}},
        "spec": {
            "group": super::gatekeeper::TEMPLATES_GROUP,
            "names": {"kind": "ConstraintTemplate", "listKind": "ConstraintTemplateList",
                "plural": "constrainttemplates", "singular": "constrainttemplate"},
            "scope": "Cluster",
            "versions": [version("v1", true), version("v1beta1", false), version("v1alpha1", false)],
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flux_crd_says_that_it_was_not_yet_observed() {
        let crds = crds().unwrap();
        assert_eq!(crds.len(), 3);
        for crd in &crds[..2] {
            let status = crd.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status/default");
            assert_eq!(status, Some(&json!({"observedGeneration": -1})), "{crd}");
        }
    }
}
