//! Drift: watches what Weir has applied and puts back what somebody changed.
//!
//! Flow: `carry_out` applies a plan and notes in the book what was stored; `run` watches the metadata of every kind in
//! the book and in the inventories; `guard::revert::judge` says whether an event is drift; one task for each drifted object
//! sends it again. A process that does not lead only watches and notes, so that its door decides as the leader's does.
//!
//! Guarantees: putting an object back costs one request and needs neither source, nor render, nor a Kustomization that is
//! in order: the last good state stays. What cannot be put back alone (an immutable field) is left to a reconciliation of
//! its Kustomization. Nothing is sent while nothing changes. One object is put back by one task at a time, and never while
//! its Kustomization is being applied.

mod book;
mod put_back;
mod told;
mod watch;

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ObjectReference, Secret};
use kube::runtime::reflector::ObjectRef as StoreRef;
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::kustomization::{COMPONENT, Context};
use super::{Shared, freeze, record};
use crate::api::kustomize::{GROUP, Kustomization};
use crate::apply::objects::{ObjectError, Objects};
use crate::apply::{self, Outcome};
use crate::cluster::events::{NewEvent, Severity};
use crate::core::inventory::Inventory;
use crate::core::object::{Gvk, Object, ObjectRef};
use crate::guard::revert::{self, Kept, Memory, OwnerKey};
use crate::guard::{Mode, markers};
use crate::plan::{Action, Change, Desired, Plan};

pub use book::{Book, KindKey};
pub use watch::run;

/// Names the owner of what a Kustomization applies.
#[must_use]
pub fn owner_of(kustomization: &Kustomization) -> OwnerKey {
    OwnerKey {
        namespace: kustomization.namespace().unwrap_or_default(),
        name: kustomization.name_any(),
    }
}

/// Carries a plan out and notes what was applied, so that a later change of it is recognised. `same_revision` says that it is
/// of the revision that was applied last, by whatever process.
pub async fn carry_out(
    shared: &Shared,
    objects: &Objects,
    owner: &OwnerKey,
    plan: &Plan,
    previous: &Inventory,
    same_revision: bool,
) -> Outcome {
    let lock = shared.book.lock(owner);
    let _applying = lock.write().await;
    shared.book.begin(owner);
    shared
        .book
        .forget(plan.deletions.iter().map(|deletion| &deletion.object));
    let frozen = match freeze::now(&shared.freeze) {
        Some(_) => {
            shared.book.left_frozen(owner);
            Some(without_unchanged(shared, plan, same_revision))
        }
        None => without_exempt(shared, plan).await,
    };
    let outcome = apply::carry_out(objects, frozen.as_ref().unwrap_or(plan), previous).await;
    let stored: HashMap<&ObjectRef, &Object> = outcome
        .applied
        .iter()
        .filter_map(|one| Some((&one.object, one.stored.as_ref()?)))
        .collect();
    let noted = plan.changes.iter().filter_map(|change| {
        let object = change.desired.object.reference();
        let memory = memory(owner, change, stored.get(&object).copied())?;
        Some((object, memory))
    });
    let all = outcome.failures.is_empty() || outcome.only_pruning_failed;
    if all && frozen.is_none() {
        shared.book.replace(owner, noted.collect());
    } else {
        // What was not reached this time keeps its last good state.
        for (object, memory) in noted {
            shared.book.remember(object, memory);
        }
    }
    outcome
}

/// The plan without the objects that Git has not changed since they were applied: what was done to them by hand stays
/// while the guard is frozen. After a restart the revision tells.
fn without_unchanged(shared: &Shared, plan: &Plan, same_revision: bool) -> Plan {
    let is_new = |change: &&Change| {
        let (object, desired) = (change.desired.object.reference(), Kept::new(&change.desired.object));
        let known = shared.book.with(&object, |memory| memory.desired.clone()).flatten();
        known.map_or(!same_revision, |known| known != desired)
    };
    Plan {
        changes: plan.changes.iter().filter(is_new).cloned().collect(),
        ..plan.clone()
    }
}

/// The plan without the objects that were edited under an Exemption that still lasts, and that Git has not changed since
/// they were applied as far as this process knows; `None` when there are none.
async fn without_exempt(shared: &Shared, plan: &Plan) -> Option<Plan> {
    let now = Timestamp::now();
    let these = shared.exemptions.fresh(now).await;
    let is_exempt = |change: &Change| {
        let object = change.desired.object.reference();
        let labels = labels_of(&change.desired.object);
        let known = shared.book.with(&object, |memory| memory.desired.clone()).flatten();
        let is_new = known.is_some_and(|known| known != Kept::new(&change.desired.object));
        !is_new && shared.exemptions.holds(&these, &object, &labels, now).is_some()
    };
    let exempt = |change: &&Change| change.action != Action::Skip && is_exempt(change);
    if these.is_empty() || !plan.changes.iter().any(|change| exempt(&change)) {
        return None;
    }
    Some(Plan {
        changes: plan.changes.iter().filter(|change| !exempt(change)).cloned().collect(),
        ..plan.clone()
    })
}

