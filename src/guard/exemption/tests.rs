//! Tables: who, what, how long; and what the status says of it.

use super::*;
use serde_json::json;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Created at 10:00, for thirty minutes, for alice, a group and a service account, over Deployments of `shop`.
fn exemption() -> Exemption {
    with(json!({}), json!({}))
}

fn with(spec: Value, metadata: Value) -> Exemption {
    let mut all = json!({
        "apiVersion": "weir.dev/v1alpha1", "kind": "Exemption",
        "metadata": {"name": "incident-42", "namespace": "shop", "uid": "1", "generation": 1,
            "creationTimestamp": "2026-11-01T10:00:00Z"},
        "spec": {"lift": ["drift"], "reason": "the shop is down", "minutes": 30,
            "subjects": [{"kind": "User", "name": "alice"}, {"kind": "Group", "name": "sre"},
                {"kind": "ServiceAccount", "name": "bot"}],
            "objects": [{"apiGroup": "apps", "kinds": ["Deployment"]}]},
    });
    for (part, changes) in [("spec", spec), ("metadata", metadata)] {
        for (key, value) in changes.as_object().unwrap() {
            all[part][key] = value.clone();
        }
    }
    serde_json::from_value(all).unwrap()
}

#[test]
fn it_lasts_from_its_creation_and_never_longer_than_the_bound() {
    let check = |of: &Exemption, now: &str, expect: Option<u64>| {
        assert_eq!(left(of, at(now)).map(|left| left.as_secs()), expect, "{now}");
    };
    check(&exemption(), "2026-11-01T10:00:00Z", Some(1800));
    check(&exemption(), "2026-11-01T10:29:59Z", Some(1));
    check(&exemption(), "2026-11-01T10:30:00Z", None);
    // The schema refuses this; where it was changed the bound holds all the same.
    let forever = with(json!({"minutes": 60000}), json!({}));
    check(&forever, "2026-11-01T17:59:59Z", Some(1));
    check(&forever, "2026-11-01T18:00:00Z", None);
    let deleted = with(json!({}), json!({"deletionTimestamp": "2026-11-01T10:05:00Z"}));
    check(&deleted, "2026-11-01T10:05:00Z", None);
    let mut dreamt = exemption();
    dreamt.metadata.creation_timestamp = None;
    check(&dreamt, "2026-11-01T10:00:00Z", None);
    let mut forged = exemption();
    forged.status = Some(ExemptionStatus {
        until: Some(Time(at("2099-01-01T00:00:00Z"))),
        ..ExemptionStatus::default()
    });
    check(&forged, "2026-11-01T10:30:00Z", None);
}

#[test]
fn it_is_for_the_people_that_it_names() {
    let check = |username: &str, groups: &[&str], expect: bool| {
        let user = User {
            username: username.to_owned(),
            groups: groups.iter().map(|&group| group.to_owned()).collect(),
            ..User::default()
        };
        assert_eq!(names(&exemption(), &user), expect, "{username} {groups:?}");
    };
    check("alice", &[], true);
    check("bob", &["system:authenticated"], false);
    check("bob", &["system:authenticated", "sre"], true);
    check("sre", &[], false);
    check("system:serviceaccount:shop:bot", &[], true);
    check("system:serviceaccount:other:bot", &[], false);
    check("bot", &[], false);
}

