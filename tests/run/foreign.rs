//! Sources that another process reconciles: one Weir fetches, another one builds.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{eventually, has_condition};
use crate::weir_process::Weir;
use crate::world::{KUSTOMIZATION, REPOSITORY, Setup, World, config_map};

/// A world whose Weir builds only, and the Weir that fetches for it.
async fn two(name: &str) -> Option<(World, Weir)> {
    let setup = Setup::new(name).await?.with_arguments(&["--reconcilers=kustomization"]);
    let world = setup.start().await;
    let directory = world.directory.path().join("fetching");
    std::fs::create_dir_all(&directory).unwrap();
    let mut arguments = world.arguments.clone();
    arguments.retain(|one| !one.starts_with("--reconcilers"));
    arguments.push("--reconcilers=gitrepository".to_owned());
    let fetching = Weir::start(&directory, &world.cluster.kubeconfig, &arguments).await;
    Some((world, fetching))
}

/// Writes part of a status, as whoever reconciles the source would.
async fn report(world: &World, artifact: Value) {
    let api = world.cluster.api(REPOSITORY, &world.namespace);
    let patch = Patch::Merge(json!({"status": {"artifact": artifact}}));
    api.patch_status("app", &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn what_one_process_fetches_another_one_builds() {
    let Some((world, mut fetching)) = two("foreign").await else {
        return;
    };
    world.kustomization("app", json!({"interval": "1h"})).await;
    let (_, message) = world.not_ready("app", "ArtifactFailed").await;
    assert!(message.contains("\"app\" not found"), "{message}");
    let first = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.ready("app", &first).await;
    assert_eq!(world.data("settings").await, json!({"value": "one"}));
    // Nobody waits for an interval.
    let second = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    world.ready("app", &second).await;
    assert_eq!(world.data("settings").await, json!({"value": "two"}));

    // What is held stays good while nobody serves it.
    fetching.terminate(std::time::Duration::from_secs(20)).await;
    world
        .merge(
            KUSTOMIZATION,
            "app",
            json!({"spec": {"commonMetadata": {"labels": {"more": "yes"}}}}),
        )
        .await;
    world.ready("app", &second).await;
    let settings = world.get("v1/ConfigMap", "settings").await.unwrap();
    assert_eq!(settings["metadata"]["labels"]["more"], "yes");

    let other = "0".repeat(64);
    report(
        &world,
        json!({"revision": "main@sha1:1111111111111111111111111111111111111111", "digest": format!("sha256:{other}")}),
    )
    .await;
    let (_, message) = world.not_ready("app", "ArtifactFailed").await;
    assert!(
        message.starts_with("failed to download archive from http://"),
        "{message}"
    );
}

#[tokio::test]
async fn an_artifact_that_is_not_the_one_is_not_built() {
    let Some((world, fetching)) = two("foreign-digest").await else {
        return;
    };
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({"interval": "1h"})).await;
    let object = eventually("the artifact is there", async || {
        let found = world.get(REPOSITORY, "app").await.unwrap_or_default();
        has_condition(&found, "Ready", "True", "Succeeded").map(|_| found)
    })
    .await;
    let artifact = object["status"]["artifact"].clone();
    let other = format!("sha256:{}", "0".repeat(64));
    report(&world, json!({"digest": other})).await;
    world.kustomization("app", json!({})).await;
    let (_, message) = world.not_ready("app", "ArtifactFailed").await;
    let digest = artifact["digest"].as_str().unwrap();
    assert!(
        message.contains(&format!("computed digest doesn't match provided '{other}'"))
            && message.ends_with(&format!("has the digest {digest}")),
        "{message}"
    );
    assert!(world.get("v1/ConfigMap", "settings").await.is_none());

    let gone = artifact["url"].as_str().unwrap().replace(&commit, &"1".repeat(40));
    report(&world, json!({"digest": digest, "url": gone})).await;
    eventually("the missing file is told", async || {
        let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
        let message = has_condition(&found, "Ready", "False", "ArtifactFailed")?;
        let expect = "Source is not ready, artifact not found, retrying in 30s";
        if message == expect { Ok(()) } else { Err(message) }
    })
    .await;
    report(&world, artifact).await;
    world.ready("app", &commit).await;
    drop(fetching);
}
