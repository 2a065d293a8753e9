//! CEL in a Kustomization: `healthCheckExprs` and `dependsOn[].readyExpr`.

use serde_json::{Value, json};

use crate::cluster::{condition, eventually, has_condition};
use crate::world::{KUSTOMIZATION, Setup, World, config_map};

const THING: &str = "expressions.weir.test/v1/Thing";

/// A kind that kstatus knows nothing of.
async fn define_things(world: &World) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.expressions.weir.test"},
        "spec": {"group": "expressions.weir.test", "scope": "Namespaced", "names": {"kind": "Thing", "plural": "things"},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}]}});
    world.cluster.apply("", crd).await;
    let kind = "apiextensions.k8s.io/v1/CustomResourceDefinition";
    eventually("things are served", async || {
        let crd = world.cluster.get(kind, "", "things.expressions.weir.test").await;
        has_condition(&crd.unwrap_or_default(), "Established", "True", "")
    })
    .await;
}

async fn set_status(world: &World, status: Value) {
    let patch = kube::api::Patch::Merge(json!({"status": status}));
    let api = world.cluster.api(THING, &world.namespace);
    api.patch_status("one", &kube::api::PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test]
async fn expressions_tell_the_health_of_a_kind() {
    let Some(world) = World::start("expressions").await else {
        return;
    };
    define_things(&world).await;
    let thing = "apiVersion: expressions.weir.test/v1\nkind: Thing\nmetadata:\n  name: one\nspec: {size: 1}\n";
    let commit = world.commit(&[("thing.yaml", thing)]);
    world.source(json!({})).await;
    let exprs = json!([{"apiVersion": "expressions.weir.test/v1", "kind": "Thing", "current": "status.phase == 'Done'",
        "failed": "status.phase == 'Broken'", "inProgress": "status.?busy.orValue(false)"}]);
    let spec = json!({"wait": true, "timeout": "10m", "healthCheckExprs": exprs});
    world.kustomization("app", spec).await;
    // Without expressions an object that says nothing of itself would be current at once.
    let waiting = eventually("health is being checked", async || {
        let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
        has_condition(&found, "Healthy", "Unknown", "Progressing")?;
        Ok(found)
    })
    .await;
    assert_eq!(condition(&waiting, "Ready").unwrap().0, "Unknown");

    set_status(&world, json!({"phase": "Broken", "busy": false})).await;
    let (object, message) = world.not_ready("app", "HealthCheckFailed").await;
    let name = format!("Thing/{}/one", world.namespace);
    let part = format!("failed early due to stalled resources: [{name} status: 'Failed'");
    assert!(
        message.starts_with("health check failed after ") && message.contains(&part),
        "{message}"
    );
    let (status, reason, why) = condition(&object, "Healthy").unwrap();
    assert_eq!((status, reason), ("False", "HealthCheckFailed"));
    assert!(why.starts_with(&part), "{why}");
    let history = &object["status"]["history"][0];
    assert_eq!(history["lastReconciledStatus"], "HealthCheckFailed");

    set_status(&world, json!({"phase": "Done", "busy": true})).await;
    eventually("it is under way again", async || {
        let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
        has_condition(&found, "Healthy", "Unknown", "Progressing")
    })
    .await;
    set_status(&world, json!({"busy": false})).await;
    let object = world.ready("app", &commit).await;
    assert_eq!(condition(&object, "Healthy").unwrap().0, "True");
}

#[tokio::test]
async fn an_expression_that_cannot_be_answered_stalls_until_it_is_mended() {
    let Some(world) = World::start("badexpr").await else {
        return;
    };
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("base", json!({})).await;
    let bad = json!([{"apiVersion": "a.test/v1", "kind": "A", "current": "status."}]);
    world
        .kustomization("health", json!({"nameSuffix": "-h", "healthCheckExprs": bad}))
        .await;
    let bad = json!([{"name": "base", "readyExpr": "dep.status.observedGeneration"}]);
    world
        .kustomization("depends", json!({"nameSuffix": "-d", "dependsOn": bad}))
        .await;
    let terminal = "Reconciliation failed terminally due to configuration error: ";
    for (name, part, mended) in [
        (
            "health",
            "failed to create custom status evaluator for healthchecks[0]: failed to parse the expression Current: ",
            json!({"healthCheckExprs": null}),
        ),
        (
            "depends",
            "failed to evaluate dependency base: CEL expression output type mismatch: expected bool, got dyn",
            json!({"dependsOn": [{"name": "base", "readyExpr": "dep.status.observedGeneration > 0"}]}),
        ),
    ] {
        let (object, message) = world.not_ready(name, "InvalidCELExpression").await;
        assert!(message.starts_with(&format!("{terminal}{part}")), "{message}");
        assert_eq!(condition(&object, "Stalled").unwrap().1, "InvalidCELExpression");
        assert!(condition(&object, "Reconciling").is_none());
        assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
        world
            .event(KUSTOMIZATION, name, ("Warning", "InvalidCELExpression", part))
            .await;
        world.merge(KUSTOMIZATION, name, json!({"spec": mended})).await;
        world.ready(name, &commit).await;
    }
}

#[tokio::test]
async fn a_ready_expression_decides_instead_of_the_usual_test_and_is_asked_at_every_change() {
    let Some(setup) = Setup::new("readyexpr").await else {
        return;
    };
    // So long that only an event can be what starts the dependent.
    let world = setup.with_arguments(&["--requeue-dependency=30m"]).start().await;
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("first", json!({"retryInterval": "30m"})).await;
    world.ready("first", &commit).await;
    let failed = "dep.status.conditions.exists(c, c.type == 'Ready' && c.reason == 'ArtifactFailed') \
        && self.metadata.namespace == dep.metadata.namespace";
    let second =
        json!({"retryInterval": "30m", "nameSuffix": "-2", "dependsOn": [{"name": "first", "readyExpr": failed}]});
    world.kustomization("second", second).await;
    let (_, message) = world.not_ready("second", "DependencyNotReady").await;
    let name = format!("dependency '{}/first'", world.namespace);
    let part = format!("{name} is not ready according to readyExpr eval");
    assert!(message.starts_with(&part), "{message}");
    world
        .merge(KUSTOMIZATION, "first", json!({"spec": {"path": "./absent"}}))
        .await;
    world.not_ready("first", "ArtifactFailed").await;
    world.ready("second", &commit).await;
}

#[tokio::test]
async fn a_gate_makes_both_tests_count() {
    let Some(setup) = Setup::new("additive").await else {
        return;
    };
    let gates = ["--feature-gates=AdditiveCELDependencyCheck=true"];
    let world = setup.with_arguments(&gates).start().await;
    let first = world.commit(&[("app/settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("base", json!({"path": "./base"})).await;
    world.not_ready("base", "ArtifactFailed").await;
    let depends = json!({"path": "./app", "dependsOn": [{"name": "base", "readyExpr": "true"}]});
    world.kustomization("app", depends).await;
    let (_, message) = world.not_ready("app", "DependencyNotReady").await;
    let part = format!("dependency '{}/base' is not ready", world.namespace);
    assert!(
        message.starts_with(&part) && !message.contains("readyExpr"),
        "{message}"
    );
    let second = world.commit(&[("base/settings.yaml", &config_map("base", "one"))]);
    assert_ne!(first, second);
    world.ready("app", &second).await;
}
