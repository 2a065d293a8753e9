//! The cluster's side of the benchmark: the bare client, Flux's objects, and watches that say when something is done.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::stream::{BoxStream, SelectAll};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

use super::repository;
use weir::api::kustomize::Kustomization;
use weir::api::source::GitRepository;

/// Requests in flight of the bare client: what one reconciler process may have with Weir's defaults.
const IN_FLIGHT: usize = 16;
/// Longest wait for anything; Flux needs 315 s for the slowest of these steps.
const PATIENCE: Duration = Duration::from_secs(600);

/// A namespace of its own for one run.
pub(crate) struct Cluster {
    client: Client,
    count: usize,
    /// Where all objects of the run live.
    pub(crate) namespace: String,
}

impl Cluster {
    /// Connects as somebody who is not Weir, and makes the namespace.
    pub(crate) async fn connect(count: usize) -> Self {
        let path = std::env::var_os("WEIR_TEST_KUBECONFIG").expect("run this through hack/bench");
        let kubeconfig = Kubeconfig::read_from(path).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        let cluster = Self {
            client: Client::try_from(config).unwrap(),
            count,
            namespace: format!("bench-{count}"),
        };
        cluster.make_namespace(&cluster.namespace).await;
        cluster
    }

    /// Applies all objects without Weir, into a namespace that is deleted again.
    pub(crate) async fn apply_bare(&self) -> Duration {
        let namespace = format!("bare-{}", self.count);
        self.make_namespace(&namespace).await;
        let objects: Vec<DynamicObject> = (0..self.count)
            .flat_map(repository::objects)
            .map(|text| serde_saphyr::from_str::<DynamicObject>(&text).unwrap())
            .collect();
        let start = Instant::now();
        stream::iter(objects)
            .map(|object| {
                let (client, namespace) = (self.client.clone(), namespace.clone());
                async move {
                    let types = object.types.clone().unwrap();
                    let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
                    let kind = ApiResource::from_gvk(&kube::core::GroupVersionKind::gvk(group, version, &types.kind));
                    let api: Api<DynamicObject> = Api::namespaced_with(client, &namespace, &kind);
                    let params = PatchParams::apply("bench").force();
                    api.patch(&object.name_any(), &params, &Patch::Apply(&object)).await
                }
            })
            .buffer_unordered(IN_FLIGHT)
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
        let took = start.elapsed();
        self.delete_namespace(&namespace).await;
        took
    }

