//! Git over SSH: libgit2's `git://` conversation, carried into a `git-upload-pack` on the server.
//!
//! Guarantees: nothing is sent to a server whose key is not in `known_hosts`; the private key stays in memory.

use std::borrow::Cow;
use std::sync::{Arc, Mutex};

use russh::ChannelMsg;
use russh::client::{Config, Handle, Handler, connect_stream};
use russh::keys::{Algorithm, HashAlg, PrivateKeyWithHashAlg, PublicKeyOrCertificate, decode_secret_key};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connect::{Stream, reach};
use super::known_hosts::Expected;
use super::{Failure, Shared, lock};
use crate::source::git_auth::{Credentials, SshIdentity};
use crate::source::git_url::percent_decoded;

/// Whom Git hosts take for their SSH user; Flux's default too.
const DEFAULT_USER: &str = "git";

/// Longest first line of libgit2's: a command, a token, a host name.
const MAX_GREETING: usize = 1024;

/// How much is kept of what the server says on its error stream.
const MAX_STDERR: usize = 2048;

/// What `git-upload-pack`, or the host in its place, says of a repository that is not there.
const NOT_FOUND: [&str; 4] = [
    "repository not found",
    "does not appear to be a git repository",
    "not found",
    "no such repository",
];

/// Answers one connection of libgit2's.
pub(super) async fn carry(mut stream: TcpStream, shared: &Shared) {
    // Else it is not libgit2, but somebody who looks around on this machine.
    if matches!(is_for_us(&mut stream, &shared.token).await, Ok(true))
        && let Err(failure) = converse(&mut stream, shared).await
    {
        // Told before the socket closes, which is when libgit2 asks.
        shared.fail(failure);
    }
}

/// Reads the greeting, `git-upload-pack /<token>\0host=…\0` with its length in front.
async fn is_for_us(stream: &mut TcpStream, token: &str) -> std::io::Result<bool> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = std::str::from_utf8(&length)
        .ok()
        .and_then(|text| usize::from_str_radix(text, 16).ok());
    let Some(length) = length
        .and_then(|length| length.checked_sub(4))
        .filter(|length| *length <= MAX_GREETING)
    else {
        return Ok(false);
    };
    let mut greeting = vec![0; length];
    stream.read_exact(&mut greeting).await?;
    let command = greeting.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(command == format!("git-upload-pack /{token}").as_bytes())
}

async fn converse(stream: &mut TcpStream, shared: &Shared) -> Result<(), Failure> {
    let route = &shared.route;
    let Credentials::Ssh(identity) = &route.credentials else {
        return Err(Failure::Credentials(
            "ssh needs a key: name a Secret with identity and known_hosts in spec.secretRef".to_owned(),
        ));
    };
    let host = route.url.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let port = route.url.port_u16().unwrap_or(22);
    let expected = Expected::of(&identity.known_hosts, bare, port).map_err(Failure::HostKey)?;
    let key = private_key(identity).await?;
    let connection = reach(host, port, route.proxy.as_ref()).await?;
    let session = log_in(connection, expected, key, &user(identity, route.url.authority()), host).await?;
    let broke = |error: russh::Error| Failure::Unreachable(format!("the ssh connection to {host} broke: {error}"));
    let channel = session.channel_open_session().await.map_err(broke)?;
    channel.exec(true, command(route.url.path())).await.map_err(broke)?;
    let (mut answers, questions) = channel.split();
    let (mut from_git, mut to_git) = stream.split();
    let mut writer = questions.make_writer();
    let upload = async { tokio::io::copy(&mut from_git, &mut writer).await };
    let download = async {
        let (mut said, mut sent) = (Vec::new(), 0_u64);
        // A server may tell how its program ended before all that it printed: both must have come.
        let (mut status, mut printed) = (None, false);
        while let Some(message) = answers.wait().await {
            match message {
                ChannelMsg::Data { data } => {
                    sent += data.len() as u64;
                    if sent > shared.max_bytes {
                        return Err(Failure::TooLarge);
                    }
                    if to_git.write_all(&data).await.is_err() {
                        return Ok(());
                    }
                }
                ChannelMsg::ExtendedData { data, .. } => {
                    said.extend(data.iter().take(MAX_STDERR.saturating_sub(said.len())));
                }
                ChannelMsg::ExitStatus { exit_status } => status = Some(exit_status),
                ChannelMsg::Eof => printed = true,
                ChannelMsg::Close | ChannelMsg::Failure => break,
                _ => {}
            }
            if printed && status.is_some() {
                break;
            }
        }
        if status == Some(0) {
            Ok(())
        } else {
            Err(complaint(&said))
        }
    };
    tokio::select! {
        // libgit2 has what it wanted, or gave up.
        _ = upload => Ok(()),
        ended = download => ended,
    }
}

/// What is run on the server.
fn command(path: &str) -> String {
    let path = percent_decoded(path);
    // `/~ada/app` is below the home of `ada`, as git reads it.
    let path = path
        .strip_prefix('/')
        .filter(|rest| rest.starts_with('~'))
        .unwrap_or(&path);
    format!("git-upload-pack '{}'", path.replace('\'', "'\\''"))
}

