//! One worker process: start it, let it build, stop it.
//!
//! Guarantees: the process gets an empty environment, no file but its three pipes, and does not outlive this value: dropping
//! it kills it. After any outcome but a build's own success or failure the process is dead.
//!
//! Assumes a tokio runtime: the pipes are used blocking, on threads that may block; waiting and killing is done by tokio.

use std::fs::File;
use std::io::{BufReader, Read};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio::process::{Child, ChildStderr, Command};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};

use super::RenderError;
use super::conversation::{Answer, Ended, Ending, Job, converse, greet};
use super::pool::Options;
use crate::core::snapshot::Files;

/// How much of standard error is kept: the end of a Go panic's trace, with the goroutine that panicked.
const STDERR_KEPT: usize = 8 << 10;

/// How long a worker that is no longer needed has to end by itself before it is killed. It ends as soon as its input does.
const FAREWELL: Duration = Duration::from_secs(1);

/// How long to wait for the last words and the status of a process that is dead: the kernel has both already.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How often the memory of a building worker is looked at. The worker watches itself 12 times as often; this is for one that
/// cannot any more.
const MEMORY_CHECK: Duration = Duration::from_millis(250);

/// What a worker may have over its own bound before it is killed from outside: one interval's worth of its fastest growth.
const MEMORY_SLACK: u64 = 128 << 20;

/// A started worker that is between two builds.
pub(super) struct Worker {
    child: Child,
    pipes: Option<Pipes>,
    stderr: JoinHandle<String>,
    memory: u64,
}

struct Pipes {
    to: File,
    from: BufReader<File>,
}

/// What a build left.
pub(super) struct Built {
    /// For the caller.
    pub(super) outcome: Result<Answer, RenderError>,
    /// The worker, ready for the next build; `None` if it is dead.
    pub(super) survivor: Option<Worker>,
    /// Whether the worker died before it asked anything, as one that was dead before does.
    pub(super) silent: bool,
}

