//! What compiled rules answer, beside what the engine answers; and which rules are compiled at all.

use std::time::Duration;

use regorus::Value;

use super::super::super::inventory::Inventory;
use super::super::parse::{Version, parse};
use super::super::program::Program;
use super::super::session::Deadline;
use super::{Compiled, Run, Stop};

const BUDGET: Duration = Duration::from_secs(60);
const INPUT: &str = r#"{"a": 1, "f": false, "s": "text", "list": ["x", "y", "z"], "nested": [[1, 2], [3, 4]],
    "objects": {"one": {"n": 1, "ok": true}, "two": {"n": 2, "ok": false}}}"#;

fn compiled(text: &str) -> Result<Option<Option<String>>, Stop> {
    let parsed = parse("x.rego", text, Version::V0).unwrap();
    let compiled = Compiled::of(&[&parsed]);
    let Some(entry) = compiled.entry("data.x.p") else {
        return Ok(None);
    };
    let input = Value::from_json_str(INPUT).unwrap();
    let run = Run::new(&compiled, input, Inventory::default().data(), Deadline::after(BUDGET));
    let value = run.value(entry)?;
    Ok(Some(value.map(ToString::to_string)))
}

fn engine(text: &str) -> Option<String> {
    let parsed = parse("x.rego", text, Version::V0).unwrap();
    let program = Program::compile(&[&parsed])
        .map_err(|problems| problems[0].to_string())
        .unwrap();
    let input = Value::from_json_str(INPUT).unwrap();
    // Coverage is the engine's business, so it has to answer.
    program.cover();
    let mut session = program.session(input, &Inventory::default());
    session
        .value("data.x.p", Deadline::after(BUDGET))
        .unwrap()
        .map(|value| value.to_string())
}

/// Both answer this.
fn check(body: &str, expect: &str) {
    let text = format!("package x\nimport future.keywords.in\nimport future.keywords.every\n{body}");
    let expect = (expect != "undefined").then(|| expect.to_owned());
    assert_eq!(compiled(&text), Ok(Some(expect.clone())), "{body}");
    assert_eq!(engine(&text), expect, "the engine: {body}");
}

/// Compiled rules answer this, as OPA does; the engine does not.
fn here(body: &str, expect: &str) {
    assert_eq!(
        compiled(&format!("package x\n{body}")),
        Ok(Some(Some(expect.to_owned()))),
        "{body}"
    );
}

