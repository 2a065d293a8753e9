//! What happens to applied objects when their Kustomization goes.

use serde_json::{Value, json};

use crate::world::{CONFIG_MAP, KUSTOMIZATION, REPOSITORY, World, config_map};

#[tokio::test]
async fn the_deletion_policy_decides_what_goes_with_a_kustomization() {
    let Some(world) = World::start("deletion").await else {
        return;
    };
    let cases: [(&str, Value, bool); 5] = [
        ("mirror", json!({}), true),
        ("mirror-lax", json!({"prune": false}), false),
        ("orphan", json!({"deletionPolicy": "Orphan"}), false),
        (
            "eager",
            json!({"prune": false, "deletionPolicy": "WaitForTermination"}),
            true,
        ),
        ("resting", json!({}), false),
    ];
    let manifests = cases.iter().map(|(name, ..)| {
        (
            format!("{name}/settings.yaml"),
            config_map(&format!("of-{name}"), "one"),
        )
    });
    let manifests: Vec<(String, String)> = manifests.collect();
    let files: Vec<(&str, &str)> = manifests
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let commit = world.commit(&files);
    world.source(json!({})).await;
    for (name, spec, _) in &cases {
        let mut spec = spec.clone();
        spec["path"] = json!(format!("./{name}"));
        world.kustomization(name, spec).await;
    }
    for (name, ..) in &cases {
        world.ready(name, &commit).await;
    }
    world
        .merge(KUSTOMIZATION, "resting", json!({"spec": {"suspend": true}}))
        .await;
    for (name, _, goes) in &cases {
        world.cluster.delete(KUSTOMIZATION, &world.namespace, name).await;
        world.gone(KUSTOMIZATION, name).await;
        let left = world.get(CONFIG_MAP, &format!("of-{name}")).await;
        assert_eq!(left.is_none(), *goes, "{name}: {left:?}");
        if *goes {
            let line = format!("ConfigMap/{}/of-{name} deleted", world.namespace);
            world
                .event(KUSTOMIZATION, name, ("Normal", "ReconciliationSucceeded", &line))
                .await;
        }
    }
    world.cluster.delete(REPOSITORY, &world.namespace, "app").await;
    world.gone(REPOSITORY, "app").await;
    let stored = world
        .directory
        .path()
        .join("storage/gitrepository")
        .join(&world.namespace)
        .join("app");
    assert!(!stored.exists(), "{} is still there", stored.display());
}
