//! `hack/bench admission`: what the webhook costs with a whole policy library in force, beside Gatekeeper.
//!
//! Flow: the library's templates and one constraint of each are put into a control plane → `weir run` is started and asked,
//! then Gatekeeper, each alone on the machine but for the control plane, which is idle, and this program, which asks from one
//! thread. First every sample is asked once, for the decision; then as many connections as one step says ask as fast as they
//! are answered.
//!
//! Every request is of another object: its name, a label and the tags of its images hold a number that never comes back, and
//! both are asked the same ones. Assumes what `hack/bench` prepares: a control plane that is ours alone, the library, and
//! Gatekeeper's binary and CRDs.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "admission/cluster.rs"]
mod cluster;
#[path = "admission/library.rs"]
mod library;
#[path = "admission/load.rs"]
mod load;
#[path = "admission/sample.rs"]
mod sample;
#[path = "admission/subject.rs"]
mod subject;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use library::PolicyLibrary;
use load::Load;
use sample::Sample;
use subject::Subject;

/// Connections of each step: one client, a small API server, three busy ones.
const CONNECTIONS: [usize; 3] = [1, 8, 32];
/// How long each step asks before it is measured, and how long it is measured.
const WARM_UP: Duration = Duration::from_secs(2);
const MEASURED: Duration = Duration::from_secs(10);
/// How long a subject is left alone once it is ready, so that its start is not measured.
const SETTLE: Duration = Duration::from_secs(5);

/// What one subject did.
struct Figures {
    name: &'static str,
    steps: Vec<Step>,
    /// Whether each sample was allowed; `None` when there was no decision.
    decisions: Vec<Option<bool>>,
    /// Resident MiB before anything was asked, at the end, and at most.
    memory: [f64; 3],
}

/// What one number of connections gave.
struct Step {
    per_second: f64,
    p50: Duration,
    p99: Duration,
    /// Processor time of the subject for one request.
    cpu: Duration,
    /// Answers that were no decision.
    failed: usize,
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let only: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with("--"))
        .collect();
    let wanted = |name: &str| only.is_empty() || only.iter().any(|one| one == name);
    let path = |name: &str| PathBuf::from(std::env::var_os(name).expect("run this through hack/bench"));
    let library = PolicyLibrary::read(&path("WEIR_LIBRARY"));
    let samples: Arc<[Sample]> = library.objects.iter().map(Sample::new).collect();
    println!(
        "{} templates, {} constraints, {} sample objects; {} processors, shared by the subject and the one thread that asks",
        library.templates.len(),
        library.constraints.len(),
        samples.len(),
        std::thread::available_parallelism().unwrap()
    );
    let folder = tempfile::tempdir().unwrap();
    cluster::prepare(&path("WEIR_GATEKEEPER_CRDS"), &library);
    // Whoever makes the constraints' CRDs; it is another process that is measured.
    {
        let _maker = Subject::weir(folder.path());
        cluster::constrain(&library);
    }
    let mut all = Vec::new();
    // Each is told as soon as it is known: the other may not get that far.
    if wanted("weir") {
        all.push(measure(Subject::weir(folder.path()), &samples));
        all.iter().for_each(print);
    }
    if wanted("gatekeeper") {
        let gatekeeper = Subject::gatekeeper(folder.path(), &path("WEIR_GATEKEEPER"));
        all.push(measure(gatekeeper, &samples));
        all.last().into_iter().for_each(print);
    }
    if let [weir, gatekeeper] = all.as_slice() {
        compare(weir, gatekeeper, &samples);
    }
}

fn measure(mut subject: Subject, samples: &Arc<[Sample]>) -> Figures {
    std::thread::sleep(SETTLE);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let load = Load::new(subject.address, subject.path, samples);
    let before = subject.resident();
    let decisions = runtime.block_on(load.each_once());
    let mut steps = Vec::new();
    for connections in CONNECTIONS {
        runtime.block_on(load.run(connections, WARM_UP));
        let cpu = subject.cpu();
        let seen = runtime.block_on(load.run(connections, MEASURED));
        let cpu = subject.cpu() - cpu;
        let mut times = seen.times;
        times.sort_unstable();
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
        steps.push(Step {
            per_second: times.len() as f64 / seen.took.as_secs_f64(),
            p50: at(0.5),
            p99: at(0.99),
            cpu: cpu / u32::try_from(times.len()).unwrap(),
            failed: seen.failed,
        });
    }
    let memory = [before, subject.resident(), subject.peak()];
    subject.stop();
    Figures {
        name: subject.name,
        steps,
        decisions,
        memory,
    }
}

fn print(figures: &Figures) {
    println!("{}", figures.name);
    for (connections, step) in CONNECTIONS.iter().zip(&figures.steps) {
        println!(
            "  {connections:>2} connections  {:>6.0} requests/s  p50 {:>7.2} ms  p99 {:>7.2} ms  {:>5.2} ms of processor each  {} failed",
            step.per_second,
            milliseconds(step.p50),
            milliseconds(step.p99),
            milliseconds(step.cpu),
            step.failed
        );
    }
    let [before, after, peak] = figures.memory;
    let denied = figures.decisions.iter().filter(|one| **one == Some(false)).count();
    println!("  memory          {before:.0} MiB when loaded, {after:.0} MiB after the requests, {peak:.0} MiB at most");
    println!(
        "  decisions       {denied} of {} samples denied",
        figures.decisions.len()
    );
}

fn compare(weir: &Figures, gatekeeper: &Figures, samples: &[Sample]) {
    println!("{} beside {}", weir.name, gatekeeper.name);
    for ((connections, ours), theirs) in CONNECTIONS.iter().zip(&weir.steps).zip(&gatekeeper.steps) {
        println!(
            "  {connections:>2} connections  {:.1} × the requests/s, p50 {:.1} %, p99 {:.1} %, {:.1} % of the processor time",
            ours.per_second / theirs.per_second,
            percent(ours.p50, theirs.p50),
            percent(ours.p99, theirs.p99),
            percent(ours.cpu, theirs.cpu)
        );
    }
    println!(
        "  memory          {:.0} %",
        100.0 * weir.memory[1] / gatekeeper.memory[1]
    );
    let pairs = weir.decisions.iter().zip(&gatekeeper.decisions);
    let differ: Vec<&Sample> = samples
        .iter()
        .zip(pairs)
        .filter(|(_, (ours, theirs))| ours != theirs)
        .map(|(sample, _)| sample)
        .collect();
    println!("  decisions       {} of {} differ", differ.len(), samples.len());
    for sample in differ {
        println!("    {}", sample.origin.display());
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

fn percent(part: Duration, whole: Duration) -> f64 {
    100.0 * part.as_secs_f64() / whole.as_secs_f64()
}
