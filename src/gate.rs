//! Plan × policy → verdict, before any write.
//!
//! Flow: `mutate` lets policies complete what Git declares, so that what is judged is what will be stored; `judge` asks
//! every policy about every creation, update and deletion of the plan, with the whole change as inventory.
//!
//! Guarantees: one denial denies the whole plan; a policy that cannot be evaluated denies with its error; the verdict
//! names policy, object, file and reason. Pure but for the time that evaluation may take.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};

use crate::core::identity::Identity;
use crate::core::object::{Object, ObjectRef};
use crate::plan::{Action, Change, Desired, Plan};
use crate::policy::{Finding, Inventory, Library, Operation, Process, Review, Settings, Tried};

/// Longest evaluation of all policies on one object. The webhook's own limit is 3 s; a change may wait a little longer,
/// but a policy that needs more would be refused there.
const BUDGET: Duration = Duration::from_secs(3);
/// How many findings a message names in full; the rest is counted. A condition holds 32 KiB, a screen about this much.
const NAMED: usize = 20;

/// What policies may know of the cluster beside the change.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    namespaces: HashMap<String, Value>,
    user: Value,
    /// What else exists or will exist; the change comes on top of it.
    others: Inventory,
    /// Namespaces that policies leave out.
    settings: Arc<Settings>,
}

impl Surroundings {
    /// Namespaces as they are, and the identity that the change is applied with.
    #[must_use]
    pub fn new(namespaces: &[Arc<Namespace>], identity: &Identity) -> Self {
        let known = namespaces.iter().filter_map(|namespace| {
            let mut value = serde_json::to_value(namespace.as_ref()).ok()?;
            if let Some(fields) = value.as_object_mut() {
                fields.insert("apiVersion".to_owned(), "v1".into());
                fields.insert("kind".to_owned(), "Namespace".into());
            }
            Some((namespace.metadata.name.clone()?, value))
        });
        Self {
            namespaces: known.collect(),
            user: json!({"username": identity.username, "groups": identity.groups}),
            ..Self::default()
        }
    }

    /// What policies see of the cluster, and which namespaces they leave out.
    #[must_use]
    pub fn in_cluster(self, inventory: Inventory, settings: Arc<Settings>) -> Self {
        Self {
            others: inventory,
            settings,
            ..self
        }
    }

    /// What is known where there is no cluster: the identity that `manifests/` give to Weir, and nothing else.
    #[must_use]
    pub fn without_cluster() -> Self {
        let groups = [
            "system:serviceaccounts",
            "system:serviceaccounts:flux-system",
            "system:authenticated",
        ];
        Self {
            user: json!({"username": "system:serviceaccount:flux-system:weir-controller", "groups": groups}),
            ..Self::default()
        }
    }

    /// Adds objects that exist beside the change: policies see them as inventory, and the namespaces among them are known.
    #[must_use]
    pub fn with_others<'a>(self, objects: impl Iterator<Item = &'a Object> + Clone) -> Self {
        let mut all = self.with_declared(objects.clone());
        for object in objects {
            all.others.insert(object.value());
        }
        all
    }

    /// The inventory as it will be once `objects` are written.
    fn inventory<'a>(&self, objects: impl Iterator<Item = &'a Object>) -> Inventory {
        let mut inventory = self.others.clone();
        for object in objects {
            inventory.insert(object.value());
        }
        inventory
    }

    /// Namespaces that the change itself declares count as the change will leave them.
    fn with_declared<'a>(&self, objects: impl Iterator<Item = &'a Object>) -> Self {
        let mut all = self.clone();
        for object in objects.filter(|object| object.kind() == "Namespace" && object.gvk().group.is_empty()) {
            all.namespaces.insert(object.name().to_owned(), object.value().clone());
        }
        all
    }
}

/// One reason against, or one warning about, a change.
#[derive(Debug, Clone, PartialEq)]
pub struct Reason {
    /// The object.
    pub object: ObjectRef,
    /// Where Git declares it, when known.
    pub place: Option<String>,
    /// What the policy says.
    pub finding: Finding,
}

impl Reason {
    /// `[policy] Kind/ns/name (file:line): message`, with the hint if the policy has one.
    #[must_use]
    pub fn line(&self) -> String {
        let place = self
            .place
            .as_ref()
            .map(|place| format!(" ({place})"))
            .unwrap_or_default();
        let hint = self
            .finding
            .hint
            .as_ref()
            .map(|hint| format!("; fix: {hint}"))
            .unwrap_or_default();
        format!(
            "[{}] {}{place}: {}{hint}",
            self.finding.short_policy(),
            self.object,
            self.finding.message
        )
    }
}

/// What the policies say of a whole plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Verdict {
    /// Why nothing of it may be applied; empty when it may.
    pub denials: Vec<Reason>,
    /// What people should know.
    pub warnings: Vec<Reason>,
}

impl Verdict {
    /// Whether the plan is refused.
    #[must_use]
    pub fn denied(&self) -> bool {
        !self.denials.is_empty()
    }

    /// `error` when a policy could not be evaluated, else `denied` or `allowed`; for metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        if self.denials.iter().any(|reason| reason.finding.failed) {
            "error"
        } else if self.denied() {
            "denied"
        } else {
            "allowed"
        }
    }

    /// The refusal as people read it in a condition: how many, of which revision, and each with its place.
    #[must_use]
    pub fn message(&self, revision: &str, commit: Option<&str>) -> String {
        let count = self.denials.len();
        let commit = commit
            .and_then(|commit| commit.get(..SHORT))
            .map_or(String::new(), |id| format!(" (commit {id})"));
        let mut text = format!(
            "revision {revision}{commit} was refused by policy; nothing of it was applied: {count} {}",
            if count == 1 { "denial" } else { "denials" }
        );
        for reason in self.denials.iter().take(NAMED) {
            let _ = write!(text, "\n{}", reason.line());
        }
        if count > NAMED {
            let _ = write!(text, "\nand {} more", count - NAMED);
        }
        text
    }

    /// Each warning on a line of its own.
    #[must_use]
    pub fn warning_lines(&self) -> Vec<String> {
        self.warnings.iter().take(NAMED).map(Reason::line).collect()
    }
}

