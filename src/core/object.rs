//! A Kubernetes object as plain JSON, and what identifies it.
//!
//! `Object` guarantees `apiVersion`, `kind` and `metadata.name`: everything behind the render stage can rely on them.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Names a kind of object, as in `apps/v1 Deployment`; the core group is the empty string.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gvk {
    /// API group, empty for the core group.
    pub group: String,
    /// API version without the group, as in `v1`.
    pub version: String,
    /// Kind, as in `Deployment`.
    pub kind: String,
}

impl Gvk {
    /// Builds one from an `apiVersion` (`v1`, `apps/v1`) and a kind.
    #[must_use]
    pub fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// The `apiVersion` this stands for: `v1` or `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.api_version(), self.kind)
    }
}

/// Identifies one object in a cluster. The version is left out: the same object is served under several.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ObjectRef {
    /// API group, empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Namespace, empty for cluster-scoped objects.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl fmt::Display for ObjectRef {
    /// `Kind/namespace/name`, or `Kind/name` for cluster-scoped objects, as Flux prints it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{}/{}", self.kind, self.name)
        } else {
            write!(f, "{}/{}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// What keeps a JSON value from being a Kubernetes object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ObjectError {
    /// The value is not a JSON object.
    #[error("not an object but {0}")]
    NotAnObject(&'static str),
    /// A required field is absent, empty or not a string.
    #[error("field {0} is missing or not a string")]
    Missing(&'static str),
}

/// A Kubernetes object with `apiVersion`, `kind` and `metadata.name`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Object(Value);

impl Object {
    /// Takes a JSON value that holds a Kubernetes object.
    ///
    /// # Errors
    /// When the value is no object or lacks one of the identifying fields.
    pub fn new(value: Value) -> Result<Self, ObjectError> {
        if !value.is_object() {
            return Err(ObjectError::NotAnObject(kind_of(&value)));
        }
        for (pointer, name) in [
            ("/apiVersion", "apiVersion"),
            ("/kind", "kind"),
            ("/metadata/name", "metadata.name"),
        ] {
            if value.pointer(pointer).and_then(Value::as_str).is_none_or(str::is_empty) {
                return Err(ObjectError::Missing(name));
            }
        }
        Ok(Self(value))
    }

    /// The JSON value.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.0
    }

    /// Gives the JSON value away.
    #[must_use]
    pub fn into_value(self) -> Value {
        self.0
    }

    /// Group, version and kind.
    #[must_use]
    pub fn gvk(&self) -> Gvk {
        Gvk::new(self.text("/apiVersion"), self.text("/kind"))
    }

    /// The identity of the object.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        let gvk = self.gvk();
        ObjectRef {
            group: gvk.group,
            kind: gvk.kind,
            namespace: self.namespace().to_owned(),
            name: self.name().to_owned(),
        }
    }

    /// `kind`.
    #[must_use]
    pub fn kind(&self) -> &str {
        self.text("/kind")
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.text("/metadata/name")
    }

    /// `metadata.namespace`, empty when unset.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.text("/metadata/namespace")
    }

    /// Sets `metadata.namespace`; an empty one removes it.
    pub fn set_namespace(&mut self, namespace: &str) {
        if let Some(metadata) = self.metadata_mut() {
            if namespace.is_empty() {
                metadata.remove("namespace");
            } else {
                metadata.insert("namespace".to_owned(), Value::from(namespace));
            }
        }
    }

    /// The value of a label.
    #[must_use]
    pub fn label(&self, key: &str) -> Option<&str> {
        self.0.pointer("/metadata/labels")?.get(key)?.as_str()
    }

    /// The value of an annotation.
    #[must_use]
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.0.pointer("/metadata/annotations")?.get(key)?.as_str()
    }

    /// A control marker: Flux reads them from labels and annotations alike and compares without regard to case.
    #[must_use]
    pub fn marker_is(&self, key: &str, value: &str) -> bool {
        [self.label(key), self.annotation(key)]
            .into_iter()
            .flatten()
            .any(|found| found.eq_ignore_ascii_case(value))
    }

    /// Labels as a map, empty when there are none.
    #[must_use]
    pub fn labels(&self) -> BTreeMap<String, String> {
        string_map(self.0.pointer("/metadata/labels"))
    }

    /// Annotations as a map, empty when there are none.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        string_map(self.0.pointer("/metadata/annotations"))
    }

    /// Adds or replaces labels.
    pub fn merge_labels<'a>(&mut self, labels: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.merge_metadata("labels", labels);
    }

    /// Adds or replaces annotations.
    pub fn merge_annotations<'a>(&mut self, annotations: impl IntoIterator<Item = (&'a str, &'a str)>) {
        self.merge_metadata("annotations", annotations);
    }

    /// Takes a field of the root out.
    pub fn take(&mut self, field: &str) -> Option<Value> {
        self.0.as_object_mut()?.remove(field)
    }

    /// Adds entries to a map at the root, or makes the map; what is there under the same key is replaced.
    pub fn merge_map(&mut self, field: &str, entries: Map<String, Value>) {
        let Some(root) = self.0.as_object_mut() else { return };
        let slot = root.entry(field).or_insert(Value::Null);
        match slot {
            Value::Object(map) => map.extend(entries),
            slot => *slot = Value::Object(entries),
        }
    }

    /// `metadata.resourceVersion`, empty when unset.
    #[must_use]
    pub fn resource_version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }

    fn merge_metadata<'a>(&mut self, field: &str, entries: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let mut entries = entries.into_iter().peekable();
        if entries.peek().is_none() {
            return;
        }
        let Some(metadata) = self.metadata_mut() else { return };
        let slot = metadata.entry(field).or_insert_with(|| Value::Object(Map::new()));
        if !slot.is_object() {
            *slot = Value::Object(Map::new());
        }
        if let Some(map) = slot.as_object_mut() {
            for (key, value) in entries {
                map.insert(key.to_owned(), Value::from(value));
            }
        }
    }

    fn metadata_mut(&mut self) -> Option<&mut Map<String, Value>> {
        self.0.get_mut("metadata")?.as_object_mut()
    }

    fn text(&self, pointer: &str) -> &str {
        self.0.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }
}

