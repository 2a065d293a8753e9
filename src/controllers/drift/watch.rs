//! Watches the metadata of every kind that is managed: on every replica, so that each knows what is declared; what is drift
//! is put back by the one that leads.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::DynamicObject;
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::Event;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::book::KindKey;
use super::put_back::Reverter;
use crate::api::kustomize::{Kustomization, OWNER_NAME, OWNER_NAMESPACE};
use crate::cluster::discovery::Resolved;
use crate::controllers::kustomization::Context;
use crate::core::inventory::{gvk_of, parse_id};
use crate::core::object::{Gvk, ObjectRef};
use crate::guard::revert::OwnerKey;

/// Most kinds that are watched: each costs a connection to the API server. Clusters serve about 60 kinds of their own and
/// up to 1,000 of others, of which a repository declares a few dozen.
const MAX_WATCHES: usize = 256;
/// How soon to ask again for a kind that is not served: its CustomResourceDefinition may come back.
const RESOLVE_RETRY: Duration = Duration::from_secs(10);
/// How often to look for kinds in inventories that others have written. It looks at memory only, and a standby need not know
/// a new kind before anybody can have changed its objects twice.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Watches until `shutdown`; puts back what is drift while this process leads.
pub async fn run(context: Arc<Context>, mut leads: watch::Receiver<bool>, shutdown: CancellationToken) {
    let (mut kinds, mut freeze) = (context.shared.book.kinds(), context.shared.freeze.clone());
    let mut exemptions = context.shared.exemptions.changed();
    let reverter = Reverter::new(Arc::clone(&context), leads.clone(), shutdown.clone());
    let mut watches: HashMap<KindKey, CancellationToken> = HashMap::new();
    let mut inventoried = Inventoried::default();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let mut wanted: HashMap<KindKey, Gvk> = inventoried
            .kinds(&context.store.state())
            .iter()
            .map(|gvk| (kind_key(gvk), gvk.clone()))
            .collect();
        wanted.extend(kinds.borrow_and_update().iter().map(|gvk| (kind_key(gvk), gvk.clone())));
        watches.retain(|kind, stop| {
            let keep = wanted.contains_key(kind);
            if !keep {
                stop.cancel();
            }
            keep
        });
        for (kind, gvk) in wanted {
            if watches.contains_key(&kind) {
                continue;
            }
            if watches.len() >= MAX_WATCHES {
                tracing::warn!(
                    kind = %gvk, "not watched for drift, {MAX_WATCHES} kinds are watched already; it is corrected at the \
                    interval of its Kustomization"
                );
                continue;
            }
            let stop = shutdown.child_token();
            let (reverter, stopping) = (Arc::clone(&reverter), stop.clone());
            tokio::spawn(async move {
                tokio::select! {
                    () = stopping.cancelled() => {}
                    () = follow(&reverter, gvk) => {}
                }
            });
            watches.insert(kind, stop);
        }
        let left = freeze
            .borrow()
            .as_ref()
            .and_then(|freeze| freeze.left(Timestamp::now()));
        if left.is_none() {
            // What a freeze has left as it was found is unknown to the book, in part.
            for owner in context.shared.book.take_frozen() {
                super::look_again(&context, &owner);
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            changed = kinds.changed() => if changed.is_err() { return },
            Ok(()) = freeze.changed() => reverter.wake_all(),
            Ok(()) = exemptions.changed() => reverter.wake_all(),
            // What has drifted before is drift of the new leader's to put back: everything is listed again.
            Ok(()) = leads.changed() => watches.drain().for_each(|(_, stop)| stop.cancel()),
            _ = look.tick() => {}
        }
    }
}

/// The kinds of everything that inventories list, read again only where an inventory has changed.
#[derive(Default)]
struct Inventoried {
    /// By uid: the resource version that was read, and what it lists.
    known: HashMap<String, (Option<String>, BTreeSet<Gvk>)>,
}

impl Inventoried {
    fn kinds(&mut self, kustomizations: &[Arc<Kustomization>]) -> BTreeSet<Gvk> {
        let mut known = HashMap::with_capacity(kustomizations.len());
        // The inventory of a Kustomization with `kubeConfig` is of another cluster.
        for one in kustomizations.iter().filter(|one| one.spec.kube_config.is_none()) {
            let (uid, version) = (one.uid().unwrap_or_default(), one.resource_version());
            let read = match self.known.remove(&uid) {
                Some(read) if read.0 == version => read,
                _ => (version, listed(one)),
            };
            known.insert(uid, read);
        }
        self.known = known;
        self.known.values().flat_map(|(_, kinds)| kinds).cloned().collect()
    }
}

fn listed(kustomization: &Kustomization) -> BTreeSet<Gvk> {
    let inventory = kustomization
        .status
        .as_ref()
        .and_then(|status| status.inventory.as_ref());
    let entries = inventory.into_iter().flat_map(|inventory| &inventory.entries);
    entries
        .filter_map(|entry| Some(gvk_of(&parse_id(&entry.id).ok()?, &entry.v)))
        .collect()
}

