//! What a Kustomization's spec asks for is done, or refused in words.

use serde_json::json;

use crate::cluster::{condition, eventually, within};
use crate::world::{CONFIG_MAP, DEPLOYMENT, KUSTOMIZATION, REPOSITORY, Setup, World, config_map, deployment};

#[tokio::test]
async fn what_leaves_git_leaves_the_cluster_where_prune_says_so() {
    let Some(world) = World::start("prune").await else {
        return;
    };
    let (kept, gone) = (config_map("kept", "one"), config_map("gone", "one"));
    let first = world.commit(&[
        ("tidy/kept.yaml", &kept),
        ("tidy/gone.yaml", &gone),
        ("lax/stays.yaml", &config_map("stays", "one")),
        ("lax/other.yaml", &config_map("other", "one")),
    ]);
    world.source(json!({})).await;
    world.kustomization("tidy", json!({"path": "./tidy"})).await;
    world
        .kustomization("lax", json!({"path": "./lax", "prune": false}))
        .await;
    for name in ["tidy", "lax"] {
        world.ready(name, &first).await;
    }
    world.repo.git(&["rm", "--quiet", "tidy/gone.yaml", "lax/stays.yaml"]);
    let second = world.commit(&[]);
    let tidy = world.ready("tidy", &second).await;
    let lax = world.ready("lax", &second).await;
    assert!(world.get(CONFIG_MAP, "gone").await.is_none());
    assert!(world.get(CONFIG_MAP, "kept").await.is_some());
    assert!(world.get(CONFIG_MAP, "stays").await.is_some());
    for object in [tidy, lax] {
        assert_eq!(object["status"]["inventory"]["entries"].as_array().unwrap().len(), 1);
    }
    let line = format!("ConfigMap/{}/gone deleted", world.namespace);
    world
        .event(KUSTOMIZATION, "tidy", ("Normal", "Progressing", &line))
        .await;
    world
        .event(
            KUSTOMIZATION,
            "tidy",
            ("Normal", "ReconciliationSucceeded", "Reconciliation finished in"),
        )
        .await;
    let metrics = world.weir.metrics().await;
    for line in [
        "weir_apply_objects_total{action=\"deleted\"} 1",
        "controller_runtime_reconcile_total{controller=\"kustomization\",result=\"success\"}",
        "weir_render_total{result=\"success\"}",
        "weir_leader 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(!metrics.contains("controller_runtime_reconcile_errors_total{controller=\"kustomization\"}"));
}

