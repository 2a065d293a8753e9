//! How strict the guard is: the control marker [`GUARD`] on a Kustomization or a namespace.
//!
//! | value | at the door | what got in |
//! |---|---|---|
//! | `deny`, the default | refused | put back at once |
//! | `warn` | passes with a warning | put back at once |
//! | `audit` | passes, an event tells | an event tells; corrected at the interval, as Flux does |
//! | `off` | passes | corrected at the interval, as Flux does |
//! | `strict`, on a namespace only, as a **label** | as `deny`; and nothing may be made in it except from Git and by controllers | put back at once |
//!
//! A Kustomization's own marker counts first, then that of the object's namespace. Like Flux's control markers it may be a
//! label or an annotation, and upper and lower case are the same; `strict` must be a label, because the API server chooses
//! by labels what it asks about. A value that is none of these counts as `deny`: a slip of the pen opens no door.

use kube::Resource;

use super::Mode;

/// The marker.
pub const GUARD: &str = "weir.dev/guard";
/// Prefix of all control markers of Weir's own.
pub const GROUP: &str = "weir.dev";
/// Value of the label by which a namespace takes nothing but what comes from Git.
pub const STRICT: &str = "strict";

/// The mode for objects of a Kustomization in a namespace.
#[must_use]
pub fn mode(kustomization: &impl Resource, namespace: Option<&impl Resource>) -> Mode {
    let own = marker(kustomization).filter(|value| !value.eq_ignore_ascii_case(STRICT));
    let value = own.or_else(|| namespace.and_then(marker));
    value.map_or(Mode::Enforce, Mode::read)
}

fn marker(object: &impl Resource) -> Option<&str> {
    let meta = object.meta();
    let found = [meta.annotations.as_ref(), meta.labels.as_ref()];
    found
        .into_iter()
        .flatten()
        .find_map(|map| map.get(GUARD))
        .map(String::as_str)
}

/// Whether a namespace takes nothing but what comes from Git.
#[must_use]
pub fn is_strict(namespace: &impl Resource) -> bool {
    let label = namespace.meta().labels.as_ref().and_then(|labels| labels.get(GUARD));
    label.is_some_and(|value| value.eq_ignore_ascii_case(STRICT))
}

impl Mode {
    /// Reads a marker's value.
    #[must_use]
    pub fn read(value: &str) -> Self {
        match value.to_ascii_lowercase().as_str() {
            "warn" => Self::Warn,
            "audit" => Self::Audit,
            "off" => Self::Off,
            _ => Self::Enforce,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::Namespace;
    use serde_json::{Value, json};

    #[test]
    fn the_kustomizations_marker_counts_before_the_namespaces() {
        let check = |own: Value, around: Option<Value>, expect: Mode| {
            let object =
                |metadata: Value| -> Namespace { serde_json::from_value(json!({ "metadata": metadata })).unwrap() };
            let (own, around) = (object(own), around.map(object));
            assert_eq!(mode(&own, around.as_ref()), expect, "{own:?} in {around:?}");
        };
        let annotated = |value: &str| json!({"annotations": {"weir.dev/guard": value}});
        let labelled = |value: &str| json!({"labels": {"weir.dev/guard": value}});
        check(json!({}), None, Mode::Enforce);
        check(annotated("warn"), None, Mode::Warn);
        check(labelled("Audit"), None, Mode::Audit);
        check(annotated("off"), Some(annotated("deny")), Mode::Off);
        check(json!({}), Some(annotated("off")), Mode::Off);
        check(annotated("deny"), Some(annotated("off")), Mode::Enforce);
        check(json!({}), Some(labelled("strict")), Mode::Enforce);
        check(annotated("strict"), Some(annotated("warn")), Mode::Warn);
        check(annotated("offf"), None, Mode::Enforce);
    }
}
