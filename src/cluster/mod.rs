//! The way to the API server: client and identity, what kinds it serves, events, and who leads.
//!
//! Everything here survives an API server that is away for a while: reads fail with an error that says so, events wait in
//! a bounded queue, and leadership is given up before another replica may take it.

pub mod changes;
pub mod client;
pub mod discovery;
pub mod events;
pub mod forward;
pub mod impersonation;
pub mod lease;
pub mod remote;
pub mod token;
