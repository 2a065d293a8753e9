//! Tables of field sets and of changes under them. Paths in results are written as a reader sees them.

use super::*;
use serde_json::json;

fn set(fields: Value) -> FieldSet {
    FieldSet::parse(&fields).unwrap()
}

fn written(set: &FieldSet) -> Vec<String> {
    set.paths().iter().map(ToString::to_string).collect()
}

/// What a Git-declared Deployment looks like in `managedFields`, abridged from a kube-apiserver's answer.
fn deployment_fields() -> Value {
    json!({
        "f:metadata": {"f:labels": {".": {}, "f:app.kubernetes.io/name": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {"f:spec": {
                "f:containers": {"k:{\"name\":\"app\"}": {
                    ".": {}, "f:name": {}, "f:image": {}, "f:args": {}, "f:securityContext": {},
                    "f:env": {"k:{\"name\":\"MODE\"}": {".": {}, "f:name": {}, "f:value": {}}},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
                }},
                "f:volumes": {"k:{\"name\":\"tmp\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}},
            }},
        },
    })
}

fn deployment() -> Value {
    json!({
        "metadata": {"labels": {"app.kubernetes.io/name": "web", "other": "x"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {
                "containers": [
                    {"name": "app", "image": "web:1", "args": ["a", "b"], "securityContext": {},
                        "env": [{"name": "MODE", "value": "fast"}, {"name": "POD", "value": "x"}],
                        "ports": [{"containerPort": 80, "protocol": "TCP"}]},
                    {"name": "sidecar", "image": "proxy:1"},
                ],
                "volumes": [{"name": "tmp", "emptyDir": {}}],
            }},
        },
    })
}

#[test]
fn a_path_is_found_by_a_json_pointer() {
    let container = Path::of_fields(["spec", "containers"])
        .then(&Step::Key(vec![("name".to_owned(), Scalar::Text("web".to_owned()))]));
    let image = container.then(&Step::Field("image".to_owned()));
    let check = |path: &Path, pointer: &str, expect: bool| {
        assert_eq!(path.is_at_pointer(pointer), expect, "{path} at {pointer}");
    };
    check(&Path::of_fields(["spec", "replicas"]), "/spec/replicas", true);
    check(&Path::of_fields(["spec", "replicas"]), "/spec", true);
    check(&Path::of_fields(["spec"]), "/spec/replicas", false);
    check(&Path::of_fields(["spec", "replicas"]), "spec/replicas", false);
    check(
        &Path::of_fields(["metadata", "annotations", "a/b~c"]),
        "/metadata/annotations/a~1b~0c",
        true,
    );
    check(&image, "/spec/containers/3/image", true);
    check(&image, "/spec/containers/x/image", false);
    check(&container, "/spec/containers/0/image", false);
}

#[test]
fn a_set_is_read_and_its_members_are_written_as_paths() {
    assert_eq!(
        written(&set(deployment_fields())),
        [
            "metadata.labels",
            "metadata.labels[\"app.kubernetes.io/name\"]",
            "spec.replicas",
            "spec.selector",
            "spec.template.spec.containers[name=\"app\"]",
            "spec.template.spec.containers[name=\"app\"].args",
            "spec.template.spec.containers[name=\"app\"].env[name=\"MODE\"]",
            "spec.template.spec.containers[name=\"app\"].env[name=\"MODE\"].name",
            "spec.template.spec.containers[name=\"app\"].env[name=\"MODE\"].value",
            "spec.template.spec.containers[name=\"app\"].image",
            "spec.template.spec.containers[name=\"app\"].name",
            "spec.template.spec.containers[name=\"app\"].ports[containerPort=80,protocol=\"TCP\"]",
            "spec.template.spec.containers[name=\"app\"].ports[containerPort=80,protocol=\"TCP\"].containerPort",
            "spec.template.spec.containers[name=\"app\"].securityContext",
            "spec.template.spec.volumes[name=\"tmp\"]",
            "spec.template.spec.volumes[name=\"tmp\"].emptyDir",
            "spec.template.spec.volumes[name=\"tmp\"].name",
        ]
    );
    let odd = set(json!({"f:finalizers": {"v:\"a/b\"": {}, "v:7": {}}, "f:list": {"i:3": {}}}));
    assert_eq!(written(&odd), ["finalizers[=7]", "finalizers[=\"a/b\"]", "list[3]"]);
    assert!(set(json!({})).is_empty());
}

#[test]
fn what_is_no_set_is_refused_with_its_reason() {
    let check = |fields: Value, expect: &str| assert_eq!(FieldSet::parse(&fields).unwrap_err().to_string(), expect);
    check(json!([]), "fieldsV1 is not an object at \"\"");
    check(json!({"f:a": 1}), "fieldsV1 is not an object at \"f:a\"");
    for key in ["a", "x:a", "k:{", "k:{\"a\":[1]}", "v:{}", "v:", "i:-1", "i:x"] {
        check(
            json!({"f:a": {key: {}}}),
            &format!("fieldsV1 has a key {key:?} that is none of f:, k:, v:, i: and \".\""),
        );
    }
    let mut deep = json!({});
    for _ in 0..=MAX_DEPTH {
        deep = json!({ "f:a": deep });
    }
    check(deep.clone(), "fieldsV1 is nested deeper than 128 levels");
    assert!(FieldSet::parse(&deep["f:a"]).is_ok());
}

#[test]
fn sets_are_joined_and_taken_apart() {
    let a = set(json!({"f:spec": {"f:replicas": {}, "f:template": {".": {}, "f:a": {}}}}));
    let b = set(json!({"f:spec": {"f:replicas": {}, "f:template": {"f:a": {}, "f:b": {}}}, "f:data": {"f:k": {}}}));
    assert_eq!(
        written(&a.clone().union(b.clone())),
        [
            "data.k",
            "spec.replicas",
            "spec.template",
            "spec.template.a",
            "spec.template.b"
        ]
    );
    assert_eq!(written(&a.difference(&b)), ["spec.template"]);
    assert_eq!(written(&b.difference(&a)), ["data.k", "spec.template.b"]);
    assert!(a.difference(&a).is_empty());
    let template = Path::of_fields(["spec", "template"]);
    assert_eq!(written(&a.clone().without(&template)), ["spec.replicas"]);
    assert_eq!(written(&a.only(&template)), ["spec.template", "spec.template.a"]);
    assert!(a.only(&Path::of_fields(["status"])).is_empty());
    assert!(a.contains(&template) && !a.contains(&Path::of_fields(["spec"])));
    assert!(a.reaches(&Path::of_fields(["spec"])) && !a.reaches(&Path::of_fields(["data"])));
    let mut c = FieldSet::default();
    c.insert(&template);
    assert_eq!(written(&c), ["spec.template"]);
}

/// Edits the Deployment and lists what changed of the declared fields, as `path: old -> new`.
#[track_caller]
fn check(edit: impl Fn(&mut Value), expect: &[&str]) {
    let old = deployment();
    let mut new = old.clone();
    edit(&mut new);
    let show = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), ToString::to_string);
    let found: Vec<String> = changed_fields(&old, &new, &set(deployment_fields()))
        .iter()
        .map(|change| format!("{}: {} -> {}", change.path, show(&change.old), show(&change.new)))
        .collect();
    assert_eq!(found, expect);
}

