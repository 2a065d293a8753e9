//! Newer Rego than the engine's parser reads, written in the Rego that it reads.
//!
//! - Template strings, `$"a {x}"`, become calls of `internal.template_string`, as in OPA's own compiler.
//! - Keywords as names in references, `input.if`, become strings in brackets.
//! - Rules whose names begin with a keyword, `if.x := 1`, get other names. Who reads them through `data` from another file is
//!   refused; who reads the whole package as one document sees the other name.
//! - Negated bodies, `not {…}`, become comparisons, where `future.keywords.not` is imported.
//!
//! Guarantees: no edit adds or removes a line.

use std::collections::BTreeSet;

use super::tokens::{Kind, Token, tokens};

/// Deepest nesting of template strings in template strings.
const MAX_DEPTH: usize = 16;

/// Words that the parser takes for keywords wherever they stand.
pub(crate) const KEYWORDS: [&str; 15] = [
    "as", "contains", "default", "else", "every", "false", "if", "import", "in", "not", "null", "package", "some",
    "true", "with",
];

/// Rewrites template strings; `None` when there are none, or when one of them is malformed.
pub(crate) fn templates(text: &str) -> Option<String> {
    if !text.contains("$\"") && !text.contains("$`") {
        return None;
    }
    let mut reader = Reader {
        text,
        at: 0,
        counter: 0,
    };
    let mut out = String::with_capacity(text.len() * 2);
    reader.code(&mut out, 0, false)?;
    Some(out)
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    counter: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest().chars().next()?;
        self.at += c.len_utf8();
        Some(c)
    }

    /// Copies code up to the end of the text or, within a template, up to the brace that ends the expression.
    fn code(&mut self, out: &mut String, depth: usize, inner: bool) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        let mut open = 0_usize;
        loop {
            let rest = self.rest();
            if rest.starts_with("$\"") || rest.starts_with("$`") {
                self.template(out, depth)?;
                continue;
            }
            let Some(first) = rest.chars().next() else {
                return (!inner).then_some(());
            };
            match first {
                '"' | '`' | '#' => {
                    let length = tokens(rest).first().map_or(1, |token| token.text.len());
                    out.push_str(rest.get(..length)?);
                    self.at += length;
                    continue;
                }
                '{' => open += 1,
                '}' if open == 0 && inner => return Some(()),
                '}' => open = open.saturating_sub(1),
                _ => {}
            }
            out.push(first);
            self.at += first.len_utf8();
        }
    }

    fn template(&mut self, out: &mut String, depth: usize) -> Option<()> {
        self.next()?;
        let quote = self.next()?;
        out.push_str("internal.template_string([");
        out.push(quote);
        loop {
            match self.next()? {
                c if c == quote => break,
                '\\' if self.rest().starts_with('{') => {
                    self.next();
                    out.push('{');
                }
                '\\' if quote == '"' => {
                    out.push('\\');
                    out.push(self.next()?);
                }
                '{' => {
                    self.counter += 1;
                    let name = format!("__weir_t{}", self.counter);
                    out.push(quote);
                    out.push_str(&format!(", {{{name} | {name} := "));
                    self.code(out, depth + 1, true)?;
                    self.next()?;
                    out.push_str("}, ");
                    out.push(quote);
                }
                '\n' if quote == '"' => return None,
                c => out.push(c),
            }
        }
        out.push(quote);
        out.push_str("])");
        Some(())
    }
}

/// A text in which keywords are names, and the rules that got other names on the way.
pub(crate) struct Renamed {
    /// The text.
    pub(crate) text: String,
    /// Keywords that begin names of rules.
    pub(crate) rules: BTreeSet<String>,
}

/// Begins the names of rules that begin with a keyword.
const PREFIX: &str = "__weir_k_";

