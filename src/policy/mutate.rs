//! Changing objects before they are judged: `mutate` rules that answer with JSON patches (RFC 6902).
//!
//! Guarantees: policies are asked in the order of their names and their operations applied in the order of the set; the
//! result is a fixed point, so a second application changes nothing; an object keeps its identity; what cannot be applied
//! is an error that names the policy and the operation.

use std::time::Duration;

use json_patch::{Patch, PatchOperation};
use regorus::Value;
use serde_json::{Value as Json, json};

use super::inventory::Inventory;
use super::library::Library;
use super::plain::Purpose;
use super::rego::session::Deadline;
use super::review::Review;

/// Most rounds until nothing changes any more. Policies that build on each other need one each; Gatekeeper's mutators
/// converge within as many or are called unstable.
const MAX_ROUNDS: usize = 8;
/// Most operations for one object: several for every field of a large object.
const MAX_OPERATIONS: usize = 10_000;

/// Objects that most patches add to and many objects lack.
const PARENTS: [&str; 2] = ["/metadata/labels", "/metadata/annotations"];

/// Fields that identify an object.
const IDENTITY: [(&str, &str); 4] = [
    ("/apiVersion", "apiVersion"),
    ("/kind", "kind"),
    ("/metadata/name", "metadata.name"),
    ("/metadata/namespace", "metadata.namespace"),
];

/// What mutation came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Mutation {
    /// The object as it is now.
    pub object: Json,
    /// What leads there; empty when nothing changed.
    pub patch: Patch,
}

/// Why an object cannot be mutated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MutateError {
    /// A policy cannot be evaluated.
    #[error("mutation policy {policy} could not be evaluated: {reason}")]
    Failed {
        /// The policy's package.
        policy: String,
        /// Why.
        reason: String,
    },
    /// An answer is not a JSON patch, or does not fit the object.
    #[error("mutation policy {policy} gave a patch that cannot be applied: {patch}: {reason}")]
    BadPatch {
        /// The policy's package.
        policy: String,
        /// The operation.
        patch: String,
        /// Why.
        reason: String,
    },
    /// A policy changed what the object is.
    #[error("mutation policy {policy} changes {field}, which identifies the object; mutate another field")]
    Identity {
        /// The policy's package.
        policy: String,
        /// The field.
        field: &'static str,
    },
    /// Policies undo each other's changes, or add something every time.
    #[error("mutation policies {policies} still change the object after {MAX_ROUNDS} rounds; make them agree")]
    Unstable {
        /// Who changed it in the last round.
        policies: String,
    },
}

pub(super) fn mutate(
    library: &Library,
    review: &Review,
    inventory: &Inventory,
    budget: Duration,
) -> Result<Mutation, MutateError> {
    let deadline = Deadline::after(budget);
    let mut object = review.object().cloned().unwrap_or(Json::Null);
    let mut patch = Patch(Vec::new());
    // There is nothing to change about an object that goes.
    if review.is_deletion() || !library.mutates() {
        return Ok(Mutation { object, patch });
    }
    let mut last = String::new();
    for _ in 0..MAX_ROUNDS {
        let current = review.with_object(object.clone());
        let mut changed_by: Vec<String> = Vec::new();
        for (policy, operation) in answers(library, &current, inventory, deadline)? {
            let before = patch.0.len();
            apply(&policy, &operation, &mut object, &mut patch)?;
            if patch.0.len() > before && !changed_by.contains(&policy) {
                changed_by.push(policy);
            }
        }
        if changed_by.is_empty() || object == *current.object().unwrap_or(&Json::Null) {
            // Changes that cancel each other out within a round are no change.
            return Ok(Mutation { object, patch });
        }
        last = changed_by.join(", ");
        if patch.0.len() > MAX_OPERATIONS {
            break;
        }
    }
    Err(MutateError::Unstable { policies: last })
}

/// The operations of all policies, in order.
fn answers(
    library: &Library,
    review: &Review,
    inventory: &Inventory,
    deadline: Deadline,
) -> Result<Vec<(String, Json)>, MutateError> {
    let mut found = Vec::new();
    for unit in library.units() {
        let entries = unit
            .entries_for(review)
            .filter(|entry| entry.purpose == Purpose::Mutate);
        for entry in entries {
            let failed = |reason: String| MutateError::Failed {
                policy: unit.name.clone(),
                reason,
            };
            let value = unit.session(entry, review, inventory).value(&entry.path, deadline);
            let value = value.map_err(|error| failed(format!("{}: {error}", entry.source)))?;
            for item in items(value.as_ref()) {
                let json = serde_json::to_value(item).map_err(|error| failed(error.to_string()))?;
                match json {
                    Json::Array(operations) => found.extend(operations.into_iter().map(|one| (unit.name.clone(), one))),
                    operation => found.push((unit.name.clone(), operation)),
                }
            }
        }
    }
    Ok(found)
}

fn items(value: Option<&Value>) -> Vec<&Value> {
    match value {
        Some(Value::Set(items)) => items.iter_sorted().collect(),
        Some(Value::Array(items)) => items.iter().collect(),
        Some(single) => vec![single],
        None => Vec::new(),
    }
}

