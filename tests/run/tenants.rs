//! Kustomizations in the name of a tenant's service account.

use serde_json::json;

use crate::cluster::eventually;
use crate::world::{CONFIG_MAP, KUSTOMIZATION, Setup, World, config_map};

const ACCOUNT: &str = "v1/ServiceAccount";

/// Gives a service account of the world's namespace these rights on ConfigMaps of that namespace.
pub(crate) async fn account(world: &World, name: &str, verbs: &[&str]) {
    let (group, namespace) = ("rbac.authorization.k8s.io", &world.namespace);
    let metadata = json!({"name": name, "namespace": namespace});
    let objects = [
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs}]}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}]}),
    ];
    for object in objects {
        world.cluster.apply(namespace, object).await;
    }
}

#[tokio::test]
async fn a_kustomization_does_what_its_service_account_may_and_no_more() {
    let Some(setup) = Setup::new("tenant").await else {
        return;
    };
    let world = setup
        .with_arguments(&["--default-service-account=nobody"])
        .start()
        .await;
    account(&world, "tenant", &["get", "create", "patch", "delete"]).await;
    let first = world.commit(&[
        ("mine/settings.yaml", &config_map("settings", "one")),
        ("other/other.yaml", &config_map("other", "one")),
    ]);
    world.source(json!({})).await;
    world
        .kustomization("mine", json!({"path": "./mine", "serviceAccountName": "tenant"}))
        .await;
    world.kustomization("other", json!({"path": "./other"})).await;
    world.ready("mine", &first).await;
    let (_, message) = world.not_ready("other", "ReconciliationFailed").await;
    let nobody = format!("User \"system:serviceaccount:{}:nobody\" cannot", world.namespace);
    assert!(message.contains(&nobody), "the default account: {message}");
    assert!(world.get(CONFIG_MAP, "other").await.is_none());

    // What somebody changes by hand is put back in the name of the tenant too.
    let edit = json!({"data": {"value": "by hand"}});
    world.merge(CONFIG_MAP, "settings", edit).await;
    eventually("the edit is put back", async || {
        let value = world.data("settings").await["value"].clone();
        if value == "one" { Ok(()) } else { Err(value.to_string()) }
    })
    .await;

    // One object beyond its rights, and nothing of the change is written.
    let account = "apiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: more\n";
    world.commit(&[
        ("mine/settings.yaml", &config_map("settings", "two")),
        ("mine/more.yaml", account),
    ]);
    let (_, message) = world.not_ready("mine", "ReconciliationFailed").await;
    let tenant = format!("User \"system:serviceaccount:{}:tenant\" cannot", world.namespace);
    assert!(
        message.contains(&tenant) && message.contains("serviceaccounts"),
        "{message}"
    );
    assert_eq!(world.data("settings").await["value"], "one");

    // Pruned by the account, and left where it is when the account is gone.
    world
        .repo
        .git(&["rm", "--quiet", "mine/more.yaml", "mine/settings.yaml"]);
    let third = world.commit(&[("mine/last.yaml", &config_map("last", "one"))]);
    world.ready("mine", &third).await;
    assert!(world.get(CONFIG_MAP, "settings").await.is_none());
    world.cluster.delete(ACCOUNT, &world.namespace, "tenant").await;
    world.cluster.delete(KUSTOMIZATION, &world.namespace, "mine").await;
    world.gone(KUSTOMIZATION, "mine").await;
    let wanted = ("Warning", "PruneFailed", "there is no service account tenant");
    world.event(KUSTOMIZATION, "mine", wanted).await;
    assert!(world.get(CONFIG_MAP, "last").await.is_some());
}

#[tokio::test]
async fn a_weir_of_one_namespace_leaves_all_others_alone() {
    let Some(setup) = Setup::new("alone").await else {
        return;
    };
    let world = setup.with_arguments(&["--watch-all-namespaces=false"]).start().await;
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    // The same objects, with the label that this Weir looks for, in a namespace beside its own.
    let (own, beside) = (world.namespace.clone(), format!("{}-beside", world.namespace));
    world.cluster.namespace(&beside).await;
    let metadata = json!({"name": "app", "namespace": beside, "labels": {"weir.test/world": own}});
    let spec = json!({"interval": "10m", "prune": true, "sourceRef": {"kind": "GitRepository", "name": "app"}});
    let api = "kustomize.toolkit.fluxcd.io/v1";
    let other = json!({"apiVersion": api, "kind": "Kustomization", "metadata": metadata, "spec": spec});
    world.cluster.apply(&beside, other).await;
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &commit).await;
    let other = world.cluster.get(KUSTOMIZATION, &beside, "app").await.unwrap();
    assert!(other["metadata"]["finalizers"].is_null(), "{other}");
}
