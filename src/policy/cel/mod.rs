//! Templates in CEL (`K8sNativeValidation`), as Gatekeeper and Kubernetes' own admission policies have them.
//!
//! Flow: [`Program::compile`] parses and checks every expression; [`Program::violations`] computes the variables in their
//! order, asks the match conditions, and says which validations do not hold.
//!
//! Guarantees: an expression names only variables and functions that exist, or it does not load; an evaluation ends within
//! its deadline (every step of every loop looks at it, see `crate::cel`); an error denies unless the template says
//! `failurePolicy: Ignore`; a variable that cannot be computed matters only where it is used.

use std::collections::HashMap;
use std::sync::Arc;

use kube_cel::cel::parser::Expression;
use kube_cel::cel::{Context, ExecutionError, Value};
use serde_json::Value as Json;

use super::rego::program::Deadline;
use super::rego::{EngineError, fenced};
use super::review::Review;
use super::source::Problem;
use crate::cel::{END, FUNCTIONS, Names, bounds, from_json, parse as checked, variable as named, without_fields};

/// The engine's name in a template.
pub(crate) const ENGINE: &str = "K8sNativeValidation";

/// Variables that every expression may use.
const GIVEN: [&str; 4] = ["object", "oldObject", "request", "namespaceObject"];
/// What the template's own variables may use besides: the whole constraint.
const CONSTRAINT: &str = "params";
/// Parts of a request that have variables of their own.
const OBJECTS: [&str; 3] = ["object", "oldObject", "namespaceObject"];
/// What `variables` holds before the template adds to it.
const GIVEN_VARIABLES: [&str; 2] = ["anyObject", "params"];
/// What no name of a template's variable or condition may begin with.
const RESERVED: &str = "gatekeeper_internal_";
/// What is wrong with an expression that is neither true nor false.
const NOT_BOOLEAN: &str = "it must evaluate to bool";
/// Longest message that an expression may compute, as in Kubernetes; a longer one does not count.
const MAX_MESSAGE: usize = 5 << 10;

/// A compiled template.
pub(crate) struct Program {
    conditions: Vec<(String, Expression)>,
    variables: Vec<(String, Expression)>,
    validations: Vec<Validation>,
    /// Whether what cannot be evaluated passes.
    ignores_failures: bool,
}

struct Validation {
    text: String,
    expression: Expression,
    message: Option<String>,
    message_expression: Option<Expression>,
}

/// A request as every template in CEL sees it: converted once, asked by each.
#[derive(Clone)]
pub(crate) struct Documents(Arc<Context<'static>>);

impl std::fmt::Debug for Documents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Documents")
    }
}

impl Documents {
    /// Converts a review. A deleted object is the old one only, as for Kubernetes' own policies; `anyObject` is either.
    pub(crate) fn of(review: &Review) -> Self {
        let value = |document: Option<&Json>| document.map_or(Value::Null, from_json);
        let (object, old) = (value(review.object()), value(review.old_object()));
        let mut context = FUNCTIONS.new_inner_scope();
        context.add_variable_from_value(named("anyObject"), object.clone());
        let object = if review.is_deletion() { Value::Null } else { object };
        context.add_variable_from_value("object", object);
        context.add_variable_from_value("oldObject", old);
        context.add_variable_from_value("request", without_fields(review.request(), &OBJECTS));
        context.add_variable_from_value("namespaceObject", value(review.namespace_object()));
        Self(Arc::new(context))
    }
}

