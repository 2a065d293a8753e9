//! Values and pure decisions, shared by every stage.
//!
//! Guarantees: nothing in here performs I/O, reads a clock or names a client; time is always a parameter, so every
//! decision can be repeated in a test. `tests/architecture.rs` holds this room to it.

pub mod conditions;
pub mod diff;
pub mod duration;
pub mod fields;
pub mod gates;
pub mod health;
pub mod identity;
pub mod ignored;
pub mod inventory;
pub mod object;
pub(crate) mod raw;
mod re2;
pub(crate) mod regexes;
pub mod selector;
pub mod semver_range;
pub mod snapshot;
pub mod yaml;
