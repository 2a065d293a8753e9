//! What is sent of an object some of whose fields are left to others (`spec.ignore`).
//!
//! Guarantees: what is sent changes nothing at an ignored JSON pointer: where another manager applies the field, it is not
//! sent at all; where nobody does, it is sent as it is stored, so that it neither changes nor goes away. An object that does
//! not exist yet gets everything.

use serde_json::{Map, Value};

use super::diff::{tokens, without};
use super::fields::FieldSet;

/// The desired object with the ignored fields as they are in the live one. `ours` says whether a manager's fields are ours,
/// or will be when it is sent.
#[must_use]
pub fn as_it_is(desired: &Value, live: &Value, pointers: &[String], ours: impl Fn(&str) -> bool) -> Value {
    let others = applied_by_others(live, ours);
    let mut sent = desired.clone();
    let mut not_sent: Vec<&str> = Vec::new();
    for pointer in pointers {
        if desired.pointer(pointer).is_none() {
            continue;
        }
        let taken = others
            .iter()
            .any(|set| set.paths().iter().any(|path| path.is_at_pointer(pointer)));
        match live.pointer(pointer) {
            Some(is) if !taken => {
                if let Some(slot) = sent.pointer_mut(pointer) {
                    *slot = taken_over(slot, is);
                }
            }
            _ => not_sent.push(pointer),
        }
    }
    if not_sent.is_empty() {
        return sent;
    }
    without(&sent, &not_sent)
}

/// Whether a pointer is one.
#[must_use]
pub fn is_pointer(text: &str) -> bool {
    tokens(text).is_some_and(|tokens| tokens.iter().all(|token| !token.is_empty()))
}

/// The stored values of what is declared: defaults beside it stay the API server's.
fn taken_over(declared: &Value, stored: &Value) -> Value {
    match (declared, stored) {
        (Value::Object(declared), Value::Object(stored)) => {
            let both = declared
                .iter()
                .filter_map(|(name, value)| Some((name, value, stored.get(name)?)));
            let kept: Map<String, Value> = both
                .map(|(name, value, is)| (name.clone(), taken_over(value, is)))
                .collect();
            Value::Object(kept)
        }
        _ => stored.clone(),
    }
}

/// The field sets of other managers that apply. Those that update do not mind when somebody else owns the same value.
fn applied_by_others(live: &Value, ours: impl Fn(&str) -> bool) -> Vec<FieldSet> {
    let entries = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    let text = |entry: &Value, key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let others = entries
        .into_iter()
        .flatten()
        .filter(|entry| text(entry, "operation") == "Apply" && !ours(&text(entry, "manager")));
    others
        .filter_map(|entry| FieldSet::parse(entry.get("fieldsV1")?).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn ignored_fields_are_sent_as_they_are_or_not_at_all() {
        let desired = json!({"metadata": {"annotations": {"a/b": "git"}}, "spec": {"replicas": 2, "paused": false,
            "template": {"image": "one"}}});
        let live = |owner: Value| {
            json!({"metadata": {"annotations": {"a/b": "other"}, "managedFields": owner},
                "spec": {"replicas": 5, "template": {"image": "two", "policy": "Always"}}})
        };
        let check = |pointers: &[&str], owner: Value, expect: Value| {
            let pointers: Vec<String> = pointers.iter().map(|&one| one.to_owned()).collect();
            assert_eq!(
                as_it_is(&desired, &live(owner), &pointers, |manager| manager == "ours"),
                expect,
                "{pointers:?}"
            );
        };
        let with = |change: &dyn Fn(&mut Value)| {
            let mut one = desired.clone();
            change(&mut one);
            one
        };
        let other = |operation: &str, manager: &str| json!([{"operation": operation, "manager": manager, "fieldsV1": {"f:spec": {"f:replicas": {}}}}]);
        check(
            &["/spec/replicas"],
            json!([]),
            with(&|one| one["spec"]["replicas"] = json!(5)),
        );
        check(
            &["/spec/replicas"],
            other("Update", "scaler"),
            with(&|one| one["spec"]["replicas"] = json!(5)),
        );
        check(
            &["/spec/replicas"],
            other("Apply", "ours"),
            with(&|one| one["spec"]["replicas"] = json!(5)),
        );
        let not_sent = with(&|one| {
            one["spec"].as_object_mut().unwrap().remove("replicas");
        });
        check(&["/spec/replicas"], other("Apply", "scaler"), not_sent);
        // Declared and not stored: not sent. Neither: nothing to do.
        let gone = with(&|one| {
            one["spec"].as_object_mut().unwrap().remove("paused");
        });
        check(&["/spec/paused", "/spec/absent"], json!([]), gone);
        check(
            &["/metadata/annotations/a~1b"],
            json!([]),
            with(&|one| {
                one["metadata"]["annotations"]["a/b"] = json!("other");
            }),
        );
        // Of a whole branch only what is declared is taken over.
        check(
            &["/spec/template"],
            json!([]),
            with(&|one| one["spec"]["template"] = json!({"image": "two"})),
        );
        check(&[], json!([]), desired.clone());
    }

    #[test]
    fn pointers_begin_with_a_slash_and_name_something() {
        for (text, expect) in [
            ("/spec/replicas", true),
            ("/a~1b", true),
            ("", false),
            ("/", false),
            ("spec", false),
            ("/a//b", false),
        ] {
            assert_eq!(is_pointer(text), expect, "{text}");
        }
    }
}
