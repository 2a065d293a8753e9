//! Finds the render worker's binary.

use std::path::{Path, PathBuf};

/// Name of the binary beside `weir` and on PATH.
const NAME: &str = "weir-renderer";

/// The binary that was named, else the one beside this program, else the one on PATH.
///
/// # Errors
/// Says where it was looked for.
pub(super) fn locate(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        anyhow::ensure!(
            path.is_file(),
            "render worker {} does not exist; give its path with --renderer",
            path.display()
        );
        return Ok(path.to_owned());
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|path| Some(path.parent()?.join(NAME)));
    let on_path = std::env::var_os("PATH");
    let candidates = beside.into_iter().chain(
        on_path
            .iter()
            .flat_map(std::env::split_paths)
            .map(|directory| directory.join(NAME)),
    );
    candidates.into_iter().find(|path| path.is_file()).ok_or_else(|| {
        anyhow::anyhow!("render worker {NAME} is neither beside weir nor on PATH; give its path with --renderer")
    })
}
