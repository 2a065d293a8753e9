//! Waits until objects are healthy, as kstatus understands it.

use std::fmt;
use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::time::Instant;

use super::objects::Objects;
use crate::core::duration::format_duration;
use crate::core::health::{Status, health};
use crate::core::object::{Gvk, ObjectRef};

/// How often objects that are not yet healthy are looked at. Flux polls every 5 s; deployments settle in about a second.
const POLL: Duration = Duration::from_millis(500);
/// How many objects are read at a time.
const CONCURRENT_READS: usize = 8;
/// How many objects an error names; the rest is counted.
const NAMED_OBJECTS: usize = 10;

/// Why waiting ended without everything being healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitError {
    /// The time ran out; what is not healthy, with the reason.
    TimedOut {
        /// How long was waited.
        after: Duration,
        /// Objects with the state that they are in.
        pending: Vec<String>,
    },
    /// Some failed, and nothing else is under way.
    Failed(Vec<String>),
    /// The caller had a reason to stop waiting.
    Cancelled,
}

impl fmt::Display for WaitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |lines: &[String]| {
            let named: Vec<&str> = lines.iter().take(NAMED_OBJECTS).map(String::as_str).collect();
            let rest = lines.len().saturating_sub(NAMED_OBJECTS);
            if rest == 0 {
                named.join(", ")
            } else {
                format!("{} and {rest} more", named.join(", "))
            }
        };
        match self {
            Self::TimedOut { after, pending } => {
                write!(
                    f,
                    "timeout waiting for: [{}] after {}",
                    list(pending),
                    format_duration(*after)
                )
            }
            Self::Failed(failed) => write!(f, "failed early due to stalled resources: [{}]", list(failed)),
            Self::Cancelled => f.write_str("new reconcile request received"),
        }
    }
}

impl std::error::Error for WaitError {}

/// Waits until all objects are healthy, one has failed for good while no other is under way, the time is up, or `cancel` resolves.
///
/// # Errors
/// Says which objects are not healthy and why.
pub async fn wait(
    objects: &Objects,
    wanted: &[(Gvk, ObjectRef)],
    timeout: Duration,
    cancel: impl Future<Output = ()>,
) -> Result<(), WaitError> {
    let started = Instant::now();
    let deadline = started + timeout;
    let mut pending: Vec<(Gvk, ObjectRef)> = wanted.to_vec();
    let mut failed: Vec<String> = Vec::new();
    tokio::pin!(cancel);
    loop {
        let looked: Vec<_> = stream::iter(pending.into_iter().map(|(gvk, object)| async move {
            let found = objects.get(&gvk, &object).await;
            (gvk, object, found)
        }))
        .buffered(CONCURRENT_READS)
        .collect()
        .await;
        let (mut still, mut states) = (Vec::new(), Vec::new());
        for (gvk, object, found) in looked {
            let (status, message) = match found {
                Ok(Some(live)) => {
                    let health = health(live.value());
                    (health.status, health.message)
                }
                Ok(None) => (Status::NotFound, "not found".to_owned()),
                Err(error) => (Status::Unknown, error.to_string()),
            };
            match status {
                Status::Current => {}
                Status::Failed => failed.push(format!("{object} status: 'Failed': {message}")),
                other => {
                    states.push(format!("{object} status: '{other:?}': {message}"));
                    still.push((gvk, object));
                }
            }
        }
        if still.is_empty() {
            return if failed.is_empty() {
                Ok(())
            } else {
                Err(WaitError::Failed(failed))
            };
        }
        pending = still;
        if Instant::now() >= deadline {
            failed.extend(states);
            return Err(WaitError::TimedOut {
                after: started.elapsed(),
                pending: failed,
            });
        }
        tokio::select! {
            () = &mut cancel => return Err(WaitError::Cancelled),
            () = tokio::time::sleep(POLL.min(deadline.saturating_duration_since(Instant::now()))) => {}
        }
    }
}