/// Applies one operation, and keeps it when it changed something.
fn apply(policy: &str, operation: &Json, object: &mut Json, patch: &mut Patch) -> Result<(), MutateError> {
    let bad = |reason: String| MutateError::BadPatch {
        policy: policy.to_owned(),
        patch: operation.to_string(),
        reason,
    };
    let mut steps = parents(operation, object);
    steps.push(operation.clone());
    for step in steps {
        let step: PatchOperation = serde_json::from_value(step).map_err(|error| bad(error.to_string()))?;
        let mut next = object.clone();
        json_patch::patch(&mut next, std::slice::from_ref(&step)).map_err(|error| bad(error.to_string()))?;
        if next == *object {
            continue;
        }
        for (pointer, field) in IDENTITY {
            if next.pointer(pointer) != object.pointer(pointer) {
                return Err(MutateError::Identity {
                    policy: policy.to_owned(),
                    field,
                });
            }
        }
        *object = next;
        patch.0.push(step);
    }
    Ok(())
}

/// What must be added first so that an operation has something to add to.
fn parents(operation: &Json, object: &Json) -> Vec<Json> {
    let text = |key: &str| operation.get(key).and_then(Json::as_str).unwrap_or_default();
    if text("op") != "add" {
        return Vec::new();
    }
    let path = text("path");
    let missing = PARENTS.iter().filter(|parent| {
        let below = path.strip_prefix(**parent).is_some_and(|rest| rest.starts_with('/'));
        below && object.pointer(parent).is_none_or(Json::is_null)
    });
    missing
        .map(|parent| json!({"op": "add", "path": parent, "value": {}}))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::{RegoFile, Sources};
    use super::*;

    fn run(policies: &[(&str, &str)], object: Json) -> Result<Mutation, String> {
        let rego = policies.iter().map(|(name, text)| RegoFile {
            name: format!("{name}.rego"),
            text: format!("package {name}\n{text}"),
        });
        let loaded = Library::load(&Sources {
            rego: rego.collect(),
            ..Sources::default()
        });
        assert_eq!(loaded.problems, []);
        let request = json!({"operation": "CREATE", "kind": {"group": "", "version": "v1", "kind": "ConfigMap"}, "object": object});
        let review = Review::from_admission(&request, None).unwrap();
        let budget = Duration::from_secs(5);
        let mutation = loaded
            .library
            .mutate(&review, &Inventory::default(), budget)
            .map_err(|error| error.to_string())?;
        let again = loaded.library.mutate(
            &review.with_object(mutation.object.clone()),
            &Inventory::default(),
            budget,
        );
        assert_eq!(again.map(|again| again.patch.0.len()), Ok(0));
        let mut replayed = object;
        json_patch::patch(&mut replayed, &mutation.patch).unwrap();
        assert_eq!(replayed, mutation.object);
        Ok(mutation)
    }

    fn config_map() -> Json {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})
    }

    const TEAM: &str = r#"mutate contains {"op": "add", "path": "/metadata/labels/team", "value": "web"} if not input.review.object.metadata.labels.team"#;

    #[test]
    fn patches_are_applied_in_order_until_nothing_changes() {
        let tier = r#"mutate contains [{"op": "add", "path": "/metadata/labels/tier", "value": "x"}, {"op": "add", "path": "/data", "value": {"a": "b"}}] if input.review.object.metadata.labels.team == "web""#;
        // `a_tier` needs what `b_team` adds, and comes first: a second round is needed.
        let mutation = run(&[("a_tier", tier), ("b_team", TEAM)], config_map()).unwrap();
        assert_eq!(
            mutation.object["metadata"]["labels"],
            json!({"team": "web", "tier": "x"})
        );
        assert_eq!(mutation.object["data"], json!({"a": "b"}));
        assert_eq!(mutation.patch.0.len(), 4);
    }

    #[test]
    fn an_object_that_needs_nothing_stays() {
        let mut object = config_map();
        object["metadata"]["labels"] = json!({"team": "db"});
        let mutation = run(&[("team", TEAM)], object.clone()).unwrap();
        assert_eq!((mutation.object, mutation.patch.0.len()), (object, 0));
        let unconditional = r#"mutate := [{"op": "add", "path": "/data", "value": {"a": "b"}}]"#;
        assert_eq!(run(&[("a", unconditional)], config_map()).unwrap().patch.0.len(), 1);
    }

    #[test]
    fn what_cannot_be_applied_names_policy_and_operation() {
        let check = |policies: &[(&str, &str)], expect: &str| {
            let said = run(policies, config_map()).unwrap_err();
            assert!(said.starts_with(expect), "{said}");
        };
        check(
            &[("p", r#"mutate contains {"op": "remove", "path": "/spec"} if true"#)],
            r#"mutation policy p gave a patch that cannot be applied: {"op":"remove","path":"/spec"}: "#,
        );
        check(
            &[("p", r#"mutate contains "x" if true"#)],
            r#"mutation policy p gave a patch that cannot be applied: "x": "#,
        );
        check(
            &[(
                "p",
                r#"mutate contains {"op": "replace", "path": "/metadata/name", "value": "b"} if true"#,
            )],
            "mutation policy p changes metadata.name, which identifies the object",
        );
        let grow = r#"mutate contains {"op": "add", "path": "/data", "value": {"n": n}} if { n := object.get(input.review.object, ["data", "n"], 0) + 1 }"#;
        check(
            &[("p", grow)],
            "mutation policies p still change the object after 8 rounds",
        );
    }
}
