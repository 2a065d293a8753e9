//! The workers: how many there are, which are warm, and when they end.
//!
//! Guarantees: at most `workers` processes; the one used last is used next, so that in quiet times all but one grow cold and
//! end; after `idle` without a build the last one ends too. A build on a warm worker that turns out to be dead is repeated
//! once on a fresh one, because it had asked nothing yet.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::conversation::{Answer, Job};
use super::worker::Worker;
use super::{Document, RenderError, RenderRequest, Rendered};
use crate::core::snapshot::{DirEntry, FileKind, Files, FilesError};
use crate::telemetry::metrics::Metrics;

/// How a pool works.
#[derive(Debug, Clone)]
pub struct Options {
    /// The `renderer` program.
    pub program: PathBuf,
    /// Further arguments of it.
    pub arguments: Vec<String>,
    /// How many processes at most, which is how many builds at once.
    pub workers: usize,
    /// How long one build may take. Waiting for a worker does not count.
    pub deadline: Duration,
    /// How long a worker without work lives.
    pub idle: Duration,
    /// Bytes of memory for one worker.
    pub memory: u64,
}

impl Options {
    /// Two workers: a build is bound by the processor, and while one waits for Weir to read files another can go on.
    pub const WORKERS: usize = 2;
    /// A warm build takes milliseconds and the largest public monorepos seconds; Flux's own builds fall under a timeout of
    /// minutes that covers the apply too.
    pub const DEADLINE: Duration = Duration::from_secs(60);
    /// Longer than the gap between two commits in a busy hour would save 70 ms each; the memory (30 MiB) is worth more.
    pub const IDLE: Duration = Duration::from_secs(10);
    /// The worker's own default: 40 MiB of schema, and a build of the largest allowed input several times over.
    pub const MEMORY: u64 = 512 << 20;

    /// The defaults, with this program.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            workers: Self::WORKERS,
            deadline: Self::DEADLINE,
            idle: Self::IDLE,
            memory: Self::MEMORY,
        }
    }
}

/// Render workers. Cheap to clone; the processes end with the last clone.
#[derive(Clone)]
pub struct Pool {
    shared: Arc<Shared>,
}

struct Shared {
    options: Options,
    permits: Semaphore,
    idle: Mutex<Idle>,
    /// How many processes there are.
    live: watch::Sender<usize>,
    metrics: Option<Metrics>,
}

/// Workers without work, the one that has been longest first.
#[derive(Default)]
struct Idle {
    warm: Vec<Warm>,
    /// Whether a task is there that ends the cold ones.
    tended: bool,
}

struct Warm {
    worker: Worker,
    since: Instant,
}

impl Pool {
    /// A pool without any process yet.
    #[must_use]
    pub fn new(options: Options) -> Self {
        Self::make(options, None)
    }

    /// A pool that tells how its workers do.
    #[must_use]
    pub fn observed(options: Options, metrics: Metrics) -> Self {
        Self::make(options, Some(metrics))
    }

    fn make(options: Options, metrics: Option<Metrics>) -> Self {
        Self {
            shared: Arc::new(Shared {
                permits: Semaphore::new(options.workers.max(1)),
                idle: Mutex::new(Idle::default()),
                live: watch::Sender::new(0),
                options,
                metrics,
            }),
        }
    }

    /// Builds. May be cancelled by dropping it: the worker is killed then.
    ///
    /// # Errors
    /// When the request does not build, meets a bound, or the worker fails.
    pub async fn render(&self, request: &RenderRequest, files: Arc<dyn Files>) -> Result<Rendered, RenderError> {
        match self.work(&Job::Build(Box::new(request.clone())), files).await? {
            Answer::Rendered(rendered) => Ok(rendered),
            Answer::Documents(_) => Err(mixed_up()),
        }
    }

    /// Reads the documents of a YAML stream as Kubernetes' own tools read them. Nothing is built.
    ///
    /// # Errors
    /// When it is no YAML, meets a bound, or the worker fails.
    pub async fn decode(&self, content: Vec<u8>) -> Result<Vec<Document>, RenderError> {
        self.documents(content, false).await
    }

    /// The same with the line of each field.
    ///
    /// # Errors
    /// As above.
    pub async fn decode_with_lines(&self, content: Vec<u8>) -> Result<Vec<Document>, RenderError> {
        self.documents(content, true).await
    }

    async fn documents(&self, content: Vec<u8>, lines: bool) -> Result<Vec<Document>, RenderError> {
        match self.work(&Job::Decode { content, lines }, Arc::new(Nothing)).await? {
            Answer::Documents(documents) => Ok(documents),
            Answer::Rendered(_) => Err(mixed_up()),
        }
    }

