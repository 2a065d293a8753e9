//! `weir run --reconcilers=kustomization` with Flux's arguments, among users who are careless, and some who are worse.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::artifacts::{GROUP, archive, artifact, ready, report};
use crate::cluster::{condition, eventually, has_condition};
use crate::files::FileServer;
use crate::world::{CONFIG_MAP, DEPLOYMENT, KUSTOMIZATION, LABEL, REPOSITORY, Setup, World, config_map, deployment};

/// Makes pods that start and stay unready (`hack/lib/kwok.yaml`).
const NEVER_READY: &str = "weir.test/never-ready: 'yes'";

async fn world(name: &str) -> Option<World> {
    let arguments = [
        "--reconcilers=kustomization",
        "--watch-all-namespaces=true",
        "--no-cross-namespace-refs=false",
        "--no-remote-bases=true",
        "--enable-leader-election",
        "--leader-election-release-on-cancel",
        "--log-level=info",
        "--log-encoding=json",
        "--concurrent=4",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        "--requeue-dependency=1s",
        "--graceful-shutdown-timeout=10s",
    ];
    Some(Setup::new(name).await?.with_arguments(&arguments).start().await)
}

/// A GitRepository that somebody else fetches.
async fn source(world: &World, server: &FileServer, revision: &str, files: &[(&str, &str)]) {
    if world.get(REPOSITORY, "app").await.is_none() {
        let spec = json!({"url": "https://git.example/app", "interval": "1h"});
        world.make(REPOSITORY, "app", spec).await;
    }
    let held = archive(files);
    let url = server.serve(&format!("{}.tar.gz", revision.replace([':', '@'], "-")), 200, &held);
    report(world, REPOSITORY, "app", artifact(&url, revision, &held)).await;
}

/// A Kustomization in any namespace, on the source of this test.
async fn kustomization(world: &World, namespace: &str, name: &str, extra: Value) {
    let mut spec = json!({"interval": "1h", "retryInterval": "1h", "prune": true, "path": format!("./{name}"),
        "targetNamespace": namespace,
        "sourceRef": {"kind": "GitRepository", "name": "app", "namespace": world.namespace}});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let metadata = json!({"name": name, "namespace": namespace, "labels": {LABEL: world.namespace}});
    let object = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": metadata, "spec": spec});
    world.cluster.apply(namespace, object).await;
}

async fn ready_in(world: &World, namespace: &str, name: &str, revision: &str) -> Value {
    eventually(&format!("{namespace}/{name} is ready at {revision}"), async || {
        let found = world
            .cluster
            .get(KUSTOMIZATION, namespace, name)
            .await
            .unwrap_or_default();
        has_condition(&found, "Ready", "True", "ReconciliationSucceeded")?;
        if found["status"]["lastAppliedRevision"] == revision {
            Ok(found)
        } else {
            Err(found["status"].to_string())
        }
    })
    .await
}

