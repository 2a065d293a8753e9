//! Operands of negations, which are evaluated before them.

use std::collections::BTreeSet;

use regorus::unstable::{BoolOp, Expr, Literal, LiteralStmt, Module, Rule, RuleHead};

use super::super::tokens::{self, Kind, Token, tokens};
use super::super::walk::{self, TooDeep, Visitor};
use super::{Edit, apply, flat, offset};

/// Begins the names of variables that this file introduces; no author writes it.
const PREFIX: &str = "__weir_";

/// Moves the operands of negations in front of them, for one level of nesting: to be repeated on the new text until it
/// answers `None`. `counter` numbers the variables across the rounds.
pub(crate) fn negations(text: &str, module: &Module, counter: &mut usize) -> Result<Option<String>, TooDeep> {
    let names = module.policy.iter().filter_map(|rule| {
        let head = match rule.as_ref() {
            Rule::Default { refr, .. } => refr,
            Rule::Spec { head, .. } => match head {
                RuleHead::Compr { refr, .. } | RuleHead::Set { refr, .. } | RuleHead::Func { refr, .. } => refr,
            },
        };
        walk::path(head).and_then(|(names, _)| names.into_iter().next())
    });
    let imports = module.imports.iter().filter_map(|import| match &import.r#as {
        Some(alias) => Some(alias.text().to_owned()),
        None => walk::path(&import.refr).and_then(|(names, _)| names.last().cloned()),
    });
    let mut documents: BTreeSet<String> = names.chain(imports).collect();
    documents.extend(["input".to_owned(), "data".to_owned()]);
    let mut found = Negations {
        text,
        code: tokens(text)
            .into_iter()
            .filter(|token| token.kind != Kind::Comment)
            .collect(),
        documents,
        counter,
        edits: Vec::new(),
    };
    walk::module(module, &mut found)?;
    let edits = found.edits;
    Ok(apply(text, edits))
}

/// C: collects the edits for negations.
struct Negations<'a> {
    text: &'a str,
    /// Its tokens without comments.
    code: Vec<Token<'a>>,
    /// Names that are documents rather than local variables: they may be undefined.
    documents: BTreeSet<String>,
    counter: &'a mut usize,
    edits: Vec<Edit>,
}

impl Visitor for Negations<'_> {
    fn stmt(&mut self, stmt: &LiteralStmt) {
        let Literal::NotExpr { expr, .. } = &stmt.literal else {
            return;
        };
        let start = offset(stmt.span.start);
        // An enclosing negation is rewritten first; this one comes in the next round.
        if self.edits.iter().any(|edit| edit.start <= start && start < edit.end) {
            return;
        }
        let mut operands = Vec::new();
        self.operands(expr, &mut operands);
        if operands.is_empty() {
            return;
        }
        let with = match (stmt.with_mods.first(), stmt.with_mods.last()) {
            (Some(first), Some(last)) => self.slice(offset(first.span.start), offset(last.span.end)),
            _ => "",
        };
        let end = offset(stmt.span.end);
        let mut hoisted = String::new();
        let mut rest = String::new();
        let mut at = start;
        for (from, to) in operands {
            *self.counter += 1;
            let name = format!("{PREFIX}{}", self.counter);
            hoisted.push_str(&format!("{name} := {} {with}; ", flat(self.slice(from, to))));
            rest.push_str(self.slice(at, from));
            rest.push_str(&name);
            // Lines that were moved to the front stay where they were, so that positions stay right.
            rest.push_str(&"\n".repeat(self.slice(from, to).matches('\n').count()));
            at = to;
        }
        rest.push_str(self.slice(at, end));
        // A body of one statement may stand without braces; two may not.
        let text = if self.follows_if(start) {
            format!("{{ {hoisted}{rest} }}")
        } else {
            hoisted + &rest
        };
        self.edits.push(Edit { start, end, text });
    }
}

