//! The ExternalArtifacts of a generator: applied, looked after, withdrawn.
//!
//! Guarantees: one whose artifact has the digest and revision that it had is not written again.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::make::{KIND, Output};
use super::status::Ending;
use super::{COMPONENT, RecordError, report};
use crate::api::extensions::{ArtifactGenerator, FINALIZER, GENERATOR_LABEL, GROUP, GeneratedArtifact};
use crate::api::meta::{READY, SUCCEEDED};
use crate::api::source::{Artifact, ExternalArtifact};
use crate::cluster::client::{explain, is_code};
use crate::cluster::events::Severity;
use crate::controllers::Shared;
use crate::controllers::record::{self, Reconciled};
use crate::core::conditions::Conditions;

/// Label of what a controller made.
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";

/// Offers an artifact.
pub(super) async fn offer(
    generator: &ArtifactGenerator,
    shared: &Shared,
    output: &Output,
) -> Result<GeneratedArtifact, Ending> {
    let (name, failed) = (&output.name, |error: kube::Error| Ending::Failed {
        reason: "ReconciliationFailed",
        message: format!("{} reconcile failed: {}", output.name, explain(&error)),
    });
    let api = api(generator, shared);
    let parameters = PatchParams::apply(COMPONENT).force();
    let applied = api
        .patch(name, &parameters, &Patch::Apply(manifest(generator, output)))
        .await;
    let applied = applied.map_err(failed)?;
    let held = applied.status.as_ref().and_then(|status| status.artifact.clone());
    let artifact = match held.filter(|held| same(held, &output.artifact)) {
        // Since when it is so is part of the answer.
        Some(held) => Artifact {
            last_update_time: held.last_update_time,
            ..output.artifact.clone()
        },
        None => output.artifact.clone(),
    };
    let status = status(&applied, &artifact, Timestamp::now());
    if serde_json::to_value(&applied.status).ok().as_ref() != Some(&status) {
        let patch = json!({"apiVersion": applied_version(), "kind": "ExternalArtifact", "status": status,
            "metadata": {"name": name, "namespace": applied.namespace()}});
        api.patch_status(name, &parameters, &Patch::Apply(patch))
            .await
            .map_err(failed)?;
    }
    let listed = |entry: &GeneratedArtifact| entry.name == *name && entry.digest == artifact.digest;
    if !inventory(generator).iter().any(listed) {
        let (namespace, revision) = (generator.namespace().unwrap_or_default(), &artifact.revision);
        let message = format!("ExternalArtifact/{namespace}/{name} reconciled with revision {revision}");
        report::event(generator, shared, Severity::Normal, READY, message);
    }
    Ok(GeneratedArtifact {
        name: name.clone(),
        namespace: generator.namespace().unwrap_or_default(),
        digest: artifact.digest,
        filename: artifact.path.rsplit('/').next().unwrap_or_default().to_owned(),
    })
}

/// Whether everything in the inventory is as it was offered, in the cluster and on disk.
pub(super) async fn all_there(generator: &ArtifactGenerator, shared: &Shared) -> bool {
    let mine = format!("{GENERATOR_LABEL}={}", generator.uid().unwrap_or_default());
    let Ok(found) = api(generator, shared).list(&ListParams::default().labels(&mine)).await else {
        return false;
    };
    let inventory = inventory(generator);
    let as_offered = |one: &ExternalArtifact| {
        let artifact = one.status.as_ref().and_then(|status| status.artifact.as_ref());
        artifact.is_some_and(|artifact| {
            let listed = |entry: &GeneratedArtifact| entry.name == one.name_any() && entry.digest == artifact.digest;
            inventory.iter().any(listed)
                && shared.artifacts.has(artifact)
                && shared.artifacts.url(&artifact.path) == artifact.url
        })
    };
    found.items.len() == inventory.len() && found.items.iter().all(as_offered)
}

/// Withdraws what the inventory lists and is no longer made. What could not be withdrawn is told; its label names it.
pub(super) async fn withdraw_others(generator: &ArtifactGenerator, shared: &Shared, kept: &[GeneratedArtifact]) {
    for entry in inventory(generator) {
        if !kept.iter().any(|one| one.name == entry.name) {
            withdraw(generator, shared, &entry.name).await.unwrap_or_else(|error| {
                tracing::warn!(name = %entry.name, error = %error, "ExternalArtifact not deleted");
            });
        }
    }
}

/// Withdraws everything and lets the object go.
pub(super) async fn finalize(generator: &ArtifactGenerator, shared: &Shared) -> Result<Reconciled, RecordError> {
    for entry in inventory(generator) {
        withdraw(generator, shared, &entry.name).await?;
    }
    record::remove_named_finalizer(&shared.client, generator, FINALIZER).await?;
    Ok(Reconciled::well(Action::await_change()))
}

async fn withdraw(generator: &ArtifactGenerator, shared: &Shared, name: &str) -> Result<(), kube::Error> {
    let api = api(generator, shared);
    let mine = generator.uid().unwrap_or_default();
    match api.get_opt(name).await? {
        // Another generator makes one of that name now.
        Some(other) if other.labels().get(GENERATOR_LABEL) != Some(&mine) => return Ok(()),
        Some(_) => match api.delete(name, &DeleteParams::default()).await {
            Err(error) if !is_code(&error, 404) => return Err(error),
            _ => {}
        },
        None => {}
    }
    let (store, namespace, name) = (
        shared.artifacts.of(KIND),
        generator.namespace().unwrap_or_default(),
        name.to_owned(),
    );
    let removed = tokio::task::spawn_blocking(move || store.remove(&namespace, &name)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(error = %error, "artifacts not deleted");
    }
    Ok(())
}

fn api(generator: &ArtifactGenerator, shared: &Shared) -> Api<ExternalArtifact> {
    Api::namespaced(shared.client.clone(), &generator.namespace().unwrap_or_default())
}

fn inventory(generator: &ArtifactGenerator) -> Vec<GeneratedArtifact> {
    let status = generator.status.as_ref();
    status.map(|status| status.inventory.clone()).unwrap_or_default()
}

fn same(held: &Artifact, new: &Artifact) -> bool {
    held.digest == new.digest && held.revision == new.revision && held.metadata == new.metadata
}

fn applied_version() -> String {
    format!("{}/v1", crate::api::source::GROUP)
}

fn manifest(generator: &ArtifactGenerator, output: &Output) -> Value {
    let common = generator.spec.common_metadata.clone().unwrap_or_default();
    let mut labels: BTreeMap<String, String> = common.labels.unwrap_or_default();
    labels.extend(output.labels.clone());
    labels.insert(MANAGED_BY.to_owned(), COMPONENT.to_owned());
    labels.insert(GENERATOR_LABEL.to_owned(), generator.uid().unwrap_or_default());
    let namespace = generator.namespace().unwrap_or_default();
    json!({
        "apiVersion": applied_version(),
        "kind": "ExternalArtifact",
        "metadata": {"name": output.name, "namespace": namespace, "labels": labels,
            "annotations": common.annotations.unwrap_or_default()},
        "spec": {"sourceRef": {"apiVersion": format!("{GROUP}/v1beta1"), "kind": "ArtifactGenerator",
            "name": generator.name_any(), "namespace": namespace}},
    })
}

fn status(applied: &ExternalArtifact, artifact: &Artifact, now: Timestamp) -> Value {
    let held = applied.status.clone().unwrap_or_default();
    let mut conditions = Conditions::from(held.conditions);
    conditions.mark_true(READY, SUCCEEDED, "Artifact is ready", applied.metadata.generation, now);
    json!({"artifact": artifact, "conditions": conditions.into_vec()})
}
