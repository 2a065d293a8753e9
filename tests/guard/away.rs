//! What is changed while no Weir runs, and Git cannot be reached when the next one starts.

use std::path::Path;

use crate::ONE_AT_A_TIME;
use crate::stand::{Cluster, Git, Manner, Weir, clean, data, deploys, is_ready};

/// What somebody does while no Weir runs.
const EDITS: &str = "alice scale deployment/web --replicas=7\n\
     alice patch configmap settings --field-manager=hand --type=merge -p '{\"data\":{\"colour\":\"red\"}}'\n\
     alice delete service web";
/// Shell that succeeds when all of it is put back.
const AS_GIT_SAYS: &str = "[[ $(kubectl get deployment/web -o 'jsonpath={.spec.replicas}') == 2 ]]\n\
     [[ $(kubectl get configmap/settings -o 'jsonpath={.data.colour}') == green ]]\n\
     kubectl get service/web";

/// Without a webhook, so that everything gets in.
fn start(cluster: &Cluster, storage: &Path) -> Weir {
    let manner = Manner {
        without_webhook: true,
        storage: Some(storage),
        ..Manner::default()
    };
    Weir::start_like(cluster, &manner)
}

/// Shell that succeeds when an event on the Kustomization says so.
fn told(reason: &str, words: &str) -> String {
    format!(
        "kubectl -n flux-system get events --field-selector involvedObject.name=guard-shop,reason={reason} \
         -o 'jsonpath={{.items[*].message}}' | grep -F '{words}'"
    )
}

/// A Weir that keeps its files there and has applied the shop.
fn applied(cluster: &Cluster, git: &Git, storage: &Path) -> Weir {
    let weir = start(cluster, storage);
    cluster.apply(&deploys("guard-shop", &git.url(), "./shop"));
    cluster.eventually("the shop is applied", &is_ready("guard-shop"));
    weir
}

