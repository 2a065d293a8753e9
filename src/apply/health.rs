//! Waits until objects are healthy, as kstatus or expressions of their own say.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures::{StreamExt, stream};
use serde_json::Value;
use tokio::time::Instant;

use super::objects::Objects;
use crate::core::health::{Health, Status, health};
use crate::core::object::{Gvk, ObjectRef};

/// How often objects that are not yet healthy are looked at. Flux polls every 5 s; deployments settle in about a second.
const POLL: Duration = Duration::from_millis(500);
/// How many objects are read at a time.
const CONCURRENT_READS: usize = 8;
/// How many objects an error names; the rest is counted.
const NAMED_OBJECTS: usize = 10;

/// How a live object tells its health, or why it does not; may take its time.
pub type Teller = Arc<dyn Fn(&Value) -> Result<Health, String> + Send + Sync>;

/// An object to wait for.
#[derive(Clone)]
pub struct Wanted {
    /// Its kind.
    pub gvk: Gvk,
    /// The object.
    pub object: ObjectRef,
    /// Who says whether it is healthy; kstatus when nobody does.
    pub teller: Option<Teller>,
    /// Whether it is well when it is gone: a job that removes itself when it is done.
    pub may_vanish: bool,
}

impl Wanted {
    /// An object that kstatus knows.
    #[must_use]
    pub fn new(gvk: Gvk, object: ObjectRef) -> Self {
        Self {
            gvk,
            object,
            teller: None,
            may_vanish: false,
        }
    }
}

/// How long to wait.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// The longest time.
    pub timeout: Duration,
    /// Whether waiting is over as soon as everything that is not healthy has failed.
    pub fail_fast: bool,
}

impl Patience {
    /// As long as there is hope.
    #[must_use]
    pub fn of(timeout: Duration) -> Self {
        Self {
            timeout,
            fail_fast: true,
        }
    }
}

/// Why waiting ended without everything being healthy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitError {
    /// The time ran out; what is not healthy, with the state that it is in.
    TimedOut(Vec<String>),
    /// Some failed, and nothing else is under way.
    Failed(Vec<String>),
    /// The caller had a reason to stop waiting: who is to blame.
    Cancelled(String),
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
            Self::TimedOut(pending) => write!(f, "timeout waiting for: [{}]", list(pending)),
            Self::Failed(failed) => write!(f, "failed early due to stalled resources: [{}]", list(failed)),
            Self::Cancelled(by) => write!(f, "new reconciliation triggered by {by}"),
        }
    }
}

impl std::error::Error for WaitError {}

/// Waits until all objects are healthy, all that are not have failed, the time is up, or `cancel` resolves (and says
/// why).
///
/// # Errors
/// Says which objects are not healthy and why.
pub async fn wait(
    objects: &Objects,
    wanted: Vec<Wanted>,
    patience: Patience,
    cancel: impl Future<Output = String>,
) -> Result<(), WaitError> {
    let deadline = Instant::now() + patience.timeout;
    let mut pending = wanted;
    tokio::pin!(cancel);
    loop {
        let looked: Vec<_> = stream::iter(pending.into_iter().map(|one| async move {
            let found = look(objects, &one).await;
            (one, found)
        }))
        .buffered(CONCURRENT_READS)
        .collect()
        .await;
        let mut hopeless = true;
        let (mut still, mut states) = (Vec::new(), Vec::new());
        for (one, found) in looked {
            if found.status == Status::Current {
                continue;
            }
            hopeless &= found.status == Status::Failed;
            states.push(format!(
                "{} status: '{:?}': {}",
                one.object, found.status, found.message
            ));
            still.push(one);
        }
        if still.is_empty() {
            return Ok(());
        }
        if hopeless && patience.fail_fast {
            return Err(WaitError::Failed(states));
        }
        pending = still;
        if Instant::now() >= deadline {
            return Err(WaitError::TimedOut(states));
        }
        tokio::select! {
            by = &mut cancel => return Err(WaitError::Cancelled(by)),
            () = tokio::time::sleep(POLL.min(deadline.saturating_duration_since(Instant::now()))) => {}
        }
    }
}

/// Reads an object and asks for its health.
async fn look(objects: &Objects, one: &Wanted) -> Health {
    let unknown = |message: String| Health {
        status: Status::Unknown,
        message,
    };
    let live = match objects.get(&one.gvk, &one.object).await {
        Ok(Some(live)) => live.into_value(),
        Ok(None) if one.may_vanish => {
            return Health {
                status: Status::Current,
                message: "it has removed itself".to_owned(),
            };
        }
        Ok(None) => return Health::not_found(),
        Err(error) => return unknown(error.to_string()),
    };
    let Some(teller) = one.teller.clone() else {
        return health(&live);
    };
    // Expressions are bounded, but not so short that others should wait for them.
    match tokio::task::spawn_blocking(move || teller(&live)).await {
        Ok(Ok(health)) => health,
        Ok(Err(why)) => unknown(why),
        Err(error) => unknown(error.to_string()),
    }
}
