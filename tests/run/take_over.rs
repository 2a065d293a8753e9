//! What kubectl and other managers wrote on objects of Git becomes Weir's, with the real kubectl.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cluster::eventually;
use crate::world::{CONFIG_MAP, DEPLOYMENT, KUSTOMIZATION, Setup, World, config_map, deployment};

/// A manifest with `theirs` beside what Git declares.
fn with_more(name: &str) -> String {
    format!("{}  theirs: stays or goes\n", config_map(name, "two"))
}

/// Runs kubectl in the namespace of the world.
fn kubectl(world: &World, arguments: &[&str], input: &str) {
    let mut child = Command::new("kubectl")
        .args(["--kubeconfig", &world.cluster.kubeconfig.display().to_string()])
        .args(["--namespace", &world.namespace])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("kubectl is on PATH, as `hack/cluster env` sets it");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "kubectl {arguments:?}");
}

/// Asks for a reconciliation and waits until it is done.
async fn reconcile(world: &World, name: &str, token: &str) {
    let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": token}}});
    world.merge(KUSTOMIZATION, name, asked).await;
    eventually(&format!("{name} has handled {token}"), async || {
        let found = world.get(KUSTOMIZATION, name).await.unwrap_or_default();
        let handled = found["status"]["lastHandledReconcileAt"] == token;
        let ready = crate::cluster::has_condition(&found, "Ready", "True", "");
        if handled {
            ready.map(drop)
        } else {
            Err(found["status"].to_string())
        }
    })
    .await;
}

/// Who manages the object itself, as `manager/operation`.
fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap().iter();
    let own = entries.filter(|entry| entry["subresource"].is_null());
    let shown = own.map(|entry| {
        format!(
            "{}/{}",
            entry["manager"].as_str().unwrap(),
            entry["operation"].as_str().unwrap()
        )
    });
    shown.collect()
}

async fn live(world: &World, name: &str) -> Value {
    world.get(CONFIG_MAP, name).await.unwrap()
}

#[tokio::test]
async fn what_kubectl_wrote_goes_and_what_others_wrote_stays() {
    let Some(setup) = Setup::new("takeover").await else {
        return;
    };
    let world = setup
        .with_arguments(&["--override-manager=terraform,other-tool"])
        .start()
        .await;
    let names = ["client", "server", "patched", "overridden", "foreign", "merged"];
    let merge = "  annotations: {kustomize.toolkit.fluxcd.io/ssa: Merge}\n";
    let mut files: Vec<(String, String)> = names
        .iter()
        .map(|name| (format!("app/{name}.yaml"), config_map(name, "one")))
        .collect();
    files[5].1 = files[5].1.replace("\ndata:\n", &format!("\n{merge}data:\n"));
    files.push(("app/web.yaml".to_owned(), deployment("web", "1", "")));
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    // One was there before Git knew of it.
    kubectl(&world, &["apply", "-f", "-"], &with_more("client"));
    let noted = live(&world, "client").await;
    let last_applied = "kubectl.kubernetes.io/last-applied-configuration";
    assert!(noted["metadata"]["annotations"][last_applied].is_string());

    let commit = world.commit(&files);
    world.source(json!({})).await;
    world.kustomization("app", json!({"path": "./app"})).await;
    world.ready("app", &commit).await;
    let taken = live(&world, "client").await;
    assert_eq!(taken["data"], json!({"value": "one"}));
    assert_eq!(managers(&taken), ["kustomize-controller/Apply"]);
    assert!(taken["metadata"]["annotations"][last_applied].is_null());

    let apply = |name: &str, manager: &str| {
        let manager = format!("--field-manager={manager}");
        let arguments = ["apply", "--server-side", "--force-conflicts", &manager, "-f", "-"];
        kubectl(&world, &arguments, &with_more(name));
    };
    apply("server", "kubectl");
    apply("overridden", "terraform");
    apply("foreign", "operator");
    apply("merged", "kubectl");
    let patch = r#"{"data": {"theirs": "by hand"}}"#;
    kubectl(
        &world,
        &["patch", "configmap", "patched", "--type=merge", "-p", patch],
        "",
    );
    kubectl(&world, &["scale", "deployment", "web", "--replicas=3"], "");
    reconcile(&world, "app", "first").await;

    for name in ["server", "patched", "overridden"] {
        let taken = live(&world, name).await;
        assert_eq!(taken["data"], json!({"value": "one"}), "{name}");
        assert_eq!(managers(&taken), ["kustomize-controller/Apply"], "{name}");
    }
    for name in ["foreign", "merged"] {
        let kept = live(&world, name).await;
        assert_eq!(
            kept["data"],
            json!({"value": "one", "theirs": "stays or goes"}),
            "{name}"
        );
        assert_eq!(managers(&kept).len(), 2, "{name}");
    }
    let web = world.get(DEPLOYMENT, "web").await.unwrap();
    assert_eq!(web["spec"]["replicas"], 1);

    // Where nothing is to be taken nothing is written.
    let versions = async || {
        let mut all = Vec::new();
        for name in names {
            all.push(live(&world, name).await["metadata"]["resourceVersion"].clone());
        }
        all
    };
    let before = versions().await;
    reconcile(&world, "app", "second").await;
    assert_eq!(before, versions().await);
}
