//! What sources hold now: the hand-over from source controllers to those that build from them, within the process.
//!
//! Guarantees: a reader sees either the old or the new snapshot of a source; every publication is told to all listeners.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::broadcast;

use crate::core::snapshot::Snapshot;

/// How many publications a slow listener may be behind; beyond it the listener is told that it missed some and looks at
/// everything. A thousand sources at once is a restart.
const BACKLOG: usize = 1024;

/// Names a source: kind, namespace, name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceKey {
    /// Kind, as in `GitRepository`.
    pub kind: &'static str,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// The snapshots of all sources. Clones share them.
#[derive(Clone)]
pub struct Snapshots {
    held: Arc<RwLock<HashMap<SourceKey, Snapshot>>>,
    /// Those that were looked at in vain while nothing of them was here.
    missed: Arc<RwLock<HashSet<SourceKey>>>,
    news: broadcast::Sender<SourceKey>,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self {
            held: Arc::default(),
            missed: Arc::default(),
            news: broadcast::channel(BACKLOG).0,
        }
    }
}

impl Snapshots {
    /// What a source holds.
    #[must_use]
    pub fn get(&self, key: &SourceKey) -> Option<Snapshot> {
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .cloned()
    }

    /// The revision that a source holds.
    #[must_use]
    pub fn revision(&self, key: &SourceKey) -> Option<String> {
        self.held
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(key)
            .map(|held| held.revision.clone())
    }

    /// Hands a snapshot over.
    pub fn publish(&self, key: SourceKey, snapshot: Snapshot) {
        self.held
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(key.clone(), snapshot);
        // Nobody listening is fine: listeners look at everything when they start.
        let _ = self.news.send(key);
    }

    /// A source was looked at in vain. It is told if nothing of it is here, neither in memory nor on disk.
    pub fn miss(&self, key: SourceKey) {
        if self.revision(&key).is_some() {
            return;
        }
        let mut missed = self.missed.write().unwrap_or_else(PoisonError::into_inner);
        if missed.insert(key.clone()) {
            let _ = self.news.send(key);
        }
    }

    /// Whether a source was looked at in vain and nothing of it is here.
    #[must_use]
    pub fn is_missed(&self, key: &SourceKey) -> bool {
        let missed = self.missed.read().unwrap_or_else(PoisonError::into_inner);
        missed.contains(key) && self.revision(key).is_none()
    }

    /// Tells of a source without anything new of it being here.
    pub fn tell(&self, key: SourceKey) {
        let _ = self.news.send(key);
    }

    /// Forgets a source that is gone.
    pub fn forget(&self, key: &SourceKey) {
        self.held.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        self.missed.write().unwrap_or_else(PoisonError::into_inner).remove(key);
        let _ = self.news.send(key.clone());
    }

    /// Hears of every publication from now on.
    #[must_use]
    pub fn listen(&self) -> broadcast::Receiver<SourceKey> {
        self.news.subscribe()
    }
}
