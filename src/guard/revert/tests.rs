//! What is drift and what is not, and how fights slow down.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use super::*;
use crate::core::fields::Path;

fn stored() -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "prod", "uid": "u1", "resourceVersion": "100",
            "managedFields": [
                {"manager": "kustomize-controller", "operation": "Apply", "apiVersion": "apps/v1",
                    "time": "2026-11-01T10:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {
                        "f:replicas": {}, "f:paused": {}, "f:template": {"f:spec": {"f:containers": {
                            "k:{\"name\":\"web\"}": {".": {}, "f:image": {}}}}}}}},
                {"manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1", "subresource": "status",
                    "time": "2026-11-01T10:00:05Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:status": {"f:replicas": {}}}},
            ],
        },
    })
}

fn memory() -> Memory {
    let object = Object::new(stored()).unwrap();
    let owner = OwnerKey {
        namespace: "apps".into(),
        name: "web".into(),
    };
    Memory::of(owner, &object, &object).unwrap()
}

/// What a watch shows after an edit of the stored object.
fn seen(edit: impl Fn(&mut Value)) -> ObjectMeta {
    let mut object = stored();
    object["metadata"]["resourceVersion"] = json!("101");
    edit(&mut object["metadata"]);
    serde_json::from_value(object["metadata"].take()).unwrap()
}

