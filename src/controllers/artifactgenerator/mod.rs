//! ArtifactGenerator: sources → compose → artifacts → ExternalArtifacts → status.
//!
//! Flow: its own changes, a new snapshot of one of its sources, and an hour queue it. What the sources hold is told by a
//! digest; while that, the spec and what was made are as they were, nothing is made again.
//!
//! Guarantees: an artifact whose content is as it was keeps its revision, so who builds from it is not disturbed; nothing is
//! offered before all of a spec could be made; what is no longer asked for goes, and the last good state stays when
//! something fails.

mod make;
mod offer;
mod report;
mod sources;
pub mod status;
mod tools;
mod triggers;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use kube::runtime::controller::Action;
use kube::runtime::reflector::Store;
use tokio::time::Instant;

use super::Shared;
use super::record::{self, Reconciled};
use crate::api::extensions::{ArtifactGenerator, ArtifactGeneratorSpec, FINALIZER, RECONCILE};
use crate::cluster::events::Severity;
use sources::Brought;
use status::{Ending, Made};
pub use triggers::triggers;

/// Flux's name for the controller, in events and as field manager.
const COMPONENT: &str = "source-watcher";
/// How often it is looked after what was made; Flux's.
const INTERVAL: Duration = Duration::from_secs(3600);
/// How long to wait after a failure that a change of a source need not mend; Flux's `--requeue-dependency` of this kind.
const RETRY: Duration = Duration::from_secs(5);
/// How long to wait when a source is just being written.
const SOON: Duration = Duration::from_millis(200);
/// How long after a status could not be written the object is reconciled again.
const RECORD_RETRY: Duration = Duration::from_secs(5);

/// What the controller works with.
pub struct Context {
    /// What all controllers share.
    pub shared: Arc<Shared>,
    /// The ArtifactGenerators of the cluster.
    pub store: Store<ArtifactGenerator>,
}

