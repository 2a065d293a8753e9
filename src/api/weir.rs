//! `weir.dev/v1alpha1`: Exemption, Weir's own kind. Alpha, because its form may still change.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, LabelSelector, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group; also the prefix of Weir's own control markers.
pub const GROUP: &str = "weir.dev";
/// The annotation of an Exemption that says who asked for it, or for the time that it lasts now. The door writes it.
pub const ASKED_BY: &str = "weir.dev/asked-by";
/// The annotation of a Kustomization by which somebody agrees to the deletions of one revision.
pub const ALLOW_PRUNE: &str = "weir.dev/allow-prune";
/// Longest Exemption: a shift of eight hours. Who takes over can break the glass again, and nobody forgets one for days.
pub const MAX_MINUTES: u16 = 480;
/// Condition of an Exemption: what it says holds now.
pub const ACTIVE: &str = "Active";

/// Breaks the glass: lets some people change some objects that Git declares, for some minutes.
///
/// It lies in a namespace, so that the right to create one can be given for one namespace, and reaches objects of that
/// namespace only. One in Weir's own namespace reaches every namespace, and objects that lie in none.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "weir.dev",
    version = "v1alpha1",
    kind = "Exemption",
    namespaced,
    category = "weir",
    status = "ExemptionStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Active","type":"string","jsonPath":".status.conditions[?(@.type==\"Active\")].status"}"#,
    printcolumn = r#"{"name":"Until","type":"string","jsonPath":".status.until"}"#,
    printcolumn = r#"{"name":"Minutes","type":"integer","jsonPath":".spec.minutes"}"#,
    printcolumn = r#"{"name":"Edits","type":"integer","jsonPath":".status.editCount"}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".spec.reason"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ExemptionSpec {
    /// What is lifted.
    #[schemars(length(min = 1, max = 2))]
    pub lift: Vec<Lift>,
    /// Why; shown to whoever edits, and to whoever asks later.
    #[schemars(length(min = 3, max = 512))]
    pub reason: String,
    /// How long it lasts, counted from its creation. It may be changed afterwards, up to the same bound; nothing else may.
    #[schemars(range(min = 1, max = 480))]
    pub minutes: u16,
    /// Who may edit.
    #[schemars(length(min = 1, max = 32))]
    pub subjects: Vec<Subject>,
    /// What may be edited.
    #[schemars(length(min = 1, max = 32))]
    pub objects: Vec<Objects>,
}

/// What an Exemption lifts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Lift {
    /// That changes of what Git declares are refused and put back.
    #[serde(rename = "drift")]
    Drift,
    /// That nothing may be made by hand in a strict namespace. What was made stays when it ends, and is named then.
    #[serde(rename = "strict")]
    Strict,
}

/// Who may edit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Subject {
    /// What the name is of.
    pub kind: SubjectKind,
    /// Name of the user, group or service account.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Namespace of a service account; that of the Exemption when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    pub namespace: Option<String>,
}

/// Kinds of subjects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum SubjectKind {
    /// A user, by the name that the API server has authenticated.
    User,
    /// A group.
    Group,
    /// A service account.
    ServiceAccount,
}

/// Objects that may be edited: those that every given field says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Objects {
    /// API group, empty for the core group; any group when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub api_group: Option<String>,
    /// Kinds, as in Deployment.
    #[schemars(
        length(min = 1, max = 32),
        inner(regex(pattern = r"^[A-Z][A-Za-z0-9]*$"), length(max = 63))
    )]
    pub kinds: Vec<String>,
    /// Namespaces. Outside Weir's own namespace an Exemption reaches its own one only, whatever stands here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 63)))]
    pub namespaces: Option<Vec<String>>,
    /// Names; any when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64), inner(length(max = 253)))]
    pub names: Option<Vec<String>>,
    /// Labels, as Git declares them: labels that were put on by hand do not count, and what is made by hand has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_selector: Option<LabelSelector>,
}

/// What has come of an Exemption.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ExemptionStatus {
    /// Generation that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// When it ends, or has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
    /// `Active`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub conditions: Option<Vec<Condition>>,
    /// How many edits it has let pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edit_count: Option<i64>,
    /// What it has let pass: one entry for each object and user, at most 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub edits: Option<Vec<Edit>>,
}

/// What one user has edited of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Edit {
    /// Who, as the API server has authenticated them.
    pub user: String,
    /// The field manager that their client named last.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub manager: String,
    /// What was done last: Create, Update or Delete.
    pub operation: String,
    /// API group of the object.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Namespace and name of the Kustomization that it belongs to; nothing for what was made by hand in a strict namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kustomization: String,
    /// The fields, at most 16 of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fields: Vec<String>,
    /// When first.
    pub first: Time,
    /// When last.
    pub last: Time,
    /// How often.
    pub count: i64,
}
