//! A tokenizer for Rego, enough to measure a text before it is parsed and to edit it by position.
//!
//! Guarantees: it never fails, and every token is a slice of the text. What is malformed (an open string, say) becomes a
//! token that reaches to the end of its line or of the text; the parser says what is wrong with it.

use regorus::unstable::Expr;

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A name or a keyword.
    Word,
    /// A string of either kind, with its quotes.
    Text,
    /// A number.
    Number,
    /// Punctuation.
    Symbol,
    /// A comment, with its `#`.
    Comment,
}

/// A token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// What it is.
    pub(crate) kind: Kind,
    /// Its text.
    pub(crate) text: &'a str,
    /// Byte offset of its first byte.
    pub(crate) start: usize,
    /// Line of its first byte, from 1.
    pub(crate) line: u32,
    /// Line of its last byte.
    pub(crate) end_line: u32,
    /// Column of its first byte, from 1.
    pub(crate) column: u32,
}

impl Token<'_> {
    /// Byte offset behind its last byte.
    pub(crate) fn end(&self) -> usize {
        self.start + self.text.len()
    }

    /// Whether it is this symbol.
    pub(crate) fn is(&self, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text == symbol
    }

    /// Whether it is this word.
    pub(crate) fn is_word(&self, word: &str) -> bool {
        self.kind == Kind::Word && self.text == word
    }

    /// Whether it opens a bracket.
    pub(crate) fn opens(&self) -> bool {
        self.kind == Kind::Symbol && matches!(self.text, "(" | "[" | "{")
    }

    /// Whether it closes a bracket.
    pub(crate) fn closes(&self) -> bool {
        self.kind == Kind::Symbol && matches!(self.text, ")" | "]" | "}")
    }
}

/// Symbols of two characters; everything else is one.
const PAIRS: [&str; 5] = [":=", "==", "!=", "<=", ">="];

/// The tokens of a text.
pub(crate) fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut at, mut line, mut line_start) = (0_usize, 1_u32, 0_usize);
    while let Some(first) = text.get(at..).and_then(|rest| rest.chars().next()) {
        if first == '\n' {
            line = line.saturating_add(1);
            line_start = at + 1;
        }
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let rest = text.get(at..).unwrap_or_default();
        let (kind, length) = token_at(rest, first);
        let token = rest.get(..length).unwrap_or(rest);
        let newlines = u32::try_from(token.matches('\n').count()).unwrap_or(u32::MAX);
        found.push(Token {
            kind,
            text: token,
            start: at,
            line,
            end_line: line.saturating_add(newlines),
            column: u32::try_from(at - line_start + 1).unwrap_or(u32::MAX),
        });
        if let Some(last) = token.rfind('\n') {
            line = line.saturating_add(newlines);
            line_start = at + last + 1;
        }
        at += token.len().max(1);
    }
    found
}

/// Where an expression stands, by its span in the text that the tokens are of. The engine's spans leave out the quotes of texts,
/// those of objects begin at their last field, and those of the empty set end behind it.
pub(crate) fn range(tokens: &[Token<'_>], expr: &Expr) -> Option<(usize, usize)> {
    let span = expr.span();
    let (start, end) = (usize::try_from(span.start).ok()?, usize::try_from(span.end).ok()?);
    let at = |offset: usize| tokens.partition_point(|token| token.start <= offset).checked_sub(1);
    let mut first = at(start)?;
    // Of an empty text the span is empty, and of others it ends before the quote.
    let mut last = at(end.saturating_sub(1).max(tokens.get(first)?.start))?;
    if matches!(expr, Expr::Set { items, .. } if items.is_empty()) {
        // `set`, `(` and `)`.
        last = first + 2;
    }
    if matches!(expr, Expr::Object { .. }) {
        let mut depth = 0_usize;
        first = (0..=last).rev().find(|index| {
            let Some(token) = tokens.get(*index) else { return false };
            if token.closes() {
                depth += 1;
            } else if token.opens() {
                depth = depth.saturating_sub(1);
            }
            depth == 0
        })?;
    }
    Some((tokens.get(first)?.start, tokens.get(last)?.end()))
}

fn token_at(rest: &str, first: char) -> (Kind, usize) {
    match first {
        '#' => (Kind::Comment, rest.find('\n').unwrap_or(rest.len())),
        '`' => {
            let closed = rest.get(1..).and_then(|tail| tail.find('`'));
            (Kind::Text, closed.map_or(rest.len(), |end| end + 2))
        }
        '"' => (Kind::Text, quoted(rest)),
        _ if first.is_ascii_digit() => (Kind::Number, number(rest)),
        _ if first.is_alphabetic() || first == '_' => {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            (Kind::Word, end.unwrap_or(rest.len()))
        }
        _ => {
            let pair = PAIRS.iter().find(|pair| rest.starts_with(**pair));
            (Kind::Symbol, pair.map_or(first.len_utf8(), |pair| pair.len()))
        }
    }
}

/// Length of a string with its quotes; an unclosed one ends with its line.
fn quoted(rest: &str) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            '\n' => return at,
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

fn number(rest: &str) -> usize {
    let mut previous = ' ';
    for (at, c) in rest.char_indices() {
        let exponent_sign = matches!(c, '+' | '-') && matches!(previous, 'e' | 'E');
        if !c.is_ascii_alphanumeric() && c != '.' && !exponent_sign {
            return at;
        }
        previous = c;
    }
    rest.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_falls_into_tokens_with_positions() {
        let texts: Vec<&str> = tokens("a.b[\"c \\\" ]\"] := 1.5e-3 # x\n`{\n`!=_x")
            .iter()
            .map(|t| t.text)
            .collect();
        assert_eq!(
            texts,
            [
                "a",
                ".",
                "b",
                "[",
                "\"c \\\" ]\"",
                "]",
                ":=",
                "1.5e-3",
                "# x",
                "`{\n`",
                "!=",
                "_x"
            ]
        );
        let last = *tokens("a\n  `x\n`  b").last().unwrap();
        assert_eq!((last.line, last.column, last.start), (3, 4, 10));
    }

    #[test]
    fn malformed_texts_end_somewhere() {
        for text in ["\"open", "`open", "\"a\nb", "1e", "é€", "\"\\"] {
            let all = tokens(text);
            assert!(all.last().is_some_and(|t| t.end() <= text.len()), "{text}");
        }
    }
}
