//! `healthCheckExprs`: how objects of a kind tell their health, in CEL over the fields of the object.
//!
//! Guarantees, as Flux has them: an object whose controller has not seen its last change is in progress; then the first of
//! `inProgress`, `failed` and `current` that is true decides, and none is in progress too. Expressions of a whole group
//! are asked where the group has none for the kind.

use serde_json::Value as Json;

use super::{Expression, Names};
use crate::api::kustomize::HealthCheckExpr;
use crate::core::health::{Health, Status};
use crate::core::object::Gvk;

/// The expressions of an object, compiled.
#[derive(Debug, Clone, Default)]
pub struct HealthChecks(Vec<OfKind>);

/// How the objects of one kind tell their health.
#[derive(Debug, Clone)]
pub struct HealthExpressions {
    in_progress: Option<Expression>,
    failed: Option<Expression>,
    current: Expression,
}

#[derive(Debug, Clone)]
struct OfKind {
    group: String,
    /// All kinds of the group when there is none.
    kind: Option<String>,
    asked: std::sync::Arc<HealthExpressions>,
}

impl HealthChecks {
    /// Compiles the expressions of a spec.
    ///
    /// # Errors
    /// Names the first one that is wrong, by its place in the list.
    pub fn compile(exprs: &[HealthCheckExpr]) -> Result<Self, String> {
        let mut found: Vec<OfKind> = Vec::with_capacity(exprs.len());
        for (index, one) in exprs.iter().enumerate() {
            let kind = one.kind.clone().filter(|kind| !kind.is_empty());
            let group = Gvk::new(&one.api_version, "").group;
            if found.iter().any(|other| other.group == group && other.kind == kind) {
                let whose = [kind.unwrap_or_default(), group].join(".");
                return Err(format!(
                    "duplicate custom health check for GroupKind {whose} at healthchecks[{index}]"
                ));
            }
            let asked = HealthExpressions::compile(one)
                .map_err(|why| format!("failed to create custom status evaluator for healthchecks[{index}]: {why}"))?;
            found.push(OfKind {
                group,
                kind,
                asked: std::sync::Arc::new(asked),
            });
        }
        Ok(Self(found))
    }

    /// The expressions for a kind, if there are any.
    #[must_use]
    pub fn of(&self, gvk: &Gvk) -> Option<std::sync::Arc<HealthExpressions>> {
        let of_group = || self.0.iter().filter(|one| one.group == gvk.group);
        let exact = of_group().find(|one| one.kind.as_ref() == Some(&gvk.kind));
        let found = exact.or_else(|| of_group().find(|one| one.kind.is_none()));
        found.map(|one| std::sync::Arc::clone(&one.asked))
    }
}

impl HealthExpressions {
    fn compile(one: &HealthCheckExpr) -> Result<Self, String> {
        // The fields at the root of an object are whatever its definition says.
        let names = Names::any();
        let optional = |name: &str, text: Option<&String>| {
            let text = text.filter(|text| !text.is_empty());
            let parsed = text.map(|text| Expression::compile(text, &names));
            parsed
                .transpose()
                .map_err(|why| format!("failed to parse the expression {name}: {why}"))
        };
        if one.current.is_empty() {
            return Err("expression Current not specified".to_owned());
        }
        let current = optional("Current", Some(&one.current))?;
        Ok(Self {
            failed: optional("Failed", one.failed.as_ref())?,
            in_progress: optional("InProgress", one.in_progress.as_ref())?,
            current: current.ok_or("expression Current not specified")?,
        })
    }

    /// The health of a live object.
    ///
    /// # Errors
    /// When an expression gives no answer, as while a field that it looks at is not there yet.
    pub fn health(&self, object: &Json) -> Result<Health, String> {
        let number = |pointer: &str| object.pointer(pointer).and_then(Json::as_i64);
        if let (Some(observed), Some(is)) = (number("/status/observedGeneration"), number("/metadata/generation"))
            && observed != is
        {
            return Ok(health(
                Status::InProgress,
                format!("generation is {is}, but the latest observed generation is {observed}"),
            ));
        }
        let asked = [
            (self.in_progress.as_ref(), Status::InProgress, "inProgress"),
            (self.failed.as_ref(), Status::Failed, "failed"),
            (Some(&self.current), Status::Current, "current"),
        ];
        for (expression, status, name) in asked {
            let Some(expression) = expression else { continue };
            let fields = object.as_object().into_iter().flatten();
            if expression.is_true(fields.map(|(name, value)| (name.as_str(), value)))? {
                return Ok(health(
                    status,
                    format!("the expression {name} of healthCheckExprs is true"),
                ));
            }
        }
        let message = "no expression of healthCheckExprs is true";
        Ok(health(Status::InProgress, message.to_owned()))
    }
}

