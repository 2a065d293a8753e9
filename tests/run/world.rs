//! What every test here has: a namespace, a repository on a Git server, and a Weir that looks after them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::cluster::{Cluster, cluster, eventually, has_condition};
use crate::git_server::{GitServer, Repo};
use crate::weir_process::Weir;

pub(crate) const KUSTOMIZATION: &str = "kustomize.toolkit.fluxcd.io/v1/Kustomization";
pub(crate) const REPOSITORY: &str = "source.toolkit.fluxcd.io/v1/GitRepository";
pub(crate) const CONFIG_MAP: &str = "v1/ConfigMap";
pub(crate) const DEPLOYMENT: &str = "apps/v1/Deployment";

/// By this label a Weir knows the objects of its test.
pub(crate) const LABEL: &str = "weir.test/world";
/// Everybody reads; who takes the control plane away writes.
static CONTROL_PLANE: RwLock<()> = RwLock::const_new(());

/// Names an event: type, reason, part of the message.
pub(crate) type Wanted<'a> = (&'a str, &'a str, &'a str);

/// One test's world. The process ends first, the directory last.
pub(crate) struct World {
    pub(crate) weir: Weir,
    pub(crate) cluster: Cluster,
    pub(crate) namespace: String,
    pub(crate) git: GitServer,
    pub(crate) repo: Repo,
    pub(crate) directory: TempDir,
    pub(crate) arguments: Vec<String>,
    _control_plane: Share,
}

#[allow(dead_code, reason = "held, not read")]
enum Share {
    Together(RwLockReadGuard<'static, ()>),
    Alone(RwLockWriteGuard<'static, ()>),
}

/// A world before its Weir is started.
pub(crate) struct Setup {
    pub(crate) cluster: Cluster,
    pub(crate) namespace: String,
    pub(crate) directory: TempDir,
    renderer: PathBuf,
    arguments: Vec<String>,
    control_plane: Share,
}

impl World {
    /// A world with an ordinary Weir; `None` when there is no control plane.
    pub(crate) async fn start(name: &str) -> Option<Self> {
        Some(Setup::new(name).await?.start().await)
    }

    /// Starts a Weir with the arguments of this one: after it, or beside it with a storage of its own.
    pub(crate) async fn another_weir(&self, storage: &Path) -> Weir {
        Weir::start(storage, &self.cluster.kubeconfig, &self.arguments).await
    }

    /// Commits files; gives the commit.
    pub(crate) fn commit(&self, files: &[(&str, &str)]) -> String {
        self.repo.commit(
            files,
            &format!("Change {}", files.first().map_or("nothing", |(path, _)| path)),
        )
    }

    /// Makes the GitRepository `app`, with more or other fields in its spec.
    pub(crate) async fn source(&self, extra: Value) {
        self.repository("app", extra).await;
    }

    /// Makes a GitRepository.
    pub(crate) async fn repository(&self, name: &str, extra: Value) {
        let spec = json!({"interval": "1s", "timeout": "20s", "url": self.git.url("app"), "ref": {"branch": "main"}});
        self.declare(REPOSITORY, name, spec, extra).await;
    }

    /// Makes a Kustomization on it, with more or other fields in its spec.
    pub(crate) async fn kustomization(&self, name: &str, extra: Value) {
        let spec = json!({"interval": "10m", "retryInterval": "2s", "path": "./", "prune": true,
            "targetNamespace": self.namespace, "sourceRef": {"kind": "GitRepository", "name": "app"}});
        self.declare(KUSTOMIZATION, name, spec, extra).await;
    }

    /// Makes an object that the Weir of this test sees.
    pub(crate) async fn make(&self, kind: &str, name: &str, spec: Value) {
        self.declare(kind, name, spec, json!({})).await;
    }

    async fn declare(&self, kind: &str, name: &str, mut spec: Value, extra: Value) {
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        let (version, kind) = kind.rsplit_once('/').unwrap();
        let metadata = json!({"name": name, "namespace": self.namespace, "labels": {LABEL: self.namespace}});
        let object = json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec});
        self.cluster.apply(&self.namespace, object).await;
    }

