//! Control markers that say to leave an object alone. Pure.
//!
//! On an object that Weir has never applied they count whoever put them there, as for Flux: they may be older than Weir. On
//! one that Weir has applied they count only when they came from Git. Whatever else put them there (through `/status`,
//! which the door does not see, or while the door was away) has found a way round the guard, and they are taken off.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::{Value, json};

use crate::api::kustomize::{FIELD_MANAGER, GROUP};
use crate::core::fields::{FieldSet, Path, Step};
use crate::core::object::Object;

/// Markers that leave an object alone from now on.
const ALONE: [(&str, &str); 2] = [("reconcile", "disabled"), ("ssa", "Ignore")];
/// The marker by which only the absence of an object is made good.
const IF_MISSING: (&str, &str) = ("ssa", "IfNotPresent");

/// Whether a stored object is marked to be left alone, or to be left alone once it is there.
#[must_use]
pub fn leave_alone(stored: &Value) -> bool {
    let is = |(marker, wanted): &(&str, &str)| {
        let key = format!("{GROUP}/{marker}");
        let found = ["labels", "annotations"].map(|map| stored.get("metadata")?.get(map)?.get(&key)?.as_str());
        found
            .into_iter()
            .flatten()
            .any(|found| found.eq_ignore_ascii_case(wanted))
    };
    ALONE.iter().chain([&IF_MISSING]).any(is)
}

/// Whether an object as Git declares it is marked to be left alone.
#[must_use]
pub fn declared_alone(object: &Object) -> bool {
    ALONE
        .iter()
        .any(|(key, value)| object.marker_is(&format!("{GROUP}/{key}"), value))
}

/// Where an object is marked to be left alone.
#[must_use]
pub fn alone(meta: &ObjectMeta) -> Vec<Path> {
    places(meta, &ALONE)
}

/// Whether an object was marked to be left alone after Weir had begun to guard the cluster, for a process that has not
/// applied the object itself and so does not know it without the marker. Two things prove it, and without proof a marker is
/// taken for one of Flux's time: our entry in `managedFields` is younger than the guard, for what is marked is not applied;
/// or what put the marker on is, and has put nothing else on, so that its time is the marker's.
#[must_use]
pub fn put_on_since(meta: &ObjectMeta, guarding: Timestamp) -> bool {
    let markers = alone(meta);
    let entries = || meta.managed_fields.iter().flatten();
    let is_younger = |entry: &&ManagedFieldsEntry| entry.time.as_ref().is_some_and(|time| time.0 > guarding);
    let is_ours = |entry: &&ManagedFieldsEntry| {
        entry.manager.as_deref() == Some(FIELD_MANAGER) && entry.operation.as_deref() == Some("Apply")
    };
    let parents = ["labels", "annotations"].map(|map| Path::of_fields(["metadata", map]));
    let only_marks = |entry: &&ManagedFieldsEntry| {
        let set = entry
            .fields_v1
            .as_ref()
            .and_then(|fields| FieldSet::parse(&fields.0).ok());
        let set = set.map(|set| set.paths()).unwrap_or_default();
        set.iter().any(|path| markers.contains(path))
            && set.iter().all(|path| markers.contains(path) || parents.contains(path))
    };
    !markers.is_empty()
        && (entries().filter(is_ours).any(|entry| is_younger(&entry))
            || entries().filter(only_marks).any(|entry| is_younger(&entry)))
}

/// Where an object is marked to be left alone once it is there.
#[must_use]
pub fn if_missing(meta: &ObjectMeta) -> Vec<Path> {
    places(meta, &[IF_MISSING])
}

fn places(meta: &ObjectMeta, markers: &[(&str, &str)]) -> Vec<Path> {
    let maps = [("labels", &meta.labels), ("annotations", &meta.annotations)];
    let mut found = Vec::new();
    for (name, map) in maps {
        for (key, value) in map.iter().flatten() {
            let is = |(marker, wanted): &(&str, &str)| {
                key.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix('/')) == Some(*marker)
                    && value.eq_ignore_ascii_case(wanted)
            };
            if markers.iter().any(is) {
                found.push(Path::of_fields(["metadata", name, key]));
            }
        }
    }
    found
}

