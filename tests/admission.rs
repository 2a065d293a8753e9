//! Certificates, registration, webhook, discovery, events and the lease against a real API server.
//!
//! Runs when `WEIR_TEST_KUBECONFIG` names a kubeconfig of one that is ours alone (`hack/test` does that).

// clippy.toml lets tests unwrap, but sees no test in the helpers of an integration test.
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Namespace, ObjectReference, Secret};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;
use weir::admission::certs::{Resolver, make_ca};
use weir::admission::desk::{Begun, Desk, Door};
use weir::admission::register;
use weir::admission::review::{AdmissionRequest, Answer};
use weir::admission::rotate::{self, CertOptions, SECRET, names};
use weir::cluster::client::{ClientOptions, connect, whoami};
use weir::cluster::discovery::Discovery;
use weir::cluster::events::{NewEvent, Severity};
use weir::cluster::lease::LeaseOptions;
use weir::cluster::{events, lease};
use weir::core::object::Gvk;
use weir::serve::server::bind;
use weir::serve::webhook::{self, Doors};
use weir::telemetry::metrics::Metrics;

/// How long something that happens at once may take on a busy machine.
const SOON: Duration = Duration::from_secs(60);

async fn client() -> Option<Client> {
    let Some(kubeconfig) = std::env::var_os("WEIR_TEST_KUBECONFIG").map(PathBuf::from) else {
        eprintln!("skipped: WEIR_TEST_KUBECONFIG is not set");
        return None;
    };
    let _ = rustls::crypto::ring::default_provider().install_default();
    let options = ClientOptions {
        kubeconfig: Some(kubeconfig),
    };
    Some(connect(&options).await.unwrap())
}

async fn namespace(client: &Client, name: &str) {
    let api: Api<Namespace> = Api::all(client.clone());
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
    api.patch(name, &PatchParams::apply("test").force(), &Patch::Apply(namespace))
        .await
        .unwrap();
}

/// A switch that ends what was started.
fn switch() -> (watch::Sender<bool>, impl Fn() -> BoxFuture<'static, ()>) {
    let (sender, receiver) = watch::channel(false);
    let stop = move || -> BoxFuture<'static, ()> {
        let mut receiver = receiver.clone();
        Box::pin(async move {
            let _ = receiver.wait_for(|stop| *stop).await;
        })
    };
    (sender, stop)
}

async fn until<T: PartialEq + std::fmt::Debug + Clone>(
    receiver: &mut watch::Receiver<T>,
    wanted: impl Fn(&T) -> bool,
) -> T {
    let found = tokio::time::timeout(SOON, receiver.wait_for(|value| wanted(value))).await;
    found.expect("in time").unwrap().clone()
}

/// Denies everything whose name begins with `deny`, and keeps what it was asked.
#[derive(Clone, Default)]
struct ByName(Arc<Mutex<Vec<AdmissionRequest>>>);

impl Door for ByName {
    fn begin(self: Arc<Self>, request: AdmissionRequest) -> Begun {
        let answer = if request.name.starts_with("deny") {
            Answer::deny(format!("[by-name] {} is called {}", request.kind.kind, request.name))
        } else {
            Answer {
                warnings: vec!["a warning".to_owned()],
                ..Answer::allow()
            }
        };
        self.0.lock().unwrap().push(request);
        Begun::Done(Ok(answer))
    }
}

struct Label;

impl Door for Label {
    fn begin(self: Arc<Self>, request: AdmissionRequest) -> Begun {
        let path = request.object().and_then(|object| object.pointer("/metadata/labels"));
        let patch = match path {
            Some(_) => json!([{"op": "add", "path": "/metadata/labels/mutated", "value": "yes"}]),
            None => json!([{"op": "add", "path": "/metadata/labels", "value": {"mutated": "yes"}}]),
        };
        Begun::Done(Ok(Answer {
            patch: Some(serde_json::from_value(patch).unwrap()),
            ..Answer::allow()
        }))
    }
}

