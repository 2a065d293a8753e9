//! `hack/bench guard`: what the door adds to a write of a managed object.
//!
//! Flow: `weir run` applies large Deployments from Git → real AdmissionReviews of them, with the `managedFields` that the API
//! server keeps, are posted over TLS at a fixed rate: to the door, and to the same server with a door that always says yes.
//! Latency counts from the moment at which a request was due, so that a slow answer is not hidden by the ones behind it; the
//! door's own time is what its histogram says.
//!
//! Assumes what `hack/bench` prepares: a control plane that is ours alone, and the render worker.

#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

#[path = "../tests/support/git_server.rs"]
mod git_server;

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use git_server::{GitServer, Repo};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use weir::admission::certs::Resolver;
use weir::admission::desk::{Begun, Desk, Door};
use weir::admission::review::{AdmissionRequest, Answer};
use weir::admission::rotate::{self, CertOptions, names};
use weir::api::kustomize::Kustomization;
use weir::api::source::GitRepository;
use weir::cluster::client::{ClientOptions, connect};
use weir::serve::server::bind;
use weir::serve::webhook::{self, Doors};
use weir::telemetry::metrics::Metrics;

/// Requests a second: what a busy cluster of 100 nodes asks at its worst.
const RATE: u32 = 500;
/// How many are measured, after as many to warm up.
const REQUESTS: u32 = 5000;
/// Deployments in Git, and what makes them large: about 60 KiB of JSON each with their managedFields.
const DEPLOYMENTS: usize = 50;
const CONTAINERS: usize = 8;
const VARIABLES: usize = 30;
const NAMESPACE: &str = "bench-guard";
/// Longest wait for anything to begin with.
const PATIENCE: Duration = Duration::from_secs(120);

/// Bounds in seconds, and how many decisions took no longer.
type Histogram = Vec<(f64, f64)>;

/// The same server, with nothing to decide.
struct Yes;

impl Door for Yes {
    fn begin(self: Arc<Self>, _: AdmissionRequest) -> Begun {
        Begun::Waits(Box::pin(async { Ok(Answer::allow()) }))
    }
}

/// Ended when dropped.
struct Weir(Child);

impl Drop for Weir {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn main() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    tokio::runtime::Runtime::new().unwrap().block_on(measure());
}

