//! `weir test`: Gatekeeper's suites and tests written in Rego.
//!
//! Flow: `gather` finds and reads them, `run` runs them on all cores, `report` prints. YAML goes through the render worker,
//! which reads it as Kubernetes' own tools do, so that an object means in a test what it means in the cluster; a run without
//! any suite needs no worker.

mod gather;
mod report;
mod run;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use super::EXIT_ERROR;

/// What scripts see when a test failed.
const EXIT_FAILED: u8 = 1;

/// Runs the tests of policies.
///
/// Found below each PATH are
///
///   - suites: YAML files of test.gatekeeper.sh/v1alpha1, run as gator verify runs them;
///   - tests in Rego: rules named test_…, run as opa test runs them, with every .rego file below all
///     PATHs loaded.
///
/// The last line is "N passed, N failed".
///
/// Exit status: 0 when no test failed, 1 when one did, 2 when something could not be run.
#[derive(Debug, Clone, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Test {
    /// Directories or files with tests.
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Runs only tests whose name matches: TEST/CASE of a suite, package.test_rule in Rego.
    #[arg(long, value_name = "REGEX")]
    pub run: Option<regex::Regex>,
    /// Says which lines of the policies the tests evaluated.
    #[arg(long)]
    pub coverage: bool,
    /// Names tests that passed too.
    #[arg(long, short)]
    pub verbose: bool,
    /// The render worker's binary; beside weir or on PATH when unset.
    #[arg(long, value_name = "FILE", env = "WEIR_RENDERER", hide_env_values = true)]
    pub renderer: Option<PathBuf>,
}

/// Runs and prints.
///
/// # Errors
/// When what came of it cannot be printed.
pub async fn run(arguments: Test) -> anyhow::Result<ExitCode> {
    let gathered = gather::gather(&arguments.paths, arguments.renderer.as_deref()).await;
    let (wanted, coverage) = (arguments.run.clone(), arguments.coverage);
    // Threads of the run have stacks of their own; this one only waits for them.
    let tested = tokio::task::spawn_blocking(move || run::run(gathered, wanted.as_ref(), coverage))
        .await
        .map_err(|error| anyhow::anyhow!("the run ended unexpectedly: {error}"))?;
    let printed = report::write(
        &mut anstream::stdout().lock(),
        &mut anstream::stderr().lock(),
        &tested,
        arguments.verbose,
    );
    match printed {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        printed => printed.map_err(|error| anyhow::anyhow!("the results cannot be written: {error}"))?,
    }
    Ok(match (tested.errors.is_empty(), tested.failed()) {
        (false, _) => ExitCode::from(EXIT_ERROR),
        (true, 0) => ExitCode::SUCCESS,
        (true, _) => ExitCode::from(EXIT_FAILED),
    })
}
