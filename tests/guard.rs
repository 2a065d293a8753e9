//! The drift guard against real clients and real controllers: what is refused at the door, and what is put back.
//!
//! Runs when `WEIR_TEST_KUBECONFIG` and its companions name a control plane that is ours alone (`hack/test` does that).

// clippy.toml lets tests unwrap, but sees no test in the helpers of an integration test.
#![allow(
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unreachable_pub
)]

#[path = "guard/away.rs"]
mod away;
#[path = "guard/door.rs"]
mod door;
#[path = "guard/exemption.rs"]
mod exemption;
#[path = "guard/fight.rs"]
mod fight;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "guard/helm.rs"]
mod helm;
#[path = "guard/random.rs"]
mod random;
#[path = "guard/restart.rs"]
mod restart;
#[path = "guard/revert.rs"]
mod revert;
#[path = "guard/stand.rs"]
mod stand;
#[path = "guard/standby.rs"]
mod standby;
#[path = "guard/table.rs"]
mod table;
#[path = "guard/why.rs"]
mod why;

use tokio::sync::Mutex;

/// The tests share the cluster's webhook configurations, so one at a time.
pub static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());
