//! Two replicas: what the one decides that does not lead is what the leader decides.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};

use crate::ONE_AT_A_TIME;
use crate::stand::{Cluster, Git, Manner, Weir, clean, data, deploys, free_port, is_ready};

/// Stands where the API server calls the webhook, and leads to the replica of one's choice.
struct Switch {
    port: u16,
    target: Arc<AtomicU16>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Switch {
    fn new() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let switch = Self {
            port: listener.local_addr().unwrap().port(),
            target: Arc::default(),
            open: Arc::default(),
        };
        let (target, open) = (Arc::clone(&switch.target), Arc::clone(&switch.open));
        std::thread::spawn(move || {
            for incoming in listener.incoming() {
                let (Ok(near), Ok(far)) = (
                    incoming,
                    TcpStream::connect(("127.0.0.1", target.load(Ordering::SeqCst))),
                ) else {
                    continue;
                };
                let mut open = open.lock().unwrap();
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let (mut from, mut to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    std::thread::spawn(move || {
                        let mut buffer = [0; 16384];
                        while let Ok(count @ 1..) = from.read(&mut buffer) {
                            if to.write_all(&buffer[..count]).is_err() {
                                break;
                            }
                        }
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                open.push(near);
                open.push(far);
            }
        });
        switch
    }

    /// From now on requests go to this port; connections that are open are cut.
    fn lead_to(&self, port: u16) {
        self.target.store(port, Ordering::SeqCst);
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// What both are asked. None of them leaves a trace that changes the answer to the same one again.
const ASKED: &[&str] = &[
    "alice scale deployment/web --replicas=5",
    "alice scale deployment/web --replicas=2",
    "alice patch configmap settings --type=merge -p '{\"data\":{\"colour\":\"red\"}}'",
    "alice patch configmap settings --type=merge -p '{\"data\":{\"mine\":\"1\"}}'",
    "alice patch secret keys --type=merge -p '{\"stringData\":{\"password\":\"battery\"}}'",
    "alice annotate --overwrite deployment web note=mine",
    "alice annotate deployment web kustomize.toolkit.fluxcd.io/reconcile=disabled",
    "alice label configmap settings kustomize.toolkit.fluxcd.io/name-",
    "alice set image deployment/web web=registry.example/web:9",
    "alice delete deployment web",
    "alice delete configmap settings --dry-run=server",
    "alice delete namespace guard-shop",
    "url=/apis/autoscaling/v1/namespaces/guard-shop/horizontalpodautoscalers/scaled\n\
     kubectl get --raw $url | sed 's/\"maxReplicas\":5/\"maxReplicas\":50/' >/tmp/weir-guard-v1.json\n\
     alice replace --raw $url -f /tmp/weir-guard-v1.json",
    "alice patch configmap settings --type=json -p '[{\"op\":\"replace\",\"path\":\"/metadata/managedFields\",\"value\":[{}]}]'",
    "alice patch configmap hands-off --type=merge -p '{\"data\":{\"first\":\"mine\"}}'",
    "alice patch role reader --type=json -p '[{\"op\":\"replace\",\"path\":\"/rules/0/verbs\",\"value\":[\"*\"]}]'",
];

/// An answer without what only the process knows that has read Git: the file of the object.
fn comparable(text: &str) -> String {
    let known_to_all = |line: &&str| {
        let line = line.trim_start();
        !["file:", "path:", "To change it,", "To delete it,"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    // Whether kubectl found something to change is no verdict.
    let lines: Vec<&str> = text.lines().filter(known_to_all).collect();
    lines.join("\n").replace(" (no change)", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_does_not_lead_decides_as_the_leader_does() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    cluster.ok(
        "kubectl apply --server-side --force-conflicts -k manifests/overlays/local >/dev/null\n\
         kubectl -n flux-system delete lease --ignore-not-found weir-leader-election",
    );
    let (switch, ports) = (Switch::new(), [free_port(), free_port()]);
    let git = Git::new(&[("shop/shop.yaml", &data("shop.yaml"))]);
    let start = |port: u16| {
        let manner = Manner {
            hook: Some((port, switch.port)),
            arguments: &["--leader-elect"],
            ..Manner::default()
        };
        Weir::start_like(&cluster, &manner)
    };
    switch.lead_to(ports[0]);
    let leader = start(ports[0]);
    cluster.apply(&deploys("guard-shop", &git.url(), "./shop"));
    cluster.eventually("the shop is applied", &is_ready("guard-shop"));
    let standby = start(ports[1]);
    assert_eq!(leader.metrics("weir_leader"), ["weir_leader 1"]);
    assert_eq!(standby.metrics("weir_leader"), ["weir_leader 0"]);

    let ask = |port: usize, line: &str| {
        switch.lead_to(ports[port]);
        cluster.shell(line)
    };
    let mut refused = 0;
    for line in ASKED {
        let (one, other) = (ask(0, line), ask(1, line));
        assert_eq!(
            (one.0, comparable(&one.1)),
            (other.0, comparable(&other.1)),
            "the leader and the standby on: {line}"
        );
        refused += usize::from(!one.0);
    }
    assert!(refused >= 10, "{refused} of {} are refused", ASKED.len());
    let counted = |weir: &Weir| weir.metrics("weir_guard_denied_total").len();
    assert!(counted(&leader) > 0 && counted(&standby) > 0, "each of them was asked");

    // What an Exemption lets pass is noted by the one and left alone by the other.
    let exemption = "apiVersion: weir.dev/v1alpha1\nkind: Exemption\nmetadata: {name: incident, namespace: guard-shop}\n\
                     spec:\n  lift: [drift]\n  reason: the shop is down\n  minutes: 30\n  \
                     subjects: [{kind: User, name: alice}]\n  objects: [{apiGroup: apps, kinds: [Deployment]}]\n";
    cluster.apply(exemption);
    cluster.eventually(
        "it holds",
        "[[ $(kubectl get exemption incident -o 'jsonpath={.status.conditions[0].status}') == True ]]",
    );
    let (ok, text) = ask(1, "alice scale deployment/web --replicas=5");
    assert!(
        ok && text.contains("Exemption guard-shop/incident allows this"),
        "{text}"
    );
    cluster.ok("[[ $(kubectl get exemption incident -o 'jsonpath={.status.edits[0].user}') == alice ]]");
    cluster.ok("kubectl delete exemption incident");
    cluster.eventually(
        "the leader puts it back",
        "[[ $(kubectl get deployment web -o 'jsonpath={.spec.replicas}') == 2 ]]",
    );

    // A first edit that slips in, with nobody to put it back, does not open the field for a second one.
    leader.signal("STOP");
    switch.lead_to(ports[1]);
    let owner = "[[ $(kubectl get deployment web -o 'jsonpath={.metadata.annotations.shop\\.example/owner}') ==";
    cluster.ok("alice patch deployment web --subresource=status --type=merge -p \
         '{\"metadata\":{\"annotations\":{\"shop.example/owner\":\"me\"}}}'");
    cluster.ok(&format!("{owner} me ]]"));
    let (ok, text) = cluster.shell("alice annotate --overwrite deployment web shop.example/owner=you");
    assert!(
        !ok && text.contains("metadata.annotations[\"shop.example/owner\"]: \"me\" → \"you\""),
        "{text}"
    );
    // Nor does a marker that slips in, by which nobody would put anything back.
    cluster.ok("alice patch deployment web --subresource=status --type=merge -p \
         '{\"metadata\":{\"annotations\":{\"kustomize.toolkit.fluxcd.io/reconcile\":\"disabled\"}}}'");
    let (ok, text) = cluster.shell("alice set image deployment/web web=registry.example/web:9");
    assert!(!ok && text.contains("registry.example/web:9"), "{text}");
    assert_eq!(
        standby.metrics("weir_leader"),
        ["weir_leader 0"],
        "all that was without a leader"
    );

    // When the lease is over it leads, and puts back what it has seen.
    cluster.eventually(
        "what slipped in is put back by the new leader",
        &format!("{owner} team-web ]]"),
    );
    cluster.eventually(
        "the marker is taken off",
        "[[ -z $(kubectl get deployment web -o 'jsonpath={.metadata.annotations.kustomize\\.toolkit\\.fluxcd\\.io/reconcile}') ]]",
    );
    assert_eq!(standby.metrics("weir_leader"), ["weir_leader 1"]);
    drop((leader, standby));
    clean(&cluster);
}
