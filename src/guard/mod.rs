//! May this request change what Git declares? Pure: no client, no clock.
//!
//! Flow: the webhook makes a [`Change`] of a request and looks up in the inventories which Kustomization lists the object;
//! [`decide`] says yes or no. A denial's text is made for the person who meets it in a terminal (`message`).
//!
//! Guarantees: what no inventory lists is nobody's and passes; what a request does to fields that Git does not declare
//! passes; values decide, not what the new object claims about its owners; when the declared fields cannot be read the
//! request is refused, as nobody could tell what it changes.
//!
//! Assumes that the caller knows every inventory, and that the user of a request was authenticated by the API server.

mod decide;
mod declared;
pub mod exemption;
pub mod freeze;
mod glance;
mod identities;
pub mod markers;
mod message;
pub mod modes;
pub mod origin;
pub mod revert;
mod strict;

use std::collections::BTreeMap;

use serde_json::Value;

pub use decide::decide;
pub use declared::declares;
pub use glance::leaves_alone;
pub use identities::{Identities, class_of_manager};
pub use message::{shown_change, shown_value};
pub use strict::{ClaimedOwner, claimed_owner, decide_strict};

use crate::core::fields::{FieldSet, Path};
use crate::core::object::ObjectRef;
use crate::core::snapshot::Commit;

/// What a request would do.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// What is to be done.
    pub operation: Operation,
    /// Subresource, as in `scale`; empty for the object itself.
    pub subresource: String,
    /// The object; for a subresource the object that it belongs to.
    pub object: ObjectRef,
    /// What is stored now: the object, or what the subresource shows of it.
    pub old: Option<Value>,
    /// What would be stored.
    pub new: Option<Value>,
    /// Who asks.
    pub user: User,
    /// How.
    pub options: Options,
    /// The object itself, where the subresource does not show it.
    pub parent: Option<Parent>,
}

/// What is to be done with an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Make it.
    Create,
    /// Change it.
    Update,
    /// Remove it.
    Delete,
}

/// Who asks, as the API server has authenticated them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct User {
    /// User name.
    pub username: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What authentication and impersonation added.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// How a request is made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Field manager that the client names.
    pub field_manager: String,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// The object behind a `/scale`, which itself shows no labels and no managed fields.
#[derive(Debug, Clone, PartialEq)]
pub struct Parent {
    /// The object; its metadata is enough.
    pub object: Value,
    /// Where the number of replicas stands in it.
    pub replicas: Path,
}

impl Parent {
    /// A parent whose replicas stand at `spec.replicas`, as in every built-in kind.
    #[must_use]
    pub fn new(object: Value) -> Self {
        Self {
            object,
            replicas: Path::of_fields(["spec", "replicas"]),
        }
    }

    /// A parent of a custom kind, whose definition says where its replicas stand in the version of the object.
    #[must_use]
    pub fn of_custom(object: Value, definition: &Value) -> Self {
        let version = object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let version = version.rsplit('/').next().unwrap_or_default();
        let versions = definition.pointer("/spec/versions").and_then(Value::as_array);
        let mut versions = versions.into_iter().flatten();
        let own = versions.find(|one| one.get("name").and_then(Value::as_str) == Some(version));
        let place = own.and_then(|own| own.pointer("/subresources/scale/specReplicasPath")?.as_str());
        match place.and_then(|place| place.strip_prefix('.')) {
            // The API server takes plain names and dots only.
            Some(place) => Self {
                object,
                replicas: Path::of_fields(place.split('.')),
            },
            None => Self::new(object),
        }
    }
}

