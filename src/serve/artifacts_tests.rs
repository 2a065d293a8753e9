//! The artifact server over HTTP, and attempts to leave the storage.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use super::*;
use crate::serve::server::bind;

/// A storage with one artifact, a secret beside it, a bare repository and links.
fn storage() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("data");
    let of = root.join("gitrepository/flux-system/apps");
    std::fs::create_dir_all(&of).unwrap();
    std::fs::create_dir_all(root.join("git/flux-system/apps")).unwrap();
    std::fs::write(of.join("abc.tar.gz"), b"0123456789").unwrap();
    std::fs::write(of.join(".abc.tar.gz.tmp"), b"half").unwrap();
    std::fs::write(root.join("git/flux-system/apps/config"), b"secret").unwrap();
    std::fs::write(dir.path().join("outside"), b"secret").unwrap();
    std::os::unix::fs::symlink(dir.path().join("outside"), of.join("out.tar.gz")).unwrap();
    std::os::unix::fs::symlink("/etc", root.join("gitrepository/flux-system/etc")).unwrap();
    std::os::unix::fs::symlink("abc.tar.gz", of.join("latest.tar.gz")).unwrap();
    (dir, root)
}

async fn serving(root: PathBuf) -> (Running, tokio::sync::oneshot::Sender<()>) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let listener = bind("--storage-addr", "127.0.0.1:0").unwrap();
    let shutdown = async move {
        let _ = stopped.await;
    };
    (start(listener, root, shutdown).await.unwrap(), stop)
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .tls_certs_only([])
        .build()
        .unwrap()
}

const APPS: &str = "/gitrepository/flux-system/apps";

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_is_served_whole_in_part_and_not_again() {
    let (_dir, root) = storage();
    let (running, stop) = serving(root).await;
    let url = format!("http://{}{APPS}/abc.tar.gz", running.address);
    let whole = client().get(&url).send().await.unwrap();
    let digest = "84d89877f0d4041efb6bf91a16f0248f2fd573e6af05c19f96bedb9f882f7882";
    let etag = whole.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag, format!("\"sha256:{digest}\""));
    assert_eq!(
        whole.headers()["repr-digest"],
        "sha-256=:hNiYd/DUBB77a/kaFvAkjy/Vc+avBcGflr7bn4gveII=:"
    );
    assert_eq!(whole.content_length(), Some(10));
    assert_eq!(whole.bytes().await.unwrap(), "0123456789");

    let part = client().get(&url).header("range", "bytes=4-6").send().await.unwrap();
    assert_eq!(
        (
            part.status().as_u16(),
            &part.headers()["content-range"].to_str().unwrap()
        ),
        (206, &"bytes 4-6/10")
    );
    assert_eq!(part.bytes().await.unwrap(), "456");
    let moved = client()
        .get(&url)
        .header("range", "bytes=4-")
        .header("if-range", "\"old\"")
        .send()
        .await
        .unwrap();
    assert_eq!(
        moved.bytes().await.unwrap(),
        "0123456789",
        "a part of another version is of no use"
    );
    let beyond = client().get(&url).header("range", "bytes=10-").send().await.unwrap();
    assert_eq!(beyond.status(), 416);

    let head = client().head(&url).send().await.unwrap();
    assert_eq!(
        (
            head.status().as_u16(),
            &head.headers()["content-length"].to_str().unwrap()
        ),
        (200, &"10")
    );
    assert_eq!(head.bytes().await.unwrap(), "");
    let again = client().get(&url).header("if-none-match", &etag).send().await.unwrap();
    assert_eq!(again.status(), 304);
    assert_eq!(client().delete(&url).send().await.unwrap().status(), 405);
    let linked = format!("http://{}{APPS}/latest.tar.gz", running.address);
    assert_eq!(
        client().get(linked).send().await.unwrap().bytes().await.unwrap(),
        "0123456789"
    );
    stop.send(()).unwrap();
    running.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_artifact_is_streamed_unchanged() {
    let (_dir, root) = storage();
    let content: Vec<u8> = (0..5_000_003_u32).map(|number| (number % 251) as u8).collect();
    std::fs::write(root.join("gitrepository/flux-system/apps/big.tar.gz"), &content).unwrap();
    let (running, _stop) = serving(root).await;
    let url = format!("http://{}{APPS}/big.tar.gz", running.address);
    assert!(client().get(&url).send().await.unwrap().bytes().await.unwrap() == content);
    let tail = client()
        .get(&url)
        .header("range", "bytes=-100000")
        .send()
        .await
        .unwrap();
    assert!(tail.bytes().await.unwrap() == content[content.len() - 100_000..]);
}

/// Sends a request line as it is: a client library would clean the path.
fn raw_status(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(
        !text.contains("secret") && !text.contains("root:"),
        "{path} leaked: {text}"
    );
    text.split(' ').nth(1).unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_artifacts_can_be_reached() {
    let (_dir, root) = storage();
    let (running, _stop) = serving(root).await;
    for path in [
        "/",
        "/gitrepository",
        "/gitrepository/flux-system/apps/",
        "/gitrepository/flux-system/apps/none.tar.gz",
        "/gitrepository/flux-system/apps/abc.tar.gz/x",
        "/gitrepository/flux-system/apps/.abc.tar.gz.tmp",
        "/gitrepository/flux-system/apps/out.tar.gz",
        "/gitrepository/flux-system/etc/passwd",
        "/git/flux-system/apps/config",
        "/gitrepository/../../outside",
        "/gitrepository/../git/flux-system",
        "/gitrepository/flux-system/apps/../../../../outside",
        "/gitrepository/flux-system/apps/..%2f..%2f..%2f..%2foutside",
        "/gitrepository/%2e%2e/%2e%2e/outside",
        "/gitrepository/..%5c../x/outside",
        "//etc/passwd",
        "/gitrepository/flux-system//etc/passwd",
        "/gitrepository/flux-system/apps/abc.tar.gz%00.txt",
    ] {
        assert_eq!(raw_status(running.address, path), "404", "{path}");
    }
}

#[test]
fn ranges_are_read_as_http_says() {
    let check = |text: &str, expect: Range| assert_eq!(range(text, 10), expect, "{text}");
    check("bytes=0-3", Range::Part { first: 0, last: 3 });
    check("bytes=8-100", Range::Part { first: 8, last: 9 });
    check("bytes=8-", Range::Part { first: 8, last: 9 });
    check("bytes=-4", Range::Part { first: 6, last: 9 });
    check("bytes=-40", Range::Part { first: 0, last: 9 });
    check("bytes=10-", Range::Unsatisfiable);
    check("bytes=-0", Range::Unsatisfiable);
    for text in ["bytes=5-2", "bytes=0-1,4-5", "items=0-1", "bytes=", "bytes=a-b", ""] {
        check(text, Range::Whole);
    }
    assert_eq!(range("bytes=0-", 0), Range::Unsatisfiable);
}
