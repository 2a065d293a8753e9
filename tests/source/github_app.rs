//! GitHub Apps, against a server that checks what an app signs.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use weir::source::github_app::App;

use super::github::{APP, Github, INSTALLATION, new_key};
use super::tls::Authority;
use super::*;

const TIMEOUT: Duration = Duration::from_secs(20);

fn app(entries: &[(&str, &str)]) -> App {
    let entries = entries.iter();
    let data: BTreeMap<String, Vec<u8>> = entries.map(|(k, v)| ((*k).to_owned(), v.as_bytes().to_vec())).collect();
    App::from_secret(&data).unwrap()
}

fn token(number: u32) -> Credentials {
    Credentials::Basic {
        username: "x-access-token".to_owned(),
        password: format!("token-{number}"),
    }
}

#[tokio::test]
async fn an_app_gets_a_token_and_keeps_it_until_it_expires() {
    let directory = tempfile::tempdir().unwrap();
    let (key, authority) = (new_key(directory.path()), Authority::new("ours"));
    let certificate = || Some(authority.server("127.0.0.1", None));
    let server = Github::start(&key, certificate(), SignedDuration::from_hours(1));
    let url = format!("{}/", server.url());
    let id = INSTALLATION.to_string();
    let ours = [
        ("githubAppID", APP),
        ("githubAppInstallationID", id.as_str()),
        ("githubAppPrivateKey", key.as_str()),
        ("githubAppBaseURL", url.as_str()),
        ("ca.crt", authority.pem.as_str()),
    ];
    for _ in 0..3 {
        // Read anew from its Secret every time, as a reconciliation does.
        assert_eq!(app(&ours).credentials(None, TIMEOUT).await.unwrap(), token(1));
    }
    let asked = format!("POST /api/v3/app/installations/{INSTALLATION}/access_tokens");
    assert_eq!(server.take_log(), [asked.as_str()]);

    // What would expire within minutes is not kept.
    let brief = Github::start(&key, certificate(), SignedDuration::from_mins(4));
    let url = brief.url();
    let mut other = ours;
    other[3].1 = &url;
    for number in [1, 2] {
        assert_eq!(app(&other).credentials(None, TIMEOUT).await.unwrap(), token(number));
    }
    assert_eq!(brief.take_log(), [asked.clone(), asked]);
}

#[tokio::test]
async fn an_installation_is_found_by_its_owner() {
    let directory = tempfile::tempdir().unwrap();
    let key = new_key(directory.path());
    let server = Github::start(&key, None, SignedDuration::from_hours(1));
    let url = server.url();
    let owned_by = |owner| {
        app(&[
            ("githubAppID", APP),
            ("githubAppInstallationOwner", owner),
            ("githubAppPrivateKey", &key),
            ("githubAppBaseURL", &url),
        ])
    };
    assert_eq!(owned_by("acme").credentials(None, TIMEOUT).await.unwrap(), token(1));
    assert_eq!(server.take_log().len(), 3, "two pages and the token");
    let error = owned_by("nobody").credentials(None, TIMEOUT).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the GitHub App has no installation with the owner \"nobody\""
    );
}

#[tokio::test]
async fn a_key_that_is_not_the_apps_is_refused_in_githubs_words() {
    let directory = tempfile::tempdir().unwrap();
    let server = Github::start(&new_key(directory.path()), None, SignedDuration::from_hours(1));
    let (other, url) = (new_key(directory.path()), server.url());
    let stranger = app(&[
        ("githubAppID", APP),
        ("githubAppInstallationID", "815"),
        ("githubAppPrivateKey", &other),
        ("githubAppBaseURL", &url),
    ]);
    let error = stranger.credentials(None, TIMEOUT).await.unwrap_err().to_string();
    let expect = format!("{url} refused the GitHub App with status 401: A JSON web token could not be decoded");
    assert_eq!(error, expect);
    assert!(!format!("{stranger:?} {error}").contains("PRIVATE"));
    drop(server);
    let error = stranger.credentials(None, TIMEOUT).await.unwrap_err().to_string();
    assert!(
        error.starts_with(&format!("cannot reach {url}: failed to connect")),
        "{error}"
    );
}
