//! Variables of a rule's head that its body never gives a value: OPA refuses them when it compiles, the engine would find
//! nothing.
//!
//! Guarantees: what is refused is unsafe. What the engine refuses itself, variables of bodies, is left to it.

use std::collections::HashSet;

use regorus::unstable::{Expr, Literal, Query, Rule, RuleHead, Span};

use super::super::source::Problem;
use super::parse::Parsed;
use super::walk;

/// Finds the variables in a module; `modules` are those that it is evaluated with. Its chains were bounded before.
pub(super) fn unsafe_variables(parsed: &Parsed, modules: &[&Parsed]) -> Vec<Problem> {
    let known = known(parsed, modules);
    let mut problems = Vec::new();
    for rule in &parsed.module.policy {
        let Rule::Spec { head, bodies, .. } = rule.as_ref() else {
            continue;
        };
        let (mut keys, mut bound, mut assign) = (Vec::new(), HashSet::new(), None);
        match head {
            RuleHead::Compr {
                refr, assign: value, ..
            } => {
                indexes(refr, &mut keys);
                assign = value.as_ref();
            }
            RuleHead::Set { refr, key, .. } => {
                indexes(refr, &mut keys);
                key.iter().for_each(|key| variables(key, &mut keys));
            }
            RuleHead::Func {
                refr,
                args,
                assign: value,
                ..
            } => {
                indexes(refr, &mut keys);
                let mut names = Vec::new();
                args.iter().for_each(|arg| variables(arg, &mut names));
                bound.extend(names.into_iter().map(Span::text));
                assign = value.as_ref();
            }
        }
        let mut check = |value: Option<&Expr>, query: Option<&Query>| {
            let mut asked = keys.clone();
            value.iter().for_each(|value| variables(value, &mut asked));
            let mut found = Vec::new();
            query.iter().for_each(|query| of_body(query, &mut found));
            let found: HashSet<&str> = found.into_iter().map(Span::text).collect();
            for span in asked {
                let name = span.text();
                if name != "_" && !bound.contains(name) && !found.contains(name) && !known.contains(name) {
                    let message = format!("variable {name} is unsafe: nothing in the body gives it a value");
                    let problem = Problem::at(parsed.origin(), span.line, span.col, message);
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                }
            }
        };
        if bodies.is_empty() {
            check(assign.map(|assign| assign.value.as_ref()), None);
        }
        for body in bodies {
            let value = body.assign.as_ref().or(assign);
            check(value.map(|assign| assign.value.as_ref()), Some(&body.query));
        }
    }
    problems
}

/// Names of what a module imports.
pub(super) fn imported(parsed: &Parsed) -> impl Iterator<Item = String> + '_ {
    parsed.module.imports.iter().filter_map(|import| match &import.r#as {
        Some(alias) => Some(alias.text().to_owned()),
        None => walk::path(&import.refr).and_then(|(names, _)| names.last().cloned()),
    })
}

/// Names that mean something in every rule of a module: documents, imports, and rules of its package.
fn known<'a>(parsed: &'a Parsed, modules: &[&'a Parsed]) -> HashSet<String> {
    let mut known: HashSet<String> = ["input", "data"].map(str::to_owned).into();
    known.extend(imported(parsed));
    for module in modules {
        // A package below this one is a part of it.
        let Some(below) = module.package.strip_prefix(parsed.package.as_slice()) else {
            continue;
        };
        known.extend(below.first().cloned());
        let rules = module.module.policy.iter().filter(|_| below.is_empty());
        let names = rules.filter_map(|rule| {
            let (names, _) = walk::path(super::recursion::reference(rule))?;
            names.first().cloned()
        });
        known.extend(names);
    }
    known
}

/// Variables in the brackets of a head's name.
fn indexes<'a>(refr: &'a Expr, found: &mut Vec<&'a Span>) {
    let mut at = refr;
    loop {
        match at {
            Expr::RefBrack { refr, index, .. } => {
                variables(index, found);
                at = refr;
            }
            Expr::RefDot { refr, .. } => at = refr,
            _ => return,
        }
    }
}

/// Variables of a body, not those of bodies within it.
fn of_body<'a>(query: &'a Query, found: &mut Vec<&'a Span>) {
    for stmt in &query.stmts {
        match &stmt.literal {
            Literal::SomeVars { .. } => {}
            Literal::SomeIn {
                key, value, collection, ..
            } => key
                .iter()
                .chain([value, collection])
                .for_each(|part| variables(part, found)),
            Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => variables(expr, found),
            Literal::Every { domain, .. } => variables(domain, found),
        }
        for with in &stmt.with_mods {
            variables(&with.r#as, found);
        }
    }
}

/// Variables of an expression, not those of comprehensions.
fn variables<'a>(node: &'a Expr, found: &mut Vec<&'a Span>) {
    match node {
        Expr::Var { span, .. } => found.push(span),
        Expr::Array { items, .. } | Expr::Set { items, .. } => items.iter().for_each(|item| variables(item, found)),
        Expr::Object { fields, .. } => {
            for (_, key, value) in fields {
                variables(key, found);
                variables(value, found);
            }
        }
        Expr::Call { params, .. } => params.iter().for_each(|param| variables(param, found)),
        Expr::UnaryExpr { expr, .. } => variables(expr, found),
        Expr::RefDot { refr, .. } => variables(refr, found),
        Expr::RefBrack { refr, index, .. } => {
            variables(refr, found);
            variables(index, found);
        }
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => {
            variables(lhs, found);
            variables(rhs, found);
        }
        Expr::Membership {
            key, value, collection, ..
        } => {
            for part in key.iter().chain([value, collection]) {
                variables(part, found);
            }
        }
        _ => {}
    }
}
