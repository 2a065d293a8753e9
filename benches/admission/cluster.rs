//! What both subjects find in the control plane: CRDs, namespaces, templates, constraints.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::library::PolicyLibrary;
use super::sample::namespace;

/// How long a CRD may take to be made and established.
const PATIENCE: &str = "--timeout=120s";
/// Where Gatekeeper says that it runs.
pub(crate) const GATEKEEPER: &str = "gatekeeper-system";
/// The Pod that it says it is, which owns what it writes: without one it never gets ready.
pub(crate) const GATEKEEPER_POD: &str = "gatekeeper-bench";

/// Puts everything there but the constraints, whose CRDs somebody has to make of the templates.
pub(crate) fn prepare(crds: &Path, library: &PolicyLibrary) {
    kubectl(
        &[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            crds.to_str().unwrap(),
        ],
        None,
    );
    kubectl(
        &[
            "wait",
            "--for=condition=Established",
            PATIENCE,
            "crd/constrainttemplates.templates.gatekeeper.sh",
        ],
        None,
    );
    let names = library.objects.iter().filter_map(|(_, object)| namespace(object));
    let names: BTreeSet<&str> = names.chain([GATEKEEPER]).collect();
    apply(
        names
            .into_iter()
            .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})),
    );
    apply(library.templates.iter().cloned());
    // No scheduler has this name, so nothing ever runs in it.
    let containers = json!([{"name": "manager", "image": "gatekeeper.example/gatekeeper"}]);
    apply(std::iter::once(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": GATEKEEPER_POD, "namespace": GATEKEEPER},
        "spec": {"schedulerName": "none", "automountServiceAccountToken": false, "containers": containers}})));
}

/// Puts the constraints there, as soon as that can be done.
pub(crate) fn constrain(library: &PolicyLibrary) {
    for constraint in &library.constraints {
        let kind = constraint["kind"].as_str().unwrap().to_lowercase();
        let crd = format!("crd/{kind}.constraints.gatekeeper.sh");
        kubectl(&["wait", "--for=create", PATIENCE, &crd], None);
        kubectl(&["wait", "--for=condition=Established", PATIENCE, &crd], None);
    }
    apply(library.constraints.iter().cloned());
}

fn apply(objects: impl Iterator<Item = Value>) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects.collect::<Vec<_>>()});
    kubectl(
        &["apply", "--server-side", "--force-conflicts", "-f", "-"],
        Some(list.to_string()),
    );
}

fn kubectl(arguments: &[&str], input: Option<String>) {
    let mut child = Command::new("kubectl")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.unwrap_or_default().as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success(), "kubectl {arguments:?}");
}
