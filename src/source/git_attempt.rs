//! One try to fetch into one repository; `git` makes a second one when the first finds the repository damaged.
//!
//! Guarantees: a commit gets its name under `refs/weir/tips/` only when it is completely here, so a name is proof of that;
//! `FetchError::Storage` means that the local repository, not the server, is at fault.

use std::sync::Arc;

use git2::{ErrorCode, Oid, Repository};

use super::bridge::{Bridge, Failure, Route};
use super::git::{FetchRequest, Fetched, Tag, timed_out};
use super::git_auth::Credentials;
use super::git_error::{Context, FetchError};
use super::git_history::{History, compare, lost, stored_parents};
use super::git_remote::{Bounds, Exchange, UNSHALLOW};
use super::git_repo::RepoDir;
use super::git_url::{self, redact, user_info};
use super::reference::{RemoteRef, Want, parse_revision, select};
use super::signature::{Signed, split_tag};
use super::tree::{GitTree, Showing};
use crate::core::snapshot::Commit;

/// Depths that are tried, in this order, to find out whether a new commit descends from the last: a merged pull request
/// seldom has more commits than the second. Beyond, the answer is "unknown".
const HISTORY_DEPTHS: [i32; 2] = [8, 64];

/// References under which fetched commits are kept; they tell the server what need not be sent again.
const TIPS: &str = "refs/weir/tips/";

/// Where downloads point for the moment. A refspec must name a target; nothing is written there.
const INCOMING: &str = "refs/weir/incoming";

/// Longest author or subject that is taken from a commit: it ends up in events, whose messages hold 1024 bytes.
const MAX_TEXT: usize = 256;

/// One try with one repository.
pub(super) struct Attempt<'a> {
    pub(super) request: &'a FetchRequest,
    bounds: &'a Bounds,
    bridge: Bridge,
    pub(super) dir: Arc<RepoDir>,
    showing: Showing<'a>,
}

impl<'a> Attempt<'a> {
    /// Opens a bridge to the server. Nothing is sent yet.
    pub(super) fn new(
        request: &'a FetchRequest,
        bounds: &'a Bounds,
        dir: Arc<RepoDir>,
        showing: Showing<'a>,
    ) -> Result<Self, FetchError> {
        let route = Route {
            url: git_url::parse(&request.url).map_err(|reason| FetchError::Url {
                url: redact(&request.url),
                reason,
            })?,
            credentials: request.credentials.clone(),
            tls: request.tls.clone(),
            proxy: request.proxy.clone(),
        };
        let bridge = Bridge::open(route, bounds.deadline(), bounds.max_bytes());
        let bridge = bridge.map_err(|error| FetchError::Unreachable {
            url: redact(&request.url),
            reason: format!("no socket for it on this machine: {error}"),
        })?;
        Ok(Self {
            request,
            bounds,
            bridge,
            dir,
            showing,
        })
    }
}

