//! What happens to applied objects when their Kustomization is deleted.

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::runtime::controller::Action;
use kube::{Api, ResourceExt};
use std::time::Duration;

use super::remote::{self, RemoteError};
use super::{COMPONENT, Context, RecordError, access, inputs, status};
use crate::api::kustomize::{DeletionPolicy, GROUP, Kustomization};
use crate::api::meta::READY;
use crate::apply;
use crate::cluster::events::Severity;
use crate::controllers::drift;
use crate::controllers::record::{self, Reconciled};
use crate::core::inventory::{Inventory, gvk_of};
use crate::plan::{self, Owner};

/// How soon a removal that failed is tried again.
const RETRY: Duration = Duration::from_secs(10);
/// How long `WaitForTermination` waits when the spec has no usable timeout.
const DEFAULT_WAIT: Duration = Duration::from_secs(300);

/// Deletes what the deletion policy says and lets the Kustomization go.
///
/// # Errors
/// When the finalizer could not be removed.
pub(super) async fn finalize(kustomization: &Kustomization, context: &Context) -> Result<Reconciled, RecordError> {
    let (shared, spec) = (&context.shared, &kustomization.spec);
    let (inventory, _) = status::inventory(context.memories.status(kustomization).as_ref());
    let removes = match spec.deletion_policy.unwrap_or(DeletionPolicy::MirrorPrune) {
        DeletionPolicy::MirrorPrune => spec.prune,
        DeletionPolicy::Delete | DeletionPolicy::WaitForTermination => true,
        DeletionPolicy::Orphan => false,
    };
    drift::forget(shared, &drift::owner_of(kustomization)).await;
    let removes = removes && spec.suspend != Some(true) && !inventory.0.is_empty();
    if removes && let Some(missing) = missing(kustomization, context).await {
        orphaned(kustomization, context, &inventory, &missing);
    } else if removes && let Err(message) = remove(kustomization, context, &inventory).await {
        record::event(
            &shared.events,
            kustomization,
            COMPONENT,
            Severity::Warning,
            "PruneFailed",
            message,
            &[],
        );
        return Ok(Reconciled::badly(Action::requeue(RETRY)));
    }
    record::remove_finalizer(&shared.client, kustomization).await?;
    context.memories.forget(kustomization);
    shared.metrics.forget(
        "Kustomization",
        &kustomization.namespace().unwrap_or_default(),
        &kustomization.name_any(),
    );
    Ok(Reconciled::well(Action::await_change()))
}

/// What a removal needs and is gone for certain: the service account, or what says how to reach another cluster, where the
/// account is not looked for.
async fn missing(kustomization: &Kustomization, context: &Context) -> Option<String> {
    let shared = &context.shared;
    if kustomization.spec.kube_config.is_some() {
        return match remote::of(shared, kustomization).await {
            Err(RemoteError::Gone { origin, .. }) => Some(format!("there is no {origin} with which to do it")),
            _ => None,
        };
    }
    let account = access::account(kustomization, shared.settings.default_service_account.as_deref())?;
    let namespace = kustomization.namespace().unwrap_or_default();
    let api: Api<ServiceAccount> = Api::namespaced(shared.client.clone(), &namespace);
    let gone = matches!(api.get_metadata_opt(&account).await, Ok(None));
    gone.then(|| format!("there is no service account {account} in whose name to do it"))
}

/// Without it nothing can be removed, and nobody would bring it back for that: a namespace that is being deleted
/// has often lost it first. What was applied stays, as with Flux.
fn orphaned(kustomization: &Kustomization, context: &Context, inventory: &Inventory, missing: &str) {
    let left: Vec<String> = inventory.0.keys().map(ToString::to_string).collect();
    let message = format!("unable to prune objects, {missing}; they stay:\n{}", left.join("\n"));
    let (events, severity) = (&context.shared.events, Severity::Warning);
    record::event(events, kustomization, COMPONENT, severity, "PruneFailed", message, &[]);
}

async fn remove(kustomization: &Kustomization, context: &Context, inventory: &Inventory) -> Result<(), String> {
    let revision = context.memories.status(kustomization);
    let revision = revision.and_then(|status| status.last_applied_revision);
    let access = access::of(&context.shared, kustomization, revision.as_deref())
        .await
        .map_err(|error| error.to_string())?;
    let objects = &access.objects;
    let wanted = inventory
        .0
        .iter()
        .map(|(object, version)| (gvk_of(object, version), object.clone()))
        .collect();
    let live = apply::read_live(objects, wanted)
        .await
        .map_err(|error| error.to_string())?;
    let owner = Owner {
        name: kustomization.name_any(),
        namespace: kustomization.namespace().unwrap_or_default(),
    };
    let deletions = plan::plan_removal(inventory, &live, &owner);
    let failures = apply::remove(objects, &deletions).await;
    if !failures.is_empty() {
        let lines: Vec<String> = failures.iter().map(ToString::to_string).collect();
        return Err(lines.join("\n"));
    }
    if deletions.is_empty() {
        return Ok(());
    }
    let lines: Vec<String> = deletions.iter().map(|one| format!("{} deleted", one.object)).collect();
    tell(kustomization, context, Severity::Normal, lines.join("\n"));
    if kustomization.spec.deletion_policy == Some(DeletionPolicy::WaitForTermination) {
        let timeout = inputs::check(&kustomization.spec).map_or(DEFAULT_WAIT, |times| times.timeout);
        if !apply::wait_until_gone(objects, &deletions, timeout).await {
            let message = "failed to wait for resources termination".to_owned();
            tell(kustomization, context, Severity::Warning, message);
        }
    }
    Ok(())
}

/// An event with the reason that the Kustomization has for being as it is, and with its last revision, as Flux has it.
fn tell(kustomization: &Kustomization, context: &Context, severity: Severity, message: String) {
    let status = context.memories.status(kustomization).unwrap_or_default();
    let ready = status.conditions.iter().find(|condition| condition.type_ == READY);
    let reason = ready.map_or("info", |ready| ready.reason.as_str());
    let (revision, origin) = (format!("{GROUP}/revision"), format!("{GROUP}/originRevision"));
    let known = [
        (&revision, &status.last_applied_revision),
        (&origin, &status.last_applied_origin_revision),
    ];
    let marks: Vec<(&str, &str)> = known
        .into_iter()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_deref()?)))
        .collect();
    record::event(
        &context.shared.events,
        kustomization,
        COMPONENT,
        severity,
        reason,
        message,
        &marks,
    );
}
