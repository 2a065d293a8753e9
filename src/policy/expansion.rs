//! ExpansionTemplates: what a workload's controller will make of it, so that policies for pods judge deployments too.

use serde_json::{Map, Value as Json};

use super::decision::{Action, Finding};
use super::source::Document;
use crate::core::object::Gvk;

/// API group of ExpansionTemplates.
pub const GROUP: &str = "expansion.gatekeeper.sh";

/// A template for what is generated.
pub(crate) struct Expansion {
    name: String,
    applies_to: Vec<Json>,
    /// Path of the part that becomes the object, as in `spec.template`.
    source: String,
    generated: Gvk,
    /// What a finding about a generated object means, when the template says so.
    action: Option<Action>,
}

impl Expansion {
    /// Reads an ExpansionTemplate; the error says what is wrong with it.
    pub(crate) fn read(document: &Document) -> Result<Self, String> {
        let value = &document.value;
        let text = |pointer: &str| value.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
        let wrong = |what: &str| Err(format!("{}: {what}", document.origin));
        if text("/apiVersion").split('/').next() != Some(GROUP) || text("/kind") != "ExpansionTemplate" {
            return wrong("is no ExpansionTemplate");
        }
        let action = match text("/spec/enforcementAction") {
            "" => None,
            "deny" => Some(Action::Deny),
            "warn" => Some(Action::Warn),
            "dryrun" => Some(Action::DryRun),
            other => {
                return wrong(&format!(
                    "spec.enforcementAction {other:?} is none of deny, warn, dryrun"
                ));
            }
        };
        let generated = Gvk {
            group: text("/spec/generatedGVK/group").to_owned(),
            version: text("/spec/generatedGVK/version").to_owned(),
            kind: text("/spec/generatedGVK/kind").to_owned(),
        };
        for (field, value) in [
            ("metadata.name", text("/metadata/name")),
            ("spec.templateSource", text("/spec/templateSource")),
            ("spec.generatedGVK.version", &generated.version),
            ("spec.generatedGVK.kind", &generated.kind),
        ] {
            if value.is_empty() {
                return wrong(&format!("{field} is missing"));
            }
        }
        let applies_to = value.pointer("/spec/applyTo").and_then(Json::as_array).cloned();
        Ok(Self {
            name: text("/metadata/name").to_owned(),
            applies_to: applies_to.unwrap_or_default(),
            source: text("/spec/templateSource").to_owned(),
            generated,
            action,
        })
    }

    /// What is generated from an object; `None` when the template is not about it.
    pub(crate) fn expand(&self, object: &Json) -> Result<Option<Json>, String> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Json::as_str).unwrap_or_default();
        let gvk = Gvk::new(text("/apiVersion"), text("/kind"));
        let lists = |entry: &Json, key: &str, wanted: &str| {
            let list = entry.get(key).and_then(Json::as_array).into_iter().flatten();
            list.filter_map(Json::as_str)
                .any(|known| known == wanted || known == "*")
        };
        let applies = self.applies_to.iter().any(|entry| {
            lists(entry, "groups", &gvk.group)
                && lists(entry, "versions", &gvk.version)
                && lists(entry, "kinds", &gvk.kind)
        });
        if !applies {
            return Ok(None);
        }
        let part = self.source.split('.').try_fold(object, |at, key| at.get(key));
        let Some(part) = part.and_then(Json::as_object) else {
            return Err(format!(
                "ExpansionTemplate {}: the object has no {}",
                self.name, self.source
            ));
        };
        let mut generated = part.clone();
        generated.insert("apiVersion".to_owned(), self.generated.api_version().into());
        generated.insert("kind".to_owned(), self.generated.kind.as_str().into());
        let metadata = generated.entry("metadata").or_insert_with(|| Json::Object(Map::new()));
        if let Some(metadata) = metadata.as_object_mut() {
            let name = format!("{}-{}", text("/metadata/name"), self.generated.kind).to_lowercase();
            metadata.insert("name".to_owned(), name.into());
            metadata.insert("namespace".to_owned(), text("/metadata/namespace").into());
        }
        Ok(Some(Json::Object(generated)))
    }

    /// A finding about what was generated, told about what it was generated from.
    pub(crate) fn implied(&self, mut finding: Finding) -> Finding {
        finding.message = format!("[Implied by {}] {}", self.name, finding.message);
        finding.action = self.action.unwrap_or(finding.action);
        finding
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn template(spec: Json) -> Document {
        Document {
            origin: "x.yaml".to_owned(),
            value: json!({"apiVersion": "expansion.gatekeeper.sh/v1beta1", "kind": "ExpansionTemplate",
                "metadata": {"name": "pods"}, "spec": spec}),
        }
    }

    #[test]
    fn a_workload_becomes_its_pod() {
        let expansion = Expansion::read(&template(json!({
            "applyTo": [{"groups": ["apps"], "versions": ["v1"], "kinds": ["Deployment", "StatefulSet"]}],
            "templateSource": "spec.template", "generatedGVK": {"version": "v1", "kind": "Pod"}})))
        .ok()
        .unwrap();
        let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "Web", "namespace": "shop"},
            "spec": {"template": {"metadata": {"labels": {"a": "b"}}, "spec": {"x": 1}}}});
        assert_eq!(
            expansion.expand(&deployment).unwrap(),
            Some(
                json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"labels": {"a": "b"}, "name": "web-pod",
                "namespace": "shop"}, "spec": {"x": 1}})
            )
        );
        assert_eq!(
            expansion.expand(&json!({"apiVersion": "v1", "kind": "Pod"})).unwrap(),
            None
        );
        assert_eq!(
            expansion
                .expand(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {}}))
                .unwrap_err(),
            "ExpansionTemplate pods: the object has no spec.template"
        );
        let error = Expansion::read(&template(json!({"templateSource": "spec"})))
            .err()
            .unwrap();
        assert_eq!(error, "x.yaml: spec.generatedGVK.version is missing");
    }
}
