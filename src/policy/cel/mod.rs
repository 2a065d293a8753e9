//! Templates in CEL (`K8sNativeValidation`), as Gatekeeper and Kubernetes' own admission policies have them.
//!
//! Flow: [`Program::compile`] parses and checks every expression; [`Program::violations`] asks the match conditions, and says
//! which validations do not hold. Variables are computed when the first expression that needs them is asked, in their order.
//!
//! Guarantees: an expression names only variables and functions that exist, or it does not load; an evaluation ends within
//! its deadline (loops look at it, see `crate::cel`); an error denies unless the template says
//! `failurePolicy: Ignore`; a variable that cannot be computed matters only where it is used.

use std::collections::HashMap;

use serde_json::Value as Json;

use super::rego::session::Deadline;
use super::rego::{EngineError, fenced};
use super::review::Review;
use super::source::Problem;
use crate::cel::{Failure, Names, Node, Run, Table, Val, bounds, outer, parse as checked, variable as named};

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
    table: Table,
    conditions: Vec<(String, Code)>,
    variables: Vec<Variable>,
    validations: Vec<Validation>,
    /// Whether what cannot be evaluated passes.
    ignores_failures: bool,
}

/// An expression, and the variables of the template without which it cannot be asked, first ones first.
struct Code {
    node: Node,
    needs: Vec<usize>,
}

struct Variable {
    name: String,
    /// Its number among all names.
    number: usize,
    code: Code,
}

struct Validation {
    text: String,
    expression: Code,
    message: Option<String>,
    message_expression: Option<Code>,
}

/// The request as templates in CEL see it: the objects have variables of their own.
pub(crate) fn request(review: &Review) -> Json {
    let fields = review.request().as_object().into_iter().flatten();
    let fields = fields.filter(|(name, _)| !OBJECTS.contains(&name.as_str()));
    Json::Object(fields.map(|(name, value)| (name.clone(), value.clone())).collect())
}

impl Program {
    /// Reads the `source` of a template's code.
    pub(crate) fn compile(origin: &str, source: &Json) -> Result<Self, Vec<Problem>> {
        let given: Vec<&str> = GIVEN.into_iter().chain([CONSTRAINT]).collect();
        let (mut names, mut within) = (
            Names::new(&GIVEN, &GIVEN_VARIABLES),
            Names::new(&given, &GIVEN_VARIABLES),
        );
        let mut reader = Reader::new(origin);
        for (index, entry) in list(source, "variables").enumerate() {
            let name = text(entry, "name").unwrap_or_default().to_owned();
            let expression = text(entry, "expression").unwrap_or_default();
            let code = reader.read(&format!("variables[{index}].expression"), expression, &within);
            names.add(&name);
            within.add(&name);
            reader.variable(name, code);
        }
        let mut conditions = Vec::new();
        // In the singular, as Gatekeeper reads it.
        for (index, entry) in list(source, "matchCondition").enumerate() {
            let expression = text(entry, "expression").unwrap_or_default();
            let code = reader.read(&format!("matchCondition[{index}].expression"), expression, &names);
            conditions.extend(code.map(|code| (expression.to_owned(), code)));
        }
        let mut validations = Vec::new();
        for (index, entry) in list(source, "validations").enumerate() {
            let expression = text(entry, "expression").unwrap_or_default();
            let code = reader.read(&format!("validations[{index}].expression"), expression, &names);
            let place = format!("validations[{index}].messageExpression");
            let message = text(entry, "messageExpression").map(|message| reader.read(&place, message, &names));
            let Some(code) = code else { continue };
            validations.push(Validation {
                text: expression.to_owned(),
                expression: code,
                message: text(entry, "message").map(|message| message.trim().to_owned()),
                message_expression: message.flatten(),
            });
        }
        let Reader {
            mut problems,
            table,
            variables,
            ..
        } = reader;
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
                table,
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
        let found = fenced(|| Ok(self.evaluate(review, constraint, deadline)))?;
        if let Some(breach) = bounds::breach() {
            return Err(EngineError::new(breach));
        }
        // An error may be swallowed by the other side of an `||`; the clock is not.
        deadline.remaining()?;
        Ok(found)
    }

    fn evaluate(&self, review: &Review, constraint: &Json, deadline: Deadline) -> Vec<String> {
        let mut asked = Asked {
            program: self,
            run: Run::new(&self.table, deadline.end_nanos()),
            computed: vec![false; self.variables.len()],
            unknown: HashMap::new(),
        };
        let object = review.object();
        asked.set(&named("anyObject"), document(object));
        // A deleted object is the old one only, as for Kubernetes' own policies; `anyObject` is either.
        asked.set("object", document(object.filter(|_| !review.is_deletion())));
        asked.set("oldObject", document(review.old_object()));
        if self.table.find("request").is_some() {
            asked.set("request", Val::of(review.cel_request()));
        }
        asked.set(&named("params"), document(constraint.pointer("/spec/parameters")));
        // Only variables can name it: everything else was checked without.
        asked.set(CONSTRAINT, Val::of(constraint));
        asked.set("namespaceObject", document(review.namespace_object()));
        asked.variables(&self.conditions);
        // What namespace it is, the conditions themselves do not know.
        asked.set("namespaceObject", Val::Null);
        match self.applies(&mut asked) {
            Ok(true) => {}
            Ok(false) => return Vec::new(),
            Err(why) => return self.failed(why),
        }
        asked.set("namespaceObject", document(review.namespace_object()));
        let mut found = Vec::new();
        for one in &self.validations {
            match asked.value(&one.expression) {
                Ok(Val::Bool(true)) => {}
                Ok(Val::Bool(false)) => found.push(one.message(&mut asked)),
                Ok(_) => found.extend(self.failed(resulted(&one.text, NOT_BOOLEAN))),
                Err(error) => found.extend(self.failed(resulted(&one.text, &asked.told(&error)))),
            }
        }
        found
    }

