//! Control markers that say to leave an object alone. Pure.
//!
//! On an object that Weir has never applied they count whoever put them there, as for Flux: they may be older than Weir. On
//! one that Weir has applied they count only when they came from Git. Whatever else put them there (through `/status`,
//! which the door does not see, or while the door was away) has found a way round the guard, and they are taken off.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::api::kustomize::GROUP;
use crate::core::fields::{Path, Step};
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
