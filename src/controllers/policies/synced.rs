//! What policies see as `data.inventory`: the kinds that Gatekeeper's Config and SyncSets name, watched over the whole cluster.
//!
//! Flow: a watch for Configs, one for SyncSets and one for each kind feed one task, which alone changes the inventory and
//! publishes it after each batch. What does not change is shared by the old and the new inventory.
//!
//! Guarantees: bounded in kinds and objects, and says when a bound is met; a kind that the cluster does not serve, or that
//! cannot be listed, keeps nobody waiting; what went while a watch was interrupted goes when it has listed again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::DynamicObject;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Seen;
use super::cluster::whole;
use crate::api::gatekeeper::{CONFIG_GROUP, CONFIG_NAME, CONFIG_NAMESPACE, SYNC_GROUP, SYNC_VERSION};
use crate::apply::objects::Objects;
use crate::cluster::discovery::Resolved;
use crate::core::object::Gvk;
use crate::policy::{Inventory, Settings};

/// Most objects of the inventory. With some 5 KiB for each this is as much memory as the rest of Weir takes in a large cluster.
const MAX_OBJECTS: usize = 20_000;
/// How many events may wait for the task; watches wait when it is full.
const QUEUE: usize = 1024;
/// How long to gather events before an inventory is published: what lies on the way to a change is copied once for each.
const GATHER: Duration = Duration::from_millis(20);
/// How often to look whether the cluster has learned of a kind.
const LOOK: Duration = Duration::from_secs(10);

/// What the task needs.
pub(super) struct Options {
    pub(super) client: Client,
    pub(super) objects: Objects,
    /// Where a Config counts beside Gatekeeper's own namespace: where Weir is.
    pub(super) namespace: String,
    pub(super) seen: mpsc::Sender<Seen>,
    pub(super) publish: watch::Sender<Inventory>,
    pub(super) shutdown: CancellationToken,
}

/// Namespace and name.
type Key = (String, String);

enum Event {
    /// All Configs or SyncSets that there are.
    Sources(&'static str, BTreeMap<Key, Value>),
    /// A kind is listed anew.
    Begun(Gvk),
    Object(Gvk, Box<Value>),
    Gone(Gvk, Key),
    /// Everything that there was has been sent.
    Listed(Gvk),
    /// It cannot be; better that policies see less than that nobody is asked.
    Unlisted(Gvk),
}

/// A kind that is watched.
struct Followed {
    watch: JoinHandle<()>,
    known: HashSet<Key>,
    /// What was seen since a list began.
    fresh: Option<HashSet<Key>>,
    listed: bool,
}

struct Synced {
    options: Options,
    sender: mpsc::Sender<Event>,
    sources: HashMap<&'static str, BTreeMap<Key, Value>>,
    settings: Arc<Settings>,
    followed: HashMap<Gvk, Followed>,
    inventory: Inventory,
    count: usize,
    /// Whether it was told that there are too many objects.
    full: bool,
    /// Whether it was told that all has been read.
    ready: bool,
}

/// Follows the settings and what they name.
pub(super) async fn run(options: Options) {
    let (sender, mut receiver) = mpsc::channel(QUEUE);
    for kind in SOURCES {
        tokio::spawn(watch_sources(
            options.client.clone(),
            options.objects.clone(),
            kind,
            sender.clone(),
            options.shutdown.clone(),
        ));
    }
    let mut synced = Synced {
        options,
        sender,
        sources: HashMap::new(),
        settings: Arc::default(),
        followed: HashMap::new(),
        inventory: Inventory::default(),
        count: 0,
        full: false,
        ready: false,
    };
    while let Some(first) = receiver.recv().await {
        let before = synced.inventory.clone();
        synced.take(first).await;
        tokio::time::sleep(GATHER).await;
        while let Ok(more) = receiver.try_recv() {
            synced.take(more).await;
        }
        if !synced.inventory.is(&before) {
            synced.options.publish.send_replace(synced.inventory.clone());
        }
        synced.tell_ready().await;
    }
}

impl Synced {
    async fn take(&mut self, event: Event) {
        match event {
            Event::Sources(kind, sources) => {
                self.sources.insert(kind, sources);
                self.configure().await;
            }
            Event::Begun(gvk) => {
                if let Some(followed) = self.followed.get_mut(&gvk) {
                    followed.fresh = Some(HashSet::new());
                }
            }
            Event::Object(gvk, object) => self.put(&gvk, &object),
            Event::Gone(gvk, key) => self.remove(&gvk, &key),
            Event::Listed(gvk) => self.listed(&gvk),
            Event::Unlisted(gvk) => {
                if let Some(followed) = self.followed.get_mut(&gvk) {
                    followed.listed = true;
                }
            }
        }
    }

