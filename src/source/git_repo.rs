//! The bare repositories of a source on disk: `<root>/git/<namespace>/<name>/<generation>.git`, one at a time.
//!
//! A repository that is corrupt, or has gathered too many packs, is not repaired but replaced: a new generation is fetched
//! and the old one is deleted when the last tree that reads from it is gone.
//!
//! Guarantees: a tree in use keeps its files; what a dead process left behind is removed. Assumes one process per root.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use git2::{Oid, Repository, RepositoryInitOptions};

use super::ignore::Summary;

/// Packs at which a repository is fetched anew. Every fetch adds one, and every lookup asks each; a hundred of them are
/// about a hundred commits, after which one shallow fetch costs less than the lookups.
const MAX_PACKS: usize = 100;

/// Most directories whose summary is remembered: some 50 MiB, reached only by repositories of hundreds of thousands.
const MAX_SUMMARIES: usize = 500_000;

/// One repository on disk.
pub(super) struct RepoDir {
    path: PathBuf,
    /// A read failed in a way that only a broken repository explains.
    suspect: AtomicBool,
    /// To be deleted when nobody uses it any more.
    retired: AtomicBool,
    /// What the ignore files of a directory and all below amount to, by tree id: a commit only walks what it changed.
    summaries: Mutex<HashMap<Oid, Summary>>,
}

impl RepoDir {
    fn new(path: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            path,
            suspect: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            summaries: Mutex::default(),
        })
    }

    pub(super) fn open(&self) -> Result<Repository, git2::Error> {
        Repository::open_bare(&self.path)
    }

    /// Has the next fetch start anew.
    pub(super) fn suspect(&self) {
        self.suspect.store(true, Ordering::Relaxed);
    }

    pub(super) fn summary(&self, tree: Oid) -> Option<Summary> {
        lock(&self.summaries).get(&tree).copied()
    }

    pub(super) fn remember(&self, tree: Oid, summary: Summary) {
        let mut summaries = lock(&self.summaries);
        if summaries.len() >= MAX_SUMMARIES {
            summaries.clear();
        }
        summaries.insert(tree, summary);
    }

    fn is_worn(&self) -> bool {
        let packs = fs::read_dir(self.path.join("objects/pack"));
        // A pack and its index are two files; temporary files of dead processes count as well.
        packs.is_ok_and(|files| files.count() > 2 * MAX_PACKS)
    }
}

impl Drop for RepoDir {
    fn drop(&mut self) {
        if self.retired.load(Ordering::Relaxed)
            && let Err(error) = fs::remove_dir_all(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "a replaced repository was not deleted");
        }
    }
}

/// The generations of one source.
pub(super) struct Generations {
    root: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The disk was looked at. Once only: later, directories there can also be replaced ones that are still in use.
    scanned: bool,
    /// Highest number given; none is given twice, or a replaced repository could take its successor along.
    last: u64,
    current: Option<Arc<RepoDir>>,
}

impl Generations {
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            state: Mutex::default(),
        }
    }

    /// The repository in use, made when there is none, replaced when it is broken or worn.
    pub(super) fn current(&self) -> Result<Arc<RepoDir>, git2::Error> {
        match self.existing() {
            Some(found) if found.suspect.load(Ordering::Relaxed) || found.is_worn() => self.renew(),
            Some(found) => Ok(found),
            None => self.renew(),
        }
    }

    /// The repository in use, when there is one.
    pub(super) fn existing(&self) -> Option<Arc<RepoDir>> {
        let mut state = lock(&self.state);
        self.scan(&mut state);
        state.current.clone().filter(|found| found.path.is_dir())
    }

    /// An empty repository in place of the one in use.
    pub(super) fn renew(&self) -> Result<Arc<RepoDir>, git2::Error> {
        let mut state = lock(&self.state);
        self.scan(&mut state);
        if let Some(old) = state.current.take() {
            old.retired.store(true, Ordering::Relaxed);
        }
        state.last += 1;
        let path = self.path(state.last);
        Repository::init_opts(
            &path,
            // Templates could put hooks and configuration of the machine into the repository.
            RepositoryInitOptions::new()
                .bare(true)
                .mkpath(true)
                .no_reinit(true)
                .external_template(false),
        )?;
        let fresh = RepoDir::new(path);
        state.current = Some(Arc::clone(&fresh));
        Ok(fresh)
    }

    /// Deletes everything; trees that are in use keep their files until they are dropped.
    pub(super) fn remove(&self) {
        let taken = {
            let mut state = lock(&self.state);
            self.scan(&mut state);
            state.current.take()
        };
        if let Some(in_use) = taken {
            in_use.retired.store(true, Ordering::Relaxed);
        }
        // Fails while a tree is in use: the folder then stays, empty, until the source is fetched or removed again.
        let _ = fs::remove_dir(&self.root);
    }

    fn scan(&self, state: &mut State) {
        if state.scanned {
            return;
        }
        state.scanned = true;
        let mut numbers = self.numbers();
        if let Some(newest) = numbers.pop() {
            state.last = newest;
            state.current = Some(RepoDir::new(self.path(newest)));
        }
        for old in numbers {
            // Left by a process that ended before it could.
            let _ = fs::remove_dir_all(self.path(old));
        }
    }

    fn path(&self, number: u64) -> PathBuf {
        self.root.join(format!("{number}.git"))
    }

    /// Numbers on disk, ascending.
    fn numbers(&self) -> Vec<u64> {
        let number = |entry: io::Result<fs::DirEntry>| -> Option<u64> {
            let name = entry.ok()?.file_name();
            Path::new(&name).to_str()?.strip_suffix(".git")?.parse().ok()
        };
        let mut numbers: Vec<u64> = fs::read_dir(&self.root)
            .into_iter()
            .flatten()
            .filter_map(number)
            .collect();
        numbers.sort_unstable();
        numbers
    }
}

/// Locks; a panic elsewhere cannot leave these values half-changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_repository_stays_until_its_last_reader_is_gone() {
        let directory = tempfile::tempdir().unwrap();
        let generations = Generations::new(directory.path().join("ns/name"));
        assert!(generations.existing().is_none());
        let first = generations.current().unwrap();
        assert!(first.open().is_ok());
        first.suspect();
        let second = generations.current().unwrap();
        assert_ne!(first.path, second.path);
        assert!(first.open().is_ok(), "a reader keeps its files");
        let path = first.path.clone();
        drop(first);
        assert!(!path.exists());
        assert_eq!(generations.current().unwrap().path, second.path);
    }

    #[test]
    fn a_restart_finds_the_newest_and_removes_the_rest() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("source");
        for number in [1, 2, 10] {
            Repository::init_bare(root.join(format!("{number}.git"))).unwrap();
        }
        let generations = Generations::new(root.clone());
        assert_eq!(generations.current().unwrap().path, root.join("10.git"));
        assert!(!root.join("1.git").exists() && !root.join("2.git").exists());
        generations.remove();
        assert!(!root.exists());
    }

    #[test]
    fn a_repository_that_vanished_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let generations = Generations::new(directory.path().join("source"));
        let first = generations.current().unwrap().path.clone();
        fs::remove_dir_all(&first).unwrap();
        assert!(generations.existing().is_none());
        assert!(generations.current().unwrap().open().is_ok());
    }
}