impl Worker {
    /// Starts the program and waits for its greeting.
    pub(super) async fn start(options: &Options, deadline: Instant) -> Result<Self, RenderError> {
        let (program, memory) = (&options.program, options.memory);
        let mut child = Command::new(program)
            .arg(format!("--memory-limit={memory}"))
            .args(&options.arguments)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|e| failure(format!("cannot start {}: {e}", program.display())))?;
        let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(failure("it was started without pipes".to_owned()));
        };
        let pipes = (|| {
            Ok::<_, std::io::Error>(Pipes {
                to: File::from(stdin.into_owned_fd()?),
                from: BufReader::new(File::from(stdout.into_owned_fd()?)),
            })
        })()
        .map_err(|e| failure(format!("cannot use its pipes: {e}")))?;
        let mut worker = Self {
            child,
            pipes: None,
            stderr: tokio::spawn(last_of(stderr)),
            memory,
        };
        let greeting = spawn_blocking(move || {
            let mut pipes = pipes;
            greet(&mut pipes.from).map(|()| pipes)
        });
        match tokio::time::timeout_at(deadline, greeting).await {
            Ok(Ok(Ok(pipes))) => {
                worker.pipes = Some(pipes);
                Ok(worker)
            }
            Ok(Ok(Err(ending))) => Err(worker.autopsy(ending).await),
            Ok(Err(join)) => Err(failure(format!("the thread that talks to it ended: {join}"))),
            Err(_) => Err(failure("it did not greet in time".to_owned())),
        }
    }

    /// Has one job done. Dropping the future kills the worker.
    pub(super) async fn build(mut self, job: &Job, files: Arc<dyn Files>, deadline: Instant) -> Built {
        let Some(pipes) = self.pipes.take() else {
            return dead(failure("it has no pipes left".to_owned()));
        };
        let asked = job.clone();
        let started = Instant::now();
        let mut talk = spawn_blocking(move || {
            let Pipes { mut to, mut from } = pipes;
            let ended = converse(&mut to, &mut from, &asked, files.as_ref());
            (Pipes { to, from }, ended)
        });
        let mut memory_check = interval(MEMORY_CHECK);
        memory_check.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let joined = loop {
            tokio::select! {
                joined = &mut talk => break joined,
                () = sleep_until(deadline) => {
                    self.kill().await;
                    return dead(RenderError::TimedOut { path: job.path().to_owned(), after: deadline - started });
                }
                _ = memory_check.tick() => {
                    if self.resident().is_some_and(|used| used > self.memory + MEMORY_SLACK) {
                        self.kill().await;
                        return dead(outgrown(self.memory));
                    }
                }
            }
        };
        let (pipes, Ended { outcome, answered }) = match joined {
            Ok(both) => both,
            Err(join) => return dead(failure(format!("the thread that talks to it ended: {join}"))),
        };
        match outcome {
            Ok(answer) => self.alive(pipes, Ok(answer)),
            Err(Ending::Failed { error, fatal: false }) => self.alive(pipes, Err(error)),
            Err(Ending::Failed { error, fatal: true }) => dead(error),
            Err(ending) => Built {
                silent: !answered,
                ..dead(self.autopsy(ending).await)
            },
        }
    }

    /// Lets a worker end by itself, and kills it if it does not.
    pub(super) async fn stop(mut self) {
        self.pipes = None;
        if timeout(FAREWELL, self.child.wait()).await.is_err() {
            self.kill().await;
        }
    }

    #[cfg(test)]
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    fn alive(mut self, pipes: Pipes, outcome: Result<Answer, RenderError>) -> Built {
        self.pipes = Some(pipes);
        Built {
            outcome,
            survivor: Some(self),
            silent: false,
        }
    }

    async fn kill(&mut self) {
        if let Err(error) = self.child.kill().await {
            tracing::warn!(%error, "cannot kill a render worker");
        }
    }

    /// Kills what may be left of the process and tells how it ended.
    async fn autopsy(mut self, ending: Ending) -> RenderError {
        let breach = match ending {
            Ending::Failed { error, .. } => return error,
            Ending::Breach(what) => {
                self.kill().await;
                Some(what)
            }
            Ending::Pipe => None,
        };
        let status = match timeout(LAST_WORDS, self.child.wait()).await {
            Ok(Ok(status)) => status.to_string(),
            Ok(Err(error)) => format!("status unknown: {error}"),
            Err(_) => {
                self.kill().await;
                "it closed its pipes and was killed".to_owned()
            }
        };
        let stderr = match timeout(LAST_WORDS, &mut self.stderr).await {
            Ok(Ok(text)) => text,
            _ => String::new(),
        };
        match breach {
            Some(reason) => RenderError::Worker { reason, stderr },
            None => RenderError::Crashed { status, stderr },
        }
    }

    /// Bytes of memory that the process has, where the system tells.
    fn resident(&self) -> Option<u64> {
        /// The unit of `statm`. Linux has larger pages on some machines, which makes this check later there.
        const PAGE: u64 = 4096;
        let id = self.child.id()?;
        let mut statm = String::new();
        File::open(format!("/proc/{id}/statm"))
            .ok()?
            .read_to_string(&mut statm)
            .ok()?;
        let pages: u64 = statm.split(' ').nth(1)?.parse().ok()?;
        Some(pages * PAGE)
    }
}

fn dead(error: RenderError) -> Built {
    Built {
        outcome: Err(error),
        survivor: None,
        silent: false,
    }
}

fn failure(reason: String) -> RenderError {
    RenderError::Worker {
        reason,
        stderr: String::new(),
    }
}

fn outgrown(limit: u64) -> RenderError {
    RenderError::TooLarge {
        what: "bytes of memory".to_owned(),
        limit,
        message: format!("too large: the build needs more than {limit} bytes of memory"),
        place: super::Place::default(),
    }
}

/// Reads to the end and keeps the last of it.
async fn last_of(mut stderr: ChildStderr) -> String {
    let mut kept: Vec<u8> = Vec::new();
    let mut buffer = [0; 1024];
    while let Ok(count @ 1..) = stderr.read(&mut buffer).await {
        kept.extend(buffer.iter().take(count));
        kept.drain(..kept.len().saturating_sub(STDERR_KEPT));
    }
    String::from_utf8_lossy(&kept).into_owned()
}