#[tokio::test]
async fn a_dependent_waits_without_being_called_failed_and_starts_at_once() {
    let Some(setup) = Setup::new("depends").await else {
        return;
    };
    // So long that only an event can be what starts the dependent.
    let world = setup.with_arguments(&["--requeue-dependency=30m"]).start().await;
    world.commit(&[("app/settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    let second = json!({"path": "./app", "retryInterval": "30m", "dependsOn": [{"name": "first"}]});
    world.kustomization("second", second).await;
    let (_, message) = world.not_ready("second", "DependencyNotReady").await;
    let own = format!("{}/first", world.namespace);
    assert!(
        message.starts_with(&format!("dependency '{own}' not found")),
        "{message}"
    );
    world
        .kustomization("first", json!({"path": "./first", "retryInterval": "30m"}))
        .await;
    world.not_ready("first", "ArtifactFailed").await;
    world
        .event(
            KUSTOMIZATION,
            "second",
            (
                "Normal",
                "DependencyNotReady",
                "Dependencies do not meet ready condition, retrying in 30m0s",
            ),
        )
        .await;

    let done = world.commit(&[("first/base.yaml", &config_map("base", "one"))]);
    world.ready("first", &done).await;
    world.ready("second", &done).await;
    let waiting: Vec<_> = world
        .weir
        .lines()
        .filter(|line| line["reason"] == "DependencyNotReady")
        .collect();
    assert!(!waiting.is_empty());
    assert!(waiting.iter().all(|line| line["level"] == "info"), "{waiting:?}");
}

#[tokio::test]
async fn every_field_that_shapes_the_build_shapes_it() {
    let Some(world) = World::start("build").await else {
        return;
    };
    let settings = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  \
                    greeting: ${greeting} from ${place:=nowhere} to ${whom:=all}\n";
    let commit = world.commit(&[
        ("app/kustomization.yaml", "resources: [web.yaml, settings.yaml]\n"),
        ("app/web.yaml", &deployment("web", "1", "")),
        ("app/settings.yaml", settings),
        (
            "extra/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [extra.yaml]\n",
        ),
        ("extra/extra.yaml", &config_map("extra", "one")),
    ]);
    let vars = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "vars"},
        "data": {"place": "git", "greeting": "overridden"}});
    world.cluster.apply(&world.namespace, vars).await;
    world.source(json!({})).await;
    let spec = json!({
        "path": "./app", "components": ["../extra"], "namePrefix": "pre-", "nameSuffix": "-suf",
        "images": [{"name": "registry.example/web", "newTag": "2.0.0"}],
        "patches": [{"patch": "- op: replace\n  path: /spec/replicas\n  value: 3\n", "target": {"kind": "Deployment"}}],
        "commonMetadata": {"labels": {"team": "shop"}, "annotations": {"contact": "ann"}},
        "postBuild": {"substitute": {"greeting": "hello"}, "substituteFrom": [{"kind": "ConfigMap", "name": "vars"},
            {"kind": "Secret", "name": "absent", "optional": true}]},
    });
    world.kustomization("app", spec).await;
    let object = world.ready("app", &commit).await;
    let web = world.get(DEPLOYMENT, "pre-web-suf").await.unwrap();
    assert_eq!(web["spec"]["replicas"], 3);
    let image = &web["spec"]["template"]["spec"]["containers"][0]["image"];
    assert_eq!(image, "registry.example/web:2.0.0");
    assert_eq!(web["metadata"]["annotations"]["contact"], "ann");
    let labels = &web["metadata"]["labels"];
    assert_eq!(labels["team"], "shop");
    assert_eq!(labels["kustomize.toolkit.fluxcd.io/name"], "app");
    assert_eq!(
        labels["kustomize.toolkit.fluxcd.io/namespace"],
        world.namespace.as_str()
    );
    assert_eq!(
        world.data("pre-settings-suf").await["greeting"],
        "hello from git to all"
    );
    assert_eq!(world.data("pre-extra-suf").await["value"], "one");
    let entries = object["status"]["inventory"]["entries"].as_array().unwrap();
    let ids: Vec<_> = entries.iter().map(|entry| entry["id"].as_str().unwrap()).collect();
    let namespace = &world.namespace;
    assert_eq!(
        ids,
        [
            format!("{namespace}_pre-extra-suf__ConfigMap"),
            format!("{namespace}_pre-settings-suf__ConfigMap"),
            format!("{namespace}_pre-web-suf_apps_Deployment"),
        ]
    );

    // Who asks to be watched is followed without waiting for the interval.
    let vars = json!({"metadata": {"labels": {"reconcile.fluxcd.io/watch": "Enabled"}}, "data": {"place": "here"}});
    world.merge(CONFIG_MAP, "vars", vars).await;
    eventually("the build has the new value", async || {
        let greeting = world.data("pre-settings-suf").await["greeting"].to_string();
        if greeting.contains("from here") {
            Ok(())
        } else {
            Err(greeting)
        }
    })
    .await;

    // A variable without value or default is an error, and names itself.
    world.commit(&[("app/settings.yaml", &settings.replace("${whom:=all}", "${whom}"))]);
    let (_, message) = world.not_ready("app", "BuildFailed").await;
    assert!(message.contains("whom"), "{message}");
}

