//! Which fields of an object Git declares, read from its `managedFields`.

use serde_json::Value;

use crate::api::kustomize::FIELD_MANAGER;
use crate::core::fields::{FieldSet, FieldsError, Path};

/// What the entries of our field manager say.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Declared {
    /// Declared fields that can be found in this object: all of them when it was applied in the version that it is read
    /// in, else those of its metadata, which is the same in every version.
    pub(super) fields: FieldSet,
    /// Declared fields in the terms of another API version.
    pub(super) elsewhere: FieldSet,
}

/// Reads the declared fields of an object. Status is left out: it has its own writers.
pub(super) fn declared(object: &Value) -> Result<Declared, FieldsError> {
    let mut declared = Declared::default();
    let version = text(object, "apiVersion");
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    for entry in entries.into_iter().flatten().filter(|entry| is_ours(entry)) {
        let Some(fields) = entry.get("fieldsV1") else { continue };
        let fields = FieldSet::parse(fields)?.without(&Path::of_fields(["status"]));
        if text(entry, "apiVersion") == version {
            declared.fields = declared.fields.union(fields);
        } else {
            let metadata = fields.only(&Path::of_fields(["metadata"]));
            declared.fields = declared.fields.union(metadata);
            declared.elsewhere = declared.elsewhere.union(fields);
        }
    }
    Ok(declared)
}

fn is_ours(entry: &Value) -> bool {
    text(entry, "manager") == FIELD_MANAGER
        && text(entry, "operation") == "Apply"
        && text(entry, "subresource").is_empty()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
