//! Serves artifacts: `GET /<kind>/<namespace>/<name>/<file>` below the storage root, as Flux's source-controller does.
//!
//! Guarantees: read only; nothing outside the storage root, nothing of a kind that is no source, no hidden and no half
//! written file (those begin with a dot), whatever the path and whatever links lie in the storage; a file is streamed in
//! pieces and never held in memory. `ETag` and `Repr-Digest` carry the SHA-256 of what is sent; ranges resume a download.
//!
//! Assumes that files are replaced, not rewritten: what is opened is sent to its end.

use std::collections::HashMap;
use std::fs::File;
use std::future::Future;
use std::io::{self, Read, Seek, SeekFrom};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use actix_web::body::SizedStream;
use actix_web::http::Method;
use actix_web::http::header::{self, ContentType, HeaderValue};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures::stream;
use sha2::{Digest, Sha256};

use super::server::{GRACE_SECONDS, MAX_CONNECTIONS, Running, ServeError, WORKERS, run};

/// The first part of a path: Flux's source kinds in lower case. Everything else in the storage (bare repositories,
/// caches) is nobody's business.
const KINDS: &[&str] = &[
    "gitrepository",
    "ocirepository",
    "bucket",
    "helmrepository",
    "helmchart",
    "externalartifact",
];
/// Bytes of one piece: large enough that a piece costs a system call and little else.
const PIECE: usize = 64 * 1024;
/// How many digests are remembered. Each is a hundred bytes; a cluster has fewer sources.
const DIGESTS: usize = 4096;

/// Starts the server. `root` is `--storage-path`.
///
/// # Errors
/// When the server cannot be set up.
pub async fn start(
    listener: TcpListener,
    root: PathBuf,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, ServeError> {
    run("artifacts", listener, shutdown, move |listener, stop| {
        let store = Store {
            root,
            digests: Arc::default(),
        };
        let server = HttpServer::new(move || {
            let store = store.clone();
            let answer = move |request: HttpRequest| answer(store.clone(), request);
            App::new().default_service(web::to(answer))
        });
        let server = server
            .workers(WORKERS)
            .max_connections(MAX_CONNECTIONS)
            .disable_signals()
            .shutdown_signal(stop)
            .shutdown_timeout(GRACE_SECONDS)
            .listen(listener)?;
        Ok(server.run())
    })
    .await
}

#[derive(Clone)]
struct Store {
    root: PathBuf,
    digests: Arc<Mutex<HashMap<PathBuf, Known>>>,
}

/// The digest of a file, as long as it has the same size and time.
#[derive(Clone)]
struct Known {
    size: u64,
    modified: Option<SystemTime>,
    digest: [u8; 32],
}

/// A file that may be sent.
struct Found {
    file: File,
    size: u64,
    digest: [u8; 32],
}

async fn answer(store: Store, request: HttpRequest) -> HttpResponse {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return HttpResponse::MethodNotAllowed()
            .insert_header((header::ALLOW, "GET, HEAD"))
            .finish();
    }
    let Some(path) = relative(request.path()) else {
        return not_found();
    };
    let found = match web::block(move || store.find(&path)).await {
        Ok(Ok(Some(found))) => found,
        Ok(Ok(None)) => return not_found(),
        Ok(Err(error)) => {
            tracing::error!(path = request.path(), error = %error, "artifact cannot be read");
            return HttpResponse::InternalServerError().body("the artifact cannot be read");
        }
        Err(_) => return HttpResponse::ServiceUnavailable().body("the server is stopping"),
    };
    let etag = format!("\"sha256:{}\"", hex(&found.digest));
    let sent = |name| {
        request
            .headers()
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let is_known = |tags: &str| {
        tags.split(',')
            .any(|tag| tag.trim().trim_start_matches("W/") == etag || tag.trim() == "*")
    };
    if sent(header::IF_NONE_MATCH).is_some_and(is_known) {
        return HttpResponse::NotModified().insert_header((header::ETAG, etag)).finish();
    }
    // A part of what has changed meanwhile would be joined to what it does not fit.
    let same = sent(header::IF_RANGE).is_none_or(|tag| tag == etag);
    let range = sent(header::RANGE)
        .filter(|_| same)
        .map_or(Range::Whole, |text| range(text, found.size));
    let (first, length, mut response) = match range {
        Range::Whole => (0, found.size, HttpResponse::Ok()),
        Range::Part { first, last } => {
            let mut response = HttpResponse::PartialContent();
            response.insert_header((header::CONTENT_RANGE, format!("bytes {first}-{last}/{}", found.size)));
            (first, last - first + 1, response)
        }
        Range::Unsatisfiable => {
            let range = format!("bytes */{}", found.size);
            return HttpResponse::RangeNotSatisfiable()
                .insert_header((header::CONTENT_RANGE, range))
                .finish();
        }
    };
    response
        .content_type(ContentType::octet_stream())
        .insert_header((header::ETAG, etag))
        .insert_header((header::ACCEPT_RANGES, "bytes"))
        .insert_header(("repr-digest", format!("sha-256=:{}:", STANDARD.encode(found.digest))));
    response.body(SizedStream::new(length, Box::pin(pieces(found.file, first, length))))
}

fn not_found() -> HttpResponse {
    HttpResponse::NotFound().body("no such artifact")
}

/// The path below the root, when it is one that an artifact can have.
fn relative(path: &str) -> Option<PathBuf> {
    // Artifact paths are made of names of Kubernetes objects, revisions and extensions: nothing needs percent-encoding
    // but what `:` and `@` in a file name may be sent as.
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.+@:=".contains(c);
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
    let [kind, _, _, _] = parts.as_slice() else { return None };
    let good = |part: &str| !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed);
    (KINDS.contains(kind) && parts.iter().all(|part| good(part))).then(|| parts.iter().collect())
}