fn string_map(value: Option<&Value>) -> BTreeMap<String, String> {
    let entries = value.and_then(Value::as_object).into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_needs_its_identity() {
        let check = |value: Value, expect: &str| {
            assert_eq!(Object::new(value).unwrap_err().to_string(), expect);
        };
        check(json!([1]), "not an object but a list");
        check(
            json!({"kind": "A", "metadata": {"name": "x"}}),
            "field apiVersion is missing or not a string",
        );
        check(
            json!({"apiVersion": "v1", "kind": "A"}),
            "field metadata.name is missing or not a string",
        );
        check(
            json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": ""}}),
            "field metadata.name is missing or not a string",
        );
    }

    #[test]
    fn markers_are_found_in_labels_and_annotations_whatever_their_case() {
        let object = Object::new(json!({"apiVersion": "v1", "kind": "A",
            "metadata": {"name": "x", "labels": {"l": "Disabled"}, "annotations": {"a": "disabled"}}}))
        .unwrap();
        assert!(object.marker_is("l", "disabled") && object.marker_is("a", "DISABLED"));
        assert!(!object.marker_is("other", "disabled"));
    }

    #[test]
    fn labels_are_merged_into_an_object_without_any() {
        let mut object = Object::new(json!({"apiVersion": "v1", "kind": "A", "metadata": {"name": "x"}})).unwrap();
        object.merge_labels([]);
        assert_eq!(object.value().pointer("/metadata/labels"), None);
        object.merge_labels([("a", "1")]);
        assert_eq!(object.label("a"), Some("1"));
    }
}
