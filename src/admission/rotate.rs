//! Keeps the Secret that holds the webhook's certificates, and serves what is in it.
//!
//! Flow: read the Secret → `plan` (pure) says what is due → do it → write with the resource version that was read, so that
//! of two replicas one wins and the other reads again → put the certificate into the `Resolver` and the CA bundle into the
//! channel that `register` listens to. Again when the Secret changes, when the next thing is due, and at least every
//! `CHECK_EVERY`, by the wall clock: a machine that slept must not trust a timer.
//!
//! What is due, and why in that order, is `stored`'s knowledge.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::certs::{CertError, Resolver, certified};
use super::stored::{Step, Stored, brought, carry_out, plan};
use crate::cluster::changes;
use crate::cluster::client::{explain, is_code};
use crate::telemetry::metrics::Metrics;

/// Name of the Secret.
pub const SECRET: &str = "weir-webhook-certs";
/// Longest time between two looks at the clock.
const CHECK_EVERY: Duration = Duration::from_secs(600);
/// How long after a failure until the next attempt.
const RETRY: Duration = Duration::from_secs(5);
/// How often a lost race with another replica is run again at once.
const RACES: usize = 5;

/// Where the Secret lives and what the certificate is for.
#[derive(Debug, Clone)]
pub struct CertOptions {
    /// Namespace of the Secret.
    pub namespace: String,
    /// DNS names and IP addresses by which the API server reaches the webhook.
    pub names: Vec<String>,
}

/// The names by which a Service is reached, and the host of `--webhook-url`.
#[must_use]
pub fn names(service: &str, namespace: &str, url_host: Option<&str>) -> Vec<String> {
    let mut names = vec![
        format!("{service}.{namespace}.svc"),
        format!("{service}.{namespace}.svc.cluster.local"),
        format!("{service}.{namespace}"),
    ];
    // A URL writes an IPv6 address in brackets, a certificate does not.
    names.extend(url_host.map(|host| host.trim_matches(['[', ']']).to_owned()));
    names.sort();
    names.dedup();
    names
}

/// Why the certificates could not be brought up to date.
#[derive(Debug, thiserror::Error)]
pub enum RotateError {
    /// The Secret could not be read or written.
    #[error("secret {SECRET}: {0}")]
    Secret(String),
    /// Certificates could not be made or loaded.
    #[error("secret {SECRET}: {0}")]
    Certificate(#[from] CertError),
    /// Other replicas write the Secret all the time, or something undoes what is written.
    #[error("secret {SECRET} was changed by others {RACES} times in a row; is something else writing it?")]
    Contended,
}

/// Starts the task. The receiver has the CA bundle (PEM) once a certificate is being served.
pub fn start(
    client: Client,
    options: CertOptions,
    resolver: Arc<Resolver>,
    metrics: Metrics,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> (watch::Receiver<Option<String>>, JoinHandle<()>) {
    let (bundle, receiver) = watch::channel(None);
    let keeper = Keeper {
        api: Api::namespaced(client, &options.namespace),
        options,
        resolver,
        metrics,
        bundle,
    };
    let task = tokio::spawn(async move {
        tokio::select! {
            () = keeper.run() => {}
            () = shutdown => {}
        }
    });
    (receiver, task)
}

struct Keeper {
    api: Api<Secret>,
    options: CertOptions,
    resolver: Arc<Resolver>,
    metrics: Metrics,
    bundle: watch::Sender<Option<String>>,
}

impl Keeper {
    async fn run(self) {
        let mut changes = std::pin::pin!(changes::of(self.api.clone(), SECRET));
        loop {
            let wait = match self.reconcile().await {
                Ok(due) => {
                    let left = due.duration_since(Timestamp::now());
                    if left.is_negative() {
                        RETRY
                    } else {
                        left.unsigned_abs().clamp(RETRY, CHECK_EVERY)
                    }
                }
                Err(error) => {
                    self.metrics.certificate_error();
                    tracing::error!(error = %error, "webhook certificates are not up to date");
                    RETRY
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Some(()) = changes.next() => {}
            }
        }
    }

    /// One round; says when the next thing is due.
    async fn reconcile(&self) -> Result<Timestamp, RotateError> {
        for _ in 0..RACES {
            let secret = self
                .api
                .get_opt(SECRET)
                .await
                .map_err(|error| RotateError::Secret(explain(&error)))?;
            let stored = match secret.as_ref().map(Stored::read).transpose() {
                Ok(stored) => stored,
                Err(error) if secret.as_ref().is_some_and(brought) => return Err(error.into()),
                Err(error) => {
                    tracing::warn!(error = %error, "webhook certificates cannot be used and are made anew");
                    None
                }
            };
            let now = Timestamp::now();
            let step = plan(stored.as_ref(), &self.options.names, now);
            match carry_out(&step, stored.as_ref(), &self.options.names, now)? {
                None => {
                    let due = if let Step::Keep(due) = step { due } else { now };
                    if let Some(stored) = stored {
                        self.serve(&stored)?;
                    }
                    return Ok(due);
                }
                Some(new) => match self.write(secret, &new).await {
                    Ok(()) => {
                        tracing::info!(step = ?step, expires = %new.leaf_facts.expires, "wrote webhook certificates");
                    }
                    Err(error) if is_code(&error, 409) => {}
                    Err(error) => return Err(RotateError::Secret(explain(&error))),
                },
            }
        }
        Err(RotateError::Contended)
    }

    fn serve(&self, stored: &Stored) -> Result<(), RotateError> {
        self.resolver
            .put(certified(&stored.leaf.certificate, &stored.leaf.key)?);
        let ca = stored.cas.first().map_or(0, |(_, facts)| facts.expires.as_second());
        self.metrics.certificates(stored.leaf_facts.expires.as_second(), ca);
        if !self
            .options
            .names
            .iter()
            .all(|name| stored.leaf_facts.names.contains(name))
        {
            let (wanted, has) = (&self.options.names, &stored.leaf_facts.names);
            tracing::warn!(?wanted, ?has, "the webhook certificate that was brought lacks names");
        }
        let bundle = stored.bundle();
        self.bundle.send_if_modified(|before| {
            let changed = before.as_ref() != Some(&bundle);
            *before = Some(bundle);
            changed
        });
        Ok(())
    }

    async fn write(&self, old: Option<Secret>, new: &Stored) -> Result<(), kube::Error> {
        let parameters = PostParams::default();
        match old {
            Some(secret) => {
                let secret = Secret {
                    data: Some(new.data()),
                    ..secret
                };
                self.api.replace(SECRET, &parameters, &secret).await.map(|_| ())
            }
            None => {
                let secret = Secret {
                    metadata: ObjectMeta {
                        name: Some(SECRET.to_owned()),
                        labels: Some(BTreeMap::from([(
                            "app.kubernetes.io/name".to_owned(),
                            "weir".to_owned(),
                        )])),
                        ..ObjectMeta::default()
                    },
                    type_: Some("kubernetes.io/tls".to_owned()),
                    data: Some(new.data()),
                    ..Secret::default()
                };
                self.api.create(&parameters, &secret).await.map(|_| ())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cover_the_service_and_the_url() {
        assert_eq!(
            names("w", "ns", Some("[::1]")),
            ["::1", "w.ns", "w.ns.svc", "w.ns.svc.cluster.local"]
        );
        assert_eq!(names("w", "ns", Some("127.0.0.1")).len(), 4);
    }
}
