//! From here to a server: a TCP connection, through a proxy when there is one, and TLS on top.

use std::error::Error as StdError;
use std::io;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::Uri;
use hyper_util::client::proxy::matcher::Matcher;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Failure;
use crate::source::git_auth::{Proxy, Tls};
use crate::source::git_url::percent_decoded;

/// Longest answer of a proxy to CONNECT that is read.
const MAX_PROXY_ANSWER: usize = 8 * 1024;

/// A connection, whatever it is made of.
pub(in crate::source) type Stream = Box<dyn Duplex>;

/// Both directions.
pub(in crate::source) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// The proxy that the environment asks for (`HTTPS_PROXY`, `NO_PROXY` and their like).
pub(in crate::source) fn proxy_from_environment(url: &Uri) -> Option<Proxy> {
    let found = Matcher::from_env().intercept(url)?;
    let (username, password) = found.raw_auth().map_or((None, None), |(user, password)| {
        (Some(user.to_owned()), Some(password.to_owned()))
    });
    Some(Proxy {
        address: found.uri().to_string(),
        username,
        password,
    })
}

/// A connection to a host, through the proxy when one is given.
pub(in crate::source) async fn reach(host: &str, port: u16, proxy: Option<&Proxy>) -> Result<Stream, Failure> {
    let Some(proxy) = proxy else {
        return Ok(Box::new(dial(host, port, "").await?));
    };
    let address: Uri = proxy.address.parse().map_err(|_| bad_proxy("its address is no URL"))?;
    let proxy_host = address.host().ok_or_else(|| bad_proxy("its address names no host"))?;
    let scheme = address.scheme_str().unwrap_or("http");
    let default_port = match scheme {
        "http" => 80,
        "https" => 443,
        "socks5" | "socks5h" => 1080,
        _ => return Err(bad_proxy("its address must begin with http://, https:// or socks5://")),
    };
    let stream = dial(proxy_host, address.port_u16().unwrap_or(default_port), "the proxy ").await?;
    let credentials = credentials(proxy, &address);
    match scheme {
        "http" => connect(Box::new(stream), host, port, credentials).await,
        "https" => {
            let secured = secure(Box::new(stream), proxy_host, &Tls::default()).await?;
            connect(secured, host, port, credentials).await
        }
        _ => socks5(Box::new(stream), host, port, credentials).await,
    }
}

/// TLS on a connection.
pub(in crate::source) async fn secure(stream: Stream, host: &str, tls: &Tls) -> Result<Stream, Failure> {
    let config = config(tls)?;
    let plain = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(plain).map_err(|_| Failure::Tls(format!("{host} cannot be a host name")))?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    connected
        .map(|stream| Box::new(stream) as Stream)
        .map_err(|error| explain(&error, host))
}

/// Tells TLS from other troubles of a connection.
pub(in crate::source) fn explain(error: &(dyn StdError + 'static), host: &str) -> Failure {
    let mut cause = Some(error);
    while let Some(one) = cause {
        // An `io::Error` hides what it carries from `source`.
        let carried = one
            .downcast_ref::<io::Error>()
            .and_then(io::Error::get_ref)
            .map(|inner| inner as &(dyn StdError + 'static));
        if let Some(tls) = one
            .downcast_ref::<rustls::Error>()
            .or_else(|| carried.and_then(|inner| inner.downcast_ref()))
        {
            return Failure::Tls(untrusted(tls, host));
        }
        cause = carried.filter(|inner| inner.is::<io::Error>()).or_else(|| one.source());
    }
    let (mut text, mut deepest) = (error.to_string(), error.source());
    while let Some(next) = deepest.and_then(StdError::source) {
        deepest = Some(next);
    }
    if let Some(deepest) = deepest {
        text = format!("{text}: {deepest}");
    }
    Failure::Unreachable(format!("the connection to {host} broke: {text}"))
}

fn untrusted(error: &rustls::Error, host: &str) -> String {
    use CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            "the server's certificate is signed by an unknown authority; give its CA in the key ca.crt of spec.secretRef"
                .to_owned()
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            format!("the server's certificate is not valid for the name {host}")
        }
        rustls::Error::InvalidCertificate(Bad::Expired | Bad::ExpiredContext { .. }) => {
            "the server's certificate has expired".to_owned()
        }
        rustls::Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server asks for a client certificate; give it in the keys tls.crt and tls.key of spec.secretRef".to_owned()
        }
        rustls::Error::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            | AlertDescription::AccessDenied
            | AlertDescription::HandshakeFailure),
        ) => format!("the server refused the connection ({alert:?}); perhaps the client certificate is not the one it wants"),
        other => other.to_string(),
    }
}

fn config(tls: &Tls) -> Result<ClientConfig, Failure> {
    let unusable = |what: &str| Failure::Credentials(format!("the Secret in spec.secretRef: {what}"));
    let mut roots = system_roots().clone();
    if let Some(ca) = &tls.ca {
        let mut added = 0;
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            let certificate = certificate.map_err(|error| unusable(&format!("ca.crt is not PEM: {error}")))?;
            roots
                .add(certificate)
                .map_err(|error| unusable(&format!("ca.crt holds no usable certificate: {error}")))?;
            added += 1;
        }
        if added == 0 {
            return Err(unusable("ca.crt holds no certificate"));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Failure::Tls(error.to_string()))?
        .with_root_certificates(roots);
    let Some((chain, key)) = &tls.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain.as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|error| unusable(&format!("tls.crt is not PEM: {error}")))?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| unusable(&format!("tls.key holds no private key: {error}")))?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(|error| unusable(&format!("tls.crt and tls.key do not go together: {error}")))
}

