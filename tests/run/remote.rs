//! Kustomizations for another cluster. Here it is the same API server under another address, seen as another user: what
//! matters is through which kubeconfig, and as whom, something is done.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::cluster::{condition, eventually};
use crate::tenants::account;
use crate::world::{CONFIG_MAP, KUSTOMIZATION, World, config_map};

const ACCOUNT: &str = "v1/ServiceAccount";

/// Address and authorities of the API server.
fn server(world: &World) -> (String, String) {
    let config = kube::config::Kubeconfig::read_from(&world.cluster.kubeconfig).unwrap();
    let cluster = config.clusters[0].cluster.clone().unwrap();
    let authorities = match (cluster.certificate_authority_data, cluster.certificate_authority) {
        (Some(data), _) => String::from_utf8(BASE64.decode(data).unwrap()).unwrap(),
        (None, Some(file)) => std::fs::read_to_string(world.cluster.kubeconfig.parent().unwrap().join(file)).unwrap(),
        (None, None) => panic!("no authorities in the kubeconfig of the tests"),
    };
    (cluster.server.unwrap(), authorities)
}

/// A kubeconfig for the API server with this user.
fn kubeconfig(world: &World, user: &Value) -> String {
    let (server, authorities) = server(world);
    let cluster = json!({"server": server, "certificate-authority-data": BASE64.encode(authorities)});
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "far",
        "clusters": [{"name": "far", "cluster": cluster}], "users": [{"name": "far", "user": user}],
        "contexts": [{"name": "far", "context": {"cluster": "far", "user": "far"}}]})
    .to_string()
}

/// A token of a service account of the world's namespace.
async fn token(world: &World, name: &str) -> String {
    let api: kube::Api<k8s_openapi::api::core::v1::ServiceAccount> =
        kube::Api::namespaced(world.cluster.client.clone(), &world.namespace);
    let made = api
        .create_token_request(name, &Default::default(), &Default::default())
        .await;
    made.unwrap().status.unwrap().token.unwrap()
}

/// Policies, which other tests may have put into the cluster, are told of the namespaces of a change.
async fn may_read_namespaces(world: &World, name: &str) {
    let (group, metadata) = ("rbac.authorization.k8s.io", json!({"name": world.namespace}));
    let objects = [
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]}]}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": world.namespace},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": world.namespace}]}),
    ];
    for object in objects {
        world.cluster.apply("", object).await;
    }
}

async fn store(world: &World, kind: &str, name: &str, data: Value) {
    let field = if kind == "Secret" { "stringData" } else { "data" };
    let metadata =
        json!({"name": name, "namespace": world.namespace, "labels": {"reconcile.fluxcd.io/watch": "Enabled"}});
    let object = json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, field: data});
    world.cluster.apply(&world.namespace, object).await;
}

