//! Break-glass: what an Exemption lifts, for whom, how long, and what it has to remember. Pure.
//!
//! Guarantees: it ends at the latest [`LONGEST`] after it was created, whatever is written into it: its end is computed
//! from the time of creation, which the API server sets, and never read from its status. What it lets pass is bounded
//! ([`MAX_EDITS`]), and what cannot be noted does not pass. It lifts the guard over what an object says, not over whom it
//! belongs to: owner labels, control markers and `managedFields` stay Git's, so that there is a way back when it ends.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::ResourceExt;
use kube::core::{Selector, SelectorExt};
use serde_json::Value;

use super::User;
use super::declared::declared;
use crate::api::weir::{ACTIVE, Edit, Exemption, ExemptionStatus, Lift, MAX_MINUTES, Objects, Subject, SubjectKind};
use crate::core::fields::{FieldSet, Path};
use crate::core::object::ObjectRef;

/// Longest Exemption. The schema of `spec.minutes` says the same; this holds where the schema was changed.
pub const LONGEST: Duration = Duration::from_secs(MAX_MINUTES as u64 * 60);
/// Most objects and users that one Exemption notes; with [`MAX_FIELDS`] of 200 characters its status stays below 300 KiB,
/// well below the 1.5 MiB that etcd takes.
pub const MAX_EDITS: usize = 64;
/// Most fields that are named for one of them.
pub const MAX_FIELDS: usize = 16;
/// Longest field path that is noted.
const MAX_PATH: usize = 200;

/// When it ends; `None` when it was never created.
#[must_use]
pub fn until(exemption: &Exemption) -> Option<Timestamp> {
    let created = exemption.metadata.creation_timestamp.as_ref()?.0;
    let minutes = Duration::from_secs(u64::from(exemption.spec.minutes) * 60).min(LONGEST);
    created.checked_add(SignedDuration::try_from(minutes).ok()?).ok()
}

/// How long it still lasts; `None` when it is over.
#[must_use]
pub fn left(exemption: &Exemption, now: Timestamp) -> Option<Duration> {
    if exemption.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let left = Duration::try_from(until(exemption)?.duration_since(now)).ok()?;
    (!left.is_zero()).then_some(left)
}

/// Whether it lets this user edit. The names are those that the API server has authenticated.
#[must_use]
pub fn names(exemption: &Exemption, user: &User) -> bool {
    let own = exemption.namespace().unwrap_or_default();
    let is = |subject: &Subject| match subject.kind {
        SubjectKind::User => user.username == subject.name,
        SubjectKind::Group => user.groups.contains(&subject.name),
        SubjectKind::ServiceAccount => {
            let namespace = subject.namespace.as_ref().unwrap_or(&own);
            user.username == format!("system:serviceaccount:{namespace}:{}", subject.name)
        }
    };
    exemption.spec.subjects.iter().any(is)
}

/// Whether it lifts this for an object with these labels. `home` is Weir's own namespace.
#[must_use]
pub fn covers(
    exemption: &Exemption,
    lift: Lift,
    home: &str,
    object: &ObjectRef,
    labels: &BTreeMap<String, String>,
) -> bool {
    let own = exemption.namespace().unwrap_or_default();
    let reachable = own == home || (!object.namespace.is_empty() && object.namespace == own);
    let lifted = exemption.spec.lift.contains(&lift);
    let within = |list: &Option<Vec<String>>, value: &String| list.as_ref().is_none_or(|list| list.contains(value));
    let is = |one: &Objects| {
        let labelled = one.label_selector.clone().is_none_or(|selector| {
            // A selector that cannot be read selects nothing.
            Selector::try_from(selector).is_ok_and(|selector| selector.matches(labels))
        });
        one.api_group.as_ref().is_none_or(|group| *group == object.group)
            && one.kinds.contains(&object.kind)
            && within(&one.namespaces, &object.namespace)
            && within(&one.names, &object.name)
            && labelled
    };
    lifted && reachable && exemption.spec.objects.iter().any(is)
}

/// The labels of a live object that Git declares: others may have been put on to get under a selector.
#[must_use]
pub fn declared_labels(object: &Value, applied: Option<&FieldSet>) -> BTreeMap<String, String> {
    let fields = declared(object).map(|read| read.fields).unwrap_or_default();
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    let entries = labels.into_iter().flatten().filter_map(|(key, value)| {
        let path = Path::of_fields(["metadata", "labels", key]);
        let known = fields.contains(&path) || applied.is_some_and(|applied| applied.contains(&path));
        known.then(|| Some((key.clone(), value.as_str()?.to_owned()))).flatten()
    });
    entries.collect()
}

/// How it is called.
#[must_use]
pub fn name(exemption: &Exemption) -> String {
    format!("{}/{}", exemption.namespace().unwrap_or_default(), exemption.name_any())
}

