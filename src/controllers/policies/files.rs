//! Watches `--policy-dir` by reading it again now and then.

use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::Seen;
use crate::source::policy_dir;

/// How often the directory is read. A ConfigMap volume follows its object within about a minute, so this adds little.
const POLL: Duration = Duration::from_secs(2);

/// Sends the files at once and whenever they changed. A directory that cannot be read keeps what was read last; at start
/// it keeps Weir from becoming ready, since policies that are asked for must not be missing in silence.
pub(super) async fn watch(directory: Option<PathBuf>, sender: mpsc::Sender<Seen>, shutdown: CancellationToken) {
    let Some(directory) = directory else {
        // Nobody listening means that the process is stopping.
        let _ = sender.send(Seen::Files(Vec::new())).await;
        return;
    };
    let mut last = None;
    let mut failing = false;
    while !shutdown.is_cancelled() {
        let path = directory.clone();
        match tokio::task::spawn_blocking(move || policy_dir::read(&path)).await {
            Ok(Ok(files)) => {
                failing = false;
                if last.as_ref() != Some(&files) {
                    last = Some(files.clone());
                    if sender.send(Seen::Files(files)).await.is_err() {
                        return;
                    }
                }
            }
            Ok(Err(error)) if !failing => {
                failing = true;
                tracing::error!(error = %error, "policies not read; those in force stay");
            }
            _ => {}
        }
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(POLL) => {}
        }
    }
}
