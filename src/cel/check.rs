//! Parses expressions and refuses what could not be evaluated.
//!
//! Guarantees: text and nesting are bounded; every variable and function that an expression names exists; what the
//! evaluator does not know (messages of protocol buffers) is refused here; what becomes part of something larger is marked for
//! `bounds`. `variables.name` becomes one variable.

use std::collections::HashSet;

use kube_cel::cel::Context;
use kube_cel::cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};
use kube_cel::cel::parser::{Expression, Parser};

use super::bounds::{GUARDED, KEPT};
use super::code::exists;

/// Longest expression. The longest in Gatekeeper's library has 600 bytes; the parser's time grows with the text.
const MAX_BYTES: usize = 16 << 10;
/// Deepest nesting, half of the parser's own default: each level takes several frames of the stack.
const MAX_DEPTH: u16 = 48;

/// What expressions may name.
pub(crate) struct Names {
    /// Everything when there is none.
    given: Option<HashSet<String>>,
    variables: HashSet<String>,
}

impl Names {
    pub(crate) fn new(given: &[&str], variables: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Self {
            given: Some(owned(given)),
            variables: owned(variables),
        }
    }

    /// Whatever it likes: what is there shows when it is asked.
    pub(crate) fn any() -> Self {
        Self {
            given: None,
            variables: HashSet::new(),
        }
    }

    /// From here on there is another variable.
    pub(crate) fn add(&mut self, variable: &str) {
        self.variables.insert(variable.to_owned());
    }
}

/// What `variables.name` is called within.
pub(crate) fn variable(name: &str) -> String {
    format!("variables.{name}")
}

/// Parses and checks one expression.
pub(crate) fn parse(text: &str, names: &Names, functions: &Context<'_>) -> Result<Expression, String> {
    if text.trim().is_empty() {
        return Err("is missing".to_owned());
    }
    if text.len() > MAX_BYTES {
        return Err(format!(
            "has {} bytes, more than {MAX_BYTES}; use variables",
            text.len()
        ));
    }
    let mut expression = Parser::new()
        .max_recursion_depth(MAX_DEPTH)
        .enable_optional_syntax(true)
        .parse(text)
        .map_err(|errors| syntax(&errors))?;
    let mut walk = Walk {
        names,
        functions,
        bound: Vec::new(),
        gathering: Vec::new(),
    };
    walk.expression(&mut expression)?;
    Ok(expression)
}

/// The first syntax error, with its position.
fn syntax(errors: &kube_cel::cel::ParseErrors) -> String {
    errors.errors.first().map_or_else(
        || "cannot be parsed".to_owned(),
        |error| format!("line {}, column {}: {}", error.pos.0, error.pos.1, error.msg),
    )
}

struct Walk<'a> {
    names: &'a Names,
    functions: &'a Context<'a>,
    /// Variables of the loops around.
    bound: Vec<String>,
    /// Those of them in which a loop gathers its result.
    gathering: Vec<String>,
}