async fn gone(world: &World, kind: &str, namespace: &str, name: &str) {
    let api = world.cluster.api(kind, namespace);
    eventually(&format!("{kind} {namespace}/{name} is gone"), async || {
        match api.get_opt(name).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

/// Asks for a reconciliation and waits for its receipt.
async fn ask(world: &World, name: &str, token: &str) -> Value {
    let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": token}}});
    world.merge(KUSTOMIZATION, name, asked).await;
    eventually("the receipt", async || {
        let found = world.get(KUSTOMIZATION, name).await.unwrap_or_default();
        if found["status"]["lastHandledReconcileAt"] == token {
            Ok(found)
        } else {
            Err(found["status"].to_string())
        }
    })
    .await
}

#[tokio::test]
async fn a_chain_through_many_namespaces_is_made_in_its_order_and_taken_down() {
    const LINKS: usize = 8;
    let Some(world) = world("chain").await else { return };
    let server = FileServer::start();
    let namespaces: Vec<String> = (0..LINKS).map(|one| format!("{}-{one}", world.namespace)).collect();
    let files = |value: &str| -> Vec<(String, String)> {
        let file = |one| {
            (
                format!("link-{one}/settings.yaml"),
                config_map(&format!("of-{one}"), value),
            )
        };
        (0..LINKS).map(file).collect()
    };
    // The last one first: none of those that it waits for is there yet, and neither is the source.
    for (one, namespace) in namespaces.iter().enumerate().rev() {
        world.cluster.namespace(namespace).await;
        let mut extra = json!({});
        if let Some(before) = one.checked_sub(1) {
            extra["dependsOn"] = json!([{"name": format!("link-{before}"), "namespace": namespaces[before]}]);
        }
        kustomization(&world, namespace, &format!("link-{one}"), extra).await;
    }
    for (number, value) in ["one", "two"].into_iter().enumerate() {
        let revision = format!("main@sha1:{number}");
        let made = files(value);
        let made: Vec<(&str, &str)> = made.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        source(&world, &server, &revision, &made).await;
        for (one, namespace) in namespaces.iter().enumerate() {
            ready_in(&world, namespace, &format!("link-{one}"), &revision).await;
            let made = world.cluster.get(CONFIG_MAP, namespace, &format!("of-{one}")).await;
            assert_eq!(made.unwrap()["data"]["value"], value);
        }
    }
    // The source goes first, then all at once: nothing keeps its finalizer, and nothing stays.
    world.cluster.delete(REPOSITORY, &world.namespace, "app").await;
    for (one, namespace) in namespaces.iter().enumerate() {
        world
            .cluster
            .delete(KUSTOMIZATION, namespace, &format!("link-{one}"))
            .await;
    }
    for (one, namespace) in namespaces.iter().enumerate() {
        gone(&world, KUSTOMIZATION, namespace, &format!("link-{one}")).await;
        gone(&world, CONFIG_MAP, namespace, &format!("of-{one}")).await;
        world.cluster.delete("v1/Namespace", "", namespace).await;
    }
}

#[tokio::test]
async fn a_spec_that_changes_while_health_is_awaited_counts_at_once_and_so_does_an_end() {
    let Some(world) = world("impatient").await else { return };
    let server = FileServer::start();
    let files = [
        ("stuck/web.yaml", &*deployment("web", "1", NEVER_READY)),
        ("well/settings.yaml", &*config_map("settings", "one")),
    ];
    source(&world, &server, "main@sha1:1", &files).await;
    let waits = json!({"wait": true, "timeout": "10m", "path": "./stuck", "interval": "1h"});
    world.kustomization("app", waits).await;
    let waiting = async || {
        eventually("health is awaited", async || {
            let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
            has_condition(&found, "Healthy", "Unknown", "Progressing")?;
            Ok(found)
        })
        .await
    };
    waiting().await;
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"path": "./well"}}))
        .await;
    let object = ready(&world, "app", "main@sha1:1").await;
    assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
    world.gone(DEPLOYMENT, "web").await;

    // Suspended in the middle of it: nothing more is written; resumed: it goes on.
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"path": "./stuck"}}))
        .await;
    waiting().await;
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"suspend": true}}))
        .await;
    ask(&world, "app", "while it rests").await;
    source(&world, &server, "main@sha1:2", &files[1..]).await;
    ask(&world, "app", "while it rests, again").await;
    assert!(
        world.get(CONFIG_MAP, "settings").await.is_none(),
        "it was pruned, and rests"
    );
    let well = json!({"spec": {"suspend": false, "path": "./well"}});
    world.merge(KUSTOMIZATION, "app", well).await;
    ready(&world, "app", "main@sha1:2").await;
    world.gone(DEPLOYMENT, "web").await;

    // Deleted in the middle of it.
    source(&world, &server, "main@sha1:3", &files).await;
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"path": "./stuck"}}))
        .await;
    waiting().await;
    world.cluster.delete(KUSTOMIZATION, &world.namespace, "app").await;
    world.gone(KUSTOMIZATION, "app").await;
    world.gone(DEPLOYMENT, "web").await;
}

