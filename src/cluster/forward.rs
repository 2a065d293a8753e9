//! Events for whoever listens at `--events-addr`: Flux's notification-controller, which turns them into messages and into the
//! status of commits. One POST of JSON for each, in Flux's form.
//!
//! Flow: `Forwarder::forward` puts a notice into a bounded queue and returns at once; one background task posts them, in their
//! order, over one connection for as long as the listener keeps it.
//!
//! Guarantees: forwarding never waits and never fails; while nobody answers, each notice is tried once, and what is lost is
//! counted and said in the log once per gap; what the listener refuses (it has had an equal one, 429) is not sent again.

use std::future::Future;
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use serde_json::json;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::events::{NewEvent, Severity};
use crate::telemetry::metrics::Metrics;

/// How many notices may wait: two for each of a thousand objects reconciled at once, as with events.
const QUEUE: usize = 2048;
/// How long the listener has to answer; what it does before that is to put the notice into a queue of its own. Flux's time.
const ANSWER: Duration = Duration::from_secs(5);
/// What is waited before each further try: a listener that restarts is back in about that time.
const WAITS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];
/// How long the queue is still worked off after stop.
const DRAIN: Duration = Duration::from_secs(3);

/// Takes notices. Clones feed the same queue.
#[derive(Clone)]
pub struct Forwarder {
    queue: mpsc::Sender<Vec<u8>>,
    instance: String,
    metrics: Metrics,
}

impl Forwarder {
    /// Queues an event for the listener.
    pub(super) fn forward(&self, event: &NewEvent) {
        let body = notice(event, &self.instance, Timestamp::now()).to_string().into_bytes();
        if let Err(error) = self.queue.try_send(body) {
            self.metrics.event_dropped();
            tracing::debug!(%error, "notice dropped");
        }
    }
}

/// Starts the task that posts to `address`, a URL with http. The task ends after `shutdown`.
///
/// # Errors
/// When the address is no such URL.
pub fn start(
    address: &str,
    instance: String,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(Forwarder, JoinHandle<()>), String> {
    let line = Line::to(address)?;
    let (queue, receiver) = mpsc::channel(QUEUE);
    let forwarder = Forwarder {
        queue,
        instance,
        metrics: metrics.clone(),
    };
    let poster = Poster {
        line,
        metrics,
        failing: false,
    };
    Ok((forwarder, tokio::spawn(poster.run(receiver, shutdown))))
}

/// An event in Flux's form. The message is whole, unlike that of an event in the cluster.
fn notice(event: &NewEvent, instance: &str, now: Timestamp) -> serde_json::Value {
    let mut notice = json!({
        "involvedObject": event.involved,
        "severity": match event.severity {
            Severity::Trace => "trace",
            Severity::Normal => "info",
            Severity::Warning => "error",
        },
        "timestamp": format!("{now:.0}"),
        "message": event.message,
        "reason": event.reason,
        "reportingController": event.component,
        "reportingInstance": instance,
    });
    if let Some(fields) = notice.as_object_mut().filter(|_| !event.annotations.is_empty()) {
        fields.insert("metadata".to_owned(), json!(event.annotations));
    }
    notice
}

/// How a notice was taken.
#[derive(Debug)]
enum Refusal {
    /// Another try may help.
    Away(String),
    /// The listener does not want it.
    Refused(String),
}

struct Poster {
    line: Line,
    metrics: Metrics,
    failing: bool,
}

impl Poster {
    async fn run(mut self, mut queue: mpsc::Receiver<Vec<u8>>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let notice = tokio::select! {
                notice = queue.recv() => notice,
                () = &mut shutdown => break,
            };
            let Some(notice) = notice else { return };
            tokio::select! {
                () = self.post(notice) => {}
                // The notice in hand is lost: whoever waits for a listener that does not answer would wait for nothing.
                () = &mut shutdown => break,
            }
        }
        queue.close();
        let drained = tokio::time::timeout(DRAIN, async {
            while let Some(notice) = queue.recv().await {
                self.post(notice).await;
            }
        });
        if drained.await.is_err() {
            tracing::warn!("some notices were not sent to --events-addr before the stop");
        }
    }

    async fn post(&mut self, notice: Vec<u8>) {
        let notice = Bytes::from(notice);
        let mut waits = WAITS.into_iter().filter(|_| !self.failing);
        let failure = loop {
            match self.line.post(notice.clone()).await {
                Ok(()) => break None,
                Err(Refusal::Refused(why)) => break Some(why),
                Err(Refusal::Away(why)) => match waits.next() {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => break Some(why),
                },
            }
        };
        drop(waits);
        if let Some(error) = &failure {
            self.metrics.event_dropped();
            if !self.failing {
                tracing::warn!(error, "notices are not reaching --events-addr");
            }
        }
        self.failing = failure.is_some();
    }
}

/// The way to the listener.
struct Line {
    host: String,
    port: u16,
    authority: String,
    path: String,
    open: Option<SendRequest<Full<Bytes>>>,
}

impl Line {
    fn to(address: &str) -> Result<Self, String> {
        let bad =
            || format!("{address:?} is no URL such as http://notification-controller.flux-system.svc.cluster.local./");
        let uri: Uri = address.parse().map_err(|_| bad())?;
        let (Some("http"), Some(authority), Some(host)) = (uri.scheme_str(), uri.authority(), uri.host()) else {
            return Err(bad());
        };
        Ok(Self {
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(80),
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            open: None,
        })
    }

    async fn post(&mut self, body: Bytes) -> Result<(), Refusal> {
        let tried = tokio::time::timeout(ANSWER, self.try_post(body)).await;
        let away = || Refusal::Away(format!("no answer within {} s", ANSWER.as_secs()));
        let status = tried.map_err(|_| away()).and_then(|tried| tried.map_err(Refusal::Away));
        let status = status.inspect_err(|_| self.open = None)?;
        match status {
            // It has had an equal one a moment ago.
            200..=299 | 429 => Ok(()),
            500..=599 => Err(Refusal::Away(format!("the listener answers with status {status}"))),
            _ => Err(Refusal::Refused(format!("the listener refuses with status {status}"))),
        }
    }

    async fn try_post(&mut self, body: Bytes) -> Result<u16, String> {
        let request = Request::post(&self.path)
            .header(HOST, &self.authority)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let mut sender = match self.open.take() {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        if sender.ready().await.is_err() {
            // The listener has closed what was open.
            sender = self.connect().await?;
        }
        let mut response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        // What it says beside the status is nobody's business, and the connection is free only after it.
        while let Some(frame) = response.body_mut().frame().await {
            frame.map_err(|error| error.to_string())?;
        }
        self.open = Some(sender);
        Ok(status)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await;
        let stream = stream.map_err(|error| format!("{}:{}: {error}", self.host, self.port))?;
        let (sender, connection) = handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

#[cfg(test)]
#[path = "forward_tests.rs"]
mod tests;
