//! ArtifactGenerators: artifacts made of parts of repositories, and Kustomizations that build from them.

use std::io::Read;

use flate2::read::GzDecoder;
use serde_json::{Value, json};

use crate::cluster::{condition, eventually, has_condition};
use crate::world::{KUSTOMIZATION, Setup, World, config_map};

const GENERATOR: &str = "source.extensions.fluxcd.io/v1beta1/ArtifactGenerator";
const ARTIFACT: &str = "source.toolkit.fluxcd.io/v1/ExternalArtifact";

/// Waits until a generator is ready at its present spec and has made so many artifacts; gives it.
async fn made(world: &World, name: &str, count: usize) -> Value {
    eventually(&format!("{name} has made {count}"), async || {
        let found = world.get(GENERATOR, name).await.unwrap_or_default();
        let message = has_condition(&found, "Ready", "True", "Succeeded")?;
        let ready = &found["status"]["conditions"][0];
        let settled = ready["observedGeneration"] == found["metadata"]["generation"];
        if settled && message == format!("reconciliation succeeded, generated {count} artifact(s)") {
            Ok(found)
        } else {
            Err(found["status"].to_string())
        }
    })
    .await
}

/// The artifact that an ExternalArtifact offers.
async fn offered(world: &World, name: &str) -> Value {
    let found = world.get(ARTIFACT, name).await.unwrap_or_default();
    found["status"]["artifact"].clone()
}

/// Waits for another one than this.
async fn another(world: &World, name: &str, old: &Value) -> Value {
    eventually(&format!("{name} offers something new"), async || {
        let now = offered(world, name).await;
        if now.is_object() && now["digest"] != old["digest"] {
            Ok(now)
        } else {
            Err(now.to_string())
        }
    })
    .await
}

/// The files of an artifact as its consumers get them.
async fn files(artifact: &Value) -> Vec<(String, String)> {
    let response = reqwest::get(artifact["url"].as_str().unwrap()).await.unwrap();
    assert!(response.status().is_success(), "{artifact}");
    let bytes = response.bytes().await.unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(&bytes[..]));
    let mut files = Vec::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let mut content = String::new();
        entry.read_to_string(&mut content).unwrap();
        let path = entry.path().unwrap().display().to_string();
        if !path.ends_with('/') {
            files.push((path, content));
        }
    }
    files
}

fn source() -> Value {
    json!([{"alias": "repo", "kind": "GitRepository", "name": "app"}])
}

