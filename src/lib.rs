//! Weir: a gate between Git and a Kubernetes cluster.
//!
//! Start with `ARCHITECTURE.md`. Data goes one way: `source` → `render` → `plan` → `gate` → `apply` → status; each stage
//! takes the value of the one before it and knows no other stage.

// Tests hand `json!` literals over; borrowing each of them would only add noise.
#![cfg_attr(test, allow(clippy::needless_pass_by_value))]

pub mod admission;
pub mod api;
pub mod apply;
pub mod cel;
pub mod cli;
pub mod cluster;
pub mod controllers;
pub mod core;
pub mod gate;
pub mod guard;
pub mod plan;
pub mod policy;
pub mod render;
pub mod serve;
pub mod source;
pub mod telemetry;
