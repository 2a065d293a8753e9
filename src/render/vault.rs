//! Logins at Vault and OpenBao with the token of a service account, as `--sops-vault-configmap` allows them.
//!
//! Flow: the ConfigMap lists instances, each with its address and the path of its login; for each a token is made that only
//! that instance takes; the worker logs in at the one that a file is encrypted with, under the role
//! `<namespace>_<service account>`.
//!
//! Guarantees: a token is made for an instance that the ConfigMap names, and for no other; what a file of Git names as its
//! Vault never gets one.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};

use super::keys::SecretName;
use crate::cluster::client::explain;
use crate::cluster::token;

/// Key of the ConfigMap; Flux's.
const KEY: &str = "config.yaml";
/// How many instances are logged in at: each costs every build that decrypts a request for a token.
const MAX_INSTANCES: usize = 16;

/// How long a token lives, in seconds: the shortest that the API server grants, for it is used at once.
const SECONDS: i64 = 600;

/// Who logs in where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultAccess {
    /// `--sops-vault-configmap`, in the namespace of Weir.
    pub config_map: SecretName,
    /// The service account, by namespace and name; `None` when Weir is none and nobody names one.
    pub account: Option<(String, String)>,
}

/// One way to log in.
#[derive(Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Login {
    address: String,
    path: String,
    role: String,
    token: String,
}

#[derive(Debug, PartialEq, Eq, Deserialize)]
struct Config {
    #[serde(default)]
    instances: Vec<Instance>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instance {
    address: String,
    login_path: String,
}

/// Why nobody can log in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot use ConfigMap '{config_map}' of --sops-vault-configmap: {reason}")]
pub struct VaultError {
    config_map: SecretName,
    reason: String,
}

/// All the ways to log in that the ConfigMap allows.
///
/// # Errors
/// When the ConfigMap is not there or cannot be read, or the API server makes no token.
pub(super) async fn logins(client: &Client, access: &VaultAccess) -> Result<Vec<Login>, VaultError> {
    let failed = |reason: String| VaultError {
        config_map: access.config_map.clone(),
        reason,
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), &access.config_map.namespace);
    let found = api.get_opt(&access.config_map.name).await;
    let found = found.map_err(|error| failed(explain(&error)))?;
    let data = found
        .ok_or_else(|| failed("not found".to_owned()))?
        .data
        .unwrap_or_default();
    let text = data.get(KEY).ok_or_else(|| failed(format!("it has no key '{KEY}'")))?;
    let instances = instances(text).map_err(failed)?;
    if instances.is_empty() {
        return Ok(Vec::new());
    }
    let (namespace, name) = access.account.as_ref().ok_or_else(|| {
        failed(
            "Weir is no service account whose token could be used; name one with spec.decryption.serviceAccountName"
                .to_owned(),
        )
    })?;
    let mut logins = Vec::new();
    for instance in instances {
        let audiences = vec![instance.address.clone()];
        let (token, _) = token::of(client, (namespace, name), audiences, SECONDS)
            .await
            .map_err(failed)?;
        logins.push(Login {
            role: format!("{namespace}_{name}"),
            path: instance.login_path,
            address: instance.address,
            token,
        });
    }
    Ok(logins)
}

fn instances(text: &str) -> Result<Vec<Instance>, String> {
    let config: Config = serde_saphyr::from_str(text).map_err(|error| format!("'{KEY}' cannot be read: {error}"))?;
    if config.instances.len() > MAX_INSTANCES {
        return Err(format!("it lists more than {MAX_INSTANCES} instances"));
    }
    for Instance { address, login_path } in &config.instances {
        if !address.starts_with("https://") && !address.starts_with("http://") {
            return Err(format!("address '{address}' is no URL with https"));
        }
        if login_path.trim_matches('/').is_empty() {
            return Err(format!(
                "the instance {address} has no loginPath, as in auth/kubernetes/login"
            ));
        }
    }
    Ok(config.instances)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_read_and_what_is_wrong_is_named() {
        let check = |text: &str, expect: Result<&[(&str, &str)], &str>| {
            let found = instances(text);
            let pairs = found.as_ref().map(|all| {
                let pair = |one: &Instance| (one.address.clone(), one.login_path.clone());
                all.iter().map(pair).collect::<Vec<_>>()
            });
            match (pairs, expect) {
                (Ok(pairs), Ok(expect)) => {
                    let expect: Vec<_> = expect.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
                    assert_eq!(pairs, expect);
                }
                (Err(error), Err(expect)) => assert!(error.starts_with(expect), "{error}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        };
        check("instances: []", Ok(&[]));
        check("{}", Ok(&[]));
        check(
            "instances:\n- address: https://bao:8200\n  loginPath: ns1/auth/kubernetes/login\n  roleTemplate: x\n",
            Ok(&[("https://bao:8200", "ns1/auth/kubernetes/login")]),
        );
        check("instances: [", Err("'config.yaml' cannot be read: "));
        check(
            "instances: [{address: bao, loginPath: auth/jwt/login}]",
            Err("address 'bao' is no URL with https"),
        );
        check(
            "instances: [{address: 'https://bao', loginPath: /}]",
            Err("the instance https://bao has no loginPath"),
        );
    }
}
