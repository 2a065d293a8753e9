//! The part of GitHub's API that a GitHub App needs for a token: it checks the signature of what the app shows, with the
//! app's public key, and gives tokens of one installation.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test binaries, each of which uses its part"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use rustls::pki_types::PrivatePkcs1KeyDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

/// Id of the app and of its only installation, whose owner is `acme`.
pub const APP: &str = "4711";
pub const INSTALLATION: u64 = 815;

/// A new RSA key in PEM, as GitHub gives it to the owner of an app.
pub fn new_key(directory: &Path) -> String {
    let file = directory.join("app.pem");
    let _ = std::fs::remove_file(&file);
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", "", "-f"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::read_to_string(file).unwrap()
}

struct Shared {
    public_key: Vec<u8>,
    tls: Option<Arc<ServerConfig>>,
    lifetime: SignedDuration,
    /// Tokens that were given: `token-1`, `token-2`.
    given: Mutex<usize>,
    log: Mutex<Vec<String>>,
    stop: AtomicBool,
}

/// A server that ends when it is dropped.
pub struct Github {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Github {
    /// Knows the app that has this key; its tokens live so long.
    pub fn start(private_key: &str, tls: Option<ServerConfig>, lifetime: SignedDuration) -> Self {
        let der = PrivatePkcs1KeyDer::from_pem_slice(private_key.as_bytes()).unwrap();
        let pair = RsaKeyPair::from_der(der.secret_pkcs1_der()).unwrap();
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            public_key: pair.public().as_ref().to_vec(),
            tls: tls.map(Arc::new),
            lifetime,
            given: Mutex::default(),
            log: Mutex::default(),
            stop: AtomicBool::new(false),
        });
        let accept = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accept.stop.load(Ordering::SeqCst) {
                    break;
                }
                // A client may hang up whenever it likes.
                let _ = accept.serve(stream.unwrap());
            }
        });
        Self {
            port,
            shared,
            thread: Some(thread),
        }
    }

    pub fn url(&self) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/api/v3", self.port)
    }

    /// What was asked since the last call.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.log.lock().unwrap())
    }
}

impl Drop for Github {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        match &self.tls {
            None => self.answer(stream),
            Some(tls) => {
                let connection = ServerConnection::new(Arc::clone(tls)).map_err(std::io::Error::other)?;
                self.answer(StreamOwned::new(connection, stream))
            }
        }
    }

    fn answer(&self, stream: impl Read + Write) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        let (mut first, mut bearer) = (String::new(), String::new());
        reader.read_line(&mut first)?;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(": ") else {
                break;
            };
            if name.eq_ignore_ascii_case("authorization") {
                bearer = value.trim_start_matches("Bearer ").to_owned();
            }
        }
        let asked = first.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
        self.log.lock().unwrap().push(asked.clone());
        let (status, body) = match self.checked(&bearer) {
            Err(message) => (401, json!({"message": message})),
            Ok(()) => self.act(&asked),
        };
        let body = body.to_string();
        let stream = reader.get_mut();
        let length = body.len();
        write!(
            stream,
            "HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )?;
        stream.flush()
    }

    /// Signature, app and times of what the app shows.
    fn checked(&self, token: &str) -> Result<(), &'static str> {
        let (signed, signature) = token.rsplit_once('.').ok_or("no web token")?;
        let signature = URL_SAFE_NO_PAD.decode(signature).map_err(|_| "no base64")?;
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(signed.as_bytes(), &signature)
            .map_err(|_| "A JSON web token could not be decoded")?;
        let part = |text: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap() };
        let (head, claims) = signed
            .split_once('.')
            .map(|(head, claims)| (part(head), part(claims)))
            .unwrap();
        let now = Timestamp::now().as_second();
        let (since, until) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        // GitHub takes none that lives longer than ten minutes.
        let timely = since <= now && now < until && until - since <= 600;
        if head["alg"] != "RS256" || claims["iss"] != APP || !timely {
            return Err("Integration not found");
        }
        Ok(())
    }

    fn act(&self, asked: &str) -> (u16, Value) {
        let tokens = format!("POST /api/v3/app/installations/{INSTALLATION}/access_tokens");
        if asked == tokens {
            let mut given = self.given.lock().unwrap();
            *given += 1;
            let expires = Timestamp::now() + self.lifetime;
            return (
                201,
                json!({"token": format!("token-{given}"), "expires_at": expires.to_string()}),
            );
        }
        match asked.strip_prefix("GET /api/v3/app/installations?per_page=100&page=") {
            // A full first page that does not have it.
            Some("1") => {
                let other = |id: u64| json!({"id": id, "account": {"login": format!("other-{id}")}});
                (200, (0..100).map(other).collect())
            }
            Some("2") => (200, json!([{"id": INSTALLATION, "account": {"login": "Acme"}}])),
            _ => (404, json!({"message": "Not Found"})),
        }
    }
}
