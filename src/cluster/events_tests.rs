//! Events: form, aggregation and bounds.

use super::*;

fn event(name: &str, message: &str) -> NewEvent {
    NewEvent {
        involved: ObjectReference {
            kind: Some("Kustomization".into()),
            name: Some(name.into()),
            namespace: Some("flux-system".into()),
            ..ObjectReference::default()
        },
        severity: Severity::Normal,
        reason: "ReconciliationSucceeded".into(),
        message: message.into(),
        annotations: BTreeMap::from([("kustomize.toolkit.fluxcd.io/revision".into(), "main@sha1:1".into())]),
        component: "kustomize-controller",
    }
}

fn known() -> Known {
    Known {
        instance: "host".into(),
        events: HashMap::new(),
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

#[test]
fn a_long_message_is_cut_at_a_character_with_an_ellipsis() {
    let check = |text: &str, limit: usize, expect: &str| assert_eq!(truncate(text, limit), expect);
    check("short", 5, "short");
    check("longer", 5, "lo…");
    check("ääääää", 8, "ää…");
    check("", 0, "");
    let cut = truncate(&"ß".repeat(5000), MAX_MESSAGE);
    assert!(cut.len() <= MAX_MESSAGE && cut.len() > MAX_MESSAGE - 3 && cut.ends_with('…'));
}

#[test]
fn an_event_is_written_as_flux_writes_it() {
    let write = known().observe(event("apps", "done"), at(0));
    assert_eq!((write.namespace.as_str(), write.again), ("flux-system", None));
    let value = serde_json::to_value(&write.event).unwrap();
    assert_eq!(value["source"], json!({"component": "kustomize-controller"}));
    assert_eq!(value["reportingComponent"], "kustomize-controller");
    assert_eq!((&value["type"], &value["count"]), (&json!("Normal"), &json!(1)));
    assert_eq!(value["firstTimestamp"], "2027-01-15T08:00:00Z");
    assert!(value["metadata"]["name"].as_str().unwrap().starts_with("apps."));
    assert_eq!(
        value["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/revision"],
        "main@sha1:1"
    );
}

#[test]
fn an_equal_event_raises_the_count_for_ten_minutes() {
    let mut known = known();
    let first = known.observe(event("apps", "done"), at(0));
    let second = known.observe(event("apps", "done"), at(1));
    assert_eq!((second.again, &second.name), (Some(2), &first.name));
    assert_eq!(second.event.first_timestamp, Some(Time(at(0))));
    assert_eq!(known.observe(event("other", "done"), at(2)).again, None);
    assert_eq!(known.observe(event("apps", "failed"), at(2)).again, None);
    assert_eq!(known.observe(event("apps", "done"), at(700)).again, None);
}

#[test]
fn what_is_remembered_is_bounded() {
    let mut known = known();
    for number in 0..i64::try_from(REMEMBERED).unwrap() + 10 {
        known.observe(
            event(&format!("e{number}"), "x"),
            at(0).checked_add(jiff::SignedDuration::from_millis(number)).unwrap(),
        );
    }
    assert!(known.events.len() <= REMEMBERED / 2 + 11, "{}", known.events.len());
    assert!(
        known
            .events
            .keys()
            .any(|key| key.involved[3].as_deref() == Some("e4105"))
    );
}

#[test]
fn an_event_of_a_cluster_scoped_object_lives_in_default() {
    let mut new = event("node", "x");
    new.involved.namespace = None;
    assert_eq!(known().observe(new, at(0)).namespace, "default");
}
