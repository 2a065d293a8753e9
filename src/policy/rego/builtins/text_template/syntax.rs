//! How a template is read: text and actions, the tokens of an action, and what lies within which action.
//!
//! A malformed template has no form, and the result is undefined.

use regorus::Value;

use super::MAX_DEPTH;

/// Text as it stands, or what is between the braces.
pub(super) enum Piece<'a> {
    Text(&'a str),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `.`, `.a`, `.a.b`: the names.
    Field(Vec<String>),
    /// `$x` and fields of it.
    Variable(String, Vec<String>),
    Word(String),
    Literal(Value),
    Symbol(&'static str),
}

pub(super) enum Node<'a> {
    Text(&'a str),
    Print(Vec<Token>),
    /// Branches with their conditions, and what is done when none holds.
    If(Vec<(Vec<Token>, Vec<Node<'a>>)>, Vec<Node<'a>>),
    Range(Vec<Token>, Vec<Node<'a>>, Vec<Node<'a>>),
    With(Vec<Token>, Vec<Node<'a>>, Vec<Node<'a>>),
    Break,
    Continue,
}

pub(super) fn pieces(template: &str) -> Option<Vec<Piece<'_>>> {
    let (mut found, mut rest, mut trim) = (Vec::new(), template, false);
    while let Some(start) = rest.find("{{") {
        let (mut before, behind) = (rest.get(..start)?, rest.get(start + 2..)?);
        if trim {
            before = before.trim_start();
        }
        let left = behind.starts_with('-') && behind.get(1..)?.starts_with(char::is_whitespace);
        if left {
            before = before.trim_end();
        }
        let inner = if left { behind.get(1..)? } else { behind };
        found.push(Piece::Text(before));
        if inner.trim_start().starts_with("/*") {
            let end = inner.find("*/")?;
            let tail = inner.get(end + 2..)?.trim_start();
            trim = tail.starts_with('-');
            rest = tail.trim_start_matches('-').strip_prefix("}}")?;
            continue;
        }
        let (tokens, tail, right) = tokens(inner)?;
        found.push(Piece::Action(tokens));
        (rest, trim) = (tail, right);
    }
    found.push(Piece::Text(if trim { rest.trim_start() } else { rest }));
    Some(found)
}

/// The tokens of an action, what follows it, and whether white space there is trimmed.
fn tokens(text: &str) -> Option<(Vec<Token>, &str, bool)> {
    let mut found = Vec::new();
    let mut rest = text;
    loop {
        let spaced = rest.starts_with(char::is_whitespace);
        rest = rest.trim_start();
        if let Some(tail) = rest.strip_prefix("}}") {
            return Some((found, tail, false));
        }
        if let Some(tail) = rest.strip_prefix("-}}").filter(|_| spaced) {
            return Some((found, tail, true));
        }
        let first = rest.chars().next()?;
        let symbol = [":=", "=", "|", "(", ")", ","]
            .into_iter()
            .find(|symbol| rest.starts_with(symbol));
        if let Some(symbol) = symbol {
            found.push(Token::Symbol(symbol));
            rest = rest.get(symbol.len()..)?;
        } else if first == '"' {
            let mut escaped = false;
            let end = rest.char_indices().skip(1).find(|(_, c)| {
                let done = *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                done
            })?;
            let (literal, tail) = rest.split_at(end.0 + 1);
            found.push(Token::Literal(Value::from_json_str(literal).ok()?));
            rest = tail;
        } else if first == '`' {
            let (literal, tail) = rest.get(1..)?.split_once('`')?;
            found.push(Token::Literal(Value::from(literal)));
            rest = tail;
        } else if first.is_ascii_digit() || (first == '-' && rest.get(1..)?.starts_with(|c: char| c.is_ascii_digit())) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '.' && c != '-');
            let (literal, tail) = rest.split_at(end.unwrap_or(rest.len()));
            found.push(Token::Literal(Value::from_numeric_string(literal).ok()?));
            rest = tail;
        } else if first == '.' || first == '$' || first.is_alphabetic() || first == '_' {
            let end = rest
                .char_indices()
                .skip(1)
                .find(|(_, c)| !c.is_alphanumeric() && !matches!(c, '_' | '.'));
            let (word, tail) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
            let names = |word: &str| {
                let names = word.split('.').skip(1).filter(|name| !name.is_empty());
                names.map(str::to_owned).collect::<Vec<_>>()
            };
            found.push(match first {
                '.' => Token::Field(names(word)),
                '$' => Token::Variable(word.split('.').next()?.to_owned(), names(word)),
                _ => match word {
                    "true" => Token::Literal(Value::from(true)),
                    "false" => Token::Literal(Value::from(false)),
                    "nil" => Token::Literal(Value::Null),
                    other => Token::Word(other.to_owned()),
                },
            });
            rest = tail;
        } else {
            return None;
        }
    }
}

