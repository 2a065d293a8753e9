//! What the process knows of Kustomizations beyond what the API server tells: a cache that may be lost.
//!
//! Guarantees: the status that was written last is seen at once, before it comes back through the watch, so that no
//! reconciliation works on an inventory of the past; who waits for a dependency is found without looking at all others.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use tokio::time::Instant;

use super::dependencies;

use crate::api::kustomize::{Kustomization, KustomizationStatus};
use crate::core::snapshot::Files;
use crate::render::ReadSet;

/// The last build that was applied in full.
#[derive(Debug, Clone)]
pub struct Built {
    /// Generation of the spec.
    pub generation: i64,
    /// Substitution variables.
    pub variables: BTreeMap<String, String>,
    /// Number of the policies that judged it.
    pub policies: u64,
    /// What the build read.
    pub reads: ReadSet,
    /// Digest of what came of it.
    pub digest: String,
    /// Whether something was left alone because the object in the cluster says so, and may say otherwise any time.
    pub left: bool,
    /// When it was applied.
    pub at: Instant,
}

/// What is remembered of one Kustomization.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The status as written last.
    pub status: Option<KustomizationStatus>,
    /// Whether it has come back through the watch.
    echoed: bool,
    /// The status that somebody else has written since.
    pub foreign: Option<KustomizationStatus>,
    /// The last build that was applied in full; `None` after any failure. Shared, because memories are looked at often.
    pub built: Option<Arc<Built>>,
    /// Something that Git declares was changed or deleted behind our back.
    pub drifted: bool,
    /// A Secret or ConfigMap with keys, or with the way to another cluster, has changed.
    pub stale: bool,
    /// The revision that was applied once more after the start, because the one that follows it cannot be.
    pub recalled: Option<String>,
}

/// Memories of all Kustomizations, by uid: a Kustomization that is deleted and made again starts anew.
#[derive(Debug, Default)]
pub struct Memories {
    known: Mutex<HashMap<String, Memory>>,
    waiting: Mutex<Waiting>,
}

/// Who waits, by the namespace and name of what is waited for.
type Waiting = HashMap<(String, String), HashSet<ObjectRef<Kustomization>>>;

impl Memories {
    /// What is remembered.
    #[must_use]
    pub fn get(&self, kustomization: &Kustomization) -> Memory {
        self.with(kustomization, |memory| memory.clone())
    }

    /// Looks whether the status is still what was written last. What is written then is compared with what somebody else has
    /// made of it, or it would stay so.
    pub fn observe(&self, kustomization: &Kustomization) {
        self.with(kustomization, |memory| {
            let same = memory.status == kustomization.status;
            memory.foreign = (memory.echoed && !same).then(|| kustomization.status.clone().unwrap_or_default());
            memory.echoed |= same;
        });
    }

    /// Remembers a status that was written.
    pub fn written(&self, kustomization: &Kustomization, status: KustomizationStatus) {
        self.with(kustomization, |memory| {
            memory.echoed &= memory.status.as_ref() == Some(&status) && memory.foreign.is_none();
            memory.status = Some(status);
            memory.foreign = None;
        });
    }

    /// Changes what is remembered.
    pub fn with<T>(&self, kustomization: &Kustomization, change: impl FnOnce(&mut Memory) -> T) -> T {
        let uid = kustomization.uid().unwrap_or_default();
        change(
            self.known
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(uid)
                .or_default(),
        )
    }

    /// Forgets a Kustomization that is gone.
    pub fn forget(&self, kustomization: &Kustomization) {
        let uid = kustomization.uid().unwrap_or_default();
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
        self.stop_waiting(kustomization);
    }

    /// Notes that a Kustomization wants to hear of its dependencies. Before they are looked at, so that none becomes ready
    /// unnoticed in between.
    pub fn wait(&self, kustomization: &Kustomization) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for dependency in dependencies::of(kustomization) {
            let waiters = waiting.entry(dependency).or_default();
            waiters.insert(ObjectRef::from_obj(kustomization));
        }
    }

    /// It waits no longer.
    pub fn stop_waiting(&self, kustomization: &Kustomization) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        for dependency in dependencies::of(kustomization) {
            if let Some(waiters) = waiting.get_mut(&dependency) {
                waiters.remove(&ObjectRef::from_obj(kustomization));
                if waiters.is_empty() {
                    waiting.remove(&dependency);
                }
            }
        }
    }

    /// Those that wait for a Kustomization and `want` to hear of this; they say so again if they still have to wait.
    #[must_use]
    pub fn take_waiters(
        &self,
        kustomization: &Kustomization,
        want: impl Fn(&ObjectRef<Kustomization>) -> bool,
    ) -> HashSet<ObjectRef<Kustomization>> {
        let key = (kustomization.namespace().unwrap_or_default(), kustomization.name_any());
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let all = waiting.remove(&key).unwrap_or_default();
        let (taken, left): (HashSet<_>, HashSet<_>) = all.into_iter().partition(want);
        if !left.is_empty() {
            waiting.insert(key, left);
        }
        taken
    }

    /// Whether the last build of a Kustomization would come out otherwise over these files, as far as that is known.
    #[must_use]
    pub fn builds_anew(&self, kustomization: &Kustomization, files: &dyn Files) -> bool {
        let built = self.with(kustomization, |memory| memory.built.clone());
        // What cannot be read is found out, and told, by the reconciliation.
        built.is_none_or(|built| !built.reads.holds(files).unwrap_or_default())
    }

    /// The newest status that is known.
    #[must_use]
    pub fn status(&self, kustomization: &Kustomization) -> Option<KustomizationStatus> {
        let known = self.with(kustomization, |memory| memory.status.clone());
        known.or_else(|| kustomization.status.clone())
    }

    /// Asks something about the newest status that is known, without copying it: it holds the whole inventory.
    pub fn with_status<T>(
        &self,
        kustomization: &Kustomization,
        ask: impl FnOnce(&KustomizationStatus) -> T,
    ) -> Option<T> {
        self.with(kustomization, |memory| {
            memory.status.as_ref().or(kustomization.status.as_ref()).map(ask)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn seen(status: &Value) -> Kustomization {
        serde_json::from_value(json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "app", "namespace": "shop", "uid": "1"},
            "spec": {"interval": "1m", "prune": true, "sourceRef": {"kind": "GitRepository", "name": "repo"}},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_status_that_somebody_else_wrote_is_noticed_once_ours_has_been_seen() {
        let memories = Memories::default();
        let (old, ours, theirs) = (
            seen(&json!({"lastAppliedRevision": "r0"})),
            seen(&json!({"lastAppliedRevision": "r1"})),
            seen(&json!({"lastAppliedRevision": "x"})),
        );
        let foreign = |now: &Kustomization| {
            memories.observe(now);
            memories.get(now).foreign.is_some()
        };
        memories.written(&old, ours.status.clone().unwrap());
        assert!(!foreign(&old), "ours is still on its way");
        assert!(!foreign(&ours));
        assert!(foreign(&theirs));
        memories.written(&theirs, ours.status.clone().unwrap());
        assert!(!foreign(&theirs), "it is on its way again");
        assert!(!foreign(&ours));
        assert!(foreign(&seen(&Value::Null)), "and may be taken away");
    }
}
