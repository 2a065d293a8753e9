//! Rendered × inventory × live → what to create, update, delete and leave alone, in which stages. Pure.
//!
//! Flow: `prepare` makes desired objects of rendered ones (owner labels, common metadata, namespaces checked), the
//! caller reads what is live, `plan` decides. The gate then judges the plan as a whole, and only `apply` writes.
//!
//! Guarantees: every desired object is in exactly one stage; inventory entries that are no longer desired are planned
//! for deletion only when pruning is on; control markers (`reconcile: disabled`, `ssa: …`) are honoured on the desired
//! and on the live object; all that is wrong with a change is reported at once.

mod builtin;
mod order;
mod prepare;
mod take_over;

use std::collections::HashMap;

use crate::api::ignore::IgnoreRules;
use crate::api::kustomize::{GROUP, OWNER_NAME, OWNER_NAMESPACE};
use crate::core::inventory::Inventory;
use crate::core::object::{Gvk, Object, ObjectRef};

pub use builtin::{Scopes, builtin_scope};
pub use order::{Stage, stage_of};
pub use prepare::{Desired, Owner, PlanError, Problem, Scope, prepare};
pub use take_over::TakeOver;

/// What is to be done with one desired object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It does not exist.
    Create,
    /// It exists; the API server says whether applying changes anything.
    Update,
    /// A control marker says to leave it alone; it is listed in the inventory all the same.
    Skip,
}

/// One desired object and what is to be done with it.
#[derive(Debug, Clone)]
pub struct Change {
    /// What to do.
    pub action: Action,
    /// The object as it should be.
    pub desired: Desired,
    /// The object as it is.
    pub live: Option<Object>,
    /// Keep fields of other managers' keys that Git does not declare (`ssa: Merge`).
    pub merge: bool,
    /// Recreate the object when an immutable field changed.
    pub force: bool,
    /// Fields that others wrote and that become ours before applying.
    pub take_over: Option<TakeOver>,
    /// JSON pointers of fields that are left to others (`spec.ignore`).
    pub ignored: Vec<String>,
    /// With which others it is applied.
    pub stage: Stage,
}

impl Change {
    /// Whether it is left alone because the object in the cluster says so, not the one in Git.
    #[must_use]
    pub fn is_left_by_live(&self) -> bool {
        self.action == Action::Skip && !says_skip(&self.desired.object, self.live.is_some())
    }
}

/// An object that Git no longer has.
#[derive(Debug, Clone)]
pub struct Deletion {
    /// What to delete.
    pub object: ObjectRef,
    /// Its kind with the version that it was applied at.
    pub gvk: Gvk,
    /// The object as it is.
    pub live: Object,
}

/// Everything that one reconciliation would do.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Desired objects in the order in which they are applied.
    pub changes: Vec<Change>,
    /// Objects to delete, in the order in which they are deleted.
    pub deletions: Vec<Deletion>,
    /// The inventory once everything is done: every desired object.
    pub inventory: Inventory,
}

/// What `plan` needs to know of the Kustomization.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// `spec.prune`.
    pub prune: bool,
    /// `spec.force`.
    pub force: bool,
    /// `--override-manager`: managers, beside kubectl's, whose fields are taken over.
    pub override_managers: &'a [String],
    /// `spec.ignore`.
    pub ignore: Option<&'a IgnoreRules>,
    /// `--custom-apply-stage-kinds`: group and kind.
    pub custom_stage: &'a [(String, String)],
}

/// Decides what to do.
///
/// `live` holds what exists of the desired objects and of the stale entries of `previous`.
#[must_use]
pub fn plan(
    desired: Vec<Desired>,
    previous: &Inventory,
    live: &HashMap<ObjectRef, Object>,
    owner: &Owner,
    options: Options<'_>,
) -> Plan {
    let mut inventory = Inventory::default();
    let mut changes: Vec<Change> = desired
        .into_iter()
        .map(|desired| {
            let reference = desired.object.reference();
            inventory.insert(reference.clone(), &desired.object.gvk().version);
            change(desired, live.get(&reference).cloned(), options)
        })
        .collect();
    order::sort(&mut changes);
    let mut deletions: Vec<Deletion> = if options.prune {
        let stale = previous.without(&inventory).into_iter();
        stale
            .filter_map(|(object, gvk)| deletion(object, gvk, live, owner))
            .collect()
    } else {
        Vec::new()
    };
    order::sort_deletions(&mut deletions);
    Plan {
        changes,
        deletions,
        inventory,
    }
}

/// What to delete when the Kustomization itself goes.
#[must_use]
pub fn plan_removal(previous: &Inventory, live: &HashMap<ObjectRef, Object>, owner: &Owner) -> Vec<Deletion> {
    plan(
        Vec::new(),
        previous,
        live,
        owner,
        Options {
            prune: true,
            ..Options::default()
        },
    )
    .deletions
}

