//! Edits a Rego text so that the engine, regorus, decides as OPA does.
//!
//! Where they differ (the letters are those of `reference/policy.md`), a file for each:
//! - A: regorus reads a parenthesis at the beginning of a line as the arguments of what stands at the end of the line before
//!   (`layout`).
//! - B, B′: a rule with several bodies, `head {…} {…}`, is refused for partial sets, and wrong for functions with values
//!   (`layout`).
//! - C: OPA evaluates the operands of a negated expression outside of the negation, so an undefined one makes the body
//!   undefined; regorus evaluates them inside, where it makes the negation true (`negations`).
//! - Calls of our builtins that name their result (`captures`).
//!
//! Guarantees: a text without these is returned as it is; no edit adds or removes a line, so positions in problems stay
//! right to the line. A and B work on tokens, because the parser cannot read these texts; the others on the parsed module.

mod captures;
mod layout;
mod negations;

pub(crate) use captures::captures;
pub(crate) use layout::before_parsing;
pub(crate) use negations::negations;

use super::tokens::{Kind, Token, tokens};

/// A replacement of a range of bytes.
#[derive(Debug)]
struct Edit {
    start: usize,
    end: usize,
    text: String,
}

/// An expression on one line: comments dropped, lines joined. Statements in comprehensions are separated by lines, so
/// each line break between complete statements becomes a semicolon.
fn flat(text: &str) -> String {
    if !text.contains('\n') {
        return text.to_owned();
    }
    let tokens = tokens(text);
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

/// Whether what follows a token still belongs to its expression, so that a brace there opens a literal.
fn joins(token: &Token<'_>) -> bool {
    (token.kind == Kind::Symbol && !token.closes()) || token.is_word("in") || token.is_word("contains")
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
