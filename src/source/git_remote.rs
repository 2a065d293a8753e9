//! One exchange with a Git server: list what it advertises, download what is wanted.
//!
//! It speaks to a `bridge`, which knows the way and the credentials. Guarantees: an exchange that is past its deadline or
//! its limit of bytes is broken off.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use git2::{AutotagOption, ErrorClass, ErrorCode, FetchOptions, Remote, RemoteCallbacks, RemoteRedirect, Repository};

use super::reference::RemoteRef;

/// Full history; also completes what was fetched without.
pub(super) const UNSHALLOW: i32 = i32::MAX;

/// Most references that a server may advertise; the largest public repositories have some hundred thousand.
const MAX_REFS: usize = 1_000_000;

/// Matches nothing: a download of it only lists. (libgit2's own way to list cannot send a token.)
const NOTHING: &str = "refs/weir/nothing:refs/weir/nothing";

/// Bounds an exchange and remembers which bound was met.
pub(super) struct Bounds {
    deadline: Instant,
    max_bytes: u64,
    timed_out: Cell<bool>,
    too_large: Cell<bool>,
    /// Of the download under way, and of those before.
    received: Cell<u64>,
    received_before: Cell<u64>,
}

impl Bounds {
    pub(super) fn new(timeout: Duration, max_bytes: u64) -> Self {
        Self {
            deadline: Instant::now() + timeout,
            max_bytes,
            timed_out: Cell::new(false),
            too_large: Cell::new(false),
            received: Cell::new(0),
            received_before: Cell::new(0),
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(super) fn timed_out(&self) -> bool {
        self.timed_out.get() || Instant::now() >= self.deadline
    }

    pub(super) fn too_large(&self) -> bool {
        self.too_large.get()
    }

    pub(super) fn max_bytes(&self) -> u64 {
        self.max_bytes
    }

    /// Bytes of packs, the advertisement aside.
    pub(super) fn received(&self) -> u64 {
        self.received_before.get() + self.received.get()
    }

    /// Whether to go on.
    fn check(&self) -> bool {
        self.timed_out.set(self.timed_out());
        self.too_large.set(self.received() > self.max_bytes);
        !self.timed_out.get() && !self.too_large.get()
    }
}

/// A connection for one fetch.
pub(super) struct Exchange<'a> {
    remote: Remote<'a>,
    options: FetchOptions<'a>,
    bounds: &'a Bounds,
}

impl<'a> Exchange<'a> {
    /// Prepares an exchange over the bridge at `url`; nothing is sent yet.
    pub(super) fn new(repo: &'a Repository, url: &str, bounds: &'a Bounds) -> Result<Self, git2::Error> {
        let mut options = FetchOptions::new();
        options
            .remote_callbacks(callbacks(bounds))
            .download_tags(AutotagOption::None)
            .update_fetchhead(false)
            .follow_redirects(RemoteRedirect::None);
        if url.starts_with("http:") {
            // libgit2 sends head and body of a request separately and leaves Nagle's algorithm on: every request but the
            // first of a connection waits 40 ms for a delayed acknowledgement. A new connection to the bridge costs less.
            options.custom_headers(&["Connection: close"]);
        }
        Ok(Self {
            remote: repo.remote_anonymous(url)?,
            options,
            bounds,
        })
    }

    /// What the server advertises.
    pub(super) fn list(&mut self) -> Result<Vec<RemoteRef>, git2::Error> {
        self.download(&[NOTHING.to_owned()], 0)?;
        let heads = self.remote.list()?;
        if heads.len() > MAX_REFS {
            return Err(net(&format!("the server advertises more than {MAX_REFS} references")));
        }
        // git2 panics on a name that is not UTF-8, and the names are the server's.
        let heads = catch_unwind(AssertUnwindSafe(|| {
            let pairs = heads
                .iter()
                .map(|head| (head.name().to_owned(), head.oid().to_string()));
            pairs.collect::<Vec<_>>()
        }));
        Ok(gather(heads.map_err(|_| {
            net("the server advertises a reference whose name is not UTF-8")
        })?))
    }

    /// Downloads what refspecs name, with so many commits of history (0: as much as is missing).
    pub(super) fn download(&mut self, refspecs: &[String], depth: i32) -> Result<(), git2::Error> {
        self.bounds.received_before.set(self.bounds.received());
        self.bounds.received.set(0);
        self.options.depth(depth);
        self.remote.download(refspecs, Some(&mut self.options))
    }
}

fn callbacks(bounds: &Bounds) -> RemoteCallbacks<'_> {
    let mut callbacks = RemoteCallbacks::new();
    callbacks.transfer_progress(move |progress| {
        bounds.received.set(progress.received_bytes() as u64);
        bounds.check()
    });
    callbacks.sideband_progress(move |_| bounds.check());
    callbacks
}

/// Joins `name` and `name^{}`, which is how a server advertises an annotated tag.
fn gather(heads: Vec<(String, String)>) -> Vec<RemoteRef> {
    let mut refs: Vec<RemoteRef> = Vec::with_capacity(heads.len());
    for (name, oid) in heads {
        match (name.strip_suffix("^{}"), refs.last_mut()) {
            (Some(tag), Some(last)) if last.name == tag => last.peeled = Some(oid),
            (Some(_), _) => {}
            (None, _) => refs.push(RemoteRef {
                name,
                oid,
                peeled: None,
            }),
        }
    }
    refs
}

fn net(text: &str) -> git2::Error {
    git2::Error::new(ErrorCode::GenericError, ErrorClass::Net, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_annotated_tag_is_one_reference_with_its_commit() {
        let heads = [
            ("HEAD", "a"),
            ("refs/tags/v1", "t"),
            ("refs/tags/v1^{}", "c"),
            ("refs/tags/v2", "d"),
        ];
        let refs = gather(heads.map(|(n, o)| (n.to_owned(), o.to_owned())).to_vec());
        let shown: Vec<_> = refs.iter().map(|r| (r.name.as_str(), r.target())).collect();
        assert_eq!(shown, [("HEAD", "a"), ("refs/tags/v1", "c"), ("refs/tags/v2", "d")]);
    }

    #[test]
    fn bounds_remember_which_was_met() {
        let bounds = Bounds::new(Duration::from_secs(3600), 10);
        bounds.received.set(10);
        assert!(bounds.check() && !bounds.too_large());
        bounds.received_before.set(1);
        assert!(!bounds.check() && bounds.too_large() && !bounds.timed_out());
        let bounds = Bounds::new(Duration::ZERO, 10);
        assert!(!bounds.check() && bounds.timed_out());
    }
}
