//! What a GitRepository's spec asks for, and the question to the Git server.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client, ResourceExt};

use super::include::Included;
use super::status::Ending;
use crate::api::meta::UNSUPPORTED;
use crate::api::source::{GitProvider, GitRepository, GitRepositorySpec, GitRepositoryStatus};
use crate::cluster::client::explain;
use crate::controllers::Shared;
use crate::core::duration::parse_duration;
use crate::source::github_app::App;
use crate::source::reference::ReferenceError;
use crate::source::{Access, FetchError, FetchRequest, Fetched, Proxy, Shape};

/// Why a Git server is not asked: what the spec or its Secrets say does not do.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct AccessError {
    /// Ready reason.
    reason: &'static str,
    message: String,
    /// Only another spec helps.
    for_good: bool,
}

impl AccessError {
    fn authentication(message: String) -> Self {
        Self {
            reason: "AuthenticationFailed",
            message,
            for_good: false,
        }
    }

    /// What a Secret holds does not do, in Flux's words before the reason.
    fn options(why: impl std::fmt::Display) -> Self {
        Self::authentication(format!("failed to configure authentication options: {why}"))
    }

    fn provider(message: String, for_good: bool) -> Self {
        Self {
            reason: "InvalidProviderConfiguration",
            message,
            for_good,
        }
    }
}

/// Interval and timeout; a field that this version does not carry out is named, never ignored.
pub(super) fn times(spec: &GitRepositorySpec) -> Result<(Duration, Duration), Ending> {
    let provider = match spec.provider {
        None | Some(GitProvider::Generic | GitProvider::Github) => None,
        Some(GitProvider::Aws) => Some("aws"),
        Some(GitProvider::Azure) => Some("azure"),
    };
    if let Some(provider) = provider {
        let message = format!(
            "spec.provider {provider} is not supported by this version of Weir; give the credentials in spec.secretRef with \
             provider generic, or let Flux's source-controller reconcile this object"
        );
        return Err(Ending::Stalled {
            reason: UNSUPPORTED,
            message,
        });
    }
    let time = |field: &str, text: &str| {
        parse_duration(text).map_err(|error| Ending::Stalled {
            reason: "InvalidSpec",
            message: format!("spec.{field}: {error}"),
        })
    };
    Ok((time("interval", &spec.interval)?, time("timeout", &spec.timeout)?))
}

/// Asks the Git server.
pub(super) async fn fetch(
    repository: &GitRepository,
    shared: &Shared,
    timeout: Duration,
    included: &[Included],
    old: Option<&GitRepositoryStatus>,
) -> Result<Fetched, Ending> {
    let request = request(repository, &shared.client, timeout).await;
    let mut request = request.map_err(|error| {
        let AccessError {
            reason,
            message,
            for_good,
        } = error;
        if for_good {
            Ending::Stalled { reason, message }
        } else {
            Ending::FetchFailed { reason, message }
        }
    })?;
    request.shape.includes = included.iter().map(|one| one.mount.clone()).collect();
    request.previous = old
        .and_then(|status| status.artifact.as_ref())
        .map(|artifact| artifact.revision.clone());
    shared
        .fetcher
        .fetch_within(request)
        .await
        .map_err(|error| match &error {
            FetchError::Url { .. } => Ending::Stalled {
                reason: "URLInvalid",
                message: error.to_string(),
            },
            FetchError::Storage { .. } => Ending::StorageFailed {
                reason: "DirectoryCreationFailed",
                message: error.to_string(),
            },
            FetchError::Reference {
                source: empty @ ReferenceError::Empty,
                ..
            } => Ending::FetchFailed {
                reason: "EmptyGitRepository",
                message: empty.to_string(),
            },
            FetchError::Shape(_) => Ending::FetchFailed {
                reason: "GitOperationFailed",
                message: error.to_string(),
            },
            _ => Ending::FetchFailed {
                reason: "GitOperationFailed",
                message: format!("failed to checkout and determine revision: {error}"),
            },
        })
}

