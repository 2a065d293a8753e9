//! What the spec of a GitRepository asks for beyond a branch: signatures, other repositories, directories, Secrets.

use std::process::Command;

use serde_json::{Value, json};

use crate::cluster::{condition, eventually};
use crate::git_server::Repo;
use crate::world::{REPOSITORY, Setup, World, config_map};

/// Waits until the GitRepository is ready at its present spec; gives it.
pub(crate) async fn ready(world: &World, name: &str) -> Value {
    eventually(&format!("{name} is ready"), async || {
        let found = world.get(REPOSITORY, name).await.unwrap_or_default();
        let settled = found["status"]["observedGeneration"] == found["metadata"]["generation"];
        match condition(&found, "Ready") {
            Some(("True", ..)) if settled => Ok(found),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

pub(crate) async fn secret(world: &World, name: &str, data: Value) {
    let metadata = json!({"name": name, "namespace": world.namespace});
    let object = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
    world.cluster.apply(&world.namespace, object).await;
}

/// A new SSH key: its file, and its public half.
fn key(world: &World, name: &str) -> (String, String) {
    let file = world.directory.path().join(name);
    let status = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"])
        .arg(&file)
        .status();
    assert!(status.unwrap().success());
    let public = std::fs::read_to_string(world.directory.path().join(format!("{name}.pub"))).unwrap();
    (file.display().to_string(), public)
}

fn sign(world: &World, key: &str, message: &str) -> String {
    let signing = format!("user.signingkey={key}.pub");
    world.repo.git(&[
        "-c",
        "gpg.format=ssh",
        "-c",
        &signing,
        "commit",
        "--quiet",
        "--allow-empty",
        "-S",
        "-m",
        message,
    ]);
    world.repo.git(&["rev-parse", "HEAD"])
}

#[tokio::test]
async fn only_commits_that_the_right_people_signed_are_followed() {
    let Some(world) = World::start("verify").await else {
        return;
    };
    world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    let ((ada, ada_public), (eve, _)) = (key(&world, "ada"), key(&world, "eve"));
    let good = sign(&world, &ada, "by ada");
    let verify = json!({"verify": {"mode": "HEAD", "secretRef": {"name": "people"}}});
    world.source(verify).await;
    let (_, message) = world.fails(REPOSITORY, "app", "VerificationError").await;
    assert!(
        message.starts_with("public keys secret error: failed to get secret"),
        "{message}"
    );
    secret(&world, "people", json!({"ada.sshpub": ada_public})).await;
    let object = ready(&world, "app").await;
    let (status, reason, message) = condition(&object, "SourceVerified").unwrap();
    assert_eq!((status, reason), ("True", "Succeeded"));
    assert!(
        message.starts_with(&format!("verified signature of\n\t- commit '{good}' with key 'SHA256:")),
        "{message}"
    );
    assert_eq!(object["status"]["sourceVerificationMode"], "HEAD");

    let bad = sign(&world, &eve, "by eve");
    let (object, message) = world.fails(REPOSITORY, "app", "InvalidCommitSignature").await;
    assert!(
        message.starts_with(&format!("signature verification of commit '{bad}' failed: ")),
        "{message}"
    );
    assert_eq!(condition(&object, "SourceVerified").unwrap().0, "False");
    let revision = &object["status"]["artifact"]["revision"];
    assert_eq!(revision, &format!("main@sha1:{good}"), "the artifact stays");
    world
        .event(REPOSITORY, "app", ("Warning", "InvalidCommitSignature", "failed"))
        .await;

    let tag = json!({"spec": {"verify": {"mode": "TagAndHEAD"}}});
    world.merge(REPOSITORY, "app", tag).await;
    let (object, message) = world.fails(REPOSITORY, "app", "InvalidVerificationMode").await;
    assert_eq!(
        message,
        "cannot verify tag object's signature if a tag reference is not specified"
    );
    assert_eq!(condition(&object, "Stalled").unwrap().0, "True");
    world.merge(REPOSITORY, "app", json!({"spec": {"verify": null}})).await;
    let object = ready(&world, "app").await;
    assert_eq!(object["status"]["artifact"]["revision"], format!("main@sha1:{bad}"));
    assert!(condition(&object, "SourceVerified").is_none());
    assert!(object["status"]["sourceVerificationMode"].is_null());
}

#[tokio::test]
async fn other_repositories_and_chosen_directories_make_one_artifact() {
    let Some(world) = World::start("include").await else {
        return;
    };
    world.commit(&[
        (
            "apps/kustomization.yaml",
            "resources: [settings.yaml, ../shared/more.yaml]\n",
        ),
        ("apps/settings.yaml", &config_map("settings", "one")),
        ("other/x", ""),
    ]);
    let served = world.directory.path().join("served");
    let library = Repo::new(&served, "library");
    library.commit(&[("deploy/more.yaml", &config_map("more", "one"))], "one");
    let include = json!([{"repository": {"name": "library"}, "fromPath": "deploy", "toPath": "shared"}]);
    world
        .source(json!({"include": include, "sparseCheckout": ["apps"]}))
        .await;
    let (object, message) = world.fails(REPOSITORY, "app", "NotFound").await;
    assert!(
        message.starts_with("could not get resource for include 'library': "),
        "{message}"
    );
    assert_eq!(condition(&object, "IncludeUnavailable").unwrap().0, "True");

    let url = world.git.url("library");
    let mine = json!({"url": url});
    world.repository("library", mine).await;
    let object = ready(&world, "app").await;
    let part = ready(&world, "library").await;
    assert!(condition(&object, "IncludeUnavailable").is_none());
    let status = &object["status"];
    assert_eq!(status["includedArtifacts"], json!([part["status"]["artifact"]]));
    assert_eq!(status["observedInclude"], include);
    assert_eq!(status["observedSparseCheckout"], json!(["apps"]));
    world
        .kustomization("app", json!({"path": "./apps", "interval": "1h"}))
        .await;
    eventually("both are applied", async || {
        let both = (
            world.get("v1/ConfigMap", "settings").await,
            world.get("v1/ConfigMap", "more").await,
        );
        if let (Some(_), Some(_)) = both {
            Ok(())
        } else {
            Err(String::new())
        }
    })
    .await;
    // A change of what is included is a change of this source, at the same revision.
    let digest = status["artifact"]["digest"].clone();
    library.commit(&[("deploy/more.yaml", &config_map("more", "two"))], "two");
    eventually("the change is applied", async || {
        let more = world.data("more").await;
        if more == json!({"value": "two"}) {
            Ok(())
        } else {
            Err(more.to_string())
        }
    })
    .await;
    let after = world.get(REPOSITORY, "app").await.unwrap();
    assert_ne!(after["status"]["artifact"]["digest"], digest);
    assert_eq!(after["status"]["artifact"]["revision"], status["artifact"]["revision"]);
}

#[tokio::test]
async fn a_secret_that_gives_no_access_is_told_at_once() {
    let Some(world) = World::start("access").await else {
        return;
    };
    world.commit(&[("a", "")]);
    world.source(json!({"url": "ssh://git@127.0.0.1:1/app"})).await;
    let (_, message) = world.fails(REPOSITORY, "app", "AuthenticationFailed").await;
    assert!(
        message.contains("needs a Secret with the keys \"identity\" and \"known_hosts\""),
        "{message}"
    );
    secret(&world, "access", json!({"identity": "key"})).await;
    world
        .merge(REPOSITORY, "app", json!({"spec": {"secretRef": {"name": "access"}}}))
        .await;
    eventually("the missing key is told", async || {
        let found = world.get(REPOSITORY, "app").await.unwrap_or_default();
        let expect = format!(
            "failed to configure authentication options: secret '{}/access': the Secret has the key \"identity\" but not \"known_hosts\"",
            world.namespace
        );
        let (.., message) = condition(&found, "Ready").unwrap_or_default();
        if message == expect {
            Ok(())
        } else {
            Err(message.to_owned())
        }
    })
    .await;
    let (private, _) = key(&world, "login");
    let private = std::fs::read_to_string(private).unwrap();
    secret(
        &world,
        "access",
        json!({"identity": private, "known_hosts": "h ssh-ed25519 AAAA"}),
    )
    .await;
    let (_, message) = world.fails(REPOSITORY, "app", "GitOperationFailed").await;
    assert!(
        message.contains("known_hosts of spec.secretRef has no key for [127.0.0.1]:1"),
        "{message}"
    );
    // Through a proxy that is not there.
    secret(&world, "proxy", json!({"address": "http://127.0.0.1:1"})).await;
    let url = json!({"spec": {"url": world.git.url("app"), "secretRef": null, "proxySecretRef": {"name": "proxy"}}});
    world.merge(REPOSITORY, "app", url).await;
    eventually("the proxy is told", async || {
        let found = world.get(REPOSITORY, "app").await.unwrap_or_default();
        let (.., message) = condition(&found, "Ready").unwrap_or_default();
        if message.contains("failed to connect to the proxy 127.0.0.1:1") {
            Ok(())
        } else {
            Err(message.to_owned())
        }
    })
    .await;
    world
        .merge(REPOSITORY, "app", json!({"spec": {"proxySecretRef": null}}))
        .await;
    ready(&world, "app").await;
}

#[tokio::test]
async fn what_happens_to_artifacts_is_told_in_events() {
    let Some(setup) = Setup::new("artifact-events").await else {
        return;
    };
    let retention = ["--artifact-retention-ttl=1ms", "--artifact-retention-records=1"];
    let world = setup.with_arguments(&retention).start().await;
    let first = world.commit(&[("a", "1")]);
    world.source(json!({"interval": "1h"})).await;
    ready(&world, "app").await;
    let ask = async |token: &str| {
        let asked = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": token}}});
        world.merge(REPOSITORY, "app", asked).await;
        eventually("the receipt", async || {
            let found = world.get(REPOSITORY, "app").await.unwrap_or_default();
            if found["status"]["lastHandledReconcileAt"] == token {
                Ok(())
            } else {
                Err(found["status"].to_string())
            }
        })
        .await;
    };
    ask("1").await;
    let same = format!("artifact up-to-date with remote revision: 'main@sha1:{first}'");
    world
        .event(REPOSITORY, "app", ("Normal", "ArtifactUpToDate", &same))
        .await;
    world.commit(&[("a", "2")]);
    ask("2").await;
    let wanted = ("Normal", "NewArtifact", "stored artifact for commit 'Change a'");
    world.event(REPOSITORY, "app", wanted).await;
    let wanted = ("Normal", "GarbageCollectionSucceeded", "garbage collected 1 artifacts");
    world.event(REPOSITORY, "app", wanted).await;
    world.cluster.delete(REPOSITORY, &world.namespace, "app").await;
    let wanted = (
        "Normal",
        "GarbageCollectionSucceeded",
        "garbage collected artifacts for deleted resource",
    );
    world.event(REPOSITORY, "app", wanted).await;
}

#[tokio::test]
async fn an_empty_repository_is_called_so_and_followed_once_it_has_a_commit() {
    let Some(world) = World::start("empty").await else {
        return;
    };
    world.source(json!({})).await;
    let (object, message) = world.fails(REPOSITORY, "app", "EmptyGitRepository").await;
    assert_eq!(message, "git repository is empty");
    assert_eq!(condition(&object, "FetchFailed").unwrap().0, "True");
    world.commit(&[("a", "1")]);
    let object = ready(&world, "app").await;
    assert!(condition(&object, "FetchFailed").is_none());
}
