//! Keys of `spec.decryption`, gathered from the Secret and handed to the worker that decrypts.
//!
//! Guarantees: keys are never printed: `Debug` tells how many there are. What a Secret holds beside keys is not handed on.

use std::fmt;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use serde::Serialize;

use super::vault::{self, Login, VaultAccess, VaultError};
use crate::api::kustomize::Decryption;
use crate::cluster::client::explain;

/// End of the names of age identities, of OpenPGP keys.
const AGE: &str = ".agekey";
const PGP: &str = ".asc";
/// Credentials of key management services.
const VAULT: &str = "sops.vault-token";
const AWS: &str = "sops.aws-kms";
const AZURE: &str = "sops.azure-kv";
const GCP: &str = "sops.gcp-kms";

/// What decrypts.
#[derive(Clone, Default, PartialEq, Eq, Serialize)]
pub struct Keys {
    age: Vec<Named>,
    pgp: Vec<Named>,
    vault: String,
    aws: String,
    azure: String,
    gcp: String,
    #[serde(rename = "vaultLogins")]
    logins: Vec<Login>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
struct Named {
    name: String,
    text: String,
}

/// A Secret, by namespace and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for SecretName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why there are no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The Secret is not there.
    #[error("cannot get sops decryption Secret '{0}': not found; create it, or correct spec.decryption.secretRef")]
    NotFound(SecretName),
    /// The API server could not be read.
    #[error("cannot get sops decryption Secret '{secret}': {reason}")]
    Unreadable {
        /// Which.
        secret: SecretName,
        /// What it said.
        reason: String,
    },
    /// A key is no text.
    #[error("'{key}' of the decryption Secret '{secret}' is not UTF-8")]
    NotText {
        /// Which Secret.
        secret: SecretName,
        /// Which key of it.
        key: String,
    },
    /// Nobody can log in at Vault.
    #[error(transparent)]
    Vault(#[from] VaultError),
}

impl Keys {
    /// Whether a key management service has to be asked, over the network.
    #[must_use]
    pub fn need_network(&self) -> bool {
        [&self.vault, &self.aws, &self.azure, &self.gcp]
            .iter()
            .any(|one| !one.is_empty())
            || !self.logins.is_empty()
    }

    /// Takes what a Secret has.
    ///
    /// # Errors
    /// When a key is no text.
    fn of(secret: &Secret, which: &SecretName) -> Result<Self, KeysError> {
        let mut keys = Self::default();
        for (name, bytes) in secret.data.iter().flatten() {
            let text = || {
                String::from_utf8(bytes.0.clone()).map_err(|_| KeysError::NotText {
                    secret: which.clone(),
                    key: name.clone(),
                })
            };
            let named = |text| Named {
                name: name.clone(),
                text,
            };
            match name.as_str() {
                VAULT => keys.vault = text()?,
                AWS => keys.aws = text()?,
                AZURE => keys.azure = text()?,
                GCP => keys.gcp = text()?,
                other if other.ends_with(AGE) => keys.age.push(named(text()?)),
                other if other.ends_with(PGP) => keys.pgp.push(named(text()?)),
                _ => {}
            }
        }
        Ok(keys)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys({} age, {} OpenPGP)", self.age.len(), self.pgp.len())
    }
}

/// Gathers keys: those of the Secret that the spec names, else the age identities of `--sops-age-secret`; and the ways to
/// log in at Vault, where the Secret has no token for it.
///
/// # Errors
/// When the Secret is not there or cannot be read, or nobody can log in.
pub async fn gather(
    client: &Client,
    namespace: &str,
    decryption: &Decryption,
    age_secret: Option<&SecretName>,
    vault: Option<&VaultAccess>,
) -> Result<Keys, KeysError> {
    let mut keys = of_secret(client, namespace, decryption, age_secret).await?;
    if let Some(access) = vault.filter(|_| keys.vault.is_empty()) {
        keys.logins = vault::logins(client, access).await?;
    }
    Ok(keys)
}

async fn of_secret(
    client: &Client,
    namespace: &str,
    decryption: &Decryption,
    age_secret: Option<&SecretName>,
) -> Result<Keys, KeysError> {
    let own = decryption.secret_ref.as_ref().map(|reference| SecretName {
        namespace: namespace.to_owned(),
        name: reference.name.clone(),
    });
    let Some(which) = own.as_ref().or(age_secret) else {
        return Ok(Keys::default());
    };
    let api: Api<Secret> = Api::namespaced(client.clone(), &which.namespace);
    let secret = api.get_opt(&which.name).await.map_err(|error| KeysError::Unreadable {
        secret: which.clone(),
        reason: explain(&error),
    })?;
    let secret = secret.ok_or_else(|| KeysError::NotFound(which.clone()))?;
    let keys = Keys::of(&secret, which)?;
    // What all may use is for age only: credentials for a cloud in it would be everybody's.
    Ok(if own.is_some() {
        keys
    } else {
        Keys {
            age: keys.age,
            ..Keys::default()
        }
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;

    #[test]
    fn keys_are_known_by_their_names_and_never_printed() {
        let data = [
            ("identity.agekey", "AGE-SECRET"),
            ("team.asc", "PGP-SECRET"),
            (VAULT, "token"),
            ("notes", "x"),
        ];
        let data: BTreeMap<String, ByteString> = data
            .into_iter()
            .map(|(key, value)| (key.to_owned(), ByteString(value.as_bytes().to_vec())))
            .collect();
        let which = SecretName {
            namespace: "shop".to_owned(),
            name: "keys".to_owned(),
        };
        let secret = Secret {
            data: Some(data),
            ..Secret::default()
        };
        let keys = Keys::of(&secret, &which).unwrap();
        assert_eq!((keys.age.len(), keys.pgp.len(), keys.vault.as_str()), (1, 1, "token"));
        assert!(keys.need_network());
        assert_eq!(format!("{keys:?}"), "Keys(1 age, 1 OpenPGP)");
        let broken = Secret {
            data: Some(BTreeMap::from([("a.agekey".to_owned(), ByteString(vec![0xff]))])),
            ..Secret::default()
        };
        let error = Keys::of(&broken, &which).unwrap_err().to_string();
        assert_eq!(error, "'a.agekey' of the decryption Secret 'shop/keys' is not UTF-8");
    }
}
