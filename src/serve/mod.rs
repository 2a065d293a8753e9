//! The HTTP servers: the webhook (TLS), artifacts, health and metrics.
//!
//! Every `start` binds its address, returns what it got (port 0 asks for any), and runs until its `shutdown` future ends;
//! requests in flight then have `server::GRACE` to finish.
//!
//! actix-web needs a runtime of its own kind, so each server has a thread and few workers; decisions run on the main
//! runtime.

pub mod artifacts;
pub mod doors;
pub mod health;
pub mod server;
pub mod webhook;
