//! Kubernetes events as Flux's controllers write them: core/v1, which `flux events` and `kubectl events` read.
//!
//! Flow: `Recorder::record` puts an event into a bounded queue and returns at once; one background task writes them. An
//! event that equals an earlier one within `SAME_EVENT` raises its count instead of becoming another object.
//!
//! Guarantees: recording never waits and never fails; when the API server cannot keep up, events are dropped, counted
//! (`weir_events_dropped_total`) and said in the log once per gap; at stop what is queued is written within `DRAIN`.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::client::{explain, is_code};
use super::forward::Forwarder;
use crate::telemetry::metrics::Metrics;

/// Longest message in bytes that the API accepts in an event.
const MAX_MESSAGE: usize = 1024;
/// How many events may wait: two for each of a thousand objects reconciled at once.
const QUEUE: usize = 2048;
/// How long two equal events count as one, as client-go's aggregation does.
const SAME_EVENT: Duration = Duration::from_secs(600);
/// How many events are remembered for that: client-go's bound.
const REMEMBERED: usize = 4096;
/// How long the queue is still written after stop.
const DRAIN: Duration = Duration::from_secs(3);
/// How long one write may take; an API server that is away must not hold the queue for ever.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// What happened to an object.
#[derive(Debug, Clone, PartialEq)]
pub struct NewEvent {
    /// The object; apiVersion, kind, namespace, name and uid are needed by those who read it.
    pub involved: ObjectReference,
    /// How bad it is.
    pub severity: Severity,
    /// Reason, as in `ReconciliationSucceeded`.
    pub reason: String,
    /// Text; what is longer than the API allows is cut.
    pub message: String,
    /// Annotations, as in `kustomize.toolkit.fluxcd.io/revision`.
    pub annotations: BTreeMap<String, String>,
    /// Name of Flux's controller that would have written it, as in `kustomize-controller`.
    pub component: &'static str,
}

/// How bad an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Severity {
    /// Only of interest to who looks for it: an event in the cluster, and nobody is told of it.
    Trace,
    /// As it should be.
    Normal,
    /// Somebody should look at it.
    Warning,
}

/// Takes events. Clones feed the same queue.
#[derive(Clone)]
pub struct Recorder {
    queue: mpsc::Sender<NewEvent>,
    forwarder: Option<Forwarder>,
    metrics: Metrics,
}

impl Recorder {
    /// Queues an event, for the cluster and for who listens at `--events-addr`.
    pub fn record(&self, event: NewEvent) {
        self.notify(&event);
        if let Err(error) = self.queue.try_send(event) {
            self.metrics.event_dropped();
            tracing::debug!(%error, "event dropped");
        }
    }

    /// Tells only those who listen at `--events-addr`: what is not worth a request to the API server.
    pub fn notify(&self, event: &NewEvent) {
        if let Some(forwarder) = self.forwarder.as_ref().filter(|_| event.severity != Severity::Trace) {
            forwarder.forward(event);
        }
    }
}

