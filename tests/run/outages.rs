//! What is away for a while: the Git server, a render worker, the API server, and Weir itself.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::cluster::{condition, eventually, hack_cluster, within};
use crate::git_server::Manner;
use crate::weir_process::signal;
use crate::world::{KUSTOMIZATION, REPOSITORY, Setup, World, config_map, renderer};

/// How long a stop may take; Kubernetes gives 30 s.
const STOP: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_git_server_that_is_down_changes_nothing_and_is_followed_when_it_is_back() {
    let Some(mut world) = World::start("git-down").await else {
        return;
    };
    let good = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &good).await;
    world.git.stop();
    let next = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    let (object, message) = world.fails(REPOSITORY, "app", "GitOperationFailed").await;
    assert!(
        message.starts_with("failed to checkout and determine revision: "),
        "{message}"
    );
    assert_eq!(condition(&object, "FetchFailed").unwrap().0, "True");
    assert_eq!(condition(&object, "Reconciling").unwrap().1, "ProgressingWithRetry");
    let revision = &object["status"]["artifact"]["revision"];
    assert_eq!(revision, &format!("main@sha1:{good}"), "the artifact stays");
    world
        .event(
            REPOSITORY,
            "app",
            ("Warning", "GitOperationFailed", "failed to checkout"),
        )
        .await;
    world.ready("app", &good).await;
    world.git = world.git.restart();
    world.ready("app", &next).await;
    world
        .event(
            REPOSITORY,
            "app",
            ("Normal", "NewArtifact", "stored artifact for commit 'Change"),
        )
        .await;
    // With nothing new in it, that it is back is what is told.
    world.git.stop();
    world.fails(REPOSITORY, "app", "GitOperationFailed").await;
    world.git = world.git.restart();
    let message = world
        .event(REPOSITORY, "app", ("Normal", "Succeeded", "stored artifact for commit"))
        .await;
    assert_eq!(message, format!("stored artifact for commit 'main@sha1:{next}'"));
}

#[tokio::test]
async fn credentials_that_are_missing_or_wrong_are_told_and_may_be_mended() {
    let Some(world) = World::start("credentials").await else {
        return;
    };
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world
        .git
        .behave(Manner::Authorized(format!("Basic {}", STANDARD.encode("ada:right"))));
    world.source(json!({"secretRef": {"name": "git"}})).await;
    world.kustomization("app", json!({})).await;
    let (_, message) = world.fails(REPOSITORY, "app", "AuthenticationFailed").await;
    let missing = format!("failed to get secret '{}/git'", world.namespace);
    assert!(message.starts_with(&missing), "{message}");
    world
        .event(REPOSITORY, "app", ("Warning", "AuthenticationFailed", &missing))
        .await;
    let secret = |password: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"},
            "stringData": {"username": "ada", "password": password}})
    };
    world.cluster.apply(&world.namespace, secret("wrong")).await;
    let (_, message) = world.fails(REPOSITORY, "app", "GitOperationFailed").await;
    assert!(
        message.contains("authentication") && !message.contains("wrong"),
        "{message}"
    );
    world
        .event(REPOSITORY, "app", ("Warning", "GitOperationFailed", "authentication"))
        .await;
    world.not_ready("app", "ArtifactFailed").await;
    world.cluster.apply(&world.namespace, secret("right")).await;
    world.ready("app", &commit).await;
}

#[tokio::test]
async fn a_render_worker_that_is_killed_in_the_middle_costs_one_more_build() {
    let Some(setup) = Setup::new("worker").await else {
        return;
    };
    // A real worker, but one whose pipe runs dry after its order when `hang` is there: it is in the middle of a build for
    // as long as it takes to kill it. (The colon keeps the shell, and with it the pipe's end, until then.)
    let (wrapper, place) = (
        setup.directory.path().join("renderer"),
        setup.directory.path().display(),
    );
    let script = format!(
        "#!/bin/bash\necho $$ >{place}/pid\nif [[ ! -e {place}/hang ]]; then exec {real} \"$@\"; fi\n\
         exec 3<&0\nmv {place}/hang {place}/hangs\n\
         exec {real} \"$@\" < <(/bin/dd bs=65536 count=1 <&3 2>/dev/null; /bin/cat <&3 >/dev/null; :) 3<&-\n",
        real = renderer().display()
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let file = |name: &str| setup.directory.path().join(name);
    let (hang, hangs, pid) = (file("hang"), file("hangs"), file("pid"));
    let world = setup.with_renderer(&wrapper).start().await;
    let worker = || std::fs::read_to_string(&pid).unwrap().trim().parse::<u32>().unwrap();

    let good = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &good).await;
    // The one that is warm dies first: that nobody shall notice.
    std::fs::write(&hang, "").unwrap();
    signal(worker(), "KILL");
    let next = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    eventually("a worker is in the middle of a build", async || {
        if hangs.exists() {
            Ok(())
        } else {
            Err("not yet".to_owned())
        }
    })
    .await;
    signal(worker(), "KILL");
    let message = world
        .event(KUSTOMIZATION, "app", ("Warning", "BuildFailed", "render worker ended"))
        .await;
    assert!(
        message.contains("in the middle of a build") && message.contains("SIGKILL"),
        "{message}"
    );
    world.ready("app", &next).await;
    assert_eq!(world.data("settings").await["value"], "two");
}