fn container(object: &mut Value) -> &mut Value {
    &mut object["spec"]["template"]["spec"]["containers"][0]
}

fn containers(object: &mut Value) -> &mut Vec<Value> {
    object["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap()
}

#[test]
fn only_declared_fields_count_as_changed() {
    check(|_| {}, &[]);
    check(|o| o["metadata"]["labels"]["other"] = json!("y"), &[]);
    check(|o| o["metadata"]["labels"]["new"] = json!("y"), &[]);
    check(|o| o["metadata"]["annotations"] = json!({"a": "b"}), &[]);
    check(|o| o["spec"]["paused"] = json!(true), &[]);
    check(|o| o["status"] = json!({"replicas": 2}), &[]);
    check(|o| container(o)["imagePullPolicy"] = json!("Always"), &[]);
    check(|o| o["spec"]["replicas"] = json!(5), &["spec.replicas: 2 -> 5"]);
    check(
        |o| o["spec"]["replicas"] = Value::Null,
        &["spec.replicas: 2 -> nothing"],
    );
    check(
        |o| container(o)["image"] = json!("web:2"),
        &["spec.template.spec.containers[name=\"app\"].image: \"web:1\" -> \"web:2\""],
    );
    check(
        |o| o["metadata"]["labels"]["app.kubernetes.io/name"] = json!("y"),
        &["metadata.labels[\"app.kubernetes.io/name\"]: \"web\" -> \"y\""],
    );
}

#[test]
fn items_of_keyed_lists_are_found_by_key() {
    check(|o| containers(o).reverse(), &[]);
    check(|o| containers(o).insert(0, json!({"name": "first", "image": "x"})), &[]);
    check(|o| drop(containers(o).remove(1)), &[]);
    check(|o| container(o)["env"].as_array_mut().unwrap().reverse(), &[]);
    check(
        |o| drop(container(o)["env"].as_array_mut().unwrap().remove(0)),
        &[
            "spec.template.spec.containers[name=\"app\"].env[name=\"MODE\"]: {\"name\":\"MODE\",\"value\":\"fast\"} -> nothing",
        ],
    );
    check(
        |o| container(o)["ports"][0]["protocol"] = json!("UDP"),
        &[
            "spec.template.spec.containers[name=\"app\"].ports[containerPort=80,protocol=\"TCP\"]: \
           {\"containerPort\":80,\"protocol\":\"TCP\"} -> nothing",
        ],
    );
}

#[test]
fn declared_items_that_change_places_are_a_change_of_their_list() {
    let fields = set(json!({"f:init": {
        "k:{\"name\":\"a\"}": {".": {}, "f:image": {}}, "k:{\"name\":\"b\"}": {".": {}, "f:image": {}}},
        "f:ports": {"k:{\"port\":1,\"protocol\":\"TCP\"}": {".": {}}, "k:{\"port\":2,\"protocol\":\"TCP\"}": {".": {}}}}));
    let row = |field: &str, old: &str, new: &str, expect: &[&str]| {
        let list = |text: &str| -> Value {
            let item = |name: char| match name.to_digit(10) {
                Some(port) => json!({"port": port, "protocol": "TCP"}),
                None => json!({"name": name.to_string(), "image": "x"}),
            };
            json!({field: text.chars().map(item).collect::<Vec<_>>()})
        };
        let found = changed_fields(&list(old), &list(new), &fields);
        let shown = found.iter().map(|change| {
            let (was, is) = (
                change.old.clone().unwrap_or_default(),
                change.new.clone().unwrap_or_default(),
            );
            format!("{}: {was} -> {is}", change.path)
        });
        assert_eq!(shown.collect::<Vec<_>>(), expect, "{field} {old} {new}");
    };
    row("init", "ab", "ba", &["init: [\"a\",\"b\"] -> [\"b\",\"a\"]"]);
    row("init", "axb", "bxa", &["init: [\"a\",\"b\"] -> [\"b\",\"a\"]"]);
    // Others may stand anywhere.
    row("init", "ab", "xaybz", &[]);
    row("init", "xab", "abx", &[]);
    // What went away or came back has no place.
    row(
        "init",
        "ab",
        "b",
        &["init[name=\"a\"]: {\"name\":\"a\",\"image\":\"x\"} -> null"],
    );
    row(
        "init",
        "b",
        "ba",
        &["init[name=\"a\"]: null -> {\"name\":\"a\",\"image\":\"x\"}"],
    );
    row("init", "ba", "ba", &[]);
    row(
        "ports",
        "12",
        "21",
        &[
            "ports: [\"[port=1,protocol=\\\"TCP\\\"]\",\"[port=2,protocol=\\\"TCP\\\"]\"] -> \
           [\"[port=2,protocol=\\\"TCP\\\"]\",\"[port=1,protocol=\\\"TCP\\\"]\"]",
        ],
    );
}

#[test]
fn a_second_item_with_a_declared_key_is_a_change_of_that_item() {
    // The last of two environment variables with one name counts, so this overrides the declared one.
    check(
        |o| {
            container(o)["env"]
                .as_array_mut()
                .unwrap()
                .push(json!({"name": "MODE", "value": "slow"}));
        },
        &["spec.template.spec.containers[name=\"app\"].env[name=\"MODE\"]: \
           {\"name\":\"MODE\",\"value\":\"fast\"} -> {\"name\":\"MODE\",\"value\":\"slow\"}"],
    );
    let fields = set(json!({"f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:value": {}}}}));
    let twice = json!({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]});
    assert_eq!(changed_fields(&twice, &twice, &fields), []);
    let back = json!({"env": [{"name": "A", "value": "1"}]});
    assert_eq!(changed_fields(&twice, &back, &fields).len(), 1);
}

