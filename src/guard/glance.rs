//! At a glance: does an update leave everything alone that Git declares?
//!
//! Most updates of managed objects do: a controller sets an annotation, somebody a label. Both objects are the same text but
//! for that, so comparing texts tells it a dozen times faster than reading them.
//!
//! Guarantees: `true` only where `decide` lets the request pass without a word, whoever asks. Everything that would take a
//! closer look (a declared field, a list, a marker, other versions, another form of JSON) is `false`, and `decide` is asked.

use super::decide::is_marker;
use crate::api::kustomize::FIELD_MANAGER;
use crate::core::raw::{field, fields, items, plain};

/// How deep two objects are compared: no deeper than objects are read (see `core::fields::MAX_DEPTH`).
const MAX_DEPTH: usize = 128;

/// Whether an update certainly changes nothing that Git declares. `old` and `new` are the objects as JSON; `applied` is what
/// was last applied, when it is remembered: the version of its fields and they, as a `fieldsV1`.
#[must_use]
pub fn leaves_alone(old: &str, new: &str, applied: Option<(&str, &str)>) -> bool {
    judge(old, new, applied).unwrap_or(false)
}

fn judge(old: &str, new: &str, applied: Option<(&str, &str)>) -> Option<bool> {
    let (old, new) = (fields(old)?, fields(new)?);
    let version = plain(field(&old, "apiVersion")?)?;
    let same = |name: &str| field(&old, name) == field(&new, name);
    if !same("apiVersion") || !same("kind") {
        return None;
    }
    let (was, is) = (fields(field(&old, "metadata")?)?, fields(field(&new, "metadata")?)?);
    let ours = entries(field(&was, "managedFields")?)?;
    if ours.is_empty() || ours != entries(field(&is, "managedFields")?)? {
        return None;
    }
    let mut declared = Vec::new();
    for entry in &ours {
        let entry = fields(entry)?;
        if plain(field(&entry, "apiVersion")?)? != version {
            return None;
        }
        declared.push(field(&entry, "fieldsV1")?);
    }
    if let Some((named_in, applied)) = applied {
        if named_in != version {
            return None;
        }
        if !declared.contains(&applied) {
            declared.push(applied);
        }
    }
    let declared = sets(&declared)?;
    for name in names(&old, &new) {
        // Status has its own writers.
        if name == "metadata" || name == "status" || same(name) {
            continue;
        }
        if !untouched(field(&old, name), field(&new, name), &children(&declared, name), 1)? {
            return Some(false);
        }
    }
    let declared = sets(&children(&declared, "metadata"))?;
    for name in names(&was, &is) {
        let (was, is) = (field(&was, name), field(&is, name));
        if name == "managedFields" || was == is {
            continue;
        }
        let (was, is) = if ["labels", "annotations"].contains(&name) {
            // One that is not there is an empty one: what matters is which keys come and go.
            let (was, is) = (was.unwrap_or("{}"), is.unwrap_or("{}"));
            let (before, after) = (fields(was)?, fields(is)?);
            let differs = |key: &&str| field(&before, key) != field(&after, key);
            if names(&before, &after).into_iter().filter(differs).any(is_marker) {
                return Some(false);
            }
            (Some(was), Some(is))
        } else {
            (was, is)
        };
        if !untouched(was, is, &children(&declared, name), 2)? {
            return Some(false);
        }
    }
    Some(true)
}

/// Whether what differs between two values is declared nowhere. `declared` are the sets of fields beneath this value.
fn untouched(old: Option<&str>, new: Option<&str>, declared: &[&str], depth: usize) -> Option<bool> {
    if declared.is_empty() {
        return Some(true);
    }
    if depth > MAX_DEPTH {
        return None;
    }
    let declared = sets(declared)?;
    // A set with nothing beneath it takes the value as a whole.
    if declared.iter().any(|set| set.iter().all(|(key, _)| *key == ".")) {
        return Some(false);
    }
    let (old, new) = (fields(old?)?, fields(new?)?);
    for name in names(&old, &new) {
        let (was, is) = (field(&old, name), field(&new, name));
        if was != is && !untouched(was, is, &children(&declared, name), depth + 1)? {
            return Some(false);
        }
    }
    Some(true)
}

/// A set of fields, taken apart.
type Set<'a> = Vec<(&'a str, &'a str)>;

fn sets<'a>(declared: &[&'a str]) -> Option<Vec<Set<'a>>> {
    declared.iter().map(|set| fields(set)).collect()
}

/// The sets beneath a field, of all sets that know it.
fn children<'a>(declared: &[Set<'a>], name: &str) -> Vec<&'a str> {
    let child = |set: &Set<'a>| {
        let found = set.iter().find(|(key, _)| key.strip_prefix("f:") == Some(name));
        found.map(|(_, child)| *child)
    };
    declared.iter().filter_map(child).collect()
}

/// The entries of our field manager.
fn entries(managed: &str) -> Option<Vec<&str>> {
    let mut ours = Vec::new();
    for entry in items(managed)? {
        let known = fields(entry)?;
        let is = |name: &str, value: &str| field(&known, name).and_then(plain) == Some(value);
        // Whatever has a subresource is another's, and one that cannot be told is worth a closer look.
        if is("manager", FIELD_MANAGER) && is("operation", "Apply") && field(&known, "subresource").is_none() {
            ours.push(entry);
        }
    }
    Some(ours)
}

