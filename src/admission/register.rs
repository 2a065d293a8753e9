//! Keeps the CA bundle, and with `--webhook-url` the address, in the webhook configurations that `manifests/` installed.
//!
//! Flow: a configuration changes or the CA bundle does → `correction` (pure) → a JSON patch that names what it expects to
//! find, so that it never overwrites what it has not seen.
//!
//! Guarantees: nothing but `clientConfig` is touched, and nothing is sent when it is right; a missing configuration is a
//! warning that says what to apply, and Weir goes on without it.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::StreamExt;
use k8s_openapi::api::admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingWebhookConfiguration};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::cluster::changes;
use crate::cluster::client::explain;
use crate::telemetry::metrics::Metrics;

/// Name of the validating configuration.
pub const VALIDATING: &str = "weir-validate";
/// Name of the mutating configuration.
pub const MUTATING: &str = "weir-mutate";
/// How often a configuration is looked at although nothing was heard of it: watches can miss what they do not know of.
const CHECK_EVERY: Duration = Duration::from_secs(300);
/// How long after a failure until the next attempt.
const RETRY: Duration = Duration::from_secs(5);

/// Whether the API server knows us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Registration {
    /// Not looked at yet, or it could not be written.
    Unknown,
    /// There is no configuration, so nothing is asked of us.
    Missing,
    /// It is as it must be.
    Done,
}