#[test]
fn it_reaches_the_objects_that_it_names_and_its_own_namespace_only() {
    let object = |group: &str, kind: &str, namespace: &str| ObjectRef {
        group: group.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: "web".to_owned(),
    };
    let labels = BTreeMap::from([("tier".to_owned(), "front".to_owned())]);
    let check = |of: &Exemption, object: &ObjectRef, expect: bool| {
        assert_eq!(
            covers(of, Lift::Drift, "flux-system", object, &labels),
            expect,
            "{object} {:?}",
            of.spec.objects
        );
    };
    let web = object("apps", "Deployment", "shop");
    check(&exemption(), &web, true);
    check(&exemption(), &object("apps", "StatefulSet", "shop"), false);
    check(&exemption(), &object("extensions", "Deployment", "shop"), false);
    check(&exemption(), &object("apps", "Deployment", "other"), false);
    let one = |fields: Value| {
        let mut one = json!({"kinds": ["Deployment", "Namespace"]});
        for (key, value) in fields.as_object().unwrap() {
            one[key] = value.clone();
        }
        json!({"objects": [one]})
    };
    let narrowed = |fields: Value| with(one(fields), json!({}));
    check(&narrowed(json!({"names": ["web"]})), &web, true);
    check(&narrowed(json!({"names": ["store"]})), &web, false);
    check(&narrowed(json!({"namespaces": ["shop"]})), &web, true);
    check(
        &narrowed(json!({"namespaces": ["other"]})),
        &object("apps", "Deployment", "other"),
        false,
    );
    check(
        &narrowed(json!({"labelSelector": {"matchLabels": {"tier": "front"}}})),
        &web,
        true,
    );
    check(
        &narrowed(json!({"labelSelector": {"matchLabels": {"tier": "back"}}})),
        &web,
        false,
    );
    let bad = json!({"labelSelector": {"matchExpressions": [{"key": "tier", "operator": "Like", "values": ["f"]}]}});
    check(&narrowed(bad), &web, false);
    check(&narrowed(json!({})), &object("", "Namespace", ""), false);
    let at_home = |fields: Value| with(one(fields), json!({"namespace": "flux-system"}));
    check(&at_home(json!({})), &web, true);
    check(&at_home(json!({})), &object("", "Namespace", ""), true);
    check(&at_home(json!({"namespaces": ["other"]})), &web, false);
}

#[test]
fn labels_that_were_put_on_by_hand_do_not_count() {
    let live = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a",
        "labels": {"ours": "1", "theirs": "2", "taken": "3"},
        "managedFields": [{"manager": "kustomize-controller", "operation": "Apply", "apiVersion": "v1",
            "fieldsV1": {"f:metadata": {"f:labels": {"f:ours": {}}}}}]}});
    let names = |applied: Option<&FieldSet>| declared_labels(&live, applied).into_keys().collect::<Vec<_>>();
    assert_eq!(names(None), ["ours"]);
    let mut applied = FieldSet::default();
    applied.insert(&Path::of_fields(["metadata", "labels", "taken"]));
    assert_eq!(names(Some(&applied)), ["ours", "taken"]);
}

fn edit(user: &str, name: &str, fields: &[&str], time: &str) -> Edit {
    Edit {
        user: user.to_owned(),
        manager: "kubectl-edit".to_owned(),
        operation: "Update".to_owned(),
        group: "apps".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: "shop".to_owned(),
        name: name.to_owned(),
        kustomization: "apps/web".to_owned(),
        fields: fields.iter().map(|&field| field.to_owned()).collect(),
        first: Time(at(time)),
        last: Time(at(time)),
        count: 1,
    }
}

#[test]
fn edits_are_noted_once_for_each_object_and_user_within_a_bound() {
    let mut noted_so_far = ExemptionStatus::default();
    for (user, name, fields, time) in [
        ("alice", "web", &["spec.replicas"][..], "2026-11-01T10:01:00Z"),
        (
            "alice",
            "web",
            &["spec.paused", "spec.replicas"],
            "2026-11-01T10:02:00Z",
        ),
        ("bob", "web", &["spec.replicas"], "2026-11-01T10:03:00Z"),
        ("alice", "store", &[], "2026-11-01T10:04:00Z"),
    ] {
        noted_so_far = noted(noted_so_far, edit(user, name, fields, time)).unwrap();
    }
    assert_eq!(noted_so_far.edit_count, Some(4));
    let edits = noted_so_far.edits.clone().unwrap();
    assert_eq!(edits.len(), 3);
    assert_eq!(
        (edits[0].count, edits[0].fields.join(" ")),
        (2, "spec.replicas spec.paused".to_owned())
    );
    assert_eq!(edits[0].first, Time(at("2026-11-01T10:01:00Z")));
    assert_eq!(edits[0].last, Time(at("2026-11-01T10:02:00Z")));

    let many: Vec<String> = (0..40).map(|n| format!("f{n}{}", "x".repeat(500))).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let wide = noted(
        ExemptionStatus::default(),
        edit("alice", "web", &many, "2026-11-01T10:05:00Z"),
    )
    .unwrap();
    let fields = &wide.edits.unwrap()[0].fields;
    assert!(fields.len() == MAX_FIELDS && fields.iter().all(|field| field.len() == MAX_PATH));

    for number in 3..MAX_EDITS {
        let one = edit("alice", &format!("n{number}"), &[], "2026-11-01T10:06:00Z");
        noted_so_far = noted(noted_so_far, one).unwrap();
    }
    assert_eq!(
        noted(
            noted_so_far.clone(),
            edit("alice", "one-more", &[], "2026-11-01T10:07:00Z")
        ),
        Err(Full)
    );
    // What is known already goes on.
    assert!(noted(noted_so_far, edit("alice", "web", &[], "2026-11-01T10:07:00Z")).is_ok());
}

