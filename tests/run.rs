//! `weir run` from end to end: the real binary, a real control plane and a real Git server.
//!
//! Each test has its own namespace, repository and process, which sees only the objects of that test by a label; so tests
//! run side by side. The one that takes the API server away runs alone.
//!
//! Runs when `WEIR_TEST_KUBECONFIG` names a kubeconfig of a control plane that is ours alone, and `WEIR_RENDERER` a render
//! worker (`hack/test` sees to both).

// clippy.toml lets tests unwrap, but sees no test in the helpers of an integration test.
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "run/alone.rs"]
mod alone;
#[path = "run/artifacts.rs"]
mod artifacts;
#[path = "run/bad_git.rs"]
mod bad_git;
#[path = "run/building.rs"]
mod building;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "run/contract.rs"]
mod contract;
#[path = "run/decryption.rs"]
mod decryption;
#[path = "run/deletion.rs"]
mod deletion;
#[path = "run/expressions.rs"]
mod expressions;
#[path = "support/files.rs"]
mod files;
#[path = "run/flags.rs"]
mod flags;
#[path = "run/foreign.rs"]
mod foreign;
#[path = "run/gates.rs"]
mod gates;
#[path = "run/generator.rs"]
mod generator;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/github.rs"]
mod github;
#[path = "run/github_app.rs"]
mod github_app;
#[path = "run/guard.rs"]
mod guard;
#[path = "run/health.rs"]
mod health;
#[path = "run/ignore.rs"]
mod ignore;
#[path = "run/inventory.rs"]
mod inventory;
#[path = "run/markers.rs"]
mod markers;
#[path = "run/notices.rs"]
mod notices;
#[path = "run/outages.rs"]
mod outages;
#[path = "run/policy.rs"]
mod policy;
#[path = "run/remote.rs"]
mod remote;
#[path = "run/repository.rs"]
mod repository;
#[path = "run/spec.rs"]
mod spec;
#[path = "run/status.rs"]
mod status;
#[path = "run/take_over.rs"]
mod take_over;
#[path = "run/tenants.rs"]
mod tenants;
#[path = "run/vault.rs"]
mod vault;
#[path = "support/weir.rs"]
mod weir_process;
#[path = "run/world.rs"]
mod world;
