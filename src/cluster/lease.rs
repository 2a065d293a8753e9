//! Leader election on a Lease, as client-go does it, so that Weir and any client-go program understand each other.
//!
//! Flow: every `retry_period` the Lease is read; `decide` (pure) says whether to take, renew or leave it; the write
//! carries the resource version that was read, so that of two candidates one loses. A leader that could not renew for
//! `renew_deadline` stops leading, `lease_duration - renew_deadline` before anybody else may begin.
//!
//! Guarantees: at most one candidate believes that it leads as long as clocks *advance* at about the same rate; their
//! settings do not matter, because a Lease is judged by when its change was seen here.
//!
//! On stop the Lease is given back, so that the next leader need not wait for it to run out.

use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::client::{explain, is_code};

/// How long a candidate waits after the last change of a Lease before it takes it: client-go's default.
const LEASE_DURATION: Duration = Duration::from_secs(15);
/// How long a leader tries to renew before it gives up: client-go's default.
const RENEW_DEADLINE: Duration = Duration::from_secs(10);
/// How long between attempts: client-go's default.
const RETRY_PERIOD: Duration = Duration::from_secs(2);
/// How long giving the Lease back at stop may take: a third of what others would wait for it to run out.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// What to compete for, and as whom.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who we are; must differ between replicas and between lives of one replica.
    pub identity: String,
    /// How long a candidate waits before it takes a Lease that does not change.
    pub lease_duration: Duration,
    /// How long a leader tries to renew.
    pub renew_deadline: Duration,
    /// How long between attempts.
    pub retry_period: Duration,
}

impl LeaseOptions {
    /// Options with client-go's times.
    #[must_use]
    pub fn new(namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            identity: identity.to_owned(),
            lease_duration: LEASE_DURATION,
            renew_deadline: RENEW_DEADLINE,
            retry_period: RETRY_PERIOD,
        }
    }
}

/// Starts to compete. The receiver is true while this process leads; the task ends after `shutdown`, having given the
/// Lease back.
pub fn start(
    client: Client,
    options: LeaseOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> (watch::Receiver<bool>, JoinHandle<()>) {
    let (leads, receiver) = watch::channel(false);
    let candidate = Candidate {
        api: Api::namespaced(client, &options.namespace),
        options,
        seen: None,
    };
    (receiver, tokio::spawn(candidate.run(leads, shutdown)))
}

/// What to do about a Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// There is none: create it.
    Create,
    /// It is ours: renew it.
    Renew,
    /// It is free or has run out: take it.
    Take,
    /// Somebody else holds it.
    Leave,
}

/// Decides about a Lease whose last change was seen `unchanged` ago.
fn decide(lease: Option<&LeaseSpec>, unchanged: Duration, identity: &str) -> Step {
    let Some(spec) = lease else { return Step::Create };
    let holder = spec.holder_identity.as_deref().unwrap_or_default();
    if holder == identity {
        return Step::Renew;
    }
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    if holder.is_empty() || unchanged >= Duration::from_secs(seconds) {
        Step::Take
    } else {
        Step::Leave
    }
}

/// The record that a step writes.
fn record(old: Option<&LeaseSpec>, step: Step, options: &LeaseOptions, now: Timestamp) -> LeaseSpec {
    let kept = old.filter(|_| step == Step::Renew);
    LeaseSpec {
        holder_identity: Some(options.identity.clone()),
        lease_duration_seconds: i32::try_from(options.lease_duration.as_secs()).ok(),
        acquire_time: kept.and_then(|spec| spec.acquire_time.clone()).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: match (old.and_then(|spec| spec.lease_transitions), step) {
            (transitions, Step::Renew) => transitions,
            (Some(transitions), _) => Some(transitions.saturating_add(1)),
            (None, _) => Some(i32::from(old.is_some())),
        },
        ..LeaseSpec::default()
    }
}

/// Whose the Lease is after an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Round {
    Ours,
    Theirs,
    Unclear,
}

struct Candidate {
    api: Api<Lease>,
    options: LeaseOptions,
    /// The last record that was read, and when it was first seen.
    seen: Option<(LeaseSpec, Instant)>,
}

impl Candidate {
    async fn run(mut self, leads: watch::Sender<bool>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut renewed: Option<Instant> = None;
        loop {
            // A leader's attempt may not outlast its right to lead.
            let left = renewed.map_or(self.options.renew_deadline, |at| {
                self.options.renew_deadline.saturating_sub(at.elapsed())
            });
            let attempt = tokio::select! {
                attempt = timeout(left, self.attempt()) => attempt,
                () = &mut shutdown => break,
            };
            match attempt {
                Ok(Ok(Round::Ours)) => renewed = Some(Instant::now()),
                Ok(Ok(Round::Theirs)) => renewed = None,
                Ok(Ok(Round::Unclear)) => {}
                Ok(Err(error)) => tracing::warn!(error = %explain(&error), "lease could not be read or written"),
                Err(_) => tracing::warn!("the API server did not answer about the lease in time"),
            }
            renewed = renewed.filter(|at| at.elapsed() < self.options.renew_deadline);
            self.tell(&leads, renewed.is_some());
            tokio::select! {
                () = sleep(self.options.retry_period) => {}
                () = &mut shutdown => break,
            }
        }
        self.tell(&leads, false);
        if renewed.is_some() {
            match timeout(RELEASE_TIMEOUT, self.release()).await {
                Ok(Ok(())) => tracing::info!(lease = self.options.name, "gave the lease back"),
                Ok(Err(error)) => tracing::warn!(error = %explain(&error), "lease could not be given back"),
                Err(_) => tracing::warn!("lease could not be given back in time; it will run out"),
            }
        }
    }

