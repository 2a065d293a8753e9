//! Much made of little: shared values, builtins.

use super::{body, bounded, outcome, rego};
use serde_json::json;

const MADE: &str = "would bring what one evaluation makes";

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
