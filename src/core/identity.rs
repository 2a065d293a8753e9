//! Who somebody is to the API server.

/// Impersonation extra with the Kustomization that a write is made for, as in `shop/web`. Only Weir's role lets anybody set
/// it, so it proves that Weir writes, whatever user it writes as.
pub const KUSTOMIZATION_EXTRA: &str = "weir.dev/kustomization";
/// Impersonation extra with the revision that is written.
pub const REVISION_EXTRA: &str = "weir.dev/revision";

/// Extra by which the API server names the credential that a user has shown: the id of a token, the hash of a certificate.
pub const CREDENTIAL_EXTRA: &str = "authentication.kubernetes.io/credential-id";

/// Whom the API server takes us for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// User name, as in `system:serviceaccount:flux-system:weir-controller`.
    pub username: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Whether the API server names the credential that was shown, in the extra [`CREDENTIAL_EXTRA`].
    pub shows_credential: bool,
}

impl Identity {
    /// Namespace and name of the service account that it is, if it is one.
    #[must_use]
    pub fn service_account(&self) -> Option<(String, String)> {
        let rest = self.username.strip_prefix("system:serviceaccount:")?;
        let (namespace, name) = rest.split_once(':')?;
        Some((namespace.to_owned(), name.to_owned()))
    }

    /// A service account, with the groups that the API server gives to all of them.
    #[must_use]
    pub fn of_service_account(namespace: &str, name: &str) -> Self {
        Self {
            username: format!("system:serviceaccount:{namespace}:{name}"),
            groups: vec![
                "system:serviceaccounts".to_owned(),
                format!("system:serviceaccounts:{namespace}"),
                "system:authenticated".to_owned(),
            ],
            // Whoever is impersonated has shown none.
            shows_credential: false,
        }
    }
}