impl<'a> Negations<'a> {
    /// The ranges that OPA evaluates before the negation.
    fn operands(&self, expr: &Expr, found: &mut Vec<(usize, usize)>) {
        match expr {
            Expr::Call { params, .. } => params.iter().for_each(|param| self.operand(param, found)),
            Expr::BoolExpr {
                op: BoolOp::Eq,
                lhs,
                rhs,
                ..
            }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                for side in [lhs, rhs] {
                    match side.as_ref() {
                        Expr::Var { .. } => {}
                        Expr::RefDot { .. } | Expr::RefBrack { .. } => self.operands(side, found),
                        _ => self.operand(side, found),
                    }
                }
            }
            Expr::BoolExpr { lhs, rhs, .. } | Expr::ArithExpr { lhs, rhs, .. } | Expr::BinExpr { lhs, rhs, .. } => {
                self.operand(lhs, found);
                self.operand(rhs, found);
            }
            Expr::Membership {
                key, value, collection, ..
            } => {
                if let Some(key) = key {
                    self.operand(key, found);
                }
                self.operand(value, found);
                self.operand(collection, found);
            }
            Expr::UnaryExpr { expr, .. } => self.operand(expr, found),
            Expr::RefDot { refr, .. } => self.operands(refr, found),
            Expr::RefBrack { refr, index, .. } => {
                self.operands(refr, found);
                if !matches!(index.as_ref(), Expr::Var { .. }) {
                    self.operand(index, found);
                }
            }
            _ => {}
        }
    }

    /// Whether a statement stands directly behind `if`.
    fn follows_if(&self, start: usize) -> bool {
        let before = self.code.partition_point(|token| token.start < start);
        let previous = before.checked_sub(1).and_then(|index| self.code.get(index));
        previous.is_some_and(|previous| previous.is_word("if"))
    }

    fn operand(&self, expr: &Expr, found: &mut Vec<(usize, usize)>) {
        let constant = match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => true,
            Expr::Var { span, .. } => !self.documents.contains(span.text()),
            _ => false,
        };
        if constant {
            return;
        }
        let span = expr.span();
        let (start, end) = match expr {
            Expr::Object { .. } => tokens::range(&self.code, expr).unwrap_or_default(),
            _ => (offset(span.start), offset(span.end)),
        };
        let range = self.balanced(start, end);
        if !range.is_empty() {
            found.push((range.start, range.end));
        }
    }

    /// Widens a range to the parentheses that belong to it: those around a whole operand are outside of its span.
    fn balanced(&self, start: usize, end: usize) -> std::ops::Range<usize> {
        let tokens = tokens(self.slice(start, end));
        let (mut depth, mut missing) = (0_usize, 0_usize);
        for token in &tokens {
            if token.opens() {
                depth += 1;
            } else if token.closes() && depth == 0 {
                missing += 1;
            } else if token.closes() {
                depth -= 1;
            }
        }
        let mut start = start;
        for _ in 0..missing {
            match self.slice(0, start).rfind('(') {
                Some(open) if self.slice(open + 1, start).trim().is_empty() => start = open,
                _ => return 0..0,
            }
        }
        if depth > 0 { 0..0 } else { start..end }
    }

    fn slice(&self, start: usize, end: usize) -> &'a str {
        let text: &'a str = self.text;
        text.get(start..end).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use regorus::Source;
    use regorus::unstable::Parser;

    fn negated(statement: &str, expect: &str) {
        let mut text = format!("package x\nrule = 1\np if {{ {statement} }}");
        let mut counter = 0;
        for _ in 0..4 {
            let source = Source::from_contents("x".into(), text.clone()).unwrap();
            let mut parser = Parser::new(&source).unwrap();
            parser.enable_rego_v1().unwrap();
            let module = parser.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            match negations(&text, &module, &mut counter).unwrap() {
                Some(next) => text = next,
                None => break,
            }
        }
        let lines = text.matches('\n').count();
        assert_eq!(lines, 2 + statement.matches('\n').count(), "{text}");
        let body = text.splitn(3, '\n').nth(2).unwrap();
        let body = body.trim_start_matches("p if { ").trim_end_matches(" }");
        assert_eq!(body.replace(" ; ", "; "), expect);
    }

    #[test]
    fn operands_of_a_negation_are_evaluated_before_it() {
        negated("not f(input.a, 1, x)", "__weir_1 := input.a; not f(__weir_1, 1, x)");
        negated("not f(g(input.a))", "__weir_1 := g(input.a); not f(__weir_1)");
        negated(
            "not input.a != rule",
            "__weir_1 := input.a; __weir_2 := rule; not __weir_1 != __weir_2",
        );
        negated(
            "not input.a in {1}",
            "__weir_1 := input.a; __weir_2 := {1}; not __weir_1 in __weir_2",
        );
        negated("not g(input.a) == 1", "__weir_1 := g(input.a); not __weir_1 == 1");
        negated(
            "not f({\"a\": input.a, \"b\": 1})",
            "__weir_1 := {\"a\": input.a, \"b\": 1}; not f(__weir_1)",
        );
        negated("not x[input.a]", "__weir_1 := input.a; not x[__weir_1]");
        negated(
            "not (input.a + 1) * 2 > 3",
            "__weir_1 := (input.a + 1) * 2; not __weir_1 > 3",
        );
        negated("not f((input.a))", "__weir_1 := input.a; not f((__weir_1))");
        negated(
            "not f(input.a) with input as {\"a\": 1}",
            "__weir_1 := input.a with input as {\"a\": 1}; not f(__weir_1) with input as {\"a\": 1}",
        );
    }

    #[test]
    fn a_negation_without_such_operands_stays() {
        for same in [
            "not input.a",
            "not input.a == 1",
            "not x",
            "not f(x, \"a\")",
            "not input.a[x].b",
            "not x = input.a",
        ] {
            negated(same, same);
        }
    }

    #[test]
    fn a_body_without_braces_gets_them() {
        let text = "package x\np contains 1 if not f(input.a)\nq := 1 if { true } else := 2 if # why\nnot f(input.b)";
        let source = Source::from_contents("x".into(), text.into()).unwrap();
        let mut parser = Parser::new(&source).unwrap();
        parser.enable_rego_v1().unwrap();
        let edited = negations(text, &parser.parse().unwrap(), &mut 0).unwrap().unwrap();
        assert_eq!(
            edited.replace(" ; ", "; "),
            "package x\np contains 1 if { __weir_1 := input.a; not f(__weir_1) }\n\
             q := 1 if { true } else := 2 if # why\n{ __weir_2 := input.b; not f(__weir_2) }"
        );
    }

    #[test]
    fn negations_within_operands_come_next() {
        negated(
            "not any([y |\n y := 1\n not f(input.b)])",
            "__weir_1 := [y | y := 1; __weir_2 := input.b; not f(__weir_2)]; not any(__weir_1\n\n)",
        );
    }
}
