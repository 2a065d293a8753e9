//! What an ArtifactGenerator copies from: the artifacts of its sources and their trees.

use std::sync::Arc;

use kube::{Api, ResourceExt};
use sha2::{Digest, Sha256};

use crate::api::extensions::ArtifactGenerator;
use crate::api::source::{Artifact, GitRepository};
use crate::cluster::client::explain;
use crate::controllers::Shared;
use crate::controllers::foreign::Missing as Foreign;
use crate::controllers::snapshots::SourceKey;
use crate::core::snapshot::Files;
use crate::source::artifact::hex;

/// A source as it is now.
pub(super) struct Brought {
    pub(super) alias: String,
    pub(super) artifact: Artifact,
    pub(super) files: Arc<dyn Files>,
}

/// Why a source cannot be copied from.
pub(super) enum Missing {
    /// It is just being written; in a moment it is there.
    Soon,
    /// Everything else.
    Failed(String),
}

/// All sources, in the order of the spec.
pub(super) async fn bring(generator: &ArtifactGenerator, shared: &Shared) -> Result<Vec<Brought>, Missing> {
    let mut all = Vec::new();
    for key in keys(generator) {
        let (artifact, files) = one(&key, shared).await?;
        let alias = generator.spec.sources.get(all.len()).map(|source| source.alias.clone());
        all.push(Brought {
            alias: alias.unwrap_or_default(),
            artifact,
            files,
        });
    }
    Ok(all)
}

/// What the sources of a generator are called.
pub(super) fn keys(generator: &ArtifactGenerator) -> Vec<SourceKey> {
    let own = generator.namespace().unwrap_or_default();
    let key = |source: &crate::api::extensions::GeneratorSource| SourceKey {
        kind: source.kind.as_str(),
        namespace: source.namespace.clone().unwrap_or_else(|| own.clone()),
        name: source.name.clone(),
    };
    generator.spec.sources.iter().map(key).collect()
}

/// Tells the state of all sources, in Flux's form.
pub(super) fn digest(brought: &[Brought]) -> String {
    let part = |one: &Brought| {
        let (artifact, alias) = (&one.artifact, &one.alias);
        let (digest, revision, url) = (&artifact.digest, &artifact.revision, &artifact.url);
        format!("{alias}=[digest={digest},revision={revision},url={url}]")
    };
    let mut parts: Vec<String> = brought.iter().map(part).collect();
    parts.sort();
    format!("sha256:{}", hex(&Sha256::digest(parts.join("|"))))
}

async fn one(key: &SourceKey, shared: &Shared) -> Result<(Artifact, Arc<dyn Files>), Missing> {
    let name = format!("{}/{}/{}", key.kind, key.namespace, key.name);
    let not_there = || Missing::Failed(format!("{} \"{}\" not found", key.kind, key.name));
    let not_ready = || Missing::Failed(format!("source '{name}' is not ready"));
    let foreign = async || match shared.foreign.fetch(key).await {
        Ok((artifact, snapshot)) => Ok((artifact, snapshot.files)),
        Err(Foreign::Source) => Err(not_there()),
        Err(Foreign::Artifact) => Err(not_ready()),
        Err(Foreign::File(reason) | Foreign::Failed(reason)) => {
            Err(Missing::Failed(format!("source '{name}': {reason}")))
        }
    };
    if shared.foreign.answers_for(key.kind) {
        return foreign().await;
    }
    let api: Api<GitRepository> = Api::namespaced(shared.client.clone(), &key.namespace);
    let repository = match api.get_opt(&key.name).await {
        Ok(Some(repository)) => repository,
        Ok(None) => return Err(not_there()),
        Err(error) => {
            return Err(Missing::Failed(format!(
                "unable to get source '{name}': {}",
                explain(&error)
            )));
        }
    };
    if shared.foreign.has(&repository) {
        return foreign().await;
    }
    let artifact = repository
        .status
        .and_then(|status| status.artifact)
        .ok_or_else(not_ready)?;
    // A snapshot is handed over just before the status tells of it; after a restart it comes a moment later.
    match shared.snapshots.get(key) {
        Some(snapshot) if snapshot.revision == artifact.revision => Ok((artifact, snapshot.files)),
        _ => Err(Missing::Soon),
    }
}
