//! `spec.ignore`: what Git declares once and others may change.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{eventually, has_condition};
use crate::world::{CONFIG_MAP, DEPLOYMENT, KUSTOMIZATION, World, config_map, deployment};

/// Changes part of a Deployment under another name, and by server-side apply if so wanted.
async fn change(world: &World, manager: &str, applied: bool, spec: Value) {
    let api = world.cluster.api(DEPLOYMENT, &world.namespace);
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": spec});
    let (parameters, patch) = if applied {
        (PatchParams::apply(manager).force(), Patch::Apply(object))
    } else {
        (
            PatchParams {
                field_manager: Some(manager.to_owned()),
                ..PatchParams::default()
            },
            Patch::Merge(object),
        )
    };
    api.patch("web", &parameters, &patch).await.unwrap();
}

async fn spec(world: &World) -> Value {
    world.get(DEPLOYMENT, "web").await.unwrap()["spec"].clone()
}

/// Waits until the Deployment's `minReadySeconds`, which nobody may change, is as Git has it.
async fn put_back(world: &World) {
    eventually("what is not ignored is put back", async || {
        let spec = spec(world).await;
        if spec["minReadySeconds"] == 1 {
            Ok(())
        } else {
            Err(spec.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn ignored_fields_are_left_to_others() {
    let Some(world) = World::start("ignore").await else {
        return;
    };
    let web = |revision: i32, annotations: &str| {
        let text = deployment("web", "1", annotations);
        text.replace(
            "  replicas: 1\n",
            &format!("  replicas: 1\n  minReadySeconds: 1\n  revisionHistoryLimit: {revision}\n"),
        )
    };
    let first = world.commit(&[
        ("web.yaml", &web(2, "")),
        ("settings.yaml", &config_map("settings", "one")),
    ]);
    world.source(json!({})).await;
    let ignore = json!([{"paths": ["/spec/replicas"], "target": {"kind": "Deployment"}},
        {"paths": ["/data/value"], "target": {"name": "set.*", "labelSelector": "kustomize.toolkit.fluxcd.io/name"}}]);
    world.kustomization("app", json!({"ignore": ignore})).await;
    world.ready("app", &first).await;

    // What is put back at once does not take an ignored field with it.
    change(&world, "scaler", false, json!({"replicas": 3, "minReadySeconds": 7})).await;
    put_back(&world).await;
    assert_eq!(spec(&world).await["replicas"], 3);
    world
        .merge(CONFIG_MAP, "settings", json!({"data": {"value": "mine"}}))
        .await;

    // Nor does the next commit, which changes something else, or an interval.
    let second = world.commit(&[("web.yaml", &web(5, ""))]);
    world.ready("app", &second).await;
    let now = spec(&world).await;
    assert_eq!((&now["replicas"], &now["revisionHistoryLimit"]), (&json!(3), &json!(5)));
    assert_eq!(world.data("settings").await["value"], "mine");

    // Somebody who applies the field owns it alone from the next change on.
    change(&world, "autoscaler", true, json!({"replicas": 4})).await;
    let third = world.commit(&[("web.yaml", &web(6, ""))]);
    world.ready("app", &third).await;
    let object = world.get(DEPLOYMENT, "web").await.unwrap();
    assert_eq!(
        (&object["spec"]["replicas"], &object["spec"]["revisionHistoryLimit"]),
        (&json!(4), &json!(6))
    );
    let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
    let owners: Vec<&Value> = entries
        .filter(|entry| entry["operation"] == "Apply" && entry.pointer("/fieldsV1/f:spec/f:replicas").is_some())
        .map(|entry| &entry["manager"])
        .collect();
    assert_eq!(owners, ["autoscaler"]);

    // An object that is made anew gets all of it.
    world.cluster.delete(CONFIG_MAP, &world.namespace, "settings").await;
    eventually("the object is back", async || {
        match world.get(CONFIG_MAP, "settings").await {
            Some(object) if object["data"]["value"] == "one" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    // Without the rule the fields are Git's again.
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"ignore": null}}))
        .await;
    eventually("replicas are Git's again", async || {
        let spec = spec(&world).await;
        if spec["replicas"] == 1 {
            Ok(())
        } else {
            Err(spec.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn a_rule_that_cannot_be_read_is_told() {
    let Some(world) = World::start("badrule").await else {
        return;
    };
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    let bad = json!([{"paths": ["/data"], "target": {"name": "("}}]);
    world.kustomization("app", json!({"ignore": bad})).await;
    eventually("the rule is told", async || {
        let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
        let message = has_condition(&found, "Ready", "False", "ReconciliationFailed")?;
        if message.contains("spec.ignore[0].target.name: \"(\" is not a regular expression") {
            Ok(())
        } else {
            Err(message)
        }
    })
    .await;
    world
        .merge(
            KUSTOMIZATION,
            "app",
            json!({"spec": {"ignore": [{"paths": ["/data"]}]}}),
        )
        .await;
    world.ready("app", &commit).await;
}
