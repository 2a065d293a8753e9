//! Several clients edit what Git declares while Git moves and the door comes and goes; in the end the cluster is what Git
//! says, and nothing that is not Git's was lost.
//!
//! `WEIR_GUARD_SEED` repeats the sequence of each client (not how they interleave), `WEIR_GUARD_SECONDS` makes it longer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt};
use serde_json::json;
use weir::cluster::client::{ClientOptions, connect};

use crate::ONE_AT_A_TIME;
use crate::stand::{Cluster, Git, Weir, clean, deploys, is_ready};

/// How long clients edit: in CI, beside all other tests, a minute shows what the first ones of an hour show.
const SECONDS: u64 = 60;
/// How long after the last edit everything may take to be as Git says: the longest wait in a fight is a minute.
const SETTLE: Duration = Duration::from_secs(240);
/// Clients that speak to the API server, beside one that is kubectl.
const CLIENTS: u64 = 3;
/// ConfigMaps that stay in Git all the time, so that what others add to them must stay too.
const KEPT: u64 = 3;
/// ConfigMaps that come to Git and go.
const PASSING: u64 = 4;
const NAMESPACE: &str = "guard-shop";

/// Numbers that a seed repeats (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % sides
    }
}

/// What Git declares now.
struct Declared {
    /// Values of the ConfigMaps; a passing one that is absent is not in Git.
    values: BTreeMap<String, u64>,
    replicas: u64,
}

impl Declared {
    fn new() -> Self {
        let kept = (0..KEPT).map(|n| format!("kept-{n}"));
        let passing = (0..PASSING).map(|n| format!("passing-{n}"));
        Self {
            values: kept.chain(passing).map(|name| (name, 0)).collect(),
            replicas: 1,
        }
    }

    fn change(&mut self, dice: &mut Dice) {
        match dice.roll(4) {
            0 => self.replicas = 1 + dice.roll(3),
            1 => {
                let name = format!("passing-{}", dice.roll(PASSING));
                if self.values.remove(&name).is_none() {
                    self.values.insert(name, dice.roll(100));
                }
            }
            _ => {
                let at = usize::try_from(dice.roll(self.values.len() as u64)).unwrap();
                let value = dice.roll(100);
                *self.values.values_mut().nth(at).unwrap() = value;
            }
        }
    }

    fn yaml(&self) -> String {
        let mut text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n---\n\
             apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: {NAMESPACE}, labels: {{app: web}}}}\n\
             spec:\n  replicas: {}\n  selector: {{matchLabels: {{app: web}}}}\n  template:\n    \
             metadata: {{labels: {{app: web}}}}\n    spec: {{containers: [{{name: web, image: 'registry.example/web:1'}}]}}\n",
            self.replicas
        );
        for (name, value) in &self.values {
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: {NAMESPACE}, labels: {{tier: front}}}}\n\
                 data: {{a: '{value}', b: fixed}}\n"
            );
        }
        text
    }
}