/// The labels of an object.
fn labels_of(object: &Object) -> BTreeMap<String, String> {
    let labels = object.value().pointer("/metadata/labels").and_then(Value::as_object);
    let entries = labels.into_iter().flatten();
    entries
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Has a whole Kustomization reconciled, without the short cut for what looks unchanged.
pub fn look_again(context: &Context, owner: &OwnerKey) {
    let key = StoreRef::new(&owner.name).within(&owner.namespace);
    let Some(kustomization) = context.store.get(&key) else {
        return;
    };
    context.memories.with(&kustomization, |memory| memory.drifted = true);
    if context.kick.try_send(key).is_err() {
        tracing::debug!("not queued, the queue is full; the interval will");
    }
}

/// Tells of an edit that an Exemption lets pass, on the Kustomization, if it belongs to one, and on the object itself.
pub fn exempted(shared: &Shared, kustomization: Option<&Kustomization>, object: ObjectReference, message: String) {
    let reason = "DriftExempted";
    if let Some(kustomization) = kustomization {
        record::event(
            &shared.events,
            kustomization,
            COMPONENT,
            Severity::Warning,
            reason,
            message.clone(),
            &[],
        );
    }
    shared.events.record(NewEvent {
        involved: object,
        severity: Severity::Warning,
        reason: reason.to_owned(),
        message,
        annotations: BTreeMap::new(),
        component: COMPONENT,
    });
}

/// Forgets what a Kustomization has applied: what happens to it from now on is nobody's drift.
pub async fn forget(shared: &Shared, owner: &OwnerKey) {
    let lock = shared.book.lock(owner);
    let _applying = lock.write().await;
    shared.book.forget_owner(owner);
}

/// Tells of a change of declared fields that the guard only listens to (`audit`).
pub fn admitted(shared: &Shared, kustomization: &Kustomization, message: String) {
    let reason = "DriftAdmitted";
    record::event(
        &shared.events,
        kustomization,
        COMPONENT,
        Severity::Warning,
        reason,
        message,
        &[],
    );
}

/// What to remember of one change. `ssa: IfNotPresent` insists on the object only, not on its fields.
fn memory(owner: &OwnerKey, change: &Change, stored: Option<&Object>) -> Option<Memory> {
    let desired = &change.desired.object;
    if markers::declared_alone(desired) {
        return Some(Memory::of_left_alone(owner.clone(), desired));
    }
    let marked = |object: &Object, key: &str, value: &str| object.marker_is(&format!("{GROUP}/{key}"), value);
    let when_missing = marked(desired, "ssa", "IfNotPresent");
    let stored = match change.action {
        Action::Skip => change
            .live
            .as_ref()
            .filter(|live| when_missing && !marked(live, "reconcile", "disabled")),
        Action::Create | Action::Update => stored,
    };
    let memory = Memory::of(owner.clone(), desired, stored?)?;
    Some(Memory {
        when_missing,
        ignored: change.ignored.clone(),
        place: change.desired.place(),
        ..memory
    })
}

/// Takes off the markers that were put on an object by hand so that it is left alone.
async fn unmark(objects: &Objects, gvk: &Gvk, object: &ObjectRef) -> Result<Option<Object>, ObjectError> {
    let Some(live) = objects.get(gvk, object).await? else {
        return Ok(None);
    };
    let markers = revert::metadata(&live)
        .map(|meta| markers::alone(&meta))
        .unwrap_or_default();
    let Some(patch) = markers::taken_off(&markers, live.resource_version()).filter(|_| !markers.is_empty()) else {
        return Ok(Some(live));
    };
    objects.patch(gvk, object, &patch).await?;
    tracing::info!(object = %object, "markers that were put on by hand taken off");
    objects.get(gvk, object).await
}

/// Since when the guard stands in this cluster: as long as its certificates. They are made by the first process that guards
/// and renewed in place; where somebody else brings them, they come before it. `None` when that cannot be read just now.
async fn guarding_since(shared: &Shared) -> Option<Timestamp> {
    let read = || async {
        let certificates = &shared.settings.certificates;
        let api: Api<Secret> = Api::namespaced(shared.client.clone(), &certificates.namespace);
        let found = api.get_metadata(&certificates.name).await.map_err(|_| ())?;
        found.metadata.creation_timestamp.map(|time| time.0).ok_or(())
    };
    shared.book.guarding().get_or_try_init(read).await.ok().copied()
}

/// Takes off what was put on by hand, of the live objects of a plan, so that they are planned for as Git says. What was
/// marked before Weir applied it for the first time stays marked, as with Flux.
///
/// # Errors
/// When the API server refuses it.
pub async fn unmark_live(
    shared: &Shared,
    objects: &Objects,
    kustomization: &Kustomization,
    desired: &[Desired],
    live: &mut HashMap<ObjectRef, Object>,
) -> Result<(), ObjectError> {
    if !shared.settings.guards || freeze::now(&shared.freeze).is_some() {
        return Ok(());
    }
    for one in desired {
        let object = one.object.reference();
        let marked = live.get(&object).is_some_and(markers::declared_alone) && !markers::declared_alone(&one.object);
        let applied = |memory: &Memory| !memory.left_alone && !memory.when_missing;
        let insists = matches!(
            super::guard_mode(shared, kustomization, &object),
            Mode::Enforce | Mode::Warn
        );
        if !marked || !insists {
            continue;
        }
        let by_hand = match shared.book.with(&object, applied) {
            Some(by_hand) => by_hand,
            // After a start, nothing is known of what was marked while no Weir ran.
            None => match (
                live.get(&object).and_then(revert::metadata),
                guarding_since(shared).await,
            ) {
                (Some(meta), Some(since)) => markers::put_on_since(&meta, since),
                _ => false,
            },
        };
        if by_hand {
            let mended = unmark(objects, &one.object.gvk(), &object).await?;
            live.remove(&object);
            live.extend(mended.map(|mended| (object, mended)));
        }
    }
    Ok(())
}