/// How much of a commit id people need.
const SHORT: usize = 8;

/// Lets `mutate` rules complete the desired objects.
///
/// # Errors
/// A verdict that names every rule that could not be carried out.
pub fn mutate(
    library: &Library,
    desired: Vec<Desired>,
    live: &HashMap<ObjectRef, Object>,
    surroundings: &Surroundings,
) -> Result<Vec<Desired>, Verdict> {
    if !library.mutates() {
        return Ok(desired);
    }
    let surroundings = surroundings.with_declared(desired.iter().map(|one| &one.object));
    let inventory = surroundings.inventory(desired.iter().map(|one| &one.object));
    let mut verdict = Verdict::default();
    let mut mutated = Vec::with_capacity(desired.len());
    for one in desired {
        let old = live.get(&one.object.reference());
        let review = review(&one.object, old, &surroundings);
        if surroundings.settings.excludes_review(Process::Mutation, &review) {
            mutated.push(one);
            continue;
        }
        match library.mutate(&review, &inventory, BUDGET) {
            Ok(result) if result.patch.0.is_empty() => mutated.push(one),
            Ok(result) => match Object::new(result.object) {
                Ok(object) => mutated.push(Desired { object, ..one }),
                Err(error) => verdict.denials.push(failure(&one, error.to_string())),
            },
            Err(error) => verdict.denials.push(failure(&one, error.to_string())),
        }
    }
    if verdict.denied() { Err(verdict) } else { Ok(mutated) }
}

/// Asks every policy about every part of a plan.
#[must_use]
pub fn judge(library: &Library, plan: &Plan, surroundings: &Surroundings) -> Verdict {
    let mut verdict = Verdict::default();
    each_review(plan, surroundings, |review, inventory, object, place| {
        let decision = library.evaluate(review, inventory, BUDGET);
        collect(&mut verdict, decision.findings, object, place);
    });
    verdict
}

/// Which policies were asked about one part of a plan, and which were not and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Explained {
    /// The object.
    pub object: ObjectRef,
    /// Where Git declares it, when known.
    pub place: Option<String>,
    /// Every policy there is, in the order of their names.
    pub tried: Vec<Tried>,
}

/// Says for every part of a plan what [`judge`] asks.
#[must_use]
pub fn explain(library: &Library, plan: &Plan, surroundings: &Surroundings) -> Vec<Explained> {
    let mut explained = Vec::new();
    each_review(plan, surroundings, |review, inventory, object, place| {
        explained.push(Explained {
            object: object.clone(),
            place: place.map(str::to_owned),
            tried: library.explain(review, inventory, BUDGET),
        });
    });
    explained
}

/// Every question that a plan puts: its changes in their order, then its deletions.
fn each_review(
    plan: &Plan,
    surroundings: &Surroundings,
    mut ask: impl FnMut(&Review, &Inventory, &ObjectRef, Option<&str>),
) {
    let objects = || plan.changes.iter().map(|change| &change.desired.object);
    let surroundings = surroundings.with_declared(objects());
    let mut inventory = surroundings.inventory(objects());
    for deletion in &plan.deletions {
        inventory.remove(deletion.live.value());
    }
    let left_out = |review: &Review| surroundings.settings.excludes_review(Process::Webhook, review);
    for change in plan.changes.iter().filter(|change| change.action != Action::Skip) {
        let Change { desired, live, .. } = change;
        let review = review(&desired.object, live.as_ref(), &surroundings);
        if left_out(&review) {
            continue;
        }
        ask(
            &review,
            &inventory,
            &desired.object.reference(),
            desired.place().as_deref(),
        );
    }
    for deletion in &plan.deletions {
        let namespace = surroundings.namespaces.get(&deletion.object.namespace);
        let review = Review::planned(Operation::Delete, None, Some(&deletion.live), namespace)
            .with_user(surroundings.user.clone());
        if left_out(&review) {
            continue;
        }
        ask(&review, &inventory, &deletion.object, None);
    }
}

fn review(object: &Object, old: Option<&Object>, surroundings: &Surroundings) -> Review {
    let operation = if old.is_some() {
        Operation::Update
    } else {
        Operation::Create
    };
    let namespace = surroundings.namespaces.get(object.namespace());
    Review::planned(operation, Some(object), old, namespace).with_user(surroundings.user.clone())
}

fn collect(verdict: &mut Verdict, findings: Vec<Finding>, object: &ObjectRef, place: Option<&str>) {
    for finding in findings {
        let list = match finding.action {
            crate::policy::Action::Deny => &mut verdict.denials,
            crate::policy::Action::Warn => &mut verdict.warnings,
            crate::policy::Action::DryRun => continue,
        };
        list.push(Reason {
            object: object.clone(),
            place: place.map(str::to_owned),
            finding,
        });
    }
}

fn failure(desired: &Desired, message: String) -> Reason {
    let finding = Finding {
        policy: "mutate".to_owned(),
        action: crate::policy::Action::Deny,
        message,
        details: Value::Null,
        title: None,
        hint: None,
        source: String::new(),
        failed: true,
    };
    Reason {
        object: desired.object.reference(),
        place: desired.place(),
        finding,
    }
}