fn take_replicas(meta: &mut Value) {
    meta["managedFields"][0]["fieldsV1"]["f:spec"]
        .as_object_mut()
        .unwrap()
        .remove("f:replicas");
    meta["managedFields"]
        .as_array_mut()
        .unwrap()
        .push(json!({"manager": "kubectl", "operation": "Update",
        "apiVersion": "apps/v1", "subresource": "scale", "time": "2026-11-01T11:00:00Z", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:replicas": {}}}}));
}

fn quiet(memory: &Memory, meta: &ObjectMeta) -> Option<Quiet> {
    match judge(memory, Seen::There(meta)) {
        Finding::Quiet(quiet) => Some(quiet),
        Finding::Drift(_) | Finding::Unclear => None,
    }
}

/// Fields and manager of the drift.
fn drifted(memory: &Memory, meta: &ObjectMeta) -> (Vec<String>, String) {
    match judge(memory, Seen::There(meta)) {
        Finding::Drift(drift) => (
            drift.fields.iter().map(ToString::to_string).collect(),
            drift.manager.map(|manager| manager.to_string()).unwrap_or_default(),
        ),
        Finding::Quiet(quiet) => panic!("{quiet:?}"),
        Finding::Unclear => panic!("unclear"),
    }
}

#[test]
fn what_only_changes_places_is_looked_at() {
    let grown = seen(|meta| meta["generation"] = json!(2));
    let known = Memory {
        shape: Shape::of(&seen(|meta| meta["generation"] = json!(1))),
        ..memory()
    };
    assert_eq!(judge(&known, Seen::There(&grown)), Finding::Unclear);
    let sent = |names: [&str; 2]| {
        let containers: Vec<Value> = names.iter().map(|name| json!({"name": name, "image": "a"})).collect();
        let mut object = stored();
        object["spec"] = json!({"replicas": 2, "template": {"spec": {"containers": containers}}});
        let fields =
            &mut object["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]["f:template"]["f:spec"]["f:containers"];
        fields["k:{\"name\":\"log\"}"] = json!({".": {}, "f:image": {}});
        Object::new(object).unwrap()
    };
    let object = sent(["web", "log"]);
    let memory = Memory::of(memory().owner, &object, &object).unwrap();
    let paths = |live: &Object| {
        displaced(&memory, live)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(paths(&sent(["log", "web"])), ["spec.template.spec.containers"]);
    // Another value is not what this is for: it takes its field out of our entry.
    let mut scaled = object.into_value();
    scaled["spec"]["replicas"] = json!(5);
    assert_eq!(paths(&Object::new(scaled).unwrap()), [""; 0]);
}

#[test]
fn what_does_not_touch_our_entry_is_no_drift() {
    let check = |edit: fn(&mut Value), expect: Quiet| assert_eq!(quiet(&memory(), &seen(edit)), Some(expect));
    check(|_| {}, Quiet::Untouched);
    check(|meta| meta["labels"] = json!({"a": "b"}), Quiet::Untouched);
    check(
        |meta| meta["managedFields"][1]["time"] = json!("2026-11-01T12:00:00Z"),
        Quiet::Untouched,
    );
    check(|meta| meta["resourceVersion"] = json!("100"), Quiet::Known);
    check(|meta| meta["resourceVersion"] = json!("99"), Quiet::Known);
    // A field set that says the same in another order.
    check(
        |meta| {
            meta["managedFields"][0]["fieldsV1"]["f:spec"] = json!({"f:template": {"f:spec": {"f:containers": {
            "k:{\"name\":\"web\"}": {"f:image": {}, ".": {}}}}}, "f:paused": {}, "f:replicas": {}});
        },
        Quiet::Untouched,
    );
}

#[test]
fn a_field_that_left_our_entry_is_drift_of_whoever_has_it_now() {
    assert_eq!(
        drifted(&memory(), &seen(take_replicas)),
        (vec!["spec.replicas".to_owned()], "kubectl (scale)".to_owned())
    );
    let removed = seen(|meta| {
        meta["managedFields"][0]["fieldsV1"]["f:spec"]
            .as_object_mut()
            .unwrap()
            .remove("f:paused");
        meta["managedFields"].as_array_mut().unwrap().push(json!({"manager": "kubectl-edit", "operation": "Update",
            "apiVersion": "apps/v1", "time": "2026-11-01T11:00:00Z", "fieldsV1": {"f:metadata": {"f:labels": {"f:x": {}}}}}));
    });
    assert_eq!(
        drifted(&memory(), &removed),
        (vec!["spec.paused".to_owned()], "kubectl-edit".to_owned()),
        "who wrote last has removed it"
    );
}

#[test]
fn an_entry_that_was_wiped_forged_or_replaced_is_drift() {
    let (fields, _) = drifted(&memory(), &seen(|meta| meta["managedFields"] = json!([])));
    assert_eq!(fields.len(), 4, "{fields:?}");
    let forged = seen(|meta| meta["managedFields"][0]["time"] = json!("2026-11-01T10:30:00Z"));
    assert_eq!(drifted(&memory(), &forged), (vec![], "kustomize-controller".to_owned()));
    let replaced = seen(|meta| meta["uid"] = json!("u2"));
    assert_eq!(
        drifted(&memory(), &replaced).0,
        [""; 0],
        "a copy of our entry does not make it our object"
    );
    assert!(matches!(
        judge(&memory(), Seen::Gone),
        Finding::Drift(Drift { gone: true, .. })
    ));
}

#[test]
fn what_is_to_be_left_alone_is() {
    let if_missing = Memory {
        when_missing: true,
        ..memory()
    };
    assert_eq!(quiet(&if_missing, &seen(take_replicas)), Some(Quiet::LeftAlone));
    let alone = Memory {
        left_alone: true,
        ..memory()
    };
    assert_eq!(quiet(&alone, &seen(take_replicas)), Some(Quiet::LeftAlone));
    assert_eq!(
        judge(&alone, Seen::Gone),
        Finding::Quiet(Quiet::LeftAlone),
        "what Git does not apply it does not make again"
    );
    let ignoring = Memory {
        ignored: vec!["/spec/replicas".to_owned()],
        ..memory()
    };
    assert_eq!(quiet(&ignoring, &seen(take_replicas)), Some(Quiet::Ignored));
    let dying = seen(|meta| {
        take_replicas(meta);
        meta["deletionTimestamp"] = json!("2026-11-01T11:00:00Z");
    });
    assert_eq!(quiet(&memory(), &dying), Some(Quiet::Terminating));
}

#[test]
fn a_marker_that_was_put_on_by_hand_is_drift() {
    let check = |map: &'static str, key: &'static str, value: &'static str, expect: &[&str]| {
        let meta = seen(move |meta| {
            meta[map] = json!({key: value});
            meta["managedFields"].as_array_mut().unwrap().push(json!({"manager": "sly", "operation": "Update",
                "apiVersion": "apps/v1", "subresource": "status", "time": "2026-11-01T11:00:00Z", "fieldsType": "FieldsV1",
                "fieldsV1": {"f:metadata": {format!("f:{map}"): {".": {}, format!("f:{key}"): {}}}}}));
        });
        let found = match judge(&memory(), Seen::There(&meta)) {
            Finding::Drift(drift) => {
                assert_eq!(drift.fields, drift.markers, "nothing else has changed");
                let marked: Vec<String> = drift.markers.iter().map(ToString::to_string).collect();
                assert_eq!(drift.manager.unwrap().to_string(), "sly (status)");
                marked
            }
            Finding::Quiet(Quiet::Untouched) => Vec::new(),
            other => panic!("{other:?}"),
        };
        assert_eq!(found, expect);
    };
    let reconcile = "kustomize.toolkit.fluxcd.io/reconcile";
    let of = |map: &str, key: &str| format!("metadata.{map}[{key:?}]");
    check("annotations", reconcile, "Disabled", &[&of("annotations", reconcile)]);
    check("labels", reconcile, "disabled", &[&of("labels", reconcile)]);
    check("annotations", reconcile, "enabled", &[]);
    let ssa = "kustomize.toolkit.fluxcd.io/ssa";
    check("annotations", ssa, "Ignore", &[&of("annotations", ssa)]);
}

#[test]
fn whoever_has_not_applied_an_object_knows_it_as_it_was_after_the_last_apply() {
    let owner = || memory().owner;
    let at = |time: &str| time.parse::<jiff::Timestamp>().unwrap();
    let late = at("2026-11-01T11:00:00Z");
    let look = |known: Option<&Memory>, meta: &ObjectMeta, now| observe(known, owner(), memory().gvk, meta, now);
    let first = look(None, &seen(|_| {}), late).unwrap();
    assert!(first.observed && first.desired.is_none() && first.version == Some(101));
    assert_eq!(first.ours, memory().ours);

    let later = |edit: &dyn Fn(&mut Value)| {
        seen(|meta| {
            meta["resourceVersion"] = json!("102");
            edit(meta);
        })
    };
    // Somebody's edit leaves what is known as it is, and is drift.
    let edited = later(&take_replicas);
    assert!(look(Some(&first), &edited, late).is_none());
    assert_eq!(drifted(&first, &edited).0, ["spec.replicas"]);
    // So does a removal, of which nothing tells who did it.
    let removed = later(&|meta| {
        meta["managedFields"][0]["fieldsV1"]["f:spec"]
            .as_object_mut()
            .unwrap()
            .remove("f:paused");
    });
    assert!(look(Some(&first), &removed, late).is_none());
    assert!(
        look(Some(&first), &removed, at("2026-11-01T10:00:01Z")).is_some(),
        "within the second of an apply it is another apply"
    );
    // An apply has another time.
    let applied = later(&|meta| {
        take_replicas(meta);
        meta["managedFields"][0]["time"] = json!("2026-11-01T10:59:00Z");
    });
    let second = look(Some(&first), &applied, late).unwrap();
    assert_eq!(second.ours.time, "2026-11-01T10:59:00Z");
    assert!(look(Some(&second), &edited, late).is_none(), "older than what is known");
    // What this process has applied it knows better.
    assert!(look(Some(&memory()), &applied, late).is_none());
    // What is not ours, or was marked before anybody looked, is not noted.
    assert!(look(None, &seen(|meta| meta["managedFields"] = json!([])), late).is_none());
    let marked = seen(|meta| meta["annotations"] = json!({"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}));
    assert!(look(None, &marked, late).is_none());
    let marked_later =
        later(&|meta| meta["annotations"] = json!({"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}));
    assert_eq!(drifted(&first, &marked_later).0.len(), 1);
}

#[test]
fn an_object_is_kept_whole() {
    let object = Object::new(stored()).unwrap();
    let kept = Kept::new(&object);
    assert_eq!(kept.object(), Some(object));
    assert!(kept.len() < stored().to_string().len());
}

#[test]
fn a_fight_slows_down_and_ends() {
    let at = Duration::from_secs;
    let replicas = [Path::of_fields(["spec", "replicas"])];
    let mut fight = Fight::default();
    let mut now = at(100);
    for round in 0..5 {
        assert_eq!(fight.turn("hpa", &replicas, now), Turn::Now, "{round}");
        let news = fight.reverted("hpa", &replicas, now);
        assert_eq!(news, (round == 4).then_some(News::Again(at(2))), "{round}");
        now += at(1);
    }
    // From here on it is a fight: two seconds, four, eight, …, at most a minute.
    let mut waits = Vec::new();
    for _ in 0..7 {
        let Turn::After(wait) = fight.turn("hpa", &replicas, now) else {
            panic!("at once")
        };
        now += wait;
        assert_eq!(fight.turn("hpa", &replicas, now), Turn::Now);
        fight.reverted("hpa", &replicas, now);
        waits.push(fight.wait().as_secs());
    }
    assert_eq!(waits, [4, 8, 16, 32, 60, 60, 60]);
    // Somebody else, or another field, does not wait for them.
    assert_eq!(fight.turn("kubectl-edit", &replicas, now), Turn::Now);
    assert_eq!(
        fight.turn("hpa", &[Path::of_fields(["spec", "paused"])], now),
        Turn::Now
    );
    // Long after it is forgotten.
    now += at(121);
    assert!(fight.is_over(now));
    assert_eq!(fight.turn("hpa", &replicas, now), Turn::Now);
    assert_eq!(fight.reverted("hpa", &replicas, now), None);
    assert_eq!(fight.turn("hpa", &replicas, now + at(1)), Turn::Now);
}

#[test]
fn nobody_gets_a_hot_loop_by_changing_names() {
    let at = Duration::from_secs;
    let (mut fight, mut now, mut reverts) = (Fight::default(), at(100), 0);
    let mut told = Vec::new();
    // Ten times a second under ever other names, for five minutes.
    for round in 0..3000_u32 {
        let (name, field) = (format!("sly-{}", round % 7), format!("key-{}", round % 3));
        let fields = [Path::of_fields(["data", &field])];
        if fight.turn(&name, &fields, now) == Turn::Now {
            reverts += 1;
            told.extend(fight.reverted(&name, &fields, now));
        }
        now += Duration::from_millis(100);
    }
    assert!((60..=75).contains(&reverts), "fifteen a minute: {reverts}");
    assert!(
        matches!(told.as_slice(), [News::ByMany(_), ..]) && told.len() <= 5,
        "{told:?}"
    );
    // Afterwards it is forgotten.
    now += at(121);
    assert!(fight.is_over(now));
    assert_eq!(fight.turn("sly-1", &[], now), Turn::Now);
}
