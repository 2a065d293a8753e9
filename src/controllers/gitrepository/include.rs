//! `spec.include`: the artifacts of other GitRepositories that belong to this one's.

use kube::{Api, ResourceExt};

use super::status::Ending;
use crate::api::source::{Artifact, GitRepository};
use crate::cluster::client::explain;
use crate::controllers::Shared;
use crate::controllers::snapshots::SourceKey;
use crate::source::Mount;
use crate::source::layers::clean;

/// One artifact that is included, and where.
pub(super) struct Included {
    pub(super) artifact: Artifact,
    pub(super) mount: Mount,
}

/// What the spec includes, in its order.
pub(super) async fn included(repository: &GitRepository, shared: &Shared) -> Result<Vec<Included>, Ending> {
    let namespace = repository.namespace().unwrap_or_default();
    let api: Api<GitRepository> = Api::namespaced(shared.client.clone(), &namespace);
    let mut found = Vec::new();
    for include in repository.spec.include.iter().flatten() {
        let name = &include.repository.name;
        let unavailable = |reason, message: String| Ending::IncludeUnavailable { reason, message };
        let path = |field: &str, path: &str| {
            clean(path).ok_or_else(|| {
                let message = format!("path calculation for include '{name}' failed: {field} '{path}' leads out of it");
                unavailable("IllegalPath", message)
            })
        };
        let to = path(
            "toPath",
            include.to_path.as_deref().filter(|to| !to.is_empty()).unwrap_or(name),
        )?;
        let from = path("fromPath", include.from_path.as_deref().unwrap_or_default())?;
        let other = api.get(name).await.map_err(|error| {
            let message = format!("could not get resource for include '{name}': {}", explain(&error));
            unavailable("NotFound", message)
        })?;
        let key = SourceKey {
            kind: "GitRepository",
            namespace: namespace.clone(),
            name: name.clone(),
        };
        let artifact = other.status.and_then(|status| status.artifact);
        let snapshot = shared.snapshots.get(&key);
        // Just after a change the two can differ for a moment; then the next try finds both.
        let both = artifact
            .zip(snapshot)
            .filter(|(artifact, snapshot)| artifact.revision == snapshot.revision);
        let Some((artifact, snapshot)) = both else {
            return Err(unavailable(
                "NoArtifact",
                format!("no artifact available for include '{name}'"),
            ));
        };
        found.push(Included {
            artifact,
            mount: Mount {
                path: to,
                from,
                files: snapshot.files,
            },
        });
    }
    Ok(found)
}