/// What to ask a Git server for a repository, its Secrets read; without what it includes.
///
/// # Errors
/// When a Secret cannot be read or holds no credentials.
pub async fn request(
    repository: &GitRepository,
    client: &Client,
    timeout: Duration,
) -> Result<FetchRequest, AccessError> {
    let spec = &repository.spec;
    let proxy = proxy(repository, client)
        .await
        .map_err(|why| AccessError::authentication(format!("failed to configure proxy options: {why}")))?;
    let access = access(repository, client, proxy.as_ref(), timeout).await?;
    Ok(FetchRequest {
        namespace: repository.namespace().unwrap_or_default(),
        name: repository.name_any(),
        url: spec.url.clone(),
        reference: spec.reference.clone(),
        ignore: spec.ignore.clone(),
        credentials: access.credentials,
        tls: access.tls,
        proxy,
        timeout,
        previous: None,
        shape: Shape {
            submodules: spec.recurse_submodules == Some(true),
            sparse: spec.sparse_checkout.clone().unwrap_or_default(),
            includes: Vec::new(),
        },
    })
}

async fn access(
    repository: &GitRepository,
    client: &Client,
    proxy: Option<&Proxy>,
    timeout: Duration,
) -> Result<Access, AccessError> {
    let url = &repository.spec.url;
    let github = repository.spec.provider == Some(GitProvider::Github);
    let Some(reference) = &repository.spec.secret_ref else {
        if github {
            let message = "secretRef with github app data must be specified when provider is set to github";
            return Err(AccessError::provider(message.to_owned(), true));
        }
        return Access::without_secret(url).map_err(AccessError::options);
    };
    let name = &reference.name;
    let data = secret(repository, client, name)
        .await
        .map_err(AccessError::authentication)?;
    match (github, App::is_meant(&data)) {
        (true, true) => {
            let app = App::from_secret(&data)
                .map_err(|error| AccessError::provider(named(repository, name, &error), false))?;
            let credentials = app.credentials(proxy, timeout).await;
            let credentials = credentials.map_err(|error| AccessError::options(named(repository, name, &error)))?;
            let tls = app.tls();
            Ok(Access { credentials, tls })
        }
        (true, false) => {
            let message = "secretRef with github app data must be specified when provider is set to github";
            Err(AccessError::provider(message.to_owned(), false))
        }
        (false, true) => {
            let namespace = repository.namespace().unwrap_or_default();
            let message =
                format!("secretRef '{namespace}/{name}' has github app data but provider is not set to github");
            Err(AccessError::provider(message, false))
        }
        (false, false) => {
            Access::from_secret(url, &data).map_err(|error| AccessError::options(named(repository, name, &error)))
        }
    }
}

async fn proxy(repository: &GitRepository, client: &Client) -> Result<Option<Proxy>, String> {
    let Some(reference) = &repository.spec.proxy_secret_ref else {
        return Ok(None);
    };
    let data = secret(repository, client, &reference.name).await?;
    let proxy = Proxy::from_secret(&data).map_err(|error| named(repository, &reference.name, &error))?;
    Ok(Some(proxy))
}

fn named(repository: &GitRepository, secret: &str, error: &dyn std::fmt::Display) -> String {
    let namespace = repository.namespace().unwrap_or_default();
    format!("secret '{namespace}/{secret}': {error}")
}

/// The content of a Secret beside the repository.
pub(super) async fn secret(
    repository: &GitRepository,
    client: &Client,
    name: &str,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let namespace = repository.namespace().unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &namespace);
    let secret = secrets
        .get(name)
        .await
        .map_err(|error| format!("failed to get secret '{namespace}/{name}': {}", explain(&error)))?;
    let data = secret.data.unwrap_or_default().into_iter();
    Ok(data.map(|(key, value)| (key, value.0)).collect())
}
