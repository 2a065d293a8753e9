//! Carries an allowed plan out: server-side apply in stages, prune, wait for health.
//!
//! Flow: everything that can be tried dry is tried dry first; then each stage is written, after a dry run of what only
//! became possible through the stage before (objects in a new namespace, of a new kind). Only objects that the dry run
//! showed to differ are written, after the fields that others must not have were taken over. Pruning comes last.
//!
//! Guarantees: when a dry run fails nothing of that stage or a later one is written, and when it fails in the first
//! round nothing at all; all failures of a round are reported together; every step is safe to repeat, so a stop in the
//! middle costs only the next reconciliation; objects whose deletion was refused stay in the inventory.
//!
//! Assumes that the gate allowed the plan.

pub mod health;
pub mod objects;
mod outcome;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::api::kustomize::FIELD_MANAGER;
use crate::core::diff;
use crate::core::ignored;
use crate::core::inventory::Inventory;
use crate::core::object::{Gvk, Object, ObjectRef};
use crate::plan::{Action, Change, Deletion, Plan, Stage};
use health::{Patience, Wanted};
use objects::{Mode, ObjectError, Objects};
pub use outcome::{Applied, Done, Outcome};

/// How many requests one reconciliation has in flight. Flux's default for `--concurrent-ssa` is 4; dry runs are cheap
/// for the API server, and its fair queueing bounds the whole.
const CONCURRENT_REQUESTS: usize = 8;
/// How long to wait for the objects of an early stage (a CRD to be established), as Flux does.
const STAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long to wait for an object that is being recreated to be gone.
const RECREATE_TIMEOUT: Duration = Duration::from_secs(60);
/// How often to look whether it is gone.
const RECREATE_POLL: Duration = Duration::from_millis(200);

/// How much of a name stays where it gets an ending: names of many kinds may have 63 bytes.
const SHORT_NAME: usize = 50;

/// How often fields are taken over from others who write meanwhile: a controller writes status a few times a second at most.
const TAKE_OVER_ATTEMPTS: u32 = 5;

/// Carries a plan out. `previous` is the inventory so far; it decides what is still owned after a failure.
pub async fn carry_out(objects: &Objects, plan: &Plan, previous: &Inventory) -> Outcome {
    let mut outcome = Outcome {
        inventory: plan.inventory.clone(),
        ..Outcome::default()
    };
    if let Err(failures) = apply_all(objects, plan, &mut outcome.applied).await {
        outcome.failures = failures;
        outcome.inventory = owned_after_failure(plan, previous, &outcome.applied);
        return outcome;
    }
    for deletion in &plan.deletions {
        match objects.delete(&deletion.gvk, &deletion.object).await {
            Ok(_) => outcome.applied.push(Applied {
                object: deletion.object.clone(),
                gvk: deletion.gvk.clone(),
                done: Done::Deleted,
                stored: None,
            }),
            Err(error) => {
                outcome.inventory.insert(deletion.object.clone(), &deletion.gvk.version);
                outcome.failures.push(error);
            }
        }
    }
    outcome.only_pruning_failed = !outcome.failures.is_empty();
    outcome
}

/// Deletes what a removed Kustomization owned; returns what could not be deleted.
pub async fn remove(objects: &Objects, deletions: &[Deletion]) -> Vec<ObjectError> {
    let mut failures = Vec::new();
    for deletion in deletions {
        if let Err(error) = objects.delete(&deletion.gvk, &deletion.object).await {
            failures.push(error);
        }
    }
    failures
}

/// Waits until none of the objects exists any more; gives up at the deadline. Returns whether all are gone.
pub async fn wait_until_gone(objects: &Objects, deletions: &[Deletion], timeout: Duration) -> bool {
    let deadline = Instant::now() + timeout;
    for deletion in deletions {
        while !matches!(objects.get(&deletion.gvk, &deletion.object).await, Ok(None)) {
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(RECREATE_POLL).await;
        }
    }
    true
}

/// After a failure the old inventory stays, and what was written is added: nothing is ever orphaned.
fn owned_after_failure(plan: &Plan, previous: &Inventory, applied: &[Applied]) -> Inventory {
    let mut inventory = previous.clone();
    for one in applied.iter().filter(|one| plan.inventory.0.contains_key(&one.object)) {
        inventory.insert(one.object.clone(), &one.gvk.version);
    }
    inventory
}

/// What a dry run says must be done.
enum Needed {
    Skip,
    Nothing(Object),
    Apply,
    Recreate,
}

