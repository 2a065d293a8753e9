//! No policy and no input holds a thread, or takes memory without end: each way that is known to do so, and what is said.

use std::time::{Duration, Instant};

use regorus::Value;
use serde_json::json;

use super::super::inventory::Inventory;
use super::parse::{Version, parse};
use super::program::Program;
use super::session::Deadline;

/// What an evaluation may take.
const BUDGET: Duration = Duration::from_millis(50);
/// What it may take on a machine that does ten other things. What is not bounded takes minutes.
const SLACK: Duration = Duration::from_secs(20);

/// For what is not about time.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Evaluates a body and checks what it fails with.
fn check(body: &str, expect: &str) {
    check_within(BUDGET, body, expect);
}

fn check_within(budget: Duration, body: &str, expect: &str) {
    let text = format!("package x\nimport future.keywords.in\np {{ {body} }}");
    let parsed = parse("x.rego", &text, Version::V0).unwrap();
    let program = Program::compile(&[&parsed])
        .map_err(|problems| problems[0].to_string())
        .unwrap();
    let long = "a".repeat(1_000_000);
    let digits = "9".repeat(1_000_000);
    let input = Value::from(
        json!({"n": 30_000_000, "long": long, "digits": digits, "width": 100_000_000,
        "pattern": "(([a-z]{0,100}){0,100}){0,100}"}),
    );
    let start = Instant::now();
    let mut session = program.session(input, &Inventory::default());
    let said = session
        .value("data.x.p", Deadline::after(budget))
        .unwrap_err()
        .to_string();
    assert!(said.contains(expect), "{body}: {said}");
    assert!(start.elapsed() < budget + SLACK, "{body}: {:?}", start.elapsed());
}

#[test]
fn one_builtin_cannot_hold_a_thread() {
    // Each of these is a single step of the engine, which looks at the clock between steps only.
    for (body, expect) in [
        (
            "count(numbers.range(1, input.n)) > 0",
            "numbers.range(1, 30000000) would bring what one evaluation makes",
        ),
        (
            "count(numbers.range_step(0, 1000000000000000000, 1)) > 0",
            "would bring what one evaluation makes",
        ),
        (
            "count(net.cidr_expand(\"10.0.0.0/6\")) > 0",
            "net.cidr_expand(\"10.0.0.0/6\") would bring",
        ),
        ("bits.lsh(1, input.n) > 0", "the argument of bits.lsh is too large"),
        (
            "to_number(input.digits) > 0",
            "the argument of to_number is too large (1000000 bytes)",
        ),
        (
            "units.parse(input.digits) > 0",
            "the argument of units.parse is too large",
        ),
        ("regex.match(input.pattern, input.long)", "is too large"),
        (
            "regex.match(\"(x[a-z]{0,900}y)*z\", concat(\"\", [input.long, input.long]))",
            "is too large for a text of 2000000 bytes",
        ),
        (
            "replace(input.long, \"a\", input.long) == \"\"",
            "replace would bring what one evaluation makes",
        ),
    ] {
        // On a busy machine the time may be up first, but not by much.
        check_within(PATIENCE, body, expect);
        check(body, "");
    }
}

#[test]
fn builtins_cannot_take_memory_without_end() {
    let doubled = (0..12).fold("x0 := input.long".to_owned(), |body, index| {
        format!("{body}; x{} := concat(\"\", [x{index}, x{index}])", index + 1)
    });
    check_within(PATIENCE, &doubled, "concat would bring what one evaluation makes to");
    let lists = (0..30).fold("x0 := [1, 2, 3, 4]".to_owned(), |body, index| {
        format!("{body}; x{} := array.concat(x{index}, x{index})", index + 1)
    });
    check_within(PATIENCE, &lists, "array.concat would bring what one evaluation makes");
    // Each makes a megabyte, and all of them are kept.
    check_within(
        PATIENCE,
        "count([s | i := numbers.range(1, 5000)[_]; s := concat(\"\", [input.long, format_int(i, 10)])]) > 0",
        "would bring what one evaluation makes",
    );
}

#[test]
fn products_end_with_their_budget() {
    let over = "the evaluation did not end within its budget of 50ms";
    check("r := numbers.range(1, 3000); count([1 | r[_]; r[_]; r[_]]) > 0", over);
    check(
        "r := numbers.range(1, 3000); count({[a, b] | a := r[_]; b := r[_]}) > 0",
        over,
    );
    check(
        "r := numbers.range(1, 3000); a := r[_]; b := r[_]; c := r[_]; a + b + c == 0",
        "did not end",
    );
}

#[test]
fn what_is_gathered_is_counted() {
    // Most of what there may be is made at once, so that the rest is gathered in a moment.
    let text = "package x\nr = numbers.range(1, 1000)\nmany = numbers.range(1, 8200000)\n\
                p { count(many) > 0; count({[a, b] | a := r[_]; b := r[_]}) > 0 }";
    let parsed = parse("x.rego", text, Version::V0).unwrap();
    let program = Program::compile(&[&parsed])
        .map_err(|problems| problems[0].to_string())
        .unwrap();
    assert!(program.is_compiled("data.x.p"));
    let mut session = program.session(Value::new_object(), &Inventory::default());
    let said = session
        .value("data.x.p", Deadline::after(PATIENCE))
        .unwrap_err()
        .to_string();
    assert!(
        said.starts_with("a comprehension would bring what one evaluation makes to"),
        "{said}"
    );
}

#[test]
fn what_a_function_gave_up_on_does_not_count() {
    // The engine goes on with the next body when one fails, and would answer as if nothing had happened.
    let text = "package x\nf(n) = y { y := count(numbers.range(1, n)) }\nf(n) = 0 { true }\np = f(30000000)";
    let parsed = parse("x.rego", text, Version::V0).unwrap();
    let program = Program::compile(&[&parsed])
        .map_err(|problems| problems[0].to_string())
        .unwrap();
    let mut session = program.session(Value::new_object(), &Inventory::default());
    let found = session.value("data.x.p", Deadline::after(PATIENCE));
    assert!(found.is_err(), "{found:?}");
}

#[test]
fn a_format_is_bounded() {
    let text = "package x\np = count(sprintf(\"%*d\", [input, 1]))";
    let parsed = parse("x.rego", text, Version::V0).unwrap();
    let program = Program::compile(&[&parsed])
        .map_err(|problems| problems[0].to_string())
        .unwrap();
    let mut session = program.session(Value::from(json!(100_000_000)), &Inventory::default());
    let found = session.value("data.x.p", Deadline::after(PATIENCE)).unwrap();
    assert!(found.is_some_and(|length| length.as_i64().unwrap() < 2_000_000));
}
