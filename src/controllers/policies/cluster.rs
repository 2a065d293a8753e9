//! Watches ConstraintTemplates and constraints, makes the CRDs between them, and writes the status of templates.

use std::time::Duration;

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Seen;
use crate::api::gatekeeper::{CONSTRAINTS_GROUP, CONSTRAINTS_VERSION, TEMPLATES_GROUP};
use crate::apply::health::{self, Patience, Wanted};
use crate::apply::objects::Objects;
use crate::cluster::client::is_code;
use crate::cluster::discovery::DiscoveryError;
use crate::core::object::{Gvk, Object, ObjectRef};
use crate::policy::{Problem, TemplateKind, constraint_crd};

/// How often to look whether the cluster has learned of ConstraintTemplates.
const LOOK: Duration = Duration::from_secs(10);
/// How long a new CRD may take to be established.
const ESTABLISH: Duration = Duration::from_secs(30);
/// How long to wait after a CRD could not be made.
const RETRY: Duration = Duration::from_secs(5);
/// Who writes CRDs of constraints and the status of templates.
const MANAGER: &str = "weir";

/// Sends every template, now and when it changes.
pub(super) async fn watch_templates(
    client: Client,
    objects: Objects,
    sender: mpsc::Sender<Seen>,
    shutdown: CancellationToken,
) {
    let gvk = Gvk::new(&format!("{TEMPLATES_GROUP}/v1"), "ConstraintTemplate");
    let mut told = false;
    let resource = loop {
        match objects.discovery().resolve(&gvk).await {
            Ok(resolved) => break resolved.resource,
            Err(DiscoveryError::NotServed(_)) if !told => {
                told = true;
                tracing::info!(
                    "the cluster has no ConstraintTemplates; Gatekeeper's policies are not read until it has"
                );
                if sender.send(Seen::NoTemplates).await.is_err() {
                    return;
                }
            }
            Err(_) => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
    };
    watch(client, &resource, &sender, &shutdown, |event| match event {
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            Some(Seen::Template(Box::new(whole(object, &resource))))
        }
        watcher::Event::Delete(object) => Some(Seen::TemplateGone(object.metadata.name.unwrap_or_default())),
        watcher::Event::InitDone => Some(Seen::TemplatesListed),
        watcher::Event::Init => None,
    })
    .await;
}

/// Makes the CRD of a kind of constraint and sends every constraint of it, now and when it changes.
pub(super) async fn watch_constraints(
    client: Client,
    objects: Objects,
    kind: TemplateKind,
    template_uid: Option<String>,
    sender: mpsc::Sender<Seen>,
    shutdown: CancellationToken,
) {
    while let Err(message) = make_crd(&client, &objects, &kind, template_uid.as_deref()).await {
        tracing::error!(kind = %kind.kind, error = %message, "CRD of constraints not made");
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    let resource = ApiResource {
        group: CONSTRAINTS_GROUP.to_owned(),
        version: CONSTRAINTS_VERSION.to_owned(),
        api_version: format!("{CONSTRAINTS_GROUP}/{CONSTRAINTS_VERSION}"),
        kind: kind.kind.clone(),
        plural: kind.kind.to_lowercase(),
    };
    watch(client, &resource, &sender, &shutdown, |event| match event {
        watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
            Some(Seen::Constraint(Box::new(whole(object, &resource))))
        }
        watcher::Event::Delete(object) => Some(Seen::ConstraintGone {
            kind: resource.kind.clone(),
            name: object.metadata.name.unwrap_or_default(),
        }),
        watcher::Event::InitDone => Some(Seen::ConstraintsListed(resource.kind.clone())),
        watcher::Event::Init => None,
    })
    .await;
}

