//! What Weir tells about itself: logs and metrics.
//!
//! Logs go to standard error as JSON lines with the keys that `flux logs` reads. Every metric name stands in one table,
//! `metrics::TABLE`; the alert rules in `manifests/` may use no other (a test holds them to it).

pub mod logs;
pub mod metrics;
pub mod record;