/// The Kustomization whose inventory lists the object, and where it comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Owner {
    /// Name of the Kustomization.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// How strict the guard is with its objects.
    pub mode: Mode,
    /// Whether it is suspended.
    pub suspended: bool,
    /// What the user is told while the whole guard is frozen.
    pub frozen: Option<String>,
    /// What the user is told whom an Exemption lets edit this object.
    pub exempt: Option<String>,
    /// Kind of its source, as in `GitRepository`.
    pub source_kind: String,
    /// Namespace and name of its source, as in `flux-system/apps`.
    pub source_name: String,
    /// Where the source comes from.
    pub url: Option<String>,
    /// The revision that was applied last.
    pub revision: Option<String>,
    /// `spec.path`.
    pub path: Option<String>,
    /// The commit of that revision, when known.
    pub commit: Option<Commit>,
    /// The file that declares the object, when known.
    pub file: Option<String>,
    /// The fields that were last applied, when they are remembered. An edit that got in before takes its fields out of the
    /// live object's `managedFields`; this keeps them guarded until they are put back.
    pub applied: Option<FieldSet>,
    /// JSON pointers of declared fields that are left to others (`spec.ignore`).
    pub ignored: Vec<String>,
    /// Whether Git says that the object is left alone, when that is known. Else a marker on the stored object counts: it may
    /// be there from before Weir's time.
    pub left_alone: Option<bool>,
}

impl Owner {
    /// Whether the stored object is left alone on purpose.
    fn leaves_alone(&self, stored: &Value) -> bool {
        self.left_alone.unwrap_or_else(|| markers::leave_alone(stored))
    }

    /// Whether a field is left to others.
    fn ignores(&self, path: &Path) -> bool {
        self.ignored.iter().any(|pointer| path.is_at_pointer(pointer))
    }
}

/// How strict the guard is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// Refuses.
    #[default]
    Enforce,
    /// Lets pass with a warning.
    Warn,
    /// Lets pass; an event tells.
    Audit,
    /// Lets pass.
    Off,
}

/// The decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The request may go on.
    Allow {
        /// Why.
        reason: Reason,
        /// What the user is told nevertheless.
        warnings: Vec<String>,
    },
    /// The request may go on once it is noted in the Exemption that allows it.
    Exempt {
        /// The fields, as paths; none for a creation or deletion.
        fields: Vec<String>,
        /// What the user is told.
        warning: String,
    },
    /// The request is refused.
    Deny(Denial),
}

impl Verdict {
    /// Whether the request may go on.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow { .. } | Self::Exempt { .. })
    }
}

/// Why a request may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No inventory lists the object.
    Unmanaged,
    /// Weir itself asks.
    Weir,
    /// The guard is off for the owner.
    Off,
    /// The owner is suspended.
    Suspended,
    /// The whole guard is frozen for a time.
    Frozen,
    /// A control marker that Git put on the object says that it is left alone.
    LeftAlone,
    /// A controller of Kubernetes does its work.
    Controller,
    /// The object is being deleted already.
    Terminating,
    /// Nothing that Git declares is changed.
    Undeclared,
    /// Nothing is stored.
    DryRun,
    /// The guard only warns for this owner.
    Warned,
    /// The guard only tells of it for this owner; the warnings are for an event, not for the user.
    Audited,
    /// What is declared cannot be seen from here; if it is drift it is put back afterwards.
    Unseen,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// It changes declared fields.
    Fields,
    /// It changes owner labels or control markers.
    Markers,
    /// It takes declared fields away from their owner in `managedFields`.
    Ownership,
    /// It deletes a managed object.
    Deletion,
    /// It makes a managed object by hand, or anything in a strict namespace.
    Creation,
    /// The declared fields could not be read.
    Unreadable,
}

impl Cause {
    /// Whether it is about what the object says. The rest is about whom it belongs to, which no Exemption lifts: there
    /// would be no way back when it ends.
    #[must_use]
    pub fn is_drift(self) -> bool {
        matches!(self, Self::Fields | Self::Deletion | Self::Creation)
    }
}

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// Why.
    pub cause: Cause,
    /// The fields, as paths.
    pub fields: Vec<String>,
    /// What the user reads.
    pub message: String,
}

#[cfg(test)]
mod tests;