#[test]
fn a_forged_status_reaches_no_further_than_the_spec() {
    let mut forged = exemption();
    let mut elsewhere = edit("alice", "web", &[], "2026-11-01T10:01:00Z");
    elsewhere.namespace = "other".to_owned();
    let inside = edit("alice", "web", &[], "2026-11-01T10:01:00Z");
    forged.status = Some(ExemptionStatus {
        edits: Some(vec![elsewhere.clone(), inside.clone()]),
        ..ExemptionStatus::default()
    });
    let passed = |edit: &Edit| has_let_pass(&forged, "flux-system", &edited(edit), &BTreeMap::new());
    assert!(passed(&inside) && !passed(&elsewhere));
    assert!(!passed(&edit("alice", "store", &[], "2026-11-01T10:01:00Z")));
}

#[test]
fn the_status_tells_each_turn_once() {
    let step = |of: &mut Exemption, now: &str| {
        let (next, turn) = status(of, at(now));
        of.status = Some(next);
        let again = status(of, at(now));
        assert_eq!(again, (of.status.clone().unwrap(), None), "told twice at {now}");
        let condition = of.status.as_ref().unwrap().conditions.as_ref().unwrap()[0].clone();
        (
            turn,
            format!("{} {}: {}", condition.status, condition.reason, condition.message),
        )
    };
    let mut one = exemption();
    let told = |turn, text: &str| (turn, text.to_owned());
    assert_eq!(
        step(&mut one, "2026-11-01T10:00:01Z"),
        told(Some(Turn::Granted), "True Granted: until 2026-11-01T10:30:00Z")
    );
    assert_eq!(
        step(&mut one, "2026-11-01T10:10:00Z"),
        told(None, "True Granted: until 2026-11-01T10:30:00Z")
    );
    one.spec.minutes = 60;
    one.metadata.generation = Some(2);
    let changed = "True Granted: until 2026-11-01T11:00:00Z, after its minutes were changed";
    assert_eq!(
        step(&mut one, "2026-11-01T10:20:00Z"),
        told(Some(Turn::Extended), changed)
    );
    one.spec.minutes = 40;
    let changed = "True Granted: until 2026-11-01T10:40:00Z, after its minutes were changed";
    assert_eq!(
        step(&mut one, "2026-11-01T10:25:00Z"),
        told(Some(Turn::Shortened), changed)
    );
    let ended = "False Expired: ended 2026-11-01T10:40:00Z, after its minutes were changed";
    assert_eq!(step(&mut one, "2026-11-01T10:40:00Z"), told(Some(Turn::Ended), ended));
    one.spec.minutes = 90;
    let again = "True Granted: until 2026-11-01T11:30:00Z, after its minutes were changed";
    assert_eq!(
        step(&mut one, "2026-11-01T10:50:00Z"),
        told(Some(Turn::Extended), again)
    );
    // Found when it is over already, as after a long absence: its edits still have to be put back.
    let mut late = exemption();
    assert_eq!(step(&mut late, "2026-11-01T12:00:00Z").0, Some(Turn::Ended));
}

#[test]
fn it_lifts_what_it_says_only() {
    let web = ObjectRef {
        group: "apps".to_owned(),
        kind: "Deployment".to_owned(),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
    };
    let check = |lift: Value, expect: (bool, bool)| {
        let of = with(json!({"lift": lift}), json!({}));
        let lifts = |lift| covers(&of, lift, "flux-system", &web, &BTreeMap::new());
        assert_eq!((lifts(Lift::Drift), lifts(Lift::Strict)), expect);
    };
    check(json!(["drift"]), (true, false));
    check(json!(["strict"]), (false, true));
    check(json!(["drift", "strict"]), (true, true));
    assert_eq!(
        consequence_of_making(&exemption()),
        "Exemption shop/incident-42 allows this until 2026-11-01T10:30:00Z; it stays afterwards"
    );
}
