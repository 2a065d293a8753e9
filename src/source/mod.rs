//! Where bytes come from: Git repositories and local directories, as trees of files at a revision, and the store of
//! artifacts.
//!
//! Flow: `git::GitFetcher` asks the remote, over a `bridge`, what there is, `reference` decides what is wanted, the fetcher brings it into a
//! bare repository, `tree::GitTree` reads from there, and `artifact` packs it into an archive for `store`.
//!
//! Guarantees: nothing is ever checked out; links and submodules do not exist; what a tree shows is exactly what its
//! artifact holds; credentials stand in no error and no log line; every size, count and time is bounded.
//!
//! Assumes that the storage root is private to this process. It is a cache: all of it may be lost at any time.

pub mod archive;
pub mod artifact;
mod bridge;
pub mod compose;
pub mod dir;
pub mod download;
pub mod git;
mod git_attempt;
pub mod git_auth;
mod git_blame;
mod git_compose;
mod git_error;
mod git_history;
mod git_modules;
mod git_remote;
mod git_repo;
mod git_turn;
mod git_url;
pub mod github_app;
pub mod ignore;
pub mod layers;
pub mod one;
mod packer;
mod pieces;
pub mod policy_dir;
pub mod reference;
pub mod signature;
pub mod store;
pub mod tree;

pub use git::{FetchRequest, Fetched, GitFetcher, Shape};
pub use git_auth::{Access, Credentials, Proxy, SshIdentity, Tls};
pub use git_blame::{Authorship, MOST_COMMITS};
pub use git_compose::SourceTree;
pub use git_error::FetchError;
pub use git_history::History;
pub use git_url::redact;
pub use layers::Mount;
pub use tree::GitTree;
