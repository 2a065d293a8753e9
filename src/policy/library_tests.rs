//! Libraries from end to end: load, match, evaluate.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value as Json, json};

use super::constraint::tests::constraint;
use super::template::tests::template;
use super::*;

const BUDGET: Duration = Duration::from_secs(5);

const OWNER: &str = r#"package owner
violation[{"msg": msg, "details": {"missing": label}}] {
  label := input.parameters.labels[_]
  not input.review.object.metadata.labels[label]
  msg := sprintf("label %v is missing", [label])
}"#;

const UNIQUE: &str = r#"package unique
violation[{"msg": "the name is taken"}] {
  other := data.inventory.namespace[ns]["v1"]["ConfigMap"][name]
  ns != input.review.namespace
  name == input.review.name
}"#;

fn config_map(namespace: &str, labels: Json) -> Json {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace, "labels": labels}})
}

fn review(object: Json) -> Review {
    let namespace = object["metadata"]["namespace"].clone();
    let request = json!({"operation": "CREATE", "name": "a", "namespace": namespace,
        "kind": {"group": "", "version": "v1", "kind": "ConfigMap"}, "object": object});
    Review::from_admission(&request, None).unwrap()
}

fn load(templates: Vec<Document>, constraints: Vec<Document>, rego: &[(&str, &str)]) -> Loaded {
    let rego = rego.iter().map(|(name, text)| RegoFile {
        name: (*name).to_owned(),
        text: (*text).to_owned(),
    });
    Library::load(&Sources {
        rego: rego.collect(),
        templates,
        constraints,
    })
}

fn said(decision: &Decision) -> Vec<String> {
    let line = |finding: &Finding| format!("{} {}: {}", finding.action.as_str(), finding.policy, finding.message);
    decision.findings.iter().map(line).collect()
}

#[test]
fn constraints_decide_with_their_parameters_and_actions() {
    let loaded = load(
        vec![template("Owner", OWNER)],
        vec![
            constraint(
                "Owner",
                "strict",
                json!({"match": {"kinds": [{"kinds": ["ConfigMap"]}]}, "parameters": {"labels": ["team"]}}),
            ),
            constraint(
                "Owner",
                "gentle",
                json!({"enforcementAction": "warn", "parameters": {"labels": ["tier", "team"]}}),
            ),
            constraint(
                "Owner",
                "elsewhere",
                json!({"match": {"kinds": [{"kinds": ["Pod"]}]}, "parameters": {"labels": ["x"]}}),
            ),
            constraint("Owner", "nothing", json!({})),
        ],
        &[],
    );
    assert_eq!(loaded.problems, []);
    let decision = loaded
        .library
        .evaluate(&review(config_map("x", json!({}))), &Inventory::default(), BUDGET);
    assert_eq!(
        said(&decision),
        [
            "deny Owner/strict: label team is missing",
            "warn Owner/gentle: label team is missing",
            "warn Owner/gentle: label tier is missing"
        ]
    );
    assert_eq!(decision.findings[0].details, json!({"missing": "team"}));
    assert_eq!(decision.findings[0].source, "strict.yaml");
    assert_eq!((decision.denied(), decision.evaluated), (true, 3));
    let fine = loaded.library.evaluate(
        &review(config_map("x", json!({"team": "a", "tier": "b"}))),
        &Inventory::default(),
        BUDGET,
    );
    assert_eq!(said(&fine), [""; 0]);
}

#[test]
fn the_inventory_is_what_was_handed_in() {
    let loaded = load(
        vec![template("Unique", UNIQUE)],
        vec![constraint("Unique", "u", json!({}))],
        &[],
    );
    let mut inventory = Inventory::from_objects([&config_map("x", json!({}))]);
    let denied = |inventory: &Inventory| {
        loaded
            .library
            .evaluate(&review(config_map("y", json!({}))), inventory, BUDGET)
            .denied()
    };
    assert!(denied(&inventory));
    let before = inventory.clone();
    inventory.remove(&config_map("x", json!({})));
    assert!(!denied(&inventory));
    assert!(denied(&before));
    assert!(!denied(&Inventory::default()));
}

