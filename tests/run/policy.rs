//! The gate: plain Rego files and Gatekeeper's constraints, before anything is applied.

use serde_json::{Value, json};

use crate::cluster::{condition, eventually, has_condition};
use crate::world::{CONFIG_MAP, KUSTOMIZATION, Setup, World, config_map};

const FORBIDS: &str = "# METADATA\n# title: No forbidden values\n# custom:\n#   kinds: [ConfigMap]\n#   fix: choose another\n\
    package demo.values\n\n\
    deny contains sprintf(\"%s is forbidden\", [input.review.object.metadata.name]) if {\n\
    \tinput.review.object.data.value == \"forbidden\"\n}\n";
const MARKS: &str = "# METADATA\n# title: Marks what it sees\n# custom:\n#   kinds: [ConfigMap]\npackage demo.marks\n\n\
    mutate contains {\"op\": \"add\", \"path\": \"/data/marked\", \"value\": \"yes\"} if {\n\
    \tnot input.review.object.data.marked\n}\n";

#[tokio::test]
async fn a_refused_change_leaves_the_last_good_state_and_policies_may_complete_a_change() {
    let Some(setup) = Setup::new("denied").await else {
        return;
    };
    let world = setup
        .with_policies(&[("values.rego", FORBIDS), ("marks.rego", MARKS)])
        .start()
        .await;
    let good = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &good).await;
    assert_eq!(
        world.data("settings").await["marked"],
        "yes",
        "mutated before it was applied"
    );

    let bad = world.commit(&[
        ("settings.yaml", &config_map("settings", "two")),
        ("more/another.yaml", &config_map("another", "forbidden")),
    ]);
    let (object, message) = world.not_ready("app", "PolicyDenied").await;
    let named = format!("ConfigMap/{}/another", world.namespace);
    for part in [
        "values",
        "another is forbidden",
        "choose another",
        &named,
        "more/another.yaml",
        &bad[..8],
    ] {
        assert!(message.contains(part), "{part} is missing: {message}");
    }
    assert_eq!(condition(&object, "Stalled").unwrap().1, "PolicyDenied");
    assert_eq!(object["status"]["lastAppliedRevision"], format!("main@sha1:{good}"));
    assert_eq!(object["status"]["lastAttemptedRevision"], format!("main@sha1:{bad}"));
    assert_eq!(object["status"]["inventory"]["entries"].as_array().unwrap().len(), 1);
    world
        .event(
            KUSTOMIZATION,
            "app",
            ("Warning", "PolicyDenied", "another is forbidden"),
        )
        .await;
    assert_eq!(world.data("settings").await["value"], "one");
    assert!(world.get(CONFIG_MAP, "another").await.is_none());
    let metrics = world.weir.metrics().await;
    // Once or more: policies of other tests, which are in the cluster for a while, have it judged again.
    assert!(
        metrics.contains("weir_gate_decisions_total{verdict=\"denied\"} "),
        "{metrics}"
    );

    let better = world.commit(&[("more/another.yaml", &config_map("another", "three"))]);
    let object = world.ready("app", &better).await;
    assert!(condition(&object, "Stalled").is_none());
    assert_eq!(world.data("settings").await["value"], "two");

    // A policy that goes lets through what it refused, without a commit.
    let again = world.commit(&[("more/another.yaml", &config_map("another", "forbidden"))]);
    world.not_ready("app", "PolicyDenied").await;
    std::fs::remove_file(world.directory.path().join("policies/values.rego")).unwrap();
    world.ready("app", &again).await;
}

#[tokio::test]
async fn a_template_that_does_not_compile_is_told_and_its_constraint_judges_once_it_does() {
    const TEMPLATE: &str = "templates.gatekeeper.sh/v1/ConstraintTemplate";
    let Some(world) = World::start("template").await else {
        return;
    };
    // Templates belong to the whole cluster, so this one has a name of its own and asks about this namespace only.
    let kind = format!("E2e{}", std::process::id());
    let name = kind.to_lowercase();
    let template = |rego: &str| {
        json!({"apiVersion": "templates.gatekeeper.sh/v1", "kind": "ConstraintTemplate", "metadata": {"name": name},
            "spec": {"crd": {"spec": {"names": {"kind": kind}, "validation": {"openAPIV3Schema": {"type": "object",
                "properties": {"value": {"type": "string"}}}}}},
                "targets": [{"target": "admission.k8s.gatekeeper.sh", "rego": rego}]}})
    };
    let broken = "package forbid\n\nviolation[{\"msg\": msg}] {\n  msg := no_such_function(input)\n";
    world.cluster.apply("", template(broken)).await;
    let found = eventually("the template says why it is not in force", async || {
        let found = world.cluster.get(TEMPLATE, "", &name).await.unwrap_or_default();
        let errors = &found["status"]["byPod"][0]["errors"];
        if errors[0]["message"].is_string() {
            Ok(found)
        } else {
            Err(found["status"].to_string())
        }
    })
    .await;
    assert_eq!(found["status"]["created"], false);
    eventually("an event about the template", async || {
        let events = world.cluster.events("default", "ConstraintTemplate", &name).await;
        let told = events
            .iter()
            .any(|(severity, reason, _)| severity == "Warning" && reason == "PolicyNotLoaded");
        if told { Ok(()) } else { Err(format!("{events:?}")) }
    })
    .await;
    // It takes nothing down.
    let good = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &good).await;

    let works = "package forbid\n\nviolation[{\"msg\": msg}] {\n  input.review.object.data.value == \
                 input.parameters.value\n  msg := sprintf(\"%v is forbidden here\", [input.parameters.value])\n}\n";
    world.cluster.apply("", template(works)).await;
    eventually("the template is in force", async || {
        let found = world.cluster.get(TEMPLATE, "", &name).await.unwrap_or_default();
        if found["status"]["created"] == true {
            Ok(())
        } else {
            Err(found["status"].to_string())
        }
    })
    .await;
    let crd = format!("{name}.constraints.gatekeeper.sh");
    eventually("its constraints are served", async || {
        let crds = "apiextensions.k8s.io/v1/CustomResourceDefinition";
        let found = world.cluster.get(crds, "", &crd).await.unwrap_or_default();
        has_condition(&found, "Established", "True", "")
    })
    .await;
    let matches = json!({"kinds": [{"apiGroups": [""], "kinds": ["ConfigMap"]}], "namespaces": [world.namespace]});
    let constraint: Value = json!({"apiVersion": "constraints.gatekeeper.sh/v1beta1", "kind": kind,
        "metadata": {"name": "no-two"}, "spec": {"match": matches, "parameters": {"value": "two"}}});
    world.cluster.apply("", constraint).await;
    eventually("the constraint is in force", async || {
        let policies = world
            .weir
            .lines()
            .filter(|line| line["msg"] == "policies loaded")
            .last()
            .unwrap_or_default();
        if policies["policies"] == 1 {
            Ok(())
        } else {
            Err(policies.to_string())
        }
    })
    .await;
    let bad = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    let (_, message) = world.not_ready("app", "PolicyDenied").await;
    assert!(
        message.contains("two is forbidden here") && message.contains("no-two"),
        "{message}"
    );
    assert_eq!(world.data("settings").await["value"], "one");

    world
        .cluster
        .delete(&format!("constraints.gatekeeper.sh/v1beta1/{kind}"), "", "no-two")
        .await;
    world.ready("app", &bad).await;
    world.cluster.delete(TEMPLATE, "", &name).await;
}
