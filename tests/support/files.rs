//! A server of files for tests: what a path answers may change at any time, and every question is counted.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a module of several test binaries, each of which uses its part"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

/// What is answered, by path: HTTP status and content.
type Answers = Arc<Mutex<HashMap<String, (u16, Vec<u8>)>>>;

/// A server that ends when it is dropped.
pub struct FileServer {
    port: u16,
    answers: Answers,
    asked: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl FileServer {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (answers, asked) = (Answers::default(), Arc::<Mutex<Vec<String>>>::default());
        let stop = Arc::new(AtomicBool::new(false));
        let (known, told, stopped) = (Arc::clone(&answers), Arc::clone(&asked), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) {
                    break;
                }
                // A client may hang up whenever it likes.
                let _ = answer(stream.unwrap(), &known, &told);
            }
        });
        Self {
            port,
            answers,
            asked,
            stop,
            thread: Some(thread),
        }
    }

    /// From now on a path answers so; gives its URL.
    pub fn serve(&self, path: &str, status: u16, content: &[u8]) -> String {
        let path = format!("/{path}");
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        self.answers.lock().unwrap().insert(path, (status, content.to_vec()));
        url
    }

    /// How often a path was asked for.
    pub fn asked(&self, path: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|one| one.trim_start_matches('/') == path).count()
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn answer(mut stream: TcpStream, answers: &Answers, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
    }
    let path = first.split(' ').nth(1).unwrap_or_default().to_owned();
    let found = answers.lock().unwrap().get(&path).cloned();
    let (status, content) = found.unwrap_or((404, Vec::new()));
    asked.lock().unwrap().push(path);
    let length = content.len();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(&content)
}
