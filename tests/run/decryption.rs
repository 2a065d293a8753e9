//! Files that the real `sops` encrypted, with keys that are made for the test.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};

use crate::cluster::eventually;
use crate::world::{CONFIG_MAP, KUSTOMIZATION, Setup, World};

const SECRET: &str = "v1/Secret";
/// What must be seen nowhere but in the Secret.
const PASSWORD: &str = "correct-horse-battery";

/// An age identity: the text of its file, and its recipient.
struct Identity {
    text: String,
    recipient: String,
}

pub(crate) fn tool(variable: &str) -> Command {
    let named = std::env::var_os(variable);
    Command::new(named.unwrap_or_else(|| panic!("{variable} is not set; hack/test sets it")))
}

fn identity() -> Identity {
    let made = tool("WEIR_AGE_KEYGEN").stderr(Stdio::null()).output().unwrap();
    let text = String::from_utf8(made.stdout).unwrap();
    let recipient = text
        .lines()
        .find_map(|line| line.strip_prefix("# public key: "))
        .unwrap();
    Identity {
        recipient: recipient.to_owned(),
        text,
    }
}

/// Has sops encrypt a text as a file of that name.
fn encrypt(directory: &Path, identity: &Identity, name: &str, text: &str, arguments: &[&str]) -> String {
    let file: PathBuf = directory.join(name);
    std::fs::write(&file, text).unwrap();
    let output = tool("WEIR_SOPS")
        .args(["--disable-version-check", "encrypt", "--age", &identity.recipient])
        .args(arguments)
        .arg(&file)
        .env_remove("SOPS_AGE_KEY")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

async fn keys(world: &World, name: &str, data: Value) {
    let metadata =
        json!({"name": name, "namespace": world.namespace, "labels": {"reconcile.fluxcd.io/watch": "Enabled"}});
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
    world.cluster.apply(&world.namespace, object).await;
}

pub(crate) async fn value(world: &World, secret: &str, key: &str) -> String {
    let found = world
        .get(SECRET, secret)
        .await
        .unwrap_or_else(|| panic!("no Secret {secret}"));
    String::from_utf8(BASE64.decode(found["data"][key].as_str().unwrap_or_default()).unwrap()).unwrap()
}

#[tokio::test]
async fn what_sops_encrypted_is_decrypted_with_the_key_of_the_secret() {
    let Some(world) = World::start("sops").await else {
        return;
    };
    let (key, other) = (identity(), identity());
    let regex = ["--encrypted-regex", "^(data|stringData)$"];
    let manifest = |name: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\nstringData:\n  password: {PASSWORD}\n")
    };
    let files = world.directory.path();
    let whole = encrypt(files, &key, "whole.yaml", &manifest("whole"), &regex);
    assert!(!whole.contains(PASSWORD) && whole.contains("ENC["));
    let kustomization = "resources: [whole.yaml, map.yaml]\nnamePrefix: app-\ngeneratorOptions: {disableNameSuffixHash: true}\n\
        secretGenerator:\n- name: files\n  files: [config.yaml, data.json, blob.bin, tool.ini]\n- name: env\n  envs: [vars.env]\n\
        patches:\n- path: patch.yaml\n";
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: map\n";
    let patch = format!("{map}data:\n  more: patched-{PASSWORD}\n");
    let all = [
        ("app/kustomization.yaml", kustomization.to_owned()),
        ("app/whole.yaml", whole),
        ("app/map.yaml", map.to_owned()),
        (
            "app/config.yaml",
            encrypt(
                files,
                &key,
                "config.yaml",
                &format!("user: u\npassword: {PASSWORD}\n"),
                &[],
            ),
        ),
        (
            "app/data.json",
            encrypt(
                files,
                &key,
                "data.json",
                &format!("{{\"password\": \"{PASSWORD}\"}}"),
                &[],
            ),
        ),
        (
            "app/blob.bin",
            encrypt(files, &key, "blob.bin", &format!("raw {PASSWORD}"), &[]),
        ),
        (
            "app/tool.ini",
            encrypt(
                files,
                &key,
                "tool.ini",
                &format!("[main]\npassword = {PASSWORD}\n"),
                &[],
            ),
        ),
        (
            "app/vars.env",
            encrypt(files, &key, "vars.env", &format!("PASSWORD={PASSWORD}\n"), &[]),
        ),
        ("app/patch.yaml", encrypt(files, &key, "patch.yaml", &patch, &regex)),
    ];
    let all: Vec<(&str, &str)> = all.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let commit = world.commit(&all);
    world.source(json!({})).await;

    // Without spec.decryption nothing that is encrypted is applied.
    world
        .kustomization("plain", json!({"path": "./app", "namePrefix": "no-"}))
        .await;
    let (_, message) = world.not_ready("plain", "BuildFailed").await;
    assert!(
        message.contains("is SOPS encrypted, configuring decryption is required"),
        "{message}"
    );
    assert!(message.contains("app/whole.yaml"), "{message}");

    // No Secret, then the key of somebody else, then the right one; each change is seen at once.
    let decryption = json!({"provider": "sops", "secretRef": {"name": "keys"}});
    let spec = json!({"path": "./app", "retryInterval": "30m", "decryption": decryption});
    world.kustomization("app", spec).await;
    let (_, message) = world.not_ready("app", "BuildFailed").await;
    let missing = format!(
        "cannot get sops decryption Secret '{}/keys': not found",
        world.namespace
    );
    assert!(message.starts_with(&missing), "{message}");
    keys(&world, "keys", json!({"wrong.agekey": other.text})).await;
    eventually("the wrong key is named", async || {
        let (_, message) = world.not_ready("app", "BuildFailed").await;
        let named = message.contains("no key fits: it is encrypted for age ") && message.contains(&key.recipient);
        let told = named && message.contains("none of the age identities is its recipient") && message.contains("app/");
        if told { Ok(()) } else { Err(message) }
    })
    .await;
    keys(
        &world,
        "keys",
        json!({"wrong.agekey": other.text, "right.agekey": key.text}),
    )
    .await;
    world.ready("app", &commit).await;
    assert_eq!(value(&world, "app-whole", "password").await, PASSWORD);
    assert_eq!(world.data("app-map").await["more"], format!("patched-{PASSWORD}"));
    let whole = world.get(SECRET, "app-whole").await.unwrap();
    assert!(whole["sops"].is_null());
    assert_eq!(
        value(&world, "app-files", "config.yaml").await,
        format!("user: u\npassword: {PASSWORD}\n")
    );
    assert!(value(&world, "app-files", "data.json").await.contains(PASSWORD));
    assert_eq!(value(&world, "app-files", "blob.bin").await, format!("raw {PASSWORD}"));
    assert!(value(&world, "app-files", "tool.ini").await.contains(PASSWORD));
    assert_eq!(value(&world, "app-env", "PASSWORD").await, PASSWORD);

    // A file that was changed after it was encrypted; nothing of that commit is applied.
    let config = std::fs::read_to_string(world.repo.path().join("app/config.yaml")).unwrap();
    let changed = config.replacen("lastmodified: \"2", "lastmodified: \"3", 1);
    assert_ne!(config, changed);
    world.commit(&[("app/config.yaml", &changed)]);
    let (_, message) = world.not_ready("app", "BuildFailed").await;
    assert!(
        message.starts_with("app/config.yaml: cannot decrypt this file: "),
        "{message}"
    );
    assert!(message.contains("MAC does not match"), "{message}");
    nothing_leaked(&world, &[PASSWORD, &key.text]).await;
}

