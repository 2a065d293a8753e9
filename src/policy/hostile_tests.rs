//! Templates and inputs that were made to hang, abort or fill the memory of whoever loads or asks them: each is refused when it
//! is loaded, or fails within its budget, or is harmless.
//!
//! What a test program cannot survive, an overflowing stack or memory that runs out, shows as its end.

use std::fmt::Write;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use super::constraint::tests::constraint;
use super::inventory::Inventory;
use super::library::Library;
use super::review::Review;
use super::source::{Document, Sources};
use super::template::tests::template;

/// What an evaluation may take.
const BUDGET: Duration = Duration::from_millis(300);
/// What loading and evaluating take together on a machine that does ten other things; what is not bounded takes longer.
const SLACK: Duration = Duration::from_secs(40);

/// What comes of a template.
fn outcome(document: Document, object: Json) -> String {
    outcome_of(document, object, false)
}

/// The same; `engine` has the engine answer where compiled rules could.
fn outcome_of(document: Document, object: Json, engine: bool) -> String {
    let kind = document.value["spec"]["crd"]["spec"]["names"]["kind"]
        .as_str()
        .unwrap()
        .to_owned();
    let sources = Sources {
        templates: vec![document],
        constraints: vec![constraint(&kind, "c", json!({}))],
        ..Sources::default()
    };
    // As the threads of the runtime are made.
    let work = std::thread::Builder::new().stack_size(super::STACK).spawn(move || {
        let start = Instant::now();
        let loaded = Library::load(&sources);
        if let Some(problem) = loaded.problems.iter().find(|problem| problem.is_error()) {
            return format!("refused: {problem}");
        }
        if engine {
            loaded.library.cover();
        }
        let request = json!({"operation": "CREATE", "object": object});
        let review = Review::from_admission(&request, None).unwrap();
        let decision = loaded.library.evaluate(&review, &Inventory::default(), BUDGET);
        assert!(start.elapsed() < SLACK, "it took {:?}", start.elapsed());
        let told: Vec<String> = decision
            .findings
            .iter()
            .map(|finding| finding.message.clone())
            .collect();
        told.join("; ")
    });
    work.unwrap().join().unwrap()
}

fn rego(body: &str) -> Document {
    template("A", &format!("package a\n{body}"))
}

/// A body of the rule that answers.
fn body(text: &str) -> Document {
    rego(&format!("violation[{{\"msg\": \"found\"}}] {{ {text} }}"))
}

#[track_caller]
fn check(document: Document, expect: &str) {
    let said = outcome(document, json!({"kind": "Pod", "text": "a".repeat(100_000)}));
    assert!(said.contains(expect), "{said:.400} instead of {expect}");
}

/// Compiled rules and the engine both fail with one of these, or with the time.
#[track_caller]
fn bounded(document: &Document, expect: &[&str]) {
    for engine in [false, true] {
        let said = outcome_of(
            document.clone(),
            json!({"kind": "Pod", "text": "a".repeat(100_000)}),
            engine,
        );
        let known = expect.iter().chain(&["did not end within its budget"]);
        assert!(
            known.clone().any(|expect| said.contains(expect)),
            "engine {engine}: {said:.400} is none of {expect:?}"
        );
    }
}

const MADE: &str = "would bring what one evaluation makes";

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
fn what_is_shared_cannot_be_more_than_can_be_gone_over() {
    let doubled = |make: &str, then: &str| {
        let steps = (0..60).fold("x0 := [input.review.object.kind]".to_owned(), |text, index| {
            format!("{text}; x{} {}", index + 1, make.replace('X', &format!("x{index}")))
        });
        body(&format!("{steps}; {then}"))
    };
    let expect = [MADE, "nested more than"];
    for make in [
        ":= [X, X]",
        "= [X, X]",
        ":= {\"a\": X, \"b\": X}",
        ":= {[X, 1], [X, 2]}",
        ":= [y | z := [X, X]; y := z[_]]",
        ":= {k: X | k := [1, 2][_]}",
        ":= json.patch({\"a\": X}, [{\"op\": \"add\", \"path\": \"/b\", \"value\": X}])",
        ":= object.union({\"a\": X}, {\"b\": X})",
        ":= array.concat([X], [X])",
    ] {
        bounded(&doubled(make, "json.marshal(x60) == \"\""), &expect);
        bounded(&doubled(make, "x60 == [x60]"), &expect);
    }
    // Said by the violation itself.
    let steps = (0..60).fold("x0 := [1]".to_owned(), |text, index| {
        format!("{text}; x{} := [x{index}, x{index}]", index + 1)
    });
    bounded(
        &rego(&format!(
            "violation[{{\"msg\": \"m\", \"details\": x60}}] {{ {steps} }}"
        )),
        &expect,
    );
    bounded(
        &rego(&format!(
            "violation[{{\"msg\": m}}] {{ {steps}; m := sprintf(\"%v\", [x60]) }}"
        )),
        &expect,
    );
}

