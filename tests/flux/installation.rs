//! Commands that look at the installation: check, version, get on an empty cluster.

use std::process::Command;

use serde_json::Value;

use crate::cli::Flux;
use crate::cluster::{eventually, has_condition};
use crate::world::Setup;

/// Where `weir install` puts it.
const NAMESPACE: &str = "flux-system";

#[tokio::test]
async fn check_and_version_take_weir_for_flux() {
    let Some(setup) = Setup::new("flux-check").await else {
        return;
    };
    let cluster = &setup.cluster;
    let exported = Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["install", "--export"])
        .output()
        .unwrap();
    let exported = String::from_utf8(exported.stdout).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&exported).unwrap();
    // Webhooks that nobody answers would slow down every test.
    let installed = documents.into_iter().filter(|one| {
        one["kind"]
            .as_str()
            .is_some_and(|kind| !kind.ends_with("WebhookConfiguration"))
    });
    for object in installed {
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default().to_owned();
        cluster.apply(&namespace, object).await;
    }
    let deployment = "apps/v1/Deployment";
    eventually("the controller is available", async || {
        let found = cluster
            .get(deployment, NAMESPACE, "weir-controller")
            .await
            .unwrap_or_default();
        has_condition(&found, "Available", "True", "")
    })
    .await;

    let flux = Flux::new(
        cluster.kubeconfig.clone(),
        NAMESPACE,
        setup.directory.path().join("home"),
    );
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    flux.well("check --pre").has("prerequisites checks passed");
    flux.well("check --poll-interval=1s")
        .has(&format!("distribution: flux-{version}"))
        .has("bootstrapped: false")
        .has("weir-controller: deployment ready")
        .has(&format!("weir:{version}"))
        .has("gitrepositories.source.toolkit.fluxcd.io/v1")
        .has("kustomizations.kustomize.toolkit.fluxcd.io/v1")
        .has("artifactgenerators.source.extensions.fluxcd.io/v1beta1")
        .has("all checks passed");
    flux.well("version")
        .has(&format!("distribution: flux-{version}"))
        .has(&format!("weir: {version}"));
    // Kinds that are not installed are no error.
    let ran = flux.run("get all");
    assert_eq!(ran.code, 0, "{ran:?}");

    cluster.delete(deployment, NAMESPACE, "weir-controller").await;
}