/// Nodes up to the end of the block, and the action that ended it.
#[allow(clippy::type_complexity)]
pub(super) fn parse<'a>(
    pieces: &'a [Piece<'a>],
    at: &mut usize,
    depth: usize,
) -> Option<(Vec<Node<'a>>, Option<&'a [Token]>)> {
    if depth > MAX_DEPTH {
        return None;
    }
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.get(*at) {
        *at += 1;
        let tokens = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(tokens) => tokens.as_slice(),
        };
        let Some(Token::Word(word)) = tokens.first() else {
            nodes.push(Node::Print(tokens.to_vec()));
            continue;
        };
        let rest = tokens.get(1..).unwrap_or_default();
        match word.as_str() {
            "end" | "else" => return Some((nodes, Some(tokens))),
            "break" => nodes.push(Node::Break),
            "continue" => nodes.push(Node::Continue),
            "if" => {
                let (mut branches, mut condition, mut otherwise) = (Vec::new(), rest.to_vec(), Vec::new());
                loop {
                    let (body, end) = parse(pieces, at, depth + 1)?;
                    branches.push((condition, body));
                    let end = end?;
                    match end {
                        [Token::Word(_), Token::Word(word), rest @ ..] if word == "if" => condition = rest.to_vec(),
                        [Token::Word(word)] if word == "else" => {
                            let (body, end) = parse(pieces, at, depth + 1)?;
                            is_end(end?)?;
                            otherwise = body;
                            break;
                        }
                        end => {
                            is_end(end)?;
                            break;
                        }
                    }
                }
                nodes.push(Node::If(branches, otherwise));
            }
            "range" | "with" => {
                let (body, end) = parse(pieces, at, depth + 1)?;
                let mut otherwise = Vec::new();
                let end = end?;
                if matches!(end, [Token::Word(word)] if word == "else") {
                    let (body, end) = parse(pieces, at, depth + 1)?;
                    is_end(end?)?;
                    otherwise = body;
                } else {
                    is_end(end)?;
                }
                nodes.push(if word == "range" {
                    Node::Range(rest.to_vec(), body, otherwise)
                } else {
                    Node::With(rest.to_vec(), body, otherwise)
                });
            }
            "define" | "template" | "block" => return None,
            _ => nodes.push(Node::Print(tokens.to_vec())),
        }
    }
    Some((nodes, None))
}

fn is_end(tokens: &[Token]) -> Option<()> {
    matches!(tokens, [Token::Word(word)] if word == "end").then_some(())
}

/// Variables that an action sets, whether it declares them, and the pipeline.
pub(super) fn assignment(tokens: &[Token]) -> (Vec<String>, bool, &[Token]) {
    let sets = |token: &Token| matches!(token, Token::Symbol(":=" | "="));
    let Some(at) = tokens.iter().position(sets) else {
        return (Vec::new(), false, tokens);
    };
    let (names, rest) = tokens.split_at(at);
    let names = names.iter().filter_map(|token| match token {
        Token::Variable(name, fields) if fields.is_empty() => Some(name.clone()),
        _ => None,
    });
    let declares = rest.first() == Some(&Token::Symbol(":="));
    (names.collect(), declares, rest.get(1..).unwrap_or_default())
}
