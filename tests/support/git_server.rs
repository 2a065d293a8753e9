//! A Git server over HTTP, or HTTPS, for tests: `git http-backend` behind a few lines of HTTP, so that the Git part is Git's own.
//!
//! It can ask for credentials, redirect, fail, keep silent, stop and come back on its port, and it remembers what it was
//! asked. `Repo` makes repositories for it with the real `git`.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test binaries, each of which uses its part"
)]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// What the server does with a request.
#[derive(Clone, Default)]
pub enum Manner {
    /// Serves it.
    #[default]
    Serve,
    /// Serves it when the header `Authorization` has this value.
    Authorized(String),
    /// Sends it elsewhere: the path is appended.
    Redirect(String),
    /// Answers with a status and a body of HTML.
    Status(u16),
    /// Never answers.
    Silent,
}

struct Shared {
    root: PathBuf,
    tls: Option<Arc<ServerConfig>>,
    manner: Mutex<Manner>,
    log: Mutex<Vec<String>>,
    /// Connections that wait for an answer they never get; closed with the server.
    silent: Mutex<Vec<TcpStream>>,
    kept_silent: Condvar,
    stop: AtomicBool,
}

/// A server that ends when it is dropped.
pub struct GitServer {
    port: u16,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl GitServer {
    /// Serves the repositories below a directory.
    pub fn start(root: &Path) -> Self {
        Self::start_on(root, 0, None)
    }

    /// Serves them over TLS.
    pub fn start_tls(root: &Path, tls: ServerConfig) -> Self {
        Self::start_on(root, 0, Some(Arc::new(tls)))
    }

    fn start_on(root: &Path, port: u16, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            tls,
            manner: Mutex::default(),
            log: Mutex::default(),
            silent: Mutex::default(),
            kept_silent: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let accept = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accept.stop.load(Ordering::SeqCst) {
                    break;
                }
                let (shared, stream) = (Arc::clone(&accept), stream.unwrap());
                std::thread::spawn(move || {
                    // A client may hang up whenever it likes.
                    let _ = shared.answer(stream);
                });
            }
        });
        Self {
            port,
            shared,
            thread: Some(thread),
        }
    }

    /// The same server on the same port, after this one was stopped.
    pub fn restart(mut self) -> Self {
        self.stop();
        Self::start_on(&self.shared.root.clone(), self.port, self.shared.tls.clone())
    }

    /// Closes the port.
    pub fn stop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.silent.lock().unwrap().clear();
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    pub fn url(&self, path: &str) -> String {
        let scheme = if self.shared.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://127.0.0.1:{}/{path}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn behave(&self, manner: Manner) {
        *self.shared.manner.lock().unwrap() = manner;
    }

    /// Waits until somebody waits in vain.
    pub fn wait_until_silent(&self) {
        let silent = self.shared.silent.lock().unwrap();
        drop(
            self.shared
                .kept_silent
                .wait_while(silent, |silent| silent.is_empty())
                .unwrap(),
        );
    }

    /// What was asked since the last call: method, path and, in brackets, the header `Authorization`.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.log.lock().unwrap())
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    fn answer(&self, socket: TcpStream) -> std::io::Result<()> {
        let stream = socket.try_clone()?;
        match &self.tls {
            None => self.talk(stream, socket),
            Some(tls) => {
                let connection = ServerConnection::new(Arc::clone(tls)).unwrap();
                self.talk(StreamOwned::new(connection, stream), socket)
            }
        }
    }

    fn talk(&self, stream: impl Read + Write, socket: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = Request::read(&mut reader)? {
            self.log.lock().unwrap().push(format!(
                "{} {}{}",
                request.method,
                request.target,
                request
                    .authorization
                    .as_deref()
                    .map(|a| format!(" [{a}]"))
                    .unwrap_or_default()
            ));
            let manner = self.manner.lock().unwrap().clone();
            let connection = if request.close { "close" } else { "keep-alive" };
            let response = match manner {
                Manner::Silent => {
                    self.silent.lock().unwrap().push(socket);
                    self.kept_silent.notify_all();
                    return Ok(());
                }
                Manner::Status(status) => respond(status, "Content-Type: text/html\r\n", b"<html>"),
                Manner::Redirect(to) => respond(301, &format!("Location: {to}{}\r\n", request.target), b""),
                Manner::Authorized(value) if request.authorization.as_deref() != Some(&value) => {
                    let scheme = value.split(' ').next().unwrap_or_default();
                    respond(401, &format!("WWW-Authenticate: {scheme} realm=\"git\"\r\n"), b"")
                }
                _ => self.serve(&request)?,
            };
            let stream = reader.get_mut();
            stream.write_all(format!("HTTP/1.1 {} Status\r\nConnection: {connection}\r\n", response.0).as_bytes())?;
            stream.write_all(&response.1)?;
            stream.flush()?;
            if request.close {
                break;
            }
        }
        Ok(())
    }

    fn serve(&self, request: &Request) -> std::io::Result<(u16, Vec<u8>)> {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let mut child = git(&self.root)
            .arg("http-backend")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REQUEST_METHOD", &request.method)
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("CONTENT_TYPE", &request.content_type)
            .env("CONTENT_LENGTH", request.body.len().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut stdin = child.stdin.take().unwrap();
        let body = request.body.clone();
        let writer = std::thread::spawn(move || stdin.write_all(&body));
        let output = child.wait_with_output()?.stdout;
        let _ = writer.join();
        let end = output.windows(4).position(|w| w == b"\r\n\r\n").unwrap_or(output.len());
        let head = String::from_utf8_lossy(&output[..end]).into_owned();
        let status = head
            .lines()
            .find_map(|line| line.strip_prefix("Status: ")?.get(..3)?.parse().ok());
        let headers: String = head
            .lines()
            .filter(|line| !line.starts_with("Status: "))
            .map(|line| format!("{line}\r\n"))
            .collect();
        Ok(respond(
            status.unwrap_or(200),
            &headers,
            output.get(end + 4..).unwrap_or_default(),
        ))
    }
}