impl Store {
    fn find(&self, path: &Path) -> io::Result<Option<Found>> {
        let missing = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
            _ => Err(error),
        };
        // A link may lead from one artifact to another, but not out of the storage.
        let real = match self
            .root
            .canonicalize()
            .and_then(|root| Ok((root.join(path).canonicalize()?, root)))
        {
            Ok((real, root)) if real.starts_with(&root) => real,
            Ok(_) => return Ok(None),
            Err(error) => return missing(error),
        };
        let mut file = match File::open(&real) {
            Ok(file) => file,
            Err(error) => return missing(error),
        };
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Ok(None);
        }
        let (size, modified) = (metadata.len(), metadata.modified().ok());
        let digest = match self.known(&real) {
            Some(known) if known.size == size && known.modified == modified => known.digest,
            _ => {
                let mut hash = Sha256::new();
                let mut piece = vec![0; PIECE];
                loop {
                    let read = file.read(&mut piece)?;
                    if read == 0 {
                        break;
                    }
                    hash.update(piece.get(..read).unwrap_or_default());
                }
                file.rewind()?;
                let digest = hash.finalize().into();
                self.remember(real, Known { size, modified, digest });
                digest
            }
        };
        Ok(Some(Found { file, size, digest }))
    }

    fn known(&self, path: &Path) -> Option<Known> {
        self.digests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
            .cloned()
    }

    fn remember(&self, path: PathBuf, known: Known) {
        let mut digests = self.digests.lock().unwrap_or_else(PoisonError::into_inner);
        if digests.len() >= DIGESTS {
            // Digests are cheap to make again; remembering which are in use is not worth its code.
            digests.clear();
        }
        digests.insert(path, known);
    }
}

/// Which part of a file is wanted.
#[derive(Debug, PartialEq, Eq)]
enum Range {
    Whole,
    Part { first: u64, last: u64 },
    Unsatisfiable,
}

/// Reads a `Range` header for a file of this size. What is not understood counts as no range, as HTTP wants it.
fn range(text: &str, size: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return Range::Whole;
    };
    let (first, last) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.min(size.saturating_sub(1))),
        (Ok(first), Err(_)) if last.is_empty() => (first, size.saturating_sub(1)),
        (Err(_), Ok(0)) if first.is_empty() => return Range::Unsatisfiable,
        (Err(_), Ok(last)) if first.is_empty() => (size.saturating_sub(last), size.saturating_sub(1)),
        _ => return Range::Whole,
    };
    if first < size {
        Range::Part { first, last }
    } else {
        Range::Unsatisfiable
    }
}

/// A part of a file as a stream of pieces, read where blocking is allowed.
fn pieces(file: File, first: u64, length: u64) -> impl stream::Stream<Item = io::Result<web::Bytes>> {
    stream::try_unfold((file, first, length), |(mut file, at, left)| async move {
        if left == 0 {
            return Ok(None);
        }
        let read = web::block(move || -> io::Result<_> {
            let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let mut piece = vec![0; wanted];
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(&mut piece)?;
            Ok((piece, file))
        });
        let (piece, file) = read.await.map_err(io::Error::other)??;
        let count = piece.len() as u64;
        Ok(Some((web::Bytes::from(piece), (file, at + count, left - count))))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
#[path = "artifacts_tests.rs"]
mod tests;