/// No decrypted value and no key in logs, events, statuses or on disk.
async fn nothing_leaked(world: &World, secrets: &[&str]) {
    let mut seen: String = world.weir.lines().map(|line| line.to_string()).collect();
    for name in ["app", "plain"] {
        seen.push_str(&world.get(KUSTOMIZATION, name).await.unwrap_or_default().to_string());
        for (_, _, message) in world.cluster.events(&world.namespace, "Kustomization", name).await {
            seen.push_str(&message);
        }
    }
    for secret in secrets {
        assert!(!seen.contains(secret.trim()), "seen where it must not be: {secret}");
        let storage = world.directory.path().join("storage");
        let found = Command::new("grep")
            .args(["-rlaF", "--", secret.trim()])
            .arg(&storage)
            .output()
            .unwrap();
        assert!(
            found.stdout.is_empty(),
            "on disk: {}",
            String::from_utf8_lossy(&found.stdout)
        );
    }
}

#[tokio::test]
async fn one_secret_of_weir_s_own_namespace_serves_all_and_marked_objects_stay() {
    let Some(setup) = Setup::new("sopsall").await else {
        return;
    };
    let world = setup.with_arguments(&["--sops-age-secret=everybody"]).start().await;
    let key = identity();
    keys(&world, "everybody", json!({"all.agekey": key.text})).await;
    let text = encrypt(
        world.directory.path(),
        &key,
        "token.json",
        &format!("{{\"token\": \"{PASSWORD}\"}}"),
        &[],
    );
    let encoded = BASE64.encode(&text);
    let secret = |name: &str, annotations: &str| {
        format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  annotations: {{{annotations}}}\ndata:\n  token.json: {encoded}\n"
        )
    };
    let commit = world.commit(&[
        ("app/opened.yaml", &secret("opened", "")),
        (
            "app/closed.yaml",
            &secret("closed", "kustomize.toolkit.fluxcd.io/decrypt: Disabled"),
        ),
        (
            "app/map.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: map\ndata:\n  key: value\n",
        ),
    ]);
    world.source(json!({})).await;
    world
        .kustomization("app", json!({"path": "./app", "decryption": {"provider": "sops"}}))
        .await;
    world.ready("app", &commit).await;
    let opened = value(&world, "opened", "token.json").await;
    assert_eq!(serde_json::from_str::<Value>(&opened).unwrap()["token"], PASSWORD);
    assert_eq!(value(&world, "closed", "token.json").await, text);
    assert!(world.get(CONFIG_MAP, "map").await.is_some());

    // Who asks to be watched is followed at once, here too; nothing else comes before the interval of ten minutes.
    let other = identity();
    let labels = json!({"reconcile.fluxcd.io/watch": "Enabled"});
    let changed = json!({"metadata": {"labels": labels}, "stringData": {"all.agekey": other.text}});
    world.merge("v1/Secret", "everybody", changed).await;
    world.not_ready("app", "BuildFailed").await;
    let back = json!({"stringData": {"all.agekey": key.text}});
    world.merge("v1/Secret", "everybody", back).await;
    world.ready("app", &commit).await;
    nothing_leaked(&world, &[PASSWORD, &key.text, &other.text]).await;
}