#[tokio::test]
async fn only_the_artifacts_whose_content_changed_are_new() {
    let Some(setup) = Setup::new("generator").await else {
        return;
    };
    let world = setup
        .with_arguments(&["--feature-gates=ExternalArtifact=true"])
        .start()
        .await;
    let generator = json!({"sources": source(), "artifacts": [
        {"name": "frontend", "copy": [{"from": "@repo/deploy/frontend/**", "to": "@artifact/"}]},
        {"name": "backend", "copy": [{"from": "@repo/deploy/backend/**", "to": "@artifact/"}]},
    ], "commonMetadata": {"labels": {"team": "shop"}, "annotations": {"note": "made"}}});
    world.make(GENERATOR, "parts", generator).await;
    let failed = world.fails(GENERATOR, "parts", "SourceFetchFailed").await;
    assert!(failed.1.contains("GitRepository \"app\" not found"), "{}", failed.1);
    assert_eq!(condition(&failed.0, "Reconciling").unwrap().1, "ProgressingWithRetry");

    world.commit(&[
        ("deploy/frontend/settings.yaml", &config_map("front", "one")),
        ("deploy/backend/settings.yaml", &config_map("back", "one")),
    ]);
    world.source(json!({})).await;
    let object = made(&world, "parts", 2).await;
    let (front, back) = (offered(&world, "frontend").await, offered(&world, "backend").await);
    assert_eq!(
        front["revision"],
        format!("latest@{}", front["digest"].as_str().unwrap())
    );
    assert_eq!(
        files(&front).await,
        [("settings.yaml".to_owned(), config_map("front", "one"))]
    );
    let inventory = object["status"]["inventory"].as_array().unwrap();
    assert_eq!(inventory.len(), 2);
    assert_eq!(inventory[0]["name"], "frontend");
    assert_eq!(inventory[0]["digest"], front["digest"]);
    let path = format!(
        "externalartifact/{}/frontend/{}",
        world.namespace,
        inventory[0]["filename"].as_str().unwrap()
    );
    assert_eq!(front["path"], path);
    let artifact = world.get(ARTIFACT, "frontend").await.unwrap();
    assert_eq!(
        has_condition(&artifact, "Ready", "True", "Succeeded").as_deref(),
        Ok("Artifact is ready")
    );
    assert_eq!(artifact["spec"]["sourceRef"]["name"], "parts");
    let metadata = &artifact["metadata"];
    assert_eq!(
        metadata["labels"]["source.extensions.fluxcd.io/generator"],
        object["metadata"]["uid"]
    );
    assert_eq!(
        (&metadata["labels"]["team"], &metadata["annotations"]["note"]),
        (&json!("shop"), &json!("made"))
    );

    for (name, part) in [("front", "frontend"), ("back", "backend")] {
        let spec = json!({"sourceRef": {"kind": "ExternalArtifact", "name": part}, "interval": "1h"});
        world.kustomization(name, spec).await;
    }
    let applied = async |name: &str, artifact: &Value| {
        eventually(&format!("{name} is applied"), async || {
            let found = world.get(KUSTOMIZATION, name).await.unwrap_or_default();
            let message = has_condition(&found, "Ready", "True", "ReconciliationSucceeded")?;
            if found["status"]["lastAppliedRevision"] == artifact["revision"] {
                Ok(found)
            } else {
                Err(message)
            }
        })
        .await
    };
    applied("front", &front).await;
    let before = applied("back", &back).await;

    world.commit(&[("deploy/frontend/settings.yaml", &config_map("front", "two"))]);
    let newer = another(&world, "frontend", &front).await;
    applied("front", &newer).await;
    assert_eq!(world.data("front").await, json!({"value": "two"}));
    assert_eq!(offered(&world, "backend").await, back, "its content is as it was");
    let after = world.get(KUSTOMIZATION, "back").await.unwrap();
    assert_eq!(
        after["status"], before["status"],
        "and nobody who builds from it was disturbed"
    );

    // What is no longer asked for goes; so does everything with the generator.
    let fewer = json!({"spec": {"artifacts": [
        {"name": "backend", "copy": [{"from": "@repo/deploy/backend/**", "to": "@artifact/"}]}]}});
    world.merge(GENERATOR, "parts", fewer).await;
    world.gone(ARTIFACT, "frontend").await;
    made(&world, "parts", 1).await;
    let stored = world
        .directory
        .path()
        .join("storage/externalartifact")
        .join(&world.namespace);
    assert!(!stored.join("frontend").exists() && stored.join("backend").exists());
    world.cluster.delete(GENERATOR, &world.namespace, "parts").await;
    world.gone(GENERATOR, "parts").await;
    world.gone(ARTIFACT, "backend").await;
    assert!(!stored.join("backend").exists());
}

