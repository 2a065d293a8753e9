//! The real control plane that `hack/test` provides: clients for its users, CRDs, and waiting for what should happen.
//!
//! Guarantees: nothing is waited for without a deadline, and when it passes the message says what was seen last.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of test binaries, each of which uses its part"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use kube::api::{ApiResource, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use weir::cluster::client::{ClientOptions, connect};

/// Longest wait for what takes moments; generous, because a loaded machine is slow.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How often to look.
const LOOK: Duration = Duration::from_millis(50);
/// Field manager of what a test writes.
const MANAGER: &str = "test";

/// A control plane, seen as one of its users.
#[derive(Clone)]
pub struct Cluster {
    pub client: Client,
    pub kubeconfig: PathBuf,
}

/// The control plane as its administrator, with Weir's CRDs; `None`, said on standard error, when there is none.
pub async fn cluster() -> Option<Cluster> {
    static CRDS: OnceCell<()> = OnceCell::const_new();
    let Some(kubeconfig) = std::env::var_os("WEIR_TEST_KUBECONFIG").map(PathBuf::from) else {
        eprintln!("skipped: WEIR_TEST_KUBECONFIG is not set; hack/test starts a control plane and sets it");
        return None;
    };
    let cluster = Cluster::with(kubeconfig).await;
    CRDS.get_or_init(|| cluster.install_crds()).await;
    Some(cluster)
}

/// The same as alice, who is an ordinary user to admission and may do everything.
pub async fn alice() -> Cluster {
    let kubeconfig = std::env::var_os("WEIR_TEST_ALICE_KUBECONFIG").expect("hack/cluster env sets it");
    Cluster::with(kubeconfig.into()).await
}

