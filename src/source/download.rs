//! Fetches an artifact that another process serves, and checks that it is the one that its source names.
//!
//! Guarantees: what is given out has the digest that was asked for; size, time and tries are bounded; the archive lies in a
//! nameless temporary file.

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::header::HOST;
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use sha2::{Digest, Sha256, Sha384, Sha512};

use super::archive::{Archive, ArchiveError};
use super::artifact::{MAX_BYTES, hex};
use super::bridge::Failure;
use super::bridge::connect::{explain, proxy_from_environment, reach, secure};
use super::git_auth::Tls;
use crate::api::source::Artifact;

/// How often a server that does not answer is asked, and how long is waited in between: it restarts in that time. Flux's
/// `--http-retry` is nine, with waits that add up to minutes; the Kustomization comes back anyway.
const WAITS: [Duration; 3] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

/// Why an artifact could not be had.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// The server does not have it: the source has moved on, or its storage was lost.
    #[error("artifact not found at {0}")]
    NotFound(String),
    /// No answer, or one of failure.
    #[error("failed to download archive from {url}: {reason}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why not.
        reason: String,
    },
    /// It is another one.
    #[error(
        "failed to verify archive: computed digest doesn't match provided '{expected}': the artifact at {url} has the digest {found}"
    )]
    Digest {
        /// Where.
        url: String,
        /// Of what came.
        found: String,
        /// Of what should have come.
        expected: String,
    },
    /// The disk refuses.
    #[error("cannot keep the artifact: {0}")]
    Disk(#[from] std::io::Error),
    /// Its digest is missing, or of no kind that is known: nothing could be checked.
    #[error("failed to verify archive: {0}")]
    NoDigest(String),
    /// It is no archive of files.
    #[error("failed to extract archive: {0}")]
    Archive(#[from] ArchiveError),
}

/// Fetches an artifact and unpacks it, with temporary files in `directory`.
///
/// # Errors
/// When it is not there, another one, or larger than is taken.
pub async fn download(artifact: &Artifact, directory: &Path, timeout: Duration) -> Result<Archive, DownloadError> {
    let unreachable = |reason: String| DownloadError::Unreachable {
        url: artifact.url.clone(),
        reason,
    };
    let expected = Expected::of(&artifact.digest)?;
    let mut waits = WAITS.into_iter();
    let archive = loop {
        let tried = tokio::time::timeout(timeout, fetch(artifact, &expected, directory)).await;
        let tried = tried.unwrap_or_else(|_| Err(unreachable("it took too long".to_owned())));
        match (tried, waits.next()) {
            (Err(DownloadError::Unreachable { .. }), Some(wait)) => tokio::time::sleep(wait).await,
            (result, _) => break result?,
        }
    };
    let directory = directory.to_owned();
    let unpacked = tokio::task::spawn_blocking(move || Archive::unpack(std::io::BufReader::new(archive), &directory));
    Ok(unpacked.await.map_err(|error| unreachable(error.to_string()))??)
}

async fn fetch(artifact: &Artifact, expected: &Expected, directory: &Path) -> Result<std::fs::File, DownloadError> {
    let url = &artifact.url;
    let unreachable = |reason: String| DownloadError::Unreachable {
        url: url.clone(),
        reason,
    };
    let mut response = ask(url).await.map_err(|failure| unreachable(words(failure)))?;
    match response.status().as_u16() {
        200 => {}
        404 => return Err(DownloadError::NotFound(url.clone())),
        other => return Err(unreachable(format!("unexpected http status code: {other}"))),
    }
    let mut file = tempfile::tempfile_in(directory)?;
    let (mut hash, mut size) = (expected.hasher(), 0_u64);
    while let Some(frame) = response.body_mut().frame().await {
        let frame = frame.map_err(|error| unreachable(error.to_string()))?;
        let Some(bytes) = frame.data_ref() else {
            continue;
        };
        size += bytes.len() as u64;
        if size > MAX_BYTES {
            return Err(ArchiveError::TooLarge {
                limit: MAX_BYTES,
                what: "bytes",
            }
            .into());
        }
        hash.update(bytes);
        file.write_all(bytes)?;
    }
    let found = hash.finish();
    if found != expected.digest {
        return Err(DownloadError::Digest {
            url: url.clone(),
            found,
            expected: expected.digest.clone(),
        });
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

async fn ask(url: &str) -> Result<Response<Incoming>, Failure> {
    let bad = |what: &str| Failure::Unreachable(what.to_owned());
    let uri: Uri = url.parse().map_err(|_| bad("it is no URL"))?;
    let host = uri.host().ok_or_else(|| bad("it names no host"))?;
    let tls = match uri.scheme_str() {
        Some("https") => true,
        Some("http") => false,
        _ => return Err(bad("it is neither http nor https")),
    };
    let port = uri.port_u16().unwrap_or(if tls { 443 } else { 80 });
    let mut stream = reach(host, port, proxy_from_environment(&uri).filter(|_| tls).as_ref()).await?;
    if tls {
        stream = secure(stream, host, &Tls::default()).await?;
    }
    let opened = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = opened.map_err(|error| explain(&error, host))?;
    tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = uri.authority().map(|one| one.as_str()).unwrap_or_default();
    let request = Request::get(path).header(HOST, authority).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| bad(&error.to_string()))?;
    sender
        .send_request(request)
        .await
        .map_err(|error| explain(&error, host))
}

fn words(failure: Failure) -> String {
    match failure {
        Failure::Unreachable(reason) | Failure::Tls(reason) => reason,
        other => format!("{other:?}"),
    }
}

/// The digest that an artifact should have.
struct Expected {
    digest: String,
    kind: Kind,
}

/// The kinds of digests that sources write.
enum Kind {
    Sha256,
    Sha384,
    Sha512,
}

impl Expected {
    /// Without a kind it is of SHA-256, as Flux once wrote it.
    fn of(digest: &str) -> Result<Self, DownloadError> {
        if digest.is_empty() {
            return Err(DownloadError::NoDigest("empty digest".to_owned()));
        }
        let digest = match digest.contains(':') {
            true => digest.to_ascii_lowercase(),
            false => format!("sha256:{}", digest.to_ascii_lowercase()),
        };
        let kind = match digest.split_once(':').map(|(kind, _)| kind) {
            Some("sha256") => Kind::Sha256,
            Some("sha384") => Kind::Sha384,
            Some("sha512") => Kind::Sha512,
            _ => {
                let why = format!("the digest '{digest}' is of no kind that is known (sha256, sha384, sha512)");
                return Err(DownloadError::NoDigest(why));
            }
        };
        Ok(Self { digest, kind })
    }

    fn hasher(&self) -> Hasher {
        match self.kind {
            Kind::Sha256 => Hasher::Sha256(Sha256::new()),
            Kind::Sha384 => Hasher::Sha384(Sha384::new()),
            Kind::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }
}

enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::Sha384(hash) => hash.update(bytes),
            Self::Sha512(hash) => hash.update(bytes),
        }
    }

    fn finish(self) -> String {
        match self {
            Self::Sha256(hash) => format!("sha256:{}", hex(&hash.finalize())),
            Self::Sha384(hash) => format!("sha384:{}", hex(&hash.finalize())),
            Self::Sha512(hash) => format!("sha512:{}", hex(&hash.finalize())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_says_of_what_kind_it_is_or_is_of_sha_256() {
        let check = |digest: &str, expect: Result<&str, &str>| {
            let found = Expected::of(digest);
            let found = found
                .as_ref()
                .map(|one| one.digest.as_str())
                .map_err(ToString::to_string);
            assert_eq!(found, expect.map_err(str::to_owned), "{digest}");
        };
        check("sha256:AB", Ok("sha256:ab"));
        check("ab", Ok("sha256:ab"));
        check("sha512:ab", Ok("sha512:ab"));
        check("", Err("failed to verify archive: empty digest"));
        let why = "failed to verify archive: the digest 'md5:ab' is of no kind that is known (sha256, sha384, sha512)";
        check("md5:ab", Err(why));
    }
}