/// One client: edits what is Git's until the time is over; gives what it wrote of its own and must find again: annotation
/// and data key of each kept ConfigMap.
async fn client(client: Client, number: u64, seed: u64, until: Instant) -> BTreeMap<String, u64> {
    let (mut dice, mut own) = (Dice(seed.wrapping_add(number * 7919)), BTreeMap::new());
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    let deployments: Api<Deployment> = Api::namespaced(client, NAMESPACE);
    let name = format!("client-{number}");
    let as_me = |kind: &str| PatchParams {
        field_manager: Some(format!("{name}-{kind}")),
        ..PatchParams::default()
    };
    let mine = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("own-{number}"), "labels": {
        "kustomize.toolkit.fluxcd.io/name": "guard-shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}},
        "data": {"mine": "yes"}});
    maps.create(&PostParams::default(), &serde_json::from_value(mine).unwrap())
        .await
        .unwrap();
    while Instant::now() < until {
        let kept = format!("kept-{}", dice.roll(KEPT));
        let any = match dice.roll(2) {
            0 => kept.clone(),
            _ => format!("passing-{}", dice.roll(PASSING)),
        };
        let value = dice.roll(1000);
        // Most of these are refused while the door is on, and all of them may meet an object that is not there.
        match dice.roll(9) {
            0 => {
                let patch = json!({"data": {"a": format!("{name} {value}")}});
                let _ = maps.patch(&any, &as_me("merge"), &Patch::Merge(patch)).await;
            }
            1 => {
                let patch = json!([{"op": "remove", "path": "/data/b"}]);
                let patch: json_patch::Patch = serde_json::from_value(patch).unwrap();
                let _ = maps.patch(&any, &as_me("json"), &Patch::<()>::Json(patch)).await;
            }
            2 => {
                let patch = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"labels": {"tier": "back"}},
                    "data": {"b": format!("{name} {value}")}});
                let _ = maps.patch(&kept, &as_me("apply").force(), &Patch::Apply(patch)).await;
            }
            3 => {
                // Not a kept one: with the object goes what others put into it.
                let passing = format!("passing-{}", dice.roll(PASSING));
                let _ = maps.delete(&passing, &DeleteParams::default()).await;
            }
            4 => {
                let patch = json!({"spec": {"replicas": dice.roll(4)}});
                let _ = deployments
                    .patch_scale("web", &as_me("scale"), &Patch::Merge(patch))
                    .await;
            }
            5 => {
                let patch = json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": null, "tier": name}}});
                // Not a passing one: what has lost its labels at the moment that Git lets go of it is nobody's, as for Flux.
                let _ = maps.patch(&kept, &as_me("label"), &Patch::Merge(patch)).await;
            }
            6 => {
                // A whole object, read and written back with another value.
                if let Ok(mut found) = maps.get(&any).await {
                    found.data.get_or_insert_default().insert("a".to_owned(), name.clone());
                    let _ = maps.replace(&any, &PostParams::default(), &found).await;
                }
            }
            _ => {
                // What Git does not declare: never refused, never lost.
                let patch = json!({"metadata": {"annotations": {&name: value.to_string()}}, "data": {&name: value.to_string()}});
                match maps.patch(&kept, &as_me("own"), &Patch::Merge(patch)).await {
                    Ok(_) => {
                        own.insert(kept, value);
                    }
                    Err(error) => panic!("{name} may write what Git does not declare into {kept}: {error}"),
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(20 + dice.roll(200))).await;
    }
    own
}

/// kubectl, as people use it.
fn kubectl(cluster: &Cluster, seed: u64, until: Instant) {
    let mut dice = Dice(seed ^ 0xabcd);
    while Instant::now() < until {
        let kept = dice.roll(KEPT);
        let line = match dice.roll(6) {
            0 => "alice scale deployment/web --replicas=3".to_owned(),
            1 => "alice set image deployment/web web=registry.example/web:2".to_owned(),
            2 => format!("alice label --overwrite configmap/kept-{kept} tier=kubectl"),
            3 => format!("alice annotate --overwrite configmap/kept-{kept} note=kubectl"),
            4 => format!("KUBE_EDITOR='sed -i s/fixed/edited/' alice edit configmap/kept-{kept}"),
            _ => "alice delete deployment/web --wait=false".to_owned(),
        };
        let _ = cluster.shell(&line);
    }
}

