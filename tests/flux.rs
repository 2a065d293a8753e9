//! Flux's own command line, `flux`, against Weir: the real program, a real control plane, a real Git server.
//!
//! What its users type works, ends with the exit code that Flux ends with, and tells the same.
//!
//! Runs when `WEIR_TEST_KUBECONFIG` names a kubeconfig of a control plane that is ours alone, `WEIR_RENDERER` a render
//! worker and `WEIR_FLUX` the program (`hack/test` sees to all three).

// clippy.toml lets tests unwrap, but sees no test in the helpers of an integration test.
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "flux/cli.rs"]
mod cli;
#[path = "support/cluster.rs"]
mod cluster;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "flux/installation.rs"]
mod installation;
#[path = "flux/objects.rs"]
mod objects;
#[path = "flux/steering.rs"]
mod steering;
#[path = "support/weir.rs"]
mod weir_process;
#[allow(dead_code, reason = "tests/run uses all of it")]
#[path = "run/world.rs"]
mod world;