impl Cluster {
    async fn with(kubeconfig: PathBuf) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let options = ClientOptions {
            kubeconfig: Some(kubeconfig.clone()),
        };
        let client = connect(&options).await.unwrap();
        Self { client, kubeconfig }
    }

    /// The same, in the name of somebody whom this user may impersonate.
    pub async fn in_the_name_of(&self, user: &str) -> Self {
        let mut config = kube::config::Kubeconfig::read_from(&self.kubeconfig).unwrap();
        for named in &mut config.auth_infos {
            named.auth_info.get_or_insert_default().impersonate = Some(user.to_owned());
        }
        let config = kube::Config::from_custom_kubeconfig(config, &Default::default()).await;
        Self {
            client: Client::try_from(config.unwrap()).unwrap(),
            kubeconfig: self.kubeconfig.clone(),
        }
    }

    async fn install_crds(&self) {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests/crds");
        for entry in std::fs::read_dir(directory).unwrap() {
            let file = entry.unwrap().path();
            let object: Value = serde_saphyr::from_str(&std::fs::read_to_string(&file).unwrap()).unwrap();
            if object["kind"] == "CustomResourceDefinition" {
                self.apply("", object.clone()).await;
                let name = object["metadata"]["name"].as_str().unwrap();
                let crd = "apiextensions.k8s.io/v1/CustomResourceDefinition";
                eventually(&format!("{name} is served"), async || {
                    let crd = self.get(crd, "", name).await.unwrap_or_default();
                    has_condition(&crd, "Established", "True", "")
                })
                .await;
            }
        }
    }

    /// `kind` is `v1/ConfigMap` or `apps/v1/Deployment`; an empty namespace means the whole cluster.
    pub fn api(&self, kind: &str, namespace: &str) -> Api<DynamicObject> {
        let (version, kind) = kind.rsplit_once('/').unwrap();
        let (group, version) = version.split_once('/').unwrap_or(("", version));
        let gvk = GroupVersionKind::gvk(group, version, kind);
        let resource = if group == "constraints.gatekeeper.sh" {
            ApiResource::from_gvk_with_plural(&gvk, &kind.to_lowercase())
        } else {
            ApiResource::from_gvk(&gvk)
        };
        if namespace.is_empty() {
            Api::all_with(self.client.clone(), &resource)
        } else {
            Api::namespaced_with(self.client.clone(), namespace, &resource)
        }
    }

    /// Makes an object, or makes it so.
    pub async fn apply(&self, namespace: &str, object: Value) {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap();
        let (kind, name) = (
            format!("{}/{}", text("/apiVersion"), text("/kind")),
            text("/metadata/name"),
        );
        let (api, parameters) = (self.api(&kind, namespace), PatchParams::apply(MANAGER).force());
        let applied = api.patch(name, &parameters, &Patch::Apply(&object)).await;
        applied.unwrap_or_else(|error| panic!("{object}: {error}"));
    }

    /// An object as it is, or `None`; also while the API server is away.
    pub async fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let found = self.api(kind, namespace).get_opt(name).await.ok()??;
        serde_json::to_value(found).ok()
    }

    /// Changes part of an object.
    pub async fn merge(&self, kind: &str, namespace: &str, name: &str, patch: Value) -> Result<(), kube::Error> {
        let patch = Patch::Merge(patch);
        let parameters = PatchParams::default();
        let patched = self.api(kind, namespace).patch(name, &parameters, &patch).await;
        patched.map(|_| ())
    }

    /// Deletes an object.
    pub async fn delete(&self, kind: &str, namespace: &str, name: &str) {
        let parameters = kube::api::DeleteParams::default();
        match self.api(kind, namespace).delete(name, &parameters).await {
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            other => drop(other.unwrap()),
        }
    }

    /// Makes a namespace.
    pub async fn namespace(&self, name: &str) {
        self.apply(
            "",
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await;
    }

    /// Events about an object: type, reason, message.
    pub async fn events(&self, namespace: &str, kind: &str, name: &str) -> Vec<(String, String, String)> {
        let selector = format!("involvedObject.kind={kind},involvedObject.name={name}");
        let events = self.api("v1/Event", namespace);
        let Ok(found) = events.list(&ListParams::default().fields(&selector)).await else {
            return Vec::new();
        };
        let text = |event: &DynamicObject, field: &str| event.data[field].as_str().unwrap_or_default().to_owned();
        let read = |event: &DynamicObject| (text(event, "type"), text(event, "reason"), text(event, "message"));
        found.items.iter().map(read).collect()
    }
}

/// Waits until `look` finds what it looks for; its error says what it saw instead.
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    within(PATIENCE, what, look).await
}

/// As `eventually`, for what must not take longer than so much.
pub async fn within<T>(patience: Duration, what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(seen) if Instant::now() >= deadline => {
                panic!("not within {} s: {what}; seen last: {seen}", patience.as_secs())
            }
            Err(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// A condition of an object: status, reason, message.
pub fn condition<'a>(object: &'a Value, kind: &str) -> Option<(&'a str, &'a str, &'a str)> {
    let conditions = object["status"]["conditions"].as_array()?;
    let found = conditions.iter().find(|condition| condition["type"] == kind)?;
    let text = |field: &str| found[field].as_str().unwrap_or_default();
    Some((text("status"), text("reason"), text("message")))
}

/// The message of a condition that has this status and, if not empty, this reason; else the whole status.
pub fn has_condition(object: &Value, kind: &str, status: &str, reason: &str) -> Result<String, String> {
    match condition(object, kind) {
        Some((is, because, message)) if is == status && (reason.is_empty() || because == reason) => {
            Ok(message.to_owned())
        }
        _ => Err(object["status"].to_string()),
    }
}

/// Runs `hack/cluster COMMAND` on the control plane of the tests.
pub fn hack_cluster(command: &str) {
    let directory = std::env::var_os("WEIR_CLUSTER_DIR").expect("hack/cluster env sets it");
    let output = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/cluster"))
        .args([command, "--dir"])
        .arg(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "hack/cluster {command}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
