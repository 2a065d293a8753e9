//! Templates in CEL: what loads, what is found, what is said, and that they end.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::Program;
use crate::policy::rego::session::Deadline;
use crate::policy::review::Review;

const BUDGET: Duration = Duration::from_secs(5);

fn program(source: &Json) -> Program {
    Program::compile("a.yaml", source).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn review(object: &Json) -> Review {
    Review::from_admission(&json!({"operation": "CREATE", "object": object}), None).unwrap()
}

fn constraint(parameters: &Json) -> Json {
    json!({"kind": "A", "metadata": {"name": "mine"}, "spec": {"parameters": parameters}})
}

fn ask(source: &Json, object: &Json, parameters: &Json) -> Vec<String> {
    let deadline = Deadline::after(BUDGET);
    program(source)
        .violations(&review(object), &constraint(parameters), deadline)
        .unwrap()
}

#[test]
fn a_validation_that_does_not_hold_says_its_message() {
    let check = |validation: Json, expect: &str| {
        let source =
            json!({"variables": [{"name": "who", "expression": "object.metadata.name"}], "validations": [validation]});
        let object = json!({"metadata": {"name": "web"}, "spec": {"replicas": 3}});
        assert_eq!(ask(&source, &object, &json!({"max": 2})), [expect.to_owned()]);
    };
    let expression = "object.spec.replicas <= variables.params.max";
    check(
        json!({"expression": expression}),
        "failed expression: object.spec.replicas <= variables.params.max",
    );
    check(json!({"expression": expression, "message": "too many"}), "too many");
    check(
        json!({"expression": expression, "message": "too many", "messageExpression": "variables.who + ' has ' + string(object.spec.replicas)"}),
        "web has 3",
    );
    check(
        json!({"expression": expression, "message": "too many", "messageExpression": "object.missing.name"}),
        "too many",
    );
}

#[test]
fn what_holds_says_nothing() {
    let source = json!({"validations": [{"expression": "object.spec.items.all(item, item.size < 3)"}]});
    assert_eq!(
        ask(
            &source,
            &json!({"spec": {"items": [{"size": 1}, {"size": 2}]}}),
            &json!({})
        ),
        [""; 0]
    );
}

#[test]
fn a_computed_message_is_one_line_of_some_length() {
    let source =
        json!({"validations": [{"expression": "false", "message": "fixed", "messageExpression": "object.text"}]});
    let check = |text: &str, expect: &str| assert_eq!(ask(&source, &json!({"text": text}), &json!({})), [expect]);
    check(" said ", "said");
    check("two\nlines", "fixed");
    check("  ", "fixed");
    check(&"x".repeat(5121), "fixed");
    check(&"x".repeat(5120), &"x".repeat(5120));
}

#[test]
fn a_match_condition_that_does_not_hold_ends_it() {
    let source = json!({"matchCondition": [{"name": "named", "expression": "has(object.metadata.name)"}],
        "validations": [{"expression": "false", "message": "no"}]});
    assert_eq!(ask(&source, &json!({"metadata": {}}), &json!({})), [""; 0]);
    assert_eq!(ask(&source, &json!({"metadata": {"name": "a"}}), &json!({})), ["no"]);
    // Gatekeeper reads no plural.
    let source = json!({"matchConditions": [{"name": "named", "expression": "false"}],
        "validations": [{"expression": "false", "message": "no"}]});
    assert_eq!(ask(&source, &json!({"metadata": {}}), &json!({})), ["no"]);
}

#[test]
fn one_false_condition_is_enough_and_one_that_fails_is_not() {
    let check = |conditions: &[&str], expect: &[&str]| {
        let conditions: Vec<Json> = conditions
            .iter()
            .map(|condition| json!({"name": "c", "expression": condition}))
            .collect();
        let source = json!({"variables": [{"name": "who", "expression": "object.metadata.name"}],
            "matchCondition": conditions, "validations": [{"expression": "false", "message": "no"}]});
        assert_eq!(ask(&source, &json!({"metadata": {"name": "a"}}), &json!({})), expect);
    };
    check(&["object.missing", "variables.who == 'b'"], &[]);
    check(
        &["variables.who == 'a'", "object.missing"],
        &["expression 'object.missing' resulted in error: no such key: missing"],
    );
    check(
        &["object.metadata.name"],
        &["expression 'object.metadata.name' resulted in error: it must evaluate to bool"],
    );
    check(&["namespaceObject == null"], &["no"]);
}

#[test]
fn an_error_denies_unless_failures_are_ignored() {
    let mut source = json!({"variables": [{"name": "bad", "expression": "object.spec.missing"}],
        "validations": [{"expression": "variables.bad == 1"}, {"expression": "true"}]});
    let object = json!({"spec": {}});
    let expect = "expression 'variables.bad == 1' resulted in error: composited variable \"bad\" fails to evaluate: no such key: missing";
    assert_eq!(ask(&source, &object, &json!({})), [expect]);
    source["failurePolicy"] = json!("Ignore");
    assert_eq!(ask(&source, &object, &json!({})), [""; 0]);
    // What is neither true nor false is an error too.
    source["validations"] = json!([{"expression": "object.spec", "message": "no"}]);
    assert_eq!(ask(&source, &object, &json!({})), [""; 0]);
    source["failurePolicy"] = json!("Fail");
    let expect = "expression 'object.spec' resulted in error: it must evaluate to bool";
    assert_eq!(ask(&source, &object, &json!({})), [expect]);
}

#[test]
fn parameters_are_null_when_there_are_none() {
    let source = json!({"validations": [{"expression": "variables.params == null"}]});
    let ask = |constraint: Json| {
        let found = program(&source).violations(&review(&json!({"a": 1})), &constraint, Deadline::after(BUDGET));
        found.unwrap().is_empty()
    };
    assert!(ask(json!({})));
    assert!(ask(json!({"spec": {}})));
    assert!(!ask(json!({"spec": {"parameters": {}}})));
}

#[test]
fn variables_see_the_whole_constraint_and_nothing_else_does() {
    let source = json!({"variables": [{"name": "mine", "expression": "params.metadata.name"}],
        "validations": [{"expression": "false", "messageExpression": "variables.mine"}]});
    assert_eq!(ask(&source, &json!({"a": 1}), &json!({})), ["mine"]);
    let source = json!({"validations": [{"expression": "params.spec == null"}]});
    let problems = Program::compile("a.yaml", &source).err().unwrap();
    assert_eq!(
        problems[0].message,
        "validations[0].expression: there is no variable \"params\""
    );
    for (field, name) in [
        ("variables", "params"),
        ("variables", "gatekeeper_internal_x"),
        ("matchCondition", "gatekeeper_internal_x"),
    ] {
        let mut source = json!({"validations": [{"expression": "true"}]});
        source[field] = json!([{"name": name, "expression": "true"}]);
        let problems = Program::compile("a.yaml", &source).err().unwrap();
        assert_eq!(problems[0].message, format!("{field}[0].name: {name:?} is reserved"));
    }
}

#[test]
fn a_deletion_has_an_object_in_any_object_only() {
    let source = json!({"validations": [{"expression": "object != null || variables.anyObject.metadata.name != 'kept'", "message": "kept"}]});
    let request = json!({"operation": "DELETE", "oldObject": {"metadata": {"name": "kept"}}});
    let review = Review::from_admission(&request, None).unwrap();
    let found = program(&source).violations(&review, &json!({}), Deadline::after(BUDGET));
    assert_eq!(found.unwrap(), ["kept"]);
}

#[test]
fn kubernetes_functions_are_there() {
    let expression = "quantity(object.memory).isGreaterThan(quantity('1Gi')) && object.names.join(',') == 'a,b' \
        && 'registry.example/web:1'.find('[0-9]+$') == '1' && !isIP('x')";
    let source = json!({"validations": [{"expression": expression}]});
    assert_eq!(
        ask(&source, &json!({"memory": "2Gi", "names": ["a", "b"]}), &json!({})),
        [""; 0]
    );
}

#[test]
fn what_could_not_be_evaluated_does_not_load() {
    let check = |expression: &str, expect: &str| {
        let source = json!({"validations": [{"expression": expression}]});
        let problems = Program::compile("a.yaml", &source).err().expect("it loads");
        let told: Vec<String> = problems.iter().map(|problem| problem.message.clone()).collect();
        assert_eq!(told, [format!("validations[0].expression: {expect}")]);
    };
    check("", "is missing");
    check("objects.spec == 1", "there is no variable \"objects\"");
    check("variables.later == 1", "there is no variable \"later\" before this one");
    check("fetch('http://a') == 1", "there is no function \"fetch\"");
    check("object.spec.fetch() == 1", "there is no function \"fetch\"");
    check("Pod{name: 'a'} == object", "messages such as Pod cannot be made here");
    let long = format!("'{}' == ''", "x".repeat(20_000));
    check(&long, "has 20008 bytes, more than 16384; use variables");
    let problems = Program::compile("a.yaml", &json!({})).err().unwrap();
    assert_eq!(
        problems[0].message,
        "the CEL has no validations, so the template could never find anything"
    );
}

#[test]
fn syntax_errors_have_a_position() {
    let source = json!({"validations": [{"expression": "object.spec ==\n  )"}]});
    let problems = Program::compile("a.yaml", &source).err().unwrap();
    assert!(
        problems[0]
            .message
            .starts_with("validations[0].expression: line 2, column "),
        "{}",
        problems[0].message
    );
}

#[test]
fn deep_nesting_is_refused_and_not_died_of() {
    let deep = format!("{}1{} == 1", "(".repeat(5_000), ")".repeat(5_000));
    assert!(Program::compile("a.yaml", &json!({"validations": [{"expression": deep}]})).is_err());
}

#[test]
fn a_loop_within_loops_ends_at_its_deadline() {
    let items: Vec<u32> = (0..200).collect();
    let every =
        "object.items.all(a, object.items.all(b, object.items.all(c, object.items.all(d, a + b + c + d >= 0))))";
    for expression in [every.to_owned(), format!("{every} || true")] {
        let source = json!({"validations": [{"expression": expression}]});
        let deadline = Deadline::after(Duration::from_millis(50));
        let found = program(&source).violations(&review(&json!({"items": items})), &json!({}), deadline);
        assert_eq!(
            found.unwrap_err().to_string(),
            "the evaluation did not end within its budget of 50ms"
        );
    }
}
