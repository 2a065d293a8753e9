//! The real binary, `weir run`, as a process of a test.
//!
//! Guarantees: the process is killed when its value is dropped; when the test fails its log is shown.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of test binaries, each of which uses its part"
)]

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::{eventually, within};

/// How many lines of the log a failing test shows.
const SHOWN_LINES: usize = 60;

/// A running `weir run`.
pub struct Weir {
    child: Child,
    log: PathBuf,
}

impl Weir {
    /// Starts it, with its storage and log in a directory, and waits until it is ready.
    pub async fn start(directory: &Path, kubeconfig: &Path, arguments: &[String]) -> Self {
        let log = directory.join("weir.log");
        let file = File::create(&log).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_weir"))
            // Both on one port, which it chooses and logs.
            .args([
                "run",
                "--storage-addr=127.0.0.1:0",
                "--metrics-addr=127.0.0.1:0",
                "--health-addr=127.0.0.1:0",
            ])
            .arg("--kubeconfig")
            .arg(kubeconfig)
            .arg("--storage-path")
            .arg(directory.join("storage"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut weir = Self { child, log };
        eventually("weir is ready", async || {
            assert!(weir.child.try_wait().unwrap().is_none(), "weir ended by itself");
            let address = weir.address().ok_or("not listening")?;
            get(&format!("http://{address}/readyz")).await
        })
        .await;
        weir
    }

    /// Where it tells of itself.
    fn address(&self) -> Option<String> {
        let found = self
            .lines()
            .find(|line| line["msg"] == "listening" && line["flag"] == "--metrics-addr")?;
        Some(found["address"].as_str()?.to_owned())
    }

    /// All metrics.
    pub async fn metrics(&self) -> String {
        let address = self.address().unwrap();
        get(&format!("http://{address}/metrics")).await.unwrap()
    }

    /// What it logged.
    pub fn lines(&self) -> impl Iterator<Item = Value> {
        let text = std::fs::read_to_string(&self.log).unwrap();
        let lines: Vec<Value> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        lines.into_iter()
    }

    /// Tells it to stop and says how it ended; it must not take longer than so much.
    pub async fn terminate(&mut self, patience: Duration) -> ExitStatus {
        signal(self.child.id(), "TERM");
        within(patience, "weir stops", async || {
            self.child.try_wait().unwrap().ok_or("it still runs".to_owned())
        })
        .await
    }
}

impl Drop for Weir {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let text = std::fs::read_to_string(&self.log).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let shown = lines.get(lines.len().saturating_sub(SHOWN_LINES)..).unwrap_or_default();
            eprintln!("the last lines of weir:\n{}", shown.join("\n"));
        }
    }
}

/// Sends a signal to a process that a test started.
pub fn signal(process: u32, signal: &str) {
    let status = Command::new("kill")
        .arg(format!("-{signal}"))
        .arg(process.to_string())
        .status();
    assert!(status.unwrap().success(), "kill -{signal} {process}");
}

async fn get(url: &str) -> Result<String, String> {
    let response = reqwest::get(url).await.map_err(|error| error.to_string())?;
    let status = response.status();
    let text = response.text().await.map_err(|error| error.to_string())?;
    if status.is_success() { Ok(text) } else { Err(text) }
}