fn health(status: Status, message: String) -> Health {
    Health { status, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn exprs(value: Json) -> Vec<HealthCheckExpr> {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_first_expression_that_is_true_decides() {
        let checks = HealthChecks::compile(&exprs(json!([{"apiVersion": "x.io/v1", "kind": "Thing",
            "inProgress": "status.phase == 'Busy'", "failed": "status.phase == 'Broken' || status.broken",
            "current": "status.phase != 'Idle'"}])))
        .unwrap();
        let asked = checks.of(&Gvk::new("x.io/v2", "Thing")).unwrap();
        let check = |status: Json, expect: Status| {
            let object = json!({"kind": "Thing", "metadata": {"generation": 2}, "status": status});
            assert_eq!(asked.health(&object).unwrap().status, expect, "{status}");
        };
        check(json!({"phase": "Busy", "broken": true}), Status::InProgress);
        check(json!({"phase": "Broken", "broken": false}), Status::Failed);
        check(json!({"phase": "Done", "broken": true}), Status::Failed);
        check(json!({"phase": "Done", "broken": false}), Status::Current);
        check(json!({"phase": "Idle", "broken": false}), Status::InProgress);
        check(
            json!({"phase": "Done", "broken": false, "observedGeneration": 1}),
            Status::InProgress,
        );
        check(
            json!({"phase": "Done", "broken": false, "observedGeneration": 2}),
            Status::Current,
        );
        let without = json!({"kind": "Thing", "metadata": {}});
        let error = asked.health(&without).unwrap_err();
        assert!(error.contains("no such attribute(s): status"), "{error}");
    }

    #[test]
    fn a_kind_s_own_expressions_come_before_those_of_its_group() {
        let checks = HealthChecks::compile(&exprs(json!([
            {"apiVersion": "x.io/v1", "current": "true"},
            {"apiVersion": "x.io/v1", "kind": "Odd", "failed": "true", "current": "true"}])))
        .unwrap();
        let status = |version: &str, kind: &str| {
            let asked = checks.of(&Gvk::new(version, kind))?;
            Some(asked.health(&json!({})).unwrap().status)
        };
        assert_eq!(status("x.io/v1", "Odd"), Some(Status::Failed));
        assert_eq!(status("x.io/v1beta1", "Thing"), Some(Status::Current));
        assert_eq!(status("y.io/v1", "Thing"), None);
        assert_eq!(status("v1", "Odd"), None);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let check = |value: Json, expect: &str| {
            let error = HealthChecks::compile(&exprs(value)).unwrap_err();
            assert!(error.starts_with(expect), "{error}");
        };
        check(
            json!([{"apiVersion": "x.io/v1", "kind": "A", "current": "true"}, {"apiVersion": "x.io/v1", "kind": "B", "current": "a."}]),
            "failed to create custom status evaluator for healthchecks[1]: failed to parse the expression Current: failed to \
             parse the CEL expression 'a.': line 1",
        );
        check(
            json!([{"apiVersion": "x.io/v1", "kind": "A", "current": "true", "inProgress": "status.x("}]),
            "failed to create custom status evaluator for healthchecks[0]: failed to parse the expression InProgress: ",
        );
        check(
            json!([{"apiVersion": "x.io/v1", "kind": "A", "current": ""}]),
            "failed to create custom status evaluator for healthchecks[0]: expression Current not specified",
        );
        check(
            json!([{"apiVersion": "x.io/v1", "kind": "A", "current": "true"}, {"apiVersion": "x.io/v2", "kind": "A", "current": "true"}]),
            "duplicate custom health check for GroupKind A.x.io at healthchecks[1]",
        );
    }
}
