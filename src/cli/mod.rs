//! The command line: one file for each command. The only room that prints.

pub mod check;
mod declared;
pub mod drift;
pub mod freeze;
pub mod install;
mod renderer;
pub mod run;
pub mod test;
pub mod why;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// What scripts see when something could not be done, as opposed to `1`, "denied".
const EXIT_ERROR: u8 = 2;
/// Stacks of threads that may block: any of them may evaluate policies.
const BLOCKING_STACK: usize = crate::policy::STACK;
/// How long threads that block may still take at the end. What must end well has been waited for before; a Git server that
/// stays silent would hold its thread until the fetch times out.
const LEFT_BEHIND: Duration = Duration::from_millis(500);

/// A gate between Git and a Kubernetes cluster.
///
/// Weir reconciles Flux's objects and enforces Gatekeeper's policies in one process: what is in Git passes every policy
/// before any of it is applied, and what did not come through Git is stopped at the API server's door.
#[derive(Debug, Parser)]
#[command(name = "weir", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Run>),
    Check(check::Check),
    Drift(drift::Drift),
    Why(why::Why),
    Freeze(freeze::FreezeArguments),
    Unfreeze(freeze::Unfreeze),
    Test(test::Test),
    Install(install::Install),
}

/// Runs the command that the arguments name.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Run(arguments) => block_on(run::run(*arguments)).map(|()| ExitCode::SUCCESS),
        Command::Check(arguments) => block_on(check::run(arguments)),
        Command::Drift(arguments) => block_on(drift::run(arguments)),
        Command::Why(arguments) => block_on(why::run(arguments)),
        Command::Freeze(arguments) => block_on(freeze::freeze(arguments)),
        Command::Unfreeze(arguments) => block_on(freeze::unfreeze(arguments)),
        Command::Test(arguments) => block_on(test::run(arguments)),
        Command::Install(_) => install::export(&mut anstream::stdout())
            .map(|()| ExitCode::SUCCESS)
            .map_err(anyhow::Error::from),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            let mut stderr = anstream::stderr();
            // Nothing can be said when standard error is gone.
            let _ = writeln!(stderr, "weir: {error:#}");
            ExitCode::from(EXIT_ERROR)
        }
    }
}

fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(BLOCKING_STACK)
        .build()
        .map_err(|error| anyhow::anyhow!("cannot start threads: {error}"))?;
    let result = runtime.block_on(future);
    runtime.shutdown_timeout(LEFT_BEHIND);
    result
}
