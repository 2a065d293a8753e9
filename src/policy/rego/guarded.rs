//! The text that the engine gets: with calls of our builtins where the engine itself would fail or go on without end.
//!
//! - Operators become calls: the engine's own fail where a value has the wrong type, and OPA's are undefined.
//! - What comprehensions and sets gather is counted, and what becomes a part of other values is looked at ([`super::builtins`]):
//!   parts are shared, so that a short policy could make values that are never gone over to their end.
//!
//! Compiled rules do the same without calls, so only the engine reads this text. Guarantees: no line is added or removed.

use std::collections::BTreeSet;

use regorus::unstable::{ArithOp, AssignOp, BinOp, Expr, Literal, LiteralStmt, Module, Rule, RuleHead};

use super::builtins;
use super::tokens::{Kind, Token, range, tokens};
use super::walk::{self, Visitor};

/// Writes a text for the engine; `None` when it can stay as it is.
pub(crate) fn guarded(text: &str, module: &Module) -> Option<String> {
    let mut found = Guards {
        tokens: tokens(text)
            .into_iter()
            .filter(|token| token.kind != Kind::Comment)
            .collect(),
        default: false,
        edits: Vec::new(),
    };
    walk::module(module, &mut found).ok()?;
    let mut edits = found.edits;
    if edits.is_empty() {
        return None;
    }
    // Stable: of several at one place the outer one stands first.
    edits.sort_by_key(|edit| edit.start);
    let (mut out, mut at) = (String::with_capacity(text.len() * 2), 0);
    for edit in &edits {
        out.push_str(text.get(at..edit.start)?);
        out.push_str(&edit.text);
        at = edit.end;
    }
    out.push_str(text.get(at..)?);
    Some(out)
}

struct Edit {
    start: usize,
    end: usize,
    text: String,
}

struct Guards<'a> {
    tokens: Vec<Token<'a>>,
    /// Whether the walk is in a default, which may hold no calls.
    default: bool,
    edits: Vec<Edit>,
}

impl Visitor for Guards<'_> {
    fn rule(&mut self, rule: &Rule) {
        self.default = matches!(rule, Rule::Default { .. });
        let Rule::Spec { head, bodies, .. } = rule else {
            return;
        };
        match head {
            RuleHead::Set { key: Some(key), .. } => self.call("internal.kept", key),
            RuleHead::Set { .. } => {}
            RuleHead::Compr { assign, .. } | RuleHead::Func { assign, .. } => {
                let own = assign.iter().map(|assign| &assign.value);
                let others = bodies
                    .iter()
                    .filter_map(|body| body.assign.as_ref())
                    .map(|assign| &assign.value);
                let gathers =
                    matches!(head, RuleHead::Compr { refr, .. } if !matches!(refr.as_ref(), Expr::Var { .. }));
                for value in own.chain(others) {
                    if gathers || !is_scalar(value) {
                        self.call("internal.kept", value);
                    }
                }
            }
        }
    }

    fn stmt(&mut self, stmt: &LiteralStmt) {
        for with in &stmt.with_mods {
            if is_literal(&with.r#as) {
                self.call("internal.kept", &with.r#as);
            }
        }
        let Literal::Expr { expr, .. } = &stmt.literal else {
            return;
        };
        match expr.as_ref() {
            Expr::AssignExpr {
                op: AssignOp::ColEq,
                rhs,
                ..
            } if is_literal(rhs) => self.call("internal.kept", rhs),
            Expr::AssignExpr {
                op: AssignOp::Eq,
                lhs,
                rhs,
                ..
            } if is_literal(lhs) || is_literal(rhs) => self.unified(expr, lhs, rhs, !stmt.with_mods.is_empty()),
            _ => {}
        }
    }

    fn expr(&mut self, expr: &Expr) {
        if self.default {
            return;
        }
        match expr {
            Expr::ArithExpr { op, lhs, rhs, .. } => {
                let name = match op {
                    ArithOp::Add => "internal.plus",
                    ArithOp::Sub => "internal.minus",
                    ArithOp::Mul => "internal.times",
                    ArithOp::Div => "internal.divide",
                    ArithOp::Mod => "internal.remainder",
                };
                self.operator(name, expr, lhs, rhs);
            }
            Expr::BinExpr { op, lhs, rhs, .. } => {
                let name = match op {
                    BinOp::Union => "internal.union",
                    BinOp::Intersection => "internal.intersection",
                };
                self.operator(name, expr, lhs, rhs);
            }
            Expr::ArrayCompr { term, .. } | Expr::SetCompr { term, .. } => self.call("internal.kept", term),
            Expr::ObjectCompr { key, value, .. } => {
                self.call("internal.kept", key);
                if !is_scalar(value) {
                    self.call("internal.kept", value);
                }
            }
            Expr::Call { fcn, params, .. } => self.arguments(fcn, params),
            _ => {}
        }
    }
}