fn change(desired: Desired, live: Option<Object>, options: Options<'_>) -> Change {
    let marked = |key: &str, value: &str| {
        let key = format!("{GROUP}/{key}");
        desired.object.marker_is(&key, value) || live.as_ref().is_some_and(|live| live.marker_is(&key, value))
    };
    let skip = says_skip(&desired.object, live.is_some()) || live.as_ref().is_some_and(|live| says_skip(live, false));
    let action = match (&live, skip) {
        (_, true) => Action::Skip,
        (None, _) => Action::Create,
        (Some(_), _) => Action::Update,
    };
    let force = options.force || marked("force", "enabled");
    let merge = marked("ssa", "Merge");
    let ignored = options
        .ignore
        .map(|rules| rules.pointers(&desired.object))
        .unwrap_or_default();
    let stage = stage_of(&desired.object.gvk(), options.custom_stage);
    let take_over = live
        .as_ref()
        .filter(|_| action == Action::Update)
        .and_then(|live| TakeOver::of(&desired.object, live, options.override_managers));
    Change {
        action,
        stage,
        desired,
        live,
        merge,
        force,
        take_over,
        ignored,
    }
}

/// Whether an object says to leave it alone; `exists` is for what is only made, never changed.
fn says_skip(object: &Object, exists: bool) -> bool {
    let marked = |key: &str, value: &str| object.marker_is(&format!("{GROUP}/{key}"), value);
    marked("reconcile", "disabled") || marked("ssa", "Ignore") || exists && marked("ssa", "IfNotPresent")
}

/// A stale object is deleted only if it still carries this owner's labels and nothing on it says to keep it.
fn deletion(object: ObjectRef, gvk: Gvk, live: &HashMap<ObjectRef, Object>, owner: &Owner) -> Option<Deletion> {
    let live = live.get(&object)?;
    let ours = live.label(OWNER_NAME) == Some(&owner.name) && live.label(OWNER_NAMESPACE) == Some(&owner.namespace);
    let kept = [("prune", "disabled"), ("reconcile", "disabled"), ("ssa", "Ignore")]
        .into_iter()
        .any(|(key, value)| live.marker_is(&format!("{GROUP}/{key}"), value));
    (ours && !kept).then(|| Deletion {
        object,
        gvk,
        live: live.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn owner() -> Owner {
        Owner {
            name: "app".into(),
            namespace: "flux-system".into(),
        }
    }

    fn object(name: &str, annotations: &[(&str, &str)], ours: bool) -> Object {
        let mut object = Object::new(
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "prod"}}),
        )
        .unwrap();
        object.merge_annotations(annotations.iter().copied());
        if ours {
            object.merge_labels([(OWNER_NAME, "app"), (OWNER_NAMESPACE, "flux-system")]);
        }
        object
    }

    fn desired(name: &str, annotations: &[(&str, &str)]) -> Desired {
        Desired {
            object: object(name, annotations, true),
            file: None,
            line: None,
        }
    }

    fn live(objects: &[Object]) -> HashMap<ObjectRef, Object> {
        objects
            .iter()
            .map(|object| (object.reference(), object.clone()))
            .collect()
    }

    #[test]
    fn control_markers_decide_what_is_left_alone() {
        let check = |wanted: &[(&str, &str)], existing: Option<&[(&str, &str)]>, expect: Action| {
            let live = live(&existing.map(|a| object("x", a, true)).into_iter().collect::<Vec<_>>());
            let plan = plan(
                vec![desired("x", wanted)],
                &Inventory::default(),
                &live,
                &owner(),
                Options::default(),
            );
            assert_eq!(plan.changes[0].action, expect, "{wanted:?} on {existing:?}");
            assert_eq!(plan.inventory.0.len(), 1, "skipped objects stand in the inventory too");
        };
        check(&[], None, Action::Create);
        check(&[], Some(&[]), Action::Update);
        check(
            &[("kustomize.toolkit.fluxcd.io/reconcile", "Disabled")],
            None,
            Action::Skip,
        );
        check(
            &[],
            Some(&[("kustomize.toolkit.fluxcd.io/reconcile", "disabled")]),
            Action::Skip,
        );
        check(&[("kustomize.toolkit.fluxcd.io/ssa", "Ignore")], None, Action::Skip);
        check(
            &[("kustomize.toolkit.fluxcd.io/ssa", "IfNotPresent")],
            None,
            Action::Create,
        );
        check(
            &[("kustomize.toolkit.fluxcd.io/ssa", "IfNotPresent")],
            Some(&[]),
            Action::Skip,
        );
    }

    #[test]
    fn only_what_is_ours_and_not_marked_is_pruned() {
        let check = |existing: Option<Object>, prune: bool, expect: usize| {
            let previous = Inventory::read([("prod_gone__ConfigMap", "v1")]).0;
            let live = live(&existing.into_iter().collect::<Vec<_>>());
            let plan = plan(
                vec![desired("x", &[])],
                &previous,
                &live,
                &owner(),
                Options {
                    prune,
                    ..Options::default()
                },
            );
            assert_eq!(plan.deletions.len(), expect);
        };
        check(Some(object("gone", &[], true)), true, 1);
        check(Some(object("gone", &[], true)), false, 0);
        check(Some(object("gone", &[], false)), true, 0);
        check(None, true, 0);
        check(
            Some(object(
                "gone",
                &[("kustomize.toolkit.fluxcd.io/prune", "disabled")],
                true,
            )),
            true,
            0,
        );
    }
}
