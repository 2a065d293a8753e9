//! Fights: real clients that never give up, and what Weir answers.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use weir::cluster::client::{ClientOptions, connect};

use crate::ONE_AT_A_TIME;
use crate::stand::{Cluster, Git, Weir, clean, deploys, is_ready};

/// How long the clients insist.
const INSIST: Duration = Duration::from_secs(30);
/// How often each of them writes.
const EVERY: Duration = Duration::from_millis(50);

const MAPS: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: guard-shop}\n---\n\
    apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one, namespace: guard-shop}\ndata: {a: git, b: git, c: git}\n---\n\
    apiVersion: v1\nkind: ConfigMap\nmetadata: {name: many, namespace: guard-shop}\ndata: {a: git, b: git, c: git}\n";

/// Writes a declared field until the time is over, under the names and of the fields that its number gives.
async fn insist(maps: Api<ConfigMap>, map: &str, who: impl Fn(usize) -> (String, &'static str)) -> usize {
    let (until, mut count) = (Instant::now() + INSIST, 0);
    while Instant::now() < until {
        let (manager, key) = who(count);
        let parameters = PatchParams {
            field_manager: Some(manager),
            ..PatchParams::default()
        };
        let value = format!("mine-{count}");
        maps.patch(map, &parameters, &Patch::Merge(json!({"data": {key: value}})))
            .await
            .unwrap();
        count += 1;
        tokio::time::sleep(EVERY).await;
    }
    count
}

/// How often Weir has written an object: its resource versions tell, by the entry of ours that is renewed.
fn sum(lines: &[String], part: &str) -> u64 {
    let values = lines.iter().filter(|line| line.contains(part));
    values
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_gives_up_is_answered_ever_more_rarely_and_told_of_by_name() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    let git = Git::new(&[("shop/maps.yaml", MAPS)]);
    let weir = Weir::start(&cluster, false);
    cluster.apply(&deploys("guard-shop", &git.url(), "./shop"));
    cluster.eventually("it is applied", &is_ready("guard-shop"));
    let options = ClientOptions {
        kubeconfig: Some(cluster.admin.clone()),
    };
    let maps: Api<ConfigMap> = Api::namespaced(connect(&options).await.unwrap(), "guard-shop");

    let one = tokio::spawn(insist(maps.clone(), "one", |_| ("stubborn".to_owned(), "a")));
    assert!(one.await.unwrap() > 100, "it did insist");
    let reverted = weir.metrics("weir_drift_reverted_total");
    let first = sum(&reverted, "kind=\"ConfigMap\"");
    // Five at once, then after 2, 4, 8 and 16 s.
    assert!((5..=10).contains(&first), "{reverted:?}");
    assert!(
        reverted.iter().all(|line| line.contains("user_class=\"unknown\"")),
        "{reverted:?}"
    );
    let fights = weir.metrics("weir_drift_fights_total");
    assert!(sum(&fights, "kind=\"ConfigMap\"") >= 1, "{fights:?}");
    let told = |words: &str| {
        format!(
            "kubectl -n flux-system get events --field-selector reason=DriftFight -o 'jsonpath={{.items[*].message}}' | grep -F '{words}'"
        )
    };
    cluster.eventually(
        "the fight is told with manager and field",
        &told("stubborn keeps changing data.a of ConfigMap/guard-shop/one, which Git declares"),
    );

    // Ever other names and fields do not help.
    let keys = ["a", "b", "c"];
    let many = insist(maps.clone(), "many", move |count| {
        (format!("sly-{}", count % 5), keys[count % 3])
    });
    assert!(many.await > 100, "it did insist");
    let reverted = weir.metrics("weir_drift_reverted_total");
    let second = sum(&reverted, "kind=\"ConfigMap\"") - first;
    // Fifteen a minute, and one more of the other object.
    assert!((10..=17).contains(&second), "{reverted:?}");
    cluster.eventually(
        "it is told too",
        &told("ConfigMap/guard-shop/many is changed again and again under several names"),
    );

    // Left in peace, both are as Git says, at the latest after the longest wait.
    let settled = tokio::time::timeout(Duration::from_secs(150), async {
        loop {
            let mut values = Vec::new();
            for name in ["one", "many"] {
                values.extend(maps.get(name).await.unwrap().data.unwrap_or_default().into_values());
            }
            if values.iter().all(|value| value == "git") {
                break;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
    settled.await.expect("what Git declares comes back in the end");
    drop(weir);
    clean(&cluster);
}
