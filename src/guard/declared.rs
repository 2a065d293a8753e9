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

/// Whether the declared fields of an object, in this version, are exactly those of a `fieldsV1`.
#[must_use]
pub fn declares(object: &Value, version: &str, fields: &str) -> bool {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    let mut entries = entries.into_iter().flatten().filter(|entry| is_ours(entry));
    match (entries.next(), entries.next()) {
        (Some(entry), None) => {
            let same = |known: &Value| serde_json::to_string(known).is_ok_and(|known| known == fields);
            text(object, "apiVersion") == version
                && text(entry, "apiVersion") == version
                && entry.get("fieldsV1").is_some_and(same)
        }
        _ => false,
    }
}

fn is_ours(entry: &Value) -> bool {
    text(entry, "manager") == FIELD_MANAGER
        && text(entry, "operation") == "Apply"
        && text(entry, "subresource").is_empty()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}
