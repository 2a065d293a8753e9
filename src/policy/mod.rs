//! Policies: load, check, match, evaluate, mutate. One evaluator answers at every door.
//!
//! Two families live side by side: Gatekeeper's ConstraintTemplates with their constraints, and plain Rego packages as
//! conftest knows them. Both get the same input, and both answer with [`Finding`]s.
//!
//! Guarantees: pure (what is judged, what else exists and how long it may take are parameters), bounded, and it never
//! panics. Whatever a policy does wrong is a [`Problem`] when it is loaded or a finding when it is asked.

mod cel;
mod constraint;
mod coverage;
mod crd;
mod decision;
pub mod expansion;
mod explain;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod gator_tests;
#[cfg(test)]
mod hostile_tests;
mod inventory;
mod judge;
mod library;
#[cfg(test)]
mod library_tests;
mod matching;
mod mutate;
#[cfg(test)]
mod opa_tests;
mod parameters;
mod plain;
mod rego;
mod review;
mod selector;
mod source;
#[cfg(test)]
mod starter_tests;
pub mod suite;
mod synced;
mod template;
pub mod testing;

/// The stack that a thread needs to load and evaluate: the engine recurses over policies and inputs, both of bounded depth.
pub const STACK: usize = 16 << 20;

pub use coverage::{Coverage, Lines};
pub use crd::{CONSTRAINT_LABEL, constraint_crd};
pub use decision::{Action, Decision, EnforcementPoint, Finding};
pub use explain::Tried;
pub use inventory::Inventory;
pub use library::{Library, Loaded};
pub use mutate::{MutateError, Mutation};
pub use review::{Operation, Review, ReviewError};
pub use source::{Document, Problem, RegoFile, Severity, Sources};
pub use synced::{Process, Settings};
pub use template::TemplateKind;
