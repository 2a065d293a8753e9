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
use crate::core::object::ObjectRef;
use crate::core::snapshot::Snapshot;

/// How many objects a message names.
const NAMED: usize = 5;

/// What is known to be missing of what was applied.
fn unseen(lost: &[&ObjectRef], all: usize) -> String {
    if lost.is_empty() {
        return String::new();
    }
    let named: Vec<String> = lost.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match lost.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!(
        "; {} of {all} objects are gone or no longer marked as applied: {}{more}",
        lost.len(),
        named.join(", ")
    )
}

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
                    if shared.snapshots.is_missed(&key) {
                        return Err(self.lost());
                    }
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

    /// After a start without the source and without what was on disk of it: the cluster does not tell what was declared.
    fn lost(&self) -> Box<Stop> {
        let shared = &self.context.shared;
        let again = shared.settings.requeue_dependency;
        let (inventory, _) = self.previous();
        let unknown = |object: &&ObjectRef| shared.book.with(object, |_| ()).is_none();
        let lost: Vec<&ObjectRef> = inventory.0.keys().filter(unknown).collect();
        let message = format!(
            "the source cannot be read, and nothing of it is on disk since this process started: what was applied stays, and \
             what is changed by hand cannot be put back before it can be read again{}, retrying in {}",
            unseen(&lost, inventory.0.len()),
            format_duration(again)
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_and_bounded() {
        let objects: Vec<ObjectRef> = (0..7)
            .map(|number| ObjectRef {
                group: String::new(),
                kind: "ConfigMap".into(),
                namespace: "shop".into(),
                name: format!("c{number}"),
            })
            .collect();
        let check = |count: usize, expect: &str| {
            let lost: Vec<&ObjectRef> = objects.iter().take(count).collect();
            assert_eq!(unseen(&lost, 9), expect);
        };
        check(0, "");
        check(
            1,
            "; 1 of 9 objects are gone or no longer marked as applied: ConfigMap/shop/c0",
        );
        check(
            7,
            "; 7 of 9 objects are gone or no longer marked as applied: ConfigMap/shop/c0, ConfigMap/shop/c1, ConfigMap/shop/c2, \
             ConfigMap/shop/c3, ConfigMap/shop/c4 and 2 more",
        );
    }
}
