//! Ticks whenever one named object may have changed.
//!
//! Guarantees: a tick after every (re)start of the watch, because what happened before it began is told by no event, and
//! one after every creation, change and deletion; failures are retried with back-off by the watcher itself.

use std::fmt::Debug;

use futures::{Stream, StreamExt};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// The ticks of the object with this name.
pub fn of<K>(api: Api<K>, name: &str) -> impl Stream<Item = ()> + Send + use<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    watcher(api, config)
        .default_backoff()
        .filter_map(async |event| match event {
            Ok(watcher::Event::Apply(_) | watcher::Event::Delete(_) | watcher::Event::InitDone) => Some(()),
            // `InitDone` follows.
            Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, "watch is being renewed");
                None
            }
        })
}