/// What who edits under it is told.
#[must_use]
pub fn consequence(exemption: &Exemption) -> String {
    let until = until(exemption).map_or(String::new(), |until| format!(" until {until:.0}"));
    format!(
        "Exemption {} allows this{until}, then Weir puts it back",
        name(exemption)
    )
}

/// What who makes something under it in a strict namespace is told.
#[must_use]
pub fn consequence_of_making(exemption: &Exemption) -> String {
    let until = until(exemption).map_or(String::new(), |until| format!(" until {until:.0}"));
    format!("Exemption {} allows this{until}; it stays afterwards", name(exemption))
}

/// There is no room for another object or user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it has noted {MAX_EDITS} objects and users, the most that one Exemption may let pass; create another one")]
pub struct Full;

/// The status with one more edit.
///
/// # Errors
/// When there is no room for it.
pub fn noted(mut status: ExemptionStatus, edit: Edit) -> Result<ExemptionStatus, Full> {
    let edits = status.edits.get_or_insert_default();
    let same = |one: &&mut Edit| one.user == edit.user && edited(one) == edited(&edit);
    if let Some(known) = edits.iter_mut().find(same) {
        known.manager = edit.manager;
        known.operation = edit.operation;
        known.kustomization = edit.kustomization;
        known.last = edit.last;
        known.count += edit.count;
        add_fields(&mut known.fields, edit.fields);
    } else if edits.len() >= MAX_EDITS {
        return Err(Full);
    } else {
        let mut fields = Vec::new();
        add_fields(&mut fields, edit.fields);
        edits.push(Edit { fields, ..edit });
    }
    status.edit_count = Some(status.edit_count.unwrap_or_default() + 1);
    Ok(status)
}

fn add_fields(known: &mut Vec<String>, new: Vec<String>) {
    for field in new {
        let field: String = field.chars().take(MAX_PATH).collect();
        if known.len() < MAX_FIELDS && !known.contains(&field) {
            known.push(field);
        }
    }
}

/// The object of an edit.
#[must_use]
pub fn edited(edit: &Edit) -> ObjectRef {
    ObjectRef {
        group: edit.group.clone(),
        kind: edit.kind.clone(),
        namespace: edit.namespace.clone(),
        name: edit.name.clone(),
    }
}

/// What it has let pass of one object.
pub fn edits<'a>(exemption: &'a Exemption, object: &'a ObjectRef) -> impl Iterator<Item = &'a Edit> {
    let edits = exemption.status.iter().flat_map(|status| status.edits.iter().flatten());
    edits.filter(|edit| edited(edit) == *object)
}

/// Whether an object was edited under it. What its status says counts for nothing beyond what its spec reaches.
#[must_use]
pub fn has_let_pass(exemption: &Exemption, home: &str, object: &ObjectRef, labels: &BTreeMap<String, String>) -> bool {
    edits(exemption, object).next().is_some() && covers(exemption, Lift::Drift, home, object, labels)
}

/// What has become of it since its status was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// It is new.
    Granted,
    /// It ends later than it did, or holds again.
    Extended,
    /// It ends earlier than it did.
    Shortened,
    /// It is over.
    Ended,
}

/// The status that it should have, and what is news.
#[must_use]
pub fn status(exemption: &Exemption, now: Timestamp) -> (ExemptionStatus, Option<Turn>) {
    let old = exemption.status.clone().unwrap_or_default();
    let active = left(exemption, now).is_some();
    let ends = until(exemption);
    let conditions = old.conditions.as_deref().unwrap_or_default();
    let before = conditions.iter().find(|one| one.type_ == ACTIVE);
    let was_active = before.map(|one| one.status == "True");
    let told = old.until.as_ref().map(|time| time.0);
    let turn = match (was_active, active) {
        (None, true) => Some(Turn::Granted),
        (Some(true) | None, false) => Some(Turn::Ended),
        (Some(false), true) => Some(Turn::Extended),
        (Some(true), true) if ends > told => Some(Turn::Extended),
        (Some(true), true) if ends < told => Some(Turn::Shortened),
        _ => None,
    };
    let (status, reason) = if active {
        ("True", "Granted")
    } else {
        ("False", "Expired")
    };
    let generation = exemption.metadata.generation;
    let times = ends.map_or(String::new(), |until| format!("{until:.0}"));
    let mut message = if active {
        format!("until {times}")
    } else {
        format!("ended {times}")
    };
    if generation.is_some_and(|generation| generation > 1) {
        // The API server counts changes of the spec; nobody can take this back.
        message.push_str(", after its minutes were changed");
    }
    let since = before
        .filter(|one| one.status == status)
        .map(|one| one.last_transition_time.clone());
    let condition = Condition {
        type_: ACTIVE.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        observed_generation: generation,
        last_transition_time: since.unwrap_or(Time(whole_seconds(now))),
    };
    let status = ExemptionStatus {
        observed_generation: generation,
        until: ends.map(Time),
        conditions: Some(vec![condition]),
        ..old
    };
    (status, turn)
}

/// Times in statuses have whole seconds.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

#[cfg(test)]
mod tests;