impl Attempt<'_> {
    pub(super) fn run(&self) -> Result<Fetched<GitTree>, FetchError> {
        let repo = self.dir.open().map_err(|error| storage(&error))?;
        let mut exchange = self.exchange(&repo)?;
        let refs = exchange.list().map_err(|error| self.failed(&error))?;
        let selection = select(self.request.reference.as_ref(), &refs).map_err(|source| FetchError::Reference {
            url: self.url(),
            source,
        })?;
        let revision = selection.revision();
        let commit = Oid::from_str(selection.commit()).map_err(|error| storage(&error))?;
        let unchanged = self.request.previous.as_ref() == Some(&revision);
        // A pinned commit that some other reference brought in may still be missing from the branch that is asked for.
        let trusted = match &selection.want {
            // A commit can have come by another reference, without the tag object that is asked for now.
            Want::Tip(tip) => Oid::from_str(&tip.oid).is_ok_and(|id| repo.odb().is_ok_and(|odb| odb.exists(id))),
            Want::Commit { on, .. } => unchanged || on.is_none(),
        };
        let here = if trusted {
            local(&self.dir, commit, self.showing)
        } else {
            None
        };
        let tree = match here {
            Some(tree) => tree,
            None => {
                match &selection.want {
                    Want::Tip(tip) => self.download_tip(&mut exchange, tip)?,
                    Want::Commit { id, on } => self.download_commit(&repo, exchange, id, on.as_ref())?,
                }
                self.keep(&repo, commit).map_err(|error| storage(&error))?;
                GitTree::open(&self.dir, commit, self.showing).map_err(|error| storage(&error))?
            }
        };
        let last = self.last(&selection.label, &selection.want);
        let history = self.history(&repo, last.as_deref(), selection.commit(), &selection.want);
        self.forget_others(&repo, commit, last.as_deref());
        Ok(Fetched {
            commit: describe(&repo, commit).map_err(|error| storage(&error))?,
            revision,
            unchanged,
            history,
            rewritten: last
                .filter(|_| history == History::Rewritten)
                .map(|last| lost(&last, selection.commit(), |id| parents(&repo, id)))
                .unwrap_or_default(),
            received_bytes: self.bounds.received(),
            signed: signed_commit(&repo, commit).map_err(|error| storage(&error))?,
            tag: tag(&repo, &selection.want).map_err(|error| storage(&error))?,
            tree,
        })
    }

    pub(super) fn exchange<'b>(&'b self, repo: &'b Repository) -> Result<Exchange<'b>, FetchError> {
        // What an earlier exchange met, and what was made of it, is over.
        let _ = self.bridge.take_failure();
        Exchange::new(repo, self.bridge.url(), self.bounds).map_err(|error| self.failed(&error))
    }

    /// The refspec that brings in what a name or an id leads to.
    pub(super) fn incoming(from: &str) -> String {
        format!("+{from}:{INCOMING}")
    }

    fn download_tip(&self, exchange: &mut Exchange<'_>, tip: &RemoteRef) -> Result<(), FetchError> {
        let refspec = [format!("+{}:{INCOMING}", tip.name)];
        match exchange.download(&refspec, 1) {
            Err(error) if error.message().contains("doesn't support shallow") => exchange.download(&refspec, 0),
            result => result,
        }
        .map_err(|error| self.failed(&error))
    }

    /// Servers need not give out a commit by its id; then everything that could lead to it is fetched.
    fn download_commit(
        &self,
        repo: &Repository,
        mut exchange: Exchange<'_>,
        id: &str,
        on: Option<&RemoteRef>,
    ) -> Result<(), FetchError> {
        let oid = Oid::from_str(id).map_err(|error| storage(&error))?;
        match on {
            Some(branch) if branch.oid == id => self.download_tip(&mut exchange, branch),
            Some(branch) => {
                let refspec = [format!("+{}:{INCOMING}", branch.name)];
                exchange
                    .download(&refspec, UNSHALLOW)
                    .map_err(|error| self.failed(&error))?;
                let tip = Oid::from_str(&branch.oid).map_err(|error| storage(&error))?;
                match repo.graph_descendant_of(tip, oid) {
                    Ok(true) => Ok(()),
                    _ => Err(self.no_commit(id, format!("on {}", branch.name))),
                }
            }
            None => {
                let by_id = exchange.download(&[format!("{id}:{INCOMING}")], 1);
                if by_id.is_ok() && repo.find_commit(oid).is_ok() {
                    return Ok(());
                }
                if self.bounds.timed_out() || self.bounds.too_large() {
                    return by_id.map_err(|error| self.failed(&error));
                }
                let all = ["+refs/heads/*:refs/weir/heads/*", "+refs/tags/*:refs/weir/tags/*"].map(str::to_owned);
                let mut exchange = self.exchange(repo)?;
                exchange
                    .download(&all, UNSHALLOW)
                    .map_err(|error| self.failed(&error))?;
                match repo.find_commit(oid) {
                    Ok(_) => Ok(()),
                    Err(_) => Err(self.no_commit(id, "on any branch or tag".to_owned())),
                }
            }
        }
    }

    /// The last commit, when it stood under the same name; another branch is no rewritten history.
    fn last(&self, label: &str, want: &Want) -> Option<String> {
        let (last_label, last) = parse_revision(self.request.previous.as_deref()?)?;
        (last_label == label && matches!(want, Want::Tip(_))).then(|| last.to_owned())
    }

    fn history(&self, repo: &Repository, last: Option<&str>, commit: &str, want: &Want) -> History {
        let (Some(last), Want::Tip(tip)) = (last, want) else {
            return History::First;
        };
        let told = compare(last, commit, |id| parents(repo, id));
        HISTORY_DEPTHS.into_iter().fold(told, |told, depth| {
            let deepen = |exchange: Result<Exchange<'_>, FetchError>| {
                let refspec = [format!("+{}:{INCOMING}", tip.name)];
                exchange.is_ok_and(|mut exchange| exchange.download(&refspec, depth).is_ok())
            };
            // What history is missing is no reason to fail: the commit itself is here.
            if told == History::Unknown && deepen(self.exchange(repo)) {
                compare(last, commit, |id| parents(repo, id))
            } else {
                told
            }
        })
    }

    fn keep(&self, repo: &Repository, commit: Oid) -> Result<(), git2::Error> {
        repo.find_commit(commit)?.tree()?;
        repo.reference(&format!("{TIPS}{commit}"), commit, true, "fetched")?;
        Ok(())
    }

    /// Leaves the new commit and the last: more would only lengthen what is told to the server.
    fn forget_others(&self, repo: &Repository, commit: Oid, last: Option<&str>) {
        let Ok(tips) = repo.references_glob(&format!("{TIPS}*")) else {
            return;
        };
        for mut tip in tips.flatten() {
            let target = tip.target();
            if target != Some(commit) && target.map(|id| id.to_string()).as_deref() != last {
                // One more name in the repository does no harm.
                let _ = tip.delete();
            }
        }
    }

    pub(super) fn failed(&self, error: &git2::Error) -> FetchError {
        let told = self.bridge.take_failure();
        if self.bounds.too_large() || told == Some(Failure::TooLarge) {
            return FetchError::TooLarge {
                url: self.url(),
                limit: self.bounds.max_bytes(),
            };
        }
        if told == Some(Failure::Late) {
            return timed_out(self.request, "the server is silent");
        }
        if self.bounds.timed_out() {
            return timed_out(self.request, "the exchange was broken off");
        }
        let request = self.request;
        let context = Context {
            url: &request.url,
            secrets: request.credentials.secrets(),
            authenticated: request.credentials != Credentials::Anonymous || user_info(&request.url).is_some(),
        };
        match told {
            Some(failure) => context.told(failure),
            None => context.classify(error),
        }
    }

    fn no_commit(&self, id: &str, place: String) -> FetchError {
        FetchError::CommitNotFound {
            url: self.url(),
            commit: id.to_owned(),
            place,
        }
    }

    pub(super) fn url(&self) -> String {
        redact(&self.request.url)
    }
}