#[tokio::test]
async fn an_api_server_that_restarts_finds_weir_at_work() {
    let Some(setup) = Setup::alone("api-restart").await else {
        return;
    };
    let mut world = setup.start().await;
    let first = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &first).await;
    hack_cluster("stop-apiserver");
    // It is fetched while nobody can be told and nothing can be applied.
    let second = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    eventually("weir misses the API server", async || {
        let missed = world
            .weir
            .lines()
            .any(|line| line["error"].as_str().is_some_and(|text| text.contains("reach")));
        if missed {
            Ok(())
        } else {
            Err("nothing is logged".to_owned())
        }
    })
    .await;
    hack_cluster("start-apiserver");
    world.ready("app", &second).await;
    assert_eq!(world.data("settings").await["value"], "two");
    // Watches are back too, not only what was queued.
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"suspend": true}}))
        .await;
    world
        .merge(
            KUSTOMIZATION,
            "app",
            json!({"spec": {"suspend": false, "commonMetadata": {"labels": {"after": "it"}}}}),
        )
        .await;
    world.ready("app", &second).await;
    assert!(world.weir.terminate(STOP).await.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_waits_for_nobody_and_the_next_start_carries_on() {
    let Some(mut world) = World::start("stop").await else {
        return;
    };
    let first = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &first).await;
    // A wait for health that would take minutes, and a server that keeps silent.
    let check = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "absent", "namespace": world.namespace});
    world
        .kustomization("waits", json!({"healthChecks": [check], "timeout": "10m"}))
        .await;
    eventually("it waits", async || {
        let found = world.get(KUSTOMIZATION, "waits").await.unwrap_or_default();
        match condition(&found, "Healthy") {
            Some(("Unknown", ..)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.git.behave(Manner::Silent);
    tokio::task::block_in_place(|| world.git.wait_until_silent());
    let began = Instant::now();
    let status = world.weir.terminate(STOP).await;
    assert!(status.success(), "{status} after {:?}", began.elapsed());
    let before = world.get(KUSTOMIZATION, "waits").await.unwrap();
    assert_eq!(
        condition(&before, "Ready").unwrap().0,
        "Unknown",
        "a stop is no failure"
    );
    let last = world.weir.lines().last().unwrap();
    assert_eq!(last["msg"], "stopped", "{last}");

    // The server keeps silent still; what is on disk is enough to go on.
    world.weir = world.another_weir(world.directory.path()).await;
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"nameSuffix": "-again"}}))
        .await;
    world.ready("app", &first).await;
    assert_eq!(world.data("settings-again").await["value"], "one");
    let absent = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "absent"}});
    world.cluster.apply(&world.namespace, absent).await;
    world.ready("waits", &first).await;
}

#[tokio::test]
async fn of_two_replicas_one_works_and_the_other_takes_over() {
    let Some(setup) = Setup::new("replicas").await else {
        return;
    };
    let mut world = setup.with_arguments(&["--leader-elect=true"]).start().await;
    let second = tempfile::tempdir().unwrap();
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &commit).await;
    let other = world.another_weir(second.path()).await;
    assert!(world.weir.metrics().await.contains("weir_leader 1"));
    assert!(other.metrics().await.contains("weir_leader 0"));
    assert!(world.weir.terminate(STOP).await.success());
    // The lease is given back, not waited out: that would take 15 s and more.
    within(Duration::from_secs(10), "the other leads", async || {
        let metrics = other.metrics().await;
        if metrics.contains("weir_leader 1") {
            Ok(())
        } else {
            Err(String::new())
        }
    })
    .await;
    let next = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    world.ready("app", &next).await;
    let worked = other.metrics().await;
    assert!(
        worked.contains("weir_source_fetch_total{kind=\"GitRepository\",result=\"changed\"}"),
        "{worked}"
    );
}
