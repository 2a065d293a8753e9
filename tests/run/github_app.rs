//! GitRepositories whose credentials come from a GitHub App.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::SignedDuration;
use serde_json::json;

use crate::cluster::{condition, eventually};
use crate::git_server::Manner;
use crate::github::{APP, Github, INSTALLATION, new_key};
use crate::repository::{ready, secret};
use crate::world::{REPOSITORY, World};

#[tokio::test]
async fn an_app_opens_a_private_repository() {
    let Some(world) = World::start("github").await else {
        return;
    };
    let commit = world.commit(&[("a", "1")]);
    let allowed = format!("Basic {}", STANDARD.encode("x-access-token:token-1"));
    world.git.behave(Manner::Authorized(allowed));
    let key = new_key(world.directory.path());
    let github = Github::start(&key, None, SignedDuration::from_hours(1));
    world.source(json!({"provider": "github"})).await;
    let (object, message) = world.fails(REPOSITORY, "app", "InvalidProviderConfiguration").await;
    assert!(message.contains("github app data must be specified"), "{message}");
    for kind in ["FetchFailed", "Stalled"] {
        assert_eq!(condition(&object, kind).unwrap().1, "InvalidProviderConfiguration");
    }

    let data = json!({"githubAppID": APP, "githubAppInstallationID": INSTALLATION.to_string(),
        "githubAppPrivateKey": key, "githubAppBaseURL": github.url()});
    secret(&world, "app", data).await;
    let reference = json!({"spec": {"secretRef": {"name": "app"}}});
    world.merge(REPOSITORY, "app", reference).await;
    let object = ready(&world, "app").await;
    assert_eq!(object["status"]["artifact"]["revision"], format!("main@sha1:{commit}"));
    // Every second another look at the server, and one token for all of them.
    assert_eq!(github.take_log().len(), 1);

    world
        .merge(REPOSITORY, "app", json!({"spec": {"provider": null}}))
        .await;
    eventually("data of an app without its provider is told", async || {
        let found = world.get(REPOSITORY, "app").await.unwrap_or_default();
        let (status, reason, message) = condition(&found, "Ready").unwrap_or_default();
        let expect = "has github app data but provider is not set to github";
        if (status, reason) == ("False", "InvalidProviderConfiguration") && message.ends_with(expect) {
            Ok(())
        } else {
            Err(message.to_owned())
        }
    })
    .await;
}
