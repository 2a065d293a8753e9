//! The CRD manifests: what the types say plus what a derive cannot express.
//!
//! Guarantees: field by field what Flux's CRDs say, descriptions aside; `tests/manifests` holds a list of all of it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Map, Value, json};

use super::extensions::ArtifactGenerator;
use super::kustomize::Kustomization;
use super::source::{ExternalArtifact, GitRepository};
use super::weir::Exemption;

/// Labels of every CRD; `flux check` and `flux version` look for them.
const PART_OF: (&str, &str) = ("app.kubernetes.io/part-of", "flux");
/// Annotation of every CRD: a Kustomization that installs it must not take `${…}` in its texts for variables.
const SUBSTITUTE: (&str, &str) = ("kustomize.toolkit.fluxcd.io/substitute", "disabled");
/// Where the schema of the only version is.
const SCHEMA: &str = "/spec/versions/0/schema/openAPIV3Schema";

/// A CEL rule: where in the schema, the rule, and what is said when it does not hold.
type Rule = (&'static str, &'static str, &'static str);

const GIT_REPOSITORY: &[Rule] = &[(
    "/properties/spec",
    "!has(self.serviceAccountName) || (has(self.provider) && (self.provider == 'azure' || self.provider == 'aws'))",
    "serviceAccountName can only be set when provider is 'azure' or 'aws'",
)];

const KUSTOMIZATION: &[Rule] = &[
    (
        "/properties/spec/properties/kubeConfig",
        "has(self.configMapRef) || has(self.secretRef)",
        "exactly one of spec.kubeConfig.configMapRef or spec.kubeConfig.secretRef must be specified",
    ),
    (
        "/properties/spec/properties/kubeConfig",
        "!has(self.configMapRef) || !has(self.secretRef)",
        "exactly one of spec.kubeConfig.configMapRef or spec.kubeConfig.secretRef must be specified",
    ),
];

const ARTIFACT_GENERATOR: &[Rule] = &[(
    "/properties/spec",
    r"has(self.pathPattern) && size(self.pathPattern) > 0 || self.artifacts.all(a, a.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))",
    "artifact names must be valid Kubernetes object names when pathPattern is not set",
)];

/// What was granted is not widened afterwards: who wants more creates another one, which the right to create decides about.
/// Only its time may be changed, up to the same bound.
const EXEMPTION: &[Rule] = &[
    (
        "/properties/spec",
        "self.subjects == oldSelf.subjects && self.objects == oldSelf.objects && self.lift == oldSelf.lift && self.reason == oldSelf.reason",
        "only minutes can be changed; create another Exemption",
    ),
    (
        "/properties/spec",
        "self.subjects.all(s, s.kind != 'Group' || !(s.name in ['system:authenticated', 'system:unauthenticated', 'system:serviceaccounts']))",
        "a group that everybody is in is no group of named people",
    ),
    (
        "/properties/spec",
        "self.subjects.all(s, s.kind == 'ServiceAccount' || !has(s.__namespace__))",
        "only a ServiceAccount has a namespace",
    ),
];

/// Every CRD that Weir installs, as JSON.
///
/// # Errors
/// When a type does not serialise; a test makes sure that it does.
pub fn crds() -> Result<Vec<Value>, serde_json::Error> {
    Ok(vec![
        flux(GitRepository::crd(), GIT_REPOSITORY, true)?,
        flux(ExternalArtifact::crd(), &[], false)?,
        flux(ArtifactGenerator::crd(), ARTIFACT_GENERATOR, false)?,
        flux(Kustomization::crd(), KUSTOMIZATION, true)?,
        constraint_template(),
        gatekeeper_config(),
        sync_set(),
        exemption()?,
    ])
}

/// Weir's own Exemption.
fn exemption() -> Result<Value, serde_json::Error> {
    let mut crd = serde_json::to_value(Exemption::crd())?;
    if let Some(schema) = crd.pointer_mut(SCHEMA) {
        never_null(schema);
        if let Some(conditions) = object(schema, "/properties/status/properties/conditions") {
            conditions.insert("items".to_owned(), condition());
        }
        if let Some(minutes) = object(schema, "/properties/spec/properties/minutes") {
            // The derive writes the bounds of an integer as 1.0 and 480.0.
            minutes.insert("minimum".to_owned(), json!(1));
            minutes.insert("maximum".to_owned(), json!(crate::api::weir::MAX_MINUTES));
        }
        hold(schema, EXEMPTION);
    }
    Ok(crd)
}

/// Makes of a derived CRD what Flux has: labels, CEL rules, conditions as the API defines them, and, where it is
/// `observed`, the status default that makes kstatus wait for the first reconciliation.
fn flux(crd: CustomResourceDefinition, rules: &[Rule], observed: bool) -> Result<Value, serde_json::Error> {
    let mut crd = serde_json::to_value(crd)?;
    if let Some(metadata) = crd.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("annotations".to_owned(), json!({SUBSTITUTE.0: SUBSTITUTE.1}));
        metadata.insert("labels".to_owned(), json!({PART_OF.0: PART_OF.1}));
    }
    let kind = crd.pointer("/spec/names/kind").cloned().unwrap_or_default();
    let Some(schema) = crd.pointer_mut(SCHEMA) else {
        return Ok(crd);
    };
    never_null(schema);
    if let Some(root) = schema.as_object_mut() {
        root.remove("required");
        root.insert(
            "description".to_owned(),
            json!(format!("{}.", kind.as_str().unwrap_or_default())),
        );
    }
    if observed && let Some(status) = object(schema, "/properties/status") {
        status.insert("default".to_owned(), json!({"observedGeneration": -1}));
    }
    if let Some(conditions) = object(schema, "/properties/status/properties/conditions") {
        conditions.insert("items".to_owned(), condition());
    }
    hold(schema, rules);
    Ok(crd)
}

