//! Edits a Rego text so that the engine, regorus, decides as OPA does.
//!
//! Where they differ (the letters are those of `reference/policy.md`):
//! - A: regorus reads a parenthesis at the beginning of a line as the arguments of what stands at the end of the line before.
//! - B, B′: a rule with several bodies, `head {…} {…}`, is refused for partial sets, and wrong for functions with values.
//! - C: OPA evaluates the operands of a negated expression outside of the negation, so an undefined one makes the body
//!   undefined; regorus evaluates them inside, where it makes the negation true.
//!
//! Guarantees: a text without these is returned as it is; no edit adds or removes a line, so positions in problems stay
//! right to the line. A and B work on tokens, because the parser cannot read these texts; C works on the parsed module.

use std::collections::BTreeSet;

use regorus::unstable::{BoolOp, Expr, Literal, LiteralStmt, Module, Rule, RuleHead};

use super::builtins;
use super::tokens::{Kind, Token};
use super::walk::{self, TooDeep, Visitor};

/// Begins the names of variables that this file introduces; no author writes it.
const PREFIX: &str = "__weir_";

/// Words that no reference ends with, so that a parenthesis behind them never was a call.
const KEYWORDS: [&str; 11] = [
    "not", "in", "some", "every", "if", "else", "with", "as", "contains", "import", "package",
];

/// A replacement of a range of bytes.
#[derive(Debug)]
struct Edit {
    start: usize,
    end: usize,
    text: String,
}

/// Applies the edits that are made before parsing; `None` when there are none.
pub(crate) fn before_parsing(text: &str, tokens: &[Token<'_>]) -> Option<String> {
    let code: Vec<Token<'_>> = tokens
        .iter()
        .filter(|token| token.kind != Kind::Comment)
        .copied()
        .collect();
    let mut edits = parentheses(&code);
    edits.extend(bodies(text, &code));
    apply(text, edits)
}

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
        code: super::tokens::tokens(text)
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

/// Writes calls of our builtins that name their result, `f(x, y)`, as `y = f(x)`: the engine knows the old way for its own only.
pub(crate) fn captures(text: &str, module: &Module) -> Result<Option<String>, TooDeep> {
    let mut found = Captures {
        text,
        edits: Vec::new(),
    };
    walk::module(module, &mut found)?;
    let edits = found.edits;
    Ok(apply(text, edits))
}

struct Captures<'a> {
    text: &'a str,
    edits: Vec<Edit>,
}

impl Visitor for Captures<'_> {
    fn stmt(&mut self, stmt: &LiteralStmt) {
        let Literal::Expr { expr, .. } = &stmt.literal else {
            return;
        };
        let Expr::Call { fcn, params, .. } = expr.as_ref() else {
            return;
        };
        let Some((names, true)) = walk::path(fcn) else { return };
        let name = names.join(".");
        if !builtins::is_ours(&name) || builtins::arguments(&name) != params.len().checked_sub(1) {
            return;
        }
        let start = offset(stmt.span.start);
        let Some(rest) = self.text.get(start..) else { return };
        let (mut depth, mut from) = (0_usize, None);
        for token in super::tokens::tokens(rest) {
            if token.opens() {
                depth += 1;
                if depth == 1 {
                    from = Some((token.start, token.end()));
                }
            } else if token.closes() {
                depth = depth.saturating_sub(1);
                if depth == 0 {
                    // From behind the last comma to the end of the call is the result.
                    let Some((comma, result)) = from else { return };
                    let (Some(result), true) = (rest.get(result..token.start), rest.starts_with(names_first(&names)))
                    else {
                        return;
                    };
                    // What was on lines of its own leaves them.
                    let lines = "\n".repeat(result.matches('\n').count());
                    let keep = usize::from(params.len() == 1);
                    self.edits.push(Edit {
                        start,
                        end: start,
                        text: format!("{} = ", flat(result).trim()),
                    });
                    self.edits.push(Edit {
                        start: start + comma + keep,
                        end: start + token.start,
                        text: lines,
                    });
                    return;
                }
            } else if depth == 1 && token.is(",") {
                from = Some((token.start, token.end()));
            }
        }
    }
}

