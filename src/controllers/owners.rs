//! Whether the owner that a program names in a strict namespace is there, which the guard's door asks.
//!
//! An owner that was found is remembered for a moment: a controller makes many objects for one. One that was not is asked for
//! again, as it may just have been made.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::apply::objects::{ObjectError, Objects};
use crate::cluster::discovery::DiscoveryError;
use crate::core::object::ObjectRef;
use crate::guard::ClaimedOwner;

/// How long the API server is waited for: the webhook itself has 3 s.
const LOOK: Duration = Duration::from_secs(1);
/// How long an owner that was found counts as there. When it is deleted, what it owns is collected anyway.
const KEEP: Duration = Duration::from_secs(30);
/// Most owners that are remembered, some 100 KiB; a busy controller works for a few dozen at a time.
const MOST: usize = 1000;

/// Owners that were found.
#[derive(Default)]
pub struct Owners(Mutex<HashMap<String, Instant>>);

impl Owners {
    /// Whether an object with that uid is where an owner of something in the namespace may be.
    ///
    /// # Errors
    /// When the API server cannot be asked.
    pub async fn is_there(&self, objects: &Objects, owner: &ClaimedOwner, namespace: &str) -> Result<bool, String> {
        let now = Instant::now();
        if self.known(|known| {
            known
                .get(&owner.uid)
                .is_some_and(|found| now.duration_since(*found) < KEEP)
        }) {
            return Ok(true);
        }
        let found = tokio::time::timeout(LOOK, look(objects, owner, namespace)).await;
        let found = found.map_err(|_| format!("no answer about {} {} in time", owner.gvk.kind, owner.name))??;
        if found {
            self.known(|known| {
                known.retain(|_, found| now.duration_since(*found) < KEEP);
                if known.len() < MOST {
                    known.insert(owner.uid.clone(), now);
                }
            });
        }
        Ok(found)
    }

    fn known<T>(&self, ask: impl FnOnce(&mut HashMap<String, Instant>) -> T) -> T {
        ask(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn look(objects: &Objects, owner: &ClaimedOwner, namespace: &str) -> Result<bool, String> {
    let namespaced = match objects.discovery().resolve(&owner.gvk).await {
        Ok(resolved) => resolved.namespaced,
        Err(DiscoveryError::NotServed(_)) => return Ok(false),
        Err(error) => return Err(error.to_string()),
    };
    let object = ObjectRef {
        group: owner.gvk.group.clone(),
        kind: owner.gvk.kind.clone(),
        namespace: if namespaced {
            namespace.to_owned()
        } else {
            String::new()
        },
        name: owner.name.clone(),
    };
    let found = objects.get(&owner.gvk, &object).await;
    let found = found.map_err(|error: ObjectError| error.to_string())?;
    Ok(found.is_some_and(|found| {
        let uid = found.value().pointer("/metadata/uid");
        uid.and_then(serde_json::Value::as_str) == Some(owner.uid.as_str())
    }))
}