/// Follows the objects of one kind.
async fn follow(reverter: &Arc<Reverter>, gvk: Gvk) {
    let Some(resolved) = resolve(reverter, &gvk).await else {
        return;
    };
    let client = reverter.shared().client.clone();
    let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(client, &resolved.resource);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default().labels(OWNER_NAME)).default_backoff());
    // What was in the book when the list was asked for and is not in the list is gone.
    let mut unlisted = BTreeSet::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => {
                unlisted = reverter
                    .shared()
                    .book
                    .objects(|object| object.group == gvk.group && object.kind == gvk.kind);
            }
            Ok(Event::InitApply(found)) => {
                unlisted.remove(&reference(&gvk, &found.metadata));
                there(reverter, &gvk, found.metadata);
            }
            Ok(Event::InitDone) => {
                for object in std::mem::take(&mut unlisted) {
                    reverter.seen(object, None);
                }
            }
            Ok(Event::Apply(found)) => there(reverter, &gvk, found.metadata),
            Ok(Event::Delete(found)) => reverter.seen(reference(&gvk, &found.metadata), None),
            Err(error) => tracing::debug!(kind = %gvk, error = %error, "drift watch interrupted, resuming"),
        }
    }
}

/// An object is there: its entry is noted if this process has not applied it itself, then it is looked at for drift.
fn there(reverter: &Arc<Reverter>, gvk: &Gvk, meta: ObjectMeta) {
    let object = reference(gvk, &meta);
    let label = |key: &str| meta.labels.as_ref()?.get(key).cloned();
    if let (Some(name), Some(namespace)) = (label(OWNER_NAME), label(OWNER_NAMESPACE)) {
        let owner = OwnerKey { namespace, name };
        reverter
            .shared()
            .book
            .observe(&object, owner, gvk, &meta, Timestamp::now());
    }
    reverter.seen(object, Some(meta));
}

/// How the kind is reached; `None` when it cannot be watched at all.
async fn resolve(reverter: &Reverter, gvk: &Gvk) -> Option<Resolved> {
    loop {
        match reverter.shared().objects.discovery().resolve(gvk).await {
            Ok(resolved) if resolved.watchable => return Some(resolved),
            Ok(_) => {
                tracing::info!(kind = %gvk, "objects of this kind cannot be watched; drift is corrected at the interval");
                return None;
            }
            Err(error) => tracing::debug!(kind = %gvk, error = %error, "not yet watched for drift"),
        }
        tokio::time::sleep(RESOLVE_RETRY).await;
    }
}

fn reference(gvk: &Gvk, meta: &ObjectMeta) -> ObjectRef {
    ObjectRef {
        group: gvk.group.clone(),
        kind: gvk.kind.clone(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
    }
}

fn kind_key(gvk: &Gvk) -> KindKey {
    KindKey {
        group: gvk.group.clone(),
        kind: gvk.kind.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn one(uid: &str, version: &str, spec: Value, ids: &[(&str, &str)]) -> Arc<Kustomization> {
        let mut spec = spec;
        spec["interval"] = json!("1m");
        spec["prune"] = json!(true);
        spec["sourceRef"] = json!({"kind": "GitRepository", "name": "a"});
        let entries: Vec<Value> = ids.iter().map(|(id, v)| json!({"id": id, "v": v})).collect();
        let object = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": uid, "uid": uid, "resourceVersion": version}, "spec": spec,
            "status": {"inventory": {"entries": entries}}});
        Arc::new(serde_json::from_value(object).unwrap())
    }

    #[test]
    fn the_kinds_of_all_inventories_are_known_and_follow_them() {
        let mut known = Inventoried::default();
        let mut check = |all: &[Arc<Kustomization>], expect: &[&str]| {
            let kinds: Vec<String> = known.kinds(all).iter().map(ToString::to_string).collect();
            assert_eq!(kinds, expect);
        };
        let (web, map) = (("shop_web_apps_Deployment", "v1"), ("shop_settings__ConfigMap", "v1"));
        let a = one("a", "1", json!({}), &[web, map]);
        let b = one("b", "1", json!({}), &[map, ("not an id", "v1")]);
        let elsewhere = one(
            "c",
            "1",
            json!({"kubeConfig": {"secretRef": {"name": "far"}}}),
            &[("_x__Node", "v1")],
        );
        check(&[], &[]);
        check(
            &[Arc::clone(&a), Arc::clone(&b), elsewhere],
            &["v1 ConfigMap", "apps/v1 Deployment"],
        );
        let moved = one("a", "2", json!({}), &[map]);
        check(&[moved, b], &["v1 ConfigMap"]);
        check(&[a], &["v1 ConfigMap", "apps/v1 Deployment"]);
    }
}
