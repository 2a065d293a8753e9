//! Commands that tell: get, stats, events, export, tree, trace, build, diff.

use serde_json::json;

use crate::cli::Flux;
use crate::world::{KUSTOMIZATION, LABEL, REPOSITORY, World, config_map, deployment};

#[tokio::test]
async fn get_stats_events_and_export_tell_what_is() {
    let Some(world) = World::start("flux-get").await else {
        return;
    };
    let flux = Flux::of(&world);
    let commit = world.commit(&[("app/settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({"timeout": "60s"})).await;
    world.kustomization("app", json!({"path": "./app"})).await;
    world.kustomization("wrong", json!({"path": "./nowhere"})).await;
    world.ready("app", &commit).await;
    world.not_ready("wrong", "ArtifactFailed").await;

    let short = format!("main@sha1:{}", &commit[..8]);
    let ready = format!("stored artifact for revision '{short}'");
    assert_eq!(
        flux.row("get sources git", "app"),
        ["app", &short, "False", "True", &ready]
    );
    let applied = format!("Applied revision: {short}");
    let row = flux.row("get kustomizations", "app");
    assert_eq!(row, ["app", &short, "False", "True", &applied]);
    let row = flux.row("get kustomizations", "wrong");
    assert_eq!(row[..4], ["wrong", "", "False", "False"], "{row:?}");
    flux.well("get all").has("gitrepository/app").has("kustomization/app");
    let failing = flux.well("get kustomizations --status-selector=ready=false");
    failing.has("wrong");
    assert!(!failing.out.lines().any(|line| line.starts_with("app")), "{failing:?}");

    let row = flux.row("stats", "GitRepository");
    assert_eq!(row[1..4], ["1", "0", "0"], "{row:?}");
    assert!(row[4].ends_with('B'), "{row:?}");
    assert_eq!(flux.row("stats", "Kustomization")[1..], ["2", "1", "0", "-"]);

    flux.shows("events --for Kustomization/app", "ReconciliationSucceeded")
        .await;
    // The command also asks for those of its source.
    flux.shows("events --for Kustomization/app", "NewArtifact").await;
    flux.shows("events --for Kustomization/wrong --types Warning", "ArtifactFailed")
        .await;

    // What is exported can be applied again; of the second time on it is what it was. Flux itself writes 60s as 1m0s once.
    for (command, kind) in [("source git", REPOSITORY), ("kustomization", KUSTOMIZATION)] {
        let exported = flux.well(&format!("export {command} app")).out;
        assert!(
            !exported.contains("status:") && !exported.contains("managedFields"),
            "{exported}"
        );
        let mut generations = Vec::new();
        for _ in 0..2 {
            let exported = flux.well(&format!("export {command} app")).out;
            let object: serde_json::Value = serde_saphyr::from_str(&exported).unwrap();
            world.merge(kind, "app", json!({"spec": object["spec"]})).await;
            let now = world.get(kind, "app").await.unwrap();
            generations.push(now["metadata"]["generation"].as_i64().unwrap());
        }
        assert_eq!(generations[0], generations[1], "{kind}");
    }
}

#[tokio::test]
async fn tree_and_trace_follow_what_belongs_together() {
    let Some(world) = World::start("flux-tree").await else {
        return;
    };
    let (flux, namespace) = (Flux::of(&world), world.namespace.clone());
    let child = format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: child\n  labels:\n    \
         {LABEL}: {namespace}\nspec:\n  interval: 10m\n  path: ./app\n  prune: true\n  targetNamespace: {namespace}\n  \
         sourceRef: {{kind: GitRepository, name: app}}\n"
    );
    let commit = world.commit(&[
        ("parent/child.yaml", &child),
        ("app/settings.yaml", &config_map("settings", "one")),
        ("app/web.yaml", &deployment("web", "1", "")),
    ]);
    world.source(json!({})).await;
    world.kustomization("parent", json!({"path": "./parent"})).await;
    world.ready("parent", &commit).await;
    world.ready("child", &commit).await;
    flux.well("tree kustomization parent")
        .has(&format!("Kustomization/{namespace}/parent"))
        .has(&format!("└── Kustomization/{namespace}/child"))
        .has(&format!("    ├── ConfigMap/{namespace}/settings"))
        .has(&format!("    └── Deployment/{namespace}/web"));
    let told = [
        "Object:          ConfigMap/settings".to_owned(),
        "Status:          Managed by Flux".to_owned(),
        "Kustomization:   child".to_owned(),
        "Path:            ./app".to_owned(),
        format!("Revision:        main@sha1:{commit}"),
        format!("Message:         Applied revision: main@sha1:{commit}"),
        "GitRepository:   app".to_owned(),
        format!("Message:         stored artifact for revision 'main@sha1:{commit}'"),
    ];
    let traced = flux.well("trace configmap settings");
    for line in told {
        traced.has(&line);
    }
    // A Pod is traced through its owners.
    let pods = world.cluster.api("v1/Pod", &namespace);
    let pod = crate::cluster::eventually("the Deployment has a Pod", async || {
        let found = pods
            .list(&Default::default())
            .await
            .map_err(|error| error.to_string())?;
        found.items.into_iter().next().ok_or_else(|| "none yet".to_owned())
    })
    .await;
    flux.well(&format!("trace pod {}", pod.metadata.name.unwrap()))
        .has("Kustomization:   child");
    flux.well("trace kustomization child").has("Kustomization:   parent");
}

#[tokio::test]
async fn build_and_diff_see_what_weir_would_do() {
    let Some(world) = World::start("flux-diff").await else {
        return;
    };
    let flux = Flux::of(&world);
    let files = |value: &str| {
        [
            ("app/settings.yaml", config_map("settings", value)),
            ("app/web.yaml", deployment("web", "1", "")),
        ]
    };
    let borrowed = |files: &[(&'static str, String)]| -> Vec<(&'static str, String)> { files.to_vec() };
    let one = borrowed(&files("${value:=one}"));
    let one: Vec<(&str, &str)> = one.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let commit = world.commit(&one);
    world.source(json!({})).await;
    world
        .kustomization(
            "app",
            json!({"path": "./app", "postBuild": {"substitute": {"value": "two"}}}),
        )
        .await;
    world.ready("app", &commit).await;
    flux.files("local", &one);
    flux.well("build kustomization app --path=local/app")
        .has("value: two")
        .has(&format!("kustomize.toolkit.fluxcd.io/namespace: {}", world.namespace));
    let same = flux.run("diff kustomization app --path=local/app --progress-bar=false");
    assert_eq!(same.code, 0, "{same:?}");

    let other = deployment("web", "3", "");
    flux.files("local", &[("app/web.yaml", &other)]);
    let drift = flux.run("diff kustomization app --path=local/app --progress-bar=false");
    assert_eq!(drift.code, 1, "{drift:?}");
    drift
        .has(&format!("Deployment/{}/web drifted", world.namespace))
        .has("spec.replicas");

    flux.files("less", &[("app/settings.yaml", one[0].1)]);
    let deleted = flux.run("diff kustomization app --path=less/app --progress-bar=false");
    assert_eq!(deleted.code, 1, "{deleted:?}");
    deleted.has(&format!("Deployment/{}/web deleted", world.namespace));

    // Weir goes on as before: nothing of this was written.
    assert_eq!(world.data("settings").await["value"], "two");
}