    /// Takes over what Configs and SyncSets say now.
    async fn configure(&mut self) {
        let counts = |(namespace, name): &Key| {
            name == CONFIG_NAME && (namespace == CONFIG_NAMESPACE || *namespace == self.options.namespace)
        };
        let counted = self.sources.iter().flat_map(|(kind, sources)| {
            let sources = sources.iter();
            sources
                .filter(move |(key, _)| *kind != CONFIG || counts(key))
                .map(|(_, value)| value)
        });
        let settings = Settings::read(counted);
        if settings == *self.settings {
            return;
        }
        let anew = !settings.syncs_like(&self.settings);
        let (kinds, left) = settings.kinds();
        let wanted: HashSet<Gvk> = kinds.into_iter().cloned().collect();
        if left > 0 {
            tracing::error!(left, "too many kinds are to be synced; the last ones are left out");
        }
        let gone = |gvk: &&Gvk| anew || !wanted.contains(*gvk);
        let gone: Vec<Gvk> = self.followed.keys().filter(gone).cloned().collect();
        for gvk in gone {
            self.forget(&gvk);
        }
        self.settings = Arc::new(settings);
        for gvk in wanted {
            self.follow(gvk);
        }
        // Nobody listening means that the process is stopping.
        let _ = self.options.seen.send(Seen::Settings(Arc::clone(&self.settings))).await;
    }

    fn follow(&mut self, gvk: Gvk) {
        if self.followed.contains_key(&gvk) {
            return;
        }
        let watch = tokio::spawn(watch_kind(
            self.options.client.clone(),
            self.options.objects.clone(),
            gvk.clone(),
            self.sender.clone(),
            self.options.shutdown.clone(),
        ));
        let followed = Followed {
            watch,
            known: HashSet::new(),
            fresh: None,
            listed: false,
        };
        self.followed.insert(gvk, followed);
    }

    fn forget(&mut self, gvk: &Gvk) {
        if let Some(followed) = self.followed.remove(gvk) {
            followed.watch.abort();
            self.count -= followed.known.len();
            for key in &followed.known {
                self.inventory.remove(&identity(gvk, key));
            }
        }
    }

    fn put(&mut self, gvk: &Gvk, object: &Value) {
        let Some(followed) = self.followed.get_mut(gvk) else {
            return;
        };
        let key = key(object);
        if let Some(fresh) = &mut followed.fresh {
            fresh.insert(key.clone());
        }
        if !self.settings.syncs(object) {
            return;
        }
        if !followed.known.contains(&key) {
            if self.count >= MAX_OBJECTS {
                if !self.full {
                    self.full = true;
                    tracing::error!(
                        kind = %gvk.kind,
                        most = MAX_OBJECTS,
                        "too many objects are to be synced; policies do not see the rest of them"
                    );
                }
                return;
            }
            followed.known.insert(key);
            self.count += 1;
        }
        self.inventory.insert(object);
    }

    fn remove(&mut self, gvk: &Gvk, key: &Key) {
        let Some(followed) = self.followed.get_mut(gvk) else {
            return;
        };
        if followed.known.remove(key) {
            self.count -= 1;
            self.inventory.remove(&identity(gvk, key));
        }
    }

    fn listed(&mut self, gvk: &Gvk) {
        let Some(followed) = self.followed.get_mut(gvk) else {
            return;
        };
        followed.listed = true;
        let Some(fresh) = followed.fresh.take() else { return };
        let gone: Vec<Key> = followed.known.difference(&fresh).cloned().collect();
        for key in gone {
            self.remove(gvk, &key);
        }
    }

