//! `hack/bench sync`: what a repository of N Kustomizations costs, from the first sync to a quiet cluster.
//!
//! Flow, for each N: a bare client applies the same 4 N objects (the limit) → `weir run` starts on an empty cluster and syncs
//! a repository of N Kustomizations of 4 objects → one file is committed → nothing happens for a while. Times are taken
//! from the objects themselves, through watches; processor time and memory from `/proc`, workers included; requests from the
//! API server's audit log.
//!
//! Assumes what `hack/bench` prepares: a control plane with an audit log that is ours alone, and the render worker.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "sync/audit.rs"]
mod audit;
#[path = "sync/cluster.rs"]
mod cluster;
#[path = "../tests/support/git_server.rs"]
mod git_server;
#[path = "sync/repository.rs"]
mod repository;
#[path = "sync/subject.rs"]
mod subject;

use std::time::{Duration, Instant};

use audit::Audit;
use cluster::Cluster;
use git_server::{GitServer, Repo};
use subject::Subject;

/// How long the cluster is left alone before memory is called idle: workers end after 10 s without a build.
const SETTLE: Duration = Duration::from_secs(15);
/// How long requests in the steady state are counted.
const QUIET: Duration = Duration::from_secs(20);

/// What is measured: so many Kustomizations, in a repository of at least so many files.
#[derive(Clone, Copy)]
struct Size {
    count: usize,
    files: usize,
}

impl std::str::FromStr for Size {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (count, files) = text.split_once('/').unwrap_or((text, "0"));
        let count = count.parse()?;
        let files = files.parse::<usize>()?.max(repository::FILES_EACH * count);
        Ok(Self { count, files })
    }
}

/// What was measured for one size.
struct Figures {
    size: Size,
    bare: Duration,
    first: Step,
    changed: Duration,
    commit: Step,
    idle_mib: f64,
    peak_mib: f64,
    quiet_requests: usize,
}

/// What one step took.
struct Step {
    time: Duration,
    cpu: Duration,
    requests: usize,
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let sizes: Vec<Size> = std::env::args()
        .skip(1)
        .filter_map(|argument| argument.parse().ok())
        .collect();
    assert!(
        !sizes.is_empty(),
        "give numbers of Kustomizations, as in: hack/bench sync 200 400 2000/50000"
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    for size in sizes {
        print(&runtime.block_on(measure(size)));
    }
}

async fn measure(size: Size) -> Figures {
    let count = size.count;
    let audit = Audit::open();
    let cluster = Cluster::connect(count).await;
    let bare = cluster.apply_bare().await;

    let folder = tempfile::tempdir().unwrap();
    let repo = Repo::new(folder.path(), "bench");
    let revision = repository::first_commit(&repo, size, &cluster.namespace);
    let server = GitServer::start(folder.path());
    let mut subject = Subject::start(folder.path()).await;
    let mut watch = cluster.watch().await;

    let (cpu, requests) = (subject.cpu(), audit.requests());
    let start = Instant::now();
    cluster.declare(&server.url("bench/.git")).await;
    watch.all_at(&revision, count).await;
    let first = Step {
        time: start.elapsed(),
        cpu: subject.cpu() - cpu,
        requests: audit.requests() - requests,
    };

    let (cpu, requests) = (subject.cpu(), audit.requests());
    let revision = repository::one_file(&repo, count / 2, &cluster.namespace);
    let start = Instant::now();
    cluster.request_fetch().await;
    watch.object_changed(&repository::name(count / 2)).await;
    let changed = start.elapsed();
    watch.all_at(&revision, count).await;
    let commit = Step {
        time: start.elapsed(),
        cpu: subject.cpu() - cpu,
        requests: audit.requests() - requests,
    };

    tokio::time::sleep(SETTLE).await;
    let requests = audit.requests();
    tokio::time::sleep(QUIET).await;
    let quiet_requests = audit.requests() - requests;
    let (idle_mib, peak_mib) = subject.memory();
    subject.stop();
    cluster.clean().await;
    Figures {
        size,
        bare,
        first,
        changed,
        commit,
        idle_mib,
        peak_mib,
        quiet_requests,
    }
}

fn print(figures: &Figures) {
    let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
    let step = |step: &Step| {
        format!(
            "{:>8}  {:>8} CPU  {:>5} requests",
            seconds(step.time),
            seconds(step.cpu),
            step.requests
        )
    };
    let count = figures.size.count;
    println!("{count} Kustomizations of 4 objects in {} files", figures.size.files);
    println!(
        "  {:<44} {:>8}",
        format!("a bare client: {} applies", 4 * count),
        seconds(figures.bare)
    );
    println!(
        "  {:<44} {}  {:.1} × the bare client",
        format!("first sync of all {count}"),
        step(&figures.first),
        figures.first.time.as_secs_f64() / figures.bare.as_secs_f64()
    );
    println!(
        "  {:<44} {:>8}",
        "commit of one file → object changed",
        seconds(figures.changed)
    );
    println!(
        "  {:<44} {}  {:.1} × the bare client",
        format!("that commit → all {count} at the new revision"),
        step(&figures.commit),
        figures.commit.time.as_secs_f64() / figures.bare.as_secs_f64()
    );
    println!(
        "  {:<44} {:>4.0} MiB idle, {:.0} MiB peak",
        "memory, workers included", figures.idle_mib, figures.peak_mib
    );
    println!(
        "  {:<44} {:>8}",
        format!("requests in {} quiet seconds", QUIET.as_secs()),
        figures.quiet_requests
    );
}
