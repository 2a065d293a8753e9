//! Waiting for health, on pods that KWOK plays.

use std::time::Duration;

use serde_json::json;

use crate::cluster::{condition, eventually, has_condition, within};
use crate::world::{DEPLOYMENT, KUSTOMIZATION, World, config_map, deployment};

/// Makes pods that start and stay unready (`hack/lib/kwok.yaml`).
const NEVER_READY: &str = "weir.test/never-ready: 'yes'";

#[tokio::test]
async fn what_becomes_available_is_healthy_and_a_newer_commit_ends_the_wait_for_what_does_not() {
    let Some(world) = World::start("wait").await else {
        return;
    };
    let good = world.commit(&[("web.yaml", &deployment("web", "2", ""))]);
    world.source(json!({})).await;
    world
        .kustomization("app", json!({"wait": true, "timeout": "10m"}))
        .await;
    let object = world.ready("app", &good).await;
    assert_eq!(condition(&object, "Healthy").unwrap().0, "True");
    let web = world.get(DEPLOYMENT, "web").await.unwrap();
    assert_eq!(web["status"]["availableReplicas"], 2, "ready means that it runs");
    world
        .event(
            KUSTOMIZATION,
            "app",
            ("Normal", "Progressing", "Health check passed in"),
        )
        .await;

    let stuck = world.commit(&[("web.yaml", &deployment("web", "2", NEVER_READY))]);
    let waiting = eventually("health is being checked", async || {
        let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
        has_condition(&found, "Healthy", "Unknown", "Progressing")?;
        // Other policies have the last revision looked at once more.
        if found["status"]["lastAttemptedRevision"] != format!("main@sha1:{stuck}") {
            return Err(found["status"].to_string());
        }
        Ok(found)
    })
    .await;
    assert_eq!(condition(&waiting, "Ready").unwrap().0, "Unknown");
    assert_eq!(condition(&waiting, "Reconciling").unwrap().1, "Progressing");
    assert_eq!(waiting["status"]["lastAppliedRevision"], format!("main@sha1:{good}"));
    // Far less than the timeout of ten minutes.
    let mended = world.commit(&[("web.yaml", &deployment("web", "1", ""))]);
    world.ready("app", &mended).await;
    let wanted = (
        "Normal",
        "HealthCheckCanceled",
        "Health checks canceled due to new reconciliation triggered by GitRepository/",
    );
    world.event(KUSTOMIZATION, "app", wanted).await;
}

#[tokio::test]
async fn what_does_not_become_healthy_in_time_is_named() {
    let Some(world) = World::start("unhealthy").await else {
        return;
    };
    let good = world.commit(&[
        ("settings.yaml", &config_map("settings", "one")),
        ("web.yaml", &deployment("web", "1", "")),
    ]);
    world.source(json!({})).await;
    // Shorter timeouts than 30 s count as 30 s, as Flux's do.
    let check = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "namespace": world.namespace});
    let checks = json!({"healthChecks": [check], "timeout": "1s", "retryInterval": "10m"});
    world.kustomization("app", checks).await;
    world.ready("app", &good).await;
    world.commit(&[("web.yaml", &deployment("web", "1", NEVER_READY))]);
    let object = within(Duration::from_secs(90), "the health check fails", async || {
        let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
        has_condition(&found, "Ready", "False", "HealthCheckFailed")?;
        Ok(found)
    })
    .await;
    let (status, reason, message) = condition(&object, "Healthy").unwrap();
    assert_eq!((status, reason), ("False", "HealthCheckFailed"));
    let name = format!("Deployment/{}/web", world.namespace);
    assert!(
        message.contains("timeout waiting for") && message.contains(&name),
        "{message}"
    );
    assert_eq!(condition(&object, "Reconciling").unwrap().1, "ProgressingWithRetry");
    assert_eq!(object["status"]["lastAppliedRevision"], format!("main@sha1:{good}"));
    let entries = object["status"]["inventory"]["entries"].as_array().unwrap();
    assert_eq!(entries.len(), 2, "what was applied is owned, healthy or not");
    world
        .event(KUSTOMIZATION, "app", ("Warning", "HealthCheckFailed", &name))
        .await;
    let metrics = world.weir.metrics().await;
    assert!(
        metrics.contains("weir_health_checks_total{result=\"timeout\"} 1"),
        "{metrics}"
    );

    let mended = world.commit(&[("web.yaml", &deployment("web", "1", ""))]);
    let object = world.ready("app", &mended).await;
    assert_eq!(condition(&object, "Healthy").unwrap().0, "True");
}
