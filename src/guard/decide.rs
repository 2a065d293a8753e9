//! The decision itself.
//!
//! Order of the questions: whose is it, who asks, is it left alone on purpose; then, by operation, what would it change.
//! A dry run and an owner that only warns turn a refusal into a warning at the very end, so both show what would happen.

use std::borrow::Cow;
use std::collections::BTreeSet;

use serde_json::Value;

use super::declared::{Declared, declared};
use super::message::{Facts, explain, unseen, warning};
use super::{Cause, Change, Denial, Identities, Mode, Operation, Owner, Reason, Verdict, modes};
use crate::api::kustomize::{GROUP, OWNER_NAME, OWNER_NAMESPACE};
use crate::api::weir::ALLOW_PRUNE;
use crate::core::diff;
use crate::core::fields::{FieldChange, FieldSet, FieldsError, Path, Step, changed_fields, value_at};

/// May the request go on?
#[must_use]
pub fn decide(change: &Change, owner: Option<&Owner>, identities: &Identities) -> Verdict {
    let Some(owner) = owner else {
        return allow(Reason::Unmanaged);
    };
    if identities.is_weir(&change.user) {
        return allow(Reason::Weir);
    }
    if identities.is_api_server(&change.user) {
        return allow(Reason::Controller);
    }
    if owner.mode == Mode::Off {
        return allow(Reason::Off);
    }
    let refusal = match judge(change, owner, identities) {
        Ok(reason) => {
            let warnings = match reason {
                Reason::Unseen => vec![unseen(change, owner)],
                _ => Vec::new(),
            };
            return Verdict::Allow { reason, warnings };
        }
        Err(refusal) => refusal,
    };
    let told = |reason, consequence| Verdict::Allow {
        reason,
        warnings: vec![warning(change, owner, &refusal.facts, consequence)],
    };
    if let Some(consequence) = &owner.frozen {
        told(Reason::Frozen, consequence)
    } else if owner.suspended {
        told(Reason::Suspended, "it is suspended, so this stays until it is resumed")
    } else if let Some(consequence) = owner.exempt.as_ref().filter(|_| refusal.cause.is_drift()) {
        Verdict::Exempt {
            fields: named(&refusal.facts),
            warning: warning(change, owner, &refusal.facts, consequence),
        }
    } else if owner.mode == Mode::Warn {
        told(Reason::Warned, "Weir puts it back")
    } else if owner.mode == Mode::Audit {
        told(Reason::Audited, "it stays until the next interval")
    } else if change.options.dry_run {
        told(Reason::DryRun, "without a dry run this request is refused")
    } else {
        Verdict::Deny(Denial {
            cause: refusal.cause,
            fields: named(&refusal.facts),
            message: explain(change, owner, &refusal.facts),
        })
    }
}

fn named(facts: &Facts) -> Vec<String> {
    facts.fields().map(|field| field.path.to_string()).collect()
}

struct Refusal {
    cause: Cause,
    facts: Facts,
}

fn refuse(cause: Cause, facts: Facts) -> Result<Reason, Refusal> {
    Err(Refusal { cause, facts })
}

fn judge(change: &Change, owner: &Owner, identities: &Identities) -> Result<Reason, Refusal> {
    let subresource = change.subresource.as_str();
    match change.operation {
        // Evictions, bindings and tokens are made, not changed; none of them reaches what Git declares.
        Operation::Create | Operation::Delete if !subresource.is_empty() => Ok(Reason::Undeclared),
        Operation::Create if identities.is_controller(&change.user) => Ok(Reason::Controller),
        Operation::Create => refuse(Cause::Creation, Facts::Created),
        Operation::Delete if is_terminating(change) => Ok(Reason::Terminating),
        Operation::Delete if change.old.as_ref().is_some_and(|old| owner.leaves_alone(old)) => Ok(Reason::LeftAlone),
        Operation::Delete if identities.is_controller(&change.user) => Ok(Reason::Controller),
        Operation::Delete => refuse(Cause::Deletion, Facts::Deleted),
        Operation::Update if subresource == "scale" => judge_scale(change, owner),
        Operation::Update if is_terminating(change) => Ok(Reason::Terminating),
        Operation::Update => judge_update(change, owner),
    }
}

