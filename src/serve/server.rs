//! What the servers have in common: binding, a thread, a stop.
//!
//! Guarantees: an address that cannot be bound is an error that names it, its flag and the remedy; a server that ends
//! says so to whoever waits in `Running::stopped`.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, ToSocketAddrs};

use actix_web::dev::Server;
use tokio::sync::oneshot;

/// How long requests in flight may take after the stop: longer than any admission, shorter than the 30 s that Kubernetes
/// gives a pod.
pub const GRACE_SECONDS: u64 = 10;
/// Threads of one server that speak HTTP. Decisions run elsewhere; one thread does several thousand TLS requests a second.
pub const WORKERS: usize = 2;
/// Connections of one worker at a time. The API server opens a few, a node's kubelet one; the rest is abuse.
pub const MAX_CONNECTIONS: usize = 1024;

/// Why a server is not running.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The text is no address.
    #[error("{flag} {address:?} is no address; use host:port, as in 127.0.0.1:9443 or :9443")]
    Address {
        /// The flag that gave it.
        flag: &'static str,
        /// What it gave.
        address: String,
    },
    /// The address cannot be had.
    #[error("cannot listen on {address} ({flag}): {message}")]
    Bind {
        /// The flag that gave it.
        flag: &'static str,
        /// The address.
        address: String,
        /// Why, and what to do.
        message: String,
    },
    /// The server could not be set up or broke.
    #[error("server on {address}: {source}")]
    Run {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The server's thread ended without a word.
    #[error("the thread of the server on {0} has died")]
    Died(SocketAddr),
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    ended: oneshot::Receiver<io::Result<()>>,
}

impl Running {
    /// Waits until the server has ended.
    ///
    /// # Errors
    /// When it ended by a fault.
    pub async fn stopped(self) -> Result<(), ServeError> {
        let address = self.address;
        match self.ended.await {
            Ok(ended) => ended.map_err(|source| ServeError::Run { address, source }),
            Err(_) => Err(ServeError::Died(address)),
        }
    }
}

/// Binds an address as Go writes it: `:9443` is the port on every interface. `flag` names it in errors.
///
/// # Errors
/// When the text is no address or the address cannot be had.
pub fn bind(flag: &'static str, address: &str) -> Result<TcpListener, ServeError> {
    let bad = || ServeError::Address {
        flag,
        address: address.to_owned(),
    };
    let addresses: Vec<SocketAddr> = match address.strip_prefix(':') {
        // IPv6 first: where both exist, that socket takes IPv4 too.
        Some(port) => {
            let port: u16 = port.parse().map_err(|_| bad())?;
            let any = [IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::UNSPECIFIED)];
            any.map(|ip| SocketAddr::new(ip, port)).to_vec()
        }
        None => address.to_socket_addrs().map_err(|_| bad())?.collect(),
    };
    TcpListener::bind(addresses.as_slice()).map_err(|error| ServeError::Bind {
        flag,
        address: address.to_owned(),
        message: match error.kind() {
            io::ErrorKind::AddrInUse => {
                format!("another process listens there; stop it or choose another address with {flag}")
            }
            io::ErrorKind::PermissionDenied => format!("{error}; ports below 1024 need privileges, choose another"),
            _ => error.to_string(),
        },
    })
}

/// Runs a server that `make` builds on the listener, in a thread of its own, until `shutdown`.
///
/// # Errors
/// When the server cannot be built.
pub async fn run(
    name: &'static str,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
    make: impl FnOnce(TcpListener, Stop) -> io::Result<Server> + Send + 'static,
) -> Result<Running, ServeError> {
    let unknown = SocketAddr::from(([0, 0, 0, 0], 0));
    let address = listener.local_addr().map_err(|source| ServeError::Run {
        address: unknown,
        source,
    })?;
    let failed = move |source| ServeError::Run { address, source };
    let (started, starting) = oneshot::channel();
    let (end, ended) = oneshot::channel();
    let stop: Stop = Box::pin(shutdown);
    let thread = std::thread::Builder::new().name(name.to_owned());
    let body = move || {
        let result = actix_web::rt::System::new().block_on(async move {
            match make(listener, stop) {
                Ok(server) => {
                    let _ = started.send(Ok(()));
                    server.await
                }
                Err(error) => {
                    let _ = started.send(Err(error));
                    Ok(())
                }
            }
        });
        // Nobody may be waiting; then nobody wants to know.
        let _ = end.send(result);
    };
    thread.spawn(body).map_err(failed)?;
    match starting.await {
        Ok(Ok(())) => Ok(Running { address, ended }),
        Ok(Err(error)) => Err(failed(error)),
        Err(_) => Err(ServeError::Died(address)),
    }
}

/// The future whose end stops a server.
pub type Stop = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_is_told_with_its_flag_and_a_remedy() {
        let first = bind("--storage-addr", "127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap().to_string();
        let error = bind("--storage-addr", &address).unwrap_err().to_string();
        assert_eq!(
            error,
            format!(
                "cannot listen on {address} (--storage-addr): another process listens there; stop it or choose another \
                 address with --storage-addr"
            )
        );
    }

    #[test]
    fn a_text_that_is_no_address_is_told_what_one_looks_like() {
        for text in ["", "9443", ":port", ":99999", "127.0.0.1"] {
            let error = bind("--health-addr", text).unwrap_err().to_string();
            assert!(error.contains("is no address; use host:port"), "{error}");
        }
    }
}
