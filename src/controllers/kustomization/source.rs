//! Stage one: the snapshot of the source that a Kustomization builds from, or why there is none.

use kube::Api;

use super::flow::{Again, Run, Stop, progressing};
use super::source_of;
use super::status::Ending;
use crate::api::kustomize::SourceKind;
use crate::api::source::GitRepository;
use crate::cluster::client::explain;
use crate::controllers::foreign::Missing;
use crate::controllers::snapshots::SourceKey;
use crate::core::duration::format_duration;
use crate::core::snapshot::Snapshot;

impl Run<'_> {
    /// The snapshot of the source, or why there is none.
    pub(super) async fn snapshot(&self) -> Result<Snapshot, Box<Stop>> {
        let (shared, key) = (&self.context.shared, source_of(self.kustomization));
        if shared.settings.no_cross_namespace_refs && key.namespace != self.namespace() {
            return Err(self.no_access(&key, "cross-namespace references have been blocked"));
        }
        let external = SourceKind::ExternalArtifact.as_str();
        if key.kind == external && !shared.settings.gates.external_artifact {
            return Err(self.no_access(&key, "ExternalArtifact feature gate is disabled"));
        }
        if shared.foreign.answers_for(key.kind) {
            return self.foreign(&key).await;
        }
        if let Some(snapshot) = shared.snapshots.get(&key) {
            return Ok(snapshot);
        }
        let api: Api<GitRepository> = Api::namespaced(shared.client.clone(), &key.namespace);
        match api.get_opt(&key.name).await {
            Ok(Some(other)) if shared.foreign.has(&other) => self.foreign(&key).await,
            Ok(Some(own)) => {
                let artifact = own.status.and_then(|status| status.artifact);
                // At start it has not been looked at yet; what was applied stays and is not called failed.
                if artifact.is_some()
                    && self
                        .status()
                        .is_some_and(|status| status.last_applied_revision.is_some())
                {
                    let again = shared.settings.requeue_dependency;
                    let attempt = self.attempt(progressing("The source is not read yet"));
                    return Err(self.stop(attempt, Again::Quietly(again)));
                }
                Err(self.not_fetched_yet("Source artifact not found"))
            }
            Ok(None) => Err(self.not_there(&key)),
            Err(error) => Err(self.no_source(explain(&error))),
        }
    }

    /// The snapshot of a source that another process fetches.
    async fn foreign(&self, key: &SourceKey) -> Result<Snapshot, Box<Stop>> {
        let brought = self.context.shared.foreign.bring(key).await;
        brought.map_err(|missing| match missing {
            Missing::Source => self.not_there(key),
            Missing::Artifact => self.not_fetched_yet("Source artifact not found"),
            Missing::File(_) => self.not_fetched_yet("Source is not ready, artifact not found"),
            Missing::Failed(reason) => self.no_source(reason),
        })
    }

    fn no_access(&self, key: &SourceKey, why: &str) -> Box<Stop> {
        let message = format!("can't access '{}/{}/{}', {why}", key.kind, key.namespace, key.name);
        let attempt = self.attempt(Ending::Stalled {
            reason: "AccessDenied",
            message,
        });
        self.stop(attempt, Again::Change)
    }

    fn not_there(&self, key: &SourceKey) -> Box<Stop> {
        self.no_source(format!(
            "{}.source.toolkit.fluxcd.io \"{}\" not found",
            key.kind, key.name
        ))
    }

    fn not_fetched_yet(&self, what: &str) -> Box<Stop> {
        let again = self.context.shared.settings.requeue_dependency;
        let message = format!("{what}, retrying in {}", format_duration(again));
        let attempt = self.attempt(Ending::Failed {
            reason: "ArtifactFailed",
            message,
        });
        self.stop(attempt, Again::Wait(again))
    }

    fn no_source(&self, message: String) -> Box<Stop> {
        let attempt = self.attempt(Ending::Failed {
            reason: "ArtifactFailed",
            message,
        });
        self.stop(attempt, Again::Retry)
    }
}
