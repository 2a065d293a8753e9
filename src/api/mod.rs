//! The APIs that Weir speaks: Flux's, Gatekeeper's and one kind of its own, a file per API group.
//!
//! The CRD manifests under `manifests/crds/` are generated from these types (`weir install --export` prints them, a test
//! keeps both equal). Every field of Flux's schema is accepted, also those that Weir answers with `Stalled` for now.

pub mod extensions;
pub mod gatekeeper;
pub mod ignore;
pub mod kustomize;
pub mod meta;
pub mod schema;
pub mod source;
pub mod weir;
