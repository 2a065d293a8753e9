//! What gets in does not stay: the webhook is off, so everything gets in.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, WatchEvent, WatchParams};
use kube::{Client, Resource};
use serde::de::DeserializeOwned;
use weir::cluster::client::{ClientOptions, connect};

use crate::ONE_AT_A_TIME;
use crate::stand::{Cluster, Git, SOON, Weir, clean, data, deploys, is_ready};

const NAMESPACE: &str = "guard-shop";
const OTHER: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: other, namespace: guard-shop}\ndata: {a: '1'}\n";

/// Two containers, whose order is declared.
const ORDERED: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: ordered, namespace: guard-shop}
spec:
  replicas: 0
  selector: {matchLabels: {app: ordered}}
  template:
    metadata: {labels: {app: ordered}}
    spec:
      containers:
        - {name: first, image: 'registry.example/a:1'}
        - {name: second, image: 'registry.example/b:1'}
";

async fn client(cluster: &Cluster) -> Client {
    let options = ClientOptions {
        kubeconfig: Some(cluster.admin.clone()),
    };
    connect(&options).await.unwrap()
}

/// Watches objects of a kind while `edit` runs; gives the time between the first event that is `wrong` and the first one
/// after it that is not. An `edit` that deletes must not wait: it might meet the new object and wait for that one to go.
async fn away_for<K>(
    client: &Client,
    name: &str,
    edit: impl FnOnce() + Send + 'static,
    wrong: impl Fn(Option<&K>) -> bool,
) -> Duration
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let api: Api<K> = Api::namespaced(client.clone(), NAMESPACE);
    let from = api
        .list(&Default::default())
        .await
        .unwrap()
        .metadata
        .resource_version
        .unwrap();
    let parameters = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = api.watch(&parameters, &from).await.unwrap().boxed();
    let editing = tokio::task::spawn_blocking(edit);
    let mut since = None;
    let found = tokio::time::timeout(SOON, async {
        while let Some(event) = events.next().await {
            let state = match event.unwrap() {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => Some(object),
                WatchEvent::Deleted(_) => None,
                other => panic!("{other:?}"),
            };
            match (wrong(state.as_ref()), since) {
                (true, None) => since = Some(Instant::now()),
                (false, Some(began)) => return Some(Instant::now().duration_since(began)),
                _ => {}
            }
        }
        None
    });
    let took = found.await.expect("put back in time").expect("the watch goes on");
    editing.await.unwrap();
    took
}