    /// Whether the conditions hold: none is false, and none fails.
    fn applies<'a>(&'a self, asked: &mut Asked<'a>) -> Result<bool, String> {
        let mut failed = Vec::new();
        for (text, condition) in &self.conditions {
            match asked.value(condition) {
                Ok(Val::Bool(false)) => return Ok(false),
                Ok(Val::Bool(true)) => {}
                Ok(_) => failed.push(resulted(text, NOT_BOOLEAN)),
                Err(error) => failed.push(resulted(text, &asked.told(&error))),
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
    fn message<'a>(&'a self, asked: &mut Asked<'a>) -> String {
        let computed = self.message_expression.as_ref().map(|message| asked.value(message));
        if let Some(Ok(value)) = computed
            && let Some(text) = value.text().map(str::trim).filter(|text| is_message(text))
        {
            return text.to_owned();
        }
        match &self.message {
            Some(message) if !message.is_empty() => message.clone(),
            _ => format!("failed expression: {}", self.text.trim()),
        }
    }
}

/// One evaluation: what is known of the variables.
struct Asked<'a> {
    program: &'a Program,
    run: Run<'a>,
    computed: Vec<bool>,
    /// Variables that cannot be computed, and why, by their numbers.
    unknown: HashMap<usize, String>,
}

impl<'a> Asked<'a> {
    /// Gives a variable its value, if an expression uses it.
    fn set(&mut self, name: &str, value: Val<'a>) {
        if let Some(number) = self.program.table.find(name) {
            self.run.set(number, value);
        }
    }

    fn value(&mut self, code: &'a Code) -> Result<Val<'a>, Failure> {
        self.compute(code);
        self.run.value(&code.node)
    }

    fn variables(&mut self, conditions: &'a [(String, Code)]) {
        conditions.iter().for_each(|(_, code)| self.compute(code));
    }

    /// Computes what an expression needs and nobody has needed before.
    fn compute(&mut self, code: &Code) {
        for index in &code.needs {
            let (Some(variable), Some(computed)) = (self.program.variables.get(*index), self.computed.get_mut(*index))
            else {
                continue;
            };
            if std::mem::replace(computed, true) {
                continue;
            }
            match self.run.value(&variable.code.node) {
                Ok(value) => self.run.set(variable.number, value),
                Err(error) => {
                    let (name, error) = (&variable.name, self.told(&error));
                    let why = format!("composited variable {name:?} fails to evaluate: {error}");
                    self.unknown.insert(variable.number, why);
                }
            }
        }
    }

    /// An error in the terms of the template's author: what a variable lacked, not that it is missing.
    fn told(&self, error: &Failure) -> String {
        match error {
            Failure::Unknown(number) => self.unknown.get(number).cloned().unwrap_or_else(|| error.to_string()),
            _ => error.to_string(),
        }
    }
}

impl Code {
    fn new(node: Node, variables: &[Variable]) -> Self {
        let mut asks = Vec::new();
        outer(&node, &mut asks);
        // Those before it know what they need themselves.
        let mut needs: Vec<usize> = Vec::new();
        for (index, variable) in variables.iter().enumerate() {
            if asks.contains(&variable.number) {
                needs.extend(variable.code.needs.iter().chain([&index]));
            }
        }
        needs.sort_unstable();
        needs.dedup();
        Self { node, needs }
    }
}

/// Reads the expressions of one template.
struct Reader<'a> {
    origin: &'a str,
    problems: Vec<Problem>,
    table: Table,
    variables: Vec<Variable>,
}

impl<'a> Reader<'a> {
    fn new(origin: &'a str) -> Self {
        Self {
            origin,
            problems: Vec::new(),
            table: Table::default(),
            variables: Vec::new(),
        }
    }

    fn read(&mut self, place: &str, text: &str, names: &Names) -> Option<Code> {
        match checked(text, names, &mut self.table) {
            Ok(node) => Some(Code::new(node, &self.variables)),
            Err(message) => {
                self.problems
                    .push(Problem::new(self.origin, format!("{place}: {message}")));
                None
            }
        }
    }

    fn variable(&mut self, name: String, code: Option<Code>) {
        let number = self.table.number(&named(&name));
        self.variables.extend(code.map(|code| Variable { name, number, code }));
    }
}

fn document(document: Option<&Json>) -> Val<'_> {
    document.map_or(Val::Null, Val::of)
}

/// Whether a computed text can be a message: one line, of a length to be read.
fn is_message(text: &str) -> bool {
    !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n')
}

/// What Kubernetes says of an expression that fails.
fn resulted(text: &str, error: &str) -> String {
    format!("expression '{text}' resulted in error: {error}")
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