impl Walk<'_> {
    fn expression(&mut self, expression: &mut IdedExpr) -> Result<(), String> {
        let id = expression.id;
        match &mut expression.expr {
            Expr::Unspecified => return Err("has an empty part".to_owned()),
            Expr::Struct(message) => {
                return Err(format!("messages such as {} cannot be made here", message.type_name));
            }
            Expr::Literal(_) => {}
            Expr::Ident(name) => self.known(name)?,
            Expr::Select(select) => {
                if let Expr::Ident(name) = &select.operand.expr
                    && name == "variables"
                    && self.names.given.is_some()
                    && !self.bound.contains(name)
                {
                    if !self.names.variables.contains(&select.field) {
                        return Err(format!("there is no variable {:?} before this one", select.field));
                    }
                    let whole = Expr::Ident(variable(&select.field));
                    expression.expr = if select.test {
                        Expr::Literal(LiteralValue::Boolean(true.into()))
                    } else {
                        whole
                    };
                    return Ok(());
                }
                self.expression(&mut select.operand)?;
                if !select.test && is_optional(&select.operand) {
                    let operand = std::mem::take(&mut *select.operand);
                    let index = optional_index(id, operand, &select.field);
                    expression.expr = index;
                }
            }
            Expr::List(list) => {
                for element in &mut list.elements {
                    self.expression(element)?;
                    self.guard(KEPT, element);
                }
            }
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    match &mut entry.expr {
                        EntryExpr::MapEntry(entry) => {
                            self.expression(&mut entry.key)?;
                            self.expression(&mut entry.value)?;
                            self.guard(KEPT, &mut entry.value);
                        }
                        EntryExpr::StructField(field) => self.expression(&mut field.value)?,
                    }
                }
            }
            Expr::Call(call) => self.call(call)?,
            Expr::Comprehension(each) => {
                self.expression(&mut each.iter_range)?;
                self.expression(&mut each.accu_init)?;
                let outside = self.bound.len();
                self.gathering.push(each.accu_var.clone());
                self.bound.push(each.accu_var.clone());
                self.bound.push(each.iter_var.clone());
                self.bound.extend(each.iter_var2.clone());
                for part in [&mut each.loop_cond, &mut each.loop_step, &mut each.result] {
                    self.expression(part)?;
                }
                self.bound.truncate(outside);
                self.gathering.pop();
            }
        }
        Ok(())
    }

    fn known(&self, name: &str) -> Result<(), String> {
        let known = self.bound.iter().any(|bound| bound == name)
            || self.names.given.as_ref().is_none_or(|given| given.contains(name));
        let types = [
            "bool",
            "bytes",
            "double",
            "int",
            "list",
            "map",
            "null_type",
            "string",
            "type",
            "uint",
        ];
        if known || types.contains(&name) {
            Ok(())
        } else {
            Err(format!("there is no variable {name:?}"))
        }
    }

    fn call(&mut self, call: &mut CallExpr) -> Result<(), String> {
        let named = call.func_name.starts_with(char::is_alphabetic);
        let mut qualified = false;
        if named {
            if let Some(Expr::Ident(prefix)) = call.target.as_ref().map(|target| &target.expr) {
                qualified = exists(self.functions, &format!("{prefix}.{}", call.func_name));
            }
            if !qualified && !exists(self.functions, &call.func_name) {
                return Err(format!("there is no function {:?}", call.func_name));
            }
        }
        if let Some(target) = call.target.as_mut().filter(|_| !qualified) {
            self.expression(target)?;
        }
        for argument in &mut call.args {
            self.expression(argument)?;
        }
        self.guards(call, qualified);
        // The evaluator takes a field that is missing for an error in `a.?b`, but not in `a[?'b']`, which is the same.
        if call.func_name == operators::OPT_SELECT {
            operators::OPT_INDEX.clone_into(&mut call.func_name);
        }
        Ok(())
    }

    /// Guards what a call makes much of.
    fn guards(&self, call: &mut CallExpr, qualified: bool) {
        if call.func_name == operators::ADD {
            for operand in &mut call.args {
                self.guard(KEPT, operand);
            }
            return;
        }
        let name = match call.target.as_ref().map(|target| &target.expr) {
            Some(Expr::Ident(prefix)) if qualified => format!("{prefix}.{}", call.func_name),
            _ => call.func_name.clone(),
        };
        let Some((_, with)) = GUARDED.iter().find(|(known, _)| *known == name) else {
            return;
        };
        match call.target.as_mut().filter(|_| !qualified) {
            Some(target) => self.guard(with, target),
            None => call.args.iter_mut().for_each(|argument| self.guard(with, argument)),
        }
    }

    /// Puts a call around an expression, but for literals, and for what a loop has gathered: that was counted when it was added.
    fn guard(&self, with: &str, expression: &mut IdedExpr) {
        let free = match &expression.expr {
            Expr::Literal(_) => with == KEPT,
            Expr::Ident(name) => self.gathering.contains(name),
            // What is in the list that a loop adds was counted already.
            Expr::List(list) => list.elements.len() <= 1,
            _ => false,
        };
        if free {
            return;
        }
        let id = expression.id;
        let argument = std::mem::replace(
            expression,
            IdedExpr {
                id,
                expr: Expr::Unspecified,
            },
        );
        expression.expr = Expr::Call(CallExpr {
            func_name: with.to_owned(),
            target: None,
            args: vec![argument],
        });
    }
}

/// Whether a value may be absent; selecting from it then gives what may be absent again.
fn is_optional(expression: &IdedExpr) -> bool {
    matches!(&expression.expr, Expr::Call(call) if call.func_name == operators::OPT_INDEX)
}

/// The whole path that some `has(…)` of an expression looks for by way of a field: `data.foo.bar` for `foo`.
pub(super) fn looked_for(expression: &IdedExpr, field: &str) -> Option<String> {
    let within = |parts: Vec<&IdedExpr>| parts.into_iter().find_map(|part| looked_for(part, field));
    match &expression.expr {
        Expr::Select(select) if select.test => {
            let (path, passes) = path(&select.operand)?;
            let passed = passes.contains(&field);
            passed.then(|| format!("{path}.{}", select.field))
        }
        Expr::Select(select) => looked_for(&select.operand, field),
        Expr::Call(call) => within(call.target.as_deref().into_iter().chain(&call.args).collect()),
        Expr::List(list) => within(list.elements.iter().collect()),
        Expr::Comprehension(each) => within(vec![
            &each.iter_range,
            &each.accu_init,
            &each.loop_cond,
            &each.loop_step,
            &each.result,
        ]),
        _ => None,
    }
}

/// `a.b.c` as it is written, and the fields on the way.
fn path(expression: &IdedExpr) -> Option<(String, Vec<&str>)> {
    match &expression.expr {
        Expr::Ident(name) => Some((name.clone(), Vec::new())),
        Expr::Select(select) => {
            let (before, mut fields) = path(&select.operand)?;
            fields.push(&select.field);
            Some((format!("{before}.{}", select.field), fields))
        }
        _ => None,
    }
}

/// `operand[?'field']`.
fn optional_index(id: u64, operand: IdedExpr, field: &str) -> Expr {
    let field = Expr::Literal(LiteralValue::String(field.into()));
    Expr::Call(CallExpr {
        func_name: operators::OPT_INDEX.to_owned(),
        target: None,
        args: vec![operand, IdedExpr { id, expr: field }],
    })
}
