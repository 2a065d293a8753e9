//! From sources to archives on disk; nothing is offered yet.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use kube::ResourceExt;
use tokio::runtime::Handle;

use super::sources::Brought;
use super::status::Ending;
use super::tools::Workers;
use crate::api::extensions::{ArtifactGenerator, ArtifactGeneratorSpec, OutputArtifact};
use crate::api::source::Artifact;
use crate::controllers::Shared;
use crate::core::snapshot::Files;
use crate::source::compose::compose;
use crate::source::compose::pattern::{PatternError, Request, requests};
use crate::source::store::ArtifactStore;

/// Where an artifact says which commit it was made of.
const ORIGIN: &str = "org.opencontainers.image.revision";
/// Kind in paths of artifacts.
pub(super) const KIND: &str = "externalartifact";

/// An archive that is to be offered.
pub(super) struct Output {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) artifact: Artifact,
}

/// Makes all that the spec asks for.
pub(super) async fn artifacts(
    generator: &ArtifactGenerator,
    shared: &Arc<Shared>,
    brought: &[Brought],
) -> Result<Vec<Output>, Ending> {
    let job = Job {
        namespace: generator.namespace().unwrap_or_default(),
        spec: generator.spec.clone(),
        trees: brought
            .iter()
            .map(|one| (one.alias.clone(), Arc::clone(&one.files)))
            .collect(),
        sources: brought
            .iter()
            .map(|one| (one.alias.clone(), one.artifact.clone()))
            .collect(),
        store: shared.artifacts.of(KIND),
        tools: Workers {
            pool: shared.pool.clone(),
            runtime: Handle::current(),
            directory: shared.artifacts.root().to_owned(),
        },
    };
    let made = tokio::task::spawn_blocking(move || job.run()).await;
    made.unwrap_or_else(|error| Err(build_failed(format!("broke off: {error}"))))
}

/// For a thread that may block.
struct Job {
    namespace: String,
    spec: ArtifactGeneratorSpec,
    trees: HashMap<String, Arc<dyn Files>>,
    sources: HashMap<String, Artifact>,
    store: ArtifactStore,
    tools: Workers,
}

impl Job {
    fn run(self) -> Result<Vec<Output>, Ending> {
        let requests = requests(&self.spec, &self.trees).map_err(|error| match error {
            PatternError::Invalid { .. } => Ending::Stalled {
                reason: "ValidationFailed",
                message: error.to_string(),
            },
            PatternError::Files(_) => build_failed(error.to_string()),
        })?;
        requests.into_iter().map(|request| self.make(request)).collect()
    }

    fn make(
        &self,
        Request {
            artifact: wanted,
            labels,
        }: Request,
    ) -> Result<Output, Ending> {
        let failed = |error: &dyn std::fmt::Display| build_failed(format!("{} build failed: {error}", wanted.name));
        let composed = compose(&wanted.copy, &self.trees, &self.tools).map_err(|error| failed(&error))?;
        let revision = self
            .source(wanted.revision.as_ref())
            .map(|source| source.revision.clone());
        let (namespace, name) = (&self.namespace, &wanted.name);
        let stored = self
            .store
            .put_by_content(namespace, name, revision.as_deref(), &composed, Timestamp::now());
        let mut artifact = stored.map_err(|error| Ending::Failed {
            reason: "StorageOperationFailed",
            message: format!("{name} cannot be stored: {error}"),
        })?;
        artifact.metadata = self.origin(&wanted);
        if let Err(error) = self
            .store
            .collect_garbage(namespace, name, Some(&artifact), SystemTime::now())
        {
            tracing::warn!(namespace, name, error = %error, "old artifacts not deleted");
        }
        Ok(Output {
            name: wanted.name,
            labels,
            artifact,
        })
    }

    fn source(&self, alias: Option<&String>) -> Option<&Artifact> {
        self.sources.get(alias?.trim_start_matches('@'))
    }

    /// What the source that the spec names says of its own origin, else its revision.
    fn origin(&self, wanted: &OutputArtifact) -> Option<BTreeMap<String, String>> {
        let source = self.source(wanted.origin_revision.as_ref())?;
        let origin = source.metadata.as_ref().and_then(|metadata| metadata.get(ORIGIN));
        let origin = origin.unwrap_or(&source.revision);
        Some(BTreeMap::from([(ORIGIN.to_owned(), origin.clone())]))
    }
}

fn build_failed(message: String) -> Ending {
    Ending::Failed {
        reason: "BuildFailed",
        message,
    }
}