    /// Creates the GitRepository and all Kustomizations, as `kubectl apply` of one file would.
    pub(crate) async fn declare(&self, url: &str) {
        let repositories: Api<GitRepository> = Api::namespaced(self.client.clone(), &self.namespace);
        let repository = json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository", "metadata": {"name": "bench"},
            "spec": {"url": url, "ref": {"branch": "main"}, "interval": "1h"}});
        self.apply(&repositories, repository).await;
        let kustomizations: Api<Kustomization> = Api::namespaced(self.client.clone(), &self.namespace);
        stream::iter(0..self.count)
            .for_each_concurrent(IN_FLIGHT, |number| {
                let name = repository::name(number);
                let spec = json!({"path": format!("./apps/{name}"), "prune": true, "interval": "1h",
                    "sourceRef": {"kind": "GitRepository", "name": "bench"}});
                let object = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
                    "metadata": {"name": name}, "spec": spec});
                self.apply(&kustomizations, object)
            })
            .await;
    }

    /// Asks for a fetch now, as `flux reconcile source git` does.
    pub(crate) async fn request_fetch(&self) {
        let api: Api<GitRepository> = Api::namespaced(self.client.clone(), &self.namespace);
        let now = jiff::Timestamp::now().to_string();
        let patch = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": now}}});
        api.patch("bench", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Watches Kustomizations and ConfigMaps from now on.
    pub(crate) async fn watch(&self) -> Watch {
        let kustomizations: Api<Kustomization> = Api::namespaced(self.client.clone(), &self.namespace);
        let configs: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut events = SelectAll::new();
        events.push(
            watcher(kustomizations, watcher::Config::default())
                .default_backoff()
                .applied_objects()
                .filter_map(|one| async { one.ok().as_ref().map(Seen::of_kustomization) })
                .boxed(),
        );
        events.push(
            watcher(configs, watcher::Config::default())
                .default_backoff()
                .applied_objects()
                .filter_map(|one| async { one.ok().as_ref().map(Seen::of_config) })
                .boxed(),
        );
        Watch {
            events,
            revisions: HashMap::new(),
            settings: HashMap::new(),
        }
    }

    /// Deletes what the run has made; Weir is gone by now, so finalizers are taken off.
    pub(crate) async fn clean(&self) {
        let kustomizations: Api<Kustomization> = Api::namespaced(self.client.clone(), &self.namespace);
        let repositories: Api<GitRepository> = Api::namespaced(self.client.clone(), &self.namespace);
        let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
        for number in 0..self.count {
            let name = repository::name(number);
            kustomizations
                .patch(&name, &PatchParams::default(), &free)
                .await
                .unwrap();
        }
        repositories
            .patch("bench", &PatchParams::default(), &free)
            .await
            .unwrap();
        self.delete_namespace(&self.namespace).await;
    }

    async fn apply<K>(&self, api: &Api<K>, object: Value)
    where
        K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
    {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        api.patch(&name, &PatchParams::apply("bench"), &Patch::Apply(object))
            .await
            .unwrap();
    }

    async fn make_namespace(&self, name: &str) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        self.apply(
            &api,
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}),
        )
        .await;
    }

    /// Waits until it is gone, so that its clean-up costs no later measurement.
    async fn delete_namespace(&self, name: &str) {
        let api: Api<Namespace> = Api::all(self.client.clone());
        api.delete(name, &DeleteParams::default()).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while api.get_opt(name).await.unwrap().is_some() {
            assert!(Instant::now() < deadline, "namespace {name} does not go away");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

/// What a watch event tells.
enum Seen {
    Kustomization { name: String, revision: Option<String> },
    Config { name: String, setting: Option<String> },
}

impl Seen {
    fn of_kustomization(object: &Kustomization) -> Self {
        let ready = object.status.as_ref().is_some_and(|status| {
            let found = status.conditions.iter().find(|condition| condition.type_ == "Ready");
            found.is_some_and(|condition| condition.status == "True")
        });
        let revision = object
            .status
            .as_ref()
            .and_then(|status| status.last_applied_revision.clone());
        Self::Kustomization {
            name: object.name_any(),
            revision: revision.filter(|_| ready),
        }
    }

    fn of_config(object: &ConfigMap) -> Self {
        let setting = object.data.as_ref().and_then(|data| data.get("setting").cloned());
        Self::Config {
            name: object.name_any(),
            setting,
        }
    }
}

/// What the watches have told so far.
pub(crate) struct Watch {
    events: SelectAll<BoxStream<'static, Seen>>,
    revisions: HashMap<String, Option<String>>,
    settings: HashMap<String, Option<String>>,
}

impl Watch {
    /// Waits until all Kustomizations are ready at a revision.
    pub(crate) async fn all_at(&mut self, revision: &str, count: usize) {
        let done = |watch: &Self| {
            let at = |one: &&Option<String>| one.as_deref() == Some(revision);
            watch.revisions.values().filter(at).count() == count
        };
        self.until(&format!("{count} Kustomizations at {revision}"), done).await;
    }

    /// Waits until a ConfigMap has the second commit's setting.
    pub(crate) async fn object_changed(&mut self, name: &str) {
        let done = |watch: &Self| {
            watch
                .settings
                .get(name)
                .is_some_and(|setting| setting.as_deref() == Some("second"))
        };
        self.until(&format!("ConfigMap {name} changed"), done).await;
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !done(self) {
            let seen = tokio::time::timeout_at(deadline, self.events.next()).await;
            match seen
                .unwrap_or_else(|_| panic!("not within {} s: {what}", PATIENCE.as_secs()))
                .unwrap()
            {
                Seen::Kustomization { name, revision } => drop(self.revisions.insert(name, revision)),
                Seen::Config { name, setting } => drop(self.settings.insert(name, setting)),
            }
        }
    }
}
