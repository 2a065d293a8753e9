//! After a restart: the revision that was applied last, when the one that follows it cannot be applied.
//!
//! The book of drift is in memory. While a new commit is refused, does not build or waits for a nod, a process that has just
//! started has applied nothing and knows nothing that it could put back. So it builds the revision before once more, from
//! what is on disk (the repository, or the archive of what is more than a commit), and applies that: what was changed meanwhile is put back, and the book is filled.
//!
//! Guarantees: nothing is deleted, and nothing is made that the inventory does not list; it is done once for each start and
//! revision. As when drift is put back, policies are not asked: the state is one that they have allowed.

use std::sync::Arc;

use kube::{Api, ResourceExt};

use super::build::digest;
use super::flow::Run;
use super::{COMPONENT, source_of};
use crate::api::kustomize::SourceKind;
use crate::api::source::GitRepository;
use crate::cluster::events::Severity;
use crate::controllers::drift;
use crate::core::snapshot::{Commit, Files, Snapshot};
use crate::render::variables;

/// Folder of the artifacts that ArtifactGenerators make.
const GENERATED: &str = "externalartifact";

impl Run<'_> {
    /// Applies the revision that was applied last, if this process has not applied any yet.
    pub(super) async fn recall(&self) {
        let owner = drift::owner_of(self.kustomization);
        let (shared, memories) = (&self.context.shared, &self.context.memories);
        let revision = self.status().and_then(|status| status.last_applied_revision.clone());
        let Some(revision) = revision else { return };
        let elsewhere = self.kustomization.spec.kube_config.is_some();
        if elsewhere || shared.book.knows(&owner) || shared.stopping.is_cancelled() {
            return;
        }
        let first = memories.with(self.kustomization, |memory| {
            memory.recalled.replace(revision.clone()).as_ref() != Some(&revision)
        });
        if !first {
            return;
        }
        let (name, namespace) = (self.kustomization.name_any(), self.namespace());
        match self.recall_revision(&revision).await {
            Ok(changes) if changes.is_empty() => {
                tracing::info!(
                    name,
                    namespace,
                    revision,
                    "the revision that was applied last is as it was applied"
                );
            }
            Ok(changes) => {
                let message = format!(
                    "put back to revision {revision}, which was applied last:\n{}",
                    changes.join("\n")
                );
                tracing::info!(name, namespace, revision, changes = %changes.join(", "), "drift put back after a restart");
                self.event_of(Severity::Normal, "DriftReverted", message, &revision);
            }
            Err(error) => {
                let message = format!(
                    "revision {revision}, which was applied last, cannot be applied again after a restart: {error}; what is \
                     changed by hand is put back once a revision was applied"
                );
                tracing::warn!(
                    name,
                    namespace,
                    revision,
                    error,
                    component = COMPONENT,
                    "drift cannot be put back"
                );
                self.event_of(Severity::Warning, "DriftNotReverted", message, &revision);
            }
        }
    }

    /// What was done.
    async fn recall_revision(&self, revision: &str) -> Result<Vec<String>, String> {
        let shared = &self.context.shared;
        let policies = shared.policies.borrow().clone();
        if !policies.ready {
            return Err("policies are not loaded".to_owned());
        }
        let (snapshot, certain) = self.kept(revision).await?;
        let spec = &self.kustomization.spec;
        let variables = variables::gather(&shared.client, &self.namespace(), spec.post_build.as_ref()).await;
        let variables = variables.map_err(|error| error.to_string())?;
        let why = |stop: Box<super::flow::Stop>| stop.attempt.message().to_owned();
        let access = self.access(&snapshot).await.map_err(why)?;
        let rendered = self.render(&snapshot, variables.as_ref()).await.map_err(why)?;
        let digest = digest(&rendered);
        let decided = self.decide(rendered, &access, &snapshot, &digest, &policies).await;
        let (mut plan, verdict) = decided.map_err(why)?;
        if !certain && verdict.denied() {
            return Err("policies refuse what is kept of it".to_owned());
        }
        let (previous, _) = self.previous();
        plan.deletions.clear();
        plan.changes
            .retain(|change| previous.0.contains_key(&change.desired.object.reference()));
        let owner = drift::owner_of(self.kustomization);
        let outcome = drift::carry_out(shared, &access.objects, &owner, &plan, &previous, true).await;
        if outcome.failures.is_empty() {
            Ok(outcome.change_log())
        } else {
            Err(outcome.to_string())
        }
    }

    /// What is kept on disk of a revision, and whether it is certain to be what was applied: with `include` a revision does not
    /// name all that is in it.
    async fn kept(&self, revision: &str) -> Result<(Snapshot, bool), String> {
        let (shared, source) = (&self.context.shared, source_of(self.kustomization));
        if let Some(snapshot) = shared.snapshots.get(&source).filter(|held| held.revision == revision) {
            return Ok((snapshot, true));
        }
        if shared.foreign.answers_for(source.kind) {
            return Err("only the newest revision of its source is kept".to_owned());
        }
        if source.kind != SourceKind::GitRepository.as_str() {
            return Ok((self.stored(revision, None).await?, true));
        }
        let api: Api<GitRepository> = Api::namespaced(shared.client.clone(), &source.namespace);
        let found = api.get_opt(&source.name).await;
        let found = found.map_err(|error| crate::cluster::client::explain(&error))?;
        let spec = found.ok_or("its source is gone")?.spec;
        let plain = spec.include.is_none() && spec.sparse_checkout.is_none() && spec.recurse_submodules != Some(true);
        let commit = revision.rsplit(':').next().unwrap_or_default().to_owned();
        let fetcher = Arc::clone(&shared.fetcher);
        let opened = tokio::task::spawn_blocking(move || {
            let tree = fetcher.open_former(&source.namespace, &source.name, &commit, spec.ignore.as_deref())?;
            let commit = tree.describe();
            Some((commit, Arc::new(tree) as Arc<dyn Files>))
        });
        match opened.await.ok().flatten() {
            Some((commit, files)) if plain => {
                let snapshot = Snapshot {
                    revision: revision.to_owned(),
                    origin_revision: None,
                    commit,
                    files,
                };
                Ok((snapshot, true))
            }
            // What else belonged to it has moved on; its archive has it as it was.
            opened => {
                let snapshot = self.stored(revision, opened.and_then(|(commit, _)| commit)).await?;
                Ok((snapshot, spec.include.is_none()))
            }
        }
    }

    /// The archive of a revision, of which the one before the newest is kept too.
    async fn stored(&self, revision: &str, commit: Option<Commit>) -> Result<Snapshot, String> {
        let source = source_of(self.kustomization);
        let folder = self.context.shared.artifacts.clone();
        let store = if source.kind == SourceKind::ExternalArtifact.as_str() {
            folder.of(GENERATED)
        } else {
            folder
        };
        let wanted = revision.to_owned();
        let opened = tokio::task::spawn_blocking(move || store.open_former(&source.namespace, &source.name, &wanted));
        let archive = opened
            .await
            .ok()
            .and_then(Result::ok)
            .ok_or("it is no longer on disk")?;
        Ok(Snapshot {
            revision: revision.to_owned(),
            origin_revision: None,
            commit,
            files: Arc::new(archive),
        })
    }
}
