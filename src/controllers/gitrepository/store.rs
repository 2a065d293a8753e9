//! From what was fetched to an artifact on disk and a snapshot in the hands of those who build from it.

use std::sync::Arc;
use std::time::SystemTime;

use jiff::Timestamp;
use kube::ResourceExt;

use super::report::event;
use super::status::{Ending, Stored, Verified, same_parts};
use super::{COLLECTED, NOT_COLLECTED, key};
use crate::api::source::{Artifact, GitRepository, GitRepositoryStatus};
use crate::cluster::events::Severity;
use crate::controllers::Shared;
use crate::core::snapshot::{Commit, Files, Snapshot};
use crate::source::Fetched;
use crate::source::tree::GitTree;

/// Makes an artifact of what was fetched, unless it is there already, and hands the snapshot over.
pub(super) async fn store(
    repository: &Arc<GitRepository>,
    shared: &Arc<Shared>,
    fetched: Fetched,
    parts: (Vec<Artifact>, Option<Verified>),
    old: Option<&GitRepositoryStatus>,
) -> Ending {
    let (namespace, name) = (repository.namespace().unwrap_or_default(), repository.name_any());
    let (included, verified) = parts;
    let tree = Arc::new(fetched.tree);
    let same_parts = old.is_some_and(|status| {
        same_parts(status, &repository.spec) && same_content(status.included_artifacts.as_ref(), &included)
    });
    let held = old
        .and_then(|status| status.artifact.clone())
        .filter(|artifact| artifact.revision == fetched.revision && same_parts && shared.artifacts.has(artifact));
    let artifact = match held {
        Some(artifact) => Artifact {
            url: shared.artifacts.url(&artifact.path),
            ..artifact
        },
        None => {
            let (store, tree, revision) = (shared.artifacts.clone(), Arc::clone(&tree), fetched.revision.clone());
            let (namespace, name) = (namespace.clone(), name.clone());
            let put = tokio::task::spawn_blocking(move || {
                store.put(&namespace, &name, &revision, tree.as_ref(), Timestamp::now())
            });
            match put.await {
                Ok(Ok(artifact)) => {
                    if !fetched.rewritten.is_empty() {
                        let (lost, revision) = (fetched.rewritten.join(", "), &fetched.revision);
                        let message =
                            format!("history was rewritten: no longer part of it is {lost}; following {revision}");
                        event(
                            repository,
                            shared,
                            Severity::Warning,
                            "HistoryRewritten",
                            message,
                            Some(&artifact),
                        );
                    }
                    let message = format!("stored artifact for commit '{}'", fetched.commit.subject);
                    event(
                        repository,
                        shared,
                        Severity::Normal,
                        "NewArtifact",
                        message,
                        Some(&artifact),
                    );
                    artifact
                }
                Ok(Err(error)) => {
                    let message = format!("unable to archive artifact to storage: {error}");
                    return Ending::StorageFailed {
                        reason: "ArchiveOperationFailed",
                        message,
                    };
                }
                Err(error) => {
                    let message = format!("unable to archive artifact to storage: {error}");
                    return Ending::StorageFailed {
                        reason: "ArchiveOperationFailed",
                        message,
                    };
                }
            }
        }
    };
    let artifact = artifact.of_commit(&fetched.commit);
    sweep(repository, shared, &artifact).await;
    // One that was put together from the archive alone lacks its commit.
    let held = shared.snapshots.get(&key(repository));
    let held = held.is_some_and(|held| held.revision == artifact.revision && held.commit.is_some());
    if !held || !same_parts {
        publish(
            repository,
            shared,
            artifact.revision.clone(),
            Some(fetched.commit),
            tree,
        );
    }
    Ending::Stored(Box::new(Stored {
        artifact,
        included,
        verified,
    }))
}

/// Deletes artifacts that nobody needs any more: those that were too young at the last change, too.
async fn sweep(repository: &GitRepository, shared: &Shared, current: &Artifact) {
    let (namespace, name) = (repository.namespace().unwrap_or_default(), repository.name_any());
    let (store, current) = (shared.artifacts.clone(), current.clone());
    let swept = tokio::task::spawn_blocking(move || {
        store.collect_garbage(&namespace, &name, Some(&current), SystemTime::now())
    });
    let (severity, reason, message) = match swept.await {
        Ok(Ok(deleted)) if deleted.is_empty() => return,
        Ok(Ok(deleted)) => {
            let message = format!("garbage collected {} artifacts", deleted.len());
            (Severity::Trace, COLLECTED, message)
        }
        Ok(Err(error)) => {
            let message = format!("garbage collection of artifacts failed: {error}");
            (Severity::Warning, NOT_COLLECTED, message)
        }
        // Only a panic or the end of the process gets here.
        Err(_) => return,
    };
    event(repository, shared, severity, reason, message, None);
}

/// Whether what is included now is what was.
fn same_content(old: Option<&Vec<Artifact>>, new: &[Artifact]) -> bool {
    let content = |artifacts: &[Artifact]| {
        let one = |artifact: &Artifact| (artifact.revision.clone(), artifact.digest.clone());
        artifacts.iter().map(one).collect::<Vec<_>>()
    };
    content(old.map(Vec::as_slice).unwrap_or_default()) == content(new)
}

fn publish(
    repository: &GitRepository,
    shared: &Shared,
    revision: String,
    commit: Option<Commit>,
    files: Arc<dyn Files>,
) {
    let snapshot = Snapshot {
        revision,
        origin_revision: None,
        commit,
        files,
    };
    shared.snapshots.publish(key(repository), snapshot);
}

/// Hands over what an earlier run stored, if the disk still has it.
pub(super) async fn offer_stored(repository: &GitRepository, shared: &Arc<Shared>, old: Option<&GitRepositoryStatus>) {
    let Some((status, artifact)) = old.and_then(|status| Some((status, status.artifact.clone()?))) else {
        return;
    };
    if shared.snapshots.revision(&key(repository)).is_some() {
        return;
    }
    let plain = status.observed_include.is_none()
        && status.observed_sparse_checkout.is_none()
        && status.observed_recurse_submodules.is_none();
    let ignore = status.observed_ignore.clone();
    let (namespace, name) = (repository.namespace().unwrap_or_default(), repository.name_any());
    let (revision, kept) = (artifact.revision.clone(), Arc::clone(shared));
    let opened = tokio::task::spawn_blocking(move || {
        let commit = artifact.revision.rsplit(':').next().unwrap_or_default();
        let tree = kept.fetcher.open(&namespace, &name, commit, ignore.as_deref());
        let commit = tree.as_ref().and_then(GitTree::describe);
        let files: Arc<dyn Files> = match tree {
            Some(tree) if plain => Arc::new(tree),
            // What else belongs to it may have moved on, or the repository is gone; the archive has it as it was.
            _ => Arc::new(kept.artifacts.open(&artifact).ok()?),
        };
        Some((commit, files))
    });
    if let Ok(Some((commit, files))) = opened.await {
        publish(repository, shared, revision, commit, files);
    }
}
