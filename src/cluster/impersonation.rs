//! Requests in the name of a tenant's service account, marked as Weir's.
//!
//! Flow: `Impersonation::of` makes the headers once; they are put on every request that reads or writes for that tenant.
//! The API server answers as it would answer the service account, and notes in its audit log both names, the
//! Kustomization and the revision.
//!
//! Guarantees: an account that cannot be named in a header is an error, never a request with Weir's own rights. Groups are
//! left to the API server, which gives an impersonated service account its groups: so no right on groups is needed.

use http::HeaderMap;
use http::header::{HeaderName, HeaderValue, InvalidHeaderName};

use crate::core::identity::{Identity, KUSTOMIZATION_EXTRA, REVISION_EXTRA};

/// Names of service accounts are DNS subdomains; the API's own bound.
const MAX_NAME: usize = 253;

/// For whom and for what requests are made.
#[derive(Debug, Clone)]
pub struct Impersonation {
    identity: Identity,
    headers: HeaderMap,
}

/// Why nobody can be impersonated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImpersonationError {
    /// The name cannot be one of a service account.
    #[error(
        "{0:?} is no name of a service account; spec.serviceAccountName takes lower case letters, digits, '-' and '.'"
    )]
    Name(String),
    /// The mark cannot be sent.
    #[error("requests as {0} cannot be marked as Weir's: {1}")]
    Mark(String, String),
}

impl Impersonation {
    /// A service account, on behalf of the Kustomization `owner` (`namespace/name`) at a revision.
    ///
    /// # Errors
    /// When this cannot be said in headers.
    pub fn of(namespace: &str, account: &str, owner: &str, revision: Option<&str>) -> Result<Self, ImpersonationError> {
        if !is_name(namespace) || !is_name(account) {
            return Err(ImpersonationError::Name(account.to_owned()));
        }
        let identity = Identity::of_service_account(namespace, account);
        let user = HeaderValue::from_str(&identity.username)
            .map_err(|_| ImpersonationError::Name(identity.username.clone()))?;
        let mut headers = HeaderMap::new();
        headers.insert(HeaderName::from_static("impersonate-user"), user);
        let unmarked = |why: String| ImpersonationError::Mark(identity.username.clone(), why);
        let mark = HeaderValue::from_str(owner).map_err(|error| unmarked(error.to_string()))?;
        headers.insert(
            extra(KUSTOMIZATION_EXTRA).map_err(|error| unmarked(error.to_string()))?,
            mark,
        );
        // A branch may have a name that no header takes; the audit log then lacks the revision, and nothing else.
        let revision = revision.and_then(|revision| HeaderValue::from_str(revision).ok());
        if let (Some(revision), Ok(name)) = (revision, extra(REVISION_EXTRA)) {
            headers.insert(name, revision);
        }
        Ok(Self { identity, headers })
    }

    /// A service account of another cluster, where nobody knows our marks and a right to set them would have to be given.
    ///
    /// # Errors
    /// When this cannot be said in headers.
    pub fn elsewhere(namespace: &str, account: &str) -> Result<Self, ImpersonationError> {
        if !is_name(namespace) || !is_name(account) {
            return Err(ImpersonationError::Name(account.to_owned()));
        }
        let identity = Identity::of_service_account(namespace, account);
        let user = HeaderValue::from_str(&identity.username)
            .map_err(|_| ImpersonationError::Name(identity.username.clone()))?;
        let headers = HeaderMap::from_iter([(HeaderName::from_static("impersonate-user"), user)]);
        Ok(Self { identity, headers })
    }

    /// Whom the API server takes these requests to come from.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Puts the headers on a request.
    pub fn mark(&self, headers: &mut HeaderMap) {
        headers.extend(self.headers.clone());
    }
}

/// The header of an extra; what is no letter of a header is escaped as in a URL.
fn extra(key: &str) -> Result<HeaderName, InvalidHeaderName> {
    format!("impersonate-extra-{}", key.replace('/', "%2f")).parse()
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= MAX_NAME
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_name_account_kustomization_and_revision() {
        let one = Impersonation::of("shop", "deployer", "shop/web", Some("main@sha1:1a2b")).unwrap();
        let mut headers = HeaderMap::new();
        one.mark(&mut headers);
        let shown: Vec<(&str, &str)> = headers
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().unwrap()))
            .collect();
        assert_eq!(
            shown,
            [
                ("impersonate-user", "system:serviceaccount:shop:deployer"),
                ("impersonate-extra-weir.dev%2fkustomization", "shop/web"),
                ("impersonate-extra-weir.dev%2frevision", "main@sha1:1a2b"),
            ]
        );
        assert_eq!(one.identity().groups[1], "system:serviceaccounts:shop");
    }

    #[test]
    fn what_is_no_name_is_an_error_and_never_weir_itself() {
        for name in ["", "a b", "x\r\nimpersonate-user: system:admin", "ä", "system:masters"] {
            let refused = Impersonation::of("shop", name, "shop/web", None).unwrap_err();
            assert!(
                refused.to_string().contains("is no name of a service account"),
                "{refused}"
            );
        }
    }

    #[test]
    fn a_revision_that_no_header_takes_is_left_out() {
        let one = Impersonation::of("shop", "deployer", "shop/web", Some("feature\u{7f}@sha1:1")).unwrap();
        assert_eq!(one.headers.len(), 2);
    }
}
