//! Snapshot to objects: kustomize's own library in a worker process that has nothing but a pipe to Weir.
//!
//! Flow: `Pool::render(request, files)` takes a warm worker (or starts one), answers its questions about files from
//! `files`, notes every path that it asked for, and returns the objects.
//!
//! Guarantees: a worker sees only the files of one snapshot; a build ends within its deadline; a worker that crashes,
//! breaks the protocol or outgrows its memory is killed, its build fails with `RenderError` and the next one starts clean.
//!
//! Assumes a `renderer` binary (see `renderer/`), named by the pool's options, and for what SOPS encrypted a second one
//! built with its library (`decrypting`).

mod conversation;
mod decrypting;
pub mod keys;
mod pool;
mod protocol;
mod reads;
pub mod variables;
pub mod vault;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::time::Duration;

use crate::api::kustomize::{Image, Patch};
use crate::core::object::Object;
use crate::core::snapshot::FilesError;

pub use decrypting::Decrypting;
pub use pool::{Options, Pool};
pub use reads::{Found, ReadSet};

/// What to build. Mirrors the fields of a Kustomization's spec that kustomize must see.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RenderRequest {
    /// Directory in the snapshot as `spec.path` spells it; empty for its root. What climbs above the root ends there.
    pub path: String,
    /// Namespace for every namespaced object.
    pub target_namespace: Option<String>,
    /// Put before every name.
    pub name_prefix: Option<String>,
    /// Put after every name.
    pub name_suffix: Option<String>,
    /// Patches.
    pub patches: Vec<Patch>,
    /// Images to replace.
    pub images: Vec<Image>,
    /// Components, relative to `path`.
    pub components: Vec<String>,
    /// Whether a component that does not exist is left out rather than an error.
    pub ignore_missing_components: bool,
    /// Kustomize's `buildMetadata`; when not empty it replaces the kustomization's own.
    pub build_metadata: Vec<String>,
    /// Post-build substitution; `None` leaves `${…}` alone.
    pub substitute: Option<Substitution>,
    /// Keys for what SOPS encrypted; `None` decrypts nothing. Only a decrypting worker takes them.
    pub decrypt: Option<keys::Keys>,
    /// Whether encrypted Secrets are left as they are, for who only looks; else they are an error.
    pub keep_encrypted: bool,
}

/// Post-build substitution. Without a variable nothing is substituted, unless `always`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Substitution {
    /// The variables.
    pub variables: BTreeMap<String, String>,
    /// Whether a variable without value and default is an error.
    pub strict: bool,
    /// Whether to substitute even without a variable (`substituteStrategy: Always`).
    pub always: bool,
}

/// What a build gave.
#[derive(Debug, Clone, Default)]
pub struct Rendered {
    /// The objects, in kustomize's order.
    pub objects: Vec<RenderedObject>,
    /// Every path that the build asked for.
    pub reads: ReadSet,
    /// What a person should know although the build went well.
    pub warnings: Vec<String>,
}

/// An object and where it came from.
#[derive(Debug, Clone, PartialEq)]
pub struct RenderedObject {
    /// The object.
    pub object: Object,
    /// File in the snapshot that declares it (the kustomization, for a generated object), when known.
    pub file: Option<String>,
    /// Line in that file where it begins, from 1, when known.
    pub line: Option<u32>,
}

/// A document of a YAML stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it holds.
    pub value: serde_json::Value,
    /// Line on which it begins, from 1.
    pub line: u32,
    /// Line of each field and item by its JSON pointer, when asked for. What an alias brings has none.
    pub lines: HashMap<String, u32>,
}

/// A file and perhaps a line in it; prints as `file:line`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// File or directory in the snapshot, when known.
    pub path: Option<String>,
    /// Line, from 1, when known.
    pub line: Option<u32>,
}

impl fmt::Display for Place {
    /// Ends in `: ` when anything is known, so that it can stand before a message.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.path, self.line) {
            (Some(path), Some(line)) => write!(f, "{path}:{line}: "),
            (Some(path), None) => write!(f, "{path}: "),
            (None, _) => Ok(()),
        }
    }
}

/// Why there are no objects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The directory to build does not exist.
    #[error("kustomization path not found: {0}")]
    NotFound(String),
    /// What is in the repository, or in the Kustomization, does not build. Trying again does not help.
    #[error("{place}{message}")]
    Invalid {
        /// What is wrong, for people.
        message: String,
        /// Where, as far as it is known.
        place: Place,
        /// Whether it was kustomize that failed, and not what comes before or after it.
        kustomize: bool,
    },
    /// A bound was met. Trying again does not help.
    #[error("{place}{message}")]
    TooLarge {
        /// What there was too much of.
        what: String,
        /// How much there may be.
        limit: u64,
        /// The bound in words, for people.
        message: String,
        /// Where, as far as it is known.
        place: Place,
    },
    /// The build took longer than its deadline.
    #[error("build of '{path}' took longer than {after:?} and was stopped")]
    TimedOut {
        /// The directory.
        path: String,
        /// The deadline.
        after: Duration,
    },
    /// The worker ended in the middle of a build.
    #[error("render worker ended in the middle of a build ({status}){}", said(.stderr))]
    Crashed {
        /// How the process ended.
        status: String,
        /// The last of what it wrote on standard error.
        stderr: String,
    },
    /// The program that decrypts is not there.
    #[error(
        "spec.decryption needs the program weir-renderer-sops, which is neither beside weir nor on PATH; install it or give \
         its path with --sops-renderer"
    )]
    NotInstalled,
    /// The snapshot could not be read.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The worker could not be started, or does not speak the protocol.
    #[error("render worker: {reason}{}", said(.stderr))]
    Worker {
        /// What went wrong and, where known, what to do.
        reason: String,
        /// The last of what it wrote on standard error.
        stderr: String,
    },
}

impl RenderError {
    /// What is told in a status: Flux says which step it was that failed.
    #[must_use]
    pub fn told(&self) -> String {
        match self {
            Self::Invalid { kustomize: true, .. } => format!("kustomize build failed: {self}"),
            other => other.to_string(),
        }
    }

    /// Names the file, for who handed in its content only.
    #[must_use]
    pub fn in_file(mut self, name: &str) -> Self {
        if let Self::Invalid { place, .. } | Self::TooLarge { place, .. } = &mut self {
            place.path.get_or_insert_with(|| name.to_owned());
        }
        self
    }
}

fn said(stderr: &str) -> String {
    match stderr.trim() {
        "" => String::new(),
        text => format!("; it said: {text}"),
    }
}