async fn measure() {
    let kubeconfig: std::path::PathBuf = std::env::var_os("WEIR_TEST_KUBECONFIG")
        .expect("run this through hack/bench")
        .into();
    let options = ClientOptions {
        kubeconfig: Some(kubeconfig.clone()),
    };
    let client = connect(&options).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let repo = Repo::new(folder.path(), "bench");
    repo.commit(&[("apps/all.yaml", &manifests())], "Large Deployments");
    let git = GitServer::start(folder.path());
    let (hook, health) = (free_port(), free_port());
    let _weir = Weir(
        Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(["run", "--storage-addr=127.0.0.1:0"])
            .arg(format!("--webhook-addr=127.0.0.1:{hook}"))
            .arg(format!("--webhook-url=https://127.0.0.1:{hook}"))
            .arg(format!("--metrics-addr=127.0.0.1:{health}"))
            .arg(format!("--health-addr=127.0.0.1:{health}"))
            .arg("--storage-path")
            .arg(folder.path().join("storage"))
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.path().join("weir.log")).unwrap())
            .spawn()
            .unwrap(),
    );
    let deployments = applied(&client, &git.url("bench/.git")).await;
    let sizes: usize = deployments.iter().map(|one| one.to_string().len()).sum();
    let bodies: Vec<Vec<u8>> = deployments
        .iter()
        .enumerate()
        .flat_map(|(number, object)| reviews(number, object))
        .collect();
    println!(
        "{} AdmissionReviews of {DEPLOYMENTS} managed Deployments of {} KiB, {RATE}/s over TLS",
        bodies.len(),
        sizes / deployments.len() / 1024
    );

    let metrics = Metrics::new().unwrap();
    let resolver = Arc::new(Resolver::default());
    let yes: Arc<dyn Door> = Arc::new(Yes);
    let doors = Doors {
        validate: Arc::clone(&yes),
        mutate: Arc::clone(&yes),
        guard: yes,
    };
    let listener = bind("--webhook-addr", "127.0.0.1:0").unwrap();
    let desk = Desk::new(tokio::runtime::Handle::current(), metrics.clone());
    let certificates = CertOptions {
        namespace: "flux-system".to_owned(),
        names: names("weir-webhook", "flux-system", Some("127.0.0.1")),
    };
    let (mut bundle, _certs) = rotate::start(
        client.clone(),
        certificates,
        Arc::clone(&resolver),
        metrics,
        std::future::pending(),
    );
    bundle.wait_for(Option::is_some).await.unwrap();
    let bare = webhook::start(listener, resolver, desk, doors, std::future::pending())
        .await
        .unwrap();

    let http = reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .no_proxy()
        .build()
        .unwrap();
    let bare = format!("https://{}/guard", bare.address);
    let door = format!("https://127.0.0.1:{hook}/guard");
    let bodies = Arc::new(bodies);
    let mut own = (Vec::new(), Vec::new());
    for round in 0..2 {
        let through_bare = post(&http, &bare, &bodies).await;
        let before = histogram(&http, health).await;
        let through_door = post(&http, &door, &bodies).await;
        let after = histogram(&http, health).await;
        if round == 0 {
            continue;
        }
        own = (before, after);
        let of = |passed: bool| {
            through_door
                .iter()
                .filter(move |one| one.0 == passed)
                .map(|one| one.1)
                .collect()
        };
        let bare = quantiles(through_bare.iter().map(|one| one.1).collect());
        let (passed, refused) = (quantiles(of(true)), quantiles(of(false)));
        for (what, (p50, p99)) in [
            ("same server, always yes", bare),
            ("the guard's door, what passes", passed),
            ("the guard's door, what is refused", refused),
        ] {
            println!("  {what:<34} p50 {p50:>6.2} ms   p99 {p99:>6.2} ms");
        }
        println!(
            "  {:<34} p50 {:>6.2} ms   p99 {:>6.2} ms",
            "added to what passes",
            passed.0 - bare.0,
            passed.1 - bare.1
        );
    }
    println!(
        "  {:<34} p50 {}   p90 {}   p99 {}",
        "the door's own time (histogram)",
        bucket(&own, 0.5),
        bucket(&own, 0.9),
        bucket(&own, 0.99)
    );
}

fn manifests() -> String {
    let mut text = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {NAMESPACE}}}\n");
    for number in 0..DEPLOYMENTS {
        let containers: Vec<Value> = (0..CONTAINERS)
            .map(|container| {
                let variables: Vec<Value> = (0..VARIABLES)
                    .map(|variable| json!({"name": format!("VARIABLE_{variable}"), "value": format!("value {variable}")}))
                    .collect();
                json!({"name": format!("c{container}"), "image": "registry.example/web:1", "env": variables,
                    "ports": [{"containerPort": 8000 + container}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
                    "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}]})
            })
            .collect();
        let name = format!("web-{number}");
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
            "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": containers, "volumes": [{"name": "tmp", "emptyDir": {}}]}}}});
        text.push_str(&format!("---\n{object}\n"));
    }
    text
}

/// Has Weir apply everything, and gives what the API server stored.
async fn applied(client: &Client, url: &str) -> Vec<Value> {
    let parameters = PatchParams::apply("bench").force();
    let repository = json!({"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "GitRepository",
        "metadata": {"name": "bench"}, "spec": {"url": url, "ref": {"branch": "main"}, "interval": "1h"}});
    let repositories: Api<GitRepository> = Api::namespaced(client.clone(), "flux-system");
    repositories
        .patch("bench", &parameters, &Patch::Apply(repository))
        .await
        .unwrap();
    let kustomization = json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
        "metadata": {"name": "bench"}, "spec": {"interval": "1h", "prune": true, "path": "./apps",
            "sourceRef": {"kind": "GitRepository", "name": "bench"}}});
    let kustomizations: Api<Kustomization> = Api::namespaced(client.clone(), "flux-system");
    kustomizations
        .patch("bench", &parameters, &Patch::Apply(kustomization))
        .await
        .unwrap();
    let began = Instant::now();
    loop {
        let status = kustomizations.get("bench").await.unwrap().status;
        if status.is_some_and(|status| status.last_applied_revision.is_some()) {
            break;
        }
        assert!(began.elapsed() < PATIENCE, "the Deployments are not applied");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let kind = kube::api::ApiResource::erase::<Deployment>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), NAMESPACE, &kind);
    let mut found = Vec::new();
    for number in 0..DEPLOYMENTS {
        found.push(serde_json::to_value(api.get(&format!("web-{number}")).await.unwrap()).unwrap());
    }
    found
}

