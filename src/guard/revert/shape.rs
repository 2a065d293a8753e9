//! Changes that `managedFields` does not tell of: items of a list that change places (init containers run in their order).
//!
//! Whose item it is stays the same, so no entry changes, and a watch shows metadata only. What does change is the generation,
//! for kinds that have one: when it grows while every entry stays what it was, the object itself has to be looked at. A kind
//! without a generation (a Service with its ports) waits for the interval of its Kustomization.

use std::hash::{DefaultHasher, Hash, Hasher};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// What is known of an object's form when it was seen last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shape {
    generation: Option<i64>,
    /// A digest of all entries but those of status, which are written all the time and change no generation.
    entries: u64,
}

impl Shape {
    /// Reads it.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Self {
        let mut digest = DefaultHasher::new();
        let entries = meta.managed_fields.iter().flatten();
        for entry in entries.filter(|entry| entry.subresource.as_deref() != Some("status")) {
            entry.manager.hash(&mut digest);
            entry.operation.hash(&mut digest);
            entry.subresource.hash(&mut digest);
            entry.time.as_ref().map(|time| time.0).hash(&mut digest);
            let fields = entry.fields_v1.as_ref().map(|fields| fields.0.to_string());
            fields.hash(&mut digest);
        }
        Self {
            generation: meta.generation,
            entries: digest.finish(),
        }
    }

    /// Whether something changed between the two that no entry tells of.
    #[must_use]
    pub fn moved(self, later: Self) -> bool {
        self.entries == later.entries && self.generation.zip(later.generation).is_some_and(|(was, is)| is > was)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_generation_that_grows_alone_is_told() {
        let shape = |generation: Value, scaled: &str, status: &str| {
            let entry = |subresource: &str, time: &str| {
                json!({"manager": "m", "operation": "Update", "subresource": subresource, "time": time,
                    "fieldsV1": {"f:spec": {}}})
            };
            let meta =
                json!({"generation": generation, "managedFields": [entry("scale", scaled), entry("status", status)]});
            Shape::of(&serde_json::from_value(meta).unwrap())
        };
        let (one, two) = ("2026-11-01T10:00:00Z", "2026-11-01T10:00:01Z");
        let first = shape(json!(1), one, one);
        assert!(first.moved(shape(json!(2), one, one)));
        assert!(first.moved(shape(json!(2), one, two)), "status is no reason");
        assert!(!first.moved(shape(json!(1), one, two)));
        assert!(!first.moved(shape(json!(2), two, one)), "an autoscaler");
        assert!(!shape(json!(null), one, one).moved(shape(json!(null), one, one)));
    }
}