async fn apply_all(objects: &Objects, plan: &Plan, applied: &mut Vec<Applied>) -> Result<(), Vec<ObjectError>> {
    let new_namespaces = created_namespaces(plan);
    let mut later: HashSet<ObjectRef> = HashSet::new();
    let mut first = Vec::new();
    for change in &plan.changes {
        let object = change.desired.object.reference();
        let served = objects.discovery().resolve(&change.desired.object.gvk()).await.is_ok();
        if served && !new_namespaces.contains(object.namespace.as_str()) {
            first.push(change);
        } else {
            later.insert(object);
        }
    }
    let (mut needed, mut failures) = dry_run(objects, &first).await;
    put_off(plan, &needed, &mut failures, &mut later);
    if !failures.is_empty() {
        return Err(told(failures));
    }
    for stage in [Stage::Definitions, Stage::Classes, Stage::Custom, Stage::Rest] {
        let changes: Vec<&Change> = plan.changes.iter().filter(|change| change.stage == stage).collect();
        let now: Vec<&Change> = changes
            .iter()
            .copied()
            .filter(|change| later.contains(&change.desired.object.reference()))
            .collect();
        let (found, failures) = dry_run(objects, &now).await;
        if !failures.is_empty() {
            return Err(told(failures));
        }
        needed.extend(found);
        let mut written = Vec::new();
        for change in changes {
            let object = change.desired.object.reference();
            let Some(position) = needed.iter().position(|(of, _)| *of == object) else {
                continue;
            };
            let (_, what) = needed.swap_remove(position);
            let one = write(objects, change, what).await.map_err(|error| vec![error])?;
            if matches!(stage, Stage::Definitions | Stage::Classes)
                && one.done != Done::Unchanged
                && one.done != Done::Skipped
            {
                written.push((one.gvk.clone(), one.object.clone()));
            }
            applied.push(one);
        }
        if !written.is_empty() {
            settle(objects, &written).await?;
        }
    }
    Ok(())
}

/// Waits until definitions can be used: a CRD is established, a namespace is active.
async fn settle(objects: &Objects, written: &[(Gvk, ObjectRef)]) -> Result<(), Vec<ObjectError>> {
    objects.discovery().invalidate().await;
    let wanted = written
        .iter()
        .map(|(gvk, object)| Wanted::new(gvk.clone(), object.clone()));
    let waited = health::wait(
        objects,
        wanted.collect(),
        Patience::of(STAGE_TIMEOUT),
        std::future::pending(),
    )
    .await;
    objects.discovery().invalidate().await;
    match waited {
        Ok(()) => Ok(()),
        Err(error) => Err(written
            .iter()
            .take(1)
            .map(|(_, object)| ObjectError::Refused {
                object: object.clone(),
                action: "apply",
                code: 0,
                reason: String::new(),
                message: error.to_string(),
            })
            .collect()),
    }
}

/// What is missing or forbidden may be there or allowed once an earlier stage is written: a role that somebody is bound to.
/// Such failures are put off until then; the others stand.
fn put_off(
    plan: &Plan,
    needed: &[(ObjectRef, Needed)],
    failures: &mut Vec<(ObjectRef, ObjectError)>,
    later: &mut HashSet<ObjectRef>,
) {
    if failures.is_empty() {
        return;
    }
    let stages: HashMap<ObjectRef, Stage> = plan
        .changes
        .iter()
        .map(|change| (change.desired.object.reference(), change.stage))
        .collect();
    let stage = |object: &ObjectRef| stages.get(object).copied();
    let written = needed
        .iter()
        .filter(|(_, needed)| matches!(needed, Needed::Apply | Needed::Recreate));
    let first_written = written.filter_map(|(object, _)| stage(object)).min();
    failures.retain(|(object, error)| {
        let stands = !error.may_need_others() || stage(object) <= first_written || first_written.is_none();
        if !stands {
            later.insert(object.clone());
        }
        stands
    });
}

fn told(failures: Vec<(ObjectRef, ObjectError)>) -> Vec<ObjectError> {
    failures.into_iter().map(|(_, error)| error).collect()
}

/// Tries all of them dry: what is needed for each, and what failed.
async fn dry_run(objects: &Objects, changes: &[&Change]) -> (Vec<(ObjectRef, Needed)>, Vec<(ObjectRef, ObjectError)>) {
    // Boxed one by one: a closure over borrowed changes is not general enough for a task that may move between threads.
    let mut asked: Vec<BoxFuture<'_, Result<Needed, ObjectError>>> = Vec::with_capacity(changes.len());
    for change in changes {
        asked.push(dry_run_one(objects, change).boxed());
    }
    let results: Vec<_> = stream::iter(asked).buffered(CONCURRENT_REQUESTS).collect().await;
    let (mut needed, mut failures) = (Vec::with_capacity(results.len()), Vec::new());
    for (change, result) in changes.iter().zip(results) {
        let object = change.desired.object.reference();
        match result {
            Ok(one) => needed.push((object, one)),
            Err(error) => failures.push((object, error)),
        }
    }
    (needed, failures)
}

