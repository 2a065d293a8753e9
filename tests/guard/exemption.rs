//! Break-glass: what an Exemption lets pass, for whom, and that it ends.

use std::time::{Duration, Instant};

use crate::ONE_AT_A_TIME;
use crate::stand::{Cluster, Git, SOON, Weir, clean, data, deploys, is_ready};

/// Shell that succeeds when a field of an object has a value.
fn has(object: &str, path: &str, value: &str) -> String {
    format!(
        "found=$(kubectl get {object} -o 'jsonpath={path}'); [[ \"$found\" == \"{value}\" ]] || {{ echo \"$found\"; false; }}"
    )
}

/// Exemption `name` for alice over the Deployment and the StatefulSet of the shop.
fn exemption(name: &str, minutes: u32, more: &str) -> String {
    format!(
        "apiVersion: weir.dev/v1alpha1\nkind: Exemption\nmetadata: {{name: {name}, namespace: guard-shop}}\nspec:\n  \
         lift: [drift]\n  reason: the shop is down\n  minutes: {minutes}\n  subjects: [{{kind: User, name: alice}}]\n  \
         objects: [{{apiGroup: apps, kinds: [Deployment, StatefulSet]{more}}}]\n"
    )
}

/// Has the Kustomization reconciled, as `flux reconcile` does, and waits until that is done.
fn reconcile(cluster: &Cluster) {
    let now = format!("{:?}", std::time::SystemTime::now());
    let now: String = now.chars().filter(char::is_ascii_digit).collect();
    cluster.ok(&format!(
        "kubectl -n flux-system annotate --overwrite kustomization guard-shop reconcile.fluxcd.io/requestedAt={now}"
    ));
    let done = "-n flux-system kustomization/guard-shop";
    cluster.eventually("it is reconciled", &has(done, "{.status.lastHandledReconcileAt}", &now));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_exemption_lifts_the_guard_for_whom_what_and_how_long_it_says() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    let git = Git::new(&[("shop/shop.yaml", &data("shop.yaml"))]);
    let weir = Weir::start(&cluster, true);
    cluster.apply(&deploys("guard-shop", &git.url(), "./shop"));
    cluster.eventually("the shop is applied", &is_ready("guard-shop"));
    let refused = |line: &str, part: &str| {
        let (ok, text) = cluster.shell(line);
        assert!(!ok && text.contains(part), "{line}\n{text}");
    };
    let create = |yaml: &str| format!("printf '{}' | kubectl apply -f -", yaml.replace('\n', "\\n"));

    // What cannot be granted.
    refused(&create(&exemption("too-long", 481, "")), "spec.minutes");
    refused(
        &create(&exemption("why", 5, "").replace("the shop is down", "x")),
        "spec.reason",
    );
    refused(
        &create(
            &exemption("all", 5, "").replace("kind: User, name: alice", "kind: Group, name: \"system:authenticated\""),
        ),
        "no group of named people",
    );
    refused(
        &create(&exemption("any-kind", 5, "").replace("Deployment", "\"*\"")),
        "spec.objects",
    );

    refused("alice scale deployment/web --replicas=5", "spec.replicas: 2 → 5");
    cluster.ok(&create(&exemption("incident", 30, "")));
    let active = "{.status.conditions[?(@.type==\"Active\")].status}";
    cluster.eventually("it holds", &has("exemption/incident", active, "True"));

    // For whom and what it says, and nothing else.
    let text = cluster.ok("alice scale deployment/web --replicas=5 2>&1");
    assert!(
        text.contains("Exemption guard-shop/incident allows this until"),
        "{text}"
    );
    cluster.ok("alice delete statefulset store --wait=false");
    refused("kubectl scale deployment/web --replicas=6", "spec.replicas: 5 → 6");
    refused("alice delete configmap settings", "cannot be deleted by hand");
    refused(
        "alice label --overwrite deployment/web kustomize.toolkit.fluxcd.io/name=mine",
        "only Git says to whom it belongs",
    );
    cluster.ok("alice scale deployment/web --replicas=7 --dry-run=server");
    // Not widened, and its status is not alice's to write.
    refused(
        "alice patch exemption incident --type=merge -p '{\"spec\":{\"objects\":[{\"kinds\":[\"ConfigMap\"]}]}}'",
        "only minutes can be changed",
    );
    refused(
        "alice patch exemption incident --subresource=status --type=merge -p '{\"status\":{\"edits\":null}}'",
        "is written by Weir only",
    );

    // It is noted, and told.
    let edits = "{range .status.edits[*]}{.user} {.operation} {.kind}/{.name} {.fields[*]} {.kustomization};{end}";
    let noted = "alice Update Deployment/web spec.replicas flux-system/guard-shop;alice Delete StatefulSet/store  \
                 flux-system/guard-shop;";
    cluster.eventually("it is noted", &has("exemption/incident", edits, noted));
    cluster.eventually(
        "it is told on the object",
        "kubectl get events --field-selector=involvedObject.name=web,reason=DriftExempted -o name | grep .",
    );
    cluster.eventually(
        "it is told on its owner",
        "kubectl -n flux-system get events --field-selector=involvedObject.name=guard-shop,reason=DriftExempted -o name | grep .",
    );
    let metric = weir.metrics("weir_guard_exempted_total");
    assert!(
        metric.iter().any(|line| line.contains("kind=\"Deployment\"")),
        "{metric:?}"
    );

    // It stays, whatever reconciles, and whoever does: after a restart nothing is known but what is in the cluster.
    let (replicas, stays) = ("{.spec.replicas}", "nothing is put back");
    let gone = "kubectl get --ignore-not-found statefulset/store -o name | grep . && exit 1 || true";
    reconcile(&cluster);
    cluster.eventually(stays, &has("deployment/web", replicas, "5"));
    cluster.ok(gone);
    drop(weir);
    let weir = Weir::start(&cluster, true);
    reconcile(&cluster);
    cluster.ok(&has("deployment/web", replicas, "5"));
    cluster.ok(gone);

    // Longer is allowed, and told.
    cluster.ok("alice patch exemption incident --type=merge -p '{\"spec\":{\"minutes\":60}}'");
    cluster.eventually(
        "the extension is told, and who asked for it",
        "kubectl get events --field-selector=involvedObject.name=incident,reason=ExemptionExtended -o \
         'jsonpath={.items[*].message}' | grep -F 'asked for by alice'",
    );
    let (ok, drift) = cluster.shell("weir drift guard-shop --kubeconfig=$KUBECONFIG");
    assert!(!ok, "{drift}");
    for part in [
        "spec.replicas: 2 → 5",
        "allowed to alice until ",
        " by Exemption guard-shop/incident: the shop is down",
    ] {
        assert!(drift.contains(part), "{part:?} in\n{drift}");
    }

    // Over: everything is put back.
    cluster.ok("kubectl delete exemption incident");
    cluster.eventually("the number is put back", &has("deployment/web", replicas, "2"));
    cluster.eventually("the StatefulSet is back", "kubectl get statefulset/store");
    refused("alice scale deployment/web --replicas=5", "spec.replicas: 2 → 5");

    // By its own time too.
    cluster.ok(&create(&exemption("short", 1, ", names: [web]")));
    let granted = Instant::now();
    cluster.eventually("it holds", &has("exemption/short", active, "True"));
    cluster.ok("alice scale deployment/web --replicas=4");
    while granted.elapsed() < Duration::from_secs(60) + SOON {
        if cluster.shell(&has("deployment/web", replicas, "2")).0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    cluster.ok(&has("deployment/web", replicas, "2"));
    assert!(
        granted.elapsed() > Duration::from_secs(50),
        "put back after {:?}",
        granted.elapsed()
    );
    cluster.eventually("it is over", &has("exemption/short", active, "False"));
    cluster.eventually(
        "its end is told",
        "kubectl get events --field-selector=involvedObject.name=short,reason=ExemptionEnded -o \
         'jsonpath={.items[*].message}' | grep 'Deployment/guard-shop/web by alice'",
    );
    drop(weir);
    clean(&cluster);
}
