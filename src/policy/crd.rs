//! The CRD of a kind of constraint, as Gatekeeper makes it.

use serde_json::{Map, Value as Json, json};

use super::template::TemplateKind;
use crate::api::gatekeeper::{CONSTRAINTS_GROUP, CONSTRAINTS_VERSION};

/// Marks the CRDs that a template made.
pub const CONSTRAINT_LABEL: (&str, &str) = ("gatekeeper.sh/constraint", "yes");

/// Longest name of a constraint: it becomes a label value.
const MAX_NAME: u32 = 63;

/// The CRD that lets constraints of a kind exist.
#[must_use]
pub fn constraint_crd(template: &TemplateKind) -> Json {
    let plural = template.kind.to_lowercase();
    let mut labels: Map<String, Json> = template
        .labels
        .iter()
        .map(|(key, value)| (key.clone(), Json::from(value.as_str())))
        .collect();
    labels.insert(CONSTRAINT_LABEL.0.to_owned(), CONSTRAINT_LABEL.1.into());
    let mut names = json!({
        "kind": template.kind,
        "listKind": format!("{}List", template.kind),
        "plural": plural,
        "singular": plural,
        "categories": ["constraint", "constraints"],
    });
    if let (Some(names), false) = (names.as_object_mut(), template.short_names.is_empty()) {
        names.insert("shortNames".to_owned(), template.short_names.clone().into());
    }
    let versions = [(CONSTRAINTS_VERSION, true), ("v1alpha1", false)];
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{CONSTRAINTS_GROUP}"), "labels": labels},
        "spec": {
            "group": CONSTRAINTS_GROUP,
            "names": names,
            "scope": "Cluster",
            "versions": versions.map(|(name, storage)| version(name, storage, template)),
        },
    })
}

fn version(name: &str, storage: bool, template: &TemplateKind) -> Json {
    let open = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut spec = json!({
        "enforcementAction": {"type": "string", "default": "deny"},
        "scopedEnforcementActions": {"type": "array", "items": open},
        // Read and checked by `matching.rs`, which says what is wrong; a schema would only drop what it does not know.
        "match": open,
    });
    if let (Some(properties), Some(schema)) = (spec.as_object_mut(), &template.schema) {
        properties.insert("parameters".to_owned(), schema.clone());
    }
    json!({
        "name": name,
        "served": true,
        "storage": storage,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [
            {"name": "enforcement-action", "type": "string", "jsonPath": ".spec.enforcementAction"},
            {"name": "total-violations", "type": "integer", "jsonPath": ".status.totalViolations"},
        ],
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "metadata": {"type": "object", "properties": {"name": {"type": "string", "maxLength": MAX_NAME}}},
            "spec": {"type": "object", "properties": spec},
            "status": open,
        }}},
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_crd_is_the_one_that_gatekeeper_makes() {
        let template = TemplateKind {
            kind: "K8sRequiredLabels".to_owned(),
            template_name: "k8srequiredlabels".to_owned(),
            short_names: vec!["krl".to_owned()],
            labels: vec![("a".to_owned(), "b".to_owned())],
            schema: Some(json!({"type": "object"})),
        };
        let crd = constraint_crd(&template);
        assert_eq!(crd["metadata"]["name"], "k8srequiredlabels.constraints.gatekeeper.sh");
        assert_eq!(
            crd["metadata"]["labels"],
            json!({"a": "b", "gatekeeper.sh/constraint": "yes"})
        );
        assert_eq!(crd["spec"]["names"]["shortNames"], json!(["krl"]));
        let versions = crd["spec"]["versions"].as_array().unwrap();
        let names: Vec<_> = versions
            .iter()
            .map(|version| (version["name"].as_str(), version["storage"].as_bool()))
            .collect();
        assert_eq!(names, [(Some("v1beta1"), Some(true)), (Some("v1alpha1"), Some(false))]);
        let spec = &versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"];
        assert_eq!(spec["parameters"], json!({"type": "object"}));
        assert_eq!(spec["enforcementAction"]["default"], "deny");
    }
}