async fn watch(
    client: Client,
    resource: &ApiResource,
    sender: &mpsc::Sender<Seen>,
    shutdown: &CancellationToken,
    read: impl Fn(watcher::Event<DynamicObject>) -> Option<Seen>,
) {
    let api: Api<DynamicObject> = Api::all_with(client, resource);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(event)) => {
                if let Some(seen) = read(event)
                    && sender.send(seen).await.is_err()
                {
                    return;
                }
            }
            Some(Err(error)) => {
                tracing::warn!(kind = %resource.kind, error = %error, "watch interrupted, resuming");
            }
            None => return,
        }
    }
}

pub(super) fn whole(object: DynamicObject, resource: &ApiResource) -> Value {
    let mut value = serde_json::to_value(object).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        fields.insert("apiVersion".to_owned(), resource.api_version.clone().into());
        fields.insert("kind".to_owned(), resource.kind.clone().into());
    }
    value
}

/// The CRD belongs to its template: the garbage collector removes it, and the constraints with it, as Gatekeeper does.
async fn make_crd(
    client: &Client,
    objects: &Objects,
    kind: &TemplateKind,
    template_uid: Option<&str>,
) -> Result<(), String> {
    let mut crd = constraint_crd(kind);
    if let (Some(uid), Some(metadata)) = (template_uid, crd.get_mut("metadata").and_then(Value::as_object_mut)) {
        metadata.insert(
            "ownerReferences".to_owned(),
            json!([{"apiVersion": format!("{TEMPLATES_GROUP}/v1"), "kind": "ConstraintTemplate",
                "name": kind.template_name, "uid": uid, "controller": true, "blockOwnerDeletion": true}]),
        );
    }
    let crd = Object::new(crd).map_err(|error| error.to_string())?;
    let (gvk, reference): (Gvk, ObjectRef) = (crd.gvk(), crd.reference());
    let resource = ApiResource {
        group: gvk.group.clone(),
        version: gvk.version.clone(),
        api_version: gvk.api_version(),
        kind: gvk.kind.clone(),
        plural: "customresourcedefinitions".to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    api.patch(
        crd.name(),
        &PatchParams::apply(MANAGER).force(),
        &Patch::Apply(crd.value()),
    )
    .await
    .map_err(|error| crate::cluster::client::explain(&error))?;
    let (wanted, patience) = (Wanted::new(gvk, reference), Patience::of(ESTABLISH));
    health::wait(objects, vec![wanted], patience, std::future::pending())
        .await
        .map_err(|error| error.to_string())?;
    objects.discovery().invalidate().await;
    Ok(())
}

/// Says in the status of a template whether it is in force, as Gatekeeper does; nothing is written when it says so already.
pub(super) async fn template_status(client: &Client, template: &Value, errors: &[&Problem], instance: &str) {
    let text = |pointer: &str| {
        template
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let errors: Vec<Value> = errors
        .iter()
        .map(|problem| {
            let place = problem
                .line
                .map(|line| format!("{line}:{}", problem.column.unwrap_or(1)));
            json!({"code": "ingest_error", "message": problem.message, "location": place})
        })
        .collect();
    let mut pod = json!({"id": instance, "observedGeneration": template.pointer("/metadata/generation"),
        "templateUID": text("/metadata/uid")});
    let created = errors.is_empty();
    if let (Some(pod), false) = (pod.as_object_mut(), created) {
        pod.insert("errors".to_owned(), errors.into());
    }
    let wanted = json!({"created": created, "byPod": [pod]});
    if template.get("status") == Some(&wanted) {
        return;
    }
    let resource = ApiResource {
        group: TEMPLATES_GROUP.to_owned(),
        version: "v1".to_owned(),
        api_version: format!("{TEMPLATES_GROUP}/v1"),
        kind: "ConstraintTemplate".to_owned(),
        plural: "constrainttemplates".to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let parameters = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({"status": wanted}));
    match api.patch_status(&text("/metadata/name"), &parameters, &patch).await {
        Err(error) if !is_code(&error, 404) => {
            tracing::warn!(template = %text("/metadata/name"), error = %error, "status of template not written");
        }
        _ => {}
    }
}