/// What gets in while Weir runs is put back.
fn is_put_back(cluster: &Cluster) {
    cluster.ok("alice patch configmap settings --type=merge -p '{\"data\":{\"greeting\":\"go away\"}}'");
    cluster.eventually(
        "it is put back",
        "[[ $(kubectl get configmap/settings -o 'jsonpath={.data.greeting}') == welcome ]]",
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_disk_is_enough_to_put_back_what_was_changed_while_weir_was_down() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    let mut git = Git::new(&[("shop/shop.yaml", &data("shop.yaml"))]);
    let storage = tempfile::tempdir().unwrap();
    let weir = applied(&cluster, &git, storage.path());
    drop(weir);
    git.server.stop();

    cluster.ok(EDITS);
    let weir = start(&cluster, storage.path());
    cluster.eventually("the repository on disk is enough", AS_GIT_SAYS);
    drop(weir);

    // The artifact alone is enough too.
    assert!(storage.path().join("git/flux-system/guard-shop").is_dir());
    std::fs::remove_dir_all(storage.path().join("git")).unwrap();
    cluster.ok(EDITS);
    let weir = start(&cluster, storage.path());
    cluster.eventually("the artifact on disk is enough", AS_GIT_SAYS);
    // And from then on what gets in is put back as ever.
    is_put_back(&cluster);
    drop(weir);
    clean(&cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_git_and_without_what_was_on_disk_weir_says_what_it_cannot_do_and_guards_what_it_sees() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    let mut git = Git::new(&[("shop/shop.yaml", &data("shop.yaml"))]);
    let weir = Weir::start(&cluster, true);
    cluster.apply(&deploys("guard-shop", &git.url(), "./shop"));
    cluster.eventually("the shop is applied", &is_ready("guard-shop"));
    drop(weir);
    git.server.stop();
    cluster.ok(EDITS);

    let weir = Weir::start(&cluster, true);
    cluster.eventually(
        "its status says so",
        "found=$(kubectl -n flux-system get kustomization guard-shop -o \
         'jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}: {.status.conditions[?(@.type==\"Ready\")].message}')\n\
         echo \"$found\"\n\
         [[ \"$found\" == 'ArtifactFailed: the source cannot be read, and nothing of it is on disk'* ]]",
    );
    cluster.eventually(
        "what is missing is named",
        "kubectl -n flux-system get kustomization guard-shop -o 'jsonpath={.status.conditions[?(@.type==\"Ready\")].message}' | \
         grep -F '1 of 15 objects are gone or no longer marked as applied: Service/guard-shop/web'",
    );
    // What Git declared when Weir saw it for the first time is guarded.
    let (ok, text) =
        cluster.shell("alice patch configmap settings --type=merge -p '{\"data\":{\"greeting\":\"go away\"}}'");
    assert!(
        !ok && text.contains("data.greeting: \"welcome\" → \"go away\""),
        "{text}"
    );
    // What gets in is told of.
    cluster.ok("alice patch deployment web --subresource=status --type=merge -p \
         '{\"metadata\":{\"annotations\":{\"shop.example/owner\":\"me\"}}}'");
    cluster.eventually(
        "it is told",
        &told(
            "DriftNotReverted",
            "it cannot be put back before its source can be read",
        ),
    );

    let _server = git.server.restart();
    cluster
        .ok("kubectl -n flux-system annotate --overwrite gitrepository guard-shop reconcile.fluxcd.io/requestedAt=now");
    cluster.eventually("everything is put back once Git is there", AS_GIT_SAYS);
    cluster.eventually(
        "this too",
        "[[ $(kubectl get deployment/web -o 'jsonpath={.metadata.annotations.shop\\.example/owner}') == team-web ]]",
    );
    drop(weir);
    clean(&cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_cannot_be_applied_does_not_keep_what_was_changed_while_weir_was_down() {
    a_broken_commit(None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_more_than_its_commit_is_taken_from_its_archive() {
    a_broken_commit(Some("{\"spec\":{\"sparseCheckout\":[\"shop\"]}}")).await;
}

/// `source` is a patch of the GitRepository.
async fn a_broken_commit(source: Option<&str>) {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    let git = Git::new(&[("shop/shop.yaml", &data("shop.yaml"))]);
    let storage = tempfile::tempdir().unwrap();
    let weir = applied(&cluster, &git, storage.path());
    if let Some(patch) = source {
        cluster.ok(&format!(
            "kubectl -n flux-system patch gitrepository guard-shop --type=merge -p '{patch}'"
        ));
        cluster.eventually(
            "the source is made of what is asked for",
            "[[ $(kubectl -n flux-system get gitrepository guard-shop \
             -o 'jsonpath={.status.observedGeneration} {.status.observedSparseCheckout}') == '2 [\"shop\"]' ]]",
        );
    }
    git.repo.commit(&[("shop/broken.yaml", "kind: {")], "Break it");
    cluster.ok(
        "kubectl -n flux-system annotate --overwrite gitrepository guard-shop reconcile.fluxcd.io/requestedAt=broken",
    );
    let broken = "[[ $(kubectl -n flux-system get kustomization guard-shop \
                  -o 'jsonpath={.status.conditions[?(@.type==\"Ready\")].reason}') == BuildFailed ]]";
    cluster.eventually("the commit does not build", broken);
    drop(weir);
    cluster.ok(EDITS);
    let weir = start(&cluster, storage.path());
    cluster.eventually("the revision before is applied once more", AS_GIT_SAYS);
    cluster.eventually("it is told", &told("DriftReverted", "which was applied last:"));
    cluster.ok(broken);
    // The book is filled, so what gets in is put back at once.
    is_put_back(&cluster);
    drop(weir);
    clean(&cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_outlasts_a_restart_and_what_was_changed_in_it_is_put_back_when_it_ends() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    let git = Git::new(&[("shop/shop.yaml", &data("shop.yaml"))]);
    let storage = tempfile::tempdir().unwrap();
    let weir = applied(&cluster, &git, storage.path());
    cluster.ok("weir freeze --for 30m 'incident 42'");
    cluster.ok(EDITS);
    drop(weir);
    let weir = start(&cluster, storage.path());
    cluster.ok(
        "kubectl -n flux-system annotate --overwrite kustomization guard-shop reconcile.fluxcd.io/requestedAt=frozen",
    );
    cluster.eventually(
        "it is reconciled",
        "[[ $(kubectl -n flux-system get kustomization guard-shop -o 'jsonpath={.status.lastHandledReconcileAt}') == frozen ]]",
    );
    cluster.ok(
        "[[ $(kubectl get deployment/web -o 'jsonpath={.spec.replicas}') == 7 ]]\n\
         [[ $(kubectl get configmap/settings -o 'jsonpath={.data.colour}') == red ]]\n\
         [[ -z $(kubectl get --ignore-not-found service/web -o name) ]]",
    );
    cluster.ok("weir unfreeze");
    cluster.eventually("it is put back when the freeze ends", AS_GIT_SAYS);
    drop(weir);
    clean(&cluster);
}