fn complaint(said: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(said);
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let lower = text.to_ascii_lowercase();
    if NOT_FOUND.iter().any(|known| lower.contains(known)) {
        return Failure::NotFound;
    }
    Failure::Unreachable(match text.as_str() {
        "" => "the server ended the ssh session without a word".to_owned(),
        text => format!("the server says: {text}"),
    })
}

fn user(identity: &SshIdentity, authority: Option<&hyper::http::uri::Authority>) -> String {
    let in_url = authority.and_then(|authority| authority.as_str().rsplit_once('@'));
    let in_url = in_url.map(|(info, _)| percent_decoded(info.split(':').next().unwrap_or(info)));
    identity
        .username
        .clone()
        .or(in_url.filter(|user| !user.is_empty()))
        .unwrap_or_else(|| DEFAULT_USER.to_owned())
}

async fn private_key(identity: &SshIdentity) -> Result<russh::keys::PrivateKey, Failure> {
    let (text, password) = (identity.private_key.clone(), identity.passphrase.clone());
    // A passphrase is made slow to try on purpose.
    let decoded = tokio::task::spawn_blocking(move || decode_secret_key(&text, password.as_deref())).await;
    let given = identity.passphrase.is_some();
    match decoded {
        Ok(Ok(key)) => Ok(key),
        Ok(Err(russh::keys::Error::KeyIsEncrypted)) => Err(Failure::Credentials(
            "the key in identity of spec.secretRef is encrypted; give its passphrase in the key password".to_owned(),
        )),
        Ok(Err(error)) => Err(Failure::Credentials(format!(
            "the key in identity of spec.secretRef cannot be read{}: {error}",
            if given { " with the passphrase in password" } else { "" }
        ))),
        Err(_) => Err(Failure::Credentials(
            "the key in identity of spec.secretRef cannot be read".to_owned(),
        )),
    }
}

async fn log_in(
    connection: Stream,
    expected: Expected,
    key: russh::keys::PrivateKey,
    user: &str,
    host: &str,
) -> Result<Handle<Checker>, Failure> {
    let mut config = Config {
        nodelay: true,
        ..Config::default()
    };
    let algorithms = expected.algorithms();
    config.preferred.key = Cow::Owned(algorithms.clone());
    let refusal = Arc::new(Mutex::new(None));
    let checker = Checker {
        expected,
        refusal: Arc::clone(&refusal),
    };
    let connected = connect_stream(Arc::new(config), connection, checker).await;
    let mut session = connected.map_err(|error| match (lock(&refusal).take(), error) {
        (Some(reason), _) => Failure::HostKey(reason),
        (None, russh::Error::NoCommonAlgo { kind, theirs, .. }) => {
            no_common(&format!("{kind:?}"), &algorithms, &theirs)
        }
        (None, error) => Failure::Unreachable(format!("ssh handshake with {host} failed: {error}")),
    })?;
    let broke = |error: russh::Error| Failure::Unreachable(format!("the ssh connection to {host} broke: {error}"));
    let hash = match key.algorithm() {
        Algorithm::Rsa { .. } => session.best_supported_rsa_hash().await.map_err(broke)?,
        _ => None,
    };
    // A server that does not say what it takes is old, yet not so old that only SHA-1 is left.
    let hash = hash.flatten().or(Some(HashAlg::Sha512));
    let key = PrivateKeyWithHashAlg::new(Arc::new(key), hash);
    let answer = session.authenticate_publickey(user, key).await.map_err(broke)?;
    if answer.success() {
        Ok(session)
    } else {
        Err(Failure::Refused)
    }
}

fn no_common(kind: &str, ours: &[Algorithm], theirs: &[String]) -> Failure {
    let ours: Vec<&str> = ours.iter().map(|one| one.as_str()).collect();
    if kind == "Key" {
        return Failure::HostKey(format!(
            "ssh: known_hosts of spec.secretRef has keys of the kinds {} for the server, which only has {}",
            ours.join(", "),
            theirs.join(", ")
        ));
    }
    Failure::Unreachable(format!(
        "ssh: no common {kind} algorithm; the server offers {}",
        theirs.join(", ")
    ))
}

/// Asks `known_hosts` about the server's key.
struct Checker {
    expected: Expected,
    refusal: Arc<Mutex<Option<String>>>,
}

impl Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else {
            return Ok(false);
        };
        match self.expected.check(key) {
            Ok(()) => Ok(true),
            Err(reason) => {
                *lock(&self.refusal) = Some(reason);
                Ok(false)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_to_the_servers_shell() {
        let check = |path: &str, expect: &str| assert_eq!(command(path), expect);
        check("/org/app.git", "git-upload-pack '/org/app.git'");
        check("/a%20b", "git-upload-pack '/a b'");
        check("/a'; rm -rf /'", r"git-upload-pack '/a'\''; rm -rf /'\'''");
        check("/~ada/app", "git-upload-pack '~ada/app'");
    }

    #[test]
    fn what_the_server_says_becomes_a_reason() {
        let check = |said: &str, expect: Failure| assert_eq!(complaint(said.as_bytes()), expect);
        check("ERROR: Repository not found.\nfatal: x", Failure::NotFound);
        check(
            "fatal: '/x' does not appear to be a git repository\n",
            Failure::NotFound,
        );
        let other = "the server says: your account is locked";
        check("your account\r\nis locked", Failure::Unreachable(other.to_owned()));
    }
}
