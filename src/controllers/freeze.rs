//! Follows the ConfigMap that freezes the guard.
//!
//! Guarantees: while it cannot be read the last state holds, which ends by itself.

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::guard::freeze::{Freeze, NAME};

/// Starts to follow; the receiver holds the freeze that was asked for, which may be over.
#[must_use]
pub fn follow(client: &Client, namespace: &str, shutdown: CancellationToken) -> watch::Receiver<Option<Freeze>> {
    let (sender, receiver) = watch::channel(None);
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    tokio::spawn(async move {
        let mut events = std::pin::pin!(
            watcher(api, config)
                .default_backoff()
                .take_until(shutdown.cancelled_owned())
        );
        let mut listed = None;
        while let Some(event) = events.next().await {
            let now = match event {
                Ok(watcher::Event::Init) => {
                    listed = None;
                    continue;
                }
                Ok(watcher::Event::InitApply(map)) => {
                    listed = read(&map);
                    continue;
                }
                Ok(watcher::Event::InitDone) => listed.take(),
                Ok(watcher::Event::Apply(map)) => read(&map),
                Ok(watcher::Event::Delete(_)) => None,
                Err(error) => {
                    tracing::debug!(error = %error, "watch of the freeze interrupted, resuming");
                    continue;
                }
            };
            tell(now.as_ref());
            sender.send_if_modified(|before| {
                let changed = *before != now;
                *before = now;
                changed
            });
        }
    });
    receiver
}

/// The freeze that holds now.
#[must_use]
pub fn now(receiver: &watch::Receiver<Option<Freeze>>) -> Option<Freeze> {
    receiver
        .borrow()
        .clone()
        .filter(|freeze| freeze.left(Timestamp::now()).is_some())
}

fn read(map: &ConfigMap) -> Option<Freeze> {
    let freeze = Freeze::read(map.data.as_ref()?);
    if freeze.is_none() {
        tracing::warn!(
            configmap = NAME,
            "cannot be read as a freeze and does nothing; write it with weir freeze"
        );
    }
    freeze
}

fn tell(freeze: Option<&Freeze>) {
    match freeze {
        Some(freeze) => tracing::warn!(
            until = %freeze.until, reason = %freeze.reason, by = %freeze.by,
            "frozen: manual changes pass and nothing is put back"
        ),
        None => tracing::info!("not frozen"),
    }
}