#[test]
fn the_topmost_thing_that_went_away_is_reported() {
    let gone = |o: &mut Value| {
        containers(o).remove(0);
    };
    let old = deployment();
    let mut new = old.clone();
    gone(&mut new);
    let found = changed_fields(&old, &new, &set(deployment_fields()));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].path.to_string(), "spec.template.spec.containers[name=\"app\"]");
    assert_eq!(found[0].kind, ChangeKind::Removed);
    new.as_object_mut().unwrap().remove("spec");
    let found = changed_fields(&old, &new, &set(deployment_fields()));
    assert_eq!(found.iter().map(|c| c.path.to_string()).collect::<Vec<_>>(), ["spec"]);
    // What went away held nothing that was declared.
    let fields = set(json!({"f:metadata": {"f:annotations": {"f:a": {}}}}));
    let old = json!({"metadata": {"annotations": {"b": "1"}}});
    assert_eq!(changed_fields(&old, &json!({"metadata": {}}), &fields), []);
}

#[test]
fn what_is_taken_as_a_whole_is_compared_as_a_whole() {
    let args = "spec.template.spec.containers[name=\"app\"].args";
    check(
        |o| container(o)["args"] = json!(["b", "a"]),
        &[&format!("{args}: [\"a\",\"b\"] -> [\"b\",\"a\"]")],
    );
    check(
        |o| container(o)["args"] = json!(["a", "b", "c"]),
        &[&format!("{args}: [\"a\",\"b\"] -> [\"a\",\"b\",\"c\"]")],
    );
    check(
        |o| o["spec"]["selector"]["matchLabels"]["x"] = json!("y"),
        &["spec.selector: {\"matchLabels\":{\"app\":\"web\"}} -> {\"matchLabels\":{\"app\":\"web\",\"x\":\"y\"}}"],
    );
}

