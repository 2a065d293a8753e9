//! The webhook over real TLS, with a real client.

use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::*;
use crate::admission::certs::{Pair, certified, make_ca, make_leaf};
use crate::admission::desk::tests::By;
use crate::admission::review::Answer;
use crate::admission::review::tests::review;
use crate::serve::server::bind;
use crate::telemetry::metrics::Metrics;

const HOST: &str = "weir-webhook.flux-system.svc";

struct Webhook {
    running: Running,
    resolver: Arc<Resolver>,
    metrics: Metrics,
    stop: oneshot::Sender<()>,
}

async fn webhook(validate: impl Door) -> Webhook {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let metrics = Metrics::new().unwrap();
    let resolver = Arc::new(Resolver::default());
    let (stop, stopped) = oneshot::channel::<()>();
    let doors = Doors {
        validate: Arc::new(validate),
        mutate: Arc::new(By(|_| async { Answer::allow() })),
        guard: Arc::new(By(|_| async { Answer::deny("no") })),
    };
    let listener = bind("--webhook-addr", "127.0.0.1:0").unwrap();
    let desk = Desk::new(Handle::current(), metrics.clone());
    let shutdown = async move {
        let _ = stopped.await;
    };
    let running = start(listener, Arc::clone(&resolver), desk, doors, shutdown)
        .await
        .unwrap();
    Webhook {
        running,
        resolver,
        metrics,
        stop,
    }
}

fn put_new_certificate(resolver: &Resolver) -> Pair {
    let ca = make_ca(Timestamp::now()).unwrap();
    let leaf = make_leaf(&ca, &[HOST.to_owned()], Timestamp::now()).unwrap();
    resolver.put(certified(&leaf.certificate, &leaf.key).unwrap());
    ca
}

/// A client as the API server is one: it trusts one bundle and asks for the Service's name.
fn client(bundle: &str, address: SocketAddr) -> reqwest::Client {
    let certificates = reqwest::Certificate::from_pem_bundle(bundle.as_bytes()).unwrap();
    reqwest::Client::builder()
        .tls_certs_only(certificates)
        .no_proxy()
        .resolve(HOST, address)
        .build()
        .unwrap()
}

async fn post(client: &reqwest::Client, address: SocketAddr, path: &str, body: String) -> (u16, String) {
    let url = format!("https://{HOST}:{}{path}", address.port());
    let response = client.post(url).body(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_review_goes_in_and_its_answer_comes_out() {
    let door = By(|request: crate::admission::review::AdmissionRequest| async move {
        Answer::deny(format!("[no] {} {}", request.user.username, request.name))
    });
    let webhook = webhook(door).await;
    let ca = put_new_certificate(&webhook.resolver);
    let address = webhook.running.address;
    let client = client(&ca.certificate, address);

    let (code, body) = post(&client, address, "/validate?timeout=3s", review().to_string()).await;
    let answer: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(code, 200);
    assert_eq!(answer["response"]["uid"], review()["request"]["uid"]);
    assert_eq!(
        answer["response"]["status"],
        json!({"code": 403, "message": "[no] jane web"})
    );

    let mut big = review();
    big["request"]["object"]["data"] = json!("x".repeat(3 << 20));
    big["request"]["oldObject"]["data"] = json!("x".repeat(3 << 20));
    assert_eq!(
        post(&client, address, "/mutate", big.to_string()).await.0,
        200,
        "two objects of 3 MiB"
    );

    let (code, body) = post(&client, address, "/validate", "{".to_owned()).await;
    assert_eq!(code, 400);
    assert!(body.starts_with("the body is not JSON"), "{body}");
    assert_eq!(
        post(&client, address, "/validate", "x".repeat(MAX_BODY + 1)).await.0,
        413
    );
    assert_eq!(post(&client, address, "/other", String::new()).await.0, 404);
    let url = format!("https://{HOST}:{}/validate", address.port());
    assert_eq!(client.get(url).send().await.unwrap().status(), 405);

    let text = webhook.metrics.text();
    for line in [
        r#"weir_admission_requests_total{path="/validate",verdict="denied"} 1"#,
        r#"weir_admission_requests_total{path="/mutate",verdict="allowed"} 1"#,
        r#"weir_admission_requests_total{path="/validate",verdict="malformed"} 1"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    webhook.stop.send(()).unwrap();
    webhook.running.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_rotated_while_serving() {
    let webhook = webhook(By(|_| async { Answer::allow() })).await;
    let address = webhook.running.address;
    let url = format!("https://{HOST}:{}/validate", address.port());

    let none = make_ca(Timestamp::now()).unwrap();
    let early = client(&none.certificate, address)
        .post(&url)
        .body(review().to_string())
        .send()
        .await;
    assert!(early.is_err(), "no certificate yet");

    let old = put_new_certificate(&webhook.resolver);
    let old_client = client(&old.certificate, address);
    assert_eq!(
        post(&old_client, address, "/validate", review().to_string()).await.0,
        200
    );

    let new = put_new_certificate(&webhook.resolver);
    assert_eq!(
        post(&old_client, address, "/validate", review().to_string()).await.0,
        200,
        "its connection stands"
    );
    let refused = client(&old.certificate, address)
        .post(&url)
        .body(review().to_string())
        .send()
        .await;
    assert!(
        refused.is_err(),
        "a new connection that trusts the old CA only must be refused"
    );
    let both = format!("{}{}", new.certificate, old.certificate);
    assert_eq!(
        post(&client(&both, address), address, "/validate", review().to_string())
            .await
            .0,
        200
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_under_way_ends_before_the_stop() {
    let (entered, mut entering) = tokio::sync::mpsc::channel(1);
    let (release, released) = tokio::sync::watch::channel(false);
    let door = By(move |_| {
        let (entered, mut released) = (entered.clone(), released.clone());
        async move {
            entered.send(()).await.unwrap();
            released.wait_for(|go| *go).await.unwrap();
            Answer::allow()
        }
    });
    let webhook = webhook(door).await;
    let ca = put_new_certificate(&webhook.resolver);
    let address = webhook.running.address;
    let client = client(&ca.certificate, address);
    let request = tokio::spawn(async move { post(&client, address, "/validate", review().to_string()).await.0 });
    entering.recv().await.unwrap();
    webhook.stop.send(()).unwrap();
    release.send(true).unwrap();
    assert_eq!(request.await.unwrap(), 200);
    webhook.running.stopped().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_decision_that_takes_too_long_is_an_http_error() {
    let webhook = webhook(By(|_| std::future::pending())).await;
    let ca = put_new_certificate(&webhook.resolver);
    let address = webhook.running.address;
    let client = client(&ca.certificate, address);
    let (code, body) = post(&client, address, "/validate?timeout=100ms", review().to_string()).await;
    assert_eq!((code, body.as_str()), (504, "no decision within 200 ms"));
}
