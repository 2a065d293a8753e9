//! GitHub Apps: from the key of an app to a token that may read what the app is installed on.
//!
//! Flow: a JSON web token, signed with the app's key, asks GitHub for a token of one installation; that one is the password
//! for Git, and is kept until shortly before it expires.
//!
//! Guarantees: key and tokens stand in no error and no log line; answers are bounded in size, number and time.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_LENGTH, HOST, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::artifact::hex;
use super::bridge::Failure;
use super::bridge::connect::{explain, proxy_from_environment, reach, secure};
use super::git_auth::{Credentials, CredentialsError, Data, Proxy, Tls, tls};
use super::git_repo::lock;

/// What GitHub wants as user name beside a token.
const USERNAME: &str = "x-access-token";
/// Where GitHub itself answers.
const DEFAULT_API: &str = "https://api.github.com";
/// A web token is dated back by so much, since clocks differ; as Flux does it.
const DRIFT_SECONDS: i64 = 30;
/// Seconds that a web token lives: it is used at once.
const LIFETIME_SECONDS: i64 = 120;
/// A token is replaced so long before it expires, for what begins now must still end with it.
const EARLY: Duration = Duration::from_secs(300);
/// Most bytes of an answer: a page of a hundred installations has some half a million.
const MAX_ANSWER: usize = 4 << 20;
/// Installations on a page; GitHub's own bound.
const PAGE: usize = 100;
/// Most pages that are looked through for an owner.
const MAX_PAGES: usize = 100;
/// Longest part of GitHub's own words in an error.
const MAX_WORDS: usize = 200;

/// Keys of the Secret, as Flux has them.
const ID: &str = "githubAppID";
const INSTALLATION_ID: &str = "githubAppInstallationID";
const INSTALLATION_OWNER: &str = "githubAppInstallationOwner";
const PRIVATE_KEY: &str = "githubAppPrivateKey";
const BASE_URL: &str = "githubAppBaseURL";

/// An app and one of its installations.
pub struct App {
    id: u64,
    installation: Installation,
    key: RsaKeyPair,
    api: String,
    tls: Tls,
    /// Names app, installation and key among the tokens that are kept.
    fingerprint: String,
}

