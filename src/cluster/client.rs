//! The client of the API server, and who we are to it.
//!
//! Flow: `connect` reads a kubeconfig or the service account of the pod; `whoami` asks the API server whom it takes us for,
//! which is how the guard recognises Weir's own writes.
//!
//! Guarantees: no request waits for ever; requests are not slowed down on our side (the API server's own priority and
//! fairness does that, and answers 429, which the client retries); an error says which server could not be reached.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::core::identity::{CREDENTIAL_EXTRA, Identity};

/// How long a connection may take. The API server is near; kube's own 30 s would hide an outage.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest silence on a connection. A watch may be silent for up to 290 s, the longest that kube's watcher asks for.
const READ_TIMEOUT: Duration = Duration::from_secs(310);
/// How long a question that somebody waits for may take.
const WHOAMI_TIMEOUT: Duration = Duration::from_secs(15);

/// Where the API server's address and our credentials come from.
#[derive(Debug, Clone, Default)]
pub struct ClientOptions {
    /// A kubeconfig file; without one `KUBECONFIG` is used, and without that the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
}

/// Why the API server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A kubeconfig cannot be read.
    #[error("kubeconfig {file}: {message}; give another with --kubeconfig")]
    Kubeconfig {
        /// The file, or `KUBECONFIG`.
        file: String,
        /// What is wrong with it.
        message: String,
    },
    /// There is neither a kubeconfig nor a service account.
    #[error("no cluster is known: give --kubeconfig, set KUBECONFIG, or run in a pod with a service account ({0})")]
    NoCluster(String),
    /// What was read does not make a client.
    #[error("client for {server}: {message}")]
    Client {
        /// Address of the API server.
        server: String,
        /// What is wrong.
        message: String,
    },
    /// The API server did not answer, or refused.
    #[error("cannot ask the API server who we are: {0}")]
    WhoAmI(String),
}

/// Makes a client. Nothing is sent yet.
///
/// # Errors
/// When no cluster is configured or the configuration cannot be used.
pub async fn connect(options: &ClientOptions) -> Result<Client, ClientError> {
    client_of(configuration(options.kubeconfig.as_deref()).await?)
}

/// Makes a client with our bounds of a configuration.
pub(super) fn client_of(mut config: Config) -> Result<Client, ClientError> {
    config.connect_timeout = Some(CONNECT_TIMEOUT);
    config.read_timeout = Some(READ_TIMEOUT);
    // Without it the time that a connection sat idle in the pool would count against its next answer.
    config.reset_reader_on_write = true;
    let agent = concat!("weir/", env!("CARGO_PKG_VERSION"));
    if let (Ok(name), Ok(value)) = ("user-agent".parse(), agent.parse()) {
        config.headers.push((name, value));
    }
    let server = config.cluster_url.to_string();
    Client::try_from(config).map_err(|error| ClientError::Client {
        server,
        message: explain(&error),
    })
}

/// Asks the API server whom it takes us for.
///
/// # Errors
/// When it cannot be reached, does not answer in time or refuses.
pub async fn whoami(client: &Client) -> Result<Identity, ClientError> {
    let api: Api<SelfSubjectReview> = Api::all(client.clone());
    let (parameters, question) = (PostParams::default(), SelfSubjectReview::default());
    let review = tokio::time::timeout(WHOAMI_TIMEOUT, api.create(&parameters, &question))
        .await
        .map_err(|_| ClientError::WhoAmI(format!("no answer within {} s", WHOAMI_TIMEOUT.as_secs())))?
        .map_err(|error| ClientError::WhoAmI(explain(&error)))?;
    let user = review.status.and_then(|status| status.user_info).unwrap_or_default();
    match user.username.filter(|name| !name.is_empty()) {
        Some(username) => Ok(Identity {
            username,
            groups: user.groups.unwrap_or_default(),
            shows_credential: user.extra.is_some_and(|extra| extra.contains_key(CREDENTIAL_EXTRA)),
        }),
        None => Err(ClientError::WhoAmI("the answer names no user".to_owned())),
    }
}

/// What went wrong, for people: the API server's own words, or the whole chain of causes, once each.
#[must_use]
pub fn explain(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return if status.message.is_empty() {
            format!("the API server answered {} {}", status.code, status.reason)
        } else {
            status.message.clone()
        };
    }
    let mut text = chain(error);
    let unreachable = matches!(error, kube::Error::Service(_) | kube::Error::HyperError(_));
    if unreachable {
        text.insert_str(0, "the API server cannot be reached: ");
    }
    text
}

/// Whether an error is the API server's answer with this code.
#[must_use]
pub fn is_code(error: &kube::Error, code: u16) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == code)
}

async fn configuration(file: Option<&Path>) -> Result<Config, ClientError> {
    let (name, kubeconfig) = match file {
        Some(path) => {
            let read = Kubeconfig::read_from(path).map_err(|error| bad_kubeconfig(&path.display(), &error))?;
            (path.display().to_string(), Some(read))
        }
        None => {
            let read = Kubeconfig::from_env().map_err(|error| bad_kubeconfig(&"KUBECONFIG", &error))?;
            ("KUBECONFIG".to_owned(), read)
        }
    };
    match kubeconfig {
        Some(kubeconfig) => Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .map_err(|error| bad_kubeconfig(&name, &error)),
        None => Config::incluster_env().map_err(|error| ClientError::NoCluster(chain(&error))),
    }
}

fn bad_kubeconfig(file: &dyn std::fmt::Display, error: &(dyn std::error::Error + 'static)) -> ClientError {
    ClientError::Kubeconfig {
        file: file.to_string(),
        message: chain(error),
    }
}

/// An error with its causes, leaving out those whose text the one before already holds.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn connect_with(text: &str) -> Result<Client, ClientError> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let kubeconfig = Some(file.path().to_owned());
        connect(&ClientOptions { kubeconfig }).await
    }

    #[tokio::test]
    async fn a_kubeconfig_that_cannot_be_used_is_named() {
        let kubeconfig = Some(PathBuf::from("/does/not/exist"));
        let error = connect(&ClientOptions { kubeconfig }).await.err().unwrap().to_string();
        assert!(error.starts_with("kubeconfig /does/not/exist: "), "{error}");
        assert!(
            error.contains("No such file") && error.ends_with("--kubeconfig"),
            "{error}"
        );
        let error = connect_with("apiVersion: v1\nkind: Config\n")
            .await
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains("current context"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_is_down_is_said_to_be_unreachable() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A port that was just free: nobody listens on it.
        let port = std::net::TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let client = connect_with(&format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
             contexts: [{{name: a, context: {{cluster: a, user: a}}}}]\nusers: [{{name: a, user: {{}}}}]\n\
             clusters: [{{name: a, cluster: {{server: 'http://127.0.0.1:{port}'}}}}]\n"
        ))
        .await
        .unwrap();
        let error = whoami(&client).await.unwrap_err().to_string();
        assert!(
            error.starts_with("cannot ask the API server who we are: the API server cannot be reached: ")
                && error.contains("refused"),
            "{error}"
        );
    }
}