#[test]
fn what_was_declared_empty_may_be_filled_but_not_taken_away() {
    check(|o| container(o)["securityContext"] = json!({"runAsUser": 7}), &[]);
    check(
        |o| o["spec"]["template"]["spec"]["volumes"][0] = json!({"name": "tmp", "hostPath": {"path": "/"}}),
        &["spec.template.spec.volumes[name=\"tmp\"].emptyDir: {} -> nothing"],
    );
    let fields = set(json!({"f:spec": {"f:volumes": {}, "f:hostNetwork": {}}}));
    let row = |old: Value, new: Value, expect: usize| {
        assert_eq!(changed_fields(&old, &new, &fields).len(), expect, "{old} {new}");
    };
    let volumes = json!([{"name": "injected"}]);
    row(
        json!({"spec": {"volumes": []}}),
        json!({"spec": {"volumes": volumes}}),
        0,
    );
    row(json!({"spec": {"volumes": []}}), json!({"spec": {}}), 0);
    // The server drops zeros when it stores an object; they were declared all the same.
    row(json!({"spec": {}}), json!({"spec": {"volumes": volumes}}), 0);
    row(json!({"spec": {}}), json!({"spec": {"hostNetwork": true}}), 1);
}

#[test]
fn sets_lose_values_but_gain_any() {
    let fields = set(json!({"f:finalizers": {".": {}, "v:\"a\"": {}}, "f:list": {"i:1": {}}}));
    let row = |old: Value, new: Value, expect: &[&str]| {
        let found = changed_fields(&old, &new, &fields);
        assert_eq!(
            found.iter().map(|c| c.path.to_string()).collect::<Vec<_>>(),
            expect,
            "{old} {new}"
        );
    };
    row(json!({"finalizers": ["a"]}), json!({"finalizers": ["b", "a"]}), &[]);
    row(json!({"finalizers": ["b"]}), json!({"finalizers": ["b", "a"]}), &[]);
    row(
        json!({"finalizers": ["a", "b"]}),
        json!({"finalizers": ["b"]}),
        &["finalizers[=\"a\"]"],
    );
    row(json!({"finalizers": ["a", "b"]}), json!({}), &["finalizers"]);
    row(json!({"list": [1, 2]}), json!({"list": [5, 2]}), &[]);
    row(json!({"list": [1, 2]}), json!({"list": [1, 3]}), &["list[1]"]);
    row(
        json!({"finalizers": ["a"]}),
        json!({"finalizers": "a"}),
        &["finalizers"],
    );
}
