//! Who Weir is for a Git server, whom it trusts, and which way it goes: what the Secrets of a GitRepository say.
//!
//! Guarantees: a credential is never printed, not even by `{:?}`; it goes only to the host that the GitRepository names
//! (see `bridge`: with credentials, a redirect to another host is refused).

use std::collections::BTreeMap;
use std::fmt;

/// What to show a Git server.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// Nothing.
    #[default]
    Anonymous,
    /// HTTP basic authentication.
    Basic {
        /// The user.
        username: String,
        /// The password or personal token.
        password: String,
    },
    /// A token, sent as `Authorization: Bearer`.
    Bearer(String),
    /// An SSH key, and the keys of the servers that may be told.
    Ssh(SshIdentity),
}

/// Keys `identity`, `known_hosts`, `password` and `username` of a Secret.
#[derive(Clone, PartialEq, Eq)]
pub struct SshIdentity {
    /// Else the one in the URL, else `git`.
    pub username: Option<String>,
    /// In any of OpenSSH's, PKCS 1's and PKCS 8's forms.
    pub private_key: String,
    /// Of the private key.
    pub passphrase: Option<String>,
    /// As OpenSSH writes it.
    pub known_hosts: String,
}

/// Keys `ca.crt`, `tls.crt` and `tls.key` of a Secret, or `caFile`, `certFile` and `keyFile`; PEM.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Trusted in addition to what the machine trusts.
    pub ca: Option<String>,
    /// Certificate chain and private key, for servers that ask for them.
    pub client: Option<(String, String)>,
}

/// What a Secret in `spec.secretRef` gives.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// Who Weir is.
    pub credentials: Credentials,
    /// Whom it trusts.
    pub tls: Tls,
}

/// What a Secret in `spec.proxySecretRef` gives.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Beginning with `http://`, `https://` or `socks5://`.
    pub address: String,
    /// For the proxy.
    pub username: Option<String>,
    /// For the proxy.
    pub password: Option<String>,
}

