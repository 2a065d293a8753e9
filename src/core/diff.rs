//! Whether an object as it is differs from the object as it would be, as Flux asks before it applies.
//!
//! Both forms come from the API server (the live object and the answer to a dry run), so both carry the same defaults and
//! no schema is needed. What counts: labels, annotations, and everything outside `metadata` and `status`. Null is the same
//! as absent. Lists are compared in order, as their order is part of what is stored.

use serde_json::{Map, Value};

/// Most paths that are reported; the rest is only known to exist. Enough for a reader, and a bound on messages.
pub const MAX_PATHS: usize = 64;

/// What Flux leaves out of the comparison, as the server or Flux itself keeps it.
const NOT_COMPARED: [&str; 4] = ["apiVersion", "kind", "metadata", "status"];

/// JSON pointers of what differs between the object as it is and as it would be, at most [`MAX_PATHS`]; empty when there is
/// no drift. Fields at the `ignore` pointers are left out on both sides.
#[must_use]
pub fn drift<'a>(live: &Value, desired: &Value, ignore: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let ignore: Vec<&str> = ignore.into_iter().collect();
    if ignore.is_empty() {
        return differences(live, desired);
    }
    differences(&without(live, &ignore), &without(desired, &ignore))
}

/// The value without what stands at the JSON pointers (RFC 6901). Pointers that lead nowhere are no error.
#[must_use]
pub fn without(value: &Value, pointers: &[&str]) -> Value {
    let mut paths: Vec<Vec<String>> = pointers.iter().filter_map(|pointer| tokens(pointer)).collect();
    // Later list items go first, so that taking one out does not move those that are still to come.
    paths.sort_by(|a, b| compare_tokens(b, a));
    let mut value = value.clone();
    for path in &paths {
        remove(&mut value, path);
    }
    value
}

fn differences(live: &Value, desired: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for field in ["labels", "annotations"] {
        let empty = Value::Object(Map::new());
        let side = |object: &Value| match object.pointer(&format!("/metadata/{field}")) {
            None | Some(Value::Null) => empty.clone(),
            Some(map) => map.clone(),
        };
        compare(&side(live), &side(desired), &format!("/metadata/{field}"), &mut found);
    }
    let rest = |object: &Value| -> Value {
        let fields = object.as_object().into_iter().flatten();
        let kept = fields.filter(|(name, _)| !NOT_COMPARED.contains(&name.as_str()));
        Value::Object(kept.map(|(name, value)| (name.clone(), value.clone())).collect())
    };
    compare(&rest(live), &rest(desired), "", &mut found);
    found
}

fn compare(a: &Value, b: &Value, path: &str, found: &mut Vec<String>) {
    if found.len() >= MAX_PATHS {
        return;
    }
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => {
            let only_b = b.keys().filter(|name| !a.contains_key(*name));
            for name in a.keys().chain(only_b) {
                let side = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or(Value::Null);
                compare(&side(a), &side(b), &format!("{path}/{}", escape(name)), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                compare(a, b, &format!("{path}/{index}"), found);
            }
        }
        (Value::Number(x), Value::Number(y)) if x == y || (x.is_f64() || y.is_f64()) && x.as_f64() == y.as_f64() => {}
        _ if a == b => {}
        _ => found.push(path.to_owned()),
    }
}

/// The tokens of a JSON pointer; `None` when the text is none.
pub(super) fn tokens(pointer: &str) -> Option<Vec<String>> {
    let rest = pointer.strip_prefix('/')?;
    Some(
        rest.split('/')
            .map(|token| token.replace("~1", "/").replace("~0", "~"))
            .collect(),
    )
}

fn escape(token: &str) -> String {
    token.replace('~', "~0").replace('/', "~1")
}

