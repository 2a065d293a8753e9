//! Fields of an object that kubectl, or somebody else who is to have none, wrote: made ours before we apply.
//!
//! Server-side apply removes a field only when its only owner no longer declares it. What was applied or edited with
//! kubectl would therefore stay for ever beside what Git declares. Flux renames such entries of `managedFields` to its own
//! manager first; the apply that follows then removes what Git does not declare, and one owner is left.
//!
//! Guarantees: an object that needs none of it costs nothing; entries of subresources (`status`, `scale`) are never
//! touched; `ssa: Merge` on the desired or the live object leaves all as it is; the patch fails when the object has
//! changed since it was read, so that nobody's entry is lost.

use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::Value;

use crate::api::kustomize::{FIELD_MANAGER, GROUP};
use crate::core::fields::union_v1;
use crate::core::object::Object;

/// Managers whose fields are taken over, by the beginning of their names: every form of kubectl, and what the API server
/// calls those who wrote before anybody applied.
const TAKEN: [&str; 2] = ["kubectl", "before-first-apply"];
/// Annotations that kubectl's client-side apply and earlier versions of Flux keep on objects.
const ANNOTATIONS: [&str; 3] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "kustomize.toolkit.fluxcd.io/checksum",
    "fluxcd.io/sync-checksum",
];
/// Labels of earlier versions of Flux.
const LABELS: [&str; 1] = ["fluxcd.io/sync-gc-mark"];

/// What makes the fields of others ours.
#[derive(Debug, Clone, PartialEq)]
pub struct TakeOver {
    patch: Patch,
    others: Vec<String>,
}

impl TakeOver {
    /// What an object needs; `others` are managers beside kubectl's, by the beginning of their names.
    #[must_use]
    pub fn of(desired: &Object, live: &Object, others: &[String]) -> Option<Self> {
        let key = format!("{GROUP}/ssa");
        if desired.marker_is(&key, "Merge") || live.marker_is(&key, "Merge") {
            return None;
        }
        let metadata = live.value().get("metadata")?;
        let mut patch = Vec::new();
        for (field, keys) in [("annotations", ANNOTATIONS.as_slice()), ("labels", LABELS.as_slice())] {
            let there = |object: &Object, key: &str| {
                let map = object.value().get("metadata").and_then(|metadata| metadata.get(field));
                map.is_some_and(|map| map.get(key).is_some())
            };
            // What Git itself declares would be put back by the apply that follows, at every reconciliation.
            let gone = keys.iter().filter(|key| there(live, key) && !there(desired, key));
            patch.extend(gone.map(|key| remove(["metadata", field, key])));
        }
        let entries = metadata.get("managedFields").and_then(Value::as_array);
        if let Some(entries) = entries.and_then(|entries| merged(entries, others)) {
            patch.push(replace("managedFields", Value::Array(entries)));
        }
        if patch.is_empty() {
            return None;
        }
        if let Some(version) = metadata.get("resourceVersion") {
            // A version that is not the stored one is answered with a conflict.
            patch.push(replace("resourceVersion", version.clone()));
        }
        Some(Self {
            patch: Patch(patch),
            others: others.to_vec(),
        })
    }

    /// The same for a newer form of the live object.
    #[must_use]
    pub fn again(&self, desired: &Object, live: &Object) -> Option<Self> {
        Self::of(desired, live, &self.others)
    }

    /// Whether the fields of a manager are taken.
    #[must_use]
    pub fn takes(&self, manager: &str) -> bool {
        is_named(manager, &self.others)
    }

    /// The JSON patch.
    #[must_use]
    pub fn patch(&self) -> &Patch {
        &self.patch
    }
}

/// The entries with those that are taken put into ours; `None` when there is nothing to take.
fn merged(entries: &[Value], others: &[String]) -> Option<Vec<Value>> {
    let ours = |entry: &Value| text(entry, "manager") == FIELD_MANAGER && text(entry, "operation") == "Apply";
    let (taken, mut kept): (Vec<&Value>, Vec<&Value>) = entries.iter().partition(|entry| is_taken(entry, others));
    let first = *taken.first()?;
    let position = kept
        .iter()
        .position(|entry| ours(entry) && text(entry, "subresource").is_empty());
    // Without an entry of ours the first that is taken becomes it.
    let own = position.map_or(first, |position| kept.remove(position));
    let none = Value::Null;
    let fields = |entry: &Value| entry.get("fieldsV1").unwrap_or(&none).clone();
    let all = taken
        .iter()
        .fold(fields(own), |all, entry| union_v1(&all, &fields(entry)));
    let mut own = own.as_object()?.clone();
    own.insert("fieldsV1".to_owned(), all);
    own.insert("manager".to_owned(), FIELD_MANAGER.into());
    own.insert("operation".to_owned(), "Apply".into());
    Some(kept.into_iter().cloned().chain([Value::Object(own)]).collect())
}

fn is_taken(entry: &Value, others: &[String]) -> bool {
    let (manager, operation) = (text(entry, "manager"), text(entry, "operation"));
    if !text(entry, "subresource").is_empty() {
        return false;
    }
    let named = is_named(manager, others);
    // What Flux wrote under this name before it applied server-side.
    let before = manager == FIELD_MANAGER && operation == "Update";
    let ours = manager == FIELD_MANAGER && operation == "Apply";
    !ours && (named || before)
}