#[tokio::test]
async fn a_pattern_merging_and_archives_are_carried_out() {
    let Some(world) = World::start("generator-copy").await else {
        return;
    };
    // A chart as a tar.gz, in a repository that keeps archives in its artifact.
    let mut chart = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    header.set_mode(0o644);
    chart.append_data(&mut header, "chart/Chart.yaml", &b"a\n"[..]).unwrap();
    let bytes = chart.into_inner().unwrap().finish().unwrap();
    let work = world.directory.path().join("served/app");
    std::fs::create_dir_all(&work).unwrap();
    std::fs::write(work.join("chart.tgz"), bytes).unwrap();
    let commit = world.commit(&[
        ("base/values.yaml", "a: 1\nmap: {x: 1, z: [1]}\n"),
        ("apps/Web/values.yaml", "map: {z: [2]}\nb: yes\n"),
        ("apps/Web/README.md", "r"),
        ("apps/Web/.sops.yaml", "creation_rules: []\n"),
        ("apps/Web/logo.png", "p"),
        ("apps/Web/.gitignore", "x"),
        ("apps/api/values.yaml", "c: 3\n"),
    ]);
    world.source(json!({"ignore": "/nothing"})).await;
    let generator = json!({"sources": source(), "pathPattern": "@repo/apps/{app}", "artifacts": [
    {"name": "values-{app}", "revision": "@repo", "originRevision": "@repo", "copy": [
        {"from": "@repo/base/values.yaml", "to": "@artifact/"},
        {"from": "@repo/apps/{app}/**", "to": "@artifact/", "exclude": ["*.md"], "strategy": "Merge"},
        {"from": "@repo/chart.tgz", "to": "@artifact/charts/", "strategy": "Extract"},
    ]}]});
    world.make(GENERATOR, "values", generator).await;
    made(&world, "values", 2).await;
    let web = offered(&world, "values-web").await;
    assert_eq!(
        web["revision"],
        format!("main@sha1:{commit}"),
        "the revision of the source that it names"
    );
    // A repository says nothing of an origin, so it is the origin.
    let origin = json!({"org.opencontainers.image.revision": format!("main@sha1:{commit}")});
    assert_eq!(web["metadata"], origin);
    let told = format!(
        "ExternalArtifact/{}/values-web reconciled with revision main@sha1:{commit}",
        world.namespace
    );
    world.event(GENERATOR, "values", ("Normal", "Ready", &told)).await;
    let labels = world.get(ARTIFACT, "values-web").await.unwrap()["metadata"]["labels"]["app"].clone();
    assert_eq!(labels, "web");
    let found = files(&web).await;
    let names: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["charts/chart/Chart.yaml", "values.yaml"]);
    // Read as Kubernetes' own tools do: `yes` is true.
    assert_eq!(found[1].1, "a: 1\nb: true\nmap:\n  x: 1\n  z:\n  - 2\n");

    let mut bad = json!({"spec": {"pathPattern": "@repo/apps/{other}"}});
    world.merge(GENERATOR, "values", bad.clone()).await;
    let (object, message) = world.fails(GENERATOR, "values", "ValidationFailed").await;
    assert!(message.contains("uses {app}, which is not captured"), "{message}");
    assert_eq!(condition(&object, "Stalled").unwrap().1, "ValidationFailed");
    assert_eq!(
        object["status"]["inventory"].as_array().unwrap().len(),
        2,
        "what was made stays"
    );
    bad["spec"]["pathPattern"] = json!("@repo/apps/{app}");
    world.merge(GENERATOR, "values", bad).await;
    made(&world, "values", 2).await;

    // Disabled, it rests; enabled again, it catches up.
    let marked = |value: Value| json!({"metadata": {"annotations": {"source.extensions.fluxcd.io/reconcile": value}}});
    world.merge(GENERATOR, "values", marked(json!("disabled"))).await;
    world
        .event(GENERATOR, "values", ("Warning", "ReconciliationDisabled", "disabled"))
        .await;
    world.commit(&[("apps/api/values.yaml", "c: 4\n")]);
    world.merge(GENERATOR, "values", marked(Value::Null)).await;
    another(&world, "values-api", &offered(&world, "values-api").await).await;
}

#[tokio::test]
async fn sources_elsewhere_may_be_closed_and_what_cannot_be_built_says_why() {
    let Some(setup) = Setup::new("generator-refused").await else {
        return;
    };
    let world = setup.with_arguments(&["--no-cross-namespace-refs"]).start().await;
    world.commit(&[("a", "1")]);
    world.source(json!({})).await;
    let copy = |from: &str| json!([{"name": "x", "copy": [{"from": from, "to": "@artifact/"}]}]);
    let abroad = json!([{"alias": "repo", "kind": "GitRepository", "name": "app", "namespace": "default"}]);
    world
        .make(
            GENERATOR,
            "abroad",
            json!({"sources": abroad, "artifacts": copy("@repo/**")}),
        )
        .await;
    let (object, message) = world.fails(GENERATOR, "abroad", "AccessDenied").await;
    assert!(
        message.contains("GitRepository/default/app is not allowed"),
        "{message}"
    );
    assert_eq!(condition(&object, "Stalled").unwrap().1, "AccessDenied");
    world
        .make(
            GENERATOR,
            "wrong",
            json!({"sources": source(), "artifacts": copy("@repo/none")}),
        )
        .await;
    let (_, message) = world.fails(GENERATOR, "wrong", "BuildFailed").await;
    assert!(message.ends_with("source 'none' does not exist"), "{message}");
    world
        .event(GENERATOR, "wrong", ("Warning", "BuildFailed", "does not exist"))
        .await;
}