/// The tree of a commit that was completely fetched before.
pub(super) fn local(dir: &Arc<RepoDir>, commit: Oid, showing: Showing<'_>) -> Option<GitTree> {
    let repo = dir.open().ok()?;
    repo.find_reference(&format!("{TIPS}{commit}")).ok()?;
    match GitTree::open(dir, commit, showing) {
        Ok(tree) => Some(tree),
        Err(_) => {
            dir.suspect();
            None
        }
    }
}

/// The same of a commit that may have been forgotten since: nothing is deleted from a repository while it is in use, and what
/// lacks all the same is found out when it is read. That is no sign of a broken repository.
pub(super) fn once_local(dir: &Arc<RepoDir>, commit: Oid, showing: Showing<'_>) -> Option<GitTree> {
    GitTree::open(dir, commit, showing).ok()
}

fn parents(repo: &Repository, id: &str) -> Option<Vec<String>> {
    let odb = repo.odb().ok()?;
    let object = odb.read(Oid::from_str(id).ok()?).ok()?;
    Some(stored_parents(object.data()))
}

/// The commit as its signature covers it.
fn signed_commit(repo: &Repository, id: Oid) -> Result<Signed, git2::Error> {
    match repo.extract_signature(&id, None) {
        Ok((signature, payload)) => Ok(Signed {
            payload: payload.to_vec(),
            signature: Some(String::from_utf8_lossy(&signature).into_owned()),
        }),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(Signed {
            payload: Vec::new(),
            signature: None,
        }),
        Err(error) => Err(error),
    }
}

/// The tag that was asked for. One that is no object of its own cannot be signed.
fn tag(repo: &Repository, want: &Want) -> Result<Option<Tag>, git2::Error> {
    let Want::Tip(tip) = want else {
        return Ok(None);
    };
    let Some(name) = tip.name.strip_prefix("refs/tags/") else {
        return Ok(None);
    };
    let unsigned = Signed {
        payload: Vec::new(),
        signature: None,
    };
    let signed = match tip.peeled {
        Some(_) => split_tag(repo.odb()?.read(Oid::from_str(&tip.oid)?)?.data()),
        None => unsigned,
    };
    Ok(Some(Tag {
        name: name.to_owned(),
        id: tip.oid.clone(),
        signed,
    }))
}

pub(super) fn describe(repo: &Repository, id: Oid) -> Result<Commit, git2::Error> {
    let commit = repo.find_commit(id)?;
    let author = commit.author();
    let (name, mail) = (plain(author.name_bytes()), plain(author.email_bytes()));
    Ok(Commit {
        id: id.to_string(),
        author: format!("{name} <{mail}>"),
        subject: plain(commit.summary_bytes().unwrap_or_default()),
    })
}

/// Text from a commit, fit for one line of a message.
fn plain(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let text: String = text.chars().filter(|c| !c.is_control()).take(MAX_TEXT).collect();
    text.trim().to_owned()
}

pub(super) fn storage(error: &git2::Error) -> FetchError {
    FetchError::Storage {
        reason: error.message().to_owned(),
    }
}