impl Program {
    /// Reads the `source` of a template's code.
    pub(crate) fn compile(origin: &str, source: &Json) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let given: Vec<&str> = GIVEN.into_iter().chain([CONSTRAINT]).collect();
        let (mut names, mut within) = (
            Names::new(&GIVEN, &GIVEN_VARIABLES),
            Names::new(&given, &GIVEN_VARIABLES),
        );
        let mut parse = |place: String, text: &str, names: &Names| match checked(text, names, &FUNCTIONS) {
            Ok(expression) => Some(expression),
            Err(message) => {
                problems.push(Problem::new(origin, format!("{place}: {message}")));
                None
            }
        };
        let mut variables = Vec::new();
        for (index, entry) in list(source, "variables").enumerate() {
            let name = text(entry, "name").unwrap_or_default().to_owned();
            let expression = text(entry, "expression").unwrap_or_default();
            let parsed = parse(format!("variables[{index}].expression"), expression, &within);
            names.add(&name);
            within.add(&name);
            variables.extend(parsed.map(|parsed| (name, parsed)));
        }
        let mut conditions = Vec::new();
        // In the singular, as Gatekeeper reads it.
        for (index, entry) in list(source, "matchCondition").enumerate() {
            let expression = text(entry, "expression").unwrap_or_default();
            let parsed = parse(format!("matchCondition[{index}].expression"), expression, &names);
            conditions.extend(parsed.map(|parsed| (expression.to_owned(), parsed)));
        }
        let mut validations = Vec::new();
        for (index, entry) in list(source, "validations").enumerate() {
            let expression = text(entry, "expression").unwrap_or_default();
            let parsed = parse(format!("validations[{index}].expression"), expression, &names);
            let place = format!("validations[{index}].messageExpression");
            let message = text(entry, "messageExpression").map(|message| parse(place, message, &names));
            let Some(parsed) = parsed else { continue };
            validations.push(Validation {
                text: expression.to_owned(),
                expression: parsed,
                message: text(entry, "message").map(|message| message.trim().to_owned()),
                message_expression: message.flatten(),
            });
        }
        for (field, reserved) in [("variables", &GIVEN_VARIABLES[..]), ("matchCondition", &[])] {
            for (index, name) in list(source, field).filter_map(|entry| text(entry, "name")).enumerate() {
                if name.starts_with(RESERVED) || reserved.contains(&name) {
                    let message = format!("{field}[{index}].name: {name:?} is reserved");
                    problems.push(Problem::new(origin, message));
                }
            }
        }
        let ignores_failures = match source.get("failurePolicy").and_then(Json::as_str) {
            None | Some("Fail") => false,
            Some("Ignore") => true,
            Some(other) => {
                let message = format!("failurePolicy {other:?} is neither Fail nor Ignore");
                problems.push(Problem::new(origin, message));
                false
            }
        };
        if validations.is_empty() && problems.is_empty() {
            let message = "the CEL has no validations, so the template could never find anything";
            problems.push(Problem::new(origin, message.to_owned()));
        }
        if problems.is_empty() {
            Ok(Self {
                conditions,
                variables,
                validations,
                ignores_failures,
            })
        } else {
            Err(problems)
        }
    }

    /// What is wrong with a review, in the eyes of a constraint.
    pub(crate) fn violations(
        &self,
        review: &Review,
        constraint: &Json,
        deadline: Deadline,
    ) -> Result<Vec<String>, EngineError> {
        bounds::begin();
        let found = fenced(|| Ok(self.evaluate(review.cel(), constraint, deadline)))?;
        if let Some(breach) = bounds::breach() {
            return Err(EngineError::new(breach));
        }
        // An error may be swallowed by the other side of an `||`; the clock is not.
        deadline.remaining()?;
        Ok(found)
    }

    fn evaluate(&self, documents: &Documents, constraint: &Json, deadline: Deadline) -> Vec<String> {
        let mut context = documents.0.new_inner_scope();
        let parameters = constraint.pointer("/spec/parameters").map_or(Value::Null, from_json);
        context.add_variable_from_value(named("params"), parameters);
        context.add_variable_from_value(END, deadline.end_nanos());
        // Only variables can name it: everything else was checked without.
        context.add_variable_from_value(CONSTRAINT, from_json(constraint));
        let mut unknown = HashMap::new();
        for (name, variable) in &self.variables {
            match context.resolve(variable) {
                Ok(value) => context.add_variable_from_value(named(name), value),
                Err(error) => {
                    let error = told(&error, &unknown);
                    let why = format!("composited variable {name:?} fails to evaluate: {error}");
                    unknown.insert(named(name), why);
                }
            }
        }
        match self.applies(&context, &unknown) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(why) => return self.failed(why),
        }
        let asked = self
            .validations
            .iter()
            .map(|one| (one, context.resolve(&one.expression)));
        asked
            .flat_map(|(one, answer)| match answer {
                Ok(Value::Bool(true)) => Vec::new(),
                Ok(Value::Bool(false)) => vec![one.message(&context)],
                Ok(_) => self.failed(resulted(&one.text, NOT_BOOLEAN)),
                Err(error) => self.failed(resulted(&one.text, &told(&error, &unknown))),
            })
            .collect()
    }

    /// Whether the conditions hold: none is false, and none fails.
    fn applies(&self, context: &Context<'_>, unknown: &HashMap<String, String>) -> Result<bool, String> {
        // What namespace it is, they do not know.
        let mut context = context.new_inner_scope();
        context.add_variable_from_value("namespaceObject", Value::Null);
        let mut failed = Vec::new();
        for (text, condition) in &self.conditions {
            match context.resolve(condition) {
                Ok(Value::Bool(false)) => return Ok(false),
                Ok(Value::Bool(true)) => {}
                Ok(_) => failed.push(resulted(text, NOT_BOOLEAN)),
                Err(error) => failed.push(resulted(text, &told(&error, unknown))),
            }
        }
        match failed.as_slice() {
            [] => Ok(true),
            [one] => Err(one.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }

    /// What cannot be asked is a violation like any other, as for Gatekeeper and for Kubernetes' own policies.
    fn failed(&self, why: String) -> Vec<String> {
        if self.ignores_failures { Vec::new() } else { vec![why] }
    }
}

impl Validation {
    /// As Kubernetes does it: the message expression where it gives a text, else the message, else the expression.
    fn message(&self, context: &Context<'_>) -> String {
        let computed = self.message_expression.as_ref().map(|message| context.resolve(message));
        match computed {
            Some(Ok(Value::String(text))) if is_message(text.trim()) => text.trim().to_owned(),
            _ => match &self.message {
                Some(message) if !message.is_empty() => message.clone(),
                _ => format!("failed expression: {}", self.text.trim()),
            },
        }
    }
}

/// Whether a computed text can be a message: one line, of a length to be read.
fn is_message(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')
}

/// What Kubernetes says of an expression that fails.
fn resulted(text: &str, error: &str) -> String {
    format!("expression '{text}' resulted in error: {error}")
}

/// An error in the terms of the template's author: what a variable lacked, not that it is missing.
fn told(error: &ExecutionError, unknown: &HashMap<String, String>) -> String {
    match error {
        ExecutionError::UndeclaredReference(name) => {
            unknown.get(name.as_str()).cloned().unwrap_or_else(|| error.to_string())
        }
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        _ => error.to_string(),
    }
}

fn list<'a>(source: &'a Json, key: &str) -> impl Iterator<Item = &'a Json> {
    source.get(key).and_then(Json::as_array).into_iter().flatten()
}

fn text<'a>(entry: &'a Json, key: &str) -> Option<&'a str> {
    entry
        .get(key)
        .and_then(Json::as_str)
        .filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests;