#[tokio::test]
async fn who_writes_into_a_status_changes_nothing_for_long() {
    let Some(world) = world("scribbled").await else { return };
    let server = FileServer::start();
    let both = [
        ("app/one.yaml", &*config_map("one", "1")),
        ("app/two.yaml", &*config_map("two", "1")),
    ];
    source(&world, &server, "main@sha1:1", &both).await;
    world
        .kustomization("app", json!({"path": "./app", "interval": "1h"}))
        .await;
    let before = ready(&world, "app", "main@sha1:1").await;
    let api = world.cluster.api(KUSTOMIZATION, &world.namespace);
    let scribble = json!({"status": {"lastAppliedRevision": "main@sha1:0", "observedGeneration": -1, "conditions": [
        {"type": "Ready", "status": "False", "reason": "Scribbled", "message": "by hand",
            "lastTransitionTime": "2026-01-02T03:04:05Z"},
        {"type": "Foreign", "status": "True", "reason": "Scribbled", "message": "by hand",
            "lastTransitionTime": "2026-01-02T03:04:05Z"}]}});
    api.patch_status("app", &PatchParams::default(), &Patch::Merge(scribble))
        .await
        .unwrap();
    let object = ask(&world, "app", "1").await;
    assert_eq!(condition(&object, "Ready").unwrap().1, "ReconciliationSucceeded");
    assert_eq!(object["status"]["inventory"], before["status"]["inventory"]);

    // While somebody writes all the time, a new revision gets through, prunes, and says so.
    let writes = async {
        for number in 0..200 {
            let message = format!("by hand, {number}");
            let other = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown", "reason": "Scribbled",
                "message": message, "lastTransitionTime": "2026-01-02T03:04:05Z"}]}});
            api.patch_status("app", &PatchParams::default(), &Patch::Merge(other))
                .await
                .unwrap();
        }
    };
    let follows = async {
        source(&world, &server, "main@sha1:2", &both[..1]).await;
        world.gone(CONFIG_MAP, "two").await;
    };
    tokio::join!(writes, follows);
    let object = ask(&world, "app", "2").await;
    assert_eq!(
        condition(&object, "Ready").unwrap(),
        ("True", "ReconciliationSucceeded", "Applied revision: main@sha1:2")
    );
    assert_eq!(object["status"]["inventory"]["entries"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_source_that_goes_and_comes_back_costs_nothing_of_what_was_applied() {
    let Some(world) = world("vanishing").await else { return };
    let server = FileServer::start();
    let one = [("app/settings.yaml", &*config_map("settings", "one"))];
    source(&world, &server, "main@sha1:1", &one).await;
    world
        .kustomization("app", json!({"path": "./app", "interval": "1h", "retryInterval": "1h"}))
        .await;
    ready(&world, "app", "main@sha1:1").await;

    // Without an artifact, then without a source at all.
    report(&world, REPOSITORY, "app", Value::Null).await;
    ask(&world, "app", "1").await;
    let (object, message) = world.not_ready("app", "ArtifactFailed").await;
    assert_eq!(message, "Source artifact not found, retrying in 1s");
    assert_eq!(object["status"]["lastAppliedRevision"], "main@sha1:1");
    world.cluster.delete(REPOSITORY, &world.namespace, "app").await;
    world.gone(REPOSITORY, "app").await;
    ask(&world, "app", "2").await;
    let missing = format!("GitRepository.{GROUP} \"app\" not found");
    eventually("the missing source is named", async || {
        let (_, message) = world.not_ready("app", "ArtifactFailed").await;
        if message == missing { Ok(()) } else { Err(message) }
    })
    .await;
    assert_eq!(world.data("settings").await["value"], "one");

    // Back, with something else in it: followed although the retry interval is an hour.
    let two = [("app/settings.yaml", &*config_map("settings", "two"))];
    source(&world, &server, "main@sha1:2", &two).await;
    ready(&world, "app", "main@sha1:2").await;
    assert_eq!(world.data("settings").await["value"], "two");

    // An archive without the path that is built from, then with it.
    source(
        &world,
        &server,
        "main@sha1:3",
        &[("other/settings.yaml", &*config_map("settings", "three"))],
    )
    .await;
    let (object, message) = world.not_ready("app", "ArtifactFailed").await;
    assert_eq!(message, "kustomization path not found: app");
    assert_eq!(object["status"]["lastAppliedRevision"], "main@sha1:2");
    source(&world, &server, "main@sha1:4", &one).await;
    ready(&world, "app", "main@sha1:4").await;
}

#[tokio::test]
async fn two_that_declare_the_same_object_do_not_wear_out_the_api_server() {
    let Some(world) = world("rivals").await else { return };
    let server = FileServer::start();
    let files = [
        ("left/settings.yaml", &*config_map("settings", "left")),
        ("right/settings.yaml", &*config_map("settings", "right")),
    ];
    source(&world, &server, "main@sha1:1", &files).await;
    for name in ["left", "right"] {
        world
            .kustomization(name, json!({"path": format!("./{name}"), "interval": "1h"}))
            .await;
    }
    for name in ["left", "right"] {
        ready(&world, name, "main@sha1:1").await;
        ask(&world, name, "1").await;
    }
    // Each of them stays ready at the next revision, and one of both has its way.
    source(&world, &server, "main@sha1:2", &files).await;
    for name in ["left", "right"] {
        ready(&world, name, "main@sha1:2").await;
    }
    let value = world.data("settings").await["value"].clone();
    assert!(value == "left" || value == "right", "{value}");
    // Whoever goes takes only what is marked as its own.
    for name in ["left", "right"] {
        world.cluster.delete(KUSTOMIZATION, &world.namespace, name).await;
        world.gone(KUSTOMIZATION, name).await;
    }
    world.gone(CONFIG_MAP, "settings").await;
    let metrics = world.weir.metrics().await;
    let applied: f64 = metrics
        .lines()
        .filter(|line| line.starts_with("weir_apply_objects_total{") && line.contains("configured"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .sum();
    assert!(applied < 20.0, "{applied} writes of one object");
}
