//! The process that is measured: `weir run` with its render workers, seen through `/proc`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often memory is looked at.
const SAMPLE: Duration = Duration::from_millis(20);
/// Linux counts processor time in these (`getconf CLK_TCK`, 100 on every platform that Weir runs on).
const TICK: Duration = Duration::from_millis(10);
/// How long starting may take.
const START: Duration = Duration::from_secs(60);

/// A running Weir; killed when dropped.
pub(crate) struct Subject {
    child: Child,
    ended: Arc<AtomicBool>,
    peak: Arc<AtomicU64>,
    sampler: Option<JoinHandle<()>>,
}

impl Subject {
    /// Starts it without the webhook and waits until it is ready.
    pub(crate) async fn start(folder: &Path) -> Self {
        let health = free_port();
        let log = fs::File::create(folder.join("weir.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--webhook=false", "--storage-addr=127.0.0.1:0"])
            .arg(format!("--metrics-addr=127.0.0.1:{health}"))
            .arg(format!("--health-addr=127.0.0.1:{health}"))
            .arg("--storage-path")
            .arg(folder.join("storage"))
            .arg("--kubeconfig")
            .arg(std::env::var_os("WEIR_TEST_KUBECONFIG").unwrap())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let (ended, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let sampler = std::thread::spawn({
            let (pid, ended, peak) = (child.id(), Arc::clone(&ended), Arc::clone(&peak));
            move || {
                while !ended.load(Ordering::Relaxed) {
                    peak.fetch_max(resident(pid), Ordering::Relaxed);
                    std::thread::sleep(SAMPLE);
                }
            }
        });
        let subject = Self {
            child,
            ended,
            peak,
            sampler: Some(sampler),
        };
        let deadline = Instant::now() + START;
        let ready = format!("http://127.0.0.1:{health}/readyz");
        loop {
            let answer = reqwest::get(&ready).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return subject;
            }
            assert!(
                Instant::now() < deadline,
                "weir does not get ready; see {}",
                folder.join("weir.log").display()
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Processor time so far: Weir's own, that of workers that have ended, and that of those that live.
    pub(crate) fn cpu(&self) -> Duration {
        let pid = self.child.id();
        let own = stat(pid).map_or(0, |stat| stat.own + stat.reaped);
        let workers: u64 = children(pid).filter_map(stat).map(|stat| stat.own).sum();
        TICK * u32::try_from(own + workers).unwrap()
    }

    /// Resident MiB now, and at most so far; workers included.
    pub(crate) fn memory(&self) -> (f64, f64) {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        (mib(resident(self.child.id())), mib(self.peak.load(Ordering::Relaxed)))
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(sampler) = self.sampler.take() {
            sampler.join().unwrap();
        }
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Subject {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Stat {
    parent: u32,
    own: u64,
    reaped: u64,
}

/// `proc_pid_stat(5)`: fields are counted behind the name, which may hold anything but ends at the last parenthesis.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some(Stat {
        parent: u32::try_from(number(1)?).ok()?,
        own: number(11)? + number(12)?,
        reaped: number(13)? + number(14)?,
    })
}

fn children(parent: u32) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(move |pid| stat(*pid).is_some_and(|stat| stat.parent == parent))
}

fn resident(pid: u32) -> u64 {
    std::iter::once(pid)
        .chain(children(pid))
        .filter_map(|pid| {
            let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
            line.trim().trim_end_matches("kB").trim().parse::<u64>().ok()
        })
        .map(|kib| kib << 10)
        .sum()
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