/// A Secret that gives no credentials. Names keys, never values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// A key is there whose companion is not.
    #[error("the Secret has the key {has:?} but not {lacks:?}")]
    Incomplete {
        /// The key that is there.
        has: &'static str,
        /// The key that is missing.
        lacks: &'static str,
    },
    /// Two ways at once.
    #[error("the Secret has both \"bearerToken\" and \"username\"; keep one of the two")]
    Ambiguous,
    /// No key that is understood.
    #[error("the Secret has none of the keys {expected}, only: {found}")]
    Nothing {
        /// What is understood.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// Bytes that cannot be what they should be.
    #[error("the Secret's value of {0:?} holds line breaks or control characters or is not UTF-8")]
    Unprintable(&'static str),
    /// A URL with ssh and no Secret at all.
    #[error("a URL with ssh needs a Secret with the keys \"identity\" and \"known_hosts\" in spec.secretRef")]
    NoSecret,
}

impl Access {
    /// Reads the keys that Flux reads for a URL of this kind.
    ///
    /// # Errors
    /// When the Secret gives no usable credentials.
    pub fn from_secret(url: &str, data: &BTreeMap<String, Vec<u8>>) -> Result<Self, CredentialsError> {
        let data = Data(data);
        if is_ssh(url) {
            let credentials = Credentials::Ssh(ssh(&data)?);
            return Ok(Self {
                credentials,
                tls: Tls::default(),
            });
        }
        let tls = tls(&data)?;
        let credentials = http(&data)?;
        if credentials == Credentials::Anonymous && tls == Tls::default() {
            return Err(data.nothing("username and password, bearerToken, ca.crt, tls.crt and tls.key"));
        }
        Ok(Self { credentials, tls })
    }

    /// What there is without a Secret.
    ///
    /// # Errors
    /// When the URL needs one.
    pub fn without_secret(url: &str) -> Result<Self, CredentialsError> {
        if is_ssh(url) {
            return Err(CredentialsError::NoSecret);
        }
        Ok(Self::default())
    }
}

impl Proxy {
    /// Reads the keys that Flux reads: `address`, and `username` and `password` if the proxy asks.
    ///
    /// # Errors
    /// When the Secret names no proxy.
    pub fn from_secret(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, CredentialsError> {
        let data = Data(data);
        let Some(address) = data.line("address")? else {
            return Err(data.nothing("address, username, password"));
        };
        let (username, password) = (data.line("username")?, data.line("password")?);
        if username.is_none() && password.is_some() {
            return Err(incomplete("password", "username"));
        }
        Ok(Self {
            address,
            username,
            password,
        })
    }
}

impl Credentials {
    /// What must not appear in any text.
    pub(super) fn secrets(&self) -> Vec<&str> {
        match self {
            Self::Anonymous => Vec::new(),
            Self::Basic { password, .. } => vec![password],
            Self::Bearer(token) => vec![token],
            Self::Ssh(identity) => identity.passphrase.as_deref().into_iter().collect(),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "Anonymous",
            Self::Basic { .. } => "Basic(…)",
            Self::Bearer(_) => "Bearer(…)",
            Self::Ssh(_) => "Ssh(…)",
        })
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client = self.client.as_ref().map(|_| "…");
        f.debug_struct("Tls")
            .field("ca", &self.ca)
            .field("client", &client)
            .finish()
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proxy(…)")
    }
}

fn is_ssh(url: &str) -> bool {
    url.get(..6).is_some_and(|scheme| scheme.eq_ignore_ascii_case("ssh://"))
}

fn http(data: &Data<'_>) -> Result<Credentials, CredentialsError> {
    match (
        data.line("username")?,
        data.line("password")?,
        data.line("bearerToken")?,
    ) {
        (None, None, Some(token)) => Ok(Credentials::Bearer(token)),
        (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => Err(CredentialsError::Ambiguous),
        (Some(username), Some(password), None) => Ok(Credentials::Basic { username, password }),
        (Some(_), None, None) => Err(incomplete("username", "password")),
        (None, Some(_), None) => Err(incomplete("password", "username")),
        (None, None, None) => Ok(Credentials::Anonymous),
    }
}

pub(super) fn tls(data: &Data<'_>) -> Result<Tls, CredentialsError> {
    // The second name of each is what Flux's older Secrets have.
    let either = |new, old| Ok(data.text(new)?.or(data.text(old)?));
    let client = match (either("tls.crt", "certFile")?, either("tls.key", "keyFile")?) {
        (Some(chain), Some(key)) => Some((chain, key)),
        (None, None) => None,
        (Some(_), None) => return Err(incomplete("tls.crt", "tls.key")),
        (None, Some(_)) => return Err(incomplete("tls.key", "tls.crt")),
    };
    Ok(Tls {
        ca: either("ca.crt", "caFile")?,
        client,
    })
}

fn ssh(data: &Data<'_>) -> Result<SshIdentity, CredentialsError> {
    match (data.text("identity")?, data.text("known_hosts")?) {
        (Some(private_key), Some(known_hosts)) => Ok(SshIdentity {
            username: data.line("username")?,
            private_key,
            passphrase: data.line("password")?,
            known_hosts,
        }),
        (Some(_), None) => Err(incomplete("identity", "known_hosts")),
        (None, Some(_)) => Err(incomplete("known_hosts", "identity")),
        (None, None) => Err(data.nothing("identity, known_hosts, password, username")),
    }
}

fn incomplete(has: &'static str, lacks: &'static str) -> CredentialsError {
    CredentialsError::Incomplete { has, lacks }
}

/// The content of a Secret.
pub(super) struct Data<'a>(pub(super) &'a BTreeMap<String, Vec<u8>>);

impl Data<'_> {
    pub(super) fn text(&self, key: &'static str) -> Result<Option<String>, CredentialsError> {
        let Some(bytes) = self.0.get(key).filter(|bytes| !bytes.is_empty()) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(bytes).map_err(|_| CredentialsError::Unprintable(key))?;
        Ok(Some(text.to_owned()))
    }

    /// A value of one line.
    pub(super) fn line(&self, key: &'static str) -> Result<Option<String>, CredentialsError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        // A trailing line break comes from `--from-file` or an editor and is never meant.
        let line = text.trim_end_matches(['\r', '\n']);
        if line.chars().any(char::is_control) {
            return Err(CredentialsError::Unprintable(key));
        }
        Ok(Some(line.to_owned()))
    }

    fn nothing(&self, expected: &'static str) -> CredentialsError {
        let keys: Vec<&str> = self.0.keys().map(String::as_str).collect();
        let found = if keys.is_empty() {
            "nothing".to_owned()
        } else {
            keys.join(", ")
        };
        CredentialsError::Nothing { expected, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HTTPS: &str = "https://git.example/app";
    const SSH: &str = "ssh://git@git.example/app";

    fn data(entries: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        let entries = entries.iter();
        entries.map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect()
    }

    fn read(url: &str, entries: &[(&str, &str)]) -> Result<Access, String> {
        Access::from_secret(url, &data(entries)).map_err(|e| e.to_string())
    }

    #[test]
    fn secrets_are_read_as_flux_reads_them() {
        let credentials = |url, entries: &[(&str, &str)]| read(url, entries).unwrap().credentials;
        let basic = Credentials::Basic {
            username: "ada".to_owned(),
            password: "pw".to_owned(),
        };
        let entries = [("username", "ada\n"), ("password", "pw\n"), ("identity", "unused")];
        assert_eq!(credentials(HTTPS, &entries), basic);
        let bearer = Credentials::Bearer("tok".to_owned());
        assert_eq!(credentials(HTTPS, &[("bearerToken", "tok")]), bearer);
        let ssh = Credentials::Ssh(SshIdentity {
            username: None,
            private_key: "key\n".to_owned(),
            passphrase: Some("pw".to_owned()),
            known_hosts: "h k\n".to_owned(),
        });
        let entries = [
            ("identity", "key\n"),
            ("identity.pub", "unused"),
            ("known_hosts", "h k\n"),
            ("password", "pw\n"),
        ];
        assert_eq!(credentials(SSH, &entries), ssh);
        let trust = read(HTTPS, &[("caFile", "old"), ("certFile", "c"), ("keyFile", "k")]).unwrap();
        assert_eq!(trust.credentials, Credentials::Anonymous);
        assert_eq!(trust.tls.ca.as_deref(), Some("old"));
        assert_eq!(trust.tls.client, Some(("c".to_owned(), "k".to_owned())));
        let newer = read(HTTPS, &[("caFile", "old"), ("ca.crt", "new")]).unwrap();
        assert_eq!(newer.tls.ca.as_deref(), Some("new"));
    }

    #[test]
    fn a_secret_without_usable_credentials_says_what_it_lacks() {
        let check =
            |url: &str, entries: &[(&str, &str)], expect: &str| assert_eq!(read(url, entries).unwrap_err(), expect);
        let lacks = |has: &str, lacks: &str| format!("the Secret has the key {has:?} but not {lacks:?}");
        check(HTTPS, &[("username", "ada")], &lacks("username", "password"));
        check(HTTPS, &[("password", "pw")], &lacks("password", "username"));
        check(HTTPS, &[("tls.crt", "c")], &lacks("tls.crt", "tls.key"));
        check(SSH, &[("identity", "k")], &lacks("identity", "known_hosts"));
        check(
            HTTPS,
            &[("username", "a"), ("password", "b"), ("bearerToken", "c")],
            "the Secret has both \"bearerToken\" and \"username\"; keep one of the two",
        );
        check(
            HTTPS,
            &[("identity", "x"), ("known_hosts", "y")],
            "the Secret has none of the keys username and password, bearerToken, ca.crt, tls.crt and tls.key, only: identity, known_hosts",
        );
        check(
            SSH,
            &[],
            "the Secret has none of the keys identity, known_hosts, password, username, only: nothing",
        );
        check(
            HTTPS,
            &[("bearerToken", "a\r\nHost: b")],
            "the Secret's value of \"bearerToken\" holds line breaks or control characters or is not UTF-8",
        );
        assert!(Access::without_secret(SSH).is_err() && Access::without_secret(HTTPS).is_ok());
    }

    #[test]
    fn a_proxy_has_an_address() {
        let read = |entries: &[(&str, &str)]| Proxy::from_secret(&data(entries)).map_err(|e| e.to_string());
        assert_eq!(read(&[("address", "http://p:1\n")]).unwrap().address, "http://p:1");
        assert_eq!(
            read(&[("username", "a")]).unwrap_err(),
            "the Secret has none of the keys address, username, password, only: username"
        );
    }

    #[test]
    fn credentials_are_never_printed() {
        for access in [
            read(HTTPS, &[("username", "ada"), ("password", "hunter2")]).unwrap(),
            read(HTTPS, &[("bearerToken", "hunter2")]).unwrap(),
            read(HTTPS, &[("tls.crt", "c"), ("tls.key", "hunter2")]).unwrap(),
            read(SSH, &[("identity", "hunter2"), ("known_hosts", "h")]).unwrap(),
        ] {
            assert!(!format!("{access:?}").contains("hunter2"));
        }
    }
}
