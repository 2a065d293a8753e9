//! How a reconciliation is told: status, events, log.

use jiff::Timestamp;
use kube::ResourceExt;

use super::status::{self, Ending};
use super::{COMPONENT, RecordError};
use crate::api::extensions::ArtifactGenerator;
use crate::api::meta::{READY, REQUESTED_AT};
use crate::cluster::events::Severity;
use crate::controllers::{Shared, record};

/// Field manager of status patches.
const STATUS_MANAGER: &str = "gotk-source-watcher";

/// Tells an ending that is news and writes the status if it changed.
pub(super) async fn tell_and_write(
    generator: &ArtifactGenerator,
    shared: &Shared,
    ending: &Ending,
) -> Result<(), RecordError> {
    let new = status::after(
        &generator.status.clone().unwrap_or_default(),
        ending,
        generator.metadata.generation.unwrap_or_default(),
        generator.annotations().get(REQUESTED_AT),
        Timestamp::now(),
    );
    let (reason, message) = ending.told();
    let ready = |status: Option<&crate::api::extensions::ArtifactGeneratorStatus>| {
        let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
        let ready = conditions.iter().find(|one| one.type_ == READY)?;
        Some((ready.reason.clone(), ready.message.clone()))
    };
    let inventory = |status: Option<&crate::api::extensions::ArtifactGeneratorStatus>| {
        status.map(|status| status.inventory.clone()).unwrap_or_default()
    };
    let old = generator.status.as_ref();
    if ready(old) != ready(Some(&new)) || inventory(old) != inventory(Some(&new)) {
        let severity = if ending.is_good() {
            Severity::Normal
        } else {
            Severity::Warning
        };
        if !ending.is_good() {
            tracing::error!(
                controller = "artifactgenerator", controllerKind = "ArtifactGenerator", name = %generator.name_any(),
                namespace = %generator.namespace().unwrap_or_default(), reason, error = %message, "reconciliation failed"
            );
        }
        event(generator, shared, severity, reason, message);
    }
    record::status(&shared.client, generator, old, &new, STATUS_MANAGER).await?;
    Ok(())
}

/// Notes that a request was handled although there was nothing to do.
pub(super) async fn handled(generator: &ArtifactGenerator, shared: &Shared) -> Result<(), RecordError> {
    let old = generator.status.clone().unwrap_or_default();
    let mut new = old.clone();
    if let Some(requested_at) = generator.annotations().get(REQUESTED_AT) {
        new.last_handled_reconcile_at = Some(requested_at.clone());
    }
    record::status(&shared.client, generator, Some(&old), &new, STATUS_MANAGER).await?;
    Ok(())
}

/// Records an event.
pub(super) fn event(generator: &ArtifactGenerator, shared: &Shared, severity: Severity, reason: &str, message: String) {
    record::event(&shared.events, generator, COMPONENT, severity, reason, message, &[]);
}
