//! What Flux's APIs have in common: references, annotations, labels, finalizer, condition types and reasons.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Put on every reconciled object, removed when what it made is gone.
pub const FINALIZER: &str = "finalizers.fluxcd.io";
/// A change of this annotation asks for a reconciliation now; `flux reconcile` sets it.
pub const REQUESTED_AT: &str = "reconcile.fluxcd.io/requestedAt";
/// Annotations under this prefix are copied into events.
pub const EVENT_PREFIX: &str = "event.toolkit.fluxcd.io/";

/// Condition: the object does what its spec says.
pub const READY: &str = "Ready";
/// Condition, only when true: work is under way.
pub const RECONCILING: &str = "Reconciling";
/// Condition, only when true: nothing will happen until somebody changes something.
pub const STALLED: &str = "Stalled";
/// Condition of a Kustomization that checks health.
pub const HEALTHY: &str = "Healthy";
/// Condition of sources: an artifact of the revision in status is in storage.
pub const ARTIFACT_IN_STORAGE: &str = "ArtifactInStorage";
/// Condition of sources, only when true: the last fetch failed.
pub const FETCH_FAILED: &str = "FetchFailed";
/// Condition of sources, only when true: the artifact could not be stored.
pub const STORAGE_FAILED: &str = "StorageOperationFailed";

/// Condition of sources: the signatures that the spec asks for are there and trusted.
pub const SOURCE_VERIFIED: &str = "SourceVerified";
/// Condition of GitRepositories, only when true: what the spec includes is not there.
pub const INCLUDE_UNAVAILABLE: &str = "IncludeUnavailable";

/// Reason: it worked (sources).
pub const SUCCEEDED: &str = "Succeeded";
/// Reason: under way.
pub const PROGRESSING: &str = "Progressing";
/// Reason: the whole change was refused by policy; nothing of it was applied. Weir's own.
pub const POLICY_DENIED: &str = "PolicyDenied";
/// Reason: the spec asks for something this version of Weir does not do. Weir's own.
pub const UNSUPPORTED: &str = "Unsupported";

/// Refers to an object in the same namespace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalRef {
    /// Name of the object.
    pub name: String,
}

/// Refers to an object of any kind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ObjectKindRef {
    /// API version of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_version: Option<String>,
    /// Kind of the object.
    pub kind: String,
    /// Name of the object.
    pub name: String,
    /// Namespace of the object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}