/// A status, and the rest of the head with the body.
fn respond(status: u16, headers: &str, body: &[u8]) -> (u16, Vec<u8>) {
    let head = format!("{headers}Content-Length: {}\r\n\r\n", body.len());
    (status, [head.as_bytes(), body].concat())
}

struct Request {
    method: String,
    target: String,
    authorization: Option<String>,
    close: bool,
    content_type: String,
    body: Vec<u8>,
}

impl Request {
    fn read(reader: &mut BufReader<impl Read>) -> std::io::Result<Option<Self>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut parts = line.split_whitespace().map(str::to_owned);
        let (method, target) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let mut request = Self {
            method,
            target,
            authorization: None,
            close: false,
            content_type: String::new(),
            body: Vec::new(),
        };
        let (mut length, mut chunked) = (0, false);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            let value = value.trim().to_owned();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.parse().unwrap(),
                "transfer-encoding" => chunked = value == "chunked",
                "content-type" => request.content_type = value,
                "connection" => request.close = value == "close",
                "authorization" => request.authorization = Some(value),
                _ => {}
            }
        }
        while chunked {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let size = u64::from_str_radix(line.trim(), 16).unwrap();
            reader.by_ref().take(size).read_to_end(&mut request.body)?;
            reader.read_line(&mut line)?;
            chunked = size > 0;
        }
        reader.by_ref().take(length).read_to_end(&mut request.body)?;
        Ok(Some(request))
    }
}

/// A repository with a work tree.
pub struct Repo {
    path: PathBuf,
}

impl Repo {
    /// A new repository `name` below a directory, on the branch `main`.
    pub fn new(root: &Path, name: &str) -> Self {
        let path = root.join(name);
        std::fs::create_dir_all(&path).unwrap();
        let repo = Self { path };
        repo.git(&["init", "--quiet", "--initial-branch=main"]);
        repo
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes files and commits them; gives the commit.
    pub fn commit(&self, files: &[(&str, &str)], message: &str) -> String {
        for (path, content) in files {
            let path = self.path.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        self.git(&["add", "--all"]);
        self.git(&["commit", "--quiet", "--allow-empty", "--message", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Runs git and gives what it prints.
    pub fn git(&self, args: &[&str]) -> String {
        let output = git(&self.path).args(args).output().unwrap();
        assert!(
            output.status.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }
}

/// `git` as on a machine without configuration.
fn git(directory: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .current_dir(directory)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "Ada")
        .env("GIT_AUTHOR_EMAIL", "ada@example.com")
        .env("GIT_COMMITTER_NAME", "Ada")
        .env("GIT_COMMITTER_EMAIL", "ada@example.com");
    command
}
