//! `data.inventory` of a running Weir: what a SyncSet names is known at the door and in the gate, and Gatekeeper's Config leaves
//! namespaces out.

use std::net::TcpListener;

use serde_json::{Value, json};

use crate::cluster::{Cluster, alice, eventually, has_condition};
use crate::guard::{WEBHOOKS, install, uninstall};
use crate::world::{Setup, World};

const INGRESS: &str = "networking.k8s.io/v1/Ingress";
const SYNC_SET: &str = "syncset.gatekeeper.sh/v1alpha1/SyncSet";
const CONFIG: &str = "config.gatekeeper.sh/v1alpha1/Config";
const TEMPLATE: &str = "templates.gatekeeper.sh/v1/ConstraintTemplate";

const UNIQUE: &str = "package unique\n\n\
    identical(a, b) { a.metadata.namespace == b.metadata.namespace; a.metadata.name == b.metadata.name }\n\n\
    violation[{\"msg\": msg}] {\n\
    \thost := input.review.object.spec.rules[_].host\n\
    \tother := data.inventory.namespace[_][_][\"Ingress\"][_]\n\
    \tother.spec.rules[_].host == host\n\
    \tnot identical(other, input.review.object)\n\
    \tmsg := sprintf(\"host %v is taken by %v\", [host, other.metadata.name])\n}\n";

fn ingress(name: &str, host: &str) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": name},
        "spec": {"rules": [{"host": host}]}})
}

#[tokio::test]
async fn a_host_that_another_object_has_is_refused_at_the_door_and_in_the_gate() {
    let _alone = WEBHOOKS.lock().await;
    let Some(setup) = Setup::new("inventory").await else {
        return;
    };
    let port = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("https://127.0.0.1:{port}");
    install(&setup.cluster, &setup.namespace, &url).await;
    let (namespace, cluster) = (setup.namespace.clone(), setup.cluster.clone());
    let gvk = json!({"group": "networking.k8s.io", "version": "v1", "kind": "Ingress"});
    let sync_set = json!({"apiVersion": "syncset.gatekeeper.sh/v1alpha1", "kind": "SyncSet", "metadata": {"name": namespace},
        "spec": {"gvks": [gvk]}});
    cluster.apply("", sync_set).await;
    let alice = alice().await;
    // It is there before Weir is.
    let taken = format!("first.{namespace}.example");
    alice.apply(&namespace, ingress("first", &taken)).await;
    let arguments = [
        format!("--webhook-addr=127.0.0.1:{port}"),
        format!("--webhook-url={url}"),
    ];
    let world = setup.with_arguments(&[&arguments[0], &arguments[1]]).start().await;
    let kind = constrain(&world).await;

    let message = eventually("the host is refused at the door", async || {
        let refused = create(&alice, &namespace, ingress("second", &taken)).await;
        refused.err().ok_or_else(|| "it was let in".to_owned())
    })
    .await;
    assert!(
        message.contains("validate.weir.dev") && message.contains(&format!("host {taken} is taken by first")),
        "{message}"
    );
    let free = format!("second.{namespace}.example");
    create(&alice, &namespace, ingress("second", &free)).await.unwrap();
    eventually("what was just made is known", async || {
        let refused = create(&alice, &namespace, ingress("third", &free)).await;
        refused
            .err()
            .filter(|said| said.contains("is taken by second"))
            .ok_or_else(String::new)
    })
    .await;

    // In Git it is told before anything is applied.
    let text = format!(
        "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata:\n  name: fourth\nspec:\n  rules:\n  - host: {taken}\n"
    );
    let commit = world.commit(&[("ingress.yaml", &text)]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    let (_, message) = world.not_ready("app", "PolicyDenied").await;
    assert!(
        message.contains(&format!("host {taken} is taken by first")),
        "{message}"
    );
    // The other one goes, and with it the objection.
    cluster.delete(INGRESS, &namespace, "first").await;
    eventually("the host is free", async || {
        create(&alice, &namespace, ingress("probe", &taken)).await
    })
    .await;
    cluster.delete(INGRESS, &namespace, "probe").await;

    // A namespace that the Config leaves out is not asked about; that wakes who was refused, too.
    cluster.namespace("gatekeeper-system").await;
    let excluded = json!([{"excludedNamespaces": [namespace], "processes": ["webhook"]}]);
    let config = json!({"apiVersion": "config.gatekeeper.sh/v1alpha1", "kind": "Config", "metadata": {"name": "config"},
        "spec": {"match": excluded}});
    cluster.apply("gatekeeper-system", config).await;
    eventually("the namespace is left out", async || {
        create(&alice, &namespace, ingress("third", &free)).await
    })
    .await;
    world.ready("app", &commit).await;

    cluster.delete(CONFIG, "gatekeeper-system", "config").await;
    cluster.delete(SYNC_SET, "", &namespace).await;
    cluster.delete(TEMPLATE, "", &kind.to_lowercase()).await;
    uninstall(&cluster).await;
}

/// Puts the policy in force for this namespace; gives the kind of its constraints.
async fn constrain(world: &World) -> String {
    let kind = format!("Unique{}", std::process::id());
    let name = kind.to_lowercase();
    let template = json!({"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": {"name": name},
        "spec": {"crd": {"spec": {"names": {"kind": kind}}},
            "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": UNIQUE}]}});
    world.cluster.apply("", template).await;
    eventually("constraints are served", async || {
        let crds = "apiextensions.k8s.io/v1/CustomResourceDefinition";
        let crd = format!("{name}.constraints.gatekeeper.sh");
        let found = world.cluster.get(crds, "", &crd).await.unwrap_or_default();
        has_condition(&found, "Established", "True", "")
    })
    .await;
    let matches =
        json!({"kinds": [{"apiGroups": ["networking.k8s.io"], "kinds": ["Ingress"]}], "namespaces": [world.namespace]});
    let constraint = json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": kind,
        "metadata": {"name": "unique"}, "spec": {"match": matches}});
    world.cluster.apply("", constraint).await;
    kind
}

/// Tries to make or change an object; the error is what the API server says.
async fn create(cluster: &Cluster, namespace: &str, object: Value) -> Result<(), String> {
    let name = object["metadata"]["name"].as_str().unwrap().to_owned();
    let parameters = kube::api::PatchParams::apply("alice").force();
    let api = cluster.api(INGRESS, namespace);
    let applied = api.patch(&name, &parameters, &kube::api::Patch::Apply(object)).await;
    applied.map(drop).map_err(|error| error.to_string())
}