#[test]
fn what_functions_nest_cannot_overflow_the_stack() {
    // Each calls the one before twice, so the last would nest a thousand million levels.
    let functions = (1..30).fold("f0(x) = [x]".to_owned(), |text, index| {
        format!("{text}\nf{index}(x) = f{0}(f{0}(x))", index - 1)
    });
    for then in ["y := f29(1); y", "y := f29(1); y == 1", "not f29(1)"] {
        bounded(
            &rego(&format!("{functions}\nviolation[{{\"msg\": \"x\"}}] {{ {then} }}")),
            &["nested more than 512 deep"],
        );
    }
    let objects = functions.replace("[x]", "{\"a\": x}");
    bounded(
        &rego(&format!("{objects}\nviolation[{{\"msg\": \"x\"}}] {{ f29(1) }}")),
        &["nested more than 512 deep"],
    );
}

#[test]
fn builtins_that_make_much_of_little_are_bounded() {
    for (text, expect) in [
        (
            "r := numbers.range(1, 12); g := {a: [b | b := r[_]; b != a] | a := r[_]}; graph.reachable_paths(g, r) == set()",
            MADE,
        ),
        (
            "g := {a: [b] | a := numbers.range(1, 300000)[_]; b := a + 1}; count(graph.reachable_paths(g, [1])) == 0",
            MADE,
        ),
        (
            "x := concat(\"\", [t | numbers.range(1, 100)[_]; t := input.review.object.text]); indexof_n(x, x)",
            MADE,
        ),
        (
            "s := {{a} | a := numbers.range(1, 100000)[_]}; count(union(s)) == 0",
            "found",
        ),
        (
            "o := [{format_int(a, 10): a} | a := numbers.range(1, 60000)[_]]; count(object.union_n(o)) == 0",
            MADE,
        ),
        (
            "l := [\"a\" | numbers.range(1, 100000)[_]]; strings.any_prefix_match([x | l[_]; x := \"b\"], l)",
            MADE,
        ),
        (
            "l := [1 | numbers.range(1, 100000)[_]]; m := array.concat([2], l); object.subset(l, array.concat([1 | numbers.range(1, 50000)[_]], m))",
            MADE,
        ),
        (
            "count(split(concat(\"\", [input.review.object.text, input.review.object.text]), \"\")) < 0",
            "",
        ),
        (
            "yaml.unmarshal(\"a: &a [x,x,x,x,x,x,x,x,x,x]\\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]\\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d,*d]\\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]\\ng: &g [*f,*f,*f,*f,*f,*f,*f,*f,*f,*f]\\nh: [*g,*g,*g,*g,*g,*g,*g,*g,*g,*g]\") == {}",
            "",
        ),
        (
            "time.add_date(9223372036854775807, 2147483647, 2147483647, 2147483647) > 0",
            "",
        ),
        (
            "time.format([9223372036854775807, \"Europe/Berlin\", \"2006\"]) == \"\"",
            "",
        ),
        (
            "json.match_schema({\"a\": 1}, {\"$ref\": \"#\"})",
            "could not be evaluated",
        ),
        (
            "glob.match(\"{{{{{{{{a,b},{c,d}},{e,f}},{g,h}},**}*}*}*}*\", [], input.review.object.text)",
            "",
        ),
        (
            "strings.render_template(\"{{range .a}}{{range $.a}}{{range $.a}}{{range $.a}}x{{end}}{{end}}{{end}}{{end}}\", {\"a\": numbers.range(1, 1000)}) == \"\"",
            "",
        ),
    ] {
        let said = outcome(body(text), json!({"kind": "Pod", "text": "a".repeat(100_000)}));
        let late = said.contains("did not end within its budget");
        assert!(
            late || said.contains(expect),
            "{text:.100}: {said:.300} instead of {expect}"
        );
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

#[test]
fn a_template_with_very_many_rules_loads() {
    let mut text = String::new();
    for index in 0..3_000 {
        writeln!(text, "r{index} {{ input.review.object.kind == \"k{index}\" }}").unwrap();
        writeln!(text, "violation[{{\"msg\": \"{index}\"}}] {{ r{index} }}").unwrap();
    }
    assert_eq!(outcome(rego(&text), json!({"kind": "k7"})), "7");
}
