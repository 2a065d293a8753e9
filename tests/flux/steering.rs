//! Commands that make something happen: create, reconcile, suspend, resume, delete.

use serde_json::json;

use crate::cli::Flux;
use crate::world::{CONFIG_MAP, KUSTOMIZATION, LABEL, REPOSITORY, World, config_map};

/// What `flux create` gets so that the Weir of the test looks after it.
fn label(world: &World) -> String {
    format!("--label={LABEL}={}", world.namespace)
}

#[tokio::test]
async fn create_waits_until_it_works_and_delete_until_it_is_gone() {
    let Some(world) = World::start("flux-create").await else {
        return;
    };
    let (flux, label) = (Flux::of(&world), label(&world));
    let commit = world.commit(&[("app/settings.yaml", &config_map("settings", "one"))]);
    let url = world.git.url("app");
    let source = format!("create source git app --url={url} --branch=main --interval=1m {label}");
    let revision = format!("main@sha1:{commit}");
    flux.well(&source).has(&format!("fetched revision: {revision}"));
    let namespace = &world.namespace;
    let application = format!(
        "create kustomization app --source=GitRepository/app --path=./app --prune --interval=10m --wait \
         --target-namespace={namespace} {label}"
    );
    flux.well(&application).has(&format!("applied revision {revision}"));
    assert_eq!(world.data("settings").await["value"], "one");

    // The same again, and once more after an export: nothing changes but what the flags say.
    flux.well(&source).has("updated").has(&revision);
    flux.well(&application).has("updated").has(&revision);
    flux.well("delete kustomization app --silent")
        .has("kustomization deleted");
    world.gone(KUSTOMIZATION, "app").await;
    world.gone(CONFIG_MAP, "settings").await;
    flux.well("delete source git app --silent").has("source git deleted");
    world.gone(REPOSITORY, "app").await;

    let wrong =
        format!("create source git wrong --url={url}-not-there --branch=main --interval=1m --timeout=5s {label}");
    let ran = flux.run(&wrong);
    assert_ne!(ran.code, 0, "{ran:?}");
}

#[tokio::test]
async fn reconcile_brings_what_is_in_git_now() {
    let Some(world) = World::start("flux-reconcile").await else {
        return;
    };
    let flux = Flux::of(&world);
    let first = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    // So long that only the command can be what fetches.
    world.source(json!({"interval": "30m"})).await;
    world.kustomization("app", json!({"interval": "30m"})).await;
    world.ready("app", &first).await;

    let second = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    flux.well("reconcile kustomization app --with-source")
        .has("GitRepository annotated")
        .has(&format!("fetched revision main@sha1:{second}"))
        .has("Kustomization annotated")
        .has(&format!("applied revision main@sha1:{second}"));
    assert_eq!(world.data("settings").await["value"], "two");

    let third = world.commit(&[("settings.yaml", &config_map("settings", "three"))]);
    flux.well("reconcile source git app")
        .has(&format!("fetched revision main@sha1:{third}"));
    world.ready("app", &third).await;
    flux.well("reconcile kustomization app")
        .has(&format!("applied revision main@sha1:{third}"));

    // What fails is being retried, so the command waits until its own time is over; Flux does the same.
    world.commit(&[("settings.yaml", "apiVersion: v1\nkind: ConfigMap\n")]);
    let ran = flux.run("reconcile kustomization app --with-source --timeout=5s");
    assert_ne!(ran.code, 0, "{ran:?}");
    flux.shows("get kustomizations --status-selector=ready=false", "app")
        .await;
}

#[tokio::test]
async fn suspended_is_left_alone_and_resumed_catches_up() {
    let Some(world) = World::start("flux-suspend").await else {
        return;
    };
    let flux = Flux::of(&world);
    let first = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &first).await;

    flux.well("suspend kustomization app").has("kustomization suspended");
    let second = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    flux.well("reconcile source git app")
        .has(&format!("fetched revision main@sha1:{second}"));
    let row = flux.row("get kustomizations", "app");
    assert_eq!((row[2].as_str(), row[3].as_str()), ("True", "True"), "{row:?}");
    let refused = flux.run("reconcile kustomization app");
    assert_eq!(refused.code, 1, "{refused:?}");
    refused.has("resource is suspended");
    assert_eq!(world.data("settings").await["value"], "one");
    flux.well("resume kustomization app")
        .has("kustomization resumed")
        .has(&format!("applied revision main@sha1:{second}"));
    assert_eq!(world.data("settings").await["value"], "two");

    flux.well("suspend source git app").has("source git suspended");
    let third = world.commit(&[("settings.yaml", &config_map("settings", "three"))]);
    assert_eq!(flux.row("get sources git", "app")[2], "True");
    let refused = flux.run("reconcile kustomization app --with-source");
    assert_eq!(refused.code, 1, "{refused:?}");
    flux.well("resume source git app").has("source git resumed");
    world.ready("app", &third).await;
}
