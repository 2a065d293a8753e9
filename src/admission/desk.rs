//! Where requests wait for a door's decision: bounded in number and in time.
//!
//! A `Door` decides one kind of request (`/validate`, `/mutate`, `/guard`). `Desk` holds the bounds, and says where a
//! decision runs: at once on the thread that speaks TLS, for handing it to another thread and back costs as much as a dozen
//! policies; on a thread of its own when it takes longer; on the main runtime when it waits for something.
//!
//! Guarantees: at most `MAX_IN_FLIGHT` decisions at a time, those included whose deadline has passed but which have not
//! ended; an answer, or the reason why there is none, within the deadline; a door that panics fails its own request only.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::glance::{Glance, glance};
use super::review::{AdmissionRequest, Answer};
use crate::telemetry::metrics::Metrics;

/// Decisions under way at once. A decision takes about a millisecond of one core, so with two cores this many are
/// decided in an eighth of a second, far within the shortest timeout; a request is up to 3 MiB twice, so this many are
/// bounded in memory too.
pub const MAX_IN_FLIGHT: usize = 256;
/// How long a decision may take when the API server does not say how long it waits. `timeoutSeconds` of the webhooks in
/// `manifests/` is 3.
pub const DEFAULT_DEADLINE: Duration = Duration::from_millis(2500);
/// What is kept of the API server's patience for the way there and back.
const MARGIN: Duration = Duration::from_millis(300);
/// Shortest time that a decision gets, whatever the API server says.
const MIN_DEADLINE: Duration = Duration::from_millis(200);
/// Longest time that a decision gets: the API allows `timeoutSeconds` up to 30.
const MAX_DEADLINE: Duration = Duration::from_secs(29);

/// How long a door may think before it needs a thread of its own: some four times what a whole library of policies takes,
/// and no more than other requests on the same connection may well wait.
pub const AT_ONCE: Duration = Duration::from_millis(3);

/// A decision, or why there is none yet: then the API server gets an error, which the webhook's `failurePolicy` resolves.
pub type Decided = Result<Answer, String>;

/// How far a decision got.
pub enum Begun {
    /// It is there.
    Done(Decided),
    /// It takes longer than [`AT_ONCE`] and waits for nothing: it gets a thread for itself, and must end in bounded time.
    Computes(Box<dyn FnOnce() -> Decided + Send>),
    /// It waits for something, and must not block the thread.
    Waits(BoxFuture<'static, Decided>),
}

/// Decides one kind of admission request.
pub trait Door: Send + Sync + 'static {
    /// Whether a request passes without being read: only where the decision would be a yes and no word more.
    fn passes(&self, _: &Glance<'_>) -> bool {
        false
    }

    /// Begins a decision on the thread that speaks TLS, which must be free again after about [`AT_ONCE`].
    fn begin(self: Arc<Self>, request: AdmissionRequest) -> Begun;
}

/// Why there is no decision. Each is answered with an HTTP error, which the webhook's `failurePolicy` resolves.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoDecision {
    /// Too many at once.
    #[error("{MAX_IN_FLIGHT} admission requests are being decided already; this one was not looked at")]
    Overloaded,
    /// It took too long.
    #[error("no decision within {} ms", .0.as_millis())]
    Deadline(Duration),
    /// The door gave up.
    #[error("the decision failed: {0}")]
    Failed(String),
}

/// Runs doors within the bounds. Clones share them.
#[derive(Clone)]
pub struct Desk {
    runtime: Handle,
    places: Arc<Semaphore>,
    metrics: Metrics,
}

impl Desk {
    /// Makes one whose doors run on `runtime`.
    #[must_use]
    pub fn new(runtime: Handle, metrics: Metrics) -> Self {
        Self {
            runtime,
            places: Arc::new(Semaphore::new(MAX_IN_FLIGHT)),
            metrics,
        }
    }

    /// Has a request decided. `path` names the door in metrics.
    ///
    /// # Errors
    /// When there is no decision.
    pub async fn decide(
        &self,
        path: &str,
        door: Arc<dyn Door>,
        request: AdmissionRequest,
        deadline: Duration,
    ) -> Result<Answer, NoDecision> {
        let began = Instant::now();
        let decision = self.run(door, request, deadline).await;
        let verdict = match &decision {
            Ok(answer) if answer.allowed => "allowed",
            Ok(_) => "denied",
            Err(NoDecision::Overloaded) => "overloaded",
            Err(NoDecision::Deadline(_)) => "timeout",
            Err(NoDecision::Failed(_)) => "failed",
        };
        self.metrics.admitted(path, verdict, began.elapsed());
        decision
    }

