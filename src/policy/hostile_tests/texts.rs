//! Texts that are deep, long, odd or turn in circles, and inputs that are.

use std::fmt::Write;

use super::super::template::tests::template;
use super::{body, bounded, check, outcome, rego};
use serde_json::{Value as Json, json};

#[test]
fn nesting_is_refused() {
    for (open, close) in [
        ("[", "]"),
        ("{", "}"),
        ("(", ")"),
        ("{\"a\": ", "}"),
        ("[x | x := ", "]"),
        ("f(", ")"),
    ] {
        for depth in [25, 3_000, 40_000] {
            let text = format!("x := {}1{}", open.repeat(depth), close.repeat(depth));
            let said = outcome(body(&text), json!({}));
            assert!(said.starts_with("refused: "), "{open} {depth}: {said:.300}");
        }
    }
    check(body(&format!("x := {}1", "-".repeat(50_000))), "refused: ");
    check(body(&format!("{}false", "not ".repeat(50_000))), "refused: ");
    check(body(&format!("x := 1{}", " + 1".repeat(10_000))), "chains more than");
    check(body(&format!("input{}", ".a".repeat(10_000))), "refused: ");
    check(body(&format!("input{}", "[0]".repeat(10_000))), "refused: ");
    let every = "every x in [1] { ".repeat(40) + "true" + &" }".repeat(40);
    check(body(&every), "refused: ");
}

#[test]
fn sizes_are_refused() {
    check(
        body(&format!("x := \"{}\"", "a".repeat(2 << 20))),
        "more than 1048576; split it",
    );
    check(body(&"true\n".repeat(30_000)), "more than 20000 lines");
    check(body(&format!("x := [{}]", "1, ".repeat(40_000))), "longer than 65536");
    check(rego(&format!("{} {{ true }}", "v".repeat(100_000))), "refused: ");
}

#[test]
fn recursion_is_refused_or_ends() {
    let said = "calls itself, directly or through others";
    check(rego("f(x) = f(x)\nviolation[{\"msg\": \"x\"}] { f(1) }"), said);
    check(
        rego("f(x) { y := {z | z := g(x)}; y }\ng(x) { not f(x) }\nviolation[{\"msg\": \"x\"}] { f(1) }"),
        said,
    );
    check(
        rego("f(x) = y { y := g(x) with g as f }\ng(x) = x\nviolation[{\"msg\": \"x\"}] { f(1) }"),
        said,
    );
    check(
        rego("f(x) = y { y := count(x) with count as f }\nviolation[{\"msg\": \"x\"}] { f([1]) }"),
        said,
    );
    check(rego("f(x) { p }\np { f(1) }\nviolation[{\"msg\": \"x\"}] { p }"), "");
    check(
        rego("p { q with input as {} }\nq { p with input as {\"a\": 1} }\nviolation[{\"msg\": \"x\"}] { p }"),
        "",
    );
    check(rego("p { not q }\nq { not p }\nviolation[{\"msg\": \"x\"}] { p }"), "");
    check(
        rego("p[x] { q[x] }\nq[x] { p[x] }\nviolation[{\"msg\": \"x\"}] { p[_] }"),
        "",
    );
    check(rego("p = data.a\nviolation[{\"msg\": \"x\"}] { p }"), "");
    check(rego("violation[{\"msg\": \"x\"}] { violation[_] }"), "");
    check(
        rego("p = [x | x := q[_]]\nq = [x | x := p[_]]\nviolation[{\"msg\": \"x\"}] { p }"),
        "",
    );
}

#[test]
fn libraries_cannot_turn_in_circles() {
    let with = |main: &str, libs: &[&str]| {
        let mut document = rego(main);
        document.value["spec"]["targets"][0]["libs"] = json!(libs);
        document
    };
    let call = "import data.lib.x\nviolation[{\"msg\": \"x\"}] { x.f(1) }";
    check(
        with(
            call,
            &[
                "package lib.x\nimport data.lib.y\nf(a) = y.g(a)",
                "package lib.y\nimport data.lib.x\ng(a) = x.f(a)",
            ],
        ),
        "calls itself",
    );
    check(
        with(call, &["package lib.x\nf(a) = 1", "package lib.x\nf(a) = 2"]),
        "could not be evaluated",
    );
    check(
        with(call, &["package lib.x\nf(a) = 1", "package lib.x\nf(a, b) = 2"]),
        "",
    );
    check(with(call, &["package lib\nx = 1", "package lib.x\nf(a) = 1"]), "");
    let many: Vec<String> = (0..2_000)
        .map(|index| format!("package lib.x{index}\nf(a) = a"))
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    check(
        with("violation[{\"msg\": \"found\"}] { data.lib.x7.f(1) }", &many),
        "found",
    );
}