enum Installation {
    Id(u64),
    Owner(String),
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The Secret does not say which app.
    #[error(transparent)]
    Secret(#[from] CredentialsError),
    /// A key of the Secret is missing or is not what it should be.
    #[error("the Secret's key {key:?} {what}")]
    Key {
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// GitHub did not answer.
    #[error("cannot reach {api}: {reason}")]
    Unreachable {
        /// Where it was asked.
        api: String,
        /// Why not.
        reason: String,
    },
    /// GitHub said no.
    #[error("{api} refused the GitHub App with status {status}: {message}")]
    Refused {
        /// Where it was asked.
        api: String,
        /// Status of HTTP.
        status: u16,
        /// What it said.
        message: String,
    },
    /// The app is not installed there.
    #[error("the GitHub App has no installation with the owner {0:?}")]
    NotInstalled(String),
}

impl App {
    /// Whether a Secret is meant for a GitHub App.
    #[must_use]
    pub fn is_meant(data: &BTreeMap<String, Vec<u8>>) -> bool {
        data.contains_key(ID)
    }

    /// Reads the keys that Flux reads.
    ///
    /// # Errors
    /// When one is missing or is not what it should be.
    pub fn from_secret(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, AppError> {
        let read = Data(data);
        let wrong = |key, what: &str| AppError::Key {
            key,
            what: what.to_owned(),
        };
        let number = |key, text: &str| text.parse::<u64>().map_err(|_| wrong(key, "is no number"));
        let id = read.line(ID)?.ok_or_else(|| wrong(ID, "is missing"))?;
        let installation = match (read.line(INSTALLATION_ID)?, read.line(INSTALLATION_OWNER)?) {
            (Some(id), None) => Installation::Id(number(INSTALLATION_ID, &id)?),
            (None, Some(owner)) => Installation::Owner(owner),
            (None, None) => {
                return Err(wrong(
                    INSTALLATION_ID,
                    "is missing, and so is \"githubAppInstallationOwner\"",
                ));
            }
            (Some(_), Some(_)) => {
                return Err(wrong(
                    INSTALLATION_ID,
                    "is there, and so is \"githubAppInstallationOwner\"; keep one of them",
                ));
            }
        };
        let pem = read
            .text(PRIVATE_KEY)?
            .ok_or_else(|| wrong(PRIVATE_KEY, "is missing"))?;
        let api = read.line(BASE_URL)?.unwrap_or_else(|| DEFAULT_API.to_owned());
        let api = api.trim_end_matches('/').to_owned();
        let mut fingerprint = Sha256::new();
        for part in [&id, &pem, &api] {
            fingerprint.update(part.as_bytes());
            fingerprint.update([0]);
        }
        match &installation {
            Installation::Id(id) => fingerprint.update(id.to_be_bytes()),
            Installation::Owner(owner) => fingerprint.update(owner.as_bytes()),
        }
        Ok(Self {
            id: number(ID, &id)?,
            installation,
            key: key(&pem).map_err(|what| wrong(PRIVATE_KEY, &what))?,
            api,
            tls: tls(&read)?,
            fingerprint: hex(&fingerprint.finalize()),
        })
    }

    /// What to show a Git server; from memory while the last token still serves.
    ///
    /// # Errors
    /// When GitHub gives no token.
    pub async fn credentials(&self, proxy: Option<&Proxy>, timeout: Duration) -> Result<Credentials, AppError> {
        let now = Timestamp::now();
        let held = lock(kept()).get(&self.fingerprint).cloned();
        let token = match held.filter(|token| token.serves(now)) {
            Some(token) => token,
            None => {
                let asked = tokio::time::timeout(timeout, self.ask(proxy, now)).await;
                let token = asked.unwrap_or_else(|_| Err(self.unreachable("it took too long".to_owned())))?;
                let mut kept = lock(kept());
                kept.retain(|_, token| token.serves(now));
                kept.insert(self.fingerprint.clone(), token.clone());
                token
            }
        };
        Ok(Credentials::Basic {
            username: USERNAME.to_owned(),
            password: token.token,
        })
    }

    /// Authorities that the Git server is known by, too.
    #[must_use]
    pub fn tls(&self) -> Tls {
        self.tls.clone()
    }

    async fn ask(&self, proxy: Option<&Proxy>, now: Timestamp) -> Result<Token, AppError> {
        let bearer = self.web_token(now)?;
        let installation = match &self.installation {
            Installation::Id(id) => *id,
            Installation::Owner(owner) => self.installation_of(owner, &bearer, proxy).await?,
        };
        let path = format!("/app/installations/{installation}/access_tokens");
        let answer = self.call(Method::POST, &path, &bearer, proxy).await?;
        serde_json::from_slice(&answer).map_err(|_| self.unreachable("its answer is no token".to_owned()))
    }

    async fn installation_of(&self, owner: &str, bearer: &str, proxy: Option<&Proxy>) -> Result<u64, AppError> {
        for page in 1..=MAX_PAGES {
            let path = format!("/app/installations?per_page={PAGE}&page={page}");
            let answer = self.call(Method::GET, &path, bearer, proxy).await?;
            let found: Vec<Installed> = serde_json::from_slice(&answer)
                .map_err(|_| self.unreachable("its answer is no list of installations".to_owned()))?;
            if let Some(one) = found.iter().find(|one| one.account.login.eq_ignore_ascii_case(owner)) {
                return Ok(one.id);
            }
            if found.len() < PAGE {
                break;
            }
        }
        Err(AppError::NotInstalled(owner.to_owned()))
    }

    /// A JSON web token of the app, as RFC 7519 and GitHub want it.
    fn web_token(&self, now: Timestamp) -> Result<String, AppError> {
        let since = now.as_second() - DRIFT_SECONDS;
        let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let head = part(json!({"alg": "RS256", "typ": "JWT"}));
        let claims = part(json!({"iat": since, "exp": since + LIFETIME_SECONDS, "iss": self.id.to_string()}));
        let signed = format!("{head}.{claims}");
        let mut signature = vec![0; self.key.public().modulus_len()];
        let random = SystemRandom::new();
        let made = self
            .key
            .sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature);
        made.map_err(|_| AppError::Key {
            key: PRIVATE_KEY,
            what: "does not sign".to_owned(),
        })?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }

    async fn call(&self, method: Method, path: &str, bearer: &str, proxy: Option<&Proxy>) -> Result<Bytes, AppError> {
        let (status, body) = self
            .request(method, path, bearer, proxy)
            .await
            .map_err(|failure| match failure {
                Failure::Unreachable(reason) | Failure::Tls(reason) => self.unreachable(reason),
                other => self.unreachable(format!("{other:?}")),
            })?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        let said = serde_json::from_slice::<Said>(&body)
            .map(|said| said.message)
            .unwrap_or_default();
        Err(AppError::Refused {
            api: self.api.clone(),
            status,
            message: said.chars().filter(|c| !c.is_control()).take(MAX_WORDS).collect(),
        })
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        bearer: &str,
        proxy: Option<&Proxy>,
    ) -> Result<(u16, Bytes), Failure> {
        let bad = |what: &str| Failure::Unreachable(what.to_owned());
        let uri: Uri = format!("{}{path}", self.api).parse().map_err(|_| bad("it is no URL"))?;
        let host = uri.host().ok_or_else(|| bad("it names no host"))?;
        let secured = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad("it is neither http nor https")),
        };
        let port = uri.port_u16().unwrap_or(if secured { 443 } else { 80 });
        let proxy = proxy
            .cloned()
            .or_else(|| proxy_from_environment(&uri).filter(|_| secured));
        let mut stream = reach(host, port, proxy.as_ref()).await?;
        if secured {
            stream = secure(stream, host, &self.tls).await?;
        }
        let opened = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = opened.map_err(|error| explain(&error, host))?;
        tokio::spawn(connection);
        let target = uri.path_and_query().map_or("/", |path| path.as_str());
        let authority = uri.authority().map(|one| one.as_str()).unwrap_or_default();
        let request = Request::builder()
            .method(method)
            .uri(target)
            .header(HOST, authority)
            .header(ACCEPT, "application/vnd.github+json")
            .header(AUTHORIZATION, format!("Bearer {bearer}"))
            .header(CONTENT_LENGTH, 0)
            .header(USER_AGENT, "weir")
            .body(Empty::<Bytes>::new())
            .map_err(|error| bad(&error.to_string()))?;
        let response = sender
            .send_request(request)
            .await
            .map_err(|error| explain(&error, host))?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| bad(&format!("its answer broke off: {error}")))?;
        Ok((status, body.to_bytes()))
    }

    fn unreachable(&self, reason: String) -> AppError {
        AppError::Unreachable {
            api: self.api.clone(),
            reason,
        }
    }
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("id", &self.id).finish_non_exhaustive()
    }
}

