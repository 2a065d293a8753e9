//! Texts that the engine's parser reads otherwise than OPA's: parentheses at the beginning of a line, and rules with several
//! bodies.

use super::super::tokens::{Kind, Token};
use super::{Edit, apply, joins};

/// Words that no reference ends with, so that a parenthesis behind them never was a call.
const KEYWORDS: [&str; 11] = [
    "not", "in", "some", "every", "if", "else", "with", "as", "contains", "import", "package",
];

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

#[cfg(test)]
mod tests {
    use super::super::super::tokens::tokens;
    use super::*;

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
}
