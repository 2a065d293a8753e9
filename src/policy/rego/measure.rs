//! Bounds that a Rego text must keep before it is given to the parser.
//!
//! The parser reads the first element of every literal twice, once as a comprehension, so its time doubles with each
//! literal that is nested in a first place. Nothing in it stops; this file does, before it starts.

use super::super::source::Problem;
use super::tokens::{Kind, Token};

/// Largest text: the limit that the Rego engine has itself. The largest policy of Gatekeeper's library has 20 KiB.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// Most lines, the engine's own limit too.
pub(crate) const MAX_LINES: u32 = 20_000;
/// Longest line. The engine's default of 1024 refuses one-line tables; wider ones are generated, and belong into data.
pub(crate) const MAX_COLUMNS: u32 = 65_536;
/// Deepest nesting of brackets. The policies of Gatekeeper's library reach 7; the parser itself ends at 32.
pub(crate) const MAX_DEPTH: usize = 24;
/// Longest chain of operators and references. Those longer than a quarter of it are refused too, when they are parsed.
const MAX_OPERATORS: usize = 4 * super::walk::MAX_CHAIN;
/// Most work for the parser, in literals read. One costs about 20 µs, so the worst text takes about two seconds.
pub(crate) const MAX_WORK: u64 = 100_000;

/// Says what keeps a text from being parsed in bounded time.
pub(crate) fn measure(origin: &str, text: &str, tokens: &[Token<'_>]) -> Option<Problem> {
    if text.len() > MAX_BYTES {
        let message = format!("the file has {} bytes, more than {MAX_BYTES}; split it", text.len());
        return Some(Problem::new(origin, message));
    }
    // For each open bracket: whether the place in it is the first one.
    let mut open: Vec<bool> = Vec::new();
    let mut work = 0_u64;
    let mut chains = Chains::default();
    for token in tokens {
        let problem = |message: String| Some(Problem::at(origin, token.line, token.column, message));
        if token.end_line > MAX_LINES {
            return problem(format!("the file has more than {MAX_LINES} lines; split it"));
        }
        if token
            .column
            .saturating_add(u32::try_from(token.text.len()).unwrap_or(u32::MAX))
            > MAX_COLUMNS
            && token.kind != Kind::Text
        {
            return problem(format!("the line is longer than {MAX_COLUMNS} characters; break it"));
        }
        if let Some(message) = chains.take(token) {
            return problem(message);
        }
        if token.opens() {
            open.push(token.text != "(");
            if open.len() > MAX_DEPTH {
                return problem(format!(
                    "brackets are nested more than {MAX_DEPTH} deep; use intermediate variables"
                ));
            }
            let doubled = open.iter().filter(|first| **first).count();
            work = work.saturating_add(1 << doubled.min(32));
            if work > MAX_WORK {
                return problem(
                    "literals are nested so deeply that parsing would take seconds; use \
                     intermediate variables"
                        .to_owned(),
                );
            }
        } else if token.closes() {
            open.pop();
        } else if (token.is(",") || token.is(";"))
            && let Some(first) = open.last_mut()
        {
            *first = false;
        }
    }
    None
}

/// Follows expressions that go on and on. Each operator makes the parsed expression a level deeper, and whatever goes through
/// it, or frees it, needs stack for each level; the parser itself calls itself for each minus before a value.
#[derive(Default)]
struct Chains<'a> {
    /// Operators of the expression at each level of brackets.
    counts: Vec<usize>,
    current: usize,
    minuses: usize,
    previous: Option<Token<'a>>,
}

impl<'a> Chains<'a> {
    fn take(&mut self, token: &Token<'a>) -> Option<String> {
        if token.kind == Kind::Comment {
            return None;
        }
        let previous = self.previous.replace(*token);
        let operator = |token: &Token<'_>| token.kind == Kind::Symbol && !token.opens() && !token.closes();
        let ends = previous
            .as_ref()
            .is_some_and(|previous| !operator(previous) && !previous.opens());
        let new_line = previous.as_ref().is_none_or(|previous| token.line > previous.end_line);
        if token.is(",") || token.is(";") || token.is(":=") || token.is(":") || (new_line && ends && !operator(token)) {
            self.current = 0;
        } else if operator(token) || (token.is("[") && previous.as_ref().is_some_and(|last| last.end() == token.start))
        {
            self.current += 1;
        }
        if token.opens() {
            self.counts.push(self.current);
            self.current = 0;
        } else if token.closes() {
            self.current = self.counts.pop().unwrap_or_default();
        }
        self.minuses = if token.is("-") && !ends { self.minuses + 1 } else { 0 };
        if self.minuses > MAX_DEPTH {
            return Some(format!("more than {MAX_DEPTH} minus signs stand before a value"));
        }
        (self.current > MAX_OPERATORS)
            .then(|| format!("the expression chains more than {MAX_OPERATORS} operators; use intermediate variables"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::tokens;
    use super::*;

    fn check(text: &str, expect: Option<&str>) {
        let found = measure("x.rego", text, &tokens(text)).map(|problem| problem.to_string());
        match (found, expect) {
            (Some(found), Some(expect)) => assert!(found.contains(expect), "{found}"),
            (found, expect) => assert_eq!(found.as_deref(), expect),
        }
    }

    #[test]
    fn what_would_keep_the_parser_busy_is_refused_before_it_starts() {
        let nested = |depth: usize| format!("package a\nx := {}{}", "[".repeat(depth), "]".repeat(depth));
        check(&nested(10), None);
        check(&nested(18), Some("x.rego:2:21: literals are nested so deeply"));
        check(&nested(3000), Some("literals are nested so deeply"));
        check(
            &format!("x := {}{}", "(".repeat(25), ")".repeat(25)),
            Some("x.rego:1:30: brackets are nested more than 24"),
        );
        check(&"#\n".repeat(20_001), Some("more than 20000 lines"));
        check(
            &"#\n".repeat(1 << 19).replace('#', "##"),
            Some("bytes, more than 1048576"),
        );
        check(&format!("x := {}", "1 ".repeat(40_000)), Some("longer than 65536"));
    }

    #[test]
    fn what_would_be_as_deep_as_it_is_long_is_refused() {
        let said = Some("chains more than 1024 operators");
        check(&format!("x := 1{}", " + 1".repeat(1_100)), said);
        check(&format!("x := 1{}", "\n + 1".repeat(1_100)), said);
        check(&format!("x := 1{}", " +\n 1".repeat(1_100)), said);
        check(&format!("x := a{}", ".a".repeat(1_100)), said);
        check(&format!("x := a{}", "[0]".repeat(1_100)), said);
        check(&format!("x := {}1", "-".repeat(30)), Some("more than 24 minus signs"));
        check(&format!("x := 1{}", " + 1".repeat(1_000)), None);
        let lines = "y := a.b.c[0] + 1 - 2 == -3\nz = [1, 2] | a\n".repeat(2_000);
        check(&format!("p {{\n{lines}}}"), None);
        check(&format!("p {{ {} }}", "a.b == 1; ".repeat(2_000)), None);
    }

    #[test]
    fn a_large_table_is_fine() {
        let row = "  {\"name\": \"x\", \"values\": [\"a\", {\"b\": [1]}]},\n";
        check(&format!("package a\nx := [\n{}]", row.repeat(2_000)), None);
    }
}