/// The tokens that this process has, by what they are for.
fn kept() -> &'static Mutex<HashMap<String, Token>> {
    static KEPT: OnceLock<Arc<Mutex<HashMap<String, Token>>>> = OnceLock::new();
    KEPT.get_or_init(Arc::default)
}

#[derive(Clone, Deserialize)]
struct Token {
    token: String,
    expires_at: Timestamp,
}

impl Token {
    fn serves(&self, now: Timestamp) -> bool {
        now.checked_add(EARLY).is_ok_and(|then| then < self.expires_at)
    }
}

#[derive(Deserialize)]
struct Installed {
    id: u64,
    account: Account,
}

#[derive(Deserialize)]
struct Account {
    login: String,
}

#[derive(Deserialize)]
struct Said {
    message: String,
}

/// GitHub gives keys in the form of PKCS 1; PKCS 8 is what tools make of them.
fn key(pem: &str) -> Result<RsaKeyPair, String> {
    let read = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| "holds no private key in PEM".to_owned())?;
    let pair = match &read {
        PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
        PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err("holds a key that is not RSA".to_owned()),
    };
    pair.map_err(|error| format!("holds an RSA key that cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(entries: &[(&str, &str)]) -> String {
        let entries = entries.iter();
        let data = entries.map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
        App::from_secret(&data).map(|_| ()).unwrap_err().to_string()
    }

    #[test]
    fn a_secret_that_names_no_app_says_what_it_lacks() {
        assert_eq!(said(&[]), "the Secret's key \"githubAppID\" is missing");
        assert_eq!(
            said(&[(ID, "1")]),
            "the Secret's key \"githubAppInstallationID\" is missing, and so is \"githubAppInstallationOwner\""
        );
        assert_eq!(
            said(&[(ID, "1"), (INSTALLATION_ID, "2"), (INSTALLATION_OWNER, "o")]),
            "the Secret's key \"githubAppInstallationID\" is there, and so is \"githubAppInstallationOwner\"; keep one of them"
        );
        assert_eq!(
            said(&[(ID, "1"), (INSTALLATION_ID, "two")]),
            "the Secret's key \"githubAppInstallationID\" is no number"
        );
        let lacking = [(ID, "1"), (INSTALLATION_ID, "2")];
        assert_eq!(said(&lacking), "the Secret's key \"githubAppPrivateKey\" is missing");
        let broken = [(ID, "1"), (INSTALLATION_ID, "2"), (PRIVATE_KEY, "hunter2")];
        assert_eq!(
            said(&broken),
            "the Secret's key \"githubAppPrivateKey\" holds no private key in PEM"
        );
    }

    #[test]
    fn a_token_serves_until_shortly_before_it_expires() {
        let token = Token {
            token: String::new(),
            expires_at: "2026-01-01T01:00:00Z".parse().unwrap(),
        };
        let at = |time: &str| token.serves(time.parse().unwrap());
        assert!(at("2026-01-01T00:54:59Z") && !at("2026-01-01T00:55:00Z"));
    }
}
