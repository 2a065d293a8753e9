//! What OPA's compiler refuses and regorus would only notice, or die of, while evaluating.
//!
//! Refused here: calls of functions that do not exist, and calls with the wrong number of arguments; in `recursion` what reaches
//! itself, and in `heads` variables without a value.

use std::collections::BTreeMap;

use regorus::unstable::{Expr, LiteralStmt, Rule, RuleHead};

use super::super::source::Problem;
use super::builtins;
use super::parse::Parsed;
use super::recursion::Graph;
use super::walk::{self, Visitor};
use super::{heads, recursion};

/// Checks modules that are evaluated together.
pub(crate) fn lint(modules: &[&Parsed]) -> Vec<Problem> {
    let functions = functions(modules);
    let mut problems = Vec::new();
    let mut graph = Graph::of(modules);
    for parsed in modules {
        let mut calls = Calls {
            parsed,
            functions: &functions,
            rule: parsed.package.clone(),
            problems: &mut problems,
            graph: &mut graph,
        };
        if let Err(walk::TooDeep(line, column)) = walk::module(&parsed.module, &mut calls) {
            problems.push(too_deep(parsed.origin(), line, column));
            return problems;
        }
        recursion::references(parsed, &mut graph);
        problems.extend(heads::unsafe_variables(parsed, modules));
    }
    problems.extend(graph.circles(modules));
    problems.extend(renamed(modules));
    problems
}

/// Rules whose names begin with a keyword have other names in the engine, so nobody else may ask for them.
fn renamed(modules: &[&Parsed]) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (index, parsed) in modules.iter().enumerate() {
        for name in &parsed.renamed {
            let (bracketed, dotted) = (format!("[\"{name}\"]"), format!(".{name}"));
            let others = modules.iter().enumerate().filter(|(other, _)| *other != index);
            let reader = others.map(|(_, other)| other).find(|other| {
                other.package == parsed.package || other.text.contains(&bracketed) || other.text.contains(&dotted)
            });
            if let Some(reader) = reader {
                let message = format!(
                    "rules whose names begin with the keyword {name} cannot be read from another file ({}); rename them",
                    reader.origin()
                );
                problems.push(Problem::new(parsed.origin(), message));
            }
        }
    }
    problems
}

/// The problem of a chain that is too long.
pub(crate) fn too_deep(origin: &str, line: u32, column: u32) -> Problem {
    let message = format!(
        "the expression chains more than {} operators; use intermediate variables",
        walk::MAX_CHAIN
    );
    Problem::at(origin, line, column, message)
}

/// Functions and how many arguments each has.
fn functions(modules: &[&Parsed]) -> BTreeMap<Vec<String>, usize> {
    let mut found = BTreeMap::new();
    for parsed in modules {
        for rule in &parsed.module.policy {
            let (refr, arguments) = match rule.as_ref() {
                Rule::Spec {
                    head: RuleHead::Func { refr, args, .. },
                    ..
                } => (refr, args.len()),
                Rule::Default { refr, args, .. } if !args.is_empty() => (refr, args.len()),
                _ => continue,
            };
            let Some((names, _)) = walk::path(refr) else { continue };
            let path: Vec<String> = parsed.package.iter().cloned().chain(names).collect();
            found.entry(path).or_insert(arguments);
        }
    }
    found
}

struct Calls<'a> {
    parsed: &'a Parsed,
    functions: &'a BTreeMap<Vec<String>, usize>,
    /// The rule that the walk is in.
    rule: Vec<String>,
    problems: &'a mut Vec<Problem>,
    graph: &'a mut Graph,
}

impl Calls<'_> {
    /// The function that a name means in this module.
    fn resolve(&self, names: &[String]) -> Option<Vec<String>> {
        let candidate = self.parsed.absolute(names);
        if self.functions.contains_key(&candidate) {
            return Some(candidate);
        }
        let local: Vec<String> = self.parsed.package.iter().chain(names).cloned().collect();
        self.functions.contains_key(&local).then_some(local)
    }

    fn edge(&mut self, to: &[String]) {
        self.graph.calls(&self.rule, to);
    }
}

impl Visitor for Calls<'_> {
    fn rule(&mut self, rule: &Rule) {
        self.rule = recursion::name(self.parsed, rule);
    }

    fn stmt(&mut self, stmt: &LiteralStmt) {
        // `with f as g` makes calls of f calls of g.
        for with in &stmt.with_mods {
            if let Some(function) = walk::path(&with.r#as).and_then(|(names, _)| self.resolve(&names)) {
                self.edge(&function);
            }
        }
    }

    fn expr(&mut self, expr: &Expr) {
        let Expr::Call { fcn, params, .. } = expr else { return };
        let span = root(fcn).span();
        let Some((names, true)) = walk::path(fcn) else { return };
        if let Some(path) = self.resolve(&names) {
            let expected = self.functions.get(&path).copied().unwrap_or_default();
            // One more is the old way to name the result.
            if params.len() != expected && params.len() != expected + 1 {
                let message = format!(
                    "function {} takes {expected} arguments and is called with {}",
                    names.join("."),
                    params.len()
                );
                self.problems
                    .push(Problem::at(self.parsed.origin(), span.line, span.col, message));
            }
            self.edge(&path);
            return;
        }
        let name = names.join(".");
        let message = match builtins::arguments(&name) {
            Some(expected) if params.len() != expected && params.len() != expected + 1 => {
                format!(
                    "function {name} takes {expected} arguments and is called with {}",
                    params.len()
                )
            }
            None if !builtins::exists(&name) => format!("function {name} does not exist here"),
            _ => return,
        };
        self.problems
            .push(Problem::at(self.parsed.origin(), span.line, span.col, message));
    }
}

