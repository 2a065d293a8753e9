//! Constraints: which objects a template judges, with which parameters, and what follows.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, LazyLock};

use regorus::Value;
use serde::Deserialize;
use serde_json::Value as Json;

use super::decision::{Action, EnforcementPoint, Finding};
use super::inventory::Inventory;
use super::matching::Match;
use super::rego::EngineError;
use super::rego::session::Deadline;
use super::review::Review;
use super::source::Document;
use super::template::{Engine, Template};
use crate::api::gatekeeper::CONSTRAINTS_GROUP;

/// Where the review stands in the input.
static REVIEW: LazyLock<Value> = LazyLock::new(|| Value::from("review"));

/// A checked constraint.
#[derive(Clone)]
pub(crate) struct Constraint {
    pub(crate) kind: String,
    pub(crate) name: String,
    pub(crate) matching: Match,
    origin: String,
    /// The input of its policy, but for the review.
    input: Value,
    /// As it was written, for CEL.
    written: Json,
    actions: Actions,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Actions {
    Everywhere(Action),
    /// Action and the enforcement points it is for.
    Scoped(Vec<(Action, Vec<String>)>),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ScopedAction {
    action: String,
    #[serde(default)]
    enforcement_points: Vec<Point>,
}

#[derive(Deserialize)]
struct Point {
    name: String,
}

/// Kind and name of a constraint, if it has them.
pub(crate) fn identity(document: &Document) -> Option<(String, String)> {
    let text = |pointer: &str| {
        document
            .value
            .pointer(pointer)
            .and_then(Json::as_str)
            .map(str::to_owned)
    };
    Some((text("/kind")?, text("/metadata/name")?))
}

impl Constraint {
    /// Reads a constraint; the error says what is wrong with it.
    pub(crate) fn read(document: &Document) -> Result<Self, String> {
        let api_version = document
            .value
            .get("apiVersion")
            .and_then(Json::as_str)
            .unwrap_or_default();
        if api_version.split_once('/').map(|(group, _)| group) != Some(CONSTRAINTS_GROUP) {
            return Err(format!("apiVersion {api_version:?} is not in {CONSTRAINTS_GROUP}"));
        }
        let (kind, name) = identity(document).ok_or("kind or metadata.name is missing")?;
        let spec = document.value.get("spec");
        let part = |key: &str| spec.and_then(|spec| spec.get(key)).filter(|value| !value.is_null());
        let parameters = match part("parameters") {
            Some(value) => Value::deserialize(value).map_err(|error| format!("spec.parameters: {error}"))?,
            None => Value::new_object(),
        };
        Ok(Self {
            kind,
            name,
            matching: Match::read(part("match"))?,
            origin: document.origin.clone(),
            input: input(Value::Null, parameters),
            written: document.value.clone(),
            actions: actions(part("enforcementAction"), part("scopedEnforcementActions"))?,
        })
    }

    /// What a finding means at a door; `None` when the constraint is not enforced there.
    pub(crate) fn action(&self, point: EnforcementPoint) -> Option<Action> {
        match &self.actions {
            Actions::Everywhere(action) => Some(*action),
            Actions::Scoped(scoped) => scoped
                .iter()
                .filter(|(_, points)| points.iter().any(|name| name == "*" || name == point.as_str()))
                .map(|(action, _)| *action)
                .max(),
        }
    }

    /// What the constraint has to say about a review that it matches.
    pub(crate) fn evaluate(
        &self,
        template: &Arc<Template>,
        review: &Review,
        inventory: &Inventory,
        action: Action,
        deadline: Deadline,
    ) -> Vec<Finding> {
        match self.ask(template, review, inventory, deadline) {
            Ok(answers) => answers
                .into_iter()
                .map(|answer| match answer {
                    Ok((message, details)) => self.finding(action, message, details, false),
                    Err(said) => self.finding(action, said, Json::Null, true),
                })
                .collect(),
            Err(error) => vec![self.finding(
                action,
                format!("the policy could not be evaluated: {}: {error}", template.origin),
                Json::Null,
                true,
            )],
        }
    }

    /// A finding that says why the constraint cannot decide.
    pub(crate) fn undecided(&self, action: Action, reason: &str) -> Finding {
        self.finding(
            action,
            format!("the policy could not be evaluated: {reason}"),
            Json::Null,
            true,
        )
    }

    fn ask(
        &self,
        template: &Arc<Template>,
        review: &Review,
        inventory: &Inventory,
        deadline: Deadline,
    ) -> Result<Vec<Answer>, EngineError> {
        let (program, rule) = match &template.engine {
            Engine::Rego { program, rule } => (program, rule),
            Engine::Cel(program) => {
                let found = program.violations(review, &self.written, deadline)?;
                return Ok(found.into_iter().map(|message| Ok((message, Json::Null))).collect());
            }
        };
        let mut session = program.session(self.input(review), inventory);
        let Some(value) = session.value(rule, deadline)? else {
            return Ok(Vec::new());
        };
        Ok(answers(&value))
    }

    /// The input of Gatekeeper's policies: only the place of the review is written anew.
    fn input(&self, review: &Review) -> Value {
        let mut input = self.input.clone();
        if let Ok(fields) = input.as_object_mut() {
            fields.insert(REVIEW.clone(), review.value());
        }
        input
    }

    fn finding(&self, action: Action, message: String, details: Json, failed: bool) -> Finding {
        Finding {
            policy: format!("{}/{}", self.kind, self.name),
            action,
            message,
            details,
            title: None,
            hint: None,
            source: self.origin.clone(),
            failed,
        }
    }
}

/// The input of Gatekeeper's policies.
pub(crate) fn input(review: Value, parameters: Value) -> Value {
    Value::from(BTreeMap::from([
        (REVIEW.clone(), review),
        (Value::from("parameters"), parameters),
    ]))
}

/// Message and details of one violation, or what is wrong with it.
type Answer = Result<(String, Json), String>;

/// What Gatekeeper reads out of the rule: it goes through `violation[r]` and takes `msg` and `details` of each `r`. Whatever
/// has no `msg` says nothing there, and so it does here.
fn answers(value: &Value) -> Vec<Answer> {
    let items: Vec<&Value> = match value {
        Value::Set(items) => items.iter_sorted().collect(),
        // Of an object the keys are gone through. Those of a list are numbers, which have no `msg`.
        Value::Object(fields) => {
            let holds = fields.iter_sorted().filter(|(_, value)| **value != Value::Bool(false));
            holds.map(|(key, _)| key).collect()
        }
        _ => Vec::new(),
    };
    let mut found: Vec<Answer> = items.into_iter().filter_map(answer).collect();
    if found.len() > 1 {
        // Two that differ only in what nobody reads are one.
        let mut seen = HashSet::new();
        found.retain(|answer| seen.insert(format!("{answer:?}")));
    }
    found
}

fn answer(item: &Value) -> Option<Answer> {
    let fields = item.as_object().ok()?;
    let field = |key: &str| fields.get(&Value::from(key));
    let Value::String(message) = field("msg")? else {
        return Some(Err(
            "the policy found something but did not say what: msg must be a string".to_owned(),
        ));
    };
    let details = field("details").and_then(|details| serde_json::to_value(details).ok());
    let details = details.filter(|details| details.as_object().is_none_or(|details| !details.is_empty()));
    Some(Ok((message.to_string(), details.unwrap_or(Json::Null))))
}

fn actions(action: Option<&Json>, scoped: Option<&Json>) -> Result<Actions, String> {
    let text = match action {
        None => "deny",
        Some(Json::String(text)) if text.is_empty() => "deny",
        Some(Json::String(text)) => text,
        Some(_) => return Err("spec.enforcementAction is not a string".to_owned()),
    };
    if text != "scoped" {
        return one("spec.enforcementAction", text).map(Actions::Everywhere);
    }
    let field = "spec.scopedEnforcementActions";
    let scoped = scoped.ok_or_else(|| format!("spec.enforcementAction is scoped, but {field} is missing"))?;
    let scoped = Vec::<ScopedAction>::deserialize(scoped).map_err(|error| format!("{field} is malformed: {error}"))?;
    let scoped = scoped.into_iter().map(|entry| {
        let points = entry.enforcement_points.into_iter().map(|point| point.name).collect();
        Ok((one(&format!("{field}[].action"), &entry.action)?, points))
    });
    scoped.collect::<Result<_, String>>().map(Actions::Scoped)
}

fn one(field: &str, text: &str) -> Result<Action, String> {
    match text {
        "deny" => Ok(Action::Deny),
        "warn" => Ok(Action::Warn),
        "dryrun" => Ok(Action::DryRun),
        other => Err(format!("{field} {other:?} is none of deny, warn, dryrun, scoped")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    /// A constraint of a kind.
    pub(crate) fn constraint(kind: &str, name: &str, spec: Json) -> Document {
        Document {
            origin: format!("{name}.yaml"),
            value: json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": kind, "metadata": {"name": name}, "spec": spec}),
        }
    }

    #[test]
    fn the_action_depends_on_the_door() {
        use EnforcementPoint::{Audit, Check, Validation};
        let check = |spec: Json, expect: [Option<Action>; 3]| {
            let read = Constraint::read(&constraint("A", "a", spec.clone())).unwrap();
            assert_eq!(
                [Validation, Audit, Check].map(|point| read.action(point)),
                expect,
                "{spec}"
            );
        };
        check(json!({}), [Some(Action::Deny); 3]);
        check(json!({"enforcementAction": "dryrun"}), [Some(Action::DryRun); 3]);
        let points = |names: &[&str]| json!(names.iter().map(|name| json!({"name": name})).collect::<Vec<_>>());
        check(
            json!({"enforcementAction": "scoped", "scopedEnforcementActions": [
                {"action": "warn", "enforcementPoints": points(&["validation.gatekeeper.sh", "audit.gatekeeper.sh"])},
                {"action": "deny", "enforcementPoints": points(&["validation.gatekeeper.sh", "vap.k8s.io"])}]}),
            [Some(Action::Deny), Some(Action::Warn), None],
        );
        check(
            json!({"enforcementAction": "scoped", "scopedEnforcementActions": [{"action": "warn", "enforcementPoints": points(&["*"])}]}),
            [Some(Action::Warn); 3],
        );
    }

    #[test]
    fn malformed_constraints_are_refused() {
        let check = |spec: Json, expect: &str| {
            assert_eq!(
                Constraint::read(&constraint("A", "a", spec)).err().as_deref(),
                Some(expect)
            );
        };
        check(
            json!({"enforcementAction": "block"}),
            "spec.enforcementAction \"block\" is none of deny, warn, dryrun, scoped",
        );
        check(
            json!({"enforcementAction": "scoped"}),
            "spec.enforcementAction is scoped, but spec.scopedEnforcementActions is missing",
        );
        check(
            json!({"match": {"source": "x"}}),
            "spec.match.source \"x\" is none of All, Generated, Original",
        );
        let mut other = constraint("A", "a", json!({}));
        other.value["apiVersion"] = json!("v1");
        assert_eq!(
            Constraint::read(&other).err().as_deref(),
            Some("apiVersion \"v1\" is not in constraints.gatekeeper.sh")
        );
    }
}
