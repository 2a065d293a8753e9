//! Why a fetch failed, told from libgit2's error codes and messages.
//!
//! Guarantees: no error text holds a credential, neither one that was given nor one that stands in the URL. The words are
//! Flux's where Flux has words ("authentication required", "repository not found").

use std::time::Duration;

use git2::{ErrorClass, ErrorCode};

use super::bridge::Failure;
use super::git_url::{redact, user_info};
use super::reference::ReferenceError;

/// Longest reason that is taken over from a server or library; condition messages are read by people.
const MAX_REASON: usize = 300;

/// Why a fetch failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No answer, or none that makes sense.
    #[error("unable to clone '{url}': {reason}")]
    Unreachable {
        /// Without credentials.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The server wants credentials, or others.
    #[error("unable to clone '{url}': authentication required: {hint}")]
    AuthenticationRequired {
        /// Without credentials.
        url: String,
        /// What to do.
        hint: &'static str,
    },
    /// What was given as credentials cannot be used.
    #[error("unable to clone '{url}': {reason}")]
    Credentials {
        /// Without credentials.
        url: String,
        /// What is wrong with them.
        reason: String,
    },
    /// The SSH server is not known, or is another one.
    #[error("unable to clone '{url}': {reason}")]
    HostKey {
        /// Without credentials.
        url: String,
        /// Which key it shows and what was expected.
        reason: String,
    },
    /// The server knows no such repository.
    #[error("unable to clone '{url}': repository not found")]
    RepositoryNotFound {
        /// Without credentials.
        url: String,
    },
    /// `spec.ref` leads nowhere.
    #[error("unable to clone '{url}': {source}")]
    Reference {
        /// Without credentials.
        url: String,
        /// Which and what there is.
        source: ReferenceError,
    },
    /// `spec.ref.commit` is not there.
    #[error("unable to clone '{url}': commit {commit} was not found {place}")]
    CommitNotFound {
        /// Without credentials.
        url: String,
        /// The commit.
        commit: String,
        /// Where it was looked for.
        place: String,
    },
    /// It took longer than `spec.timeout`.
    #[error("unable to clone '{url}': it took longer than the timeout of {}: {doing}", crate::core::duration::format_duration(*timeout))]
    TimedOut {
        /// Without credentials.
        url: String,
        /// The timeout.
        timeout: Duration,
        /// What was under way.
        doing: &'static str,
    },
    /// The server's certificate is not trusted, or TLS failed.
    #[error("unable to clone '{url}': TLS: {reason}")]
    Tls {
        /// Without credentials.
        url: String,
        /// What went wrong.
        reason: String,
    },
    /// The server sent more than is taken.
    #[error("unable to clone '{url}': it is larger than the limit of {limit} bytes for one fetch")]
    TooLarge {
        /// Without credentials.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// `spec.url` is not usable.
    #[error("the URL '{url}' is not usable: {reason}")]
    Url {
        /// Without credentials.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A submodule could not be fetched.
    #[error("submodule '{path}': {source}")]
    Submodule {
        /// Where it belongs.
        path: String,
        /// Why not.
        source: Box<FetchError>,
    },
    /// The tree cannot be put together as the spec says.
    #[error("{0}")]
    Shape(String),
    /// The local repository could not be read or written.
    #[error("storage of the source: {reason}")]
    Storage {
        /// What went wrong.
        reason: String,
    },
}

impl FetchError {
    /// A short name for metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "unreachable",
            Self::AuthenticationRequired { .. } | Self::Credentials { .. } => "authentication",
            Self::HostKey { .. } => "host_key",
            Self::RepositoryNotFound { .. } => "repository_not_found",
            Self::Reference { .. } | Self::CommitNotFound { .. } => "reference_not_found",
            Self::TimedOut { .. } => "timeout",
            Self::Tls { .. } => "tls",
            Self::TooLarge { .. } => "too_large",
            Self::Url { .. } => "url",
            Self::Submodule { source, .. } => source.label(),
            Self::Shape(_) => "shape",
            Self::Storage { .. } => "storage",
        }
    }
}

/// What is known about an attempt when it fails.
pub(super) struct Context<'a> {
    /// As given, perhaps with credentials in it.
    pub(super) url: &'a str,
    /// What must not appear in any text.
    pub(super) secrets: Vec<&'a str>,
    /// Credentials were shown.
    pub(super) authenticated: bool,
}

