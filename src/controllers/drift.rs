//! Drift: watches what Weir has applied and puts back what somebody changed.
//!
//! Flow: `carry_out` applies a plan and notes in the book what was stored; `run` watches the metadata of every kind in
//! the book; `guard::revert::judge` says whether an event is drift; one task for each drifted object sends it again.
//!
//! Guarantees: putting an object back costs one request and needs neither source, nor render, nor a Kustomization that is
//! in order: the last good state stays. What cannot be put back alone (an immutable field) is left to a reconciliation of
//! its Kustomization. Nothing is sent while nothing changes. One object is put back by one task at a time, and never while
//! its Kustomization is being applied.

mod book;
mod put_back;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef as StoreRef;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::kustomization::{COMPONENT, Context};
use super::{Shared, freeze, record};
use crate::api::kustomize::{GROUP, Kustomization, OWNER_NAME};
use crate::apply::objects::Objects;
use crate::apply::{self, Outcome};
use crate::cluster::discovery::Resolved;
use crate::cluster::events::{NewEvent, Severity};
use crate::core::inventory::Inventory;
use crate::core::object::{Gvk, Object, ObjectRef};
use crate::guard::revert::{Kept, Memory, OwnerKey};
use crate::plan::{Action, Change, Plan};
use put_back::Reverter;

pub use book::{Book, KindKey};

/// Most kinds that are watched: each costs a connection to the API server. Clusters serve about 60 kinds of their own and
/// up to 1,000 of others, of which a repository declares a few dozen.
const MAX_WATCHES: usize = 256;
/// How soon to ask again for a kind that is not served: its CustomResourceDefinition may come back.
const RESOLVE_RETRY: Duration = Duration::from_secs(10);

/// Names the owner of what a Kustomization applies.
#[must_use]
pub fn owner_of(kustomization: &Kustomization) -> OwnerKey {
    OwnerKey {
        namespace: kustomization.namespace().unwrap_or_default(),
        name: kustomization.name_any(),
    }
}

/// Carries a plan out and notes what was applied, so that a later change of it is recognised.
pub async fn carry_out(
    shared: &Shared,
    objects: &Objects,
    owner: &OwnerKey,
    plan: &Plan,
    previous: &Inventory,
) -> Outcome {
    let lock = shared.book.lock(owner);
    let _applying = lock.write().await;
    shared
        .book
        .forget(plan.deletions.iter().map(|deletion| &deletion.object));
    let frozen = match freeze::now(&shared.freeze) {
        Some(_) => Some(without_unchanged(shared, plan)),
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
/// while the guard is frozen.
fn without_unchanged(shared: &Shared, plan: &Plan) -> Plan {
    let is_new = |change: &&Change| {
        let (object, desired) = (change.desired.object.reference(), Kept::new(&change.desired.object));
        let known = shared
            .book
            .with(&object, |memory| memory.desired.as_ref() == Some(&desired));
        known != Some(true)
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

/// Tells of an edit that an Exemption lets pass, on the Kustomization and on the object itself.
pub fn exempted(shared: &Shared, kustomization: &Kustomization, object: ObjectReference, message: String) {
    let reason = "DriftExempted";
    record::event(
        &shared.events,
        kustomization,
        COMPONENT,
        Severity::Warning,
        reason,
        message.clone(),
        &[],
    );
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
    let marked = |object: &Object, key: &str, value: &str| object.marker_is(&format!("{GROUP}/{key}"), value);
    let when_missing = marked(desired, "ssa", "IfNotPresent");
    let stored = match change.action {
        Action::Skip => change.live.as_ref().filter(|live| {
            when_missing && !marked(desired, "reconcile", "disabled") && !marked(live, "reconcile", "disabled")
        }),
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

/// Watches and puts back until `shutdown`.
pub async fn run(context: Arc<Context>, shutdown: CancellationToken) {
    let (mut kinds, mut freeze) = (context.shared.book.kinds(), context.shared.freeze.clone());
    let mut exemptions = context.shared.exemptions.changed();
    let reverter = Reverter::new(context, shutdown.clone());
    let mut watches: HashMap<KindKey, CancellationToken> = HashMap::new();
    loop {
        let wanted: HashMap<KindKey, Gvk> = kinds
            .borrow_and_update()
            .iter()
            .map(|gvk| (kind_key(gvk), gvk.clone()))
            .collect();
        watches.retain(|kind, stop| {
            let keep = wanted.contains_key(kind);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for (kind, gvk) in wanted {
            if watches.contains_key(&kind) {
                continue;
            }
            if watches.len() >= MAX_WATCHES {
                tracing::warn!(
                    kind = %gvk, "not watched for drift, {MAX_WATCHES} kinds are watched already; it is corrected at the \
                    interval of its Kustomization"
                );
                continue;
            }
            let stop = shutdown.child_token();
            let (reverter, stopping) = (Arc::clone(&reverter), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = follow(&reverter, gvk) => {}
                }
            });
            watches.insert(kind, stop);
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = kinds.changed() => if changed.is_err() { return },
            Ok(()) = freeze.changed() => reverter.wake_all(),
            Ok(()) = exemptions.changed() => reverter.wake_all(),
        }
    }
}

/// Follows the objects of one kind.
async fn follow(reverter: &Arc<Reverter>, gvk: Gvk) {
    let Some(resolved) = resolve(reverter, &gvk).await else {
        return;
    };
    let client = reverter.shared().client.clone();
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resolved.resource);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default().labels(OWNER_NAME)).default_backoff());
    // What was in the book when the list was asked for and is not in the list is gone.
    let mut unlisted = std::collections::BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                unlisted = reverter
                    .shared()
                    .book
                    .objects(|object| object.group == gvk.group && object.kind == gvk.kind);
            }
            Ok(Event::InitApply(found)) => {
                let object = reference(&gvk, &found.metadata);
                unlisted.remove(&object);
                reverter.seen(object, Some(found.metadata));
            }
            Ok(Event::InitDone) => {
                for object in std::mem::take(&mut unlisted) {
                    reverter.seen(object, None);
                }
            }
            Ok(Event::Apply(found)) => reverter.seen(reference(&gvk, &found.metadata), Some(found.metadata)),
            Ok(Event::Delete(found)) => reverter.seen(reference(&gvk, &found.metadata), None),
            Err(error) => tracing::debug!(kind = %gvk, error = %error, "drift watch interrupted, resuming"),
        }
    }
}

/// How the kind is reached; `None` when it cannot be watched at all.
async fn resolve(reverter: &Reverter, gvk: &Gvk) -> Option<Resolved> {
    loop {
        match reverter.shared().objects.discovery().resolve(gvk).await {
            Ok(resolved) if resolved.watchable => return Some(resolved),
            Ok(_) => {
                tracing::info!(kind = %gvk, "objects of this kind cannot be watched; drift is corrected at the interval");
                return None;
            }
            Err(error) => tracing::debug!(kind = %gvk, error = %error, "not yet watched for drift"),
        }
        tokio::time::sleep(RESOLVE_RETRY).await;
    }
}

fn reference(gvk: &Gvk, meta: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        group: gvk.group.clone(),
        kind: gvk.kind.clone(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

fn kind_key(gvk: &Gvk) -> KindKey {
    KindKey {
        group: gvk.group.clone(),
        kind: gvk.kind.clone(),
    }
}
