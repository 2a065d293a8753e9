//! Notices: their form, and a listener that is away, comes back, or refuses.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ObjectReference;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

fn event(message: &str) -> NewEvent {
    NewEvent {
        involved: ObjectReference {
            api_version: Some("kustomize.toolkit.fluxcd.io/v1".into()),
            kind: Some("Kustomization".into()),
            name: Some("apps".into()),
            namespace: Some("flux-system".into()),
            ..ObjectReference::default()
        },
        severity: Severity::Warning,
        reason: "BuildFailed".into(),
        message: message.into(),
        annotations: BTreeMap::from([("kustomize.toolkit.fluxcd.io/revision".into(), "main@sha1:1".into())]),
        component: "kustomize-controller",
    }
}

#[test]
fn a_notice_has_flux_s_form_and_the_whole_message() {
    let long = "x".repeat(5000);
    let at = "2026-01-02T03:04:05.678Z".parse().unwrap();
    assert_eq!(
        notice(&event(&long), "host", at),
        json!({
            "involvedObject": {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "name": "apps",
                "namespace": "flux-system"},
            "severity": "error", "timestamp": "2026-01-02T03:04:05Z", "message": long, "reason": "BuildFailed",
            "metadata": {"kustomize.toolkit.fluxcd.io/revision": "main@sha1:1"},
            "reportingController": "kustomize-controller", "reportingInstance": "host",
        })
    );
    let bare = NewEvent {
        annotations: BTreeMap::new(),
        severity: Severity::Normal,
        ..event("done")
    };
    let bare = notice(&bare, "host", at);
    assert_eq!((bare.get("metadata"), &bare["severity"]), (None, &json!("info")));
}

#[test]
fn only_plain_http_leads_to_a_listener() {
    let check = |address: &str, expect: Option<(&str, u16, &str)>| {
        let line = Line::to(address);
        let found = line
            .as_ref()
            .ok()
            .map(|line| (line.host.as_str(), line.port, line.path.as_str()));
        assert_eq!(found, expect, "{address}");
    };
    check(
        "http://notification-controller./",
        Some(("notification-controller.", 80, "/")),
    );
    check("http://127.0.0.1:9090", Some(("127.0.0.1", 9090, "/")));
    check("http://[::1]:9090/events", Some(("::1", 9090, "/events")));
    check("https://somewhere/", None);
    check("somewhere", None);
    check("", None);
}

/// Answers each request of one connection with the next status, and gives what was asked for.
async fn listen(listener: &TcpListener, statuses: &[u16]) -> Vec<String> {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bodies = Vec::new();
    for status in statuses {
        let mut seen = Vec::new();
        let body = loop {
            let mut buffer = [0; 4096];
            let read = stream.read(&mut buffer).await.unwrap();
            assert_ne!(
                read,
                0,
                "the connection ended early: {}",
                String::from_utf8_lossy(&seen)
            );
            seen.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&seen).into_owned();
            if let Some((_, body)) = text.split_once("\r\n\r\n").filter(|(_, body)| body.ends_with('}')) {
                break body.to_owned();
            }
        };
        bodies.push(body);
        let answer = format!("HTTP/1.1 {status} Said\r\ncontent-length: 2\r\n\r\nok");
        stream.write_all(answer.as_bytes()).await.unwrap();
    }
    bodies
}

fn messages(bodies: &[String]) -> Vec<String> {
    let message = |body: &String| {
        let value: serde_json::Value = serde_json::from_str(body).unwrap();
        value["message"].as_str().unwrap().to_owned()
    };
    bodies.iter().map(message).collect()
}

#[tokio::test]
async fn notices_come_in_their_order_over_one_connection_and_none_twice() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let metrics = Metrics::new().unwrap();
    let started = start(&address, "host".into(), metrics, std::future::pending());
    let (forwarder, _task) = started.unwrap();
    for message in ["one", "two", "three", "four"] {
        forwarder.forward(&event(message));
    }
    // An answer of failure brings the same once more; a refusal does not.
    let bodies = listen(&listener, &[202, 503, 202, 429, 400]).await;
    assert_eq!(messages(&bodies), ["one", "two", "two", "three", "four"]);
}

#[tokio::test]
async fn a_listener_that_comes_back_gets_what_is_new() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let metrics = Metrics::new().unwrap();
    let started = start(&address, "host".into(), metrics, std::future::pending());
    let (forwarder, _task) = started.unwrap();
    forwarder.forward(&event("one"));
    assert_eq!(messages(&listen(&listener, &[202]).await), ["one"]);
    // The connection is closed now; the next notice finds another one.
    forwarder.forward(&event("two"));
    assert_eq!(messages(&listen(&listener, &[202]).await), ["two"]);
}
