//! `weir check`: what the gate would decide about manifests, with no cluster.
//!
//! Flow: `gather` renders every PATH into units (a kustomization, a Flux Kustomization, a set of files), `policies` reads
//! what judges them, `decide` asks the gate, `report` holds the answer, and one of `human`, `json`, `sarif`, `junit` and
//! `github` prints it.
//!
//! Guarantees: the render worker and the gate are those of `weir run`; every error is reported, not only the first; a
//! change is never called allowed when part of it could not be decided.

mod decide;
mod flux;
mod gather;
mod github;
mod human;
mod junit;
mod policies;
mod report;
mod sarif;
mod tree;
mod value;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use super::EXIT_ERROR;
use super::renderer;
use crate::render::{Options, Pool};
use report::{Report, Verdict};

/// What scripts see when something is denied.
const EXIT_DENIED: u8 = 1;

/// Says what policies would decide about manifests, without a cluster.
///
/// Every PATH is rendered as Weir would render it in the cluster, every object is put to every
/// policy, and what is denied is printed with the file and line that declare it. A PATH is
///
///   - a directory with a kustomization.yaml: it is built;
///   - a directory that holds Flux Kustomizations (kustomize.toolkit.fluxcd.io), such as the
///     root of a GitOps repository: each of them is built with its path, patches, images,
///     components and variables, and so are those that they contain. Variables of
///     substituteFrom come from ConfigMaps and Secrets among the objects;
///   - any other directory: all YAML files below it, as Flux builds them;
///   - a file, or - for standard input: helm template … | weir check - --policies DIR
///
/// Policies are plain Rego files, and ConstraintTemplates with their constraints, from the
/// directories of --policies and from among the objects themselves. Objects that go to the same
/// cluster see each other as data.inventory.
///
/// Exit status: 0 when everything is allowed, 1 when something is denied, 2 when something could
/// not be decided.
#[derive(Debug, Clone, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Check {
    /// What to check: directories, files, or - for standard input.
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Directories or files with policies. Takes every argument that follows, so put PATH first.
    #[arg(long, value_name = "DIR", num_args = 1..)]
    pub policies: Vec<PathBuf>,
    /// How to print the answer.
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub output: Format,
    /// Says for every object which policies were asked, and why the others were not.
    #[arg(long)]
    pub explain: bool,
    /// The repository that PATH is part of: nothing outside of it is read, and spec.path of Flux Kustomizations begins
    /// there. When unset it is the Git work tree around PATH, or without one whatever PATH refers to.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// The render worker's binary; beside weir or on PATH when unset.
    #[arg(long, value_name = "FILE", env = "WEIR_RENDERER", hide_env_values = true)]
    pub renderer: Option<PathBuf>,
}

/// How the answer is printed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people; in colour on a terminal.
    #[default]
    Human,
    /// For scripts: verdict, summary, denials, warnings and errors.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for test reports.
    Junit,
    /// Annotations of GitHub Actions.
    Github,
}

/// Checks and prints.
///
/// # Errors
/// When it cannot begin, or the answer cannot be written.
pub async fn run(arguments: Check) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        !arguments.paths.is_empty(),
        "no PATH to check; name a directory or file, before --policies since that takes every argument after it"
    );
    let program = renderer::locate(arguments.renderer.as_deref())?;
    let pool = Pool::new(Options::new(program));
    let (output, report) = (arguments.output, report(arguments, &pool).await);
    pool.stop().await;
    let report = report?;
    match print(&report, output) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed.map_err(|error| anyhow::anyhow!("the answer cannot be written: {error}"))?,
    }
    Ok(match report.verdict {
        Verdict::Allowed => ExitCode::SUCCESS,
        Verdict::Denied => ExitCode::from(EXIT_DENIED),
        Verdict::Undecided => ExitCode::from(EXIT_ERROR),
    })
}

async fn report(arguments: Check, pool: &Pool) -> anyhow::Result<Report> {
    let renderer = tree::Renderer::new(pool.clone());
    let mut errors = Vec::new();
    let given = policies::read(&arguments.policies, &renderer, &mut errors).await;
    let gathered = gather::gather(&arguments.paths, arguments.root.as_deref(), &renderer, &mut errors).await;
    // Evaluation blocks, and needs the stack that blocking threads have.
    tokio::task::spawn_blocking(move || decide::decide(&given, gathered, errors, arguments.explain))
        .await
        .map_err(|error| anyhow::anyhow!("the policy evaluation ended unexpectedly: {error}"))
}

fn print(report: &Report, output: Format) -> io::Result<()> {
    let (mut out, mut err) = (anstream::stdout().lock(), anstream::stderr().lock());
    match output {
        Format::Human => human::write(&mut out, &mut err, report)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)?;
        }
        Format::Sarif => sarif::write(&mut out, report)?,
        Format::Junit => junit::write(&mut out, report)?,
        Format::Github => github::write(&mut out, report)?,
    }
    out.flush()?;
    if output != Format::Human {
        // A script may keep the answer for itself; people still see why there was none.
        for error in &report.errors {
            writeln!(err, "weir: {}", error.message)?;
        }
    }
    Ok(())
}