#[test]
fn odd_texts_are_read_or_refused() {
    for text in [
        "\u{0}",
        "package\u{0}a",
        "\u{feff}package a",
        "package a\nx = \"\u{0}\"",
        "package a\nx = \"\\u0000\\ud800\"",
        "package a\nx = \"\u{202e}\u{200b}\"",
        "package ａ\nx = 1",
        "package a\nπ = 3",
        "package a\n\tx\u{a0}= 1",
        "package a\r\nx = 1\r\n",
        "package a\nx = `",
        "package a\nx = \"",
        "package a\n# \u{0}",
        "package a # x",
        "---\npackage: a",
        "package a\n---\npackage b",
        "package a\nx = &a 1\ny = *a",
        "package a\nx: !!python/object 1",
        "package a.a.a.a.a.a.a.a.a",
        "package input",
        "package data",
        "package a[1]",
        "package a[\"\"]",
        "package a\nimport input as data",
        "package a\nimport data",
        "package a\nimport a",
        "package a\nimport data.lib as a",
        "package a\ndefault x = y",
        "package a\nx[x] = x { x }",
        "package a\n_ = 1",
        "package a\nx = 1 y = 2",
        "package a\nelse = 1",
        "package a\nx { } else",
        "package a\nx = {{{}}}",
    ] {
        outcome(template("A", text), json!({"kind": "Pod"}));
        let answering = format!("{text}\nviolation[{{\"msg\": \"found\"}}] {{ true }}");
        outcome(template("A", &answering), json!({"kind": "Pod"}));
    }
}

#[test]
fn numbers_end_somewhere() {
    for number in [
        "1e999999999",
        "-1e999999999",
        "1e-999999999",
        "2e308",
        "0x10",
        "1_000",
        "00",
        "1e",
        "1.e5",
    ] {
        outcome(body(&format!("x := {number}; x == x + 1")), json!({}));
    }
    let long = "9".repeat(60_000);
    bounded(
        &body(&format!("x := {long}; x * x * x * x * x * x * x * x == 1")),
        &["a number would have", "refused: ", "number"],
    );
    // Squared forty times.
    let squares = (0..40).fold("x0 := 3".to_owned(), |text, index| {
        format!("{text}; x{} := x{index} * x{index}", index + 1)
    });
    bounded(&body(&format!("{squares}; x40 > 1")), &["a number would have"]);
    bounded(
        &body("product([x | numbers.range(1, 100000)[x]; x > 0]) > 1"),
        &["a number would have"],
    );
    for text in [
        "json.unmarshal(\"[1e1000000000]\")",
        "to_number(\"1e1000000000\") > 0",
        "units.parse(\"1e1000000000\") > 0",
        "format_int(1e300, 2) == \"\"",
        "round(1e308 * 10) > 0",
        "numbers.range(-1e300, 1e300)",
        "1e308 * 1e308 > 0",
    ] {
        outcome(body(text), json!({}));
    }
}

#[test]
fn deep_and_large_inputs_are_read_or_refused() {
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    let walk = rego(
        "violation[{\"msg\": m}] { count([1 | walk(input, [p, v])]) > 10; m := sprintf(\"%v\", [count(json.marshal(input))]) }",
    );
    let object: Json = serde_json::from_str(&format!("{{\"kind\": \"Pod\", \"deep\": {}}}", deep(100))).unwrap();
    assert!(!outcome(walk.clone(), object).is_empty());
    let wide: serde_json::Map<String, Json> = (0..100_000)
        .map(|index| (format!("k{index}"), json!([index])))
        .collect();
    assert!(!outcome(walk, Json::Object(wide)).is_empty());
    for key in ["", "\u{0}", "a.b", "__proto__", "é", "\"", "\n"] {
        let said = outcome(
            body("input.review.object[k] == \"v\"; sprintf(\"%s %v\", [k, input.review.object]) != \"\""),
            json!({key: "v"}),
        );
        assert_eq!(said, "found", "{key:?}");
    }
}

#[test]
fn a_template_with_very_many_rules_loads() {
    let mut text = String::new();
    for index in 0..3_000 {
        writeln!(text, "r{index} {{ input.review.object.kind == \"k{index}\" }}").unwrap();
        writeln!(text, "violation[{{\"msg\": \"{index}\"}}] {{ r{index} }}").unwrap();
    }
    assert_eq!(outcome(rego(&text), json!({"kind": "k7"})), "7");
}