/// Puts keywords that stand behind a dot into brackets and renames those that begin a reference; `None` when there are none.
pub(crate) fn keywords(text: &str) -> Option<Renamed> {
    let tokens = tokens(text);
    let code: Vec<&Token<'_>> = tokens.iter().filter(|token| token.kind != Kind::Comment).collect();
    let keyword = |token: &Token<'_>| token.kind == Kind::Word && KEYWORDS.contains(&token.text);
    let dot_behind = |index: usize| {
        let (word, dot, name) = (code.get(index), code.get(index + 1), code.get(index + 2));
        word.zip(dot).zip(name).is_some_and(|((word, dot), name)| {
            dot.is(".") && word.end() == dot.start && dot.end() == name.start && name.kind == Kind::Word
        })
    };
    let begins: BTreeSet<String> = (0..code.len())
        .filter(|index| {
            let behind_dot = index
                .checked_sub(1)
                .and_then(|before| code.get(before))
                .is_some_and(|token| token.is("."));
            !behind_dot && code.get(*index).is_some_and(|token| keyword(token)) && dot_behind(*index)
        })
        .filter_map(|index| code.get(index).map(|token| token.text.to_owned()))
        .collect();
    // The package, as references through `data` write it.
    let package: Vec<&str> = match code.as_slice() {
        [first, rest @ ..] if first.is_word("package") => {
            let line = rest.iter().take_while(|token| token.line == first.line);
            line.filter(|token| token.kind == Kind::Word)
                .map(|token| token.text)
                .collect()
        }
        _ => Vec::new(),
    };
    let (mut out, mut at) = (String::with_capacity(text.len() + 64), 0);
    // How many parts of `data` and the package were read.
    let mut path = 0_usize;
    for (index, token) in code.iter().enumerate() {
        let before = index.checked_sub(1).and_then(|before| code.get(before));
        let behind_dot = before.filter(|before| before.is(".") && before.end() == token.start);
        if token.is(".") {
            continue;
        }
        let own = path == package.len() + 1 && behind_dot.is_some() && begins.contains(token.text);
        path = match (path, behind_dot) {
            (0, None) => usize::from(token.is_word("data")),
            (read @ 1.., Some(_)) if package.get(read - 1) == Some(&token.text) => read + 1,
            _ => usize::from(behind_dot.is_none() && token.is_word("data")),
        };
        if !keyword(token) {
            continue;
        }
        let edit = match behind_dot {
            None if dot_behind(index) && begins.contains(token.text) => {
                Some((token.start, format!("{PREFIX}{}", token.text)))
            }
            Some(_) if own => Some((token.start, format!("{PREFIX}{}", token.text))),
            Some(dot) => {
                let reference = index
                    .checked_sub(2)
                    .and_then(|index| code.get(index))
                    .is_some_and(|name| {
                        name.end() == dot.start && (name.kind == Kind::Word || name.is("]") || name.is(")"))
                    });
                // The parser reads keywords behind dots, and finds functions by nothing else.
                let bracketed = reference && !is_called(&code, index);
                bracketed.then(|| (dot.start, format!("[\"{}\"]", token.text)))
            }
            None => None,
        };
        if let Some((start, with)) = edit {
            out.push_str(text.get(at..start)?);
            out.push_str(&with);
            at = token.end();
        }
    }
    if at == 0 {
        return None;
    }
    out.push_str(text.get(at..)?);
    Some(Renamed {
        text: out,
        rules: begins,
    })
}