    /// The answer to a request that can be told without reading it.
    #[must_use]
    pub fn glance<'a>(&self, path: &str, door: &dyn Door, body: &'a [u8]) -> Option<(&'a str, Answer)> {
        let began = Instant::now();
        // A door that panics at a glance is asked once more, and then fails the request.
        let seen = catch_unwind(AssertUnwindSafe(|| glance(body).filter(|glance| door.passes(glance))));
        let uid = seen.ok().flatten()?.uid;
        self.metrics.admitted(path, "allowed", began.elapsed());
        Some((uid, Answer::allow()))
    }

    /// Counts a request that could not be read.
    pub fn malformed(&self, path: &str) {
        self.metrics.admitted(path, "malformed", Duration::ZERO);
    }

    async fn run(
        &self,
        door: Arc<dyn Door>,
        request: AdmissionRequest,
        deadline: Duration,
    ) -> Result<Answer, NoDecision> {
        let place = self
            .places
            .clone()
            .try_acquire_owned()
            .map_err(|_| NoDecision::Overloaded)?;
        // A door is thrown away after a panic no more than a task would be; what it shares is behind locks that know.
        let begun = catch_unwind(AssertUnwindSafe(|| door.begin(request)))
            .map_err(|_| NoDecision::Failed("the door panicked".to_owned()))?;
        // The place is free when the decision has really ended, not when nobody waits for it any more.
        let task = match begun {
            Begun::Done(decided) => return decided.map_err(NoDecision::Failed),
            Begun::Computes(compute) => self.runtime.spawn_blocking(move || {
                let decided = compute();
                drop(place);
                decided
            }),
            Begun::Waits(wait) => self.runtime.spawn(async move {
                let decided = wait.await;
                drop(place);
                decided
            }),
        };
        match tokio::time::timeout(deadline, task).await {
            Ok(Ok(answer)) => answer.map_err(NoDecision::Failed),
            Ok(Err(error)) => Err(NoDecision::Failed(error.to_string())),
            Err(_) => Err(NoDecision::Deadline(deadline)),
        }
    }
}

/// How long a decision may take, given the query of the request, in which the API server says `timeout=3s`.
#[must_use]
pub fn deadline(query: &str) -> Duration {
    let said = query.split('&').find_map(|pair| pair.strip_prefix("timeout="));
    let said = said.and_then(|text| crate::core::duration::parse_duration(text).ok());
    said.map_or(DEFAULT_DEADLINE, |said| {
        said.saturating_sub(MARGIN).clamp(MIN_DEADLINE, MAX_DEADLINE)
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use futures::FutureExt;

    use super::*;
    use crate::admission::review::{read, tests::review};

    /// A door made of a function.
    pub(crate) struct By<F>(pub(crate) F);

    impl<F, A> Door for By<F>
    where
        F: Fn(AdmissionRequest) -> A + Send + Sync + 'static,
        A: Future<Output = Answer> + Send + 'static,
    {
        fn begin(self: Arc<Self>, request: AdmissionRequest) -> Begun {
            Begun::Waits(async move { Ok((self.0)(request).await) }.boxed())
        }
    }

    /// A door that cannot decide.
    struct NotYet;

    impl Door for NotYet {
        fn begin(self: Arc<Self>, _: AdmissionRequest) -> Begun {
            Begun::Done(Err("not yet".to_owned()))
        }
    }

    /// A door that panics on the thread that asks, or on its own.
    struct Broken {
        at_once: bool,
    }

    impl Door for Broken {
        fn begin(self: Arc<Self>, _: AdmissionRequest) -> Begun {
            assert!(!self.at_once, "oh");
            Begun::Computes(Box::new(|| panic!("oh")))
        }
    }

    fn desk() -> Desk {
        Desk::new(Handle::current(), Metrics::new().unwrap())
    }

    async fn ask(desk: &Desk, door: impl Door, deadline: Duration) -> Result<Answer, NoDecision> {
        let request = read(review().to_string().as_bytes()).unwrap();
        desk.decide("/validate", Arc::new(door), request, deadline).await
    }

    #[test]
    fn the_deadline_is_what_the_api_server_says_less_a_margin() {
        let check = |query: &str, millis: u128| assert_eq!(deadline(query).as_millis(), millis, "{query}");
        check("timeout=3s", 2700);
        check("a=b&timeout=1s", 700);
        check("timeout=100ms", 200);
        check("timeout=10h", 29_000);
        check("", 2500);
        check("timeout=soon", 2500);
    }

    #[tokio::test]
    async fn a_door_that_fails_or_panics_fails_its_own_request_only() {
        let desk = desk();
        let door = By(|_| async { panic!("oh") });
        let failed = ask(&desk, door, DEFAULT_DEADLINE).await;
        assert!(matches!(failed, Err(NoDecision::Failed(_))), "{failed:?}");
        for at_once in [true, false] {
            let failed = ask(&desk, Broken { at_once }, DEFAULT_DEADLINE).await;
            assert!(matches!(failed, Err(NoDecision::Failed(_))), "{failed:?}");
        }
        assert_eq!(
            ask(&desk, NotYet, DEFAULT_DEADLINE).await,
            Err(NoDecision::Failed("not yet".to_owned()))
        );
        let allowed = ask(&desk, By(|_| async { Answer::allow() }), DEFAULT_DEADLINE).await;
        assert_eq!(allowed, Ok(Answer::allow()));
    }

    #[tokio::test]
    async fn late_decisions_keep_their_places_until_they_end() {
        let desk = desk();
        let (release, released) = tokio::sync::watch::channel(false);
        let wait = || {
            let released = released.clone();
            By(move |_| {
                let mut released = released.clone();
                async move {
                    let _ = released.wait_for(|done| *done).await;
                    Answer::allow()
                }
            })
        };
        let short = Duration::from_millis(20);
        let all = futures::future::join_all((0..MAX_IN_FLIGHT).map(|_| ask(&desk, wait(), short))).await;
        assert!(all.iter().all(|one| one == &Err(NoDecision::Deadline(short))));
        assert_eq!(ask(&desk, wait(), short).await, Err(NoDecision::Overloaded));
        release.send(true).unwrap();
        // The places come back as the decisions end, which takes a few turns of the scheduler.
        while desk.places.available_permits() < MAX_IN_FLIGHT {
            tokio::task::yield_now().await;
        }
        assert_eq!(ask(&desk, wait(), DEFAULT_DEADLINE).await, Ok(Answer::allow()));
    }
}
