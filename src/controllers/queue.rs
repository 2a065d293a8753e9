//! Runs one controller: watches its kind, queues what has changed for its reconciler, and stops gracefully.
//!
//! Guarantees: an object is queued when its spec, its labels, a control annotation or its deletion changes, and not for the
//! status that the controller itself writes; one object is never reconciled twice at the same time; after `shutdown` nothing
//! new starts and what runs ends; a process that does not lead holds the same objects in its store, for its webhook.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::{Stream, StreamExt, stream};
use kube::runtime::controller::{Action, Config};
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::{WatchStreamExt, applier, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::api::extensions::RECONCILE;
use crate::api::meta::REQUESTED_AT;

/// Prefix of Weir's own annotations.
const OWN_PREFIX: &str = "weir.dev/";

/// What of an object makes it worth reconciling when it changes.
#[derive(PartialEq)]
struct Trigger {
    uid: Option<String>,
    generation: Option<i64>,
    deleted: bool,
    requested_at: Option<String>,
    /// Whether an ArtifactGenerator may be worked on; other kinds have a field for it.
    enabled: Option<String>,
    /// Annotations of Weir's own: what they say counts at once.
    own: Vec<(String, String)>,
    /// Sum of the labels: expressions of those who depend on it may read them.
    labels: u64,
}

/// What a controller watches and how.
pub struct Controller<K: Resource<DynamicType = ()> + Clone + 'static> {
    /// Where its kind is read.
    pub api: Api<K>,
    /// `--watch-label-selector`.
    pub selector: Option<String>,
    /// Fills the store that others read too.
    pub writer: Writer<K>,
    /// The objects of its kind.
    pub store: Store<K>,
    /// Becomes true when the store has been filled for the first time. The store's own word for that is for one who waits: it
    /// wakes the last one only.
    pub listed: watch::Sender<bool>,
    /// How many objects are reconciled at a time.
    pub concurrency: u16,
    /// Ends it.
    pub shutdown: CancellationToken,
}

impl<K> Controller<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    /// Fills the store at once; reconciles once `elected` resolves, until `shutdown`. `also` queues objects for other
    /// reasons than their own changes.
    pub async fn run<Ctx, Fut, E>(
        self,
        elected: impl Future<Output = ()>,
        also: impl Stream<Item = ObjectRef<K>> + Send + 'static,
        mut reconcile: impl FnMut(Arc<K>, Arc<Ctx>) -> Fut + Send + 'static,
        on_error: impl Fn(&K, &E) -> Action + Send + Sync + 'static,
        context: Arc<Ctx>,
    ) where
        Fut: Future<Output = Result<Action, E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
        Ctx: Send + Sync + 'static,
    {
        let mut config = watcher::Config::default();
        if let Some(selector) = &self.selector {
            config = config.labels(selector);
        }
        let mut changed = changes(self.api, config, self.writer, self.listed).boxed();
        let mut elected = std::pin::pin!(elected);
        loop {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = &mut elected => break,
                change = changed.next() => if change.is_none() { return },
            }
        }
        // What was seen before is not told again.
        let known: Vec<ObjectRef<K>> = self
            .store
            .state()
            .iter()
            .map(|object| ObjectRef::from_obj(object.as_ref()))
            .collect();
        let queue = stream::iter(known).chain(stream::select(changed, also));
        let queue = queue.map(Ok::<_, std::convert::Infallible>);
        applier(
            move |object, context| Box::pin(reconcile(object, context)),
            move |object, error, _| on_error(&object, error),
            context,
            self.store,
            Box::pin(queue.take_until(self.shutdown.cancelled_owned())),
            Config::default().concurrency(self.concurrency),
        )
        .for_each(|result| {
            if let Err(error) = result {
                tracing::debug!(error = %error, "reconciliation not carried out");
            }
            std::future::ready(())
        })
        .await;
    }
}

/// Objects that are worth reconciling, as they change; on the way every change goes into the store.
fn changes<K>(
    api: Api<K>,
    config: watcher::Config,
    writer: Writer<K>,
    listed: watch::Sender<bool>,
) -> impl Stream<Item = ObjectRef<K>> + Send + 'static
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let mut seen: HashMap<ObjectRef<K>, Trigger> = HashMap::new();
    watcher(api, config)
        .default_backoff()
        .reflect(writer)
        .filter_map(move |event| {
            let queued = match event {
                Ok(watcher::Event::Apply(object) | watcher::Event::InitApply(object)) => {
                    let reference = ObjectRef::from_obj(&object);
                    let now = trigger(&object);
                    let moved = seen.get(&reference) != Some(&now);
                    seen.insert(reference.clone(), now);
                    moved.then_some(reference)
                }
                Ok(watcher::Event::Delete(object)) => {
                    seen.remove(&ObjectRef::from_obj(&object));
                    None
                }
                Ok(watcher::Event::Init) => None,
                Ok(watcher::Event::InitDone) => {
                    listed.send_if_modified(|before| !std::mem::replace(before, true));
                    None
                }
                Err(error) => {
                    tracing::warn!(kind = K::kind(&()).as_ref(), error = %error, "watch interrupted, resuming");
                    None
                }
            };
            std::future::ready(queued)
        })
}

fn trigger<K: Resource>(object: &K) -> Trigger {
    Trigger {
        uid: object.uid(),
        generation: object.meta().generation,
        deleted: object.meta().deletion_timestamp.is_some(),
        requested_at: object.annotations().get(REQUESTED_AT).cloned(),
        enabled: object.annotations().get(RECONCILE).cloned(),
        own: object
            .annotations()
            .iter()
            .filter(|(key, _)| key.starts_with(OWN_PREFIX))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
        labels: {
            let mut sum = DefaultHasher::new();
            object.labels().hash(&mut sum);
            sum.finish()
        },
    }
}
