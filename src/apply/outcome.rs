//! What came of carrying a plan out, and how it is told.

use std::fmt;

use super::objects::ObjectError;
use crate::core::inventory::Inventory;
use crate::core::object::{Gvk, Object, ObjectRef};

/// What was done with one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Done {
    /// It did not exist.
    Created,
    /// It differed.
    Configured,
    /// An immutable field changed and force was allowed.
    Recreated,
    /// It was as it should be.
    Unchanged,
    /// A control marker says to leave it alone.
    Skipped,
    /// Git no longer has it.
    Deleted,
}

impl Done {
    /// The word that Flux and kubectl print.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Configured => "configured",
            Self::Recreated => "recreated",
            Self::Unchanged => "unchanged",
            Self::Skipped => "skipped",
            Self::Deleted => "deleted",
        }
    }
}

/// One object and what was done with it.
#[derive(Debug, Clone)]
pub struct Applied {
    /// The object.
    pub object: ObjectRef,
    /// Its kind with version.
    pub gvk: Gvk,
    /// What was done.
    pub done: Done,
    /// What the API server holds now; `None` for skipped and deleted objects.
    pub stored: Option<Object>,
}

/// What came of carrying a plan out.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// What was done, in order.
    pub applied: Vec<Applied>,
    /// What stood in the way; empty when all went well.
    pub failures: Vec<ObjectError>,
    /// Whether the failures are of pruning only: everything that Git declares is applied.
    pub only_pruning_failed: bool,
    /// What the Kustomization owns now.
    pub inventory: Inventory,
}

impl Outcome {
    /// Lines such as `ConfigMap/prod/web configured` for what was applied, without what was left as it was.
    #[must_use]
    pub fn change_log(&self) -> Vec<String> {
        self.lines(|done| match done {
            // To Flux it is a new object, and those who read its lines know no other word.
            Done::Created | Done::Recreated => Some(Done::Created.word()),
            Done::Configured => Some(done.word()),
            Done::Unchanged | Done::Skipped | Done::Deleted => None,
        })
    }

    /// Lines such as `ConfigMap/prod/web deleted` for what was pruned.
    #[must_use]
    pub fn prune_log(&self) -> Vec<String> {
        self.lines(|done| (done == Done::Deleted).then(|| done.word()))
    }

    fn lines(&self, word: impl Fn(Done) -> Option<&'static str>) -> Vec<String> {
        let told = self
            .applied
            .iter()
            .filter_map(|one| Some((&one.object, word(one.done)?)));
        told.map(|(object, word)| format!("{object} {word}")).collect()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.failures.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}
