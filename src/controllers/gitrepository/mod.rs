//! GitRepository: fetch → artifact → snapshot → status.
//!
//! Guarantees: a failed fetch keeps the last artifact served and the last snapshot in use; a revision that did not change
//! costs one question to the Git server and no request to the API server.

mod fetch;
mod include;
mod report;
pub mod status;
mod store;
mod verify;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;
use kube::runtime::controller::Action;
use tokio::time::Instant;

use super::Shared;
use super::record::{self, Reconciled};
use super::snapshots::SourceKey;
use crate::api::source::{GitRepository, GitRepositoryStatus};
use crate::cluster::events::Severity;
use crate::source::Fetched;
pub use fetch::{AccessError, request};
use fetch::{fetch, times};
use include::included;
use report::{event, is_news, tell, tell_of_no_change, write, write_rested};
use status::{Ending, Verified};
use store::{offer_stored, store};
use verify::{Evidence, verify};

/// Flux's name for the controller, in events and metrics.
const COMPONENT: &str = "source-controller";
/// Field manager of status patches; Flux's.
const STATUS_MANAGER: &str = "gotk-source-controller";
/// Reason of the event when old artifacts are gone; Flux's.
const COLLECTED: &str = "GarbageCollectionSucceeded";
/// Reason of the event when they could not be deleted; Flux's.
const NOT_COLLECTED: &str = "GarbageCollectionFailed";
/// How long after a status could not be written the object is reconciled again.
const RECORD_RETRY: Duration = Duration::from_secs(5);

/// What the controller works with.
pub struct Context {
    /// What all controllers share.
    pub shared: Arc<Shared>,
    memories: Mutex<HashMap<String, Memory>>,
}

/// What is remembered of one repository.
#[derive(Debug, Clone, Default)]
struct Memory {
    status: Option<GitRepositoryStatus>,
    failures: u32,
}

/// What keeps a look from being recorded.
#[derive(Debug, thiserror::Error)]
#[error("cannot record: {0}")]
pub struct RecordError(#[from] kube::Error);

impl Context {
    /// Makes one.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            memories: Mutex::default(),
        }
    }

    fn memory<T>(&self, repository: &GitRepository, change: impl FnOnce(&mut Memory) -> T) -> T {
        let uid = repository.uid().unwrap_or_default();
        change(
            self.memories
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .entry(uid)
                .or_default(),
        )
    }
}

/// Reconciles one GitRepository.
///
/// # Errors
/// When its status or finalizer could not be written.
pub async fn reconcile(repository: Arc<GitRepository>, context: Arc<Context>) -> Result<Action, RecordError> {
    let started = Instant::now();
    let result = if repository.metadata.deletion_timestamp.is_some() {
        finalize(&repository, &context).await
    } else {
        look(&repository, &context).await
    };
    record::counted(&context.shared.metrics, repository.as_ref(), started, result)
}

/// What to do when a look could not be recorded.
#[must_use]
pub fn on_error(repository: &GitRepository, error: &RecordError) -> Action {
    tracing::error!(
        controller = "gitrepository", controllerKind = "GitRepository", name = %repository.name_any(),
        namespace = %repository.namespace().unwrap_or_default(), error = %error, "reconciliation not recorded"
    );
    Action::requeue(RECORD_RETRY)
}

/// Names a GitRepository as a source.
#[must_use]
pub fn key(repository: &GitRepository) -> SourceKey {
    SourceKey {
        kind: "GitRepository",
        namespace: repository.namespace().unwrap_or_default(),
        name: repository.name_any(),
    }
}