fn configuration(kind: &str, name: &str, path: &str, namespace: &str) -> Value {
    json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": kind, "metadata": {"name": name}, "webhooks": [{
        "name": format!("test{}.weir.dev", path.replace('/', ".")), "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "failurePolicy": "Fail", "timeoutSeconds": 5,
        "clientConfig": {"url": format!("https://127.0.0.1:1{path}")},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE", "DELETE"],
            "resources": ["configmaps"]}]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_server_asks_the_webhook_and_obeys_while_certificates_rotate() {
    let Some(client) = client().await else { return };
    for name in ["weir-test-certs", "weir-test-hooks"] {
        namespace(&client, name).await;
    }
    let dynamic = Discovery::new(client.clone());
    for (kind, name, path) in [
        ("ValidatingWebhookConfiguration", register::VALIDATING, "/validate"),
        ("MutatingWebhookConfiguration", register::MUTATING, "/mutate"),
    ] {
        let resolved = dynamic
            .resolve(&Gvk::new("admissionregistration.k8s.io/v1", kind))
            .await
            .unwrap();
        let api = resolved.api(client.clone(), "");
        let _ = api.delete(name, &DeleteParams::default()).await;
        let object: DynamicObject = serde_json::from_value(configuration(kind, name, path, "weir-test-hooks")).unwrap();
        api.create(&PostParams::default(), &object).await.unwrap();
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "weir-test-certs");
    let _ = secrets.delete(SECRET, &DeleteParams::default()).await;

    let (stop, stopping) = switch();
    let metrics = Metrics::new().unwrap();
    let resolver = Arc::new(Resolver::default());
    let door = ByName::default();
    let doors = Doors {
        validate: Arc::new(door.clone()),
        mutate: Arc::new(Label),
        guard: Arc::new(door.clone()),
    };
    let listener = bind("--webhook-addr", "127.0.0.1:0").unwrap();
    let desk = Desk::new(Handle::current(), metrics.clone());
    let running = webhook::start(listener, Arc::clone(&resolver), desk, doors, stopping())
        .await
        .unwrap();
    let options = CertOptions {
        namespace: "weir-test-certs".to_owned(),
        names: names("weir-webhook", "weir-test-certs", Some("127.0.0.1")),
    };
    let (mut bundle, certs) = rotate::start(
        client.clone(),
        options.clone(),
        Arc::clone(&resolver),
        metrics.clone(),
        stopping(),
    );
    // A second replica wants the same Secret at the same time.
    let other = Arc::new(Resolver::default());
    let (mut other_bundle, _) = rotate::start(client.clone(), options, other, metrics.clone(), stopping());
    let url = format!("https://127.0.0.1:{}", running.address.port());
    let (mut registered, registration) = register::start(&client, &bundle, Some(url.clone()), &metrics, stopping());
    let first = until(&mut bundle, Option::is_some).await;
    assert_eq!(until(&mut other_bundle, Option::is_some).await, first, "replicas agree");
    until(&mut registered, |registered| {
        *registered == register::Registration::Done
    })
    .await;

    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), "weir-test-hooks");
    let map = |metadata: Value| -> ConfigMap {
        serde_json::from_value(json!({"metadata": metadata, "data": {"a": "b"}})).unwrap()
    };
    // The API server hears of the configuration within a moment; until then it calls the address that was there before.
    let made = tokio::time::timeout(SOON, async {
        loop {
            match maps
                .create(&PostParams::default(), &map(json!({"generateName": "fine-"})))
                .await
            {
                Ok(made) => break made,
                Err(kube::Error::Api(status)) if status.code == 500 => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let made = made.await.unwrap();
    assert_eq!(made.metadata.labels.unwrap()["mutated"], "yes");
    let denied = maps
        .create(&PostParams::default(), &map(json!({"name": "deny-me"})))
        .await
        .unwrap_err();
    let kube::Error::Api(status) = denied else {
        panic!("{denied}")
    };
    assert_eq!(status.code, 403);
    assert_eq!(
        status.message,
        "admission webhook \"test.validate.weir.dev\" denied the request: [by-name] ConfigMap is called deny-me"
    );
    // Controllers of the control plane may ask in the same moment, so the request is looked up by its name.
    let asked = door
        .0
        .lock()
        .unwrap()
        .iter()
        .find(|asked| asked.name == "deny-me")
        .cloned()
        .unwrap();
    assert_eq!(asked.user.username, whoami(&client).await.unwrap().username);
    assert_eq!(
        asked.object().unwrap()["metadata"]["labels"]["mutated"],
        "yes",
        "mutation comes first"
    );

    // Deleting the Secret makes a new authority; the configuration follows, and requests go on.
    secrets.delete(SECRET, &DeleteParams::default()).await.unwrap();
    let second = until(&mut bundle, |now| *now != first).await;
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(client.clone());
    let told = async |wanted: &str| {
        let found = tokio::time::timeout(SOON, async {
            loop {
                let config = hooks.get(register::VALIDATING).await.unwrap();
                let bytes = config
                    .webhooks
                    .unwrap()
                    .remove(0)
                    .client_config
                    .ca_bundle
                    .unwrap_or_default()
                    .0;
                if bytes == wanted.as_bytes() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        });
        found.await.expect("the configuration has the bundle");
    };
    told(&second.clone().unwrap()).await;
    // Somebody overwrites the bundle; it is put back.
    let junk = make_ca(jiff::Timestamp::now()).unwrap().certificate;
    let mut config = hooks.get(register::VALIDATING).await.unwrap();
    for webhook in config.webhooks.iter_mut().flatten() {
        webhook.client_config.ca_bundle = Some(k8s_openapi::ByteString(junk.clone().into_bytes()));
    }
    hooks
        .replace(register::VALIDATING, &PostParams::default(), &config)
        .await
        .unwrap();
    told(&second.unwrap()).await;

    stop.send(true).unwrap();
    running.stopped().await.unwrap();
    certs.await.unwrap();
    registration.await.unwrap();
    let text = metrics.text();
    assert!(
        text.contains("weir_webhook_registered{configuration=\"weir-validate\"} 1"),
        "{text}"
    );
    assert!(text.contains("weir_certificate_expiry_seconds{certificate=\"serving\"}"));
    for name in [register::VALIDATING, register::MUTATING] {
        let _ = hooks.delete(name, &DeleteParams::default()).await;
    }
    let mutating: Api<k8s_openapi::api::admissionregistration::v1::MutatingWebhookConfiguration> = Api::all(client);
    mutating
        .delete(register::MUTATING, &DeleteParams::default())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_candidates_one_leads_and_gives_the_lease_back() {
    let Some(client) = client().await else { return };
    namespace(&client, "weir-test-lease").await;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "weir-test-lease");
    let _ = leases.delete("weir", &DeleteParams::default()).await;
    let quick = |identity: &str| LeaseOptions {
        retry_period: Duration::from_millis(200),
        ..LeaseOptions::new("weir-test-lease", "weir", identity)
    };
    let (stop_one, stopping_one) = switch();
    let (stop_two, stopping_two) = switch();
    let (mut one, one_task) = lease::start(client.clone(), quick("one"), stopping_one());
    until(&mut one, |leads| *leads).await;
    let (mut two, two_task) = lease::start(client.clone(), quick("two"), stopping_two());
    let holder = async || leases.get("weir").await.unwrap().spec.unwrap().holder_identity;
    assert_eq!(holder().await.as_deref(), Some("one"));
    let began = std::time::Instant::now();
    stop_one.send(true).unwrap();
    one_task.await.unwrap();
    assert!(!*one.borrow());
    until(&mut two, |leads| *leads).await;
    assert!(
        began.elapsed() < Duration::from_secs(14),
        "it was given back, not waited out"
    );
    let spec = leases.get("weir").await.unwrap().spec.unwrap();
    assert_eq!(
        (spec.holder_identity.as_deref(), spec.lease_transitions),
        (Some("two"), Some(1))
    );
    stop_two.send(true).unwrap();
    two_task.await.unwrap();
    assert_eq!(holder().await.as_deref(), Some(""));
}

#[tokio::test(flavor = "multi_thread")]
async fn equal_events_become_one_with_a_count() {
    let Some(client) = client().await else { return };
    namespace(&client, "weir-test-events").await;
    let api: Api<Event> = Api::namespaced(client.clone(), "weir-test-events");
    api.delete_collection(&DeleteParams::default(), &ListParams::default())
        .await
        .unwrap();
    let metrics = Metrics::new().unwrap();
    let (recorder, task) = events::start(
        client.clone(),
        "host".to_owned(),
        metrics.clone(),
        None,
        std::future::pending(),
    );
    let event = |message: &str| NewEvent {
        involved: ObjectReference {
            api_version: Some("kustomize.toolkit.fluxcd.io/v1".into()),
            kind: Some("Kustomization".into()),
            name: Some("apps".into()),
            namespace: Some("weir-test-events".into()),
            uid: Some("1".into()),
            ..ObjectReference::default()
        },
        severity: Severity::Warning,
        reason: "PolicyDenied".into(),
        message: message.into(),
        annotations: BTreeMap::from([("kustomize.toolkit.fluxcd.io/revision".into(), "main@sha1:1".into())]),
        component: "kustomize-controller",
    };
    for message in ["one", "one", "two", "one"] {
        recorder.record(event(message));
    }
    recorder.record(event(&"ä".repeat(3000)));
    drop(recorder);
    task.await.unwrap();
    let selector = ListParams::default().fields("involvedObject.kind=Kustomization,involvedObject.name=apps");
    let mut found: Vec<(String, i32)> = api
        .list(&selector)
        .await
        .unwrap()
        .items
        .into_iter()
        .map(|event| (event.message.unwrap(), event.count.unwrap()))
        .collect();
    found.sort();
    assert_eq!(found.len(), 3);
    assert_eq!(found[..2], [("one".to_owned(), 3), ("two".to_owned(), 1)]);
    assert!(!metrics.text().contains("weir_events_dropped_total 1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_is_served_as_soon_as_its_crd_is() {
    let Some(client) = client().await else { return };
    let discovery = Discovery::new(client.clone());
    let widget = Gvk::new("weir-test.example.com/v1", "Widget");
    let crds = discovery
        .resolve(&Gvk::new("apiextensions.k8s.io/v1", "CustomResourceDefinition"))
        .await
        .unwrap();
    assert!(!crds.namespaced && crds.watchable);
    let api = crds.api(client.clone(), "");
    let name = "widgets.weir-test.example.com";
    let _ = api.delete(name, &DeleteParams::default()).await;
    assert_eq!(
        discovery.kind_of("apps", "deployments").await.unwrap(),
        Some(Gvk::new("apps/v1", "Deployment"))
    );
    assert!(
        discovery
            .cached(&Gvk::new("v1", "Pod"))
            .is_some_and(|pod| pod.namespaced)
    );
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": name},
        "spec": {"group": "weir-test.example.com", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let crd: DynamicObject = serde_json::from_value(crd).unwrap();
    let made = tokio::time::timeout(SOON, async {
        while api.create(&PostParams::default(), &crd).await.is_err() {
            tokio::task::yield_now().await;
        }
        loop {
            discovery.invalidate().await;
            if let Ok(found) = discovery.resolve(&widget).await {
                break found;
            }
        }
    });
    let made = made.await.expect("served in time");
    assert_eq!((made.resource.plural.as_str(), made.namespaced), ("widgets", false));
    api.delete(name, &DeleteParams::default()).await.unwrap();
}