/// Starts the task that writes events. `instance` names this process, usually its host name. The task ends after
/// `shutdown`, or when every recorder is gone.
pub fn start(
    client: Client,
    instance: String,
    metrics: Metrics,
    forwarder: Option<Forwarder>,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> (Recorder, JoinHandle<()>) {
    let (queue, receiver) = mpsc::channel(QUEUE);
    let recorder = Recorder {
        queue,
        forwarder,
        metrics: metrics.clone(),
    };
    let writer = Writer {
        client,
        metrics,
        failing: false,
        known: Known {
            instance,
            events: HashMap::new(),
        },
    };
    (recorder, tokio::spawn(writer.run(receiver, shutdown)))
}

struct Writer {
    client: Client,
    metrics: Metrics,
    known: Known,
    failing: bool,
}

impl Writer {
    async fn run(mut self, mut queue: mpsc::Receiver<NewEvent>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let event = tokio::select! {
                event = queue.recv() => event,
                () = &mut shutdown => break,
            };
            let Some(event) = event else { return };
            self.write(event).await;
        }
        queue.close();
        let drained = tokio::time::timeout(DRAIN, async {
            while let Some(event) = queue.recv().await {
                self.write(event).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!("some events were not written before the stop");
        }
    }

    async fn write(&mut self, event: NewEvent) {
        let now = Timestamp::now();
        let writing = tokio::time::timeout(WRITE_TIMEOUT, self.try_write(event, now)).await;
        let failure = match writing {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(explain(&error)),
            Err(_) => Some(format!("no answer within {} s", WRITE_TIMEOUT.as_secs())),
        };
        if let Some(error) = &failure {
            self.metrics.event_dropped();
            if !self.failing {
                tracing::warn!(error, "events are not being written");
            }
        }
        self.failing = failure.is_some();
    }

    async fn try_write(&mut self, event: NewEvent, now: Timestamp) -> Result<(), kube::Error> {
        let write = self.known.observe(event, now);
        let api: Api<Event> = Api::namespaced(self.client.clone(), &write.namespace);
        if let Some(count) = write.again {
            let patch = json!({"count": count, "lastTimestamp": Time(now)});
            let parameters = PatchParams::default();
            match api.patch(&write.name, &parameters, &Patch::Merge(patch)).await {
                // Events live for an hour by default, but somebody may have deleted it.
                Err(error) if is_code(&error, 404) => {}
                other => return other.map(|_| ()),
            }
        }
        api.create(&PostParams::default(), &write.event).await.map(|_| ())
    }
}

/// What makes two events equal.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    component: &'static str,
    involved: [Option<String>; 6],
    severity: Severity,
    reason: String,
    message: String,
    annotations: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Seen {
    name: String,
    count: i32,
    first: Timestamp,
    last: Timestamp,
}

/// The events of the last while.
struct Known {
    instance: String,
    events: HashMap<Key, Seen>,
}

/// What to write for an event.
#[derive(Debug)]
struct Write {
    namespace: String,
    name: String,
    /// The new count when the event exists already.
    again: Option<i32>,
    /// The whole event, for when it does not.
    event: Event,
}

impl Known {
    /// Notes an event and says what to write for it.
    fn observe(&mut self, new: NewEvent, now: Timestamp) -> Write {
        let message = truncate(&new.message, MAX_MESSAGE);
        let key = Key {
            component: new.component,
            involved: identity(&new.involved),
            severity: new.severity,
            reason: new.reason.clone(),
            message: message.clone(),
            annotations: new.annotations.clone(),
        };
        self.forget_old(now);
        let known = self.events.get(&key).cloned();
        let seen = match &known {
            Some(seen) => Seen {
                count: seen.count.saturating_add(1),
                last: now,
                ..seen.clone()
            },
            None => Seen {
                name: event_name(&new.involved, now),
                count: 1,
                first: now,
                last: now,
            },
        };
        self.events.insert(key, seen.clone());
        // Events of cluster-scoped objects live in `default`, as the API demands.
        let namespace = new
            .involved
            .namespace
            .clone()
            .filter(|text| !text.is_empty())
            .unwrap_or("default".to_owned());
        Write {
            again: known.is_some().then_some(seen.count),
            event: self.event(new, message, &namespace, &seen),
            name: seen.name,
            namespace,
        }
    }

    fn event(&self, new: NewEvent, message: String, namespace: &str, seen: &Seen) -> Event {
        Event {
            metadata: ObjectMeta {
                name: Some(seen.name.clone()),
                namespace: Some(namespace.to_owned()),
                annotations: (!new.annotations.is_empty()).then_some(new.annotations),
                ..ObjectMeta::default()
            },
            involved_object: new.involved,
            reason: Some(new.reason),
            message: Some(message),
            type_: Some(match new.severity {
                Severity::Trace | Severity::Normal => "Normal".to_owned(),
                Severity::Warning => "Warning".to_owned(),
            }),
            source: Some(EventSource {
                component: Some(new.component.to_owned()),
                host: None,
            }),
            reporting_component: Some(new.component.to_owned()),
            reporting_instance: Some(self.instance.clone()),
            count: Some(seen.count),
            first_timestamp: Some(Time(seen.first)),
            last_timestamp: Some(Time(seen.last)),
            ..Event::default()
        }
    }

    /// Forgets what is too old, and at the bound the half that was seen longest ago.
    fn forget_old(&mut self, now: Timestamp) {
        let fresh = |at: &Timestamp| now.duration_since(*at).unsigned_abs() < SAME_EVENT;
        self.events.retain(|_, seen| fresh(&seen.last));
        if self.events.len() >= REMEMBERED {
            let mut times: Vec<Timestamp> = self.events.values().map(|seen| seen.last).collect();
            times.sort_unstable();
            if let Some(middle) = times.get(times.len() / 2).copied() {
                self.events.retain(|_, seen| seen.last > middle);
            }
        }
    }
}

fn identity(involved: &ObjectReference) -> [Option<String>; 6] {
    [
        involved.api_version.clone(),
        involved.kind.clone(),
        involved.namespace.clone(),
        involved.name.clone(),
        involved.uid.clone(),
        involved.field_path.clone(),
    ]
}

/// Object and time in hexadecimal nanoseconds, as client-go names events.
fn event_name(involved: &ObjectReference, now: Timestamp) -> String {
    format!(
        "{}.{:x}",
        involved.name.as_deref().unwrap_or("unknown"),
        now.as_nanosecond()
    )
}

/// Cuts a text to at most `limit` bytes, at a character, with an ellipsis in place of the rest.
fn truncate(text: &str, limit: usize) -> String {
    const ELLIPSIS: char = '…';
    if text.len() <= limit {
        return text.to_owned();
    }
    let end = text.floor_char_boundary(limit.saturating_sub(ELLIPSIS.len_utf8()));
    let mut cut = text.get(..end).unwrap_or_default().to_owned();
    cut.push(ELLIPSIS);
    cut
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
