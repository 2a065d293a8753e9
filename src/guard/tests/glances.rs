//! A glance never lets pass what a decision would not: every single change that can be made to the objects, one by one.

use serde_json::{Value, json};

use super::fixtures::{autoscaled, data, deployment, identities, owner};
use crate::core::fields::FieldSet;
use crate::core::object::Object;
use crate::guard::{Change, Operation, Options, Owner, User, Verdict, decide, leaves_alone};

/// Pointers to everything in a value.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    match value {
        Value::Object(fields) => {
            for (name, child) in fields {
                let name = name.replace('~', "~0").replace('/', "~1");
                places(child, &format!("{here}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, child) in items.iter().enumerate() {
                places(child, &format!("{here}/{index}"), found);
            }
        }
        _ => {}
    }
}

/// The object with each change at each place.
fn changed(object: &Value) -> Vec<(String, Value)> {
    let mut all = Vec::new();
    let mut pointers = Vec::new();
    places(object, "", &mut pointers);
    for pointer in pointers.iter().filter(|pointer| !pointer.is_empty()) {
        let mut put = |what: &str, change: &dyn Fn(&mut Value)| {
            let mut new = object.clone();
            change(new.pointer_mut(pointer).unwrap());
            all.push((format!("{pointer} {what}"), new));
        };
        for value in [
            json!("x"),
            json!(7),
            json!({}),
            json!([]),
            json!({"a": {"b": 1}}),
            Value::Null,
        ] {
            put(&value.to_string(), &|place| *place = value.clone());
        }
        put("more", &|place| match place {
            Value::Object(fields) => {
                fields.insert("added".to_owned(), json!({"deep": ["x"]}));
                fields.insert("weir.dev/guard".to_owned(), json!("off"));
            }
            Value::Array(items) => items.push(json!({"name": "added"})),
            _ => {}
        });
        put("a field more", &|place| {
            if let Value::Object(fields) = place {
                fields.insert("added".to_owned(), json!("x"));
            }
        });
        let mut new = object.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let name = name.replace("~1", "/").replace("~0", "~");
        match new.pointer_mut(parent).unwrap() {
            Value::Object(fields) => drop(fields.shift_remove(&name)),
            Value::Array(items) => drop(items.remove(name.parse().unwrap())),
            _ => {}
        }
        all.push((format!("{pointer} removed"), new));
    }
    all
}

fn decided(old: &Value, new: &Value, owner: &Owner) -> Verdict {
    let change = Change {
        operation: Operation::Update,
        subresource: String::new(),
        object: Object::new(old.clone()).unwrap().reference(),
        old: Some(old.clone()),
        new: Some(new.clone()),
        user: User {
            username: "alice".to_owned(),
            ..User::default()
        },
        options: Options::default(),
        parent: None,
    };
    decide(&change, Some(owner), &identities())
}

#[test]
fn what_passes_at_a_glance_passes_when_it_is_decided() {
    let applied = json!({"f:metadata": {"f:labels": {"f:added": {}}}, "f:spec": {"f:strategy": {"f:type": {}}, "f:added": {}},
        "f:data": {"f:added": {}}});
    let (mut passed, mut looked) = (0, 0);
    for old in [deployment(), autoscaled(), data("ConfigMap")] {
        let version = old["apiVersion"].as_str().unwrap().to_owned();
        for remembered in [None, Some(&applied)] {
            let owner = Owner {
                applied: remembered.map(|fields| FieldSet::parse(fields).unwrap()),
                ..owner()
            };
            let text = remembered.map(Value::to_string);
            let remembered = text.as_deref().map(|text| (version.as_str(), text));
            for (what, new) in changed(&old) {
                if !leaves_alone(&old.to_string(), &new.to_string(), remembered) {
                    looked += 1;
                    continue;
                }
                passed += 1;
                let verdict = decided(&old, &new, &owner);
                let silent = matches!(&verdict, Verdict::Allow { warnings, .. } if warnings.is_empty());
                assert!(silent, "{what} of {}: {verdict:?}", old["kind"]);
            }
        }
    }
    assert!(passed > 500 && looked > 500, "{passed} passed, {looked} looked at");
}
