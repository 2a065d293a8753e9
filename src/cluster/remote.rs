//! Other clusters, by a kubeconfig or an address with a token that somebody put into this one.
//!
//! Guarantees: such a kubeconfig is data of whoever wrote it, not ours: it runs no program, reads no file of this process,
//! and talks to no server whose certificate it does not check. What is refused is named; no error holds a credential.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use kube::{Client, Config};

use super::client::{ClientError, client_of};

/// Names everything in a kubeconfig that is made here.
const NAME: &str = "remote";

/// Why another cluster cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// The text is no kubeconfig.
    #[error("it is no kubeconfig: it needs clusters, users, contexts and current-context, in YAML")]
    NotOne,
    /// Something that the current context names is not there.
    #[error("its current context names a {0} that it does not have")]
    Dangling(&'static str),
    /// It asks for something that is not done with a kubeconfig of others.
    #[error("{field} is refused, {reason}; {instead}")]
    Refused {
        /// Field of the kubeconfig.
        field: &'static str,
        /// Why.
        reason: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// It does not make a client.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// kube cannot use it.
    #[error("it cannot be used: {0}")]
    Unusable(String),
}

/// Makes a client of a kubeconfig in YAML. Nothing is sent yet.
///
/// # Errors
/// When it is none, or asks for what is refused.
pub async fn of_kubeconfig(text: &str, insecure_tls: bool) -> Result<Client, RemoteError> {
    // What the parser says may quote the text.
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|_| RemoteError::NotOne)?;
    check(&kubeconfig, insecure_tls)?;
    connect(kubeconfig).await
}

/// Makes a client of an address, the authorities that vouch for it, and a token. Nothing is sent yet.
///
/// # Errors
/// When they do not make a client.
pub async fn of_address(address: &str, authorities: Option<&str>, token: &str) -> Result<Client, RemoteError> {
    let cluster = Cluster {
        server: Some(address.to_owned()),
        certificate_authority_data: authorities.map(|text| BASE64.encode(text)),
        ..Cluster::default()
    };
    let user = AuthInfo {
        token: Some(token.to_owned().into()),
        ..AuthInfo::default()
    };
    let context = Context {
        cluster: NAME.to_owned(),
        user: Some(NAME.to_owned()),
        ..Context::default()
    };
    connect(Kubeconfig {
        clusters: vec![NamedCluster {
            name: NAME.to_owned(),
            cluster: Some(cluster),
            ..NamedCluster::default()
        }],
        auth_infos: vec![NamedAuthInfo {
            name: NAME.to_owned(),
            auth_info: Some(user),
            ..NamedAuthInfo::default()
        }],
        contexts: vec![NamedContext {
            name: NAME.to_owned(),
            context: Some(context),
            ..NamedContext::default()
        }],
        current_context: Some(NAME.to_owned()),
        ..Kubeconfig::default()
    })
    .await
}

async fn connect(kubeconfig: Kubeconfig) -> Result<Client, RemoteError> {
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| RemoteError::Unusable(super::client::chain(&error)))?;
    Ok(client_of(config)?)
}

/// Refuses what a kubeconfig of others must not ask for, in the part that its current context uses.
fn check(kubeconfig: &Kubeconfig, insecure_tls: bool) -> Result<(), RemoteError> {
    let current = kubeconfig.current_context.as_deref().ok_or(RemoteError::NotOne)?;
    let context = kubeconfig.contexts.iter().find(|one| one.name == current);
    let context = context.and_then(|one| one.context.as_ref());
    let context = context.ok_or(RemoteError::Dangling("context"))?;
    let cluster = kubeconfig.clusters.iter().find(|one| one.name == context.cluster);
    let cluster = cluster.and_then(|one| one.cluster.as_ref());
    let cluster = cluster.ok_or(RemoteError::Dangling("cluster"))?;
    let user = context.user.as_ref().and_then(|name| {
        let found = kubeconfig.auth_infos.iter().find(|one| one.name == *name)?;
        found.auth_info.as_ref()
    });
    let user = user.ok_or(RemoteError::Dangling("user"))?;
    let (program, file) = ("it would run a program in Weir", "it would read a file of Weir");
    let (token, inline) = (
        "use a token or a client certificate",
        "put the content into the kubeconfig (kubectl config view --flatten)",
    );
    let refused = [
        (user.exec.is_some(), "users[].user.exec", program, token),
        (
            user.auth_provider.is_some(),
            "users[].user.auth-provider",
            program,
            token,
        ),
        (user.token_file.is_some(), "users[].user.tokenFile", file, inline),
        (
            user.client_certificate.is_some(),
            "users[].user.client-certificate",
            file,
            inline,
        ),
        (user.client_key.is_some(), "users[].user.client-key", file, inline),
        (
            cluster.certificate_authority.is_some(),
            "clusters[].cluster.certificate-authority",
            file,
            inline,
        ),
        (
            cluster.insecure_skip_tls_verify == Some(true) && !insecure_tls,
            "clusters[].cluster.insecure-skip-tls-verify",
            "anybody could stand in for that server",
            "give certificate-authority-data, or start Weir with --insecure-kubeconfig-tls",
        ),
    ];
    match refused.into_iter().find(|(asked, ..)| *asked) {
        Some((_, field, reason, instead)) => Err(RemoteError::Refused { field, reason, instead }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn refusal(user: &str, cluster: &str) -> String {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\ncontexts: [{{name: a, context: {{cluster: a, user: a}}}}]\n\
             users: [{{name: a, user: {{{user}}}}}]\nclusters: [{{name: a, cluster: {{server: 'https://127.0.0.1:1'{cluster}}}}}]\n"
        );
        match of_kubeconfig(&text, false).await {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn what_a_kubeconfig_of_others_must_not_ask_for_is_refused() {
        for (user, cluster, expect) in [
            (
                "exec: {apiVersion: client.authentication.k8s.io/v1, command: sh}",
                "",
                "users[].user.exec is refused, it would run a program in Weir; use a token",
            ),
            (
                "auth-provider: {name: gcp, config: {}}",
                "",
                "users[].user.auth-provider is refused",
            ),
            (
                "tokenFile: /var/run/token",
                "",
                "users[].user.tokenFile is refused, it would read a file",
            ),
            (
                "client-certificate: /x",
                "",
                "users[].user.client-certificate is refused",
            ),
            ("client-key: /x", "", "users[].user.client-key is refused"),
            (
                "token: x",
                ", certificate-authority: /etc/hostname",
                "clusters[].cluster.certificate-authority is",
            ),
            (
                "token: x",
                ", insecure-skip-tls-verify: true",
                "clusters[].cluster.insecure-skip-tls-verify is",
            ),
        ] {
            let refused = refusal(user, cluster).await;
            assert!(refused.starts_with(expect), "{user}{cluster}: {refused}");
        }
        assert_eq!(refusal("token: x", "").await, "");
    }

    #[tokio::test]
    async fn what_is_no_kubeconfig_is_not_quoted() {
        let text = |error: Result<Client, RemoteError>| error.err().unwrap().to_string();
        for bad in ["secret: [", "hunter2", "apiVersion: v1\nkind: Config\n"] {
            let error = text(of_kubeconfig(bad, false).await);
            assert!(
                error.starts_with("it is no kubeconfig") && !error.contains("hunter2"),
                "{error}"
            );
        }
        let dangling = "apiVersion: v1\nkind: Config\ncurrent-context: a\n";
        assert_eq!(
            text(of_kubeconfig(dangling, false).await),
            "its current context names a context that it does not have"
        );
    }
}
