//! The cluster that `spec.kubeConfig` names.
//!
//! Flow: the Secret or ConfigMap is read at each full reconciliation; what it says is turned into a client once and kept
//! while it stays the same.
//!
//! Guarantees: at most `MAX_REMOTES` clusters are kept, the one that was used longest ago goes first; a client that lives on
//! a token is made anew before the token ends.
//!
//! The drift watches and the guard are of this cluster only: what changes elsewhere is put right at the interval.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client, ResourceExt};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::api::kustomize::{KubeConfig, Kustomization, SecretKeyRef};
use crate::apply::objects::Objects;
use crate::cluster::client::{explain, whoami};
use crate::cluster::discovery::Discovery;
use crate::cluster::{remote, token};
use crate::controllers::Shared;
use crate::core::identity::Identity;

/// How many clusters are kept: each costs a connection and what discovery found, about 1 MiB.
const MAX_REMOTES: usize = 64;
/// Keys of the Secret, in the order in which they are looked for when the spec names none.
const KEYS: [&str; 2] = ["value", "value.yaml"];
/// How long a token is asked for; the API server's own default.
const TOKEN_SECONDS: i64 = 3600;
/// The share of its life for which a token is used.
const TOKEN_SHARE: f64 = 0.8;

/// A cluster and whom it takes us for.
#[derive(Clone)]
pub struct Remote {
    /// Reads and writes its objects.
    pub objects: Objects,
    /// Whom its API server takes us for.
    pub identity: Identity,
}

/// Why a cluster cannot be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RemoteError {
    /// What says how is gone for certain.
    #[error("unable to read {origin} error: {object} not found; create it, or correct spec.kubeConfig")]
    Gone {
        /// What it is for, and where.
        origin: String,
        /// What it is, as the API server calls it.
        object: String,
    },
    /// It asks for what this version does not do.
    #[error("{0}")]
    Unsupported(String),
    /// It cannot be used as it is.
    #[error("{0}")]
    Unusable(String),
}

/// The clusters that are kept, by a digest of how they are reached.
#[derive(Default)]
pub struct Remotes(Mutex<HashMap<[u8; 32], Held>>);

struct Held {
    remote: Remote,
    used: Instant,
    until: Option<Instant>,
}

impl Remotes {
    fn get(&self, key: &[u8; 32]) -> Option<Remote> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if held.get(key)?.until.is_some_and(|until| until <= now) {
            held.remove(key);
            return None;
        }
        let found = held.get_mut(key)?;
        found.used = now;
        Some(found.remote.clone())
    }

    fn put(&self, key: [u8; 32], remote: Remote, until: Option<Instant>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if held.len() >= MAX_REMOTES
            && let Some(oldest) = held.iter().min_by_key(|(_, one)| one.used).map(|(key, _)| *key)
        {
            held.remove(&oldest);
        }
        let used = Instant::now();
        held.insert(key, Held { remote, used, until });
    }
}

/// The cluster of a Kustomization; `None` when it is this one.
///
/// # Errors
/// When what says how to reach it is missing, refused, or the cluster does not answer.
pub async fn of(shared: &Shared, kustomization: &Kustomization) -> Result<Option<Remote>, RemoteError> {
    let Some(kube_config) = &kustomization.spec.kube_config else {
        return Ok(None);
    };
    let namespace = kustomization.namespace().unwrap_or_default();
    let way = way(shared, &namespace, kube_config).await?;
    let key = way.digest();
    if let Some(known) = shared.remotes.get(&key) {
        return Ok(Some(known));
    }
    let (client, until) = way.connect(shared).await?;
    let identity = whoami(&client)
        .await
        .map_err(|error| RemoteError::Unusable(format!("{}: the cluster does not answer: {error}", way.origin)))?;
    let objects = Objects::new(client.clone(), Discovery::new(client));
    let remote = Remote { objects, identity };
    shared.remotes.put(key, remote.clone(), until);
    Ok(Some(remote))
}

/// How a cluster is reached.
struct Way {
    /// What said so, for messages.
    origin: String,
    kind: Kind,
}

enum Kind {
    Kubeconfig(String),
    Address(Address),
}

