//! The webhooks of a running Weir: a manual change of what Git declares is refused at the API server's door.

use std::net::TcpListener;
use std::path::Path;

use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{Cluster, alice, eventually};
use crate::tenants::account;
use crate::world::{CONFIG_MAP, DEPLOYMENT, Setup, World, config_map, deployment};

/// Held by a test whose Weir is behind the webhook configurations, of which the cluster has one each.
pub(crate) static WEBHOOKS: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[tokio::test]
async fn a_manual_change_of_what_git_declares_is_refused_with_its_reason() {
    let _alone = WEBHOOKS.lock().await;
    let Some(setup) = Setup::new("guard").await else { return };
    let port = TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("https://127.0.0.1:{port}");
    install(&setup.cluster, &setup.namespace, &url).await;
    let arguments = [
        format!("--webhook-addr=127.0.0.1:{port}"),
        format!("--webhook-url={url}"),
    ];
    let world = setup.with_arguments(&[&arguments[0], &arguments[1]]).start().await;
    let commit = world.commit(&[("shop/web.yaml", &deployment("web", "2", ""))]);
    world.source(json!({})).await;
    world
        .kustomization("app", json!({"path": "./shop", "wait": true}))
        .await;
    world.ready("app", &commit).await;
    account(&world, "tenant", &["get", "create", "patch"]).await;
    eventually("the API server trusts the webhooks", async || {
        let kind = "admissionregistration.k8s.io/v1/ValidatingWebhookConfiguration";
        let found = world.cluster.get(kind, "", "weir-validate").await.unwrap_or_default();
        let known = found["webhooks"][0]["clientConfig"]["caBundle"].is_string();
        if known {
            Ok(())
        } else {
            Err(found["webhooks"].to_string())
        }
    })
    .await;

    let alice = alice().await;
    let image = json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "main"}],
        "containers": [{"name": "main", "image": "registry.example/web:6.6.6"}]}}}});
    let message = eventually("the change is refused", async || {
        match alice.merge(DEPLOYMENT, &world.namespace, "web", image.clone()).await {
            Err(kube::Error::Api(status)) if status.code == 403 => Ok(status.message),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let kustomization = format!("Kustomization {}/app", world.namespace);
    for part in [
        "admission webhook \"guard.weir.dev\" denied the request",
        "comes from Git",
        "registry.example/web:6.6.6",
        &kustomization,
        &world.git.url("app"),
        &commit[..8],
        "Change shop/web.yaml",
        "flux suspend kustomization app",
    ] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
    let scaled = alice
        .api(DEPLOYMENT, &world.namespace)
        .patch_scale(
            "web",
            &Default::default(),
            &kube::api::Patch::Merge(json!({"spec": {"replicas": 5}})),
        )
        .await
        .unwrap_err()
        .to_string();
    assert!(
        scaled.contains("guard-scale.weir.dev") && scaled.contains("replicas"),
        "{scaled}"
    );
    let deleted = alice
        .api(DEPLOYMENT, &world.namespace)
        .delete("web", &DeleteParams::default())
        .await;
    let deleted = deleted.unwrap_err().to_string();
    assert!(deleted.contains("cannot be deleted by hand"), "{deleted}");
    // What Git does not declare stays hers.
    let note = json!({"metadata": {"annotations": {"note": "hers"}}});
    alice.merge(DEPLOYMENT, &world.namespace, "web", note).await.unwrap();
    let web = world.get(DEPLOYMENT, "web").await.unwrap();
    assert_eq!(web["spec"]["replicas"], 2);
    assert_eq!(web["metadata"]["annotations"]["note"], "hers");
    // In the name of a service account Weir passes the guard, and who else uses that account does not.
    let files = [("tenant/settings.yaml", &*config_map("settings", "one"))];
    let commit = world.commit(&files);
    let spec = json!({"path": "./tenant", "serviceAccountName": "tenant"});
    world.kustomization("tenant", spec).await;
    world.ready("tenant", &commit).await;
    let commit = world.commit(&[("tenant/settings.yaml", &config_map("settings", "two"))]);
    world.ready("tenant", &commit).await;
    let user = format!("system:serviceaccount:{}:tenant", world.namespace);
    let tenant = alice.in_the_name_of(&user).await;
    let edit = json!({"data": {"value": "three"}});
    let refused = tenant.merge(CONFIG_MAP, &world.namespace, "settings", edit).await;
    let refused = refused.unwrap_err().to_string();
    assert!(
        refused.contains("guard.weir.dev") && refused.contains("data.value"),
        "{refused}"
    );
    an_ignored_field_passes(&world, &alice).await;
    let metrics = world.weir.metrics().await;
    assert!(
        metrics.contains("weir_guard_denied_total{kind=\"Deployment\","),
        "{metrics}"
    );
    uninstall(&world.cluster).await;
}

/// What `spec.ignore` leaves to others, the door leaves to them too: tried dry, as `kubectl diff` does, applied and scaled.
async fn an_ignored_field_passes(world: &World, alice: &Cluster) {
    let commit = world.commit(&[("loose/loose.yaml", &deployment("loose", "1", ""))]);
    let ignore = json!([{"paths": ["/spec/replicas"], "target": {"kind": "Deployment"}}]);
    let spec = json!({"path": "./loose", "ignore": ignore});
    world.kustomization("loose", spec).await;
    world.ready("loose", &commit).await;
    let api = alice.api(DEPLOYMENT, &world.namespace);
    let apply = async |dry_run: bool, spec: Value| {
        let object =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "loose"}, "spec": spec});
        let mut parameters = PatchParams::apply("kubectl").force();
        parameters.dry_run = dry_run;
        let applied = api.patch("loose", &parameters, &Patch::Apply(object)).await;
        applied.map(|object| object.data["spec"]["replicas"].clone())
    };
    assert_eq!(apply(true, json!({"replicas": 3})).await.unwrap(), 3);
    assert_eq!(apply(false, json!({"replicas": 3})).await.unwrap(), 3);
    let scale = Patch::Merge(json!({"spec": {"replicas": 4}}));
    api.patch_scale("loose", &PatchParams::default(), &scale).await.unwrap();
    // Not the field beside it, together with the ignored one; tried dry that is told, not refused.
    let added = apply(false, json!({"replicas": 5, "minReadySeconds": 5})).await;
    assert!(added.is_ok(), "Git does not declare that: {added:?}");
    let image = json!({"replicas": 6, "template": {"spec": {"containers": [{"name": "main", "image": "registry.example/x:1"}]}}});
    assert_eq!(apply(true, image.clone()).await.unwrap(), 6);
    let refused = apply(false, image).await.unwrap_err().to_string();
    assert!(
        refused.contains("guard.weir.dev") && refused.contains("registry.example/x:1") && !refused.contains("replicas"),
        "{refused}"
    );
    // Weir applies something else, and what she set stays.
    let commit = world.commit(&[("loose/loose.yaml", &deployment("loose", "1", "note: 'x'"))]);
    world.ready("loose", &commit).await;
    let loose = world.get(DEPLOYMENT, "loose").await.unwrap();
    assert_eq!(loose["spec"]["replicas"], 5);
}

/// Applies the webhook configurations of `manifests/base`, for one namespace and at this address.
pub(crate) async fn install(cluster: &Cluster, namespace: &str, url: &str) {
    uninstall(cluster).await;
    for file in ["validating-webhook.yaml", "mutating-webhook.yaml"] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/base").join(file);
        let mut configuration: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        for webhook in configuration["webhooks"].as_array_mut().unwrap() {
            let path = webhook["clientConfig"]["service"]["path"].as_str().unwrap().to_owned();
            webhook["clientConfig"] = json!({"url": format!("{url}{path}")});
            webhook["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
        }
        cluster.apply("", configuration).await;
    }
}

pub(crate) async fn uninstall(cluster: &Cluster) {
    for (kind, name) in [
        ("ValidatingWebhookConfiguration", "weir-validate"),
        ("MutatingWebhookConfiguration", "weir-mutate"),
    ] {
        cluster
            .delete(&format!("admissionregistration.k8s.io/v1/{kind}"), "", name)
            .await;
    }
}
