//! `strings.render_template`: the part of Go's `text/template` that texts are made with.
//!
//! Known are fields and variables, `if`, `else if`, `else`, `range` over arrays, objects and numbers, `with`, assignments,
//! pipelines, comments, trimmed white space, and the functions `and or not eq ne lt le gt ge len index print printf println
//! slice`. Anything else (templates of templates, methods) makes the result undefined, as a malformed template does.

mod functions;
mod syntax;

use regorus::Value;

use super::{meter, text};
use functions::{function, items, shown, truth};
use syntax::{Node, Token, assignment, parse, pieces};

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

/// How a list of nodes ended.
#[derive(PartialEq, Eq)]
enum Flow {
    On,
    Break,
    Continue,
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
