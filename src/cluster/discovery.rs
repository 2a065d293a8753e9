//! Which kinds the API server serves, under which resource names, and whether they live in namespaces.
//!
//! Flow: the first question reads the aggregated discovery documents (two requests, whatever the number of groups); later
//! questions are answered from memory without a lock. A kind that is not known there is looked for once more, at most
//! every `REFRESH_INTERVAL`, because a CRD may have been created; who creates one itself calls `invalidate`.
//!
//! Assumes an API server that answers aggregated discovery (Kubernetes 1.30 and later; Flux asks for 1.33).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use kube::Client;
use kube::api::{Api, ApiResource, DynamicObject};
use kube::core::discovery::v2::{APIGroupDiscovery, APIResourceDiscovery};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::client::explain;
use crate::core::object::Gvk;

/// How often a kind that is not known may cause a new look. An unknown kind in Git would otherwise cost two requests at
/// every attempt; a CRD is established in about this time.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);

/// How a kind is reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Resolved {
    /// Path elements for `Api`.
    pub resource: ApiResource,
    /// Whether its objects live in namespaces.
    pub namespaced: bool,
    /// Whether it can be listed and watched.
    pub watchable: bool,
}

impl Resolved {
    /// The kind.
    #[must_use]
    pub fn gvk(&self) -> Gvk {
        Gvk {
            group: self.resource.group.clone(),
            version: self.resource.version.clone(),
            kind: self.resource.kind.clone(),
        }
    }

    /// An `Api` for objects of the kind; the namespace counts only for kinds that live in one.
    #[must_use]
    pub fn api(&self, client: Client, namespace: &str) -> Api<DynamicObject> {
        if self.namespaced && !namespace.is_empty() {
            Api::namespaced_with(client, namespace, &self.resource)
        } else {
            Api::all_with(client, &self.resource)
        }
    }
}

/// Why a kind could not be resolved.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DiscoveryError {
    /// The API server does not serve it.
    #[error(
        "the API server does not serve kind {kind} in {version}; install its CustomResourceDefinition first or correct \
         apiVersion and kind",
        kind = .0.kind, version = .0.api_version()
    )]
    NotServed(Gvk),
    /// The API server could not be asked.
    #[error("cannot discover what the API server serves: {0}")]
    Unavailable(String),
}

/// A cache of what the API server serves. Clones share it.
#[derive(Clone)]
pub struct Discovery(Arc<Inner>);

struct Inner {
    client: Client,
    served: ArcSwapOption<Served>,
    /// When the API server was last asked; the lock also lets one caller ask for all who wait.
    asked: Mutex<Option<Instant>>,
}

/// Everything that was found, by every way to ask for it.
#[derive(Debug, Default)]
struct Served {
    by_kind: HashMap<Gvk, Resolved>,
    by_resource: HashMap<(String, String), Gvk>,
    preferred: HashMap<(String, String), Gvk>,
    by_name: HashMap<String, Vec<Gvk>>,
}

