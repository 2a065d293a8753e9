//! Finds the render workers' binaries.

use std::path::{Path, PathBuf};

/// Name of the binary beside `weir` and on PATH.
const NAME: &str = "weir-renderer";
/// Name of the one that decrypts.
const DECRYPTING: &str = "weir-renderer-sops";
/// Names that binary for commands without a flag for it.
const VARIABLE: &str = "WEIR_SOPS_RENDERER";

/// The binary that was named, else the one beside this program, else the one on PATH.
///
/// # Errors
/// Says where it was looked for.
pub(super) fn locate(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    find(named, NAME, "--renderer")?.ok_or_else(|| {
        anyhow::anyhow!("render worker {NAME} is neither beside weir nor on PATH; give its path with --renderer")
    })
}

/// The same for the worker that decrypts, which may be missing.
///
/// # Errors
/// When the one that was named does not exist.
pub(super) fn locate_decrypting(named: Option<&Path>) -> anyhow::Result<Option<PathBuf>> {
    let by_environment = std::env::var_os(VARIABLE).map(PathBuf::from);
    find(named.or(by_environment.as_deref()), DECRYPTING, "--sops-renderer")
}

fn find(named: Option<&Path>, name: &str, flag: &str) -> anyhow::Result<Option<PathBuf>> {
    if let Some(path) = named {
        anyhow::ensure!(
            path.is_file(),
            "render worker {} does not exist; give its path with {flag}",
            path.display()
        );
        return Ok(Some(path.to_owned()));
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.join(name)));
    let on_path = std::env::var_os("PATH");
    let candidates = beside.into_iter().chain(
        on_path
            .iter()
            .flat_map(std::env::split_paths)
            .map(|directory| directory.join(name)),
    );
    Ok(candidates.into_iter().find(|path| path.is_file()))
}
