//! Tokens of service accounts, for those outside of the cluster who trust them.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use kube::{Api, Client};

use super::client::explain;

/// A token of an account, by namespace and name, that these audiences take; asked to live so many seconds, and how long it does.
///
/// # Errors
/// When the API server makes none.
pub async fn of(
    client: &Client,
    (namespace, name): (&str, &str),
    audiences: Vec<String>,
    seconds: i64,
) -> Result<(String, Duration), String> {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec {
            audiences: Some(audiences),
            expiration_seconds: Some(seconds),
            ..TokenRequestSpec::default()
        }),
        ..TokenRequest::default()
    };
    let made = api.create_token_request(name, &PostParams::default(), &request).await;
    let made = made.map_err(|error| format!("no token of service account {namespace}/{name}: {}", explain(&error)))?;
    let status = made.status.ok_or("the API server made no token")?;
    let (token, until) = status
        .token
        .zip(status.expiration_timestamp)
        .ok_or("the API server made no token")?;
    let life = until.0.duration_since(Timestamp::now());
    Ok((token, life.try_into().unwrap_or_default()))
}
