//! What is refused at the door: requests of real clients and real controllers, each with its verdict.

use crate::stand::{Cluster, Git, Weir, clean, data, deploys, is_ready};
use crate::table::{Expect, ROWS};
use crate::{ONE_AT_A_TIME, helm};

/// What a refusal looks like whose parts are checked.
const REFUSED: &[&str] = &[
    "admission webhook \"guard.weir.dev\" denied the request",
    "admission webhook \"guard-scale.weir.dev\" denied the request",
    "admission webhook \"guard-strict.weir.dev\" denied the request",
    "admission webhook \"guard-status.weir.dev\" denied the request",
];
/// What must never be shown: the Secret's value, plain and encoded.
const SECRET: [&str; 2] = ["correct-horse", "Y29ycmVjdC1ob3JzZQ=="];

#[tokio::test(flavor = "multi_thread")]
async fn every_request_of_the_table_gets_its_verdict() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    let (shop, away) = (data("shop.yaml"), data("away.yaml"));
    cluster.ok("for name in guard-away guard-modes; do kubectl create namespace $name --dry-run=client -o yaml | kubectl apply -f -; done");
    let modes = data("modes.yaml");
    let git = Git::new(&[
        ("shop/shop.yaml", &shop),
        ("away/away.yaml", &away),
        ("modes/modes.yaml", &modes),
    ]);
    let weir = Weir::start(&cluster, true);
    for (name, path) in [
        ("guard-shop", "./shop"),
        ("guard-away", "./away"),
        ("guard-modes", "./modes"),
    ] {
        cluster.apply(&deploys(name, &git.url(), path));
    }
    for name in ["guard-shop", "guard-away", "guard-modes"] {
        cluster.eventually("it is applied", &is_ready(name));
    }
    let mut wrong = Vec::new();
    let helm = std::env::var_os("WEIR_HELM").map_or(&[][..], |_| helm::ROWS);
    if helm.is_empty() {
        eprintln!("without Helm: WEIR_HELM is not set");
    }
    let rows = ROWS.iter().chain(helm);
    for (number, (what, line, expect)) in rows.enumerate() {
        if let Err(error) = check(&cluster, line, expect) {
            wrong.push(format!("row {}: {what}\n  $ {line}\n  {error}", number + 1));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {} rows:\n{}",
        wrong.len(),
        ROWS.len() + helm.len(),
        wrong.join("\n\n")
    );
    eprintln!("{} requests, each with its verdict", ROWS.len() + helm.len());

    // After all of it the cluster is what Git says.
    for (file, text) in [("shop", &shop), ("away", &away)] {
        let path = std::env::temp_dir().join(format!("weir-guard-{}-{file}.yaml", std::process::id()));
        std::fs::write(&path, text).unwrap();
        let diff = format!(
            "kubectl diff --server-side --force-conflicts --field-manager=check -f {}",
            path.display()
        );
        cluster.eventually("the cluster is as Git says", &diff);
        std::fs::remove_file(path).unwrap();
    }
    let counted = weir.metrics("weir_guard_denied_total");
    assert!(
        counted
            .iter()
            .any(|line| line.contains("kind=\"Deployment\",manager=\"kubectl-edit\",user_class=\"person\"")),
        "{counted:?}"
    );
    drop(weir);
    clean(&cluster);
}

fn check(cluster: &Cluster, line: &str, expect: &Expect) -> Result<(), String> {
    let (ok, text) = cluster.shell(line);
    if let Some(value) = SECRET.iter().find(|value| text.contains(**value)) {
        return Err(format!("it shows the secret {value}: {text}"));
    }
    let refused = REFUSED.iter().any(|words| text.contains(words));
    let missing = |parts: &[&str]| {
        let missing: Vec<&str> = parts.iter().copied().filter(|part| !text.contains(part)).collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(format!("it does not say {missing:?}: {text}"))
        }
    };
    match expect {
        Expect::Denied(_) if ok || !refused => Err(format!("not refused by the guard: {text}")),
        Expect::Denied(parts) => missing(parts),
        Expect::Fails(part) if ok || refused => Err(format!("expected to fail with {part:?} before the guard: {text}")),
        Expect::Fails(part) => missing(&[part]),
        Expect::Allowed | Expect::Told(_) | Expect::Then(_) if !ok => Err(format!("not allowed: {text}")),
        Expect::Allowed => Ok(()),
        Expect::Told(parts) => missing(parts),
        Expect::Then(check) => {
            let began = std::time::Instant::now();
            loop {
                let (ok, text) = cluster.shell(check);
                if ok {
                    return Ok(());
                }
                if began.elapsed() > crate::stand::SOON {
                    return Err(format!("afterwards not so: {check}: {text}"));
                }
            }
        }
    }
}