/// The names in one of two objects.
fn names<'a>(one: &[(&'a str, &'a str)], other: &[(&'a str, &'a str)]) -> Vec<&'a str> {
    let mut names: Vec<&str> = one.iter().map(|(name, _)| *name).collect();
    let more = other.iter().map(|(name, _)| *name);
    names.extend(more.filter(|name| field(one, name).is_none()));
    names
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "resourceVersion": "1", "labels": {"app": "web"},
                "managedFields": [
                    {"manager": "kubectl", "operation": "Update", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
                        "fieldsV1": {"f:metadata": {"f:annotations": {"f:note": {}}}}},
                    {"manager": "kustomize-controller", "operation": "Apply", "apiVersion": "apps/v1",
                        "fieldsType": "FieldsV1", "fieldsV1": {
                            "f:metadata": {"f:labels": {"f:app": {}}},
                            "f:spec": {"f:paused": {}, "f:strategy": {".": {}}, "f:selector": {}, "f:template": {"f:spec": {
                                "f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}}}}}]},
            "spec": {"replicas": 1, "paused": false, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {}, "spec": {"containers": [{"name": "a", "image": "x"}]}}},
            "status": {"replicas": 1}})
    }

    fn glance(change: impl FnOnce(&mut Value)) -> bool {
        let mut new = object();
        change(&mut new);
        leaves_alone(&object().to_string(), &new.to_string(), None)
    }

    #[test]
    fn what_nobody_declares_passes_at_a_glance() {
        assert!(glance(|_| {}));
        assert!(glance(|new| new["metadata"]["annotations"] = json!({"note": "a"})));
        assert!(glance(|new| new["metadata"]["labels"]["team"] = json!("a")));
        assert!(glance(|new| new["metadata"]["resourceVersion"] = json!("2")));
        assert!(glance(|new| new["spec"]["replicas"] = json!(3)));
        assert!(glance(
            |new| new["spec"]["template"]["metadata"] = json!({"annotations": {"a": "b"}})
        ));
        assert!(glance(|new| new["spec"]["template"]["spec"]["nodeName"] = json!("n")));
        assert!(glance(|new| new["status"] = json!({})));
        assert!(glance(
            |new| new["metadata"]["managedFields"][0]["manager"] = json!("k9s")
        ));
    }

    #[test]
    fn what_may_be_declared_takes_a_closer_look() {
        assert!(!glance(|new| new["metadata"]["labels"]["app"] = json!("b")));
        assert!(!glance(|new| new["metadata"]["labels"] = json!({})));
        assert!(!glance(|new| new["metadata"]["labels"] = Value::Null));
        assert!(!glance(|new| new["spec"]["paused"] = json!(true)));
        assert!(!glance(|new| new["spec"]["strategy"] = json!({"type": "Recreate"})));
        assert!(!glance(|new| new["spec"] = Value::Null));
        assert!(!glance(|new| new["spec"]["selector"]["matchLabels"]["b"] = json!("c")));
        assert!(!glance(|new| new["spec"]["template"]["spec"]["containers"] = json!([])));
        assert!(!glance(|new| {
            new["spec"]["template"]["spec"]["containers"] = json!([{"name": "a", "image": "x"}, {"name": "b"}]);
        }));
        assert!(!glance(|new| new["apiVersion"] = json!("apps/v1beta1")));
        assert!(!glance(
            |new| new["metadata"]["managedFields"][1]["manager"] = json!("kubectl")
        ));
        assert!(!glance(|new| new["metadata"]["managedFields"] = json!([])));
        assert!(!glance(|new| {
            new["metadata"]["managedFields"][1]["fieldsV1"]["f:spec"] = json!({});
        }));
    }

    #[test]
    fn a_marker_takes_a_closer_look() {
        let put = |key: &str| glance(|new| new["metadata"]["annotations"] = json!({key: "disabled"}));
        assert!(!put("kustomize.toolkit.fluxcd.io/reconcile"));
        assert!(!put("weir.dev/guard"));
        assert!(put("weir.dev/allow-prune"));
        assert!(put("example.org/reconcile"));
    }

    #[test]
    fn what_was_applied_is_declared_although_an_edit_took_it_away() {
        let mut new = object();
        new["spec"]["replicas"] = json!(3);
        let (old, new) = (object().to_string(), new.to_string());
        let applied = json!({"f:spec": {"f:replicas": {}}}).to_string();
        assert!(!leaves_alone(&old, &new, Some(("apps/v1", &applied))));
        let applied = json!({"f:spec": {"f:paused": {}}}).to_string();
        assert!(leaves_alone(&old, &new, Some(("apps/v1", &applied))));
        assert!(!leaves_alone(&old, &new, Some(("apps/v1beta1", &applied))));
    }

    #[test]
    fn what_cannot_be_read_takes_a_closer_look() {
        let whole = object().to_string();
        assert!(!leaves_alone("", "", None));
        assert!(!leaves_alone(&whole, "{}", None));
        for end in 0..whole.len() {
            assert!(!leaves_alone(&whole, whole.get(..end).unwrap_or_default(), None));
        }
    }
}