/// What is asked about one Deployment: seven edits that pass, two that change nothing, and one that is refused.
fn reviews(number: usize, object: &Value) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for turn in 0..10 {
        let mut new = object.clone();
        match turn {
            0..7 => new["metadata"]["annotations"]["note"] = json!(format!("{turn}")),
            7..9 => {}
            _ => new["spec"]["template"]["spec"]["containers"][3]["image"] = json!("registry.example/web:2"),
        }
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": format!("{number}-{turn}"),
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "name": object["metadata"]["name"], "namespace": NAMESPACE, "operation": "UPDATE",
            "userInfo": {"username": "alice", "groups": ["system:authenticated"]},
            "options": {"fieldManager": "kubectl-edit"}, "dryRun": false, "object": new, "oldObject": object}});
        all.push(serde_json::to_vec(&review).unwrap());
    }
    all
}

/// Of each request that was decided, whether it passed and how long it took.
async fn post(http: &reqwest::Client, url: &str, bodies: &Arc<Vec<Vec<u8>>>) -> Vec<(bool, Duration)> {
    let step = Duration::from_secs(1) / RATE;
    let began = Instant::now();
    let mut running = Vec::new();
    for number in 0..REQUESTS {
        let due = began + step * number;
        tokio::time::sleep_until(due.into()).await;
        let (http, url, bodies) = (http.clone(), url.to_owned(), Arc::clone(bodies));
        running.push(tokio::spawn(async move {
            let body = bodies[number as usize % bodies.len()].clone();
            let answer = http.post(url).body(body).send().await.ok()?;
            let decided = answer.status().is_success();
            let answer = answer.bytes().await.ok()?;
            let took = due.elapsed();
            let answer: Value = serde_json::from_slice(&answer).ok().filter(|_| decided)?;
            Some((answer["response"]["allowed"] == true, took))
        }));
    }
    let mut times = Vec::new();
    for one in running {
        times.extend(one.await.unwrap());
    }
    let missing = REQUESTS as usize - times.len();
    if missing > 0 {
        println!("  {missing} of {REQUESTS} requests to {url} got no decision: this machine is too busy to measure on");
    }
    times
}

/// Milliseconds: median and 99th percentile.
fn quantiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort();
    let at = |share: usize| times[times.len() * share / 100].as_secs_f64() * 1e3;
    (at(50), at(99))
}

/// The guard's decisions so far.
async fn histogram(http: &reqwest::Client, port: u16) -> Histogram {
    let url = format!("http://127.0.0.1:{port}/metrics");
    let text = http.get(url).send().await.unwrap().text().await.unwrap();
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("weir_admission_duration_seconds_bucket{path=\"/guard\",le=\""));
    lines
        .filter_map(|line| {
            let (bound, count) = line.split_once("\"} ")?;
            Some((bound.parse().unwrap_or(f64::INFINITY), count.parse().ok()?))
        })
        .collect()
}

/// Between which bounds a share of the decisions lies.
fn bucket((before, after): &(Histogram, Histogram), share: f64) -> String {
    let counts: Histogram = after
        .iter()
        .map(|(bound, count)| {
            let known = before.iter().find(|(other, _)| other == bound);
            (*bound, count - known.map_or(0.0, |(_, count)| *count))
        })
        .collect();
    let all = counts.last().map_or(0.0, |(_, count)| *count);
    let at = counts.iter().find(|(_, count)| *count >= all * share);
    at.map_or("nothing was decided".to_owned(), |(bound, _)| {
        format!("≤ {:.2} ms", bound * 1e3)
    })
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}
