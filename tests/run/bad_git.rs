//! What is wrong with the repository: every fault has a condition and an event, changes nothing, and heals with the next
//! commit.

use serde_json::json;

use crate::cluster::eventually;
use crate::world::{CONFIG_MAP, KUSTOMIZATION, REPOSITORY, World, config_map, deployment};

#[tokio::test]
async fn malformed_yaml_is_told_with_its_place_and_changes_nothing() {
    let Some(world) = World::start("malformed").await else {
        return;
    };
    let good = world.commit(&[("app/settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({"path": "./app"})).await;
    world.ready("app", &good).await;

    let broken = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: other\n data: [\n";
    let bad = world.commit(&[
        ("app/settings.yaml", &config_map("settings", "two")),
        ("app/broken.yaml", broken),
    ]);
    let (object, message) = world.not_ready("app", "BuildFailed").await;
    assert!(message.contains("app/broken.yaml"), "{message}");
    let status = &object["status"];
    assert_eq!(status["lastAppliedRevision"], format!("main@sha1:{good}"));
    assert_eq!(status["lastAttemptedRevision"], format!("main@sha1:{bad}"));
    assert_eq!(status["inventory"]["entries"].as_array().unwrap().len(), 1);
    let wanted = ("Warning", "BuildFailed", "app/broken.yaml");
    world.event(KUSTOMIZATION, "app", wanted).await;
    assert_eq!(world.data("settings").await["value"], "one");

    let mended = world.commit(&[("app/broken.yaml", &config_map("other", "three"))]);
    world.ready("app", &mended).await;
    assert_eq!(world.data("settings").await["value"], "two");
    assert_eq!(world.data("other").await["value"], "three");
}

#[tokio::test]
async fn a_missing_path_is_told_and_found_once_it_is_there() {
    let Some(world) = World::start("path").await else {
        return;
    };
    world.commit(&[("app/settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({"path": "./elsewhere"})).await;
    let part = "kustomization path not found: elsewhere";
    world
        .event(KUSTOMIZATION, "app", ("Warning", "ArtifactFailed", part))
        .await;
    // The event comes before the status, where the missing artifact may still stand.
    eventually("the path is told", async || {
        let (_, message) = world.not_ready("app", "ArtifactFailed").await;
        if message == part { Ok(()) } else { Err(message) }
    })
    .await;
    let there = world.commit(&[("elsewhere/settings.yaml", &config_map("settings", "two"))]);
    world.ready("app", &there).await;
}

#[tokio::test]
async fn an_object_that_the_api_server_rejects_keeps_all_of_its_commit_out() {
    let Some(world) = World::start("rejected").await else {
        return;
    };
    let good = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &good).await;

    world.commit(&[
        ("settings.yaml", &config_map("settings", "two")),
        ("another.yaml", &config_map("another", "two")),
        ("web.yaml", &deployment("web", "many", "")),
        ("api.yaml", &deployment("api", "-1", "")),
    ]);
    let (object, message) = world.not_ready("app", "ReconciliationFailed").await;
    for part in [
        "Deployment/",
        "/web dry-run failed",
        "/api dry-run failed",
        "spec.replicas",
    ] {
        assert!(message.contains(part), "both faults are told at once: {message}");
    }
    assert_eq!(object["status"]["lastAppliedRevision"], format!("main@sha1:{good}"));
    assert_eq!(
        object["status"]["history"][0]["lastReconciledStatus"],
        "ReconciliationFailed"
    );
    let wanted = ("Warning", "ReconciliationFailed", "dry-run failed");
    world.event(KUSTOMIZATION, "app", wanted).await;
    assert_eq!(world.data("settings").await["value"], "one");
    assert!(
        world.get(CONFIG_MAP, "another").await.is_none(),
        "nothing is half applied"
    );

    let mended = world.commit(&[
        ("web.yaml", &deployment("web", "1", "")),
        ("api.yaml", &deployment("api", "0", "")),
    ]);
    world.ready("app", &mended).await;
    assert_eq!(world.data("another").await["value"], "two");
}

#[tokio::test]
async fn a_rewritten_history_is_told_and_followed() {
    let Some(world) = World::start("rewritten").await else {
        return;
    };
    world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    let lost = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &lost).await;

    // In one step, or a look in between would find the history rewritten to the first commit, and then continued.
    std::fs::write(world.repo.path().join("settings.yaml"), config_map("settings", "three")).unwrap();
    world
        .repo
        .git(&["commit", "--quiet", "--all", "--amend", "--message", "Another change"]);
    let now = world.repo.git(&["rev-parse", "HEAD"]);
    world.ready("app", &now).await;
    assert_eq!(world.data("settings").await["value"], "three");
    let message = world
        .event(REPOSITORY, "app", ("Warning", "HistoryRewritten", &lost))
        .await;
    assert!(message.contains(&now), "{message}");
}