/// Starts the tasks, one for each configuration. `url` is `--webhook-url`: where the API server reaches us when it cannot
/// go through a Service. The receiver says how far the less advanced of both configurations is.
pub fn start(
    client: &Client,
    bundle: &watch::Receiver<Option<String>>,
    url: Option<String>,
    metrics: &Metrics,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> (watch::Receiver<Registration>, JoinHandle<()>) {
    let (registered, receiver) = watch::channel(Registration::Unknown);
    let url: Option<Arc<str>> = url.map(|url| url.trim_end_matches('/').into());
    let common = |name: &'static str| Common {
        name,
        bundle: bundle.clone(),
        url: url.clone(),
        metrics: metrics.clone(),
        warned: false,
    };
    let (validating, mutating) = (common(VALIDATING), common(MUTATING));
    let (one, mut one_is) = watch::channel(Registration::Unknown);
    let (two, mut two_is) = watch::channel(Registration::Unknown);
    let one = validating.run(Api::<ValidatingWebhookConfiguration>::all(client.clone()), one);
    let two = mutating.run(Api::<MutatingWebhookConfiguration>::all(client.clone()), two);
    let both = async move {
        loop {
            let now = (*one_is.borrow_and_update()).min(*two_is.borrow_and_update());
            registered.send_if_modified(|before| std::mem::replace(before, now) != now);
            let changed = tokio::select! {
                changed = one_is.changed() => changed,
                changed = two_is.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    };
    let task = tokio::spawn(async move {
        tokio::select! {
            ((), (), ()) = futures::future::join3(one, two, both) => {}
            () = shutdown => {}
        }
    });
    (receiver, task)
}

/// What must be changed in a configuration: nothing, or a patch. `webhooks` is its list of webhooks.
fn correction(webhooks: &[Value], bundle: &str, url: Option<&str>) -> Option<json_patch::Patch> {
    let bundle = STANDARD.encode(bundle);
    let mut operations = Vec::new();
    for (index, webhook) in webhooks.iter().enumerate() {
        let current = webhook.get("clientConfig").cloned().unwrap_or_default();
        let mut wanted = current.clone();
        let Some(map) = wanted.as_object_mut() else { continue };
        if let Some(base) = url {
            let path = path_of(&current);
            map.remove("service");
            map.insert("url".to_owned(), json!(format!("{base}{path}")));
        }
        map.insert("caBundle".to_owned(), json!(bundle));
        if wanted != current {
            let at = |field: &str| format!("/webhooks/{index}/{field}");
            operations.push(json!({"op": "test", "path": at("name"), "value": webhook.get("name")}));
            operations.push(json!({"op": "test", "path": at("clientConfig"), "value": current}));
            operations.push(json!({"op": "replace", "path": at("clientConfig"), "value": wanted}));
        }
    }
    if operations.is_empty() {
        return None;
    }
    serde_json::from_value(Value::Array(operations)).ok()
}

/// The path that a webhook is called at, from its Service or its URL.
fn path_of(client_config: &Value) -> String {
    let service = client_config.pointer("/service/path").and_then(Value::as_str);
    let url = client_config.get("url").and_then(Value::as_str);
    let path = service.or_else(|| {
        let (_, rest) = url?.split_once("://")?;
        rest.find('/').and_then(|slash| rest.get(slash..))
    });
    path.unwrap_or_default().to_owned()
}

struct Common {
    name: &'static str,
    bundle: watch::Receiver<Option<String>>,
    url: Option<Arc<str>>,
    metrics: Metrics,
    warned: bool,
}

impl Common {
    async fn run<K>(mut self, api: Api<K>, registered: watch::Sender<Registration>)
    where
        K: Resource + Clone + Debug + DeserializeOwned + Serialize + Send + 'static,
    {
        let mut changes = std::pin::pin!(changes::of(api.clone(), self.name));
        let mut bundle = self.bundle.clone();
        loop {
            let now = bundle.borrow_and_update().clone();
            let mut wait = CHECK_EVERY;
            if let Some(now) = now {
                let right = match self.correct(&api, &now).await {
                    Ok(true) => Registration::Done,
                    Ok(false) => Registration::Missing,
                    Err(error) => {
                        tracing::error!(error = %explain(&error), configuration = self.name, "webhook is not registered");
                        wait = RETRY;
                        Registration::Unknown
                    }
                };
                self.metrics.webhook_registered(self.name, right == Registration::Done);
                registered.send_if_modified(|before| std::mem::replace(before, right) != right);
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                Some(()) = changes.next() => {}
                Ok(()) = bundle.changed() => {}
            }
        }
    }

    /// Brings the configuration in order; false when there is none.
    async fn correct<K>(&mut self, api: &Api<K>, bundle: &str) -> Result<bool, kube::Error>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Serialize,
    {
        let Some(found) = api.get_opt(self.name).await? else {
            if !self.warned {
                tracing::warn!(
                    configuration = self.name,
                    "webhook configuration is missing, so nothing is checked at admission; apply what `weir install \
                     --export` prints, or run with --webhook=false"
                );
            }
            self.warned = true;
            return Ok(false);
        };
        self.warned = false;
        let found = serde_json::to_value(found).map_err(kube::Error::SerdeError)?;
        let webhooks = found
            .get("webhooks")
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if let Some(patch) = correction(webhooks, bundle, self.url.as_deref()) {
            api.patch(self.name, &PatchParams::default(), &Patch::Json::<K>(patch))
                .await?;
            tracing::info!(configuration = self.name, "registered the webhook");
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn corrected(webhooks: &Value, bundle: &str, url: Option<&str>) -> Option<Value> {
        let list = webhooks.as_array().unwrap();
        let patch = correction(list, bundle, url)?;
        let mut whole = json!({"webhooks": webhooks});
        json_patch::patch(&mut whole, &patch).unwrap();
        assert_eq!(
            correction(whole["webhooks"].as_array().unwrap(), bundle, url),
            None,
            "right after one patch"
        );
        Some(whole["webhooks"].take())
    }

    #[test]
    fn the_bundle_is_put_in_and_the_service_stays() {
        let service = json!({"name": "weir-webhook", "namespace": "flux-system", "path": "/guard"});
        let webhooks = json!([{"name": "guard.weir.dev", "clientConfig": {"service": service}, "rules": [1]}]);
        let after = corrected(&webhooks, "PEM", None).unwrap();
        assert_eq!(
            after[0]["clientConfig"],
            json!({"service": service, "caBundle": "UEVN"})
        );
        assert_eq!(after[0]["rules"], json!([1]));
    }

    #[test]
    fn a_url_takes_the_place_of_the_service_and_keeps_its_path() {
        let webhooks = json!([
            {"name": "a", "clientConfig": {"service": {"name": "x", "namespace": "y", "path": "/validate"}}},
            {"name": "b", "clientConfig": {"url": "https://old.example:1/guard", "caBundle": "b2xk"}},
        ]);
        let after = corrected(&webhooks, "PEM", Some("https://127.0.0.1:9443")).unwrap();
        assert_eq!(
            after[0]["clientConfig"],
            json!({"url": "https://127.0.0.1:9443/validate", "caBundle": "UEVN"})
        );
        assert_eq!(
            after[1]["clientConfig"],
            json!({"url": "https://127.0.0.1:9443/guard", "caBundle": "UEVN"})
        );
    }

    #[test]
    fn what_is_right_is_left_alone() {
        let webhooks = json!([{"name": "a", "clientConfig": {"service": {"path": "/x"}, "caBundle": "UEVN"}}]);
        assert_eq!(corrected(&webhooks, "PEM", None), None);
        assert_eq!(corrected(&json!([]), "PEM", None), None);
    }

    #[test]
    fn a_patch_does_not_hit_what_has_changed_meanwhile() {
        let webhooks = json!([{"name": "a", "clientConfig": {"service": {"path": "/x"}}}]);
        let patch = correction(webhooks.as_array().unwrap(), "PEM", None).unwrap();
        let mut moved = json!({"webhooks": [{"name": "b", "clientConfig": {"service": {"path": "/x"}}}]});
        assert!(json_patch::patch(&mut moved, &patch).is_err());
    }
}
