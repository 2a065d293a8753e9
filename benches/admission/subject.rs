//! The process that is measured, seen through `/proc`.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::cluster::{GATEKEEPER, GATEKEEPER_POD};

/// How long starting may take.
const START: Duration = Duration::from_secs(180);
/// Linux counts processor time in these (`getconf CLK_TCK`, 100 on every platform that Weir runs on).
const TICK: Duration = Duration::from_millis(10);

/// A running webhook; killed when dropped.
pub(crate) struct Subject {
    pub(crate) name: &'static str,
    pub(crate) address: SocketAddr,
    /// Where it validates.
    pub(crate) path: &'static str,
    child: Child,
}

impl Subject {
    /// All of Weir, as it is shipped.
    pub(crate) fn weir(folder: &Path) -> Self {
        let (address, health) = (free(), free());
        let log = folder.join("weir.log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_weir"));
        command
            .args(["run", "--storage-addr=127.0.0.1:0"])
            .arg(format!("--webhook-addr={address}"))
            .arg(format!("--webhook-url=https://{address}"))
            .arg(format!("--metrics-addr={health}"))
            .arg(format!("--health-addr={health}"))
            .arg("--storage-path")
            .arg(folder.join("storage"))
            .arg("--kubeconfig")
            .arg(std::env::var_os("WEIR_TEST_KUBECONFIG").unwrap());
        Self::start("weir", "/validate?timeout=30s", address, health, command, &log)
    }

    /// Gatekeeper's webhook with the flags of its chart, but for the certificate, which is ours.
    pub(crate) fn gatekeeper(folder: &Path, binary: &Path) -> Self {
        let (address, health) = (free(), free());
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        fs::write(folder.join("tls.crt"), made.cert.pem()).unwrap();
        fs::write(folder.join("tls.key"), made.signing_key.serialize_pem()).unwrap();
        let log = folder.join("gatekeeper.log");
        let mut command = Command::new(binary);
        command
            .args([
                "--operation=webhook",
                "--operation=generate",
                "--operation=mutation-webhook",
            ])
            .args([
                "--logtostderr",
                "--log-denies=false",
                "--log-level=INFO",
                "--prometheus-port=0",
            ])
            .args(["--disable-cert-rotation", "--host=127.0.0.1"])
            .arg(format!("--exempt-namespace={GATEKEEPER}"))
            .arg(format!("--port={}", address.port()))
            .arg(format!("--health-addr={health}"))
            .arg(format!("--cert-dir={}", folder.display()))
            .env("KUBECONFIG", std::env::var_os("WEIR_TEST_KUBECONFIG").unwrap())
            .env("POD_NAME", GATEKEEPER_POD)
            .env("POD_NAMESPACE", GATEKEEPER);
        Self::start("gatekeeper", "/v1/admit?timeout=30s", address, health, command, &log)
    }

    fn start(
        name: &'static str,
        path: &'static str,
        address: SocketAddr,
        health: SocketAddr,
        mut command: Command,
        log: &Path,
    ) -> Self {
        let file = File::create(log).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        let mut subject = Self {
            name,
            address,
            path,
            child,
        };
        let deadline = Instant::now() + START;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let ready = format!("http://{health}/readyz");
        while !runtime.block_on(async {
            reqwest::get(&ready)
                .await
                .is_ok_and(|answer| answer.status().is_success())
        }) {
            let shown = || fs::read_to_string(log).unwrap_or_default();
            assert!(
                subject.child.try_wait().unwrap().is_none(),
                "{name} ended by itself:\n{}",
                shown()
            );
            assert!(Instant::now() < deadline, "{name} does not get ready:\n{}", shown());
            std::thread::sleep(Duration::from_millis(100));
        }
        subject
    }

    /// Processor time so far.
    pub(crate) fn cpu(&self) -> Duration {
        let text = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // Fields are counted behind the name, which may hold anything but ends at the last parenthesis.
        let fields: Vec<&str> = text.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let number = |at: usize| fields[at].parse::<u32>().unwrap();
        TICK * (number(11) + number(12))
    }

    /// Resident MiB.
    pub(crate) fn resident(&self) -> f64 {
        self.status("VmRSS:")
    }

    /// Resident MiB at most.
    pub(crate) fn peak(&self) -> f64 {
        self.status("VmHWM:")
    }

    fn status(&self, key: &str) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(key)).unwrap();
        line.trim().trim_end_matches("kB").trim().parse::<f64>().unwrap() / 1024.0
    }

    /// Ends it.
    pub(crate) fn stop(&mut self) {
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

fn free() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap()
}