impl Guards<'_> {
    /// Which side of an equation gets its value from the other is not known here, but its variables have one afterwards.
    fn unified(&mut self, equation: &Expr, left: &Expr, right: &Expr, with: bool) {
        let mut names = BTreeSet::new();
        variables(left, &mut names);
        variables(right, &mut names);
        let Some((start, end)) = self.range(equation) else {
            return;
        };
        // A body of this one statement has no use for its variables, and no braces around another statement.
        let before = self.tokens.partition_point(|token| token.start < start);
        let before = before.checked_sub(1).and_then(|index| self.tokens.get(index));
        if with || names.is_empty() || before.is_some_and(|token| token.is_word("if")) {
            return;
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let text = match names.as_slice() {
            [one] => format!("; internal.held({one})"),
            several => format!("; internal.held([{}])", several.join(", ")),
        };
        self.insert(end, text);
    }

    /// Guards what is written as an argument. The last one may be the name of the result, if the function is not known.
    fn arguments<T: AsRef<Expr>>(&mut self, function: &Expr, parameters: &[T]) {
        let names = walk::path(function).map(|(names, _)| names.join("."));
        let arity = names.and_then(|name| builtins::arguments(&name));
        let sure = arity.unwrap_or(parameters.len().saturating_sub(1)).max(1);
        for parameter in parameters.iter().take(sure) {
            if is_literal(parameter.as_ref()) {
                self.call("internal.kept", parameter.as_ref());
            }
        }
    }

    /// Puts a call around an expression.
    fn call(&mut self, name: &str, expr: &Expr) {
        let Some((start, end)) = self.range(expr) else { return };
        self.insert(start, format!("{name}("));
        self.insert(end, ")".to_owned());
    }

    fn operator(&mut self, name: &str, expr: &Expr, left: &Expr, right: &Expr) {
        let (Some((start, end)), Some((_, behind)), Some((before, _))) =
            (self.range(expr), self.range(left), self.range(right))
        else {
            return;
        };
        // Between the operands stand their parentheses and the operator.
        let first = self.tokens.partition_point(|token| token.start < behind);
        let between = self.tokens.iter().skip(first).take_while(|token| token.start < before);
        let mut between = between.filter(|token| !token.is("(") && !token.is(")"));
        let Some((from, to)) = between.next().map(|token| (token.start, token.end())) else {
            return;
        };
        self.insert(start, format!("{name}("));
        self.edits.push(Edit {
            start: from,
            end: to,
            text: ",".to_owned(),
        });
        self.insert(end, ")".to_owned());
    }

    fn insert(&mut self, at: usize, text: String) {
        self.edits.push(Edit {
            start: at,
            end: at,
            text,
        });
    }

    fn range(&self, expr: &Expr) -> Option<(usize, usize)> {
        range(&self.tokens, expr)
    }
}

/// The variables of a pattern.
fn variables(node: &Expr, found: &mut BTreeSet<String>) {
    match node {
        Expr::Var { span, .. } if !matches!(span.text(), "_" | "input" | "data") => {
            found.insert(span.text().to_owned());
        }
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(|item| variables(item, found)),
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| {
            variables(key, found);
            variables(value, found);
        }),
        _ => {}
    }
}

/// A value that is made of others.
fn is_literal(expr: &Expr) -> bool {
    matches!(expr, Expr::Array { .. } | Expr::Set { .. } | Expr::Object { .. })
}

fn is_scalar(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::String { .. } | Expr::RawString { .. } | Expr::Number { .. } | Expr::Bool { .. } | Expr::Null { .. }
    )
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Version, parse};
    use super::*;

    fn check(text: &str, expect: &str) {
        let parsed = parse("x.rego", &format!("package x\n{text}"), Version::V1).unwrap();
        let found = guarded(&parsed.text, &parsed.current).unwrap_or(parsed.text);
        assert_eq!(found, format!("package x\n{expect}"));
        parse("x.rego", &found, Version::V1).unwrap();
    }

    #[test]
    fn operators_become_calls() {
        check("p := 1 + 2", "p := internal.kept(internal.plus(1 , 2))");
        check(
            "p if { x := (\"a\" - 2) * (3); x }",
            "p if { x := internal.times((internal.minus(\"a\" , 2)) , (3)); x }",
        );
        check(
            "p if { 1 + 2 - 3 == x[1 % 2] }",
            "p if { internal.minus(internal.plus(1 , 2) , 3) == x[internal.remainder(1 , 2)] }",
        );
        check(
            "p if { x := {1} | \"\" & `a`; 4 /2 }",
            "p if { x := internal.union({1} , internal.intersection(\"\" , `a`)); internal.divide(4 ,2) }",
        );
        check("p if { x := 1 -2 }", "p if { x := internal.minus(1 ,2) }");
    }

    #[test]
    fn what_is_gathered_is_counted() {
        check("p if { [x | x := 1] }", "p if { [internal.kept(x) | x := 1] }");
        check("p if { {\"a\" | true} }", "p if { {internal.kept(\"a\") | true} }");
        check(
            "p if { {x: [x] | x := 1} }",
            "p if { {internal.kept(x): internal.kept([x]) | x := 1} }",
        );
        check(
            "p contains [x] if { x := 1 }",
            "p contains internal.kept([x]) if { x := 1 }",
        );
    }

    #[test]
    fn what_becomes_a_part_is_looked_at() {
        check("p if { x := [1] }", "p if { x := internal.kept([1]) }");
        check(
            "p if { x = [1]; [y] = x }",
            "p if { x = [1]; internal.held(x); [y] = x; internal.held([x, y]) }",
        );
        check(
            "p if { f([1], [2]) }\nf(a, b) := [a, b]",
            "p if { f(internal.kept([1]), [2]) }\nf(a, b) := internal.kept([a, b])",
        );
        check(
            "p if { f({\"a\": 1, \"b\": {\"c\": 2, \"d\": 3}}, 1) }\nf(a, b) := a",
            "p if { f(internal.kept({\"a\": 1, \"b\": {\"c\": 2, \"d\": 3}}), 1) }\nf(a, b) := internal.kept(a)",
        );
        check("p if { count([1]) }", "p if { count(internal.kept([1])) }");
        check(
            "f(x) := 1 if { x } else := [x]",
            "f(x) := 1 if { x } else := internal.kept([x])",
        );
    }

    #[test]
    fn defaults_stay() {
        check(
            "default p := [1]\np := 1 if { true }",
            "default p := [1]\np := 1 if { true }",
        );
    }
}