fn compare_tokens(a: &[String], b: &[String]) -> std::cmp::Ordering {
    for (a, b) in a.iter().zip(b) {
        let order = match (a.parse::<usize>(), b.parse::<usize>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            _ => a.cmp(b),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

fn remove(value: &mut Value, path: &[String]) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut here = value;
    for token in parents {
        let next = match here {
            Value::Object(map) => map.get_mut(token),
            Value::Array(list) => token.parse::<usize>().ok().and_then(|index| list.get_mut(index)),
            _ => None,
        };
        let Some(next) = next else { return };
        here = next;
    }
    match here {
        Value::Object(map) => {
            map.shift_remove(last);
        }
        Value::Array(list) => {
            if let Some(index) = last.parse::<usize>().ok().filter(|index| *index < list.len()) {
                list.remove(index);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn deployment(replicas: i64, image: &str) -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "labels": {"app": "web"}, "resourceVersion": "7", "generation": 3},
            "spec": {"replicas": replicas, "template": {"spec": {"containers": [{"name": "app", "image": image}]}}},
            "status": {"replicas": 1}})
    }

    #[test]
    fn drift_is_what_differs_outside_bookkeeping_and_status() {
        let check = |change: &dyn Fn(&mut Value), expect: &[&str]| {
            let live = deployment(2, "app:1");
            let mut desired = live.clone();
            change(&mut desired);
            assert_eq!(drift(&live, &desired, []), expect);
            // Which side has it does not matter.
            assert_eq!(drift(&desired, &live, []), expect);
        };
        check(&|_| {}, &[]);
        check(&|o| o["metadata"]["resourceVersion"] = json!("8"), &[]);
        check(&|o| o["metadata"]["generation"] = json!(4), &[]);
        check(&|o| o["metadata"]["finalizers"] = json!(["x"]), &[]);
        check(&|o| o["status"] = json!({"replicas": 2}), &[]);
        check(
            &|o| o["metadata"]["labels"]["team/~x"] = json!("a"),
            &["/metadata/labels/team~1~0x"],
        );
        check(
            &|o| o["metadata"]["annotations"] = json!({"a": "b"}),
            &["/metadata/annotations/a"],
        );
        check(&|o| o["metadata"]["annotations"] = json!({}), &[]);
        check(&|o| o["metadata"]["annotations"] = Value::Null, &[]);
        check(&|o| o["spec"]["paused"] = Value::Null, &[]);
        check(&|o| o["spec"]["replicas"] = json!(2.0), &[]);
        check(&|o| o["spec"]["replicas"] = json!(3), &["/spec/replicas"]);
        check(&|o| o["spec"]["replicas"] = json!("2"), &["/spec/replicas"]);
        check(
            &|o| o["spec"]["template"]["spec"]["containers"][0]["image"] = json!("app:2"),
            &["/spec/template/spec/containers/0/image"],
        );
        check(
            &|o| o["spec"]["template"]["spec"]["containers"] = json!([]),
            &["/spec/template/spec/containers"],
        );
        check(&|o| o["data"] = json!({"k": "v"}), &["/data"]);
    }

    #[test]
    fn large_numbers_differ_even_where_floating_point_cannot_tell() {
        let a = json!({"spec": {"n": 9_007_199_254_740_993_i64}});
        let b = json!({"spec": {"n": 9_007_199_254_740_992_i64}});
        assert_eq!(drift(&a, &b, []), ["/spec/n"]);
    }

    #[test]
    fn ignored_pointers_are_left_out_on_both_sides() {
        let live = deployment(5, "app:1");
        let desired = deployment(2, "app:2");
        assert_eq!(
            drift(&live, &desired, ["/spec/replicas"]),
            ["/spec/template/spec/containers/0/image"]
        );
        let both = ["/spec/replicas", "/spec/template/spec/containers/0/image"];
        assert_eq!(drift(&live, &desired, both), [""; 0]);
        assert_eq!(drift(&live, &desired, ["/spec"]), [""; 0]);
        // Absent on one side, and pointers that lead nowhere or are none.
        let mut fewer = live.clone();
        fewer["spec"].as_object_mut().unwrap().remove("replicas");
        assert_eq!(
            drift(&live, &fewer, ["/spec/replicas", "/nowhere/at/all", "spec", ""]),
            [""; 0]
        );
    }

    #[test]
    fn several_items_of_one_list_are_taken_out_by_their_first_positions() {
        let value = json!({"a": (0..12).collect::<Vec<_>>(), "b/c": {"~": 1, "x": 2}});
        let check = |pointers: &[&str], expect: Value| assert_eq!(without(&value, pointers), expect, "{pointers:?}");
        check(
            &["/a/0", "/a/2", "/a/10", "/b~1c/~0"],
            json!({"a": [1, 3, 4, 5, 6, 7, 8, 9, 11], "b/c": {"x": 2}}),
        );
        check(&["/a", "/a/3", "/b~1c"], json!({}));
        check(&["/a/12", "/a/-", "/a/x", "/b~1c/x/y"], value.clone());
    }

    #[test]
    fn no_more_paths_are_reported_than_a_reader_can_use() {
        let many = |value: usize| {
            let fields = (0..500).map(|n| (n.to_string(), json!(value)));
            json!({"spec": Value::Object(fields.collect())})
        };
        assert_eq!(drift(&many(1), &many(2), []).len(), MAX_PATHS);
    }
}
