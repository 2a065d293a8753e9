//! `source.extensions.fluxcd.io/v1beta1`: ArtifactGenerator, which puts new artifacts together from parts of others.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::kustomize::CommonMetadata;

/// The API group.
pub const GROUP: &str = "source.extensions.fluxcd.io";
/// Put on every reconciled ArtifactGenerator; not the finalizer of Flux's other kinds.
pub const FINALIZER: &str = "source.extensions.fluxcd.io/finalizer";
/// Label of an ExternalArtifact: uid of the ArtifactGenerator that offers it.
pub const GENERATOR_LABEL: &str = "source.extensions.fluxcd.io/generator";
/// With the value `disabled` on an ArtifactGenerator, nothing is done for it.
pub const RECONCILE: &str = "source.extensions.fluxcd.io/reconcile";

/// Which parts of which sources make which artifacts.
#[derive(CustomResource, Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "source.extensions.fluxcd.io",
    version = "v1beta1",
    kind = "ArtifactGenerator",
    namespaced,
    shortname = "ag",
    category = "all",
    category = "fluxcd",
    category = "fluxcd-sources",
    status = "ArtifactGeneratorStatus",
    derive = "PartialEq",
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status"}"#,
    printcolumn = r#"{"name":"Status","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message"}"#
)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactGeneratorSpec {
    /// Labels and annotations for the ExternalArtifacts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub common_metadata: Option<CommonMetadata>,
    /// What is copied from.
    #[schemars(length(min = 1, max = 1000))]
    pub sources: Vec<GeneratorSource>,
    /// `@alias/directory/{name}`: everything in `artifacts` is made once for each directory that matches, with the parts in
    /// braces put in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^@([a-z0-9]([a-z0-9_-]*[a-z0-9])?)/(.*)$"), length(max = 1024))]
    pub path_pattern: Option<String>,
    /// What is made.
    #[schemars(length(min = 1, max = 1000))]
    pub artifacts: Vec<OutputArtifact>,
}

/// A source that is copied from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct GeneratorSource {
    /// What `@alias` means elsewhere in the spec.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9_-]*[a-z0-9])?$"), length(max = 63))]
    pub alias: String,
    /// Name of the source.
    #[schemars(regex(pattern = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"), length(max = 253))]
    pub name: String,
    /// Its namespace; the ArtifactGenerator's own when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), length(min = 1, max = 63))]
    pub namespace: Option<String>,
    /// Its kind.
    pub kind: GeneratorSourceKind,
}

/// Kinds that an ArtifactGenerator copies from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum GeneratorSourceKind {
    /// An object store bucket.
    Bucket,
    /// A Git repository.
    GitRepository,
    /// An OCI artifact.
    OCIRepository,
    /// A Helm chart.
    HelmChart,
    /// An artifact that some other controller offers.
    ExternalArtifact,
}

impl GeneratorSourceKind {
    /// The kind as the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bucket => "Bucket",
            Self::GitRepository => "GitRepository",
            Self::OCIRepository => "OCIRepository",
            Self::HelmChart => "HelmChart",
            Self::ExternalArtifact => "ExternalArtifact",
        }
    }
}

/// An artifact that is made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OutputArtifact {
    /// Name of the ExternalArtifact.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// `@alias`: the artifact has the revision of that source; `latest@<digest of the content>` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^@([a-z0-9]([a-z0-9_-]*[a-z0-9])?)$"), length(max = 64))]
    pub revision: Option<String>,
    /// `@alias`: the origin revision of that source is told with the artifact.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = r"^@([a-z0-9]([a-z0-9_-]*[a-z0-9])?)$"), length(max = 64))]
    pub origin_revision: Option<String>,
    /// What is copied where, in this order.
    #[schemars(length(min = 1))]
    pub copy: Vec<CopyOperation>,
}

/// What is copied where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CopyOperation {
    /// `@alias/glob`.
    #[schemars(
        regex(pattern = r"^@([a-z0-9]([a-z0-9_-]*[a-z0-9])?)/(.*)$"),
        length(min = 1, max = 1024)
    )]
    pub from: String,
    /// `@artifact/path`.
    #[schemars(
        regex(
            pattern = r"^@artifact/([^/]{0,1}|[^./][^/]|[.][^./]|[^/]{3,})(/([^/]{0,1}|[^./][^/]|[.][^./]|[^/]{3,}))*$"
        ),
        length(min = 1, max = 1024)
    )]
    pub to: String,
    /// Globs of what is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 100), inner(length(max = 1024)))]
    pub exclude: Option<Vec<String>>,
    /// How files are copied; `Overwrite` when unset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub strategy: Option<CopyStrategy>,
}

/// How files are copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum CopyStrategy {
    /// In place of what is there.
    #[default]
    Overwrite,
    /// YAML files are merged into those that are there.
    Merge,
    /// The content of tar.gz archives.
    Extract,
}

/// What was made.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ArtifactGeneratorStatus {
    /// The last value of the annotation `reconcile.fluxcd.io/requestedAt` that was acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_reconcile_at: Option<String>,
    /// Ready, Reconciling, Stalled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The ExternalArtifacts that were made.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inventory: Vec<GeneratedArtifact>,
    /// Tells the state of all sources that the inventory was made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_sources_digest: Option<String>,
}

/// An ExternalArtifact that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GeneratedArtifact {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub namespace: String,
    /// Digest of its archive.
    pub digest: String,
    /// File name of its archive.
    pub filename: String,
}