/// Where a reference begins: its own span begins at its last part.
fn root(mut expr: &Expr) -> &Expr {
    while let Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } = expr {
        expr = refr;
    }
    expr
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Version, parse};
    use super::*;

    fn check(files: &[&str], expect: &[&str]) {
        let parsed: Vec<Parsed> = files
            .iter()
            .enumerate()
            .map(|(index, text)| parse(&format!("{index}.rego"), text, Version::V1).unwrap())
            .collect();
        let found: Vec<String> = lint(&parsed.iter().collect::<Vec<_>>())
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found, expect);
    }

    #[test]
    fn functions_must_exist() {
        check(
            &[
                "package a\nf(x) := x\np if f(1) == startswith(\"a\", \"b\")\nq if {\n  nope(1)\n}\nr if http.send({}).status == 200",
            ],
            &[
                "0.rego:5:3: function nope does not exist here",
                "0.rego:7:6: function http.send does not exist here",
            ],
        );
        check(
            &[
                "package a\nimport data.lib.x\nimport data.lib.y as z\np if x.f(1)\nq if data.lib.y.g(1)\nr if z.g(1)\ns if x.h(1)",
                "package lib.x\nf(x) := x",
                "package lib.y\ng(x) := x",
            ],
            &["0.rego:7:6: function x.h does not exist here"],
        );
        check(
            &["package a\nf(x) := x\np if f(1, 2, 3)"],
            &["0.rego:3:6: function f takes 1 arguments and is called with 3"],
        );
    }

    #[test]
    fn recursion_is_refused_before_it_can_overflow_the_stack() {
        let said = "calls itself, directly or through others; Rego forbids recursion";
        check(
            &["package a\nf(x) := f(x)"],
            &[&format!("0.rego:2:1: function f {said}")],
        );
        check(
            &["package a\nf(x) := y if { y := {z | z := g(x)} }\ng(x) := h(x)\nh(x) if { not f(x) }\ni(x) := f(x)"],
            &[&format!("0.rego:2:1: function f {said}")],
        );
        check(
            &["package a\ng(x) := f(x)\nf(x) if { f2(x) with f2 as f }\nf2(x) := x"],
            &[&format!("0.rego:3:1: function f {said}")],
        );
        check(&["package a\nf(x) := x\ng(x) := f(f(x))\nh(x) := f(g(x))"], &[]);
    }

    #[test]
    fn rules_that_reach_themselves_are_refused() {
        let said = |place: &str, rule: &str| {
            format!("{place}: rule {rule} needs its own value, directly or through others; Rego forbids recursion")
        };
        check(
            &["package a\nv contains \"x\" if p\np if q\nq if p"],
            &[&said("0.rego:3:1", "p")],
        );
        check(&["package a\np contains x if some x in p"], &[&said("0.rego:2:1", "p")]);
        // All of a package is needed by who asks for it without saying what.
        check(
            &[
                "package a\nimport data.lib\np := lib",
                "package lib.x\nimport data.a\nq := a.p",
            ],
            &[&said("0.rego:3:1", "p")],
        );
        check(
            &["package a\np if {\n  k := \"x\"\n  data.a[k]\n}"],
            &[&said("0.rego:2:1", "p")],
        );
        check(
            &["package a\nf(x) := p\np := f(1)"],
            &["0.rego:2:1: function f calls itself, directly or through others; Rego forbids recursion"],
        );
        for fine in [
            "package a\na.b := 1\na.c := a.b",
            "package a\np := input.p\nq := [p | p := 1]\nr := data.inventory[p]",
            "package a\np if { q := 1; q == 1 }\nq if p",
            "package a\np(q) := q\nq := p(1)",
            "package a\nt if { p with data.a.t as 1 }\np := 1",
        ] {
            check(&[fine], &[]);
        }
    }

    #[test]
    fn variables_of_heads_must_have_a_value() {
        let said = |place: &str, name: &str| {
            format!("{place}: variable {name} is unsafe: nothing in the body gives it a value")
        };
        check(
            &["package a\nv contains {\"msg\": m} if { true }"],
            &[&said("0.rego:2:20", "m")],
        );
        check(
            &["package a\nv contains {\"msg\": m} if { x := [m | m := 1]; x }"],
            &[&said("0.rego:2:20", "m")],
        );
        check(
            &["package a\np := x if { true } else := y if { input }"],
            &[&said("0.rego:2:6", "x"), &said("0.rego:2:28", "y")],
        );
        check(&["package a\nf(x) := y"], &[&said("0.rego:2:9", "y")]);
        for fine in [
            "package a\nimport data.lib as l\nv contains {\"msg\": m, l: r} if { m := 1 }\nr := input.x",
            "package a\nf([x, {\"a\": y}]) := [x, y]",
            "package a\np[k] := v if { some k, v in input }",
            "package a\np[k].x := v if { v := input[k] }",
            "package a\np := [x | x := 1]",
            "package a\np := x if { input.a; x = 1 } else := z if { [_, z] = input.b }",
            "package a\np := r.x\nr.x := 1",
        ] {
            check(&[fine], &[]);
        }
    }
}
