//! What makes a Kustomization worth another look beside its own changes and its interval: a new snapshot of its source, other
//! policies, a dependency that became ready, and a change of a ConfigMap or Secret that asks to be watched: one with variables,
//! keys for decryption, or the way to another cluster.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::{broadcast, mpsc, watch};

use super::{Context, source_of};
use crate::api::kustomize::{Kustomization, VariablesKind};
use crate::controllers::policies::Policies;
use crate::controllers::snapshots::SourceKey;

/// How long those whose files changed have the queue for themselves. The queue knows no order; this is what it takes to
/// start as many as run at a time, and too little for anybody to notice.
const HEAD_START: Duration = Duration::from_millis(30);

/// A stream of Kustomizations to look at again. `kicks` are those whose dependency became ready.
pub fn triggers(
    context: &Arc<Context>,
    kicks: mpsc::Receiver<ObjectRef<Kustomization>>,
) -> impl Stream<Item = ObjectRef<Kustomization>> + Send + 'static {
    let (shared, store) = (&context.shared, &context.store);
    let kicked = stream::unfold(
        kicks,
        |mut kicks| async move { kicks.recv().await.map(|one| (one, kicks)) },
    );
    stream::select_all([
        kicked.boxed(),
        on_snapshots(context, shared.snapshots.listen()),
        on_policies(store.clone(), shared.policies.clone()),
        on_inputs::<ConfigMap>(context, VariablesKind::ConfigMap),
        on_inputs::<Secret>(context, VariablesKind::Secret),
    ])
}

/// Those whose files changed come first, and alone for a moment: a commit is in the cluster after the same time whether
/// ten Kustomizations or ten thousand build from its repository. What the others have to do is to note the revision.
fn on_snapshots(
    context: &Arc<Context>,
    news: broadcast::Receiver<SourceKey>,
) -> BoxStream<'static, ObjectRef<Kustomization>> {
    let told = stream::unfold((Arc::clone(context), news), |(context, mut news)| async move {
        let (first, rest) = match news.recv().await {
            Ok(key) => changed_and_rest(&context, key).await,
            Err(broadcast::error::RecvError::Lagged(_)) => (Vec::new(), selected(&context.store, |_| true)),
            Err(broadcast::error::RecvError::Closed) => return None,
        };
        let head_start = if first.is_empty() || rest.is_empty() {
            Duration::ZERO
        } else {
            HEAD_START
        };
        let rest = stream::once(async move {
            tokio::time::sleep(head_start).await;
            stream::iter(rest)
        });
        Some((stream::iter(first).chain(rest.flatten()), (context, news)))
    });
    told.flatten().boxed()
}

/// The users of a source: those that the new snapshot makes build anew, and the others.
async fn changed_and_rest(
    context: &Arc<Context>,
    key: SourceKey,
) -> (Vec<ObjectRef<Kustomization>>, Vec<ObjectRef<Kustomization>>) {
    let Some(snapshot) = context.shared.snapshots.get(&key) else {
        return (Vec::new(), selected(&context.store, |one| source_of(one) == key));
    };
    let asked = Arc::clone(context);
    let split = tokio::task::spawn_blocking(move || {
        let users = sorted(&asked.store, |one| source_of(one) == key);
        let files = snapshot.files.as_ref();
        let (first, rest): (Vec<_>, Vec<_>) = users
            .into_iter()
            .partition(|one| asked.memories.builds_anew(one, files));
        (references(&first), references(&rest))
    });
    // Only a panic or the end of the process gets here; whoever is told of nothing has its interval.
    split.await.unwrap_or_default()
}

fn on_policies(
    store: Store<Kustomization>,
    policies: watch::Receiver<Policies>,
) -> BoxStream<'static, ObjectRef<Kustomization>> {
    let told = stream::unfold((store, policies), |(store, mut policies)| async move {
        policies.changed().await.ok()?;
        policies.borrow_and_update();
        let affected = selected(&store, |_| true);
        Some((stream::iter(affected), (store, policies)))
    });
    told.flatten().boxed()
}