#[test]
fn rules_have_their_kinds() {
    check("p = 1", "1");
    check("p { true }", "true");
    check("p { false }", "undefined");
    check("default p = 5\np = 1 { false }", "5");
    check("p[x] { x := input.list[_] }", r#"["x","y","z"]"#);
    check("p[k] = v { v := input.objects[k].n }", r#"{"one":1,"two":2}"#);
    check("p = x { x := 1 } else = y { y := 2 }", "1");
    check("p = x { false; x := 1 } else = y { y := 2 }", "2");
    check("p { false } else = 3 { true }", "3");
    check("f(x) = y { y := x + 1 }\np = f(f(1)) { true }", "3");
    check(
        "f(x) = 1 { x == 1 }\nf(x) = 2 { x == 2 }\np = [f(1), f(2)] { true }",
        "[1,2]",
    );
    check(
        "f(x) = 1 { x == 1 } else = 9 { true }\np = [f(1), f(2)] { true }",
        "[1,9]",
    );
    check(
        "f(\"a\", _) = 1 { true }\nf([x, y], z) = x + y + z { true }\np = [f(\"a\", 0), f([1, 2], 3)] { true }",
        "[1,6]",
    );
    check("f() = out { out := 4 }\np = f() { true }", "4");
    check("f(x) { x }\np { f(input.f) }", "undefined");
}

#[test]
fn what_has_several_values_is_gone_through() {
    check("p[x] { input.list[x] }", "[0,1,2]");
    check("p[[i, v]] { v := input.nested[i][_] }", "[[0,1],[0,2],[1,3],[1,4]]");
    check("p[v] { v := input.nested[_][0] }", "[1,3]");
    check("p { input.list[_] == \"y\" }", "true");
    check("p { input.list[_] == \"n\" }", "undefined");
    check(
        "p[x] { x := concat(\"\", [input.list[_], \"!\"]) }",
        r#"["x!","y!","z!"]"#,
    );
    check("p[k] { input.objects[k].ok }", r#"["one"]"#);
    check("q = {1, 2}\np[x] { q[x] }", "[1,2]");
    check("q = {1, 2}\np { q[2] }", "true");
    check("q = {1, 2}\np { q[3] }", "undefined");
    check("p[x] { some x in input.list; x != \"y\" }", r#"["x","z"]"#);
    check(
        "p[[k, n]] { some k, {\"n\": n, \"ok\": true} in input.objects }",
        r#"[["one",1]]"#,
    );
    check("p[x] { [x, 4] = input.nested[_] }", "[3]");
    check("p[x] { [_, x] = input.nested[_] }", "[2,4]");
    check("q[x] { x := input.list[_] }\np[y] { q[y]; y != \"x\" }", r#"["y","z"]"#);
}

#[test]
fn statements_stand_in_any_order() {
    check("p = x { y == 2; x = y + 1; y = 2 }", "3");
    check("p[x] { x = input.list[i]; i = 1 }", r#"["y"]"#);
    check("p = n { n = count(q); q = [y | y = input.list[_]] }", "3");
    check("p = x { [x, 2] = [1, y]; y = 2 }", "1");
}

#[test]
fn names_mean_what_is_nearest() {
    check("x = 1\np = y { x := 2; y := x }", "2");
    check("x = 1\np = y { y := x }", "1");
    check(
        "p = [x, y] { x := 1; y := [x | x := input.list[_]] }",
        r#"[1,["x","y","z"]]"#,
    );
    check("p = n { i := 1; n := [v | v := input.list[i]] }", r#"["y"]"#);
    check("p = data.x.q { true }\nq = 7", "7");
    check("p = x { x := data.x.q.a[1] }\nq = {\"a\": [5, 6]}", "6");
}

#[test]
fn negation_and_every_look_for_any() {
    check("p { not input.missing }", "true");
    check("p { not input.f }", "true");
    check("p { not input.a }", "undefined");
    check("q { input.a == 2 }\np { not q }", "true");
    check("p { every x in input.list { x != \"n\" } }", "true");
    check("p { every i, x in input.list { i < 2; x != \"n\" } }", "undefined");
    check("p { every x in [] { false } }", "true");
}

#[test]
fn expressions_are_computed() {
    check("p = {x: y | y := input.list[x]}", r#"{"0":"x","1":"y","2":"z"}"#);
    check("p = {x | x := input.nested[_][_]; x > 1}", "[2,3,4]");
    check("p = [x | x := input.nested[_][_]; x > 1]", "[2,3,4]");
    check("p = {1, 2} - {2} { true }", "[1]");
    check("p = {1, 2} & {2, 3} { true }", "[2]");
    check("p = {1} | {2} { true }", "[1,2]");
    check("p = (1 + 2) * 3 - 4 / 2 { true }", "7");
    check("p = -1 { true }", "-1");
    check("p = x { x := input.a == 2 }", "false");
    check("p { \"x\" in input.list }", "true");
    check("p { 0, \"x\" in input.list }", "true");
    check("p = x { x := \"n\" in input.list }", "false");
    check("p = x { x := startswith(1, \"a\") }", "undefined");
    check("p = x { x := sprintf(\"%v-%d\", [input.s, 3]) }", "\"text-3\"");
    check("p = object.get(input, \"missing\", \"d\") { true }", "\"d\"");
    check(
        "p = {\"a\": input.a, \"b\": [input.s]} { true }",
        r#"{"a":1,"b":["text"]}"#,
    );
    check("p = {\"a\": input.missing} { true }", "undefined");
}

#[test]
fn operators_are_undefined_for_values_of_the_wrong_type() {
    for body in [
        "\"a\" + 1",
        "1 - {1}",
        "{1} - 1",
        "1.5 % 1",
        "1 / 0",
        "{1} | [1]",
        "{1} & input.a",
        "input.s * 2",
        "input.list - 1",
    ] {
        check(&format!("p = {body} {{ true }}"), "undefined");
    }
}

#[test]
fn walk_visits_everything() {
    check("p = x { walk(input.nested, [_, x]); x == 4 }", "4");
    here("p = [path | [path, 3] := walk(input.nested)]", "[[1,0]]");
    here(
        "p[path] = v { [path, v] := walk({\"a\": [1, {2}]}); not is_array(v); not is_set(v); not is_object(v) }",
        r#"{"[\"a\",0]":1,"[\"a\",1,2]":2}"#,
    );
    check("p { walk(input.nested, [[1, 1], 4]) }", "true");
    check(
        "p { not deep }\ndeep { walk(input.nested, [path, _]); count(path) > 2 }",
        "true",
    );
    check("p = x { count([1, 2], x) }", "2");
    check("f(x) = y { y := x + 1 }\np = x { f(1, x) }", "2");
}

#[test]
fn names_of_rules_may_have_several_parts() {
    check("q.r = 1 { true }\np = data.x.q.r { true }", "1");
    check(
        "q.r = 1 { true }\nq.s.t = 2 { true }\nq[k].u = 3 { k := input.list[_] }\np = q { true }",
        r#"{"r":1,"s":{"t":2},"x":{"u":3},"y":{"u":3},"z":{"u":3}}"#,
    );
    here(
        "import future.keywords.contains\nq[k].r contains v { k := input.list[_]; v := input.list[_]; k != v }\nq.x.r contains 1 { true }\np { q.x.r.y; q.x.r[1]; not q.x.r.x }",
        "true",
    );
    let conflict = "package x\nq.r = {\"s\": 1} { true }\nq.r.t = 2 { true }\np = q { true }";
    assert_eq!(compiled(conflict), Err(Stop::Failed));
    check("f.g(x) = x + 1 { true }\np = f.g(1) { true }", "2");
    check(
        "default f(_) = 7\nf(x) = x { x > 1 }\np = [f(1), f(2)] { true }",
        "[7,2]",
    );
}

#[test]
fn what_is_not_known_here_is_left_to_the_engine() {
    for body in [
        "p { input.a == 2 with input as {\"a\": 2} }",
        "p = time.now_ns() { true }",
        "q.r { true }\np = q { true }",
        "p = data.x { false }",
        "p { not input.list[_] == \"y\" }",
        "p { not input.list[x] == \"y\" }",
        "f(x) = 1 { print(x) }\np = f(1) { true }",
    ] {
        assert_eq!(compiled(&format!("package x\n{body}")), Ok(None), "{body}");
    }
}

#[test]
fn what_goes_wrong_is_said_by_the_engine() {
    for body in [
        "p = 1 { true }\np = 2 { true }",
        "p = x { x := [1, 2][_] }",
        "p[\"k\"] = x { x := [1, 2][_] }",
        "p = {1: x | x := [1, 2][_]}",
    ] {
        assert_eq!(compiled(&format!("package x\n{body}")), Err(Stop::Failed), "{body}");
    }
}

#[test]
fn an_endless_rule_ends_with_its_budget() {
    let text = "package x\nr = numbers.range(1, 3000)\np = count([1 | r[_] != r[_]])";
    let parsed = parse("x.rego", text, Version::V0).unwrap();
    let compiled = Compiled::of(&[&parsed]);
    let deadline = Deadline::after(Duration::from_millis(20));
    let run = Run::new(&compiled, Value::Null, Value::new_object(), deadline);
    assert_eq!(run.value(compiled.entry("data.x.p").unwrap()), Err(Stop::Late));
}
