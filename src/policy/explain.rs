//! Which policies look at a review and which do not, and why: what `weir check --explain` shows.
//!
//! Guarantees: asks exactly the policies that [`Library::evaluate`] asks; says something about every other one too.

use std::time::Duration;

use serde::Serialize;

use super::decision::EnforcementPoint;
use super::inventory::Inventory;
use super::library::{Library, Linked};
use super::plain::{Entry, Purpose, Unit};
use super::rego::session::Deadline;
use super::review::Review;

/// One policy and one review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// The policy: `Kind/name` of a constraint, or a Rego package.
    pub policy: String,
    /// The policy's name for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// Whether it was asked.
    pub asked: bool,
    /// How much it found.
    pub findings: usize,
    /// Why it was not asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

impl Library {
    /// Says of every policy whether it is asked about a review, and what came of it.
    #[must_use]
    pub fn explain(&self, review: &Review, inventory: &Inventory, budget: Duration) -> Vec<Tried> {
        let deadline = Deadline::after(budget);
        let constraints = self
            .constraints()
            .iter()
            .map(|linked| of_constraint(linked, review, inventory, deadline));
        let units = self
            .units()
            .iter()
            .filter_map(|unit| of_unit(unit, review, inventory, deadline));
        let mut tried: Vec<Tried> = constraints.chain(units).collect();
        tried.sort_by(|left, right| left.policy.cmp(&right.policy));
        tried
    }
}

fn of_constraint(linked: &Linked, review: &Review, inventory: &Inventory, deadline: Deadline) -> Tried {
    let Linked { constraint, template } = linked;
    let tried = |asked: bool, findings: usize, reason: Option<String>| Tried {
        policy: format!("{}/{}", constraint.kind, constraint.name),
        title: None,
        asked,
        findings,
        reason,
    };
    let point = EnforcementPoint::Validation;
    let Some(action) = constraint.action(point) else {
        return tried(false, 0, Some(format!("it is not enforced at {}", point.as_str())));
    };
    if !template.handles(point, review) {
        return tried(false, 0, Some(format!("it is not asked about {}", review.operation())));
    }
    match constraint.matching.matches(review) {
        Ok(false) => tried(false, 0, Some("its spec.match leaves this object out".to_owned())),
        Ok(true) => {
            let found = constraint.evaluate(template, review, inventory, action, deadline);
            tried(true, found.len(), None)
        }
        Err(unknown) => tried(true, 1, Some(unknown.to_string())),
    }
}

/// `None` for a package that judges nothing.
fn of_unit(unit: &Unit, review: &Review, inventory: &Inventory, deadline: Deadline) -> Option<Tried> {
    let judges = |entry: &&Entry| matches!(entry.purpose, Purpose::Judge(_));
    let first = unit.entries.iter().find(judges)?;
    let mut findings = Vec::new();
    let asked = unit.judge(review, inventory, deadline, &mut findings);
    let reason = if asked {
        None
    } else if unit
        .entries
        .iter()
        .filter(judges)
        .all(|entry| entry.looks_at(&review.gvk().kind))
    {
        Some(format!("it is not asked about {}", review.operation()))
    } else {
        Some(format!("it looks only at {}", listed(&first.metadata.kinds)))
    };
    Some(Tried {
        policy: unit.name.clone(),
        title: first.metadata.title.clone(),
        asked,
        findings: findings.len(),
        reason,
    })
}

/// The first of many names, and how many more there are.
fn listed(names: &[String]) -> String {
    /// As many as fit on a line; that the object's kind is not among them is what matters.
    const SHOWN: usize = 6;
    let first = names.get(..SHOWN).unwrap_or(names).join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => first,
        more => format!("{first} and {more} more kinds"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::template::tests::template;
    use super::super::{Document, Operation, RegoFile, Sources};
    use super::*;
    use crate::core::object::Object;

    #[test]
    fn every_policy_is_accounted_for() {
        let constraint = |name: &str, kinds: &str| Document {
            origin: format!("{name}.yaml"),
            value: json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": "Named",
                "metadata": {"name": name}, "spec": {"match": {"kinds": [{"apiGroups": ["*"], "kinds": [kinds]}]}}}),
        };
        let text = "# METADATA\n# title: Tidy\n# custom:\n#   kinds: [Pod]\npackage tidy\ndeny contains \"x\" if true";
        let loaded = Library::load(&Sources {
            rego: vec![RegoFile {
                name: "tidy.rego".into(),
                text: text.into(),
            }],
            templates: vec![template(
                "Named",
                "package named\nviolation[{\"msg\": \"bad\"}] { true }",
            )],
            constraints: vec![constraint("all", "*"), constraint("pods", "Pod")],
        });
        assert_eq!(loaded.problems, []);
        let explain = |operation: Operation| {
            let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}});
            let object = Object::new(service).unwrap();
            let review = Review::planned(operation, Some(&object), Some(&object), None);
            let tried = loaded
                .library
                .explain(&review, &Inventory::default(), Duration::from_secs(5));
            let line = |one: &Tried| {
                format!(
                    "{} {} {}",
                    one.policy,
                    one.findings,
                    one.reason.clone().unwrap_or_default()
                )
            };
            tried.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(
            explain(Operation::Create),
            [
                "Named/all 1 ",
                "Named/pods 0 its spec.match leaves this object out",
                "tidy 0 it looks only at Pod"
            ]
        );
        assert_eq!(
            explain(Operation::Delete).first().unwrap(),
            "Named/all 0 it is not asked about DELETE"
        );
    }
}