/// Adds CEL rules.
fn hold(schema: &mut Value, rules: &[Rule]) {
    for (at, rule, message) in rules {
        if let Some(object) = object(schema, at) {
            let held = object.entry("x-kubernetes-validations").or_insert_with(|| json!([]));
            if let Some(held) = held.as_array_mut() {
                held.push(json!({"rule": rule, "message": message}));
            }
        }
    }
}

fn object<'a>(schema: &'a mut Value, at: &str) -> Option<&'a mut Map<String, Value>> {
    schema.pointer_mut(at).and_then(Value::as_object_mut)
}

/// An `Option` is a field that may be left out, not one that may be null: the API server then drops a null.
fn never_null(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("nullable") == Some(&Value::Bool(true)) {
                fields.remove("nullable");
            }
            fields.values_mut().for_each(never_null);
        }
        Value::Array(all) => all.iter_mut().for_each(never_null),
        _ => {}
    }
}

/// `metav1.Condition` with the bounds that Kubernetes gives it.
fn condition() -> Value {
    json!({
        "type": "object",
        "description": "What is the case, and why.",
        "required": ["lastTransitionTime", "message", "reason", "status", "type"],
        "properties": {
            "lastTransitionTime": {"type": "string", "format": "date-time"},
            "message": {"type": "string", "maxLength": 32768},
            "observedGeneration": {"type": "integer", "format": "int64", "minimum": 0},
            "reason": {"type": "string", "maxLength": 1024, "minLength": 1,
                "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"},
            "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
            "type": {"type": "string", "maxLength": 316,
                "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"},
        },
    })
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

/// Gatekeeper's Config, as far as Weir reads it; what else stands in it is kept.
fn gatekeeper_config() -> Value {
    let texts = json!({"type": "array", "items": {"type": "string"}});
    let entries = json!({"type": "array", "items": {"type": "object", "properties": {"excludedNamespaces": texts, "processes": texts}}});
    let spec = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
        "sync": {"type": "object", "properties": {"syncOnly": kinds()}}, "match": entries}});
    let names = json!({"kind": "Config", "listKind": "ConfigList", "plural": "configs", "singular": "config"});
    of_gatekeeper(super::gatekeeper::CONFIG_GROUP, &names, "Namespaced", &spec)
}

/// Gatekeeper's SyncSet.
fn sync_set() -> Value {
    let spec = json!({"type": "object", "properties": {"gvks": kinds()}});
    let names = json!({"kind": "SyncSet", "listKind": "SyncSetList", "plural": "syncsets", "singular": "syncset"});
    of_gatekeeper(super::gatekeeper::SYNC_GROUP, &names, "Cluster", &spec)
}

fn kinds() -> Value {
    let text = json!({"type": "string"});
    json!({"type": "array", "items": {"type": "object", "properties": {"group": text, "version": text, "kind": text}}})
}

fn of_gatekeeper(group: &str, names: &Value, scope: &str, spec: &Value) -> Value {
    let plural = names.get("plural").and_then(Value::as_str).unwrap_or_default();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}"), "labels": {"gatekeeper.sh/system": "yes"}},
        "spec": {
            "group": group, "names": names, "scope": scope,
            "versions": [{
                "name": super::gatekeeper::SYNC_VERSION, "served": true, "storage": true,
                "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": spec,
                    "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                }}},
            }],
        },
    })
}