impl Context<'_> {
    /// Tells a failed exchange with a server from a broken local repository (`Storage`).
    pub(super) fn classify(&self, error: &git2::Error) -> FetchError {
        let url = redact(self.url);
        let text = error.message();
        let reason = self.scrub(text);
        let status = text.strip_prefix("unexpected http status code: ");
        match (error.code(), error.class(), status) {
            (ErrorCode::Auth, ..) | (_, _, Some("401" | "403")) => self.refused(),
            (_, _, Some("404" | "410")) => FetchError::RepositoryNotFound { url },
            (ErrorCode::Certificate, ..) | (_, ErrorClass::Ssl, _) => FetchError::Tls { url, reason },
            (ErrorCode::Timeout, ..) => FetchError::Unreachable {
                url,
                reason: format!("the server is silent: {reason}"),
            },
            (_, ErrorClass::Net | ErrorClass::Http, _) => FetchError::Unreachable { url, reason },
            // Sockets report as the operating system; so do files, but those name a path.
            (_, ErrorClass::Os, _) if is_network(text) => FetchError::Unreachable { url, reason },
            _ => FetchError::Storage { reason },
        }
    }

    /// Puts into words why nothing came over the bridge. That a bound was met is told by who knows the bound.
    pub(super) fn told(&self, failure: Failure) -> FetchError {
        let url = redact(self.url);
        match failure {
            Failure::Refused => self.refused(),
            Failure::NotFound => FetchError::RepositoryNotFound { url },
            Failure::Tls(reason) => FetchError::Tls {
                url,
                reason: self.scrub(&reason),
            },
            Failure::Credentials(reason) => FetchError::Credentials {
                url,
                reason: self.scrub(&reason),
            },
            Failure::HostKey(reason) => FetchError::HostKey {
                url,
                reason: self.scrub(&reason),
            },
            Failure::Unreachable(reason) => FetchError::Unreachable {
                url,
                reason: self.scrub(&reason),
            },
            Failure::TooLarge | Failure::Late => FetchError::Unreachable {
                url,
                reason: "the exchange was broken off".to_owned(),
            },
        }
    }

    fn refused(&self) -> FetchError {
        FetchError::AuthenticationRequired {
            url: redact(self.url),
            hint: if self.authenticated {
                "the server refused the credentials in spec.secretRef"
            } else {
                "name a Secret with credentials in spec.secretRef"
            },
        }
    }

    /// Takes credentials out of a text from elsewhere, and shortens it.
    pub(super) fn scrub(&self, text: &str) -> String {
        let mut text = text.replace(self.url, &redact(self.url));
        let in_url = user_info(self.url).map(|(info, _)| info).unwrap_or_default();
        for secret in self
            .secrets
            .iter()
            .copied()
            .chain([in_url])
            .filter(|secret| !secret.is_empty())
        {
            text = text.replace(secret, "***");
        }
        let plain: String = text
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(MAX_REASON)
            .collect();
        plain.trim().to_owned()
    }
}

fn is_network(text: &str) -> bool {
    ["connect", "socket", "recv", "send", "resolve", "host", "poll"]
        .iter()
        .any(|word| text.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(authenticated: bool) -> Context<'static> {
        Context {
            url: "https://ada:hunter2@git.example/repo.git?token=t0ken",
            secrets: vec!["s3cret"],
            authenticated,
        }
    }

    #[test]
    fn libgit2_errors_become_what_a_person_can_act_on() {
        let check = |code, class, message: &str, expect: &str| {
            let error = git2::Error::new(code, class, message);
            assert_eq!(context(true).classify(&error).to_string(), expect, "{message}");
        };
        use ErrorClass as Class;
        use ErrorCode as Code;
        let clone = |what: &str| format!("unable to clone 'https://git.example/repo.git': {what}");
        let refused = clone("authentication required: the server refused the credentials in spec.secretRef");
        check(
            Code::Auth,
            Class::Http,
            "too many redirects or authentication replays",
            &refused,
        );
        check(
            Code::GenericError,
            Class::Http,
            "unexpected http status code: 403",
            &refused,
        );
        check(
            Code::GenericError,
            Class::Http,
            "unexpected http status code: 404",
            &clone("repository not found"),
        );
        check(
            Code::GenericError,
            Class::Http,
            "unexpected http status code: 502",
            &clone("unexpected http status code: 502"),
        );
        check(
            Code::GenericError,
            Class::Os,
            "failed to connect to git.example: Connection refused",
            &clone("failed to connect to git.example: Connection refused"),
        );
        check(
            Code::Certificate,
            Class::Http,
            "user rejected",
            &clone("TLS: user rejected"),
        );
        check(Code::GenericError, Class::Ssl, "SSL error", &clone("TLS: SSL error"));
        check(
            Code::NotFound,
            Class::Odb,
            "object not found",
            "storage of the source: object not found",
        );
        let anonymous = context(false).classify(&git2::Error::new(Code::Auth, Class::Http, "no callback"));
        assert_eq!(
            anonymous.to_string(),
            clone("authentication required: name a Secret with credentials in spec.secretRef")
        );
    }

    #[test]
    fn no_credential_survives_in_a_message() {
        let text = "bad s3cret at https://ada:hunter2@git.example/repo.git?token=t0ken (ada:hunter2)\r\nnext";
        let scrubbed = context(true).scrub(text);
        assert_eq!(scrubbed, "bad *** at https://git.example/repo.git (***)  next");
    }
}
