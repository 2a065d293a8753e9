//! How a look at a repository is told: status, events, log.

use jiff::Timestamp;
use kube::ResourceExt;

use super::status::{self, Ending};
use super::{COMPONENT, Context, RecordError, STATUS_MANAGER};
use crate::api::meta::{READY, REQUESTED_AT};
use crate::api::source::{Artifact, GitRepository, GitRepositoryStatus};
use crate::cluster::events::Severity;
use crate::controllers::{Shared, record};

/// Writes the status if it changed.
pub(super) async fn write(
    repository: &GitRepository,
    context: &Context,
    old: Option<&GitRepositoryStatus>,
    ending: &Ending,
) -> Result<(), RecordError> {
    let requested_at = repository.annotations().get(REQUESTED_AT);
    let generation = repository.metadata.generation.unwrap_or_default();
    let before = old.cloned().unwrap_or_default();
    let new = status::after(
        &before,
        ending,
        generation,
        &repository.spec,
        requested_at,
        Timestamp::now(),
    );
    write_as(repository, context, old, new).await
}

/// Writes the status of a suspended one if it changed.
pub(super) async fn write_rested(
    repository: &GitRepository,
    context: &Context,
    old: Option<&GitRepositoryStatus>,
) -> Result<(), RecordError> {
    let requested_at = repository.annotations().get(REQUESTED_AT);
    let generation = repository.metadata.generation.unwrap_or_default();
    let new = status::rested(&old.cloned().unwrap_or_default(), generation, requested_at);
    write_as(repository, context, old, new).await
}

async fn write_as(
    repository: &GitRepository,
    context: &Context,
    old: Option<&GitRepositoryStatus>,
    new: GitRepositoryStatus,
) -> Result<(), RecordError> {
    record::status(&context.shared.client, repository, old, &new, STATUS_MANAGER).await?;
    context.memory(repository, |memory| memory.status = Some(new));
    Ok(())
}

/// Whether this ending differs from the last recorded one enough to be told: failures, and recovery from them.
pub(super) fn is_news(ending: &Ending, old: Option<&GitRepositoryStatus>) -> bool {
    let ready = old.and_then(|status| status.conditions.iter().find(|one| one.type_ == READY));
    match ending.failure() {
        // That of a new artifact is told by itself.
        None => ready.is_some_and(|ready| ready.status == "False") && is_held(ending, old),
        Some((reason, message)) => ready.is_none_or(|ready| ready.reason != reason || ready.message != message),
    }
}

/// Whether what is in storage is what was there before.
fn is_held(ending: &Ending, old: Option<&GitRepositoryStatus>) -> bool {
    let held = old
        .and_then(|status| status.artifact.as_ref())
        .map(|artifact| &artifact.digest);
    matches!(ending, Ending::Stored(stored) if held == Some(&stored.artifact.digest))
}

/// Tells an ending as an event, and a failure in the log.
pub(super) fn tell(repository: &GitRepository, shared: &Shared, ending: &Ending) {
    if let Ending::Stored(stored) = ending {
        let artifact = &stored.artifact;
        let message = format!("stored artifact for commit '{}'", artifact.revision);
        let severity = Severity::Normal;
        event(repository, shared, severity, "Succeeded", message, Some(artifact));
    }
    if let Some((reason, message)) = ending.failure() {
        tracing::error!(
            controller = "gitrepository", controllerKind = "GitRepository", name = %repository.name_any(),
            namespace = %repository.namespace().unwrap_or_default(), reason = %reason, error = %message,
            "reconciliation failed"
        );
        event(repository, shared, Severity::Warning, reason, message.to_owned(), None);
    }
}

/// Tells who asked for a reconciliation that the artifact is what it was. Flux tells that of every look at the server; here
/// what the interval finds unchanged costs the API server nothing.
pub(super) fn tell_of_no_change(
    repository: &GitRepository,
    shared: &Shared,
    ending: &Ending,
    old: Option<&GitRepositoryStatus>,
) {
    let asked = repository.annotations().get(REQUESTED_AT);
    let handled = old.and_then(|status| status.last_handled_reconcile_at.as_ref());
    let Ending::Stored(stored) = ending else { return };
    if asked.is_none() || asked == handled || !is_held(ending, old) {
        return;
    }
    let message = format!(
        "artifact up-to-date with remote revision: '{}'",
        stored.artifact.revision
    );
    event(repository, shared, Severity::Trace, "ArtifactUpToDate", message, None);
}

/// Records an event.
pub(super) fn event(
    repository: &GitRepository,
    shared: &Shared,
    severity: Severity,
    reason: &str,
    message: String,
    artifact: Option<&Artifact>,
) {
    let annotations: Vec<(&str, &str)> = artifact.map_or_else(Vec::new, |artifact| {
        vec![
            ("source.toolkit.fluxcd.io/revision", artifact.revision.as_str()),
            ("source.toolkit.fluxcd.io/digest", artifact.digest.as_str()),
        ]
    });
    record::event(
        &shared.events,
        repository,
        COMPONENT,
        severity,
        reason,
        message,
        &annotations,
    );
}