/// What keeps a reconciliation from being recorded.
#[derive(Debug, thiserror::Error)]
#[error("cannot record: {0}")]
pub struct RecordError(#[from] kube::Error);

/// Reconciles one ArtifactGenerator.
///
/// # Errors
/// When its status or finalizer could not be written.
pub async fn reconcile(generator: Arc<ArtifactGenerator>, context: Arc<Context>) -> Result<Action, RecordError> {
    let started = Instant::now();
    let result = if generator.metadata.deletion_timestamp.is_some() {
        offer::finalize(&generator, &context.shared).await
    } else {
        look(&generator, &context.shared).await
    };
    record::counted(&context.shared.metrics, generator.as_ref(), started, result)
}

/// What to do when a reconciliation could not be recorded.
#[must_use]
pub fn on_error(generator: &ArtifactGenerator, error: &RecordError) -> Action {
    tracing::error!(
        controller = "artifactgenerator", controllerKind = "ArtifactGenerator", name = %generator.name_any(),
        namespace = %generator.namespace().unwrap_or_default(), error = %error, "reconciliation not recorded"
    );
    Action::requeue(RECORD_RETRY)
}

async fn look(generator: &Arc<ArtifactGenerator>, shared: &Arc<Shared>) -> Result<Reconciled, RecordError> {
    record::add_named_finalizer(&shared.client, generator.as_ref(), FINALIZER).await?;
    if generator
        .annotations()
        .get(RECONCILE)
        .is_some_and(|value| value.eq_ignore_ascii_case("disabled"))
    {
        let message = format!("reconciliation is disabled by the annotation {RECONCILE}");
        report::event(generator, shared, Severity::Warning, "ReconciliationDisabled", message);
        return Ok(Reconciled::well(Action::await_change()));
    }
    let own = generator.namespace().unwrap_or_default();
    if let Err(ending) = valid(&generator.spec, &own, shared.settings.no_cross_namespace_refs) {
        report::tell_and_write(generator, shared, &ending).await?;
        return Ok(Reconciled::badly(Action::await_change()));
    }
    let brought = match sources::bring(generator, shared).await {
        Ok(brought) => brought,
        Err(sources::Missing::Soon) => return Ok(Reconciled::waiting(Action::requeue(SOON))),
        Err(sources::Missing::Failed(message)) => {
            let ending = Ending::Failed {
                reason: "SourceFetchFailed",
                message: format!("get sources failed: {message}"),
            };
            report::tell_and_write(generator, shared, &ending).await?;
            return Ok(Reconciled::badly(Action::requeue(RETRY)));
        }
    };
    let digest = sources::digest(&brought);
    if status::is_current(generator, &digest) && offer::all_there(generator, shared).await {
        report::handled(generator, shared).await?;
        return Ok(Reconciled::well(Action::requeue(INTERVAL)));
    }
    let ending = match made(generator, shared, &brought, digest).await {
        Ok(made) => Ending::Made(made),
        Err(ending) => ending,
    };
    report::tell_and_write(generator, shared, &ending).await?;
    Ok(match ending {
        Ending::Made(_) => Reconciled::well(Action::requeue(INTERVAL)),
        Ending::Failed { .. } => Reconciled::badly(Action::requeue(RETRY)),
        Ending::Stalled { .. } => Reconciled::badly(Action::await_change()),
    })
}

/// Makes everything first, then offers it.
async fn made(
    generator: &Arc<ArtifactGenerator>,
    shared: &Arc<Shared>,
    brought: &[Brought],
    digest: String,
) -> Result<Made, Ending> {
    let artifacts = make::artifacts(generator, shared, brought).await?;
    let mut inventory = Vec::new();
    for one in &artifacts {
        inventory.push(offer::offer(generator, shared, one).await?);
    }
    offer::withdraw_others(generator, shared, &inventory).await;
    Ok(Made { inventory, digest })
}

/// Whether a spec fits together; what the API server cannot check.
fn valid(spec: &ArtifactGeneratorSpec, own: &str, no_cross_namespace_refs: bool) -> Result<(), Ending> {
    let invalid = |message: String| Ending::Stalled {
        reason: "ValidationFailed",
        message,
    };
    let mut aliases = HashSet::new();
    for source in &spec.sources {
        if !aliases.insert(source.alias.as_str()) {
            return Err(invalid(format!("duplicate source alias '{}' found", source.alias)));
        }
        let namespace = source.namespace.as_deref().unwrap_or(own);
        if no_cross_namespace_refs && namespace != own {
            let (kind, name) = (source.kind.as_str(), &source.name);
            return Err(Ending::Stalled {
                reason: "AccessDenied",
                message: format!("cross-namespace reference to source {kind}/{namespace}/{name} is not allowed"),
            });
        }
    }
    let mut names = HashSet::new();
    for artifact in &spec.artifacts {
        if !names.insert(artifact.name.as_str()) {
            return Err(invalid(format!("duplicate artifact name '{}' found", artifact.name)));
        }
        for (what, alias) in [
            ("revision", &artifact.revision),
            ("originRevision", &artifact.origin_revision),
        ] {
            let alias = alias.as_deref().map(|alias| alias.trim_start_matches('@'));
            if let Some(alias) = alias.filter(|alias| !aliases.contains(alias)) {
                let name = &artifact.name;
                return Err(invalid(format!(
                    "artifact {name} {what} source alias '{alias}' not found"
                )));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_spec_that_does_not_fit_together_stalls() {
        let source = |alias: &str| json!({"alias": alias, "kind": "GitRepository", "name": "r", "namespace": "other"});
        let artifact = |name: &str, revision: &str| json!({"name": name, "revision": revision, "copy": [{"from": "@a/**", "to": "@artifact/"}]});
        let check = |sources: serde_json::Value, artifacts: serde_json::Value, locked: bool, expect: Option<&str>| {
            let spec = serde_json::from_value(json!({"sources": sources, "artifacts": artifacts})).unwrap();
            let said = match valid(&spec, "own", locked) {
                Err(Ending::Stalled { reason, message }) => Some(format!("{reason}: {message}")),
                _ => None,
            };
            assert_eq!(said.as_deref(), expect);
        };
        let plain = || json!([artifact("x", "@a")]);
        check(json!([source("a")]), plain(), false, None);
        check(
            json!([source("a")]),
            plain(),
            true,
            Some("AccessDenied: cross-namespace reference to source GitRepository/other/r is not allowed"),
        );
        check(
            json!([source("a"), source("a")]),
            plain(),
            false,
            Some("ValidationFailed: duplicate source alias 'a' found"),
        );
        check(
            json!([source("a")]),
            json!([artifact("x", "@a"), artifact("x", "@a")]),
            false,
            Some("ValidationFailed: duplicate artifact name 'x' found"),
        );
        check(
            json!([source("a")]),
            json!([artifact("x", "@b")]),
            false,
            Some("ValidationFailed: artifact x revision source alias 'b' not found"),
        );
    }
}
