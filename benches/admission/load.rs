//! Asks a webhook over TLS, on connections that are kept, each as fast as it is answered.
//!
//! All connections live on the thread that runs this; a request costs it some ten microseconds.

use std::cell::Cell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::sample::Sample;

/// Who is asked, and what.
pub(crate) struct Load {
    address: SocketAddr,
    path: &'static str,
    samples: Arc<[Sample]>,
    /// Grows with every request.
    number: Cell<u32>,
}

/// What was seen.
pub(crate) struct Seen {
    pub(crate) times: Vec<Duration>,
    pub(crate) failed: usize,
    pub(crate) took: Duration,
}

impl Load {
    pub(crate) fn new(address: SocketAddr, path: &'static str, samples: &Arc<[Sample]>) -> Self {
        Self {
            address,
            path,
            samples: Arc::clone(samples),
            number: Cell::new(0),
        }
    }

    /// Asks every sample once, for its decision.
    pub(crate) async fn each_once(&self) -> Vec<Option<bool>> {
        let mut connection = self.connect().await;
        let mut decisions = Vec::new();
        for _ in self.samples.iter() {
            let answer = self.ask(&mut connection).await;
            if answer.is_none() {
                eprintln!("no decision on {}", self.samples[decisions.len()].origin.display());
            }
            decisions.push(answer);
        }
        decisions
    }

    /// Asks on so many connections for a while.
    pub(crate) async fn run(&self, connections: usize, time: Duration) -> Seen {
        let open: Vec<_> = join_all((0..connections).map(|_| self.connect())).await;
        let start = Instant::now();
        let asked = join_all(open.into_iter().map(|mut connection| async move {
            let (mut times, mut failed) = (Vec::new(), 0);
            while start.elapsed() < time {
                let sent = Instant::now();
                let answer = self.ask(&mut connection).await;
                times.push(sent.elapsed());
                failed += usize::from(answer.is_none());
            }
            (times, failed)
        }));
        let asked = asked.await;
        let took = start.elapsed();
        let failed = asked.iter().map(|(_, failed)| failed).sum();
        Seen {
            times: asked.into_iter().flat_map(|(times, _)| times).collect(),
            failed,
            took,
        }
    }

    async fn ask(&self, connection: &mut SendRequest<Full<Bytes>>) -> Option<bool> {
        let number = self.number.get();
        self.number.set(number + 1);
        let body = self.samples[number as usize % self.samples.len()].body(number);
        let request = Request::post(self.path)
            .header("host", "webhook.example")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .unwrap();
        connection.ready().await.unwrap();
        let response = connection.send_request(request).await.unwrap();
        let decided = response.status().is_success();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        if !decided {
            return None;
        }
        let answer: Value = serde_json::from_slice(&body).ok()?;
        let response = answer.get("response")?;
        // Gatekeeper answers its own failures with a code of its own.
        let refused = response.pointer("/status/code").and_then(Value::as_u64);
        (refused.is_none_or(|code| code < 500)).then_some(response.get("allowed")?.as_bool()?)
    }

    async fn connect(&self) -> SendRequest<Full<Bytes>> {
        let mut config = ClientConfig::builder()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Whoever))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(self.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::from(self.address.ip());
        let tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        let (sender, connection) = handshake(TokioIo::new(tls)).await.unwrap();
        tokio::spawn(async move {
            // It ends with the last request.
            let _ = connection.await;
        });
        sender
    }
}

/// Takes every certificate: it is a process of this machine whose port we chose.
#[derive(Debug)]
struct Whoever;

impl ServerCertVerifier for Whoever {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider().signature_verification_algorithms.supported_schemes()
    }
}
