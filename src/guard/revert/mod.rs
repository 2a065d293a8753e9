//! What got in does not stay: which change of a managed object is drift, and when to put it back. Pure.
//!
//! Flow: after each apply Weir notes what the API server stored (`Memory`: our entry in `managedFields`, resource version,
//! the object as it was sent). A watch shows metadata only; `judge` compares. Drift is put back by sending
//! the same object again, one request, whether or not its source can be reached at that moment; `Fight` says how soon when
//! the same manager keeps changing the same field. The book of memories and the
//! loop around it are in `controllers::drift`.
//!
//! Guarantees: Weir's own writes are no drift (they are older than, or equal to, what is noted); fields that Git does not
//! declare, status, and what `spec.ignore` or a control marker of Git's leaves alone are no drift; what is kept is bounded,
//! and beyond the bound the whole Kustomization is reconciled instead. A process that has not applied an object itself, a
//! standby or one that has just started, knows it from the watch (`observe`), so that it guards the same fields.
//!
//! Assumes that resource versions grow, as they do with etcd and as Kubernetes 1.35 promises.

mod fight;
mod judge;
mod kept;
mod observe;
mod shape;

pub use fight::{Fight, News, Turn};
pub(super) use judge::taker;
pub use judge::{Drift, Finding, Manager, Quiet, Seen, judge};
pub use kept::Kept;
pub use observe::observe;
pub use shape::Shape;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use serde_json::Value;

use crate::api::kustomize::FIELD_MANAGER;
use crate::core::fields::{FieldSet, Path, Step, changed_fields};
use crate::core::object::{Gvk, Object};

/// The Kustomization that an object belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OwnerKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// What is known of an object since it was applied last.
#[derive(Debug, Clone)]
pub struct Memory {
    /// Whose it is.
    pub owner: OwnerKey,
    /// Its kind in the version that it was applied in.
    pub gvk: Gvk,
    /// The object's uid: deleted and made again it is another one.
    pub uid: String,
    /// Resource version of what was stored; `None` when it is no number, and then every event is looked at.
    pub version: Option<u64>,
    /// Our entry in `managedFields`.
    pub ours: Ours,
    /// Its form when it was seen last.
    pub shape: Shape,
    /// Whether only its absence is drift (`ssa: IfNotPresent`).
    pub when_missing: bool,
    /// Whether Git says that it is left alone altogether.
    pub left_alone: bool,
    /// Whether this is only what a watch showed, not what this process has applied: then our entry is known and what was
    /// sent is not.
    pub observed: bool,
    /// JSON pointers whose drift is left alone (`spec.ignore`).
    pub ignored: Vec<String>,
    /// File and line that declare it, when known.
    pub place: Option<String>,
    /// The object as it was sent; `None` when there was no room for it.
    pub desired: Option<Kept>,
}

/// Our entry in `managedFields`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ours {
    /// Version that the fields are named in.
    pub api_version: String,
    /// When our manager applied last, as the API server writes it.
    pub time: String,
    /// `fieldsV1` as text: compared on every event, read only when it differs.
    pub fields: Box<str>,
}

impl Ours {
    /// Finds our entry.
    #[must_use]
    pub fn of(meta: &ObjectMeta) -> Option<Self> {
        let entry = meta.managed_fields.iter().flatten().find(|entry| is_ours(entry))?;
        Some(Self {
            api_version: entry.api_version.clone().unwrap_or_default(),
            time: time_of(entry),
            fields: entry
                .fields_v1
                .as_ref()
                .map_or_else(String::new, |fields| fields.0.to_string())
                .into(),
        })
    }
}

impl Memory {
    /// What to remember of an object that was just applied, or found to be as it should be. `None` when the API server's
    /// answer shows no entry of ours: then nothing on it was applied by us.
    #[must_use]
    pub fn of(owner: OwnerKey, desired: &Object, stored: &Object) -> Option<Self> {
        let meta = metadata(stored)?;
        Some(Self {
            owner,
            gvk: desired.gvk(),
            ours: Ours::of(&meta)?,
            shape: Shape::of(&meta),
            uid: meta.uid.unwrap_or_default(),
            version: meta.resource_version.as_deref().and_then(|text| text.parse().ok()),
            when_missing: false,
            left_alone: false,
            observed: false,
            ignored: Vec::new(),
            place: None,
            desired: Some(Kept::new(desired)),
        })
    }

    /// What to remember of an object that Git says is left alone: only that.
    #[must_use]
    pub fn of_left_alone(owner: OwnerKey, desired: &Object) -> Self {
        Self {
            owner,
            gvk: desired.gvk(),
            uid: String::new(),
            version: None,
            ours: Ours::default(),
            shape: Shape::default(),
            when_missing: false,
            left_alone: true,
            observed: false,
            ignored: Vec::new(),
            place: None,
            desired: None,
        }
    }
}

/// The lists whose declared items have other places than as they were sent, which metadata does not tell.
#[must_use]
pub fn displaced(memory: &Memory, live: &Object) -> Vec<Path> {
    let declared = serde_json::from_str(&memory.ours.fields).ok();
    let declared = declared.and_then(|fields| FieldSet::parse(&fields).ok());
    let desired = memory.desired.as_ref().and_then(Kept::object);
    let (Some(declared), Some(desired)) = (declared, desired) else {
        return Vec::new();
    };
    // What was sent and what is stored differ in defaults and notation, and whatever else changes a declared field takes it out
    // of our entry.
    let keyed = declared.paths();
    let is_keyed = |list: &Path| {
        let item = |path: &&Path| path.starts_with(list) && matches!(path.0.get(list.0.len()), Some(Step::Key(_)));
        keyed.iter().any(|path| item(&path))
    };
    let is_list = |value: &Option<Value>| value.as_ref().is_some_and(Value::is_array);
    changed_fields(desired.value(), live.value(), &declared)
        .into_iter()
        .filter(|change| is_list(&change.old) && is_list(&change.new) && is_keyed(&change.path))
        .map(|change| change.path)
        .filter(|path| !judge::ignored(path, &memory.ignored))
        .collect()
}

/// The metadata of an object, typed.
#[must_use]
pub fn metadata(object: &Object) -> Option<ObjectMeta> {
    let metadata = object.value().get("metadata").unwrap_or(&Value::Null);
    serde::Deserialize::deserialize(metadata).ok()
}

fn is_ours(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(FIELD_MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.as_deref().unwrap_or_default().is_empty()
}

fn time_of(entry: &ManagedFieldsEntry) -> String {
    entry.time.as_ref().map_or_else(String::new, |time| time.0.to_string())
}

#[cfg(test)]
mod tests;
