//! An HTTP proxy for tests: CONNECT and nothing else, with a password if wanted. It remembers what it was asked for.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test binaries, each of which uses its part"
)]

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// A proxy that ends when it is dropped.
pub struct ConnectProxy {
    port: u16,
    log: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl ConnectProxy {
    /// Starts one that wants this value of `Proxy-Authorization`, if any.
    pub fn start(authorization: Option<&str>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (log, stop) = (Arc::<Mutex<Vec<String>>>::default(), Arc::new(AtomicBool::new(false)));
        let (told, stopped, wanted) = (Arc::clone(&log), Arc::clone(&stop), authorization.map(str::to_owned));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                let (stream, told, wanted) = (stream.unwrap(), Arc::clone(&told), wanted.clone());
                std::thread::spawn(move || {
                    // A client may hang up whenever it likes.
                    let _ = tunnel(stream, wanted.as_deref(), &told);
                });
            }
        });
        Self {
            port,
            log,
            stop,
            thread: Some(thread),
        }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What was asked for since the last call, as `host:port`.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.log.lock().unwrap())
    }
}

impl Drop for ConnectProxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn tunnel(mut stream: TcpStream, wanted: Option<&str>, log: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut shown = None;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        if name.eq_ignore_ascii_case("proxy-authorization") {
            shown = Some(value.to_owned());
        }
    }
    if wanted.is_some() && wanted != shown.as_deref() {
        return stream.write_all(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    }
    let target = first.split(' ').nth(1).unwrap_or_default().to_owned();
    log.lock().unwrap().push(target.clone());
    let Ok(server) = TcpStream::connect(&target) else {
        return stream.write_all(b"HTTP/1.1 502 Bad Gateway\r\n\r\n");
    };
    stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut from_client, mut to_server) = (stream.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let mut from_server = server;
    let _ = std::io::copy(&mut from_server, &mut stream);
    let _ = stream.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}