fn names_first(names: &[String]) -> &str {
    names.first().map_or("", String::as_str)
}

/// A: ends the statement before a parenthesis that begins a line of a body.
fn parentheses(code: &[Token<'_>]) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut open: Vec<&str> = Vec::new();
    let mut previous: Option<&Token<'_>> = None;
    for token in code {
        if let Some(previous) = previous.filter(|_| token.is("(") && open.last() == Some(&"{")) {
            let ends_reference = previous.is("]")
                || previous.is(")")
                || (previous.kind == Kind::Word && !KEYWORDS.contains(&previous.text));
            if ends_reference && token.line > previous.end_line {
                edits.push(Edit {
                    start: token.start,
                    end: token.start,
                    text: ";".to_owned(),
                });
            }
        }
        if token.opens() {
            open.push(token.text);
        } else if token.closes() {
            open.pop();
        }
        previous = Some(token);
    }
    edits
}

/// B: repeats the head before every further body of a rule.
fn bodies(text: &str, code: &[Token<'_>]) -> Vec<Edit> {
    let mut edits = Vec::new();
    let mut depth = 0_usize;
    // The first token of the rule, the tokens of its head once a body was seen, and whether the open brace is a body.
    let (mut rule, mut head, mut in_body) = (0_usize, None::<(usize, usize)>, false);
    let mut previous: Option<&Token<'_>> = None;
    for (index, token) in code.iter().enumerate() {
        if depth == 0 {
            let after_body = in_body && previous.is_some_and(|previous| previous.is("}"));
            let continues = previous.is_some_and(joins);
            if after_body && token.is("{") {
                if let Some((first, last)) = head {
                    let tokens = code.get(first..last).unwrap_or_default();
                    let text = format!(" {} ", one_line(text, tokens));
                    edits.push(Edit {
                        start: token.start,
                        end: token.start,
                        text,
                    });
                }
            } else if after_body && token.is_word("else") {
                // The bodies of `else` are alternatives, and OPA accepts no further body behind one.
                head = None;
            } else if token.is("{") && !continues {
                head = head.or(Some((rule, index)));
                in_body = true;
            } else if after_body || (starts_line(token, previous) && starts_rule(token) && !continues) {
                (rule, head, in_body) = (index, None, false);
            }
        }
        if token.opens() {
            depth += 1;
        } else if token.closes() {
            depth = depth.saturating_sub(1);
        }
        previous = Some(token);
    }
    edits
}

fn starts_line(token: &Token<'_>, previous: Option<&Token<'_>>) -> bool {
    previous.is_none_or(|previous| token.line > previous.end_line)
}

fn starts_rule(token: &Token<'_>) -> bool {
    token.kind == Kind::Word && !matches!(token.text, "if" | "else" | "in" | "contains" | "as")
}

/// Whether what follows a token still belongs to its expression, so that a brace there opens a literal.
fn joins(token: &Token<'_>) -> bool {
    (token.kind == Kind::Symbol && !token.closes()) || token.is_word("in") || token.is_word("contains")
}

/// The text of tokens on one line, with spaces only where there was white space.
fn one_line(text: &str, tokens: &[Token<'_>]) -> String {
    let mut out = String::new();
    let mut end = None;
    for token in tokens {
        if end.is_some_and(|end| end < token.start) {
            out.push(' ');
        }
        out.push_str(text.get(token.start..token.end()).unwrap_or_default());
        end = Some(token.end());
    }
    out
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
            Expr::Object { .. } => super::tokens::range(&self.code, expr).unwrap_or_default(),
            _ => (offset(span.start), offset(span.end)),
        };
        let range = self.balanced(start, end);
        if !range.is_empty() {
            found.push((range.start, range.end));
        }
    }

    /// Widens a range to the parentheses that belong to it: those around a whole operand are outside of its span.
    fn balanced(&self, start: usize, end: usize) -> std::ops::Range<usize> {
        let tokens = super::tokens::tokens(self.slice(start, end));
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

/// An expression on one line: comments dropped, lines joined. Statements in comprehensions are separated by lines, so
/// each line break between complete statements becomes a semicolon.
fn flat(text: &str) -> String {
    if !text.contains('\n') {
        return text.to_owned();
    }
    let tokens = super::tokens::tokens(text);
    let code: Vec<&Token<'_>> = tokens.iter().filter(|token| token.kind != Kind::Comment).collect();
    let mut out = String::new();
    let mut open: Vec<(&str, bool)> = Vec::new();
    let mut previous: Option<&Token<'_>> = None;
    for token in code {
        if let Some(previous) = previous {
            let in_query = open.last().is_some_and(|(_, query)| *query);
            let ended = token.line > previous.end_line && in_query;
            let goes_on = joins(previous)
                || previous.is(";")
                || token.closes()
                || token.is(",")
                || token.is(";")
                || (token.kind == Kind::Symbol && !token.opens() && !token.is("-"))
                || token.is_word("with")
                || token.is_word("in")
                || token.is_word("as");
            if ended && !goes_on {
                out.push(';');
            }
            if previous.end() < token.start {
                out.push(' ');
            }
        }
        out.push_str(token.text);
        if token.opens() {
            open.push((token.text, false));
        } else if token.closes() {
            open.pop();
        } else if token.is("|")
            && let Some(bracket) = open.last_mut().filter(|(bracket, _)| *bracket != "(")
        {
            bracket.1 = true;
        }
        previous = Some(token);
    }
    out
}

fn offset(position: u32) -> usize {
    usize::try_from(position).unwrap_or(usize::MAX)
}

fn apply(text: &str, mut edits: Vec<Edit>) -> Option<String> {
    if edits.is_empty() {
        return None;
    }
    edits.sort_by_key(|edit| edit.start);
    let mut out = String::with_capacity(text.len() + 64 * edits.len());
    let mut at = 0;
    for edit in &edits {
        out.push_str(text.get(at..edit.start).unwrap_or_default());
        out.push_str(&edit.text);
        at = edit.end;
    }
    out.push_str(text.get(at..).unwrap_or_default());
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;
    use regorus::Source;
    use regorus::unstable::Parser;

    fn before(text: &str, expect: &str) {
        let out = before_parsing(text, &tokens(text)).unwrap_or_else(|| text.to_owned());
        assert_eq!(out, expect);
        assert_eq!(out.matches('\n').count(), text.matches('\n').count());
    }

    #[test]
    fn a_parenthesis_on_a_new_line_is_no_call() {
        before("p {\n x\n (a + b) >= c\n}", "p {\n x\n ;(a + b) >= c\n}");
        before(
            "p {\n x[1] # why\n (a)\n not\n (b)\n f(\n(1))\n}",
            "p {\n x[1] # why\n ;(a)\n not\n (b)\n f(\n(1))\n}",
        );
        before("p {\n y := [x\n (a)]\n}", "p {\n y := [x\n (a)]\n}");
    }

    #[test]
    fn every_body_gets_its_head() {
        before("v[x] { a } { b }", "v[x] { a }  v[x] { b }");
        before(
            "x = 1\nv[{\"m\":\nx}] { a } {\n b }\n{ c } # no\nw { d }",
            "x = 1\nv[{\"m\":\nx}] { a }  v[{\"m\": x}] {\n b }\n v[{\"m\": x}] { c } # no\nw { d }",
        );
        before("f(x) = y { a } { b }", "f(x) = y { a }  f(x) = y { b }");
        before(
            "f(x) := {1} if { a } { b }",
            "f(x) := {1} if { a }  f(x) := {1} if { b }",
        );
        for same in [
            "x = {1}\ny = {2}",
            "x := {\"a\": 1} { b }\ny { c }",
            "f = 1 { a } else = 2 { b } else = {3} { c }",
            "package a\nimport data.b\np contains {1} if { a }\nq if a in {1}\nr { {1} == x }",
            "x = a |\n{1}\ny { b }",
        ] {
            before(same, same);
        }
    }

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
