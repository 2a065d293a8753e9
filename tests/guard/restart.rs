//! What is changed while no Weir runs is put back by the next one as soon as it has started.

use std::time::Instant;

use crate::ONE_AT_A_TIME;
use crate::stand::{Cluster, Git, Weir, clean, data, deploys, is_ready};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_marked_to_be_left_alone_while_weir_was_down_is_not() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    let git = Git::new(&[("shop/shop.yaml", &data("shop.yaml"))]);
    let weir = Weir::start(&cluster, true);
    cluster.apply(&deploys("guard-shop", &git.url(), "./shop"));
    cluster.eventually("the shop is applied", &is_ready("guard-shop"));
    drop(weir);
    // The webhook is still registered and fails open.
    cluster.ok(
        "alice annotate configmap/settings kustomize.toolkit.fluxcd.io/reconcile=disabled\n\
         alice patch configmap settings --field-manager=hand --type=merge -p '{\"data\":{\"colour\":\"red\"}}'",
    );
    let weir = Weir::start(&cluster, true);
    cluster.eventually(
        "the marker is off and the value back",
        "[[ $(kubectl get configmap/settings -o \
         'jsonpath={.data.colour}{.metadata.annotations.kustomize\\.toolkit\\.fluxcd\\.io/reconcile}') == green ]]",
    );
    drop(weir);
    clean(&cluster);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_changed_while_weir_was_down_is_put_back_at_its_start() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    let git = Git::new(&[("shop/shop.yaml", &data("shop.yaml"))]);
    let weir = Weir::start(&cluster, false);
    cluster.apply(&deploys("guard-shop", &git.url(), "./shop"));
    cluster.eventually("the shop is applied", &is_ready("guard-shop"));
    drop(weir);
    // What somebody adds under kubectl's own names is taken over and taken away, as Flux does; under another it is theirs.
    cluster.ok("alice scale deployment/web --replicas=7\n\
         alice patch configmap settings --field-manager=hand --type=merge -p '{\"data\":{\"colour\":\"red\",\"mine\":\"1\"}}'\n\
         alice delete service web\n\
         alice label serviceaccount/web kustomize.toolkit.fluxcd.io/name-");
    let began = Instant::now();
    let weir = Weir::start(&cluster, false);
    let ready = began.elapsed();
    cluster.eventually(
        "everything is as Git says",
        "[[ $(kubectl get deployment/web -o 'jsonpath={.spec.replicas}') == 2 ]]\n\
         [[ $(kubectl get configmap/settings -o 'jsonpath={.data.colour}{.data.mine}') == green1 ]]\n\
         kubectl get service/web\n\
         [[ $(kubectl get serviceaccount/web -o 'jsonpath={.metadata.labels.kustomize\\.toolkit\\.fluxcd\\.io/name}') == guard-shop ]]",
    );
    eprintln!("ready after {ready:?}, as Git says after {:?}", began.elapsed());
    drop(weir);
    clean(&cluster);
}