impl Discovery {
    /// Makes an empty cache.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(Arc::new(Inner {
            client,
            served: ArcSwapOption::empty(),
            asked: Mutex::new(None),
        }))
    }

    /// How a kind is reached.
    ///
    /// # Errors
    /// When it is not served or the API server cannot be asked.
    pub async fn resolve(&self, gvk: &Gvk) -> Result<Resolved, DiscoveryError> {
        self.lookup(|served| served.by_kind.get(gvk).cloned())
            .await?
            .ok_or_else(|| DiscoveryError::NotServed(gvk.clone()))
    }

    /// The kind of a resource such as `("apps", "deployments")`, in the version that the API server prefers.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn kind_of(&self, group: &str, resource: &str) -> Result<Option<Gvk>, DiscoveryError> {
        let key = (group.to_owned(), resource.to_owned());
        self.lookup(|served| served.by_resource.get(&key).cloned()).await
    }

    /// A kind in the version that the API server prefers.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn preferred(&self, group: &str, kind: &str) -> Result<Option<Gvk>, DiscoveryError> {
        let key = (group.to_owned(), kind.to_owned());
        self.lookup(|served| served.preferred.get(&key).cloned()).await
    }

    /// The kinds that people call by a name: kind, plural, singular or short name, in any case, and with `.group` behind it
    /// if they like, as kubectl takes them. Several groups may have one name; the core group comes first.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn called(&self, name: &str) -> Result<Vec<Gvk>, DiscoveryError> {
        let lower = name.to_ascii_lowercase();
        let (name, group) = match lower.split_once('.') {
            Some((name, group)) => (name.to_owned(), Some(group.to_owned())),
            None => (lower, None),
        };
        let found = self
            .lookup(|served| {
                let found = served.by_name.get(&name)?.iter();
                let found: Vec<Gvk> = found
                    .filter(|gvk| group.as_ref().is_none_or(|group| gvk.group == *group))
                    .cloned()
                    .collect();
                (!found.is_empty()).then_some(found)
            })
            .await?;
        Ok(found.unwrap_or_default())
    }

    /// What is known of a kind without asking anybody.
    #[must_use]
    pub fn cached(&self, gvk: &Gvk) -> Option<Resolved> {
        self.0.served.load().as_ref()?.by_kind.get(gvk).cloned()
    }

    /// What is known of a resource without asking anybody.
    #[must_use]
    pub fn cached_kind_of(&self, group: &str, resource: &str) -> Option<Gvk> {
        let key = (group.to_owned(), resource.to_owned());
        self.0.served.load().as_ref()?.by_resource.get(&key).cloned()
    }

    /// Says that a CRD was created or changed: the next miss asks the API server without waiting. What is known stays
    /// known until then.
    pub async fn invalidate(&self) {
        *self.0.asked.lock().await = None;
    }

    async fn lookup<T>(&self, find: impl Fn(&Served) -> Option<T>) -> Result<Option<T>, DiscoveryError> {
        if let Some(found) = self.0.served.load().as_deref().and_then(&find) {
            return Ok(Some(found));
        }
        let mut asked = self.0.asked.lock().await;
        // Somebody else may have asked while we waited.
        let known = self.0.served.load_full();
        if let Some(found) = known.as_deref().and_then(&find) {
            return Ok(Some(found));
        }
        if known.is_some() && asked.is_some_and(|at| at.elapsed() < REFRESH_INTERVAL) {
            return Ok(None);
        }
        let served = Arc::new(self.ask().await?);
        *asked = Some(Instant::now());
        let found = find(&served);
        self.0.served.store(Some(served));
        Ok(found)
    }

    async fn ask(&self) -> Result<Served, DiscoveryError> {
        let client = &self.0.client;
        let (groups, core) = tokio::try_join!(
            client.list_api_groups_aggregated(),
            client.list_core_api_versions_aggregated()
        )
        .map_err(|error| DiscoveryError::Unavailable(explain(&error)))?;
        if core.items.is_empty() {
            return Err(DiscoveryError::Unavailable(
                "it gave no aggregated discovery document; Kubernetes 1.30 or later is needed".to_owned(),
            ));
        }
        Ok(Served::read(core.items.into_iter().chain(groups.items)))
    }
}

impl Served {
    fn read(groups: impl Iterator<Item = APIGroupDiscovery>) -> Self {
        let mut served = Self::default();
        for group in groups {
            let name = group.metadata.and_then(|metadata| metadata.name).unwrap_or_default();
            // Versions come in order of preference, so what stands first is kept.
            for version in group.versions {
                let number = version.version.unwrap_or_default();
                for resource in version.resources {
                    served.add(&name, &number, resource);
                }
            }
        }
        served
    }