/// A cluster that trusts the tokens of this one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Address {
    address: String,
    authorities: Option<String>,
    audiences: Vec<String>,
    /// Namespace and name of the service account whose tokens are used; Weir's own when `None`.
    account: Option<(String, String)>,
}

async fn way(shared: &Shared, namespace: &str, kube_config: &KubeConfig) -> Result<Way, RemoteError> {
    let client = &shared.client;
    match (&kube_config.secret_ref, &kube_config.config_map_ref) {
        (Some(reference), _) => {
            let origin = format!("KubeConfig secret '{namespace}/{}'", reference.name);
            let text = kubeconfig(client, namespace, reference, &origin).await?;
            Ok(Way {
                origin,
                kind: Kind::Kubeconfig(text),
            })
        }
        (None, Some(reference)) => {
            let origin = format!("KubeConfig ConfigMap '{namespace}/{}'", reference.name);
            let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
            let found = api.get_opt(&reference.name).await;
            let found = found.map_err(|error| RemoteError::Unusable(format!("{origin}: {}", explain(&error))))?;
            let data = found
                .ok_or_else(|| gone(&origin, "ConfigMap", &reference.name))?
                .data
                .unwrap_or_default();
            let default = shared.settings.default_kubeconfig_service_account.as_deref();
            let kind = address(&data, namespace, default).map_err(|error| error.about(&origin))?;
            Ok(Way {
                origin,
                kind: Kind::Address(kind),
            })
        }
        (None, None) => Err(RemoteError::Unusable(
            "spec.kubeConfig names neither a Secret nor a ConfigMap".to_owned(),
        )),
    }
}

fn gone(origin: &str, kind: &str, name: &str) -> RemoteError {
    RemoteError::Gone {
        origin: origin.to_owned(),
        object: format!("{kind} \"{name}\""),
    }
}

async fn kubeconfig(
    client: &Client,
    namespace: &str,
    reference: &SecretKeyRef,
    origin: &str,
) -> Result<String, RemoteError> {
    let unusable = |why: String| RemoteError::Unusable(format!("{origin}: {why}"));
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = api
        .get_opt(&reference.name)
        .await
        .map_err(|error| unusable(explain(&error)))?;
    let data = found
        .ok_or_else(|| gone(origin, "Secret", &reference.name))?
        .data
        .unwrap_or_default();
    let named = reference.key.as_deref().filter(|key| !key.is_empty());
    let bytes = match named {
        Some(key) => data
            .get(key)
            .ok_or_else(|| unusable(format!("it has no key '{key}'")))?,
        None => KEYS
            .iter()
            .find_map(|key| data.get(*key))
            .ok_or_else(|| unusable(format!("it has neither a key '{}' nor '{}'", KEYS[0], KEYS[1])))?,
    };
    String::from_utf8(bytes.0.clone()).map_err(|_| unusable("its kubeconfig is not UTF-8".to_owned()))
}

/// Reads a ConfigMap of `configMapRef`.
fn address(data: &BTreeMap<String, String>, namespace: &str, default: Option<&str>) -> Result<Address, RemoteError> {
    let text = |key: &str| data.get(key).map(|text| text.trim()).filter(|text| !text.is_empty());
    match text("provider") {
        Some("generic") => {}
        Some(cloud @ ("aws" | "azure" | "gcp")) => {
            return Err(RemoteError::Unsupported(format!(
                "provider {cloud} is not supported by this version of Weir; use provider generic, or a Secret with a \
                 kubeconfig (secretRef)"
            )));
        }
        Some(other) => {
            return Err(RemoteError::Unusable(format!(
                "'{other}' is no provider; it takes generic, aws, azure or gcp"
            )));
        }
        None => return Err(RemoteError::Unusable("it has no key 'provider'".to_owned())),
    }
    let server = text("address").ok_or_else(|| RemoteError::Unusable("it has no key 'address'".to_owned()))?;
    if !server.starts_with("https://") {
        return Err(RemoteError::Unusable(format!(
            "address '{server}' does not begin with https://, and a token must not go out in the clear"
        )));
    }
    let audiences: Vec<String> = text("audiences")
        .into_iter()
        .flat_map(str::lines)
        .map(|line| line.trim().trim_start_matches("- ").to_owned())
        .filter(|line| !line.is_empty())
        .collect();
    let account = text("serviceAccountName").or(default.filter(|name| !name.is_empty()));
    Ok(Address {
        address: server.to_owned(),
        authorities: text("ca.crt").map(str::to_owned),
        audiences: if audiences.is_empty() {
            vec![server.to_owned()]
        } else {
            audiences
        },
        account: account.map(|name| (namespace.to_owned(), name.to_owned())),
    })
}