/// `/scale` shows the number of replicas and nothing else, so what is declared is read from the parent.
fn judge_scale(change: &Change, owner: &Owner) -> Result<Reason, Refusal> {
    let replicas = |scale: Option<&Value>| scale?.pointer("/spec/replicas").cloned();
    // The API leaves out a zero.
    let number = |value: Option<Value>| value.unwrap_or(Value::from(0));
    let (old, new) = (
        number(replicas(change.old.as_ref())),
        number(replicas(change.new.as_ref())),
    );
    if old == new {
        return Ok(Reason::Undeclared);
    }
    let Some(parent) = &change.parent else {
        return Ok(Reason::Unseen);
    };
    if owner.leaves_alone(&parent.object) {
        return Ok(Reason::LeftAlone);
    }
    if is_deleted(&parent.object) {
        return Ok(Reason::Terminating);
    }
    let read = match declared(&parent.object) {
        Ok(read) => read,
        Err(error) => return unreadable(&error),
    };
    // A parent that is cached as metadata alone has no version of its own; in any version's terms the number is declared.
    if owner.ignores(&parent.replicas) {
        return Ok(Reason::Undeclared);
    }
    let applied = owner.applied.as_ref();
    if read.fields.contains(&parent.replicas)
        || read.elsewhere.contains(&parent.replicas)
        || applied.is_some_and(|fields| fields.contains(&parent.replicas))
    {
        let field = FieldChange::new(parent.replicas.clone(), Some(&old), Some(&new));
        return refuse(Cause::Fields, Facts::Changed(vec![field]));
    }
    Ok(Reason::Undeclared)
}

fn judge_update(change: &Change, owner: &Owner) -> Result<Reason, Refusal> {
    let (Some(old), Some(new)) = (&change.old, &change.new) else {
        return Ok(Reason::Unseen);
    };
    if old.get("kind") != new.get("kind") || old.get("metadata").is_none() {
        return Ok(Reason::Undeclared);
    }
    let read = declared(old);
    let mut markers = changed_markers(old, new);
    markers.retain(|marker| !is_taken_off(marker, read.as_ref().ok(), owner));
    if !markers.is_empty() {
        return refuse(Cause::Markers, Facts::Marked(markers));
    }
    if owner.leaves_alone(old) {
        return Ok(Reason::LeftAlone);
    }
    let before = match read {
        Ok(before) => before,
        Err(error) => return unreadable(&error),
    };
    let applied_here = before.elsewhere.is_empty();
    let guarded = match &owner.applied {
        Some(applied) if applied_here => Cow::Owned(before.fields.clone().union(applied.clone())),
        _ => Cow::Borrowed(&before.fields),
    };
    let mut changed = changed_fields(old, new, &guarded);
    if !applied_here && change.subresource.is_empty() {
        changed.extend(changed_in_another_version(old, new));
    }
    changed.retain(|field| !owner.ignores(&field.path));
    if !changed.is_empty() {
        return refuse(Cause::Fields, Facts::Changed(changed));
    }
    judge_ownership(old, new, &before, owner)
}