    fn add(&mut self, group: &str, version: &str, found: APIResourceDiscovery) {
        let Some(plural) = found.resource else { return };
        let response = found.response_kind.unwrap_or_default();
        let Some(kind) = response.kind.filter(|kind| !kind.is_empty()) else {
            return;
        };
        let of =
            |part: Option<String>, default: &str| part.filter(|text| !text.is_empty()).unwrap_or(default.to_owned());
        let gvk = Gvk {
            group: of(response.group, group),
            version: of(response.version, version),
            kind,
        };
        let has = |verb: &str| found.verbs.iter().any(|known| known == verb);
        let resolved = Resolved {
            watchable: has("list") && has("watch"),
            namespaced: found.scope.as_deref() == Some("Namespaced"),
            resource: ApiResource {
                api_version: gvk.api_version(),
                group: gvk.group.clone(),
                version: gvk.version.clone(),
                kind: gvk.kind.clone(),
                plural: plural.clone(),
            },
        };
        let singular = found.singular_resource.filter(|name| !name.is_empty());
        let names = [plural.clone(), gvk.kind.to_ascii_lowercase()];
        for name in names.into_iter().chain(singular).chain(found.short_names) {
            let known = self.by_name.entry(name).or_default();
            // Versions come in order of preference, so the first of a group and kind is the one to use.
            if !known.iter().any(|one| one.group == gvk.group && one.kind == gvk.kind) {
                known.push(gvk.clone());
            }
        }
        self.by_resource
            .entry((group.to_owned(), plural))
            .or_insert_with(|| gvk.clone());
        self.preferred
            .entry((gvk.group.clone(), gvk.kind.clone()))
            .or_insert_with(|| gvk.clone());
        self.by_kind.entry(gvk).or_insert(resolved);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn served() -> Served {
        let groups = json!([
            {"metadata": {"name": ""}, "versions": [{"version": "v1", "resources": [
                {"resource": "configmaps", "responseKind": {"group": "", "version": "", "kind": "ConfigMap"},
                    "scope": "Namespaced", "verbs": ["get", "list", "watch"]},
                {"resource": "bindings", "responseKind": {"kind": "Binding"}, "scope": "Namespaced", "verbs": ["create"]}]}]},
            {"metadata": {"name": "autoscaling"}, "versions": [
                {"version": "v2", "resources": [{"resource": "horizontalpodautoscalers", "scope": "Namespaced",
                    "responseKind": {"group": "autoscaling", "version": "v2", "kind": "HorizontalPodAutoscaler"}}]},
                {"version": "v1", "freshness": "Stale", "resources": [{"resource": "horizontalpodautoscalers",
                    "responseKind": {"kind": "HorizontalPodAutoscaler"}, "scope": "Namespaced"}]}]},
            {"metadata": {"name": "empty"}, "versions": [{"version": "v1", "resources": [{}]}]}
        ]);
        let groups: Vec<APIGroupDiscovery> = serde_json::from_value(groups).unwrap();
        Served::read(groups.into_iter())
    }

    #[test]
    fn kinds_and_resources_are_found_in_the_documents() {
        let served = served();
        let map = &served.by_kind[&Gvk::new("v1", "ConfigMap")];
        assert!(map.namespaced && map.watchable);
        assert_eq!(
            (map.resource.plural.as_str(), map.resource.api_version.as_str()),
            ("configmaps", "v1")
        );
        assert!(!served.by_kind[&Gvk::new("v1", "Binding")].watchable);
        let called = |name: &str| -> Vec<String> {
            let found = served.by_name.get(name).into_iter().flatten();
            found.map(ToString::to_string).collect()
        };
        assert_eq!(called("configmap"), ["v1 ConfigMap"]);
        assert_eq!(
            called("horizontalpodautoscalers"),
            ["autoscaling/v2 HorizontalPodAutoscaler"]
        );
        let autoscaler = ("autoscaling".to_owned(), "horizontalpodautoscalers".to_owned());
        assert_eq!(served.by_resource[&autoscaler].version, "v2", "the preferred version");
        assert!(
            served
                .by_kind
                .contains_key(&Gvk::new("autoscaling/v1", "HorizontalPodAutoscaler"))
        );
    }

    #[test]
    fn a_kind_that_is_not_served_is_told_with_a_remedy() {
        let error = DiscoveryError::NotServed(Gvk::new("example.com/v1", "Widget")).to_string();
        assert_eq!(
            error,
            "the API server does not serve kind Widget in example.com/v1; install its CustomResourceDefinition first or \
             correct apiVersion and kind"
        );
    }
}
