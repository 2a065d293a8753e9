//! `--sops-vault-configmap`: a service account's token opens a Vault that stands on loopback and knows what it should be told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use crate::cluster::eventually;
use crate::decryption::{tool, value};
use crate::world::Setup;

const PASSWORD: &str = "correct-horse-vault";

/// What the Vault has been told.
#[derive(Default)]
struct Told {
    /// The data key that it has to give back.
    plain: String,
    /// Logins: role, and the claims of the token.
    logins: Vec<(String, Value)>,
}

/// Serves until the test ends; gives its address.
fn vault(told: &Arc<Mutex<Told>>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let told = Arc::clone(told);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // A client may hang up whenever it likes.
            let _ = answer(stream.unwrap(), &told);
        }
    });
    address
}

fn answer(mut stream: TcpStream, told: &Mutex<Told>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut path, mut length, mut token) = (String::new(), 0, String::new());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 || line.trim_end().is_empty() {
            break;
        }
        let lower = line.to_lowercase();
        if path.is_empty() {
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        } else if let Some(text) = lower.strip_prefix("content-length: ") {
            length = text.trim().parse().unwrap();
        } else if let Some(text) = lower.strip_prefix("x-vault-token: ") {
            token = text.trim().to_owned();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |field: &str| body[field].as_str().unwrap_or_default().to_owned();
    let mut told = told.lock().unwrap();
    let (status, reply) = if path.starts_with("/v1/sops/encrypt/") {
        told.plain = text("plaintext");
        (200, json!({"data": {"ciphertext": "vault:v1:abc"}}))
    } else if path == "/v1/auth/kubernetes/login" {
        let claims = text("jwt")
            .split('.')
            .nth(1)
            .map(|part| URL_SAFE_NO_PAD.decode(part).unwrap());
        let claims = serde_json::from_slice(&claims.unwrap_or_default()).unwrap_or_default();
        told.logins.push((text("role"), claims));
        (200, json!({"auth": {"client_token": "opened"}}))
    } else if token == "opened" {
        (200, json!({"data": {"plaintext": told.plain}}))
    } else {
        (403, json!({"errors": ["permission denied"]}))
    };
    let reply = reply.to_string();
    write!(
        stream,
        "HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{reply}",
        reply.len()
    )
}

#[tokio::test]
async fn a_service_account_logs_in_at_vault() {
    let Some(setup) = Setup::new("vault").await else { return };
    let arguments = [
        "--sops-vault-configmap=vaults",
        "--feature-gates=ObjectLevelWorkloadIdentity=true",
        "--default-decryption-service-account=reader",
    ];
    let world = setup.with_arguments(&arguments).start().await;
    let told = Arc::<Mutex<Told>>::default();
    let address = vault(&told);
    let file = world.directory.path().join("secret.yaml");
    let manifest =
        format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: opened\nstringData:\n  password: {PASSWORD}\n");
    std::fs::write(&file, manifest).unwrap();
    let key = format!("{address}/v1/sops/keys/key");
    let encrypted = tool("WEIR_SOPS")
        .args([
            "--disable-version-check",
            "encrypt",
            "--encrypted-regex=^stringData$",
            "--hc-vault-transit",
            &key,
        ])
        .arg(&file)
        .env("VAULT_TOKEN", "whoever encrypts")
        .output()
        .unwrap();
    assert!(
        encrypted.status.success(),
        "{}",
        String::from_utf8_lossy(&encrypted.stderr)
    );
    let commit = world.commit(&[("app/secret.yaml", &String::from_utf8(encrypted.stdout).unwrap())]);
    world.source(json!({})).await;
    let spec = json!({"path": "./app", "decryption": {"provider": "sops"}});
    world.kustomization("app", spec).await;
    let says = async |part: &str| {
        eventually(&format!("app says {part:?}"), async || {
            let (_, message) = world.not_ready("app", "BuildFailed").await;
            if message.contains(part) { Ok(()) } else { Err(message) }
        })
        .await;
    };
    let missing = format!(
        "cannot use ConfigMap '{}/vaults' of --sops-vault-configmap: not found",
        world.namespace
    );
    says(&missing).await;
    let configuration = async |text: String| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "vaults"},
            "data": {"config.yaml": text}});
        world.cluster.apply(&world.namespace, object).await;
    };
    // Somebody else's instance: nobody logs in at the one that Git names.
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "reader"}});
    world.cluster.apply(&world.namespace, account).await;
    configuration("instances: [{address: 'http://127.0.0.1:1', loginPath: auth/kubernetes/login}]".to_owned()).await;
    says("there are no credentials for Vault").await;
    assert!(told.lock().unwrap().logins.is_empty());
    configuration(format!(
        "instances: [{{address: '{address}', loginPath: auth/kubernetes/login}}]"
    ))
    .await;
    world.ready("app", &commit).await;
    assert_eq!(value(&world, "opened", "password").await, PASSWORD);
    let (role, claims) = told.lock().unwrap().logins.last().cloned().unwrap();
    assert_eq!(role, format!("{}_reader", world.namespace));
    assert_eq!(claims["aud"], json!([address]));
    assert_eq!(
        claims["sub"],
        format!("system:serviceaccount:{}:reader", world.namespace)
    );
}
