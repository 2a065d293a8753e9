//! CEL.

use super::{check, outcome, rego};
use serde_json::{Value as Json, json};

#[test]
fn expressions_are_bounded_too() {
    let cel = |source: Json| {
        let mut document = rego("");
        document.value["spec"]["targets"][0] = json!({"target": "admission.k8s.gatekeeper.sh", "code": [{"engine": "K8sNativeValidation", "source": source}]});
        document
    };
    let doubled = |first: &str, make: &str| {
        let mut variables = vec![json!({"name": "x0", "expression": first})];
        for index in 0..60 {
            let expression = make.replace('X', &format!("variables.x{index}"));
            variables.push(json!({"name": format!("x{}", index + 1), "expression": expression}));
        }
        cel(json!({"variables": variables, "validations": [{"expression": "variables.x60 == variables.x59"}]}))
    };
    let made = "it would make";
    for (first, make) in [
        ("object.text", "X + X"),
        ("[object.kind]", "X + X"),
        ("[object.kind]", "[X, X]"),
        ("{'a': object.kind}", "{'a': X, 'b': X}"),
        ("object.text", "X.replace('a', 'aaaa')"),
        ("object.text", "[X, X].join(X)"),
        ("object.text", "'%s%s'.format([X, X])"),
        ("[1, 2]", "X.map(i, X)"),
        ("lists.range(1000)", "X.map(i, X).flatten()"),
    ] {
        let said = outcome(
            doubled(first, make),
            json!({"kind": "Pod", "text": "a".repeat(100_000)}),
        );
        assert!(
            said.contains(made) || said.contains("did not end"),
            "{make}: {said:.300}"
        );
    }
    let one = |expression: &str| cel(json!({"validations": [{"expression": expression, "message": "found"}]}));
    for (expression, expect) in [
        ("lists.range(100000000).size() == 1", made),
        ("lists.range(100000).distinct().size() == 1", made),
        ("sets.contains(lists.range(100000), lists.range(100000))", made),
        ("'%.100000000f'.format([1.0]) == ''", "asks for 100000000 digits"),
        (
            "object.text.split('').size() == 1 && object.text.split('').size() == 1 && object.text.split('').size() == 1",
            "",
        ),
        ("object.text.matches('((a{0,100}){0,100}){0,100}')", "too large"),
        ("object.text.matches('(x[a-z]{0,900}y)*z') || true", ""),
        (
            "lists.range(10000).map(a, lists.range(10000).map(b, object.text)).size() == 0",
            "",
        ),
        (
            "lists.range(10000).all(a, lists.range(10000).all(b, a + b >= 0))",
            "did not end within",
        ),
    ] {
        let said = outcome(one(expression), json!({"kind": "Pod", "text": "a".repeat(100_000)}));
        assert!(
            said.contains(expect) || said.contains("did not end"),
            "{expression}: {said:.300}"
        );
    }
    for text in [
        "(".repeat(10_000),
        "[".repeat(10_000),
        "!".repeat(10_000),
        "a.".repeat(8_000),
        "1 + ".repeat(4_000) + "1",
        "'\u{0}'".to_owned(),
        "\u{0}".to_owned(),
        "object.\u{202e}".to_owned(),
        "1e999999999 > 1.0".to_owned(),
        "99999999999999999999 > 1".to_owned(),
        "b'\\377' == b''".to_owned(),
    ] {
        outcome(one(&text), json!({"kind": "Pod"}));
    }
    // As deep as variables may make it.
    let mut variables = vec![json!({"name": "x0", "expression": "[1]"})];
    for index in 0..5_000 {
        variables.push(json!({"name": format!("x{}", index + 1), "expression": format!("[variables.x{index}]")}));
    }
    check(
        cel(json!({"variables": variables, "validations": [{"expression": "variables.x5000 == []"}]})),
        "nested more than",
    );
}
