//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Each part of the process reports to `Readiness` whether it is ready, or why not; `/readyz` tells all of it. `/healthz`
//! asks the main runtime for a sign of life, so a process that no longer works is restarted.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use actix_web::http::header::ContentType;
use actix_web::{App, HttpResponse, HttpServer, web};
use tokio::runtime::Handle;

use super::server::{Running, ServeError, run};
use crate::telemetry::metrics::Metrics;

/// How long the main runtime may take to run an empty task.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);
/// Seconds that a probe under way may take after the stop.
const PROBE_GRACE: u64 = 1;
/// The content type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Which parts of the process are ready. Clones share it.
#[derive(Clone)]
pub struct Readiness {
    /// A reason for each part that is not ready.
    parts: Arc<Mutex<BTreeMap<&'static str, Option<String>>>>,
    metrics: Metrics,
}

/// One part's voice.
#[derive(Clone)]
pub struct Part {
    name: &'static str,
    readiness: Readiness,
}

impl Readiness {
    /// Nothing is known yet; without parts, nothing is ready.
    #[must_use]
    pub fn new(metrics: Metrics) -> Self {
        Self {
            parts: Arc::default(),
            metrics,
        }
    }

    /// Adds a part, which is not ready before it says so.
    #[must_use]
    pub fn part(&self, name: &'static str) -> Part {
        let part = Part {
            name,
            readiness: self.clone(),
        };
        part.not_ready("has not started yet");
        part
    }

    /// Whether every part is ready, and a line for each.
    #[must_use]
    pub fn report(&self) -> (bool, String) {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let lines = parts.iter().map(|(name, reason)| match reason {
            None => format!("[+]{name} ok\n"),
            Some(reason) => format!("[-]{name} not ready: {reason}\n"),
        });
        let text: String = lines.collect();
        let ready = !parts.is_empty() && parts.values().all(Option::is_none);
        (ready, text)
    }

    fn set(&self, name: &'static str, reason: Option<String>) {
        self.metrics.ready(name, reason.is_none());
        self.parts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, reason);
    }
}

impl Part {
    /// Ready.
    pub fn ready(&self) {
        self.readiness.set(self.name, None);
    }

    /// Not ready, and why: a clause such as `policies are not loaded yet`.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.readiness.set(self.name, Some(reason.into()));
    }
}

/// What a server of this room offers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Offer {
    /// `/healthz` and `/readyz`.
    Health,
    /// `/metrics`.
    Metrics,
    /// All three, when both flags name one address.
    Both,
}

/// Starts a server for probes, for metrics, or for both.
///
/// # Errors
/// When the server cannot be set up.
pub async fn start(
    listener: TcpListener,
    offer: Offer,
    readiness: Readiness,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, ServeError> {
    let runtime = Handle::current();
    run("health", listener, shutdown, move |listener, stop| {
        let server = HttpServer::new(move || {
            let mut app = App::new();
            if offer != Offer::Metrics {
                let runtime = runtime.clone();
                let readiness = readiness.clone();
                app = app
                    .route("/healthz", web::get().to(move || alive(runtime.clone())))
                    .route("/readyz", web::get().to(move || ready(readiness.clone())));
            }
            if offer != Offer::Health {
                let metrics = metrics.clone();
                app = app.route("/metrics", web::get().to(move || expose(metrics.clone())));
            }
            app
        });
        let server = server
            .workers(1)
            .disable_signals()
            .shutdown_signal(stop)
            .shutdown_timeout(PROBE_GRACE)
            .listen(listener)?;
        Ok(server.run())
    })
    .await
}

async fn alive(runtime: Handle) -> HttpResponse {
    match tokio::time::timeout(SIGN_OF_LIFE, runtime.spawn(async {})).await {
        Ok(Ok(())) => text(HttpResponse::Ok(), "ok\n".to_owned()),
        _ => text(
            HttpResponse::ServiceUnavailable(),
            format!(
                "the main runtime gave no sign of life within {} s\n",
                SIGN_OF_LIFE.as_secs()
            ),
        ),
    }
}

async fn ready(readiness: Readiness) -> HttpResponse {
    let (ready, report) = readiness.report();
    let response = if ready {
        HttpResponse::Ok()
    } else {
        HttpResponse::ServiceUnavailable()
    };
    text(response, report)
}

async fn expose(metrics: Metrics) -> HttpResponse {
    HttpResponse::Ok().content_type(METRICS_TYPE).body(metrics.text())
}

fn text(mut response: actix_web::HttpResponseBuilder, body: String) -> HttpResponse {
    response.content_type(ContentType::plaintext()).body(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::server::bind;

    #[tokio::test(flavor = "multi_thread")]
    async fn readiness_says_which_parts_are_missing() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let metrics = Metrics::new().unwrap();
        let readiness = Readiness::new(metrics.clone());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let shutdown = async move {
            let _ = stopped.await;
        };
        let listener = bind("--health-addr", "127.0.0.1:0").unwrap();
        let running = start(listener, Offer::Both, readiness.clone(), metrics, shutdown)
            .await
            .unwrap();
        let client = reqwest::Client::builder()
            .no_proxy()
            .tls_certs_only([])
            .build()
            .unwrap();
        let get = async |path: &str| {
            let response = client
                .get(format!("http://{}{path}", running.address))
                .send()
                .await
                .unwrap();
            (response.status().as_u16(), response.text().await.unwrap())
        };
        assert_eq!(get("/healthz").await, (200, "ok\n".to_owned()));
        assert_eq!(
            get("/readyz").await.0,
            503,
            "nothing is ready while nothing has reported"
        );
        let (webhook, policy) = (readiness.part("webhook"), readiness.part("policy"));
        policy.ready();
        webhook.not_ready("no certificate yet");
        let expect = "[+]policy ok\n[-]webhook not ready: no certificate yet\n";
        assert_eq!(get("/readyz").await, (503, expect.to_owned()));
        webhook.ready();
        assert_eq!(get("/readyz").await.0, 200);
        let (code, text) = get("/metrics").await;
        assert!(code == 200 && text.contains("weir_ready{part=\"webhook\"} 1"), "{text}");
        stop.send(()).unwrap();
        running.stopped().await.unwrap();
    }
}
