//! Control markers on single objects, as labels or annotations, whatever their case.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::eventually;
use crate::world::{CONFIG_MAP, KUSTOMIZATION, World, config_map};

const GROUP: &str = "kustomize.toolkit.fluxcd.io";

/// A ConfigMap with a marker among its labels or annotations.
fn marked(name: &str, value: &str, place: &str, marker: &str) -> String {
    let (key, set) = marker.split_once(": ").unwrap();
    let metadata = format!("metadata:\n  {place}:\n    {GROUP}/{key}: {set}\n");
    config_map(name, value).replace("metadata:\n", &metadata)
}

fn ids(kustomization: &Value) -> Vec<String> {
    let entries = kustomization["status"]["inventory"]["entries"].as_array().unwrap();
    let name = |entry: &Value| entry["id"].as_str().unwrap().split('_').nth(1).unwrap().to_owned();
    entries.iter().map(name).collect()
}

async fn value(world: &World, name: &str) -> String {
    world.data(name).await["value"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn marked_objects_are_left_alone_as_far_as_their_marker_says() {
    let Some(world) = World::start("markers").await else {
        return;
    };
    let files = |value: &str| {
        [
            (
                "disabled.yaml",
                marked("disabled", value, "labels", "reconcile: Disabled"),
            ),
            ("ignored.yaml", marked("ignored", value, "annotations", "ssa: ignore")),
            ("once.yaml", marked("once", value, "annotations", "ssa: IfNotPresent")),
            ("merged.yaml", marked("merged", value, "annotations", "ssa: Merge")),
            ("plain.yaml", config_map("plain", value)),
            ("hands-off.yaml", config_map("hands-off", value)),
        ]
    };
    let commit = |files: &[(&str, String)]| {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        world.commit(&files)
    };
    let first = commit(&files("one"));
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    let object = world.ready("app", &first).await;
    // What is left alone is never made, and is owned all the same.
    for name in ["disabled", "ignored"] {
        assert!(world.get(CONFIG_MAP, name).await.is_none(), "{name}");
    }
    assert_eq!(
        ids(&object),
        ["disabled", "hands-off", "ignored", "merged", "once", "plain"]
    );

    // A marker on the live object counts too, and so do those who add keys to what is merged.
    let hands_off = json!({"metadata": {"annotations": {format!("{GROUP}/reconcile"): "disabled"}}});
    world.merge(CONFIG_MAP, "hands-off", hands_off).await;
    for name in ["merged", "plain"] {
        let api = world.cluster.api(CONFIG_MAP, &world.namespace);
        let object =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"theirs": "x"}});
        let parameters = PatchParams::apply("others").force();
        api.patch(name, &parameters, &Patch::Apply(object)).await.unwrap();
    }
    let second = commit(&files("two"));
    world.ready("app", &second).await;
    for (name, expect) in [
        ("once", "one"),
        ("merged", "two"),
        ("plain", "two"),
        ("hands-off", "one"),
    ] {
        assert_eq!(value(&world, name).await, expect, "{name}");
    }
    for name in ["merged", "plain"] {
        assert_eq!(world.data(name).await["theirs"], "x", "keys of another manager stay");
    }

    // What is gone is made again where only its fields are nobody's business, not where nothing is.
    world.cluster.delete(CONFIG_MAP, &world.namespace, "once").await;
    eventually("the object is back", async || {
        match world.get(CONFIG_MAP, "once").await {
            Some(object) if object["data"]["value"] == "two" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;

    // When they leave Git, what is left alone stays, the others go.
    world.repo.git(&[
        "rm",
        "--quiet",
        "disabled.yaml",
        "ignored.yaml",
        "once.yaml",
        "merged.yaml",
        "hands-off.yaml",
    ]);
    let third = world.commit(&[]);
    let object = world.ready("app", &third).await;
    assert_eq!(ids(&object), ["plain"]);
    assert!(world.get(CONFIG_MAP, "hands-off").await.is_some());
    for name in ["once", "merged"] {
        assert!(world.get(CONFIG_MAP, name).await.is_none(), "{name}");
    }
}

#[tokio::test]
async fn markers_keep_from_pruning_and_substitution_and_allow_force() {
    let Some(world) = World::start("markers2").await else {
        return;
    };
    let sealed = |value: &str| {
        format!(
            "{}immutable: true\n",
            marked("sealed", value, "labels", "force: Enabled")
        )
    };
    let first = world.commit(&[
        ("kept.yaml", &marked("kept", "one", "labels", "prune: Disabled")),
        (
            "raw.yaml",
            &marked("raw", "${known} ${unknown}", "annotations", "substitute: disabled"),
        ),
        ("built.yaml", &config_map("built", "${known}")),
        ("sealed.yaml", &sealed("one")),
    ]);
    world.source(json!({})).await;
    let known = json!({"postBuild": {"substitute": {"known": "word"}}});
    world.kustomization("app", known).await;
    world.ready("app", &first).await;
    assert_eq!(value(&world, "raw").await, "${known} ${unknown}");
    assert_eq!(value(&world, "built").await, "word");

    world.repo.git(&["rm", "--quiet", "kept.yaml"]);
    let second = world.commit(&[("sealed.yaml", &sealed("two"))]);
    let object = world.ready("app", &second).await;
    assert_eq!(value(&world, "sealed").await, "two");
    assert_eq!(value(&world, "kept").await, "one");
    assert_eq!(ids(&object), ["built", "raw", "sealed"]);
    world
        .event(KUSTOMIZATION, "app", ("Normal", "Progressing", "sealed created"))
        .await;
}
