//! OpenSSH's own server for tests, on loopback, for the user who runs the tests, with keys made for the occasion.
//!
//! A machine without `sshd` has none of these tests: `Sshd::start` then says what is missing and gives nothing.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::print_stderr,
    reason = "a module of several test binaries, each of which uses its part; a test that is left out says so"
)]

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start.
const START: Duration = Duration::from_secs(20);

/// Where sshd may be; it must be called by its full path.
const PLACES: [&str; 3] = ["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];

/// A server that ends when it is dropped.
pub struct Sshd {
    directory: PathBuf,
    port: u16,
    process: Child,
}

impl Sshd {
    /// Starts one with host keys of these kinds, below a directory of its own.
    pub fn start(directory: &Path, host_keys: &[&str]) -> Option<Self> {
        let Some(sshd) = PLACES.into_iter().find(|place| Path::new(place).is_file()) else {
            eprintln!("left out: sshd is not installed; `apt-get install openssh-server` would let this test run");
            return None;
        };
        // Run by root, it insists on this folder, which only a started service would have made.
        if user_id() == "0" && fs::create_dir_all("/run/sshd").is_err() {
            eprintln!("left out: sshd needs the folder /run/sshd, which cannot be made here");
            return None;
        }
        let directory = directory.join("sshd");
        fs::create_dir_all(&directory).unwrap();
        let port = TcpListener::bind(("127.0.0.1", 0))
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut config = format!(
            "ListenAddress 127.0.0.1:{port}\nPidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\n\
             PermitRootLogin prohibit-password\nAuthorizedKeysFile {}\nMaxStartups 100\n",
            directory.join("authorized").display()
        );
        for kind in host_keys {
            let file = directory.join(format!("host_{kind}"));
            keygen(&["-q", "-t", kind, "-N", "", "-f"], &file);
            config.push_str(&format!("HostKey {}\n", file.display()));
        }
        fs::write(directory.join("authorized"), "").unwrap();
        fs::write(directory.join("config"), config).unwrap();
        let log = fs::File::create(directory.join("log")).unwrap();
        let process = Command::new(sshd)
            .args(["-D", "-e", "-f"])
            .arg(directory.join("config"))
            .stdin(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut started = Self {
            directory,
            port,
            process,
        };
        let deadline = Instant::now() + START;
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = started.process.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < deadline, "sshd: {}", started.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(started)
    }

    /// The address of a repository on disk.
    pub fn url(&self, repository: &Path) -> String {
        format!("ssh://{}@127.0.0.1:{}{}", user(), self.port, repository.display())
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// A line of `known_hosts` with the host key of a kind.
    pub fn known_hosts(&self, kind: &str) -> String {
        let key = fs::read_to_string(self.directory.join(format!("host_{kind}.pub"))).unwrap();
        format!("[127.0.0.1]:{} {key}", self.port)
    }

    /// The same with the name hashed, as `HashKnownHosts` has it.
    pub fn hashed_known_hosts(&self, kind: &str) -> String {
        let file = self.directory.join("hashed");
        fs::write(&file, self.known_hosts(kind)).unwrap();
        keygen(&["-q", "-H", "-f"], &file);
        fs::read_to_string(file).unwrap()
    }

    /// A new private key that may log in.
    pub fn login(&self, arguments: &[&str]) -> String {
        let key = self.stranger(arguments);
        let mut authorized = fs::read_to_string(self.directory.join("authorized")).unwrap();
        authorized.push_str(&fs::read_to_string(self.directory.join("key.pub")).unwrap());
        fs::write(self.directory.join("authorized"), authorized).unwrap();
        key
    }

    /// A new private key that may not.
    pub fn stranger(&self, arguments: &[&str]) -> String {
        let file = self.directory.join("key");
        for old in [file.clone(), self.directory.join("key.pub")] {
            let _ = fs::remove_file(old);
        }
        keygen(
            &[&["-q", "-f", file.to_str().unwrap()], arguments].concat(),
            Path::new(""),
        );
        fs::read_to_string(file).unwrap()
    }

    /// What it said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn keygen(arguments: &[&str], file: &Path) {
    let mut command = Command::new("ssh-keygen");
    command.args(arguments);
    if file != Path::new("") {
        command.arg(file);
    }
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(
        output.status.success(),
        "ssh-keygen {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn user_id() -> String {
    id("-u")
}

fn user() -> String {
    id("-un")
}

fn id(what: &str) -> String {
    let output = Command::new("id").arg(what).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}
