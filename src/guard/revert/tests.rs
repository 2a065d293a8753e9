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
        Finding::Drift(_) => None,
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
    }
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
    let marked = |key: &'static str, field: &'static str, value: &'static str| {
        seen(move |meta| {
            take_replicas(meta);
            meta[field] = json!({key: value});
        })
    };
    let reconcile = "kustomize.toolkit.fluxcd.io/reconcile";
    assert_eq!(
        quiet(&memory(), &marked(reconcile, "annotations", "Disabled")),
        Some(Quiet::LeftAlone)
    );
    assert_eq!(
        quiet(&memory(), &marked(reconcile, "labels", "disabled")),
        Some(Quiet::LeftAlone)
    );
    assert_eq!(quiet(&memory(), &marked(reconcile, "annotations", "enabled")), None);
    assert_eq!(
        quiet(
            &memory(),
            &marked("kustomize.toolkit.fluxcd.io/ssa", "annotations", "Ignore")
        ),
        Some(Quiet::LeftAlone)
    );
    let if_missing = Memory {
        when_missing: true,
        ..memory()
    };
    assert_eq!(quiet(&if_missing, &seen(take_replicas)), Some(Quiet::LeftAlone));
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
        assert_eq!(news, (round == 4).then_some(1), "{round}");
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