fn image(deployment: Option<&Deployment>) -> String {
    let spec = deployment.and_then(|one| one.spec.template.spec.as_ref());
    let image = spec.and_then(|spec| spec.containers.first()?.image.clone());
    image.unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_gets_in_is_put_back_within_half_a_second() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find().map(std::sync::Arc::new) else {
        return;
    };
    clean(&cluster);
    let git = Git::new(&[
        ("shop/shop.yaml", &data("shop.yaml")),
        ("other/other.yaml", OTHER),
        ("shop/ordered.yaml", ORDERED),
    ]);
    let weir = Weir::start(&cluster, false);
    cluster.apply(&deploys("guard-shop", &git.url(), "./shop"));
    cluster.eventually("the shop is applied", &is_ready("guard-shop"));
    cluster.apply(&deploys("guard-other", &git.url(), "./other"));
    cluster.eventually("the other one is applied", &is_ready("guard-other"));
    // From here on nothing needs Git.
    let Git { mut server, .. } = git;
    server.stop();

    let client = client(&cluster).await;
    let shell = |line: &'static str| {
        let cluster = std::sync::Arc::clone(&cluster);
        move || {
            cluster.ok(line);
        }
    };
    let mut times = Vec::new();
    let mut note = |what: &str, took: Duration| {
        eprintln!("{what}: away for {} ms", took.as_millis());
        times.push(took);
    };

    let wrong = |map: Option<&ConfigMap>| {
        map.and_then(|map| map.data.as_ref()?.get("greeting").cloned())
            .as_deref()
            != Some("welcome")
    };
    let took = away_for(
        &client,
        "settings",
        shell("alice patch configmap settings --type=merge -p '{\"data\":{\"greeting\":\"go away\"}}'"),
        wrong,
    )
    .await;
    note("a merge patch", took);
    let took = away_for(
        &client,
        "settings",
        shell("alice patch configmap settings --type=json -p '[{\"op\":\"remove\",\"path\":\"/data/greeting\"}]'"),
        wrong,
    )
    .await;
    note("a field removed", took);
    let took = away_for(
        &client,
        "settings",
        shell("alice delete configmap settings --wait=false"),
        |map: Option<&ConfigMap>| map.is_none(),
    )
    .await;
    note("a deletion", took);
    let unlabelled = |map: Option<&ConfigMap>| {
        map.is_none_or(|map| {
            !map.metadata
                .labels
                .as_ref()
                .is_some_and(|labels| labels.contains_key("kustomize.toolkit.fluxcd.io/name"))
        })
    };
    let took = away_for(
        &client,
        "settings",
        shell("alice label configmap settings kustomize.toolkit.fluxcd.io/name-"),
        unlabelled,
    )
    .await;
    note("the owner label taken off", took);
    let spoof = "printf 'apiVersion: v1\\nkind: ConfigMap\\nmetadata: {name: settings, namespace: guard-shop}\\ndata: {greeting: spoofed, colour: green}\\n' | \
                 alice apply --server-side --field-manager=kustomize-controller -f -";
    let took = away_for(&client, "settings", shell(spoof), wrong).await;
    note("an apply in our manager's name", took);
    let wiped = "alice patch configmap settings --type=json -p '[{\"op\":\"replace\",\"path\":\"/metadata/managedFields\",\"value\":[{}]},\
                 {\"op\":\"replace\",\"path\":\"/data/greeting\",\"value\":\"wiped\"}]'";
    let took = away_for(&client, "settings", shell(wiped), wrong).await;
    note("managedFields wiped and a field changed", took);
    let wrong_image = |deployment: Option<&Deployment>| image(deployment) != "registry.example/web:1.0.0";
    let took = away_for(
        &client,
        "web",
        shell("alice set image deployment/web web=registry.example/web:6.6.6"),
        wrong_image,
    )
    .await;
    note("set image", took);
    let wrong_replicas = |deployment: Option<&Deployment>| deployment.and_then(|one| one.spec.replicas) != Some(2);
    let took = away_for(
        &client,
        "web",
        shell("alice scale deployment/web --replicas=7"),
        wrong_replicas,
    )
    .await;
    note("scale", took);
    // The API server keeps no account of who puts items in which place, only metadata's generation moves.
    let reordered = |one: Option<&Deployment>| {
        let spec = one.and_then(|one| one.spec.template.spec.as_ref());
        let names = spec.map(|spec| spec.containers.iter().map(|one| one.name.clone()).collect::<Vec<_>>());
        names.unwrap_or_default() != ["first", "second"]
    };
    let took = away_for(
        &client,
        "ordered",
        shell(
            "alice patch deployment ordered --type=json -p '[{\"op\":\"move\",\
             \"from\":\"/spec/template/spec/containers/0\",\"path\":\"/spec/template/spec/containers/1\"}]'",
        ),
        reordered,
    )
    .await;
    note("containers in another order", took);
    let took = away_for(
        &client,
        "web",
        shell("alice delete deployment web --cascade=orphan --wait=false"),
        |one: Option<&Deployment>| one.is_none(),
    )
    .await;
    note("a Deployment deleted", took);

    // Told on the Kustomization, with manager and field, and counted.
    cluster.eventually(
        "an event tells of it",
        "kubectl -n flux-system get events --field-selector reason=DriftReverted -o 'jsonpath={.items[*].message}' | \
         grep -F 'Deployment/guard-shop/web: spec.replicas was changed by kubectl (scale); put back'",
    );
    let counted = weir.metrics("weir_drift_reverted_total");
    assert!(
        counted
            .iter()
            .any(|line| line.contains("kind=\"Deployment\"") && line.contains("manager=\"kubectl-set\"")),
        "{counted:?}"
    );

    // What Git does not declare, and what it leaves alone, stays.
    cluster.ok("kubectl -n guard-shop annotate configmap settings note=mine; kubectl -n guard-shop patch configmap settings --type=merge -p '{\"data\":{\"extra\":\"mine\"}}'");
    cluster.ok("kubectl -n guard-shop patch configmap hands-off --type=merge -p '{\"data\":{\"first\":\"changed\"}}'");
    let took = away_for(
        &client,
        "hands-off",
        shell("alice delete configmap hands-off --wait=false"),
        |map: Option<&ConfigMap>| map.is_none(),
    )
    .await;
    note("what is declared only if not present, deleted", took);
    assert_eq!(
        cluster.ok(
            "kubectl -n guard-shop get configmap settings -o 'jsonpath={.data.extra} {.metadata.annotations.note}'"
        ),
        "mine mine"
    );

    // Whoever keeps changing the same field is put back at once a few times, and then ever more rarely.
    let colour =
        "alice patch configmap settings --type=merge --field-manager=stubborn -p '{\"data\":{\"colour\":\"red\"}}'";
    let not_green = |map: Option<&ConfigMap>| {
        map.and_then(|map| map.data.as_ref()?.get("colour").cloned()).as_deref() != Some("green")
    };
    for _ in 0..5 {
        away_for(&client, "settings", shell(colour), not_green).await;
    }
    let took = away_for(&client, "settings", shell(colour), not_green).await;
    assert!(took > Duration::from_secs(1), "a fight is slowed down: {took:?}");
    cluster.eventually(
        "the fight is told of",
        "kubectl -n flux-system get events --field-selector reason=DriftFight -o 'jsonpath={.items[*].message}' | \
         grep -F 'stubborn keeps changing data.colour of ConfigMap/guard-shop/settings'",
    );

    // A suspended Kustomization insists on nothing.
    cluster.ok("kubectl -n flux-system patch kustomization guard-shop --type=merge -p '{\"spec\":{\"suspend\":true}}'");
    cluster.ok("kubectl -n guard-shop patch configmap settings --type=merge -p '{\"data\":{\"greeting\":\"closed\"}}'");
    // The watch shows things in order: once the other Kustomization's object is back, this edit was seen and let be.
    let other = "kubectl -n guard-shop patch configmap other --type=merge -p '{\"data\":{\"a\":\"2\"}}'";
    let wrong_other =
        |map: Option<&ConfigMap>| map.and_then(|map| map.data.as_ref()?.get("a").cloned()).as_deref() != Some("1");
    away_for(&client, "other", shell(other), wrong_other).await;
    assert_eq!(
        cluster.ok("kubectl -n guard-shop get configmap settings -o 'jsonpath={.data.greeting}'"),
        "closed"
    );

    // What differs now, by whom; and where fields come from. Both read Git again.
    let _server = server.restart();
    let weir_says = |arguments: &str| cluster.shell(&format!("{} {arguments}", env!("CARGO_BIN_EXE_weir")));
    let (ok, drift) = weir_says("drift guard-shop");
    assert!(!ok, "{drift}");
    for part in [
        "Kustomization flux-system/guard-shop (suspended)",
        "ConfigMap/guard-shop/settings  shop/shop.yaml:",
        "data.greeting: \"welcome\" → \"closed\"",
        "by kubectl-patch, ",
        "1 of 16 objects differs from Git",
    ] {
        assert!(drift.contains(part), "{part:?} in\n{drift}");
    }
    let (ok, all_well) = weir_says("drift guard-other");
    assert!(ok && all_well.contains("1 object is as Git declares it"), "{all_well}");
    let (ok, why) = weir_says("why cm/settings -n guard-shop");
    assert!(ok, "{why}");
    for part in [
        "Kustomization  flux-system/guard-shop (suspended)",
        "\"The shop\" by Ada <ada@example.com>",
        "shop/shop.yaml:",
        "\"green\"",
        "← Git, shop/shop.yaml:",
        "← kubectl-patch, ",
    ] {
        assert!(why.contains(part), "{part:?} in\n{why}");
    }
    eprintln!("{drift}\n{why}");

    times.sort();
    let worst = times.last().copied().unwrap_or_default();
    eprintln!(
        "median {} ms, worst {} ms of {}",
        times[times.len() / 2].as_millis(),
        worst.as_millis(),
        times.len()
    );
    assert!(times[times.len() / 2] < Duration::from_millis(500), "{times:?}");
    // The worst includes what a busy machine adds.
    assert!(worst < Duration::from_secs(5), "{times:?}");
    drop(weir);
    clean(&cluster);
}
