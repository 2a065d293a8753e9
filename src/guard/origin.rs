//! Where the fields of a live object come from, and which of them are not as Git declares them. Pure.

use serde_json::Value;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::declared::declared;
use super::revert::{Manager, taker};
use crate::api::kustomize::FIELD_MANAGER;
use crate::core::fields::{FieldChange, FieldSet, FieldsError, Path, changed_fields, value_at};
use crate::core::object::Object;

/// A declared field that has another value than declared.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The declared value (`old`) and the live one (`new`).
    pub change: FieldChange,
    /// Who changed it, as far as `managedFields` tells.
    pub by: Option<Manager>,
}

/// A field and who set it.
#[derive(Debug, Clone, PartialEq)]
pub struct Origin {
    /// Which field.
    pub path: Path,
    /// Its value.
    pub value: Option<Value>,
    /// Who set it; several when they agree.
    pub by: Vec<Manager>,
    /// Whether Weir is among them, so that it comes from Git.
    pub from_git: bool,
}

/// What differs between an object as applying it would leave it (the answer to a dry run) and as it is.
///
/// # Errors
/// When the dry run's `managedFields` cannot be read.
pub fn differences(wanted: &Object, live: &Object) -> Result<Vec<Difference>, FieldsError> {
    let fields = declared(wanted.value())?.fields;
    let meta = super::revert::metadata(live).unwrap_or_default();
    let changes = changed_fields(wanted.value(), live.value(), &fields);
    Ok(changes
        .into_iter()
        .map(|change| Difference {
            by: taker(&meta, std::slice::from_ref(&change.path), "").map(Manager::of),
            change,
        })
        .collect())
}

/// Every field that somebody owns, in the order of their paths; status only when asked for. What cannot be read is left
/// out.
#[must_use]
pub fn origins(live: &Object, with_status: bool) -> Vec<Origin> {
    let meta: ObjectMeta = super::revert::metadata(live).unwrap_or_default();
    let mut found: std::collections::BTreeMap<Path, Vec<Manager>> = std::collections::BTreeMap::new();
    for entry in meta.managed_fields.iter().flatten() {
        let set = entry.fields_v1.as_ref().and_then(|set| FieldSet::parse(&set.0).ok());
        let mut set = set.unwrap_or_default();
        if !with_status {
            set = set.without(&Path::of_fields(["status"]));
        }
        for path in set.paths() {
            found.entry(path).or_default().push(Manager::of(entry));
        }
    }
    // Maps and list items that are owned as such say nothing that their fields do not. In the order of paths, what lies
    // beneath one follows it.
    let paths: Vec<Path> = found.keys().cloned().collect();
    let followed: std::collections::BTreeSet<Path> = paths
        .iter()
        .zip(paths.iter().skip(1))
        .filter(|(path, next)| next.starts_with(path))
        .map(|(path, _)| path.clone())
        .collect();
    found
        .into_iter()
        .filter(|(path, _)| !followed.contains(path))
        .map(|(path, by)| Origin {
            value: value_at(live.value(), &path).cloned(),
            from_git: by
                .iter()
                .any(|one| one.name == FIELD_MANAGER && one.applied && one.subresource.is_empty()),
            path,
            by,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(replicas: u32, ours: &Value, others: &Value) -> Object {
        let entry = |manager: &str, operation: &str, fields: &Value| {
            json!({"manager": manager, "operation": operation, "apiVersion": "apps/v1", "time": "2026-11-01T10:00:00Z",
                "fieldsV1": fields})
        };
        Object::new(json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "managedFields": [
                entry("kustomize-controller", "Apply", ours), entry("kubectl-edit", "Update", others)]},
            "spec": {"replicas": replicas, "paused": true}, "status": {"replicas": 1}}))
        .unwrap()
    }

    #[test]
    fn a_difference_names_who_has_the_field_now() {
        let both = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let wanted = object(2, &both, &json!({}));
        let live = object(
            5,
            &json!({"f:spec": {"f:paused": {}}}),
            &json!({"f:spec": {"f:replicas": {}}}),
        );
        let found = differences(&wanted, &live).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (&found[0].change.old, &found[0].change.new),
            (&Some(json!(2)), &Some(json!(5)))
        );
        let by = found[0].by.as_ref().unwrap();
        assert_eq!(
            (by.name.as_str(), by.time.as_str()),
            ("kubectl-edit", "2026-11-01T10:00:00Z")
        );
        assert_eq!(differences(&wanted, &wanted), Ok(vec![]));
    }

    #[test]
    fn every_owned_field_says_who_set_it() {
        let live = object(
            2,
            &json!({"f:spec": {".": {}, "f:replicas": {}}}),
            &json!({"f:spec": {"f:replicas": {}, "f:paused": {}}, "f:status": {"f:replicas": {}}}),
        );
        let shown = |with_status| -> Vec<String> {
            let origins = origins(&live, with_status);
            let one = |origin: &Origin| {
                let by: Vec<&str> = origin.by.iter().map(|by| by.name.as_str()).collect();
                format!("{} {} {}", origin.path, by.join("+"), origin.from_git)
            };
            origins.iter().map(one).collect()
        };
        assert_eq!(
            shown(false),
            [
                "spec.paused kubectl-edit false",
                "spec.replicas kustomize-controller+kubectl-edit true"
            ]
        );
        assert_eq!(shown(true).last().unwrap(), "status.replicas kubectl-edit false");
    }
}