/// Whether a word is part of the name of a function: behind it, and what else is joined to it by dots, stands a parenthesis.
fn is_called(code: &[&Token<'_>], index: usize) -> bool {
    let mut at = index;
    loop {
        let (Some(word), Some(next)) = (code.get(at), code.get(at + 1)) else {
            return false;
        };
        if word.end() != next.start {
            return false;
        }
        match code.get(at + 2) {
            _ if next.is("(") => return true,
            Some(name) if next.is(".") && next.end() == name.start && name.kind == Kind::Word => at += 2,
            _ => return false,
        }
    }
}

/// What makes `not` negate all of its body, as the import `future.keywords.not` wants it.
const NOT_IMPORT: [&str; 6] = ["import", "future", ".", "keywords", ".", "not"];

/// Whether a text asks for `not` with bodies, in which nothing is evaluated before the negation.
pub(crate) fn negates_bodies(tokens: &[Token<'_>]) -> bool {
    let code: Vec<&str> = tokens
        .iter()
        .filter(|token| token.kind != Kind::Comment)
        .map(|token| token.text)
        .collect();
    code.windows(NOT_IMPORT.len()).any(|window| window == NOT_IMPORT)
}

/// Writes `not {…}` as the comparison of a comprehension with an empty list; `None` when there is none.
pub(crate) fn bodies(text: &str, tokens: &[Token<'_>]) -> Option<String> {
    if !negates_bodies(tokens) {
        return None;
    }
    let (mut out, mut at) = (String::with_capacity(text.len() + 64), 0);
    // Open braces, and whether each is of a negated body.
    let mut open: Vec<bool> = Vec::new();
    let mut negation: Option<usize> = None;
    for token in tokens.iter().filter(|token| token.kind != Kind::Comment) {
        let begun = negation.take();
        if token.is_word("not") {
            negation = Some(token.start);
        } else if let (true, Some(start)) = (token.is("{"), begun) {
            open.push(true);
            out.push_str(text.get(at..start)?);
            // Lines between both stay lines.
            out.push_str(&"\n".repeat(text.get(start..token.start)?.matches('\n').count()));
            out.push_str("[true |");
            at = token.end();
        } else if token.is("{") {
            open.push(false);
        } else if token.is("}") && open.pop() == Some(true) {
            out.push_str(text.get(at..token.start)?);
            out.push_str("] == []");
            at = token.end();
        }
    }
    out.push_str(text.get(at..)?);
    (at > 0).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn negated_bodies_become_comprehensions() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(bodies(text, &tokens(text)).as_deref(), expect);
        check("p if { not {1} == x }", None);
        check(
            "import future.keywords.not\np if not\n{ q; not { {1} } } # }\nr if { not s }",
            Some("import future.keywords.not\np if \n[true | q; [true | {1} ] == [] ] == [] # }\nr if { not s }"),
        );
    }

    #[test]
    fn template_strings_become_calls() {
        let check = |text: &str, expect: Option<&str>| assert_eq!(templates(text).as_deref(), expect, "{text}");
        check("x := \"a\"", None);
        check(
            r#"x := $"a {y} \{b""#,
            Some(r#"x := internal.template_string(["a ", {__weir_t1 | __weir_t1 := y}, " {b"])"#),
        );
        check(
            r#"$"{$"{"}"}"}""#,
            Some(
                r#"internal.template_string(["", {__weir_t1 | __weir_t1 := internal.template_string(["", {__weir_t2 | __weir_t2 := "}"}, ""])}, ""])"#,
            ),
        );
        check(
            "$`a\n{1}`",
            Some("internal.template_string([`a\n`, {__weir_t1 | __weir_t1 := 1}, ``])"),
        );
        for malformed in ["$\"a", "$\"{a\"", "$`{", "$\"a\nb\""] {
            check(malformed, None);
        }
        let deep = format!("{}1{}", "$\"{".repeat(20), "}\"".repeat(20));
        check(&deep, None);
    }

    #[test]
    fn keywords_are_names() {
        let check = |text: &str, expect: Option<&str>| {
            assert_eq!(keywords(text).map(|renamed| renamed.text).as_deref(), expect, "{text}");
        };
        check(
            "p if input.if.x == data.a.not",
            Some("p if input[\"if\"].x == data.a[\"not\"]"),
        );
        check("x := \"a.if\" # b.if", None);
        check("a.b. if", None);
        check("p if x in[1]", None);
        check(
            "default as.f(_) := 1\np if as.f(1) == a.not.f(input.if)",
            Some("default __weir_k_as.f(_) := 1\np if __weir_k_as.f(1) == a.not.f(input[\"if\"])"),
        );
        check(
            "package a.b\ndefault as.x := 1\np if as.x == data.a.b.as.x; data.c.as.x",
            Some(
                "package a.b\ndefault __weir_k_as.x := 1\np if __weir_k_as.x == data.a.b.__weir_k_as.x; data.c[\"as\"].x",
            ),
        );
    }
}
