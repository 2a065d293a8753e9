//! What the process knows of Kustomizations beyond what the API server tells: a cache that may be lost.
//!
//! Guarantees: the status that was written last is seen at once, before it comes back through the watch, so that no
//! reconciliation works on an inventory of the past.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use kube::ResourceExt;
use tokio::time::Instant;

use crate::api::kustomize::{Kustomization, KustomizationStatus};
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
    /// When it was applied.
    pub at: Instant,
}

/// What is remembered of one Kustomization.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// The status as written last.
    pub status: Option<KustomizationStatus>,
    /// The last build that was applied in full; `None` after any failure.
    pub built: Option<Built>,
    /// Something that Git declares was changed or deleted behind our back.
    pub drifted: bool,
}

/// Memories of all Kustomizations, by uid: a Kustomization that is deleted and made again starts anew.
#[derive(Debug, Default)]
pub struct Memories(Mutex<HashMap<String, Memory>>);

impl Memories {
    /// What is remembered.
    #[must_use]
    pub fn get(&self, kustomization: &Kustomization) -> Memory {
        self.with(kustomization, |memory| memory.clone())
    }

    /// Changes what is remembered.
    pub fn with<T>(&self, kustomization: &Kustomization, change: impl FnOnce(&mut Memory) -> T) -> T {
        let uid = kustomization.uid().unwrap_or_default();
        change(
            self.0
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(uid)
                .or_default(),
        )
    }

    /// Forgets a Kustomization that is gone.
    pub fn forget(&self, kustomization: &Kustomization) {
        let uid = kustomization.uid().unwrap_or_default();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&uid);
    }

    /// The newest status that is known.
    #[must_use]
    pub fn status(&self, kustomization: &Kustomization) -> Option<KustomizationStatus> {
        self.get(kustomization).status.or_else(|| kustomization.status.clone())
    }
}