fn is_named(manager: &str, others: &[String]) -> bool {
    let mut names = TAKEN.iter().copied().chain(others.iter().map(String::as_str));
    names.any(|start| !start.is_empty() && manager.starts_with(start))
}

fn text<'a>(entry: &'a Value, field: &str) -> &'a str {
    entry.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn remove(path: [&str; 3]) -> PatchOperation {
    PatchOperation::Remove(RemoveOperation {
        path: PointerBuf::from_tokens(path),
    })
}

fn replace(field: &str, value: Value) -> PatchOperation {
    PatchOperation::Replace(ReplaceOperation {
        path: PointerBuf::from_tokens(["metadata", field]),
        value,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn object(metadata: &Value) -> Object {
        let mut all = json!({"name": "web", "namespace": "prod", "resourceVersion": "7"});
        all.as_object_mut()
            .unwrap()
            .extend(metadata.as_object().unwrap().clone());
        Object::new(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": all})).unwrap()
    }

    fn entry(manager: &str, operation: &str, field: &str) -> Value {
        json!({"manager": manager, "operation": operation, "apiVersion": "v1", "time": "t", "fieldsType": "FieldsV1",
            "fieldsV1": {"f:data": {(format!("f:{field}")): {}}}})
    }

    /// The managers after the take-over, with what each has of `data`.
    fn after(entries: &[Value], others: &[&str]) -> Option<Vec<String>> {
        let live = object(&json!({"managedFields": entries}));
        let others: Vec<String> = others.iter().map(|&one| one.to_owned()).collect();
        let taken = TakeOver::of(&object(&json!({})), &live, &others)?;
        let patch = serde_json::to_value(taken.patch()).unwrap();
        let managed = patch.as_array().unwrap().iter();
        let managed = managed.clone().find(|one| one["path"] == "/metadata/managedFields")?;
        let shown = managed["value"].as_array().unwrap().iter().map(|entry| {
            let fields: Vec<&String> = entry["fieldsV1"]["f:data"].as_object().unwrap().keys().collect();
            format!("{}/{} {fields:?}", text(entry, "manager"), text(entry, "operation"))
        });
        Some(shown.collect())
    }

    #[test]
    fn the_fields_of_kubectl_and_of_named_managers_become_ours() {
        let ours = entry(FIELD_MANAGER, "Apply", "a");
        let check = |theirs: Value, others: &[&str], expect: Option<&str>| {
            let shown = after(&[ours.clone(), theirs.clone()], others);
            assert_eq!(shown, expect.map(|one| vec![one.to_owned()]), "{theirs}");
        };
        let both = Some("kustomize-controller/Apply [\"f:a\", \"f:b\"]");
        check(entry("kubectl-client-side-apply", "Update", "b"), &[], both);
        check(entry("kubectl-edit", "Update", "b"), &[], both);
        check(entry("kubectl", "Apply", "b"), &[], both);
        check(entry("before-first-apply", "Update", "b"), &[], both);
        check(entry(FIELD_MANAGER, "Update", "b"), &[], both);
        check(entry("terraform", "Apply", "b"), &["terraform"], both);
        check(entry("terraform-1", "Update", "b"), &["terraform"], both);
        check(entry("terraform", "Apply", "b"), &[], None);
        check(entry("terraform", "Apply", "b"), &[""], None);
        let mut scale = entry("kubectl", "Update", "b");
        scale["subresource"] = "scale".into();
        check(scale, &[], None);
    }

    #[test]
    fn without_an_entry_of_ours_the_first_becomes_it_and_others_stay() {
        let theirs = [
            entry("kubectl-client-side-apply", "Update", "a"),
            entry("operator", "Update", "c"),
            entry("kubectl-edit", "Update", "b"),
        ];
        assert_eq!(
            after(&theirs, &[]).unwrap(),
            [
                "operator/Update [\"f:c\"]",
                "kustomize-controller/Apply [\"f:a\", \"f:b\"]"
            ]
        );
    }

    #[test]
    fn annotations_of_kubectl_go_unless_git_declares_them_and_merge_leaves_all() {
        let noted = json!({"annotations": {ANNOTATIONS[0]: "{}", "mine": "x"}});
        let taken = TakeOver::of(&object(&json!({})), &object(&noted), &[]).unwrap();
        assert_eq!(
            serde_json::to_value(taken.patch()).unwrap(),
            json!([{"op": "remove", "path": "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"},
                {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"}])
        );
        assert_eq!(TakeOver::of(&object(&noted), &object(&noted), &[]), None);
        let merge = object(
            &json!({"annotations": {(format!("{GROUP}/ssa")): "merge", ANNOTATIONS[0]: "{}"},
            "managedFields": [entry("kubectl", "Apply", "b")]}),
        );
        assert_eq!(TakeOver::of(&object(&json!({})), &merge, &[]), None);
        assert_eq!(TakeOver::of(&merge, &object(&noted), &[]), None);
        assert_eq!(TakeOver::of(&object(&json!({})), &object(&json!({})), &[]), None);
    }
}
