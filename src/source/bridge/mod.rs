//! The way to a Git server: libgit2 speaks Git to a socket on loopback, and the bridge carries it on over TLS or SSH.
//!
//! libgit2 has one trust store for the whole process, no client certificates, picks SSH host keys regardless of
//! `known_hosts`, and cannot be stopped while a server keeps silent; a transport of our own inside it would need unsafe
//! code. So it connects to `http://127.0.0.1` or `git://127.0.0.1`, and everything that depends on the source is here:
//! certificates, keys, proxies, redirects, deadlines.
//!
//! Guarantees: only who knows the path of a bridge, 128 random bits made for one fetch, gets through; every connection ends
//! with the deadline of the fetch; why something failed is kept in `Failure`, since libgit2 would only see a closed socket;
//! credentials go to no other host than the one they are for.

pub(super) mod connect;
mod http;
pub(super) mod known_hosts;
mod ssh;

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hyper::Uri;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Handle};
use tokio::task::JoinSet;

use super::git_auth::{Credentials, Proxy, Tls};
use super::git_repo::lock;

/// Where a bridge leads, and as whom.
#[derive(Debug, Clone)]
pub(super) struct Route {
    /// The URL of the repository.
    pub(super) url: Uri,
    pub(super) credentials: Credentials,
    pub(super) tls: Tls,
    pub(super) proxy: Option<Proxy>,
}

impl Route {
    fn is_ssh(&self) -> bool {
        self.url.scheme_str() == Some("ssh")
    }
}

/// Why nothing came over the bridge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// No connection, or it broke.
    Unreachable(String),
    /// TLS failed.
    Tls(String),
    /// The server wants credentials, or others.
    Refused,
    /// What was given as credentials cannot be used.
    Credentials(String),
    /// The server is not the one in `known_hosts`.
    HostKey(String),
    /// The server knows no such repository.
    NotFound,
    /// More than is taken.
    TooLarge,
    /// The deadline passed while the server kept silent.
    Late,
}

/// An open way to one server. Closes when dropped.
pub(super) struct Bridge {
    url: String,
    failure: Arc<Mutex<Option<Failure>>>,
    accepting: tokio::task::AbortHandle,
}

impl Bridge {
    /// Opens the way; nothing is sent before libgit2 connects.
    pub(super) fn open(route: Route, deadline: Instant, max_bytes: u64) -> io::Result<Self> {
        let runtime = runtime()?;
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let token = token()?;
        let scheme = if route.is_ssh() { "git" } else { "http" };
        let url = format!("{scheme}://127.0.0.1:{port}/{token}");
        let failure = Arc::new(Mutex::new(None));
        let shared = Arc::new(Shared {
            route,
            token,
            deadline: deadline.into(),
            max_bytes,
            failure: Arc::clone(&failure),
        });
        // Belongs to the runtime from here on.
        let listener = {
            let _inside = runtime.enter();
            TcpListener::from_std(listener)?
        };
        let accepting = runtime.spawn(accept(listener, shared)).abort_handle();
        Ok(Self {
            url,
            failure,
            accepting,
        })
    }

    /// What libgit2 connects to.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Why the last exchange failed, if the bridge knows. Asking forgets it.
    pub(super) fn take_failure(&self) -> Option<Failure> {
        lock(&self.failure).take()
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        // Takes the connections along: they are tasks of the one that accepts.
        self.accepting.abort();
    }
}

/// What the connections of a bridge share.
struct Shared {
    route: Route,
    token: String,
    deadline: tokio::time::Instant,
    max_bytes: u64,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Shared {
    /// Keeps the first failure: later ones follow from it.
    fn fail(&self, failure: Failure) {
        lock(&self.failure).get_or_insert(failure);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    let upstream = Arc::new(http::Upstream::new(Arc::clone(&shared)));
    let mut connections = JoinSet::new();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        let (shared, upstream) = (Arc::clone(&shared), Arc::clone(&upstream));
        connections.spawn(async move {
            // Requests are small and each waits for its answer.
            let _ = stream.set_nodelay(true);
            let carried = async {
                if shared.route.is_ssh() {
                    ssh::carry(stream, &shared).await;
                } else {
                    http::carry(stream, upstream).await;
                }
            };
            tokio::pin!(carried);
            tokio::select! {
                () = &mut carried => {}
                // Told before the socket closes, which is when libgit2 asks.
                () = tokio::time::sleep_until(shared.deadline) => shared.fail(Failure::Late),
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

fn token() -> io::Result<String> {
    let mut bytes = [0; 16];
    let drawn = SystemRandom::new().fill(&mut bytes);
    drawn.map_err(|_| io::Error::other("the system gives no random numbers"))?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// One thread for all bridges: it moves bytes and waits, and fetches run on threads that may block, outside any runtime.
fn runtime() -> io::Result<&'static Handle> {
    static RUNTIME: OnceLock<Result<Handle, String>> = OnceLock::new();
    let started = RUNTIME.get_or_init(|| {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("weir-git")
            .enable_all()
            .build();
        let handle = runtime.map(|runtime| {
            let handle = runtime.handle().clone();
            // Lives as long as the process.
            std::mem::forget(runtime);
            handle
        });
        handle.map_err(|error| error.to_string())
    });
    started.as_ref().map_err(|error| io::Error::other(error.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bridge_is_a_path_that_nobody_can_guess() {
        let open = || {
            let route = Route {
                url: Uri::from_static("https://git.example/app"),
                credentials: Credentials::Anonymous,
                tls: Tls::default(),
                proxy: None,
            };
            Bridge::open(route, Instant::now(), 1).unwrap().url().to_owned()
        };
        let (first, second) = (open(), open());
        let token = |url: &str| url.rsplit('/').next().unwrap_or_default().to_owned();
        assert_eq!(token(&first).len(), 22);
        assert_ne!(token(&first), token(&second));
        assert!(first.starts_with("http://127.0.0.1:"), "{first}");
    }
}