    fn tell(&self, leads: &watch::Sender<bool>, now: bool) {
        leads.send_if_modified(|before| {
            let changed = *before != now;
            if changed {
                let (lease, identity) = (&self.options.name, &self.options.identity);
                tracing::info!(
                    lease,
                    identity,
                    "{}",
                    if now { "became leader" } else { "is no longer leader" }
                );
            }
            *before = now;
            changed
        });
    }

    async fn attempt(&mut self) -> Result<Round, kube::Error> {
        let found = self.api.get_opt(&self.options.name).await?;
        let spec = found.as_ref().map(|lease| lease.spec.clone().unwrap_or_default());
        let step = decide(spec.as_ref(), self.unchanged(spec.as_ref()), &self.options.identity);
        let new = record(spec.as_ref(), step, &self.options, Timestamp::now());
        let written = match (step, found) {
            (Step::Leave, _) => return Ok(Round::Theirs),
            (_, Some(lease)) => self.write(lease.metadata, new).await,
            (_, None) => self.create(new).await,
        };
        match written {
            Ok(lease) => {
                self.seen = Some((lease.spec.unwrap_or_default(), Instant::now()));
                Ok(Round::Ours)
            }
            // Somebody wrote in between, perhaps only a label; the next round sees whose it is.
            Err(error) if is_code(&error, 409) => Ok(Round::Unclear),
            Err(error) => Err(error),
        }
    }

    /// How long the record has stood as it is, as far as we saw.
    fn unchanged(&mut self, spec: Option<&LeaseSpec>) -> Duration {
        match (spec, &self.seen) {
            (Some(spec), Some((seen, at))) if seen == spec => at.elapsed(),
            (Some(spec), _) => {
                self.seen = Some((spec.clone(), Instant::now()));
                Duration::ZERO
            }
            (None, _) => Duration::ZERO,
        }
    }

    async fn create(&self, spec: LeaseSpec) -> Result<Lease, kube::Error> {
        let metadata = ObjectMeta {
            name: Some(self.options.name.clone()),
            namespace: Some(self.options.namespace.clone()),
            ..ObjectMeta::default()
        };
        let lease = Lease {
            metadata,
            spec: Some(spec),
        };
        self.api.create(&PostParams::default(), &lease).await
    }

    async fn write(&self, metadata: ObjectMeta, spec: LeaseSpec) -> Result<Lease, kube::Error> {
        let lease = Lease {
            metadata,
            spec: Some(spec),
        };
        self.api
            .replace(&self.options.name, &PostParams::default(), &lease)
            .await
    }

    /// The attempt that the stop broke off may still be carried out by the server, between our reading and our writing; then
    /// it is read again. The caller bounds how often.
    async fn release(&self) -> Result<(), kube::Error> {
        loop {
            let Some(lease) = self.api.get_opt(&self.options.name).await? else {
                return Ok(());
            };
            let spec = lease.spec.unwrap_or_default();
            if spec.holder_identity.as_deref() != Some(self.options.identity.as_str()) {
                return Ok(());
            }
            let now = MicroTime(Timestamp::now());
            let free = LeaseSpec {
                holder_identity: Some(String::new()),
                // client-go writes one second here: zero is not valid.
                lease_duration_seconds: Some(1),
                acquire_time: Some(now.clone()),
                renew_time: Some(now),
                ..spec
            };
            match self.write(lease.metadata, free).await {
                Err(error) if is_code(&error, 409) => {}
                written => return written.map(|_| ()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: Option<&str>, seconds: Option<i32>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            lease_transitions: Some(4),
            acquire_time: Some(MicroTime(Timestamp::UNIX_EPOCH)),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn what_is_done_about_a_lease() {
        let check = |lease: Option<LeaseSpec>, unchanged: u64, expect: Step| {
            let step = decide(lease.as_ref(), Duration::from_secs(unchanged), "me");
            assert_eq!(step, expect, "{lease:?} unchanged for {unchanged} s");
        };
        check(None, 0, Step::Create);
        check(Some(held_by(Some("me"), Some(15))), 0, Step::Renew);
        check(Some(held_by(Some("me"), Some(15))), 100, Step::Renew);
        check(Some(held_by(Some("other"), Some(15))), 0, Step::Leave);
        check(Some(held_by(Some("other"), Some(15))), 14, Step::Leave);
        check(Some(held_by(Some("other"), Some(15))), 15, Step::Take);
        check(Some(held_by(Some("other"), Some(60))), 15, Step::Leave);
        check(Some(held_by(Some(""), Some(15))), 0, Step::Take);
        check(Some(held_by(None, None)), 0, Step::Take);
        check(Some(held_by(Some("other"), Some(-3))), 0, Step::Take);
    }

    #[test]
    fn taking_counts_a_transition_and_renewing_does_not() {
        let options = LeaseOptions::new("ns", "weir", "me");
        let now = Timestamp::from_second(1_800_000_000).unwrap();
        let old = held_by(Some("other"), Some(15));
        let taken = record(Some(&old), Step::Take, &options, now);
        assert_eq!(
            (taken.lease_transitions, taken.lease_duration_seconds),
            (Some(5), Some(15))
        );
        assert_eq!(taken.acquire_time, Some(MicroTime(now)));
        let renewed = record(Some(&old), Step::Renew, &options, now);
        assert_eq!(
            (renewed.lease_transitions, &renewed.acquire_time),
            (Some(4), &old.acquire_time)
        );
        assert_eq!(renewed.renew_time, Some(MicroTime(now)));
        assert_eq!(record(None, Step::Create, &options, now).lease_transitions, Some(0));
    }
}