/// Only metadata is watched: values of Secrets are read when a build needs them.
fn on_inputs<K>(context: &Arc<Context>, kind: VariablesKind) -> BoxStream<'static, ObjectRef<Kustomization>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let (context, settings) = (Arc::clone(context), &context.shared.settings);
    let api: Api<PartialObjectMeta<K>> = settings.watched.api(context.shared.client.clone());
    let labelled = watcher::Config::default().labels(&settings.watch_configs_label_selector);
    let events = watcher(api, labelled).default_backoff();
    // Versions, so that a watch that begins anew tells of what is new only.
    let mut known: HashMap<(String, String), String> = HashMap::new();
    let told = events.map(move |event| {
        let (object, gone, listed) = match event {
            Ok(watcher::Event::Apply(object)) => (object, false, false),
            Ok(watcher::Event::InitApply(object)) => (object, false, true),
            Ok(watcher::Event::Delete(object)) => (object, true, false),
            Ok(watcher::Event::Init | watcher::Event::InitDone) => return stream::iter(Vec::new()),
            Err(error) => {
                tracing::warn!(kind = K::kind(&()).as_ref(), error = %error, "watch interrupted, resuming");
                return stream::iter(Vec::new());
            }
        };
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let (key, version) = (
            (namespace.clone(), name.clone()),
            object.resource_version().unwrap_or_default(),
        );
        let before = if gone {
            known.remove(&key)
        } else {
            known.insert(key, version.clone())
        };
        if !gone && before.as_ref() == Some(&version) {
            return stream::iter(Vec::new());
        }
        let everybodys = kind == VariablesKind::Secret && is_for_all(&context, &namespace, &name);
        let users = selected(&context.store, |one| {
            let (beside, served) = (
                one.namespace().as_ref() == Some(&namespace),
                everybodys && has_no_keys(one),
            );
            if !beside && !served {
                return false;
            }
            let opened = served || opens(one, kind, &name);
            if opened && (before.is_some() || !listed) {
                // Variables are compared; this is not.
                context.memories.with(one, |memory| memory.stale = true);
            }
            opened || beside && takes_variables(one, kind, &name)
        });
        stream::iter(users)
    });
    told.flatten().boxed()
}

fn takes_variables(kustomization: &Kustomization, kind: VariablesKind, name: &str) -> bool {
    let post_build = kustomization.spec.post_build.as_ref();
    let from = post_build.and_then(|post_build| post_build.substitute_from.as_ref());
    from.into_iter()
        .flatten()
        .any(|one| one.kind == kind && one.name == name)
}

/// Whether a Secret is that of `--sops-age-secret`.
fn is_for_all(context: &Context, namespace: &str, name: &str) -> bool {
    let named = context.shared.settings.sops_age_secret.as_ref();
    named.is_some_and(|one| one.namespace == namespace && one.name == name)
}

/// Whether it decrypts with what `--sops-age-secret` has.
fn has_no_keys(kustomization: &Kustomization) -> bool {
    let decryption = kustomization.spec.decryption.as_ref();
    decryption.is_some_and(|one| one.secret_ref.is_none())
}

/// Whether it holds keys for decryption or the way to another cluster.
fn opens(kustomization: &Kustomization, kind: VariablesKind, name: &str) -> bool {
    let spec = &kustomization.spec;
    let (cluster, keys) = (spec.kube_config.as_ref(), spec.decryption.as_ref());
    let named = match kind {
        VariablesKind::ConfigMap => [cluster.and_then(|one| Some(&one.config_map_ref.as_ref()?.name)), None],
        VariablesKind::Secret => [
            cluster.and_then(|one| Some(&one.secret_ref.as_ref()?.name)),
            keys.and_then(|one| Some(&one.secret_ref.as_ref()?.name)),
        ],
    };
    named.into_iter().flatten().any(|one| one == name)
}

fn selected(store: &Store<Kustomization>, wanted: impl Fn(&Kustomization) -> bool) -> Vec<ObjectRef<Kustomization>> {
    references(&sorted(store, wanted))
}

/// Those that others depend on come first.
fn sorted(store: &Store<Kustomization>, wanted: impl Fn(&Kustomization) -> bool) -> Vec<Arc<Kustomization>> {
    let mut found: Vec<Arc<Kustomization>> = store.state().into_iter().filter(|one| wanted(one)).collect();
    found.sort_by_key(|one| one.spec.depends_on.as_ref().map_or(0, Vec::len));
    found
}

fn references(found: &[Arc<Kustomization>]) -> Vec<ObjectRef<Kustomization>> {
    found.iter().map(|one| ObjectRef::from_obj(one.as_ref())).collect()
}