    async fn tell_ready(&mut self) {
        let sources = SOURCES.iter().all(|kind| self.sources.contains_key(kind));
        if !self.ready && sources && self.followed.values().all(|followed| followed.listed) {
            self.ready = true;
            let _ = self.options.seen.send(Seen::Synced).await;
        }
    }
}

/// Kinds that say what is synced.
const SOURCES: [&str; 2] = [CONFIG, "SyncSet"];
const CONFIG: &str = "Config";

/// Sends all Configs or all SyncSets, now and when one of them changes.
async fn watch_sources(
    client: Client,
    objects: Objects,
    kind: &'static str,
    sender: mpsc::Sender<Event>,
    shutdown: CancellationToken,
) {
    let group = if kind == CONFIG { CONFIG_GROUP } else { SYNC_GROUP };
    let gvk = Gvk::new(&format!("{group}/{SYNC_VERSION}"), kind);
    let missing = || Event::Sources(kind, BTreeMap::new());
    let Some(resolved) = served(&objects, &gvk, &sender, &shutdown, missing).await else {
        return;
    };
    let api: Api<DynamicObject> = Api::all_with(client, &resolved.resource);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    let mut sources = BTreeMap::new();
    let mut listing = true;
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        match event {
            Some(Ok(watcher::Event::Init)) => {
                listing = true;
                sources.clear();
            }
            Some(Ok(watcher::Event::InitDone)) => listing = false,
            Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                let object = whole(object, &resolved.resource);
                sources.insert(key(&object), object);
            }
            Some(Ok(watcher::Event::Delete(object))) => {
                sources.remove(&key(&whole(object, &resolved.resource)));
            }
            Some(Err(error)) => {
                tracing::warn!(kind, error = %error, "watch interrupted, resuming");
                continue;
            }
            None => return,
        }
        if !listing && sender.send(Event::Sources(kind, sources.clone())).await.is_err() {
            return;
        }
    }
}

/// Sends every object of a kind, now and when it changes.
async fn watch_kind(
    client: Client,
    objects: Objects,
    gvk: Gvk,
    sender: mpsc::Sender<Event>,
    shutdown: CancellationToken,
) {
    let missing = || Event::Unlisted(gvk.clone());
    let Some(resolved) = served(&objects, &gvk, &sender, &shutdown, missing).await else {
        return;
    };
    let api: Api<DynamicObject> = Api::all_with(client, &resolved.resource);
    let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
    loop {
        let event = tokio::select! {
            () = shutdown.cancelled() => return,
            event = events.next() => event,
        };
        let event = match event {
            Some(Ok(watcher::Event::Init)) => Event::Begun(gvk.clone()),
            Some(Ok(watcher::Event::InitDone)) => Event::Listed(gvk.clone()),
            Some(Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object))) => {
                Event::Object(gvk.clone(), Box::new(lean(object, &resolved)))
            }
            Some(Ok(watcher::Event::Delete(object))) => Event::Gone(gvk.clone(), key(&lean(object, &resolved))),
            Some(Err(error)) => {
                tracing::warn!(kind = %gvk.kind, error = %error, "watch interrupted, resuming");
                Event::Unlisted(gvk.clone())
            }
            None => return,
        };
        if sender.send(event).await.is_err() {
            return;
        }
    }
}

/// Waits until a kind is served; what is `missing` is said once before.
async fn served(
    objects: &Objects,
    gvk: &Gvk,
    sender: &mpsc::Sender<Event>,
    shutdown: &CancellationToken,
    missing: impl Fn() -> Event,
) -> Option<Resolved> {
    let mut told = false;
    loop {
        match objects.discovery().resolve(gvk).await {
            Ok(resolved) if resolved.watchable => return Some(resolved),
            _ if told => {}
            _ => {
                told = true;
                sender.send(missing()).await.ok()?;
            }
        }
        tokio::select! {
            () = shutdown.cancelled() => return None,
            () = tokio::time::sleep(LOOK) => {}
        }
    }
}

/// An object without what no policy asks for and half of its memory would go to.
fn lean(mut object: DynamicObject, resolved: &Resolved) -> Value {
    object.metadata.managed_fields = None;
    whole(object, &resolved.resource)
}

fn key(object: &Value) -> Key {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    (text("/metadata/namespace"), text("/metadata/name"))
}

/// As much of an object as the inventory needs to find it.
fn identity(gvk: &Gvk, (namespace, name): &Key) -> Value {
    serde_json::json!({"apiVersion": gvk.api_version(), "kind": gvk.kind, "metadata": {"namespace": namespace, "name": name}})
}
