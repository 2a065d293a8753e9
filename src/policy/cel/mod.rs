//! Templates in CEL (`K8sNativeValidation`), as Gatekeeper and Kubernetes' own admission policies have them.
//!
//! Flow: [`Program::compile`] parses and checks every expression; [`Program::violations`] asks the match conditions, computes
//! the variables in their order, and says which validations do not hold.
//!
//! Guarantees: an expression names only variables and functions that exist, or it does not load; an evaluation ends within
//! its deadline (every step of every loop looks at it, see `crate::cel`); an error denies unless the template says
//! `failurePolicy: Ignore`; a variable that cannot be computed matters only where it is used.

use std::collections::HashMap;

use kube_cel::cel::parser::Expression;
use kube_cel::cel::{Context, ExecutionError, Value};
use serde_json::{Value as Json, json};

use super::rego::program::Deadline;
use super::rego::{EngineError, fenced};
use super::review::Review;
use super::source::Problem;
use crate::cel::{END, FUNCTIONS, Names, from_json, parse as checked, variable as named, without_fields};

/// The engine's name in a template.
pub(crate) const ENGINE: &str = "K8sNativeValidation";

/// Variables that every expression may use.
const GIVEN: [&str; 6] = [
    "object",
    "oldObject",
    "request",
    "namespaceObject",
    "params",
    "authorizer",
];
/// Parts of a request that have variables of their own.
const OBJECTS: [&str; 3] = ["object", "oldObject", "namespaceObject"];
/// What `variables` holds before the template adds to it.
const GIVEN_VARIABLES: [&str; 2] = ["anyObject", "params"];

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

/// What a validation that does not hold says, or why it could not be asked.
pub(crate) type Violation = Result<String, String>;

impl Program {
    /// Reads the `source` of a template's code.
    pub(crate) fn compile(origin: &str, source: &Json) -> Result<Self, Vec<Problem>> {
        let mut problems = Vec::new();
        let mut names = Names::new(&GIVEN, &GIVEN_VARIABLES);
        let mut parse = |place: String, text: &str, names: &Names| match checked(text, names, &FUNCTIONS) {
            Ok(expression) => Some(expression),
            Err(message) => {
                problems.push(Problem::new(origin, format!("{place}: {message}")));
                None
            }
        };
        let mut conditions = Vec::new();
        for (index, entry) in list(source, "matchConditions").enumerate() {
            let name = text(entry, "name").unwrap_or_default().to_owned();
            let expression = text(entry, "expression").unwrap_or_default();
            let parsed = parse(format!("matchConditions[{index}].expression"), expression, &names);
            conditions.extend(parsed.map(|parsed| (name, parsed)));
        }
        let mut variables = Vec::new();
        for (index, entry) in list(source, "variables").enumerate() {
            let name = text(entry, "name").unwrap_or_default().to_owned();
            let expression = text(entry, "expression").unwrap_or_default();
            let parsed = parse(format!("variables[{index}].expression"), expression, &names);
            names.add(&name);
            variables.extend(parsed.map(|parsed| (name, parsed)));
        }
        let mut validations = Vec::new();
        for (index, entry) in list(source, "validations").enumerate() {
            let expression = text(entry, "expression").unwrap_or_default();
            let parsed = parse(format!("validations[{index}].expression"), expression, &names);
            let place = format!("validations[{index}].messageExpression");
            let message = text(entry, "messageExpression").map(|message| parse(place, message, &names));
            let Some(parsed) = parsed else { continue };
            validations.push(Validation {
                text: expression.trim().to_owned(),
                expression: parsed,
                message: text(entry, "message").map(|message| message.trim().to_owned()),
                message_expression: message.flatten(),
            });
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

    /// What is wrong with a review.
    pub(crate) fn violations(
        &self,
        review: &Review,
        parameters: &Json,
        deadline: Deadline,
    ) -> Result<Vec<Violation>, EngineError> {
        let found = fenced(|| Ok(self.evaluate(review, parameters, deadline)))?;
        // An error may be swallowed by the other side of an `||`; the clock is not.
        deadline.remaining()?;
        Ok(found)
    }

    fn evaluate(&self, review: &Review, parameters: &Json, deadline: Deadline) -> Vec<Violation> {
        let mut context = FUNCTIONS.new_inner_scope();
        let object = review.object().map_or(Value::Null, from_json);
        context.add_variable_from_value("object", object.clone());
        context.add_variable_from_value("oldObject", review.old_object().map_or(Value::Null, from_json));
        context.add_variable_from_value("request", without_fields(review.request(), &OBJECTS));
        let namespace = review.namespace_object().map_or(Value::Null, from_json);
        context.add_variable_from_value("namespaceObject", namespace);
        context.add_variable_from_value("params", from_json(&json!({"spec": {"parameters": parameters}})));
        context.add_variable_from_value(named("anyObject"), object);
        context.add_variable_from_value(named("params"), from_json(parameters));
        context.add_variable_from_value(END, deadline.end_nanos());
        let mut unknown = HashMap::new();
        for (name, condition) in &self.conditions {
            match context.resolve(condition) {
                Ok(Value::Bool(true)) => {}
                Ok(Value::Bool(false)) => return Vec::new(),
                Ok(_) => return self.failed(format!("match condition {name:?} is not a boolean")),
                Err(error) => return self.failed(format!("match condition {name:?}: {}", told(&error, &unknown))),
            }
        }
        for (name, variable) in &self.variables {
            match context.resolve(variable) {
                Ok(value) => context.add_variable_from_value(named(name), value),
                Err(error) => {
                    let why = format!("variable {name:?}: {}", told(&error, &unknown));
                    unknown.insert(named(name), why);
                }
            }
        }
        let asked = self
            .validations
            .iter()
            .map(|one| (one, context.resolve(&one.expression)));
        asked
            .flat_map(|(one, answer)| match answer {
                Ok(Value::Bool(true)) => Vec::new(),
                Ok(Value::Bool(false)) => vec![Ok(one.message(&context))],
                Ok(_) => self.failed(format!("expression {:?} is not a boolean", one.text)),
                Err(error) => self.failed(format!("expression {:?}: {}", one.text, told(&error, &unknown))),
            })
            .collect()
    }

    fn failed(&self, why: String) -> Vec<Violation> {
        if self.ignores_failures {
            Vec::new()
        } else {
            vec![Err(why)]
        }
    }
}

impl Validation {
    /// As Kubernetes does it: the message expression where it gives a text, else the message, else the expression.
    fn message(&self, context: &Context<'_>) -> String {
        let computed = self.message_expression.as_ref().map(|message| context.resolve(message));
        match computed {
            Some(Ok(Value::String(text))) if !text.trim().is_empty() => text.trim().to_owned(),
            _ => match &self.message {
                Some(message) if !message.is_empty() => message.clone(),
                _ => format!("failed expression: {}", self.text),
            },
        }
    }
}

/// An error in the terms of the template's author: what a variable lacked, not that it is missing.
fn told(error: &ExecutionError, unknown: &HashMap<String, String>) -> String {
    match error {
        ExecutionError::UndeclaredReference(name) => {
            unknown.get(name.as_str()).cloned().unwrap_or_else(|| error.to_string())
        }
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