/// What the machine trusts, read once.
fn system_roots() -> &'static RootCertStore {
    static ROOTS: OnceLock<RootCertStore> = OnceLock::new();
    ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in found.errors {
            tracing::warn!(%error, "part of the system's certificate authorities could not be read");
        }
        roots.add_parsable_certificates(found.certs);
        roots
    })
}

async fn dial(host: &str, port: u16, what: &str) -> Result<TcpStream, Failure> {
    let plain = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((plain, port)).await;
    let stream =
        stream.map_err(|error| Failure::Unreachable(format!("failed to connect to {what}{host}:{port}: {error}")))?;
    let _ = stream.set_nodelay(true);
    Ok(stream)
}

fn bad_proxy(what: &str) -> Failure {
    Failure::Unreachable(format!("the proxy of spec.proxySecretRef is not usable: {what}"))
}

fn credentials(proxy: &Proxy, address: &Uri) -> Option<(String, String)> {
    if let Some(user) = &proxy.username {
        return Some((user.clone(), proxy.password.clone().unwrap_or_default()));
    }
    let (info, _) = address.authority()?.as_str().rsplit_once('@')?;
    let (user, password) = info.split_once(':').unwrap_or((info, ""));
    Some((percent_decoded(user), percent_decoded(password)))
}

async fn connect(
    mut stream: Stream,
    host: &str,
    port: u16,
    credentials: Option<(String, String)>,
) -> Result<Stream, Failure> {
    let broke = |error: io::Error| Failure::Unreachable(format!("the connection to the proxy broke: {error}"));
    let auth = credentials.map_or_else(String::new, |(user, password)| {
        let encoded = STANDARD.encode(format!("{user}:{password}"));
        format!("Proxy-Authorization: Basic {encoded}\r\n")
    });
    let request = format!("CONNECT {host}:{port} HTTP/1.1\r\nHost: {host}:{port}\r\n{auth}\r\n");
    stream.write_all(request.as_bytes()).await.map_err(broke)?;
    let mut answer = Vec::new();
    // Byte by byte: what follows the head belongs to the tunnel.
    while !answer.ends_with(b"\r\n\r\n") {
        if answer.len() >= MAX_PROXY_ANSWER {
            return Err(bad_proxy("its answer has no end"));
        }
        answer.push(stream.read_u8().await.map_err(broke)?);
    }
    let text = String::from_utf8_lossy(&answer);
    let status = text.split_whitespace().nth(1).unwrap_or_default();
    match status {
        "200" => Ok(stream),
        "407" => Err(Failure::Unreachable(
            "the proxy refused the credentials in spec.proxySecretRef (status 407)".to_owned(),
        )),
        _ => Err(Failure::Unreachable(format!(
            "the proxy does not connect to {host}:{port}: status {status}"
        ))),
    }
}

/// RFC 1928 and 1929: version 5, the name is resolved by the proxy.
async fn socks5(
    mut stream: Stream,
    host: &str,
    port: u16,
    credentials: Option<(String, String)>,
) -> Result<Stream, Failure> {
    let broke = |error: io::Error| Failure::Unreachable(format!("the connection to the proxy broke: {error}"));
    let short = |text: &str| u8::try_from(text.len()).map_err(|_| bad_proxy("a name is longer than 255 bytes"));
    let method = if credentials.is_some() { 2 } else { 0 };
    stream.write_all(&[5, 1, method]).await.map_err(broke)?;
    let mut chosen = [0; 2];
    stream.read_exact(&mut chosen).await.map_err(broke)?;
    match (chosen, credentials) {
        ([5, 0], _) => {}
        ([5, 2], Some((user, password))) => {
            let mut message = vec![1, short(&user)?];
            message.extend_from_slice(user.as_bytes());
            message.push(short(&password)?);
            message.extend_from_slice(password.as_bytes());
            stream.write_all(&message).await.map_err(broke)?;
            let mut verdict = [0; 2];
            stream.read_exact(&mut verdict).await.map_err(broke)?;
            if verdict != [1, 0] {
                return Err(Failure::Unreachable(
                    "the proxy refused the credentials in spec.proxySecretRef".to_owned(),
                ));
            }
        }
        _ => return Err(bad_proxy("it asks for another way to log in")),
    }
    let mut message = vec![5, 1, 0, 3, short(host)?];
    message.extend_from_slice(host.as_bytes());
    message.extend_from_slice(&port.to_be_bytes());
    stream.write_all(&message).await.map_err(broke)?;
    let mut head = [0; 4];
    stream.read_exact(&mut head).await.map_err(broke)?;
    let [_, status, _, kind] = head;
    if status != 0 {
        return Err(Failure::Unreachable(format!(
            "the proxy does not connect to {host}:{port}: status {status}"
        )));
    }
    let rest = match kind {
        1 => 4,
        4 => 16,
        _ => usize::from(stream.read_u8().await.map_err(broke)?),
    };
    // Address and port of the proxy's end; nobody needs them.
    let mut bound = vec![0; rest + 2];
    stream.read_exact(&mut bound).await.map_err(broke)?;
    Ok(stream)
}