#[tokio::test]
async fn suspended_objects_rest_until_they_are_resumed() {
    let Some(world) = World::start("suspend").await else {
        return;
    };
    let first = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world
        .kustomization(
            "awake",
            json!({"targetNamespace": "default", "nameSuffix": format!("-{}", world.namespace)}),
        )
        .await;
    world.ready("app", &first).await;
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"suspend": true}}))
        .await;
    let second = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    // The other one has followed, so this one has had its chance.
    world.ready("awake", &second).await;
    assert_eq!(world.data("settings").await["value"], "one");
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"suspend": false}}))
        .await;
    world.ready("app", &second).await;

    world.merge(REPOSITORY, "app", json!({"spec": {"suspend": true}})).await;
    let asked = |log: Vec<String>| log.iter().any(|line| line.contains("info/refs"));
    // A fetch may be under way; afterwards nobody asks any more.
    eventually("the server is left alone", async || {
        world.git.take_log();
        tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
        if asked(world.git.take_log()) {
            Err("asked".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
    let third = world.commit(&[("settings.yaml", &config_map("settings", "three"))]);
    world
        .merge(REPOSITORY, "app", json!({"spec": {"suspend": false}}))
        .await;
    world.ready("app", &third).await;
}

#[tokio::test]
async fn what_is_not_supported_or_not_allowed_stalls_in_words() {
    let Some(setup) = Setup::new("refused").await else {
        return;
    };
    let world = setup.with_arguments(&["--no-cross-namespace-refs"]).start().await;
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    let cloud =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "cloud"}, "data": {"provider": "aws"}});
    world.cluster.apply(&world.namespace, cloud).await;
    let cloud = json!({"kubeConfig": {"configMapRef": {"name": "cloud"}}});
    world.kustomization("cloudy", cloud).await;
    let abroad = json!({"sourceRef": {"kind": "GitRepository", "name": "app", "namespace": "default"}});
    world.kustomization("abroad", abroad).await;
    world.kustomization("home", json!({})).await;
    for (name, reason, part) in [
        ("cloudy", "Unsupported", "provider aws is not supported"),
        ("abroad", "AccessDenied", "cross-namespace references have been blocked"),
    ] {
        let (object, message) = world.not_ready(name, reason).await;
        assert!(message.contains(part), "{message}");
        assert_eq!(condition(&object, "Stalled").unwrap().1, reason);
        assert!(condition(&object, "Reconciling").is_none());
        assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
        world.event(KUSTOMIZATION, name, ("Warning", reason, part)).await;
    }
    world.ready("home", &commit).await;
    world
        .merge(KUSTOMIZATION, "cloudy", json!({"spec": {"kubeConfig": null}}))
        .await;
    world.ready("cloudy", &commit).await;

    let azure = json!({"spec": {"provider": "azure"}});
    world.merge(REPOSITORY, "app", azure).await;
    let (_, message) = world.fails(REPOSITORY, "app", "Unsupported").await;
    assert!(message.starts_with("spec.provider azure is not supported"), "{message}");
    world
        .event(REPOSITORY, "app", ("Warning", "Unsupported", "azure"))
        .await;
}

#[tokio::test]
async fn who_asks_for_a_reconciliation_gets_one_and_its_receipt() {
    let Some(world) = World::start("asked").await else {
        return;
    };
    let first = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({"interval": "1h"})).await;
    world.kustomization("app", json!({"interval": "1h"})).await;
    world.ready("app", &first).await;
    // Nobody tells Weir of these two: a commit within the interval, and an object deleted by hand.
    let second = world.commit(&[("other.yaml", &config_map("other", "one"))]);
    for (kind, token) in [(REPOSITORY, "today"), (KUSTOMIZATION, "tomorrow")] {
        let annotations = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": token}}});
        world.merge(kind, "app", annotations).await;
        within(std::time::Duration::from_secs(30), "the receipt", async || {
            let found = world.get(kind, "app").await.unwrap_or_default();
            let is = &found["status"]["lastHandledReconcileAt"];
            if is == token {
                Ok(())
            } else {
                Err(found["status"].to_string())
            }
        })
        .await;
        world.ready("app", &second).await;
        world.cluster.delete(CONFIG_MAP, &world.namespace, "other").await;
    }
    let again = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "and again"}}});
    world.merge(KUSTOMIZATION, "app", again).await;
    eventually("what was deleted by hand is back", async || {
        world.get(CONFIG_MAP, "other").await.map(drop).ok_or_else(String::new)
    })
    .await;
}

#[tokio::test]
async fn an_immutable_field_is_changed_by_force_only() {
    let Some(world) = World::start("force").await else {
        return;
    };
    let sealed = |value: &str| format!("{}immutable: true\n", config_map("sealed", value));
    let first = world.commit(&[("sealed.yaml", &sealed("one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &first).await;
    let second = world.commit(&[("sealed.yaml", &sealed("two"))]);
    let (_, message) = world.not_ready("app", "ReconciliationFailed").await;
    assert!(message.contains("immutable"), "{message}");
    assert_eq!(world.data("sealed").await["value"], "one");
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"force": true}}))
        .await;
    world.ready("app", &second).await;
    assert_eq!(world.data("sealed").await["value"], "two");
    let line = format!("ConfigMap/{}/sealed created", world.namespace);
    world
        .event(KUSTOMIZATION, "app", ("Normal", "Progressing", &line))
        .await;
}