async fn look(repository: &Arc<GitRepository>, context: &Arc<Context>) -> Result<Reconciled, RecordError> {
    let (shared, spec) = (&context.shared, &repository.spec);
    record::add_finalizer(&shared.client, repository.as_ref()).await?;
    let memory = context.memory(repository, |memory| memory.clone());
    let old = memory.status.clone().or_else(|| repository.status.clone());
    if spec.suspend == Some(true) {
        offer_stored(repository, shared, old.as_ref()).await;
        write_rested(repository, context, old.as_ref()).await?;
        return Ok(Reconciled::well(Action::await_change()));
    }
    let (interval, timeout) = match times(spec) {
        Ok(times) => times,
        Err(ending) => {
            if is_news(&ending, old.as_ref()) {
                tell(repository, shared, &ending);
            }
            write(repository, context, old.as_ref(), &ending).await?;
            return Ok(Reconciled::badly(Action::await_change()));
        }
    };
    if shared.snapshots.revision(&key(repository)).is_none() {
        // After a restart: what is on disk serves until the server has answered.
        offer_stored(repository, shared, old.as_ref()).await;
    }
    let included = included(repository, shared).await;
    let arrive = async {
        match &included {
            Ok(included) => fetch(repository, shared, timeout, included, old.as_ref()).await,
            Err(ending) => Err(ending.clone()),
        }
    };
    let fetched = tokio::select! {
        fetched = arrive => fetched,
        // Nobody would see what came of it.
        () = shared.stopping.cancelled() => return Ok(Reconciled::waiting(Action::await_change())),
    };
    let counted = match &fetched {
        Ok(fetched) if fetched.unchanged => "unchanged",
        Ok(_) => "changed",
        Err(_) => "failed",
    };
    shared.metrics.fetched("GitRepository", counted);
    let ending = match fetched {
        Ok(fetched) => match verified(repository, shared, &fetched).await {
            Ok(verified) => {
                let included = included.unwrap_or_default().into_iter().map(|one| one.artifact);
                let parts = (included.collect(), verified);
                store(repository, shared, fetched, parts, old.as_ref()).await
            }
            Err(ending) => ending,
        },
        Err(ending) => ending,
    };
    let stored = matches!(ending, Ending::Stored(_));
    if stored {
        tell_of_no_change(repository, shared, &ending, old.as_ref());
    } else {
        shared.snapshots.miss(key(repository));
    }
    if is_news(&ending, old.as_ref()) {
        tell(repository, shared, &ending);
    }
    write(repository, context, old.as_ref(), &ending).await?;
    let failures = context.memory(repository, |memory| {
        memory.failures = if stored { 0 } else { memory.failures.saturating_add(1) };
        memory.failures
    });
    Ok(match ending {
        _ if ending.is_final() => Reconciled::badly(Action::await_change()),
        _ if stored => Reconciled::well(Action::requeue(interval)),
        _ => Reconciled::badly(Action::requeue(backoff(
            failures,
            interval,
            shared.settings.source_retry,
        ))),
    })
}

/// Whether the signatures that the spec asks for are there; nothing when it asks for none.
async fn verified(repository: &GitRepository, shared: &Shared, fetched: &Fetched) -> Result<Option<Verified>, Ending> {
    let Some(verification) = repository.spec.verify.clone() else {
        return Ok(None);
    };
    let secret = fetch::secret(repository, &shared.client, &verification.secret_ref.name).await;
    let secret = secret.map_err(|error| Ending::VerificationFailed {
        reason: "VerificationError",
        message: format!("public keys secret error: {error}"),
        for_good: false,
    })?;
    let evidence = Evidence::of(fetched);
    // Arithmetic with keys, too long for a thread that others wait for.
    let verdict =
        tokio::task::spawn_blocking(move || verify(&verification, &evidence, &secret, Timestamp::now())).await;
    let broken = |error: tokio::task::JoinError| Ending::VerificationFailed {
        reason: "VerificationError",
        message: format!("verification broke off: {error}"),
        for_good: false,
    };
    verdict.map_err(broken)?.map(Some)
}

/// How long to wait after so many failures in a row: doubling, and never longer than the interval.
fn backoff(failures: u32, interval: Duration, (first, longest): (Duration, Duration)) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1).min(20)));
    doubled.min(longest).min(interval.max(first))
}

async fn finalize(repository: &Arc<GitRepository>, context: &Arc<Context>) -> Result<Reconciled, RecordError> {
    let shared = &context.shared;
    let (namespace, name) = (repository.namespace().unwrap_or_default(), repository.name_any());
    let (store, fetcher) = (shared.artifacts.clone(), Arc::clone(&shared.fetcher));
    let gone = tokio::task::spawn_blocking(move || {
        fetcher.remove(&namespace, &name);
        store.remove(&namespace, &name)
    });
    let told = match gone.await {
        Ok(Ok(true)) => {
            let message = "garbage collected artifacts for deleted resource".to_owned();
            Some((Severity::Trace, COLLECTED, message))
        }
        Ok(Err(error)) => {
            let message = format!("garbage collection for deleted resource failed: {error}");
            Some((Severity::Warning, NOT_COLLECTED, message))
        }
        _ => None,
    };
    if let Some((severity, reason, message)) = told {
        event(repository, shared, severity, reason, message, None);
    }
    shared.snapshots.forget(&key(repository));
    record::remove_finalizer(&shared.client, repository.as_ref()).await?;
    let uid = repository.uid().unwrap_or_default();
    context
        .memories
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .remove(&uid);
    Ok(Reconciled::well(Action::await_change()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_in_a_row_are_retried_ever_later_but_not_later_than_the_interval() {
        let (interval, bounds) = (
            Duration::from_secs(60),
            (Duration::from_millis(750), Duration::from_secs(900)),
        );
        let millis = |failures| backoff(failures, interval, bounds).as_millis();
        assert_eq!([millis(1), millis(2), millis(3), millis(30)], [750, 1500, 3000, 60_000]);
        assert_eq!(backoff(1, Duration::from_millis(1), bounds), bounds.0);
        assert_eq!(backoff(30, Duration::from_secs(3600), bounds), bounds.1);
    }
}