    async fn work(&self, job: &Job, files: Arc<dyn Files>) -> Result<Answer, RenderError> {
        let shared = &self.shared;
        let Ok(_permit) = shared.permits.acquire().await else {
            return Err(RenderError::Worker {
                reason: "Weir is stopping".to_owned(),
                stderr: String::new(),
            });
        };
        let mut warm = shared.take_warm();
        loop {
            let deadline = Instant::now() + shared.options.deadline;
            let counted = Counted::new(shared, warm.is_some());
            let was_warm = warm.is_some();
            let worker = match warm.take() {
                Some(worker) => worker,
                None => Worker::start(&shared.options, deadline).await?,
            };
            let built = worker.build(job, Arc::clone(&files), deadline).await;
            if let Some(worker) = built.survivor {
                counted.keep();
                self.put_back(worker);
            } else if let Err(error) = &built.outcome {
                shared.ended(why(error));
                if built.silent && was_warm {
                    tracing::info!(%error, "a warm render worker was dead; starting another");
                    continue;
                }
            }
            return built.outcome;
        }
    }

    /// How many worker processes there are, now and whenever it changes.
    #[must_use]
    pub fn live(&self) -> watch::Receiver<usize> {
        self.shared.live.subscribe()
    }

    /// Refuses new builds, and ends the idle workers. Builds that run are left to end.
    pub async fn stop(&self) {
        self.shared.permits.close();
        while let Some(worker) = self.shared.take_warm() {
            worker.stop().await;
            self.shared.ended("idle");
            self.shared.counted(|live| *live -= 1);
        }
    }

    /// Makes the worker the next to be used, and sees to its end if nobody uses it.
    fn put_back(&self, worker: Worker) {
        let mut idle = self.shared.idle();
        idle.warm.push(Warm {
            worker,
            since: Instant::now(),
        });
        if !std::mem::replace(&mut idle.tended, true) {
            let shared = Arc::downgrade(&self.shared);
            tokio::spawn(tend(shared, self.shared.options.idle));
        }
        drop(idle);
        self.shared.counted(|_| {});
    }
}

/// Why a worker did not outlive its build, in the words of the metric.
fn why(error: &RenderError) -> &'static str {
    match error {
        RenderError::TimedOut { .. } => "deadline",
        RenderError::TooLarge { .. } => "memory",
        RenderError::Files(_) => "snapshot",
        RenderError::Worker { .. } | RenderError::NotInstalled => "protocol",
        RenderError::Crashed { .. } | RenderError::NotFound(_) | RenderError::Invalid { .. } => "crash",
    }
}

fn mixed_up() -> RenderError {
    RenderError::Worker {
        reason: "it answered another question than it was asked".to_owned(),
        stderr: String::new(),
    }
}

/// The tree of a job that reads no files.
struct Nothing;

impl Files for Nothing {
    fn stat(&self, _: &str) -> Result<Option<FileKind>, FilesError> {
        Ok(None)
    }

    fn read(&self, _: &str) -> Result<Option<Vec<u8>>, FilesError> {
        Ok(None)
    }

    fn list(&self, _: &str) -> Result<Option<Vec<DirEntry>>, FilesError> {
        Ok(None)
    }

    fn digest(&self, _: &str) -> Result<Option<String>, FilesError> {
        Ok(None)
    }
}

/// Ends workers as they grow cold, until none is left.
async fn tend(shared: Weak<Shared>, idle: Duration) {
    let mut next = Instant::now() + idle;
    loop {
        sleep_until(next).await;
        let Some(shared) = shared.upgrade() else { return };
        match shared.coldest() {
            Coldest::Cold(worker) => {
                worker.stop().await;
                shared.ended("idle");
                shared.counted(|live| *live -= 1);
            }
            Coldest::At(when) => next = when,
            Coldest::None => return,
        }
    }
}

enum Coldest {
    Cold(Box<Worker>),
    /// When the next one will be cold.
    At(Instant),
    None,
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Idle> {
        // Nothing panics while this is held.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts processes anew, and tells.
    fn counted(&self, change: impl FnOnce(&mut usize)) {
        self.live.send_modify(change);
        if let Some(metrics) = &self.metrics {
            let (idle, live) = (self.idle().warm.len(), *self.live.borrow());
            metrics.workers(idle, live.saturating_sub(idle));
        }
    }

    fn ended(&self, reason: &str) {
        if let Some(metrics) = &self.metrics {
            metrics.worker_exited(reason);
        }
    }

    fn take_warm(&self) -> Option<Worker> {
        self.idle().warm.pop().map(|warm| warm.worker)
    }

    fn coldest(&self) -> Coldest {
        let mut idle = self.idle();
        let Some(first) = idle.warm.first() else {
            idle.tended = false;
            return Coldest::None;
        };
        let cold_at = first.since + self.options.idle;
        if cold_at > Instant::now() {
            return Coldest::At(cold_at);
        }
        Coldest::Cold(Box::new(idle.warm.remove(0).worker))
    }
}

/// Counts a process while a build has it; `keep` if it lives on afterwards.
struct Counted<'a> {
    shared: &'a Shared,
    kept: bool,
}

impl<'a> Counted<'a> {
    fn new(shared: &'a Shared, already: bool) -> Self {
        shared.counted(|live| *live += usize::from(!already));
        Self { shared, kept: false }
    }

    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.shared.counted(|live| *live -= 1);
        }
    }
}

#[cfg(test)]
impl Pool {
    /// Process ids of the idle workers.
    pub(super) fn idle_ids(&self) -> Vec<u32> {
        self.shared.idle().warm.iter().filter_map(|w| w.worker.id()).collect()
    }
}
