//! What `--events-addr` gets, in place of Flux's notification-controller.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::eventually;
use crate::world::{Setup, config_map};

type Notices = Arc<Mutex<Vec<Value>>>;

/// A listener that takes everything; gives its URL, and what it has been told so far.
async fn listener() -> (String, Notices) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let notices = Notices::default();
    let told = Arc::clone(&notices);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(take(stream, Arc::clone(&told)));
        }
    });
    (address, notices)
}

/// Reads requests with JSON, one after the other, and accepts them.
async fn take(mut stream: TcpStream, notices: Notices) {
    let mut seen = Vec::new();
    loop {
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(read) => seen.extend_from_slice(&buffer[..read]),
        }
        let text = String::from_utf8_lossy(&seen).into_owned();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
        if Some(body.len()) != length {
            continue;
        }
        assert!(head.starts_with("POST / HTTP/1.1"), "{head}");
        notices.lock().unwrap().push(serde_json::from_str(body).unwrap());
        seen.clear();
        stream
            .write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
            .await
            .unwrap();
    }
}

/// Waits for a notice about an object with this reason whose message has this part.
async fn notice(notices: &Notices, name: &str, reason: &str, part: &str) -> Value {
    eventually(&format!("a notice {reason} about {name} with {part:?}"), async || {
        let all = notices.lock().unwrap().clone();
        let fits = |one: &&Value| {
            one["involvedObject"]["name"] == name
                && one["reason"] == reason
                && one["message"].as_str().unwrap().contains(part)
        };
        all.iter().find(fits).cloned().ok_or(format!("{all:#?}"))
    })
    .await
}

#[tokio::test]
async fn who_listens_is_told_of_everything_that_happens_even_of_a_revision_that_changes_nothing() {
    let Some(setup) = Setup::new("notices").await else {
        return;
    };
    let (address, notices) = listener().await;
    let world = setup
        .with_arguments(&[&format!("--events-addr={address}")])
        .start()
        .await;
    let first = world.commit(&[
        ("app/settings.yaml", &config_map("settings", "one")),
        ("other/settings.yaml", &config_map("other", "one")),
    ]);
    world.source(json!({})).await;
    for name in ["app", "other"] {
        world.kustomization(name, json!({"path": format!("./{name}")})).await;
        world.ready(name, &first).await;
    }
    let stored = notice(
        &notices,
        "app",
        "NewArtifact",
        "stored artifact for commit 'Change app/settings.yaml'",
    )
    .await;
    assert_eq!(
        (&stored["severity"], &stored["reportingController"]),
        (&json!("info"), &json!("source-controller"))
    );
    assert_eq!(
        stored["metadata"]["source.toolkit.fluxcd.io/revision"],
        format!("main@sha1:{first}")
    );
    let applied = notice(&notices, "app", "Progressing", "ConfigMap/").await;
    assert_eq!(applied["involvedObject"]["kind"], "Kustomization");
    notice(
        &notices,
        "app",
        "ReconciliationSucceeded",
        "Reconciliation finished in ",
    )
    .await;

    // A commit that only concerns the other one: the cluster gets no event of it for this one, who listens does.
    let second = world.commit(&[("other/settings.yaml", &config_map("other", "two"))]);
    world.ready("app", &second).await;
    let revision = format!("main@sha1:{second}");
    let finished = eventually("a notice of the revision that changed nothing", async || {
        let all = notices.lock().unwrap().clone();
        let fits = |one: &&Value| {
            let marks = &one["metadata"];
            one["involvedObject"]["name"] == "app"
                && one["reason"] == "ReconciliationSucceeded"
                && marks["kustomize.toolkit.fluxcd.io/revision"] == revision.as_str()
        };
        all.iter().find(fits).cloned().ok_or(format!("{all:#?}"))
    })
    .await;
    assert_eq!(
        finished["metadata"]["kustomize.toolkit.fluxcd.io/commit_status"],
        "update"
    );
    assert_eq!(finished["severity"], "info");

    // A failure, in full.
    world.commit(&[("app/broken.yaml", "kind: [")]);
    let failed = notice(&notices, "app", "BuildFailed", "app/broken.yaml").await;
    assert_eq!(failed["severity"], "error");
    let (_, message) = world.not_ready("app", "BuildFailed").await;
    assert_eq!(failed["message"], message);
}