/// What is not as it must be.
async fn differences(
    cluster: &Cluster,
    admin: &Client,
    declared: &Declared,
    own: &[BTreeMap<String, u64>],
) -> Vec<String> {
    let mut wrong = Vec::new();
    let file = std::env::temp_dir().join(format!("weir-guard-random-{}.yaml", std::process::id()));
    std::fs::write(&file, declared.yaml()).unwrap();
    let (same, text) = cluster.shell(&format!(
        "kubectl diff --server-side --force-conflicts --field-manager=check -f {}",
        file.display()
    ));
    let _ = std::fs::remove_file(&file);
    if !same {
        wrong.push(format!("not as Git declares:\n{text}"));
    }
    let maps: Api<ConfigMap> = Api::namespaced(admin.clone(), NAMESPACE);
    let owner = |map: &ConfigMap| map.labels().get("kustomize.toolkit.fluxcd.io/name").cloned();
    for number in 0..PASSING {
        let name = format!("passing-{number}");
        if !declared.values.contains_key(&name) && maps.get_opt(&name).await.unwrap().is_some() {
            wrong.push(format!("{name} is no longer in Git and still there"));
        }
    }
    for name in declared.values.keys() {
        match maps.get_opt(name).await.unwrap() {
            Some(map) if owner(&map).as_deref() == Some("guard-shop") => {}
            found => wrong.push(format!("{name} does not carry our labels: {found:?}")),
        }
    }
    for (number, written) in own.iter().enumerate() {
        let name = format!("client-{number}");
        for (map, value) in written {
            let found = maps.get(map).await.unwrap();
            let value = Some(value.to_string());
            let (annotation, data) = (
                found.annotations().get(&name),
                found.data.as_ref().and_then(|data| data.get(&name)),
            );
            if annotation != value.as_ref() || data != value.as_ref() {
                wrong.push(format!(
                    "{map} has lost what {name} wrote: {annotation:?}, {data:?} and not {value:?}"
                ));
            }
        }
        let unmanaged = maps.get_opt(&format!("own-{number}")).await.unwrap();
        if unmanaged
            .and_then(|map| map.data)
            .is_none_or(|data| data.get("mine").is_none_or(|text| text != "yes"))
        {
            wrong.push(format!("own-{number}, which nobody manages, was changed"));
        }
    }
    wrong
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_clients_do_while_git_moves_the_cluster_ends_as_git_says() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find().map(Arc::new) else {
        return;
    };
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let clock = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let seed = number("WEIR_GUARD_SEED").unwrap_or_else(|| u64::try_from(clock.as_millis()).unwrap());
    let seconds = number("WEIR_GUARD_SECONDS").unwrap_or(SECONDS);
    eprintln!("WEIR_GUARD_SEED={seed} WEIR_GUARD_SECONDS={seconds}");
    clean(&cluster);
    let mut declared = Declared::new();
    let git = Git::new(&[("shop/shop.yaml", &declared.yaml())]);
    let weir = Weir::start(&cluster, true);
    cluster.apply(&deploys("guard-shop", &git.url(), "./shop"));
    cluster.eventually("it is applied", &is_ready("guard-shop"));
    let connected = async |who: &str| {
        let kubeconfig = Some(cluster.kubeconfig(who));
        connect(&ClientOptions { kubeconfig }).await.unwrap()
    };
    let (admin, alice) = (connected("admin").await, connected("alice").await);

    let until = Instant::now() + Duration::from_secs(seconds);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| tokio::spawn(client(alice.clone(), number, seed, until)))
        .collect();
    let person = {
        let cluster = Arc::clone(&cluster);
        tokio::task::spawn_blocking(move || kubectl(&cluster, seed, until))
    };
    let (mut dice, mut commits, mut door) = (Dice(seed ^ 0x1234), 0, true);
    let look = "kubectl -n flux-system annotate --overwrite gitrepository guard-shop reconcile.fluxcd.io/requestedAt=";
    while Instant::now() < until {
        declared.change(&mut dice);
        commits += 1;
        git.repo
            .commit(&[("shop/shop.yaml", &declared.yaml())], &format!("Change {commits}"));
        cluster.ok(&format!("{look}{commits}"));
        if commits % 3 == 0 {
            door = !door;
            cluster.ok(if door {
                "kubectl apply --server-side --force-conflicts -k manifests/overlays/local >/dev/null"
            } else {
                "kubectl delete --ignore-not-found validatingwebhookconfiguration/weir-validate"
            });
        }
        tokio::time::sleep(Duration::from_millis(500 + dice.roll(3000))).await;
    }
    let mut own = Vec::new();
    for client in clients {
        own.push(client.await.unwrap());
    }
    person.await.unwrap();
    cluster.ok(&format!("{look}last"));
    let head = git.repo.git(&["rev-parse", "HEAD"]);
    let began = Instant::now();
    loop {
        let applied = cluster
            .ok("kubectl -n flux-system get kustomization guard-shop -o 'jsonpath={.status.lastAppliedRevision}'");
        let mut wrong = differences(&cluster, &admin, &declared, &own).await;
        if !applied.ends_with(&head) {
            wrong.push(format!("{applied} is applied and not {head}"));
        }
        if wrong.is_empty() {
            break;
        }
        assert!(
            began.elapsed() < SETTLE,
            "WEIR_GUARD_SEED={seed}: after {commits} commits\n{}",
            wrong.join("\n")
        );
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    eprintln!(
        "{commits} commits; as Git says {:.1} s after the last edit; denied {:?}; put back {:?}",
        began.elapsed().as_secs_f64(),
        weir.metrics("weir_guard_denied_total").len(),
        weir.metrics("weir_drift_reverted_total"),
    );
    drop(weir);
    clean(&cluster);
}