async fn dry_run_one(objects: &Objects, change: &Change) -> Result<Needed, ObjectError> {
    if change.action == Action::Skip {
        return Ok(Needed::Skip);
    }
    let ignored = change.ignored.iter().map(String::as_str);
    let needed = match objects.apply(&sent(change), Mode::DryRun).await {
        Ok(result) => match &change.live {
            Some(live)
                if change.take_over.is_none() && diff::drift(live.value(), result.value(), ignored).is_empty() =>
            {
                Needed::Nothing(live.clone())
            }
            _ => Needed::Apply,
        },
        Err(error) if change.force && change.live.is_some() && error.is_immutable() => Needed::Recreate,
        Err(error)
            if change.force
                && change.live.is_some()
                && error.may_be_immutable()
                && would_do_anew(objects, &change.desired.object).await =>
        {
            Needed::Recreate
        }
        Err(error) => return Err(error),
    };
    Ok(needed)
}

/// Whether an object that may not become what it should be could be made so anew: asked under another name. Without
/// that, one that is wrong in itself would be deleted for nothing.
async fn would_do_anew(objects: &Objects, desired: &Object) -> bool {
    let mut value = desired.value().clone();
    if let Some(name) = value.pointer_mut("/metadata/name") {
        let end = desired.name().floor_char_boundary(SHORT_NAME);
        let short = desired
            .name()
            .get(..end)
            .unwrap_or_default()
            .trim_end_matches(['-', '.']);
        *name = format!("{short}-anew").into();
    }
    match Object::new(value) {
        Ok(other) => objects.apply(&other, Mode::DryRun).await.is_ok(),
        Err(_) => false,
    }
}

async fn write(objects: &Objects, change: &Change, needed: Needed) -> Result<Applied, ObjectError> {
    let desired = &change.desired.object;
    let (object, gvk) = (desired.reference(), desired.gvk());
    let (done, stored) = match needed {
        Needed::Skip => (Done::Skipped, None),
        Needed::Nothing(live) => (Done::Unchanged, Some(live)),
        Needed::Apply => {
            let done = if change.live.is_some() {
                Done::Configured
            } else {
                Done::Created
            };
            take_over(objects, change).await?;
            (done, Some(objects.apply(&sent(change), Mode::Write).await?))
        }
        Needed::Recreate => {
            objects.delete(&gvk, &object).await?;
            let deadline = Instant::now() + RECREATE_TIMEOUT;
            while objects.get(&gvk, &object).await?.is_some() && Instant::now() < deadline {
                tokio::time::sleep(RECREATE_POLL).await;
            }
            (Done::Recreated, Some(objects.apply(desired, Mode::Write).await?))
        }
    };
    Ok(Applied {
        object,
        gvk,
        done,
        stored,
    })
}

/// Makes the fields of others ours. Who wrote in between is looked at again.
async fn take_over(objects: &Objects, change: &Change) -> Result<(), ObjectError> {
    let (desired, mut wanted) = (&change.desired.object, change.take_over.clone());
    let (object, gvk) = (desired.reference(), desired.gvk());
    for attempt in 1.. {
        let Some(take_over) = &wanted else { break };
        match objects.patch(&gvk, &object, take_over.patch()).await {
            Ok(()) => break,
            Err(error) if error.is_conflict() && attempt < TAKE_OVER_ATTEMPTS => {
                let live = objects.get(&gvk, &object).await?;
                wanted = live.and_then(|live| take_over.again(desired, &live));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The object as it is sent: with the fields that are left to others as they are.
#[must_use]
pub fn sent(change: &Change) -> Cow<'_, Object> {
    let desired = &change.desired.object;
    let Some(live) = change.live.as_ref().filter(|_| !change.ignored.is_empty()) else {
        return Cow::Borrowed(desired);
    };
    // What is taken over first is ours by then: left out, it would go.
    let taken = |manager: &str| change.take_over.as_ref().is_some_and(|taken| taken.takes(manager));
    let value = ignored::as_it_is(desired.value(), live.value(), &change.ignored, |manager| {
        manager == FIELD_MANAGER || taken(manager)
    });
    Object::new(value).map_or(Cow::Borrowed(desired), Cow::Owned)
}

fn created_namespaces(plan: &Plan) -> HashSet<&str> {
    let created = plan.changes.iter().filter(|change| change.action == Action::Create);
    created
        .map(|change| &change.desired.object)
        .filter(|object| object.kind() == "Namespace")
        .map(Object::name)
        .collect()
}

/// What is live of these objects, read a few at a time.
///
/// # Errors
/// When the API server cannot be read.
pub async fn read_live(
    objects: &Objects,
    wanted: Vec<(Gvk, ObjectRef)>,
) -> Result<HashMap<ObjectRef, Object>, ObjectError> {
    stream::iter(wanted.into_iter().map(|(gvk, object)| async move {
        Ok::<_, ObjectError>(objects.get(&gvk, &object).await?.map(|live| (object, live)))
    }))
    .buffer_unordered(CONCURRENT_REQUESTS)
    .try_filter_map(|found| async move { Ok(found) })
    .try_collect()
    .await
}