#[test]
fn plain_policies_judge_with_title_and_fix() {
    let deny = "# METADATA\n# title: Names\n# custom: {fix: rename it, kinds: [ConfigMap]}\npackage names\n\
        deny contains \"a is no name\" if input.review.object.metadata.name == \"a\"\n\
        warn contains {\"msg\": \"short\", \"title\": \"Short\"} if count(input.review.name) < 2";
    let other = "# METADATA\n# custom: {kinds: [Pod]}\npackage pods\ndeny contains \"never\" if true";
    let bare =
        "# METADATA\n# custom: {input: object}\npackage bare\ndeny contains input.kind if input.metadata.name == \"a\"";
    let loaded = load(
        vec![],
        vec![],
        &[("names.rego", deny), ("pods.rego", other), ("bare.rego", bare)],
    );
    assert_eq!(loaded.problems, []);
    let decision = loaded
        .library
        .evaluate(&review(config_map("x", json!({}))), &Inventory::default(), BUDGET);
    assert_eq!(
        said(&decision),
        ["deny bare: ConfigMap", "deny names: a is no name", "warn names: short"]
    );
    let finding = &decision.findings[1];
    assert_eq!(
        (
            finding.title.as_deref(),
            finding.hint.as_deref(),
            finding.source.as_str()
        ),
        (Some("Names"), Some("rename it"), "names.rego")
    );
    assert_eq!(decision.findings[2].title.as_deref(), Some("Short"));
    assert_eq!(decision.evaluated, 2);
}

#[test]
fn what_cannot_be_evaluated_denies_with_its_error() {
    let conflict = "package conflict\nx := 1 if input.review\nx := 2 if input.review\ndeny contains \"x\" if x == 3";
    let endless = "package endless\ndeny contains \"x\" if count([1 | some a in numbers.range(1, 5000); some b in numbers.range(1, 5000); a < b]) == 0";
    let loaded = load(
        vec![template("Odd", "package odd\nviolation[{\"msg\": 7}] { true }")],
        vec![
            constraint("Odd", "odd", json!({})),
            constraint("Odd", "dry", json!({"enforcementAction": "dryrun"})),
            constraint(
                "Odd",
                "unknown",
                json!({"match": {"namespaceSelector": {"matchLabels": {"a": "b"}}}}),
            ),
        ],
        &[("conflict.rego", conflict), ("endless.rego", endless)],
    );
    assert_eq!(loaded.problems, []);
    let decision = loaded.library.evaluate(
        &review(config_map("x", json!({}))),
        &Inventory::default(),
        Duration::from_millis(60),
    );
    assert!(decision.findings.iter().all(|finding| finding.failed));
    let said = said(&decision);
    assert_eq!(
        said[0],
        "deny Odd/odd: the policy found something but did not say what: msg must be a string"
    );
    assert!(
        said[1].starts_with("deny Odd/unknown: the policy could not be evaluated: spec.match.namespaceSelector needs"),
        "{said:?}"
    );
    assert!(
        said[2].starts_with("deny conflict: the policy could not be evaluated: conflict.rego: line 3: "),
        "{said:?}"
    );
    assert_eq!(
        said[3],
        "deny endless: the policy could not be evaluated: endless.rego: the evaluation did not end within its budget of 60ms"
    );
    assert!(said[4].starts_with("dryrun Odd/dry: "), "{said:?}");
}

#[test]
fn what_does_not_load_is_reported_and_the_rest_works() {
    let loaded = load(
        vec![
            template("Owner", OWNER),
            template("Broken", "package b\nviolation[x] {"),
            template("Owner", OWNER),
        ],
        vec![
            constraint("Owner", "ok", json!({"parameters": {"labels": ["team"]}})),
            constraint("Broken", "b", json!({})),
            constraint("Owner", "bad", json!({"enforcementAction": "block"})),
        ],
        &[("bad.rego", "package bad\ndeny contains")],
    );
    let problems: Vec<String> = loaded.problems.iter().map(ToString::to_string).collect();
    assert_eq!(problems.len(), 5, "{problems:#?}");
    assert!(problems[0].starts_with("broken.yaml:2:"), "{problems:?}");
    assert_eq!(problems[1], "owner.yaml: kind Owner is already defined by owner.yaml");
    assert_eq!(
        problems[2],
        "b.yaml: there is no template for constraints of kind Broken"
    );
    assert!(problems[4].starts_with("bad.rego:2:14: "), "{problems:?}");
    assert!(
        loaded
            .library
            .evaluate(&review(config_map("x", json!({}))), &Inventory::default(), BUDGET)
            .denied()
    );
    assert_eq!(loaded.library.len(), 1);
}

#[test]
fn reloading_keeps_what_is_the_same_and_what_last_worked() {
    let constraints = vec![constraint("Owner", "o", json!({"parameters": {"labels": ["team"]}}))];
    let first = load(vec![template("Owner", OWNER)], constraints.clone(), &[]);
    let reload = |templates: Vec<Document>, constraints: Vec<Document>| {
        let sources = Sources {
            templates,
            constraints,
            ..Sources::default()
        };
        Library::reload(&first.library, &sources)
    };
    let denied = |loaded: &Loaded| {
        loaded
            .library
            .evaluate(&review(config_map("x", json!({}))), &Inventory::default(), BUDGET)
            .denied()
    };
    let broken = reload(
        vec![template("Owner", "package owner\nviolation[x] {")],
        constraints.clone(),
    );
    assert!(denied(&broken));
    assert!(
        broken.problems[0]
            .to_string()
            .ends_with("; the last good version stays in force"),
        "{:?}",
        broken.problems
    );
    let broken = reload(
        vec![template("Owner", OWNER)],
        vec![constraint("Owner", "o", json!({"enforcementAction": "x"}))],
    );
    assert!(denied(&broken) && broken.problems.len() == 1);
    assert!(!denied(&reload(vec![], constraints)));
}

