//! The source stage against a real Git server: fetching, authentication, failures, trees and artifacts.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests"
)]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use flate2::read::GzDecoder;
use weir::api::source::GitRef;
use weir::core::snapshot::{FileKind, Files};
use weir::source::store::{ArtifactStore, RETAINED_FOR};
use weir::source::{Credentials, FetchError, FetchRequest, Fetched, GitFetcher, History, Shape, Tls};

#[path = "source/failures.rs"]
mod failures;
#[path = "source/fetching.rs"]
mod fetching;
#[path = "source/files.rs"]
mod files;
#[path = "support/git_server.rs"]
mod git_server;
#[path = "support/github.rs"]
mod github;
#[path = "source/github_app.rs"]
mod github_app;
#[path = "support/proxy.rs"]
mod proxy;
#[path = "source/shapes.rs"]
mod shapes;
#[path = "source/signatures.rs"]
mod signatures;
#[path = "source/ssh.rs"]
mod ssh;
#[path = "support/sshd.rs"]
mod sshd;
#[path = "source/tls.rs"]
mod tls;

use git_server::{GitServer, Manner, Repo};

/// A server with one repository, and a fetcher for it.
struct World {
    directory: tempfile::TempDir,
    server: GitServer,
    repo: Repo,
    fetcher: GitFetcher,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let served = directory.path().join("served");
        let repo = Repo::new(&served, "app");
        Self {
            server: GitServer::start(&served),
            repo,
            fetcher: GitFetcher::new(directory.path().join("storage")),
            directory,
        }
    }

    fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// Asks for the branch `main`.
    fn request(&self) -> FetchRequest {
        FetchRequest {
            namespace: "flux-system".to_owned(),
            name: "app".to_owned(),
            url: self.server.url("app"),
            reference: Some(branch("main")),
            ignore: None,
            credentials: Credentials::Anonymous,
            tls: Tls::default(),
            proxy: None,
            timeout: Duration::from_secs(20),
            previous: None,
            shape: Shape::default(),
        }
    }

    fn fetch(&self) -> Fetched {
        self.fetcher.fetch(&self.request()).unwrap()
    }

    fn fetch_after(&self, previous: &str) -> Fetched {
        let previous = Some(format!("main@sha1:{previous}"));
        self.fetcher
            .fetch(&FetchRequest {
                previous,
                ..self.request()
            })
            .unwrap()
    }

    fn fetch_ref(&self, reference: GitRef) -> Result<Fetched, FetchError> {
        let reference = Some(reference);
        self.fetcher.fetch(&FetchRequest {
            reference,
            ..self.request()
        })
    }

    fn fetch_as(&self, credentials: Credentials) -> Result<Fetched, FetchError> {
        self.fetcher.fetch(&FetchRequest {
            credentials,
            ..self.request()
        })
    }

    fn error(&self) -> FetchError {
        self.fetcher.fetch(&self.request()).err().unwrap()
    }

    /// Names the address out of a text.
    fn stable(&self, text: &str) -> String {
        text.replace(&format!("127.0.0.1:{}", self.server.port()), "HOST")
    }
}

fn branch(name: &str) -> GitRef {
    GitRef {
        branch: Some(name.to_owned()),
        ..GitRef::default()
    }
}

fn text(tree: &dyn Files, path: &str) -> Option<String> {
    tree.read(path).unwrap().map(|bytes| String::from_utf8(bytes).unwrap())
}

fn names(tree: &dyn Files, path: &str) -> Vec<String> {
    tree.list(path)
        .unwrap()
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect()
}

/// Text that does not compress, the same every time.
fn noise(length: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b'!' + (state % 90) as u8)
    };
    (0..length).map(|_| next()).collect()
}

/// All files below a directory.
fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] })
        .collect()
}