/// A patch that takes markers off, if the object is still in this version.
#[must_use]
pub fn taken_off(markers: &[Path], resource_version: &str) -> Option<json_patch::Patch> {
    let pointer = |path: &Path| {
        let tokens = path.0.iter().map(|step| match step {
            Step::Field(name) => format!("/{}", name.replace('~', "~0").replace('/', "~1")),
            // Markers lie in maps.
            Step::Key(_) | Step::Value(_) | Step::Index(_) => String::new(),
        });
        tokens.collect::<String>()
    };
    let mut operations = vec![json!({"op": "test", "path": "/metadata/resourceVersion", "value": resource_version})];
    operations.extend(
        markers
            .iter()
            .map(|path| json!({"op": "remove", "path": pointer(path)})),
    );
    serde_json::from_value(Value::Array(operations)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_are_found_where_they_stand_and_taken_off() {
        let mut object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "resourceVersion": "7",
            "labels": {"kustomize.toolkit.fluxcd.io/reconcile": "Disabled", "kustomize.toolkit.fluxcd.io/name": "apps"},
            "annotations": {"kustomize.toolkit.fluxcd.io/ssa": "ignore", "kustomize.toolkit.fluxcd.io/prune": "disabled"}}});
        let meta: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
        let found = alone(&meta);
        let shown: Vec<String> = found.iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "metadata.labels[\"kustomize.toolkit.fluxcd.io/reconcile\"]",
                "metadata.annotations[\"kustomize.toolkit.fluxcd.io/ssa\"]"
            ]
        );
        assert!(leave_alone(&object) && if_missing(&meta).is_empty());
        let patch = taken_off(&found, "7").unwrap();
        json_patch::patch(&mut object, &patch).unwrap();
        assert!(!leave_alone(&object));
        assert_eq!(
            object["metadata"]["annotations"],
            json!({"kustomize.toolkit.fluxcd.io/prune": "disabled"})
        );
        object["metadata"]["resourceVersion"] = json!("8");
        assert!(
            json_patch::patch(&mut object, &patch).is_err(),
            "somebody wrote meanwhile"
        );
    }

    #[test]
    fn a_marker_is_of_weirs_time_when_that_is_proven() {
        let marks = json!({"f:metadata": {"f:annotations": {".": {}, "f:kustomize.toolkit.fluxcd.io/reconcile": {}}}});
        let more =
            json!({"f:metadata": {"f:annotations": {"f:kustomize.toolkit.fluxcd.io/reconcile": {}, "f:note": {}}}});
        let check = |applied: &str, marked: (&str, &Value), expect: bool| {
            let entry = |manager: &str, operation: &str, time: &str, fields: &Value| json!({"manager": manager, "operation": operation, "time": time, "fieldsV1": fields});
            let meta: ObjectMeta = serde_json::from_value(json!({"name": "a",
                "annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled", "note": "x"},
                "managedFields": [
                    entry("kustomize-controller", "Apply", applied, &json!({"f:data": {"f:a": {}}})),
                    entry("kubectl-annotate", "Update", marked.0, marked.1)]}))
            .unwrap();
            let found = put_on_since(&meta, "2026-11-01T10:00:00Z".parse().unwrap());
            assert_eq!(found, expect, "applied {applied}, marked {marked:?}");
        };
        let (before, after) = ("2026-11-01T09:00:00Z", "2026-11-01T11:00:00Z");
        check(after, (after, &marks), true);
        check(before, (after, &marks), true);
        check(before, (before, &marks), false);
        // The marker may be older than what else that manager did.
        check(before, (after, &more), false);
        check(after, (after, &more), true);
    }

    #[test]
    fn only_the_values_that_leave_alone_do() {
        let check = |key: &str, value: &str, expect: bool| {
            let object = json!({"apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "a", "annotations": {format!("kustomize.toolkit.fluxcd.io/{key}"): value}}});
            assert_eq!(leave_alone(&object), expect, "{key}: {value}");
        };
        check("reconcile", "disabled", true);
        check("reconcile", "enabled", false);
        check("ssa", "IfNotPresent", true);
        check("ssa", "Merge", false);
        check("prune", "disabled", false);
    }
}
