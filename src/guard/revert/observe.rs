//! What a process learns of objects that another one has applied: a standby, whose door decides like the leader's, and a
//! leader that has just started.
//!
//! Our entry in `managedFields` gets a new time when Weir applies something else, and keeps its time when somebody takes
//! fields out of it. So the entry as it was after the last apply can be told from what is left of it after an edit.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::judge::{lost, taker};
use super::{Memory, Ours, OwnerKey, Shape};
use crate::core::fields::FieldSet;
use crate::core::object::Gvk;
use crate::guard::markers;

/// Entries carry whole seconds, and Weir may apply twice in one. Beyond this age of our entry what left it was not taken out
/// by an apply of ours; the rest is room for clocks that differ.
const SAME_APPLY: SignedDuration = SignedDuration::from_secs(10);

/// What to remember of an object that a watch shows; `None` when what is known stays as it is.
#[must_use]
pub fn observe(known: Option<&Memory>, owner: OwnerKey, gvk: Gvk, meta: &ObjectMeta, now: Timestamp) -> Option<Memory> {
    let seen = Ours::of(meta)?;
    let version: Option<u64> = meta.resource_version.as_deref().and_then(|text| text.parse().ok());
    match known {
        // Marked before we saw it otherwise: that may be older than Weir, and counts.
        None if !markers::alone(meta).is_empty() => return None,
        None => {}
        Some(known) if !known.observed || known.version.zip(version).is_some_and(|(known, seen)| seen <= known) => {
            return None;
        }
        Some(known) => {
            let anew = known.ours.time != seen.time || known.ours.api_version != seen.api_version;
            if !anew && !is_our_own(known, &seen, meta, now) {
                return None;
            }
        }
    }
    let declared = serde_json::from_str(&seen.fields).ok();
    let declared = declared
        .and_then(|fields| FieldSet::parse(&fields).ok())
        .unwrap_or_default();
    let when_missing = markers::if_missing(meta).iter().any(|marker| declared.contains(marker));
    Some(Memory {
        owner,
        gvk,
        uid: meta.uid.clone().unwrap_or_default(),
        version,
        ours: seen,
        shape: Shape::of(meta),
        when_missing,
        left_alone: false,
        observed: true,
        ignored: Vec::new(),
        place: None,
        desired: None,
    })
}

/// Whether another form of our entry with the same time is of an apply of ours within the same second.
fn is_our_own(known: &Memory, seen: &Ours, meta: &ObjectMeta, now: Timestamp) -> bool {
    if known.ours.fields == seen.fields {
        return false;
    }
    let lost = lost(&known.ours, Some(seen));
    let age = seen.time.parse::<Timestamp>().map(|time| now.duration_since(time));
    lost.is_empty() || age.is_ok_and(|age| age <= SAME_APPLY) && taker(meta, &lost, &seen.time).is_none()
}