impl Way {
    fn digest(&self) -> [u8; 32] {
        let mut hasher = Sha256::new();
        match &self.kind {
            Kind::Kubeconfig(text) => hasher.update(text),
            Kind::Address(address) => hasher.update(format!("{address:?}")),
        }
        hasher.finalize().into()
    }

    /// A client, and when it has to be made anew.
    async fn connect(&self, shared: &Shared) -> Result<(Client, Option<Instant>), RemoteError> {
        let unusable = |why: String| RemoteError::Unusable(format!("{}: {why}", self.origin));
        match &self.kind {
            Kind::Kubeconfig(text) => {
                let client = remote::of_kubeconfig(text, shared.settings.insecure_kubeconfig_tls).await;
                Ok((client.map_err(|error| unusable(error.to_string()))?, None))
            }
            Kind::Address(address) => {
                let (token, life) = token_of(shared, address).await.map_err(unusable)?;
                let client = remote::of_address(&address.address, address.authorities.as_deref(), &token).await;
                let client = client.map_err(|error| unusable(error.to_string()))?;
                Ok((client, Some(Instant::now() + life.mul_f64(TOKEN_SHARE))))
            }
        }
    }
}

/// A token of the account and how long it lives.
async fn token_of(shared: &Shared, address: &Address) -> Result<(String, Duration), String> {
    let account = address.account.clone().or_else(|| shared.identity.service_account());
    let (namespace, name) = account.ok_or(
        "it has no key 'serviceAccountName', and Weir itself is no service account whose token could be used; name one, or \
         start Weir with --default-kubeconfig-service-account",
    )?;
    token::of(
        &shared.client,
        (&namespace, &name),
        address.audiences.clone(),
        TOKEN_SECONDS,
    )
    .await
}

impl RemoteError {
    fn about(self, origin: &str) -> Self {
        match self {
            gone @ Self::Gone { .. } => gone,
            Self::Unsupported(why) => Self::Unsupported(format!("{origin}: {why}")),
            Self::Unusable(why) => Self::Unusable(format!("{origin}: {why}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)], default: Option<&str>) -> Result<Address, String> {
        let data = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        address(&data.collect(), "shop", default).map_err(|error| error.to_string())
    }

    #[test]
    fn a_config_map_says_where_a_cluster_is_and_whose_token_it_trusts() {
        let generic = [("provider", "generic"), ("address", "https://far:6443")];
        let far = read(&generic, Some("dflt")).unwrap();
        assert_eq!(far.audiences, ["https://far:6443"]);
        assert_eq!(far.account, Some(("shop".into(), "dflt".into())));
        let mut all = generic.to_vec();
        all.extend([
            ("ca.crt", "PEM"),
            ("audiences", "a\nb\n"),
            ("serviceAccountName", "far"),
        ]);
        let far = read(&all, Some("dflt")).unwrap();
        assert_eq!(far.authorities.as_deref(), Some("PEM"));
        assert_eq!(far.audiences, ["a", "b"]);
        assert_eq!(far.account, Some(("shop".into(), "far".into())));
        assert_eq!(read(&generic, None).unwrap().account, None);
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let check = |pairs: &[(&str, &str)], expect: &str| {
            let error = read(pairs, None).unwrap_err();
            assert!(error.starts_with(expect), "{error}");
        };
        check(&[], "it has no key 'provider'");
        check(
            &[("provider", "aws")],
            "provider aws is not supported by this version of Weir; use",
        );
        check(&[("provider", "acme")], "'acme' is no provider");
        check(&[("provider", "generic")], "it has no key 'address'");
        check(
            &[("provider", "generic"), ("address", "http://far")],
            "address 'http://far' does not begin with https://",
        );
    }
}