#[tokio::test]
async fn a_kubeconfig_says_where_and_as_whom() {
    let Some(world) = World::start("remote").await else {
        return;
    };
    account(&world, "far", &["get", "create", "patch", "delete"]).await;
    may_read_namespaces(&world, "far").await;
    let commit = world.commit(&[("app/settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    let spec = json!({"path": "./app", "wait": true, "kubeConfig": {"secretRef": {"name": "far"}}});
    world.kustomization("app", spec).await;
    let (_, message) = world.not_ready("app", "ReconciliationFailed").await;
    let missing = format!(
        "unable to read KubeConfig secret '{}/far' error: Secret \"far\" not found; create it",
        world.namespace
    );
    assert!(message.starts_with(&missing), "{message}");

    // What must not be in it is refused by name, and a change of the Secret is seen at once.
    let exec = json!({"exec": {"apiVersion": "client.authentication.k8s.io/v1", "command": "/bin/true"}});
    store(&world, "Secret", "far", json!({"value": kubeconfig(&world, &exec)})).await;
    eventually("exec is refused", async || {
        let (_, message) = world.not_ready("app", "ReconciliationFailed").await;
        let expected = message.contains("users[].user.exec is refused, it would run a program in Weir");
        if expected { Ok(()) } else { Err(message) }
    })
    .await;
    let user = json!({"token": token(&world, "far").await});
    store(&world, "Secret", "far", json!({"value": kubeconfig(&world, &user)})).await;
    let ready = world.ready("app", &commit).await;
    assert_eq!(condition(&ready, "Healthy").unwrap().0, "True");
    let settings = world.get(CONFIG_MAP, "settings").await.unwrap();
    assert_eq!(settings["data"]["value"], "one");

    // One object beyond its rights, and nothing of the change is written.
    let more = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: more\n";
    world.commit(&[
        ("app/settings.yaml", &config_map("settings", "two")),
        ("app/more.yaml", more),
    ]);
    let (_, message) = world.not_ready("app", "ReconciliationFailed").await;
    let user = format!("User \"system:serviceaccount:{}:far\" cannot", world.namespace);
    assert!(message.contains(&user), "{message}");
    assert_eq!(world.data("settings").await["value"], "one");

    // Pruned there, and left there when the Secret is gone.
    world.repo.git(&["rm", "--quiet", "app/more.yaml", "app/settings.yaml"]);
    let third = world.commit(&[("app/last.yaml", &config_map("last", "one"))]);
    world.ready("app", &third).await;
    assert!(world.get(CONFIG_MAP, "settings").await.is_none());
    world.cluster.delete("v1/Secret", &world.namespace, "far").await;
    world.cluster.delete(KUSTOMIZATION, &world.namespace, "app").await;
    world.gone(KUSTOMIZATION, "app").await;
    let wanted = ("Warning", "PruneFailed", "there is no KubeConfig secret");
    world.event(KUSTOMIZATION, "app", wanted).await;
    assert!(world.get(CONFIG_MAP, "last").await.is_some());
    let logged: String = world.weir.lines().map(|line| line.to_string()).collect();
    assert!(!logged.contains("/bin/true"), "nothing of a kubeconfig is logged");
}

#[tokio::test]
async fn a_config_map_opens_a_cluster_that_trusts_our_tokens() {
    let Some(world) = World::start("tokens").await else {
        return;
    };
    account(&world, "far", &["get", "create", "patch", "delete"]).await;
    may_read_namespaces(&world, "far").await;
    let commit = world.commit(&[("app/settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    let (address, authorities) = server(&world);
    // The audience that this API server takes for its own is the default of `kubectl create token`.
    let metadata = json!({"name": "probe", "namespace": world.namespace});
    world
        .cluster
        .apply(
            &world.namespace,
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        )
        .await;
    let issued = token(&world, "probe").await;
    let claims = issued.split('.').nth(1).unwrap();
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(claims).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let audience = claims["aud"][0].as_str().unwrap().to_owned();
    let data = json!({"provider": "generic", "address": address, "ca.crt": authorities, "audiences": audience,
        "serviceAccountName": "far"});
    store(&world, "ConfigMap", "far", data).await;
    store(&world, "ConfigMap", "cloud", json!({"provider": "gcp", "cluster": "x"})).await;
    for (name, config) in [("app", "far"), ("cloud", "cloud")] {
        let spec = json!({"path": "./app", "kubeConfig": {"configMapRef": {"name": config}}, "namePrefix": format!("{name}-")});
        world.kustomization(name, spec).await;
    }
    world.ready("app", &commit).await;
    let settings = world.get(CONFIG_MAP, "app-settings").await.unwrap();
    assert_eq!(settings["data"]["value"], "one");
    let (object, message) = world.not_ready("cloud", "Unsupported").await;
    assert_eq!(condition(&object, "Stalled").unwrap().0, "True");
    assert!(
        message.contains("provider gcp is not supported by this version of Weir"),
        "{message}"
    );

    // Both a cluster and an account: the account is one of the other cluster, which must let us act as it.
    world.cluster.delete(ACCOUNT, &world.namespace, "probe").await;
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"serviceAccountName": "tenant"}}))
        .await;
    let (_, message) = world.not_ready("app", "ReconciliationFailed").await;
    assert!(message.contains("cannot impersonate"), "{message}");
}
