//! `strings.render_template`: the part of Go's `text/template` that texts are made with.
//!
//! Known are fields and variables, `if`, `else if`, `else`, `range` over arrays, objects and numbers, `with`, assignments,
//! pipelines, comments, trimmed white space, and the functions `and or not eq ne lt le gt ge len index print printf println
//! slice`. Anything else (templates of templates, methods) makes the result undefined, as a malformed template does.

use std::cmp::Ordering;

use regorus::Value;

use super::super::sprintf::{rego_text, sprintf};
use super::{meter, text};

/// Deepest nesting of actions and parentheses.
const MAX_DEPTH: usize = 64;

pub(super) fn render(args: &[Value]) -> Option<Value> {
    let (template, variables) = (text(args, 0)?, args.get(1)?);
    variables.as_object().ok()?;
    let pieces = pieces(template)?;
    let mut at = 0;
    let (nodes, end) = parse(&pieces, &mut at, 0)?;
    if end.is_some() {
        return None;
    }
    let mut run = Run {
        out: String::new(),
        scope: vec![("$".to_owned(), Some(variables.clone()))],
    };
    run.all(&nodes, &Some(variables.clone()))?;
    Some(Value::from(run.out))
}

/// Text as it stands, or what is between the braces.
enum Piece<'a> {
    Text(&'a str),
    Action(Vec<Token>),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    /// `.`, `.a`, `.a.b`: the names.
    Field(Vec<String>),
    /// `$x` and fields of it.
    Variable(String, Vec<String>),
    Word(String),
    Literal(Value),
    Symbol(&'static str),
}

enum Node<'a> {
    Text(&'a str),
    Print(Vec<Token>),
    /// Branches with their conditions, and what is done when none holds.
    If(Vec<(Vec<Token>, Vec<Node<'a>>)>, Vec<Node<'a>>),
    Range(Vec<Token>, Vec<Node<'a>>, Vec<Node<'a>>),
    With(Vec<Token>, Vec<Node<'a>>, Vec<Node<'a>>),
    Break,
    Continue,
}

/// How a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
}

fn pieces(template: &str) -> Option<Vec<Piece<'_>>> {
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
fn parse<'a>(pieces: &'a [Piece<'a>], at: &mut usize, depth: usize) -> Option<(Vec<Node<'a>>, Option<&'a [Token]>)> {
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

/// A value, or none where a name leads nowhere.
type Maybe = Option<Value>;

struct Run {
    out: String,
    scope: Vec<(String, Maybe)>,
}

impl Run {
    fn all(&mut self, nodes: &[Node<'_>], dot: &Maybe) -> Option<Flow> {
        let scope = self.scope.len();
        let mut flow = Flow::On;
        for node in nodes {
            meter::in_time()?;
            flow = self.one(node, dot)?;
            if flow != Flow::On {
                break;
            }
        }
        self.scope.truncate(scope);
        Some(flow)
    }

    fn one(&mut self, node: &Node<'_>, dot: &Maybe) -> Option<Flow> {
        match node {
            Node::Text(text) => self.write(text)?,
            Node::Break => return Some(Flow::Break),
            Node::Continue => return Some(Flow::Continue),
            Node::Print(tokens) => {
                let (names, declares, pipeline) = assignment(tokens);
                let value = self.pipeline(pipeline, dot)?;
                match names.as_slice() {
                    [] => {
                        let shown = shown(&value);
                        self.write(&shown)?;
                    }
                    [name] => self.assign(name, declares, value)?,
                    _ => return None,
                }
            }
            Node::If(branches, otherwise) => {
                for (condition, body) in branches {
                    let scope = self.scope.len();
                    let value = self.condition(condition, dot)?;
                    if truth(&value) {
                        let flow = self.all(body, dot)?;
                        self.scope.truncate(scope);
                        return Some(flow);
                    }
                }
                return self.all(otherwise, dot);
            }
            Node::With(condition, body, otherwise) => {
                let scope = self.scope.len();
                let value = self.condition(condition, dot)?;
                let flow = if truth(&value) {
                    self.all(body, &value)?
                } else {
                    self.all(otherwise, dot)?
                };
                self.scope.truncate(scope);
                return Some(flow);
            }
            Node::Range(tokens, body, otherwise) => {
                let (names, declares, pipeline) = assignment(tokens);
                let items = items(&self.pipeline(pipeline, dot)?)?;
                if items.is_empty() {
                    return self.all(otherwise, dot);
                }
                let scope = self.scope.len();
                for (key, value) in items {
                    match names.as_slice() {
                        [] => {}
                        [name] => self.assign(name, declares, Some(value.clone()))?,
                        [first, second] => {
                            self.assign(first, declares, Some(key))?;
                            self.assign(second, declares, Some(value.clone()))?;
                        }
                        _ => return None,
                    }
                    let flow = self.all(body, &Some(value))?;
                    self.scope.truncate(scope);
                    if flow == Flow::Break {
                        break;
                    }
                }
            }
        }
        Some(Flow::On)
    }

    /// The value of a condition, which may declare a variable.
    fn condition(&mut self, tokens: &[Token], dot: &Maybe) -> Option<Maybe> {
        let (names, declares, pipeline) = assignment(tokens);
        let value = self.pipeline(pipeline, dot)?;
        match names.as_slice() {
            [] => {}
            [name] => self.assign(name, declares, value.clone())?,
            _ => return None,
        }
        Some(value)
    }

    fn write(&mut self, text: &str) -> Option<()> {
        meter::charge("strings.render_template", text.len())?;
        self.out.push_str(text);
        Some(())
    }

    fn assign(&mut self, name: &str, declares: bool, value: Maybe) -> Option<()> {
        if declares {
            self.scope.push((name.to_owned(), value));
        } else {
            self.scope.iter_mut().rev().find(|(known, _)| known == name)?.1 = value;
        }
        Some(())
    }

    /// Commands joined by `|`: each is given the value of the one before as its last argument.
    fn pipeline(&self, tokens: &[Token], dot: &Maybe) -> Option<Maybe> {
        let mut depth = 0_usize;
        let mut commands: Vec<Vec<Token>> = vec![Vec::new()];
        for token in tokens {
            match token {
                Token::Symbol("(") => depth += 1,
                Token::Symbol(")") => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth > MAX_DEPTH {
                return None;
            }
            if depth == 0 && *token == Token::Symbol("|") {
                commands.push(Vec::new());
            } else {
                commands.last_mut()?.push(token.clone());
            }
        }
        let mut value: Option<Maybe> = None;
        for command in commands {
            value = Some(self.command(&command, value, dot)?);
        }
        value
    }

    fn command(&self, tokens: &[Token], last: Option<Maybe>, dot: &Maybe) -> Option<Maybe> {
        if let Some(Token::Word(name)) = tokens.first() {
            let mut arguments = self.operands(tokens.get(1..)?, dot)?;
            arguments.extend(last);
            return function(name, &arguments);
        }
        let mut operands = self.operands(tokens, dot)?;
        // A value takes no arguments.
        let one = operands.pop()?;
        (operands.is_empty() && last.is_none()).then_some(one)
    }

    fn operands(&self, tokens: &[Token], dot: &Maybe) -> Option<Vec<Maybe>> {
        let (mut found, mut at) = (Vec::new(), 0);
        while let Some(token) = tokens.get(at) {
            at += 1;
            found.push(match token {
                Token::Field(names) => walk(dot.clone(), names)?,
                Token::Variable(name, names) => {
                    let (_, value) = self.scope.iter().rev().find(|(known, _)| known == name)?;
                    walk(value.clone(), names)?
                }
                Token::Literal(value) => Some(value.clone()),
                Token::Word(name) => function(name, &[])?,
                Token::Symbol("(") => {
                    let (start, mut depth) = (at, 1_usize);
                    while depth > 0 {
                        match tokens.get(at)? {
                            Token::Symbol("(") => depth += 1,
                            Token::Symbol(")") => depth -= 1,
                            _ => {}
                        }
                        at += 1;
                    }
                    self.pipeline(tokens.get(start..at - 1)?, dot)?
                }
                Token::Symbol(_) => return None,
            });
        }
        Some(found)
    }
}

/// Variables that an action sets, whether it declares them, and the pipeline.
fn assignment(tokens: &[Token]) -> (Vec<String>, bool, &[Token]) {
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

/// A field of a field; a missing key is no value, a field of something else an error.
fn walk(mut value: Maybe, names: &[String]) -> Option<Maybe> {
    for name in names {
        let Some(Value::Object(fields)) = &value else {
            return None;
        };
        value = fields.get(&Value::from(name.as_str())).cloned();
    }
    Some(value)
}

fn items(value: &Maybe) -> Option<Vec<(Value, Value)>> {
    match value {
        None | Some(Value::Null) => Some(Vec::new()),
        Some(Value::Array(items)) => {
            let items = items.iter().enumerate();
            Some(items.map(|(index, item)| (Value::from(index), item.clone())).collect())
        }
        Some(Value::Set(items)) => {
            let items = items.iter_sorted().enumerate();
            Some(items.map(|(index, item)| (Value::from(index), item.clone())).collect())
        }
        Some(Value::Object(fields)) => Some(
            fields
                .iter_sorted()
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect(),
        ),
        Some(_) => None,
    }
}

fn truth(value: &Maybe) -> bool {
    match value {
        None | Some(Value::Null | Value::Undefined) => false,
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_f64() != Some(0.0),
        Some(Value::String(text)) => !text.is_empty(),
        Some(Value::Array(items)) => !items.is_empty(),
        Some(Value::Set(items)) => !items.is_empty(),
        Some(Value::Object(fields)) => !fields.is_empty(),
    }
}

/// A value as Go prints it.
fn shown(value: &Maybe) -> String {
    match value {
        None => "<undefined>".to_owned(),
        Some(value) => inner(value),
    }
}

fn inner(value: &Value) -> String {
    let join = |items: Vec<String>| items.join(" ");
    match value {
        Value::Null | Value::Undefined => "<undefined>".to_owned(),
        Value::String(text) => text.to_string(),
        Value::Array(items) => format!("[{}]", join(items.iter().map(inner).collect())),
        Value::Set(items) => format!("[{}]", join(items.iter_sorted().map(inner).collect())),
        Value::Object(fields) => {
            let fields = fields.iter_sorted();
            let fields = fields.map(|(key, value)| format!("{}:{}", inner(key), inner(value)));
            format!("map[{}]", join(fields.collect()))
        }
        other => rego_text(other),
    }
}

fn function(name: &str, arguments: &[Maybe]) -> Option<Maybe> {
    let at = |index: usize| arguments.get(index).cloned().flatten();
    let order = || {
        let (left, right) = (at(0)?, at(1)?);
        let alike = std::mem::discriminant(&left) == std::mem::discriminant(&right);
        alike.then(|| left.cmp(&right))
    };
    let boolean = |value: bool| Some(Some(Value::from(value)));
    match name {
        "and" | "or" => {
            let decides = |value: &&Maybe| truth(value) == (name == "or");
            let found = arguments.iter().find(decides).or(arguments.last())?;
            Some(found.clone())
        }
        "not" => boolean(!truth(arguments.first()?)),
        "eq" => {
            let first = at(0)?;
            boolean(arguments.iter().skip(1).flatten().any(|other| *other == first))
        }
        "ne" => boolean(order()? != Ordering::Equal),
        "lt" => boolean(order()? == Ordering::Less),
        "le" => boolean(order()? != Ordering::Greater),
        "gt" => boolean(order()? == Ordering::Greater),
        "ge" => boolean(order()? != Ordering::Less),
        "len" => {
            let length = match at(0)? {
                Value::String(text) => text.len(),
                Value::Array(items) => items.len(),
                Value::Set(items) => items.len(),
                Value::Object(fields) => fields.len(),
                _ => return None,
            };
            Some(Some(Value::from(length)))
        }
        "index" => {
            let mut value = at(0)?;
            for key in arguments.iter().skip(1) {
                let key = key.clone()?;
                value = match &value {
                    Value::Array(items) => items.get(usize::try_from(key.as_i64().ok()?).ok()?)?.clone(),
                    Value::Object(fields) => match fields.get(&key) {
                        Some(value) => value.clone(),
                        None => return Some(None),
                    },
                    _ => return None,
                };
            }
            Some(Some(value))
        }
        "print" => Some(Some(Value::from(
            arguments.iter().map(shown).collect::<Vec<_>>().concat(),
        ))),
        "println" => Some(Some(Value::from(
            arguments.iter().map(shown).collect::<Vec<_>>().join(" ") + "\n",
        ))),
        "printf" => {
            let format = at(0)?;
            let rest: Vec<Value> = arguments.iter().skip(1).flatten().cloned().collect();
            Some(Some(Value::from(sprintf(format.as_string().ok()?, &rest))))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, variables: &str, expect: Option<&str>) {
        let found = render(&[Value::from(template), Value::from_json_str(variables).unwrap()]);
        assert_eq!(found, expect.map(Value::from), "{template}");
    }

    // Each of these is what OPA 1.17.1 answers.
    #[test]
    fn templates_render_as_in_go() {
        check("{{.a}} and {{.b.c}}", r#"{"a": 1, "b": {"c": "x"}}"#, Some("1 and x"));
        check("{{.missing}}", "{}", Some("<undefined>"));
        check(
            "{{if .a}}yes{{else if .b}}b{{else}}no{{end}}",
            r#"{"b": true}"#,
            Some("b"),
        );
        check(
            "{{range $i, $v := .l}}{{if $i}},{{end}}{{$v}}{{end}}",
            r#"{"l": ["x", "y"]}"#,
            Some("x,y"),
        );
        check("{{range .l}}{{.}}{{else}}none{{end}}", r#"{"l": []}"#, Some("none"));
        check("a {{- .x -}} b", r#"{"x": 1}"#, Some("a1b"));
        check("{{with .a}}{{.b}}{{end}}", r#"{"a": {"b": 2}}"#, Some("2"));
        check("{{$x := .a}}{{$x}}{{/* why */}}", r#"{"a": "q"}"#, Some("q"));
        check(
            "{{printf \"%s-%d\" .a (len .l)}}",
            r#"{"a": "q", "l": [1, 2]}"#,
            Some("q-2"),
        );
        check(
            "{{.l}} {{.o}}",
            r#"{"l": [1, 2], "o": {"k": "v"}}"#,
            Some("[1 2] map[k:v]"),
        );
        check("{{if and (eq .a 1) (not .b)}}ok{{end}}", r#"{"a": 1}"#, Some("ok"));
        check("{{.a | print | len}}", r#"{"a": "abc"}"#, Some("3"));
    }

    #[test]
    fn malformed_templates_are_undefined() {
        for template in [
            "{{",
            "{{if .a}}",
            "{{end}}",
            "{{.a.b.c}}",
            "{{nope .a}}",
            "{{template \"x\"}}",
            "{{(}}",
        ] {
            check(template, r#"{"a": {"b": 1}}"#, None);
        }
    }
}