/// No declared value has changed as far as one can tell without a schema. The API server can tell: it has taken out of our
/// entry what the request changes. What left it with another value is a change after all (a list taken as a whole that was
/// declared empty); what left it with the same value was taken out by hand, to change it next time.
fn judge_ownership(old: &Value, new: &Value, before: &Declared, owner: &Owner) -> Result<Reason, Refusal> {
    let after = match declared(new) {
        Ok(after) => after,
        Err(error) => return unreadable(&error),
    };
    let lost = before.fields.difference(&after.fields).paths();
    let (taken, changed): (Vec<Path>, Vec<Path>) = lost
        .into_iter()
        .filter(|path| !owner.ignores(path))
        .partition(|path| value_at(old, path) == value_at(new, path));
    let changed: Vec<FieldChange> = changed
        .into_iter()
        .map(|path| {
            let (was, is) = (value_at(old, &path), value_at(new, &path));
            FieldChange::new(path, was, is)
        })
        .collect();
    if !changed.is_empty() {
        return refuse(Cause::Fields, Facts::Changed(changed));
    }
    let elsewhere_lost = before.elsewhere.difference(&after.elsewhere.union(after.fields));
    let elsewhere_lost = elsewhere_lost.paths().iter().any(|path| !owner.ignores(path));
    if elsewhere_lost || taken.iter().any(|path| value_at(old, path).is_some()) {
        return refuse(Cause::Ownership, Facts::Disowned);
    }
    Ok(Reason::Undeclared)
}

/// Owner labels and control markers, which are Git's to write: labels and annotations in Flux's group and in Weir's.
fn changed_markers(old: &Value, new: &Value) -> Vec<FieldChange> {
    let mut found = Vec::new();
    for field in ["labels", "annotations"] {
        let map = |object: &'_ Value| {
            object
                .pointer(&format!("/metadata/{field}"))
                .and_then(Value::as_object)
                .cloned()
        };
        let (was, is) = (map(old).unwrap_or_default(), map(new).unwrap_or_default());
        let keys: BTreeSet<&String> = was.keys().chain(is.keys()).collect();
        for key in keys.into_iter().filter(|key| is_marker(key)) {
            let (was, is) = (was.get(key), is.get(key));
            if was != is {
                found.push(FieldChange::new(Path::of_fields(["metadata", field, key]), was, is));
            }
        }
    }
    found
}

/// Whether a label or annotation controls what Weir or Flux does.
pub(super) fn is_marker(key: &str) -> bool {
    // Who agrees to many deletions does so by hand, by its purpose.
    key != ALLOW_PRUNE
        && [GROUP, modes::GROUP]
            .iter()
            .any(|group| key.strip_prefix(group).is_some_and(|rest| rest.starts_with('/')))
}

/// A marker that was put on by hand may be taken off by hand: that leads back to what Git says.
fn is_taken_off(marker: &FieldChange, declared: Option<&Declared>, owner: &Owner) -> bool {
    let is_owner = [OWNER_NAME, OWNER_NAMESPACE]
        .iter()
        .any(|label| marker.path == Path::of_fields(["metadata", "labels", label]));
    let is_gits = |fields: &FieldSet| fields.contains(&marker.path);
    marker.new.is_none()
        && !is_owner
        && declared.is_some_and(|declared| !is_gits(&declared.fields))
        && !owner.applied.as_ref().is_some_and(is_gits)
}

/// The object was applied in another version than this request speaks, so declared paths mean nothing here. Everything
/// outside metadata and status is taken for declared then: a round trip through an old version must not be a way in.
fn changed_in_another_version(old: &Value, new: &Value) -> Vec<FieldChange> {
    let pointers = diff::drift(old, new, []);
    let outside = pointers.iter().filter(|pointer| !pointer.starts_with("/metadata/"));
    outside
        .map(|pointer| {
            let steps = pointer.split('/').skip(1).map(|token| match token.parse() {
                Ok(index) => Step::Index(index),
                Err(_) => Step::Field(token.replace("~1", "/").replace("~0", "~")),
            });
            FieldChange::new(Path(steps.collect()), old.pointer(pointer), new.pointer(pointer))
        })
        .collect()
}

fn unreadable(error: &FieldsError) -> Result<Reason, Refusal> {
    refuse(Cause::Unreadable, Facts::Unreadable(error.to_string()))
}

fn is_terminating(change: &Change) -> bool {
    change.old.as_ref().is_some_and(is_deleted)
}

fn is_deleted(object: &Value) -> bool {
    object
        .pointer("/metadata/deletionTimestamp")
        .is_some_and(|time| !time.is_null())
}

fn allow(reason: Reason) -> Verdict {
    Verdict::Allow {
        reason,
        warnings: Vec::new(),
    }
}