#[test]
fn a_library_is_shared_by_threads() {
    let loaded = load(
        vec![template("Unique", UNIQUE)],
        vec![constraint("Unique", "u", json!({}))],
        &[],
    );
    let inventory = Inventory::from_objects([&config_map("x", json!({}))]);
    let shared = Arc::new((loaded.library, inventory, review(config_map("y", json!({})))));
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || (0..50).all(|_| shared.0.evaluate(&shared.2, &shared.1, BUDGET).denied()))
        })
        .collect();
    assert!(threads.into_iter().all(|thread| thread.join().unwrap()));
}

#[test]
fn deletions_are_judged_by_policies_that_think_of_them() {
    let mut listed = template("Listed", "package l\nviolation[{\"msg\": \"listed\"}] { true }");
    listed.value["spec"]["targets"][0]["operations"] = json!(["CREATE", "DELETE"]);
    let loaded = load(
        vec![
            template("Owner", OWNER),
            listed,
            template(
                "Says",
                "package s\nviolation[{\"msg\": \"says\"}] { input.review.operation == \"DELETE\" }",
            ),
        ],
        vec![
            constraint("Owner", "o", json!({"parameters": {"labels": ["team"]}})),
            constraint("Listed", "l", json!({})),
            constraint("Says", "s", json!({})),
        ],
        &[
            ("a.rego", "package a\ndeny contains \"a\" if true"),
            (
                "b.rego",
                "# METADATA\n# custom: {operations: [DELETE]}\npackage b\ndeny contains \"b\" if true",
            ),
        ],
    );
    assert_eq!(loaded.problems, []);
    let request = json!({"operation": "DELETE", "name": "a", "oldObject": config_map("x", json!({}))});
    let review = Review::from_admission(&request, None).unwrap();
    let decision = loaded.library.evaluate(&review, &Inventory::default(), BUDGET);
    assert_eq!(
        said(&decision),
        ["deny Listed/l: listed", "deny Says/s: says", "deny b: b"]
    );
}

/// Rules that need each other in a row, longer than a small stack has room for.
#[test]
fn a_thread_with_a_small_stack_may_ask() {
    const RULES: usize = 400;
    let mut text = format!(
        "package long\nr{RULES} {{ input.review.name == \"a\" }}\nviolation[{{\"msg\": \"it is long\"}}] {{ r0 }}\n"
    );
    for rule in 0..RULES {
        text.push_str(&format!("r{rule} {{ r{} }}\n", rule + 1));
    }
    let loaded = load(
        vec![template("Long", &text)],
        vec![constraint("Long", "long", json!({}))],
        &[],
    );
    assert_eq!(loaded.problems, []);
    let review = review(config_map("x", json!({})));
    let asked = std::thread::Builder::new().stack_size(128 << 10).spawn(move || {
        let within = loaded.library.evaluate_within(&review, &Inventory::default(), BUDGET);
        within.map(|decision| said(&decision))
    });
    let said = asked.unwrap().join().unwrap();
    assert_eq!(said, Some(vec!["deny Long/long: it is long".to_owned()]));
}

#[test]
fn a_budget_that_is_not_enough_gives_no_decision() {
    let text = "package slow\nviolation[{\"msg\": \"slow\"}] { count([1 | a := numbers.range(1, 3000)[_]; b := numbers.range(1, 3000)[_]; a != b]) > 0 }";
    let loaded = load(
        vec![template("Slow", text)],
        vec![constraint("Slow", "slow", json!({}))],
        &[],
    );
    assert_eq!(loaded.problems, []);
    let review = review(config_map("x", json!({})));
    let within = |budget| loaded.library.evaluate_within(&review, &Inventory::default(), budget);
    assert_eq!(within(Duration::from_millis(3)), None);
    let other = load(
        vec![template("Owner", OWNER)],
        vec![constraint(
            "Owner",
            "owner",
            json!({"parameters": {"labels": ["owner"]}}),
        )],
        &[],
    );
    let quick = other.library.evaluate_within(&review, &Inventory::default(), BUDGET);
    assert_eq!(quick.map(|decision| decision.denied()), Some(true));
}