    /// An object in this namespace.
    pub(crate) async fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.cluster.get(kind, &self.namespace, name).await
    }

    /// The data of a ConfigMap, which must exist.
    pub(crate) async fn data(&self, name: &str) -> Value {
        let found = self.get(CONFIG_MAP, name).await;
        found.unwrap_or_else(|| panic!("there is no ConfigMap {name}"))["data"].clone()
    }

    /// Changes part of an object in this namespace.
    pub(crate) async fn merge(&self, kind: &str, name: &str, patch: Value) {
        self.cluster.merge(kind, &self.namespace, name, patch).await.unwrap();
    }

    /// Waits until a Kustomization has applied a commit and is ready; gives it.
    pub(crate) async fn ready(&self, name: &str, commit: &str) -> Value {
        let revision = format!("main@sha1:{commit}");
        eventually(&format!("{name} is ready at {revision}"), async || {
            let found = self.get(KUSTOMIZATION, name).await.unwrap_or_default();
            let message = has_condition(&found, "Ready", "True", "ReconciliationSucceeded")?;
            let status = &found["status"];
            let settled = status["observedGeneration"] == found["metadata"]["generation"];
            if status["lastAppliedRevision"] != revision.as_str() || !settled {
                return Err(found["status"].to_string());
            }
            assert_eq!(message, format!("Applied revision: {revision}"));
            Ok(found)
        })
        .await
    }

    /// Waits until a Kustomization says that it is not ready for this reason; gives it and the message.
    pub(crate) async fn not_ready(&self, name: &str, reason: &str) -> (Value, String) {
        self.fails(KUSTOMIZATION, name, reason).await
    }

    /// Waits until an object says that it is not ready for this reason; gives it and the message.
    pub(crate) async fn fails(&self, kind: &str, name: &str, reason: &str) -> (Value, String) {
        eventually(&format!("{name} is not ready: {reason}"), async || {
            let found = self.get(kind, name).await.unwrap_or_default();
            let message = has_condition(&found, "Ready", "False", reason)?;
            Ok((found, message))
        })
        .await
    }

    /// Waits for an event about an object; gives its message.
    pub(crate) async fn event(&self, kind: &str, name: &str, (severity, reason, part): Wanted<'_>) -> String {
        let kind = kind.rsplit('/').next().unwrap();
        eventually(
            &format!("event {reason} with {part:?} about {kind} {name}"),
            async || {
                let events = self.cluster.events(&self.namespace, kind, name).await;
                let found = events
                    .iter()
                    .find(|(is, because, text)| is == severity && because == reason && text.contains(part));
                found.map(|(_, _, text)| text.clone()).ok_or(format!("{events:?}"))
            },
        )
        .await
    }

    /// Waits until an object is gone.
    pub(crate) async fn gone(&self, kind: &str, name: &str) {
        let api = self.cluster.api(kind, &self.namespace);
        eventually(&format!("{kind} {name} is gone"), async || {
            match api.get_opt(name).await {
                Ok(None) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
    }
}

impl Setup {
    /// A namespace and a directory; `None` when there is no control plane.
    pub(crate) async fn new(name: &str) -> Option<Self> {
        let cluster = cluster().await?;
        let control_plane = Share::Together(CONTROL_PLANE.read().await);
        Some(Self::with(name, cluster, control_plane).await)
    }

    /// The same, and no other test uses the control plane meanwhile.
    pub(crate) async fn alone(name: &str) -> Option<Self> {
        let cluster = cluster().await?;
        let control_plane = Share::Alone(CONTROL_PLANE.write().await);
        Some(Self::with(name, cluster, control_plane).await)
    }

    async fn with(name: &str, cluster: Cluster, control_plane: Share) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let (process, count) = (std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let namespace = format!("run-{name}-{process}-{count}");
        cluster.namespace(&namespace).await;
        Self {
            cluster,
            directory: tempfile::tempdir().unwrap(),
            renderer: renderer(),
            arguments: vec![format!("--watch-label-selector={LABEL}={namespace}")],
            namespace,
            control_plane,
        }
    }

    /// Adds arguments of `weir run`.
    pub(crate) fn with_arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&one| one.to_owned()));
        self
    }

    /// Gives Weir a directory of policies with these files.
    pub(crate) fn with_policies(self, files: &[(&str, &str)]) -> Self {
        let directory = self.directory.path().join("policies");
        std::fs::create_dir_all(&directory).unwrap();
        for (name, text) in files {
            std::fs::write(directory.join(name), text).unwrap();
        }
        self.with_arguments(&[&format!("--policy-dir={}", directory.display())])
    }

    /// Uses another render worker.
    pub(crate) fn with_renderer(mut self, program: &Path) -> Self {
        self.renderer = program.to_owned();
        self
    }

    /// Starts everything.
    pub(crate) async fn start(mut self) -> World {
        let served = self.directory.path().join("served");
        let repo = Repo::new(&served, "app");
        self.arguments.push(format!("--runtime-namespace={}", self.namespace));
        self.arguments.push(format!("--renderer={}", self.renderer.display()));
        if !self.arguments.iter().any(|one| one.starts_with("--webhook-url")) {
            self.arguments.push("--webhook=false".to_owned());
        }
        World {
            weir: Weir::start(self.directory.path(), &self.cluster.kubeconfig, &self.arguments).await,
            git: GitServer::start(&served),
            repo,
            cluster: self.cluster,
            namespace: self.namespace,
            directory: self.directory,
            arguments: self.arguments,
            _control_plane: self.control_plane,
        }
    }
}

/// The real render worker.
pub(crate) fn renderer() -> PathBuf {
    let named =
        std::env::var_os("WEIR_RENDERER").expect("WEIR_RENDERER is not set; export it as `hack/tool renderer` says");
    PathBuf::from(named)
}

/// A manifest of a ConfigMap.
pub(crate) fn config_map(name: &str, value: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {name}\ndata:\n  value: {value:?}\n")
}

/// A manifest of a Deployment, with lines for the annotations of its pods.
pub(crate) fn deployment(name: &str, replicas: &str, annotations: &str) -> String {
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: {name}\nspec:\n  replicas: {replicas}\n  \
         selector:\n    matchLabels: {{app: {name}}}\n  template:\n    metadata:\n      labels: {{app: {name}}}\n      \
         annotations: {{{annotations}}}\n    spec:\n      containers:\n      - name: main\n        \
         image: registry.example/{name}:1.0.0\n"
    )
}
