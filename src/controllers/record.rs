//! Writes what controllers found: status patches, finalizers, events, counts.
//!
//! Guarantees: a status that did not change costs no request.

use std::collections::BTreeMap;
use std::fmt::Debug;

use k8s_openapi::api::core::v1::ObjectReference;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::api::meta::{EVENT_PREFIX, FINALIZER};
use crate::cluster::client::is_code;
use crate::cluster::events::{NewEvent, Recorder, Severity};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::record::ReconcileResult;

/// How a reconciliation ended that could be recorded.
#[derive(Debug)]
pub struct Reconciled {
    /// When to look again.
    next: Action,
    /// For the metrics.
    result: ReconcileResult,
}

impl Reconciled {
    /// As it should be.
    #[must_use]
    pub fn well(next: Action) -> Self {
        let result = ReconcileResult::Success;
        Self { next, result }
    }

    /// With a failure, which the status tells.
    #[must_use]
    pub fn badly(next: Action) -> Self {
        let result = ReconcileResult::Error;
        Self { next, result }
    }

    /// Before its time: something else has to happen first.
    #[must_use]
    pub fn waiting(next: Action) -> Self {
        let result = ReconcileResult::RequeueAfter;
        Self { next, result }
    }
}

/// Counts a reconciliation that began at `started`, and says when to look again.
///
/// # Errors
/// The one that was given.
pub fn counted<K: Resource<DynamicType = ()>, E>(
    metrics: &Metrics,
    object: &K,
    started: Instant,
    result: Result<Reconciled, E>,
) -> Result<Action, E> {
    let counted = result.as_ref().map_or(ReconcileResult::Error, |done| done.result);
    let namespace = object.namespace().unwrap_or_default();
    metrics.reconciled(
        &K::kind(&()),
        &namespace,
        &object.name_any(),
        counted,
        started.elapsed(),
    );
    result.map(|done| done.next)
}

/// Writes a status if it differs from what the API server holds as far as is known.
///
/// # Errors
/// When the API server refuses or cannot be reached; an object that is gone is no error.
pub async fn status<K, S>(
    client: &Client,
    object: &K,
    old: Option<&S>,
    new: &S,
    field_manager: &str,
) -> Result<bool, kube::Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
    S: Serialize + PartialEq,
{
    if old == Some(new) {
        return Ok(false);
    }
    let before = old
        .map_or(Ok(Value::Null), serde_json::to_value)
        .map_err(kube::Error::SerdeError)?;
    let after = serde_json::to_value(new).map_err(kube::Error::SerdeError)?;
    let patch = json!({"status": with_removals(&before, after)});
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let parameters = PatchParams {
        field_manager: Some(field_manager.to_owned()),
        ..PatchParams::default()
    };
    match api
        .patch_status(&object.name_any(), &parameters, &Patch::Merge(patch))
        .await
    {
        Ok(_) => Ok(true),
        Err(error) if is_code(&error, 404) => Ok(false),
        Err(error) => Err(error),
    }
}

/// A merge patch keeps what it does not name: fields that are gone are named with null.
fn with_removals(before: &Value, mut after: Value) -> Value {
    if let (Some(before), Some(after)) = (before.as_object(), after.as_object_mut()) {
        for key in before.keys() {
            if !after.contains_key(key) {
                after.insert(key.clone(), Value::Null);
            }
        }
    }
    after
}

/// Adds Flux's finalizer.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn add_finalizer<K>(client: &Client, object: &K) -> Result<(), kube::Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    add_named_finalizer(client, object, FINALIZER).await
}

/// Adds a finalizer of a kind that has one of its own.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn add_named_finalizer<K>(client: &Client, object: &K, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut finalizers = object.finalizers().to_vec();
    if finalizers.iter().any(|name| name == finalizer) {
        return Ok(());
    }
    finalizers.push(finalizer.to_owned());
    finalizers_patch(client, object, &finalizers).await
}

/// Removes Flux's finalizer; an object that is gone is no error.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn remove_finalizer<K>(client: &Client, object: &K) -> Result<(), kube::Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    remove_named_finalizer(client, object, FINALIZER).await
}

/// Removes a finalizer of a kind that has one of its own; an object that is gone is no error.
///
/// # Errors
/// When the API server refuses or cannot be reached.
pub async fn remove_named_finalizer<K>(client: &Client, object: &K, finalizer: &str) -> Result<(), kube::Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let finalizers: Vec<String> = object
        .finalizers()
        .iter()
        .filter(|name| *name != finalizer)
        .cloned()
        .collect();
    if finalizers.len() == object.finalizers().len() {
        return Ok(());
    }
    match finalizers_patch(client, object, &finalizers).await {
        Err(error) if is_code(&error, 404) => Ok(()),
        other => other,
    }
}

async fn finalizers_patch<K>(client: &Client, object: &K, finalizers: &[String]) -> Result<(), kube::Error>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), &object.namespace().unwrap_or_default());
    let (name, parameters) = (object.name_any(), PatchParams::default());
    let patched = if object.finalizers().is_empty() {
        // The resource version makes sure that nobody else's finalizer is lost.
        let patch = json!({"metadata": {"finalizers": finalizers, "resourceVersion": object.resource_version()}});
        api.patch_metadata(&name, &parameters, &Patch::Merge(patch)).await
    } else {
        // So does naming what was there, and it does not mind that the status has been written meanwhile.
        let at = "/metadata/finalizers";
        let patch = serde_json::from_value(json!([
            {"op": "test", "path": at, "value": object.finalizers()},
            {"op": "replace", "path": at, "value": finalizers},
        ]));
        let patch: json_patch::Patch = patch.map_err(kube::Error::SerdeError)?;
        api.patch_metadata(&name, &parameters, &Patch::<()>::Json(patch)).await
    };
    patched.map(|_| ())
}

/// Records an event on a Flux object, with the annotations that Flux's consumers read.
pub fn event<K: Resource<DynamicType = ()>>(
    recorder: &Recorder,
    object: &K,
    component: &'static str,
    severity: Severity,
    reason: &str,
    message: String,
    annotations: &[(&str, &str)],
) {
    recorder.record(composed(object, component, severity, reason, message, annotations));
}

/// What happened to a Flux object, in the form of Flux's events.
#[must_use]
pub fn composed<K: Resource<DynamicType = ()>>(
    object: &K,
    component: &'static str,
    severity: Severity,
    reason: &str,
    message: String,
    annotations: &[(&str, &str)],
) -> NewEvent {
    let own = object
        .annotations()
        .iter()
        .filter(|(key, _)| key.starts_with(EVENT_PREFIX));
    let mut all: BTreeMap<String, String> = own.map(|(key, value)| (key.clone(), value.clone())).collect();
    all.extend(
        annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned())),
    );
    NewEvent {
        involved: ObjectReference {
            api_version: Some(K::api_version(&()).into_owned()),
            kind: Some(K::kind(&()).into_owned()),
            namespace: object.namespace(),
            name: Some(object.name_any()),
            uid: object.uid(),
            resource_version: object.resource_version(),
            field_path: None,
        },
        severity,
        reason: reason.to_owned(),
        message,
        annotations: all,
        component,
    }
}
