//! What goes wrong: wrong credentials, servers that are down, silent or no Git servers, damage on disk.

use super::*;

#[test]
fn a_reference_that_is_not_there_is_named_with_what_is() {
    let world = World::new();
    let main = world.repo.commit(&[("v", "1")], "one");
    world.repo.git(&["branch", "side"]);
    let two = world.repo.commit(&[("v", "2")], "two");
    let check = |reference: GitRef, expect: &str| {
        let error = world.fetch_ref(reference).err().unwrap();
        assert_eq!(error.label(), "reference_not_found");
        assert_eq!(
            world.stable(&error.to_string()),
            format!("unable to clone 'http://HOST/app': {expect}")
        );
    };
    check(
        branch("master"),
        "couldn't find remote ref \"refs/heads/master\": its branches are main, side",
    );
    let commit = |id: &str, reference| GitRef {
        commit: Some(id.to_owned()),
        ..reference
    };
    let unknown = "1".repeat(40);
    check(
        commit(&unknown, GitRef::default()),
        &format!("commit {unknown} was not found on any branch or tag"),
    );
    check(
        commit(&two, branch("side")),
        &format!("commit {two} was not found on refs/heads/side"),
    );
    assert!(world.fetch_ref(commit(&main, branch("side"))).is_ok());
    let semver = GitRef {
        semver: Some(">1".to_owned()),
        ..GitRef::default()
    };
    check(
        semver,
        "no match found for semver: >1; the repository has no tag that is a version",
    );
}

#[test]
fn an_empty_repository_says_so() {
    let world = World::new();
    let expect = "unable to clone 'http://HOST/app': git repository is empty";
    assert_eq!(world.stable(&world.error().to_string()), expect);
}

#[test]
fn basic_and_bearer_authentication_are_right_or_wrong() {
    let world = World::new();
    world.repo.commit(&[("a", "1")], "one");
    let basic = |password: &str| Credentials::Basic {
        username: "ada".to_owned(),
        password: password.to_owned(),
    };
    let check = |credentials: Credentials, hint: Option<&str>| {
        let result = world.fetch_as(credentials);
        let expect = hint.map(|hint| format!("unable to clone 'http://HOST/app': authentication required: {hint}"));
        assert_eq!(result.err().map(|e| world.stable(&e.to_string())), expect);
    };
    let refused = "the server refused the credentials in spec.secretRef";
    let missing = "name a Secret with credentials in spec.secretRef";

    // ada:right
    world.server.behave(Manner::Authorized("Basic YWRhOnJpZ2h0".to_owned()));
    check(basic("wrong"), Some(refused));
    check(Credentials::Anonymous, Some(missing));
    check(Credentials::Bearer("right".to_owned()), Some(refused));
    check(basic("right"), None);

    world.server.behave(Manner::Authorized("Bearer t0ken".to_owned()));
    check(Credentials::Bearer("wrong".to_owned()), Some(refused));
    check(basic("t0ken"), Some(refused));
    check(Credentials::Anonymous, Some(missing));
    check(Credentials::Bearer("t0ken".to_owned()), None);
    check(Credentials::Bearer("t0ken\r\nX: y".to_owned()), Some(refused));
}

#[test]
fn a_wrong_password_leaves_what_was_fetched_before() {
    let world = World::new();
    let commit = world.repo.commit(&[("a", "1")], "one");
    world.fetch();
    world.server.behave(Manner::Authorized("Basic eA==".to_owned()));
    assert_eq!(world.error().label(), "authentication");
    let tree = world.fetcher.open("flux-system", "app", &commit, None).unwrap();
    assert_eq!(text(&tree, "a").as_deref(), Some("1"));
}

#[test]
fn credentials_do_not_follow_a_redirect_to_another_host() {
    let world = World::new();
    world.repo.commit(&[("a", "1")], "one");
    let other = GitServer::start(&world.directory.path().join("served"));
    let elsewhere = Manner::Redirect(format!("http://localhost:{}", other.port()));
    world.server.behave(elsewhere);
    let error = world.fetch_as(Credentials::Bearer("t0ken".to_owned())).err().unwrap();
    assert_eq!(
        world.stable(&error.to_string()),
        "unable to clone 'http://HOST/app': cannot redirect from '127.0.0.1' to 'localhost'"
    );
    assert_eq!(other.take_log(), [] as [&str; 0]);
    // Without credentials there is nothing to lose.
    assert!(world.fetch_as(Credentials::Anonymous).is_ok());
    // On the same host a redirect is a repository that moved.
    world
        .server
        .behave(Manner::Redirect(format!("http://127.0.0.1:{}", other.port())));
    assert!(world.fetch_as(Credentials::Bearer("t0ken".to_owned())).is_ok());
}

#[test]
fn a_server_that_is_down_is_unreachable_and_recovers() {
    let mut world = World::new();
    let commit = world.repo.commit(&[("a", "1")], "one");
    world.fetch();
    world.server.stop();
    let error = world.error();
    assert_eq!(error.label(), "unreachable", "{error}");
    let tree = world.fetcher.open("flux-system", "app", &commit, None).unwrap();
    assert_eq!(text(&tree, "a").as_deref(), Some("1"));
    world.server = world.server.restart();
    let two = world.repo.commit(&[("a", "2")], "two");
    assert_eq!(world.fetch_after(&commit).commit.id, two);
}

#[test]
fn what_answers_but_is_no_repository_is_told_apart() {
    let world = World::new();
    let check = |manner: Manner, label: &str, expect: &str| {
        world.server.behave(manner);
        let error = world.error();
        assert_eq!(error.label(), label);
        assert_eq!(
            world.stable(&error.to_string()),
            format!("unable to clone 'http://HOST/app': {expect}")
        );
    };
    check(Manner::Status(404), "repository_not_found", "repository not found");
    check(Manner::Status(503), "unreachable", "unexpected http status code: 503");
    check(Manner::Status(200), "unreachable", "invalid content-type: 'text/html'");
    world.server.behave(Manner::Serve);
    let url = world.server.url("nothing");
    let error = world
        .fetcher
        .fetch(&FetchRequest { url, ..world.request() })
        .err()
        .unwrap();
    assert_eq!(error.label(), "repository_not_found");
    for url in [
        "ssh:///x",
        "file:///etc",
        "http://",
        "http:///x",
        "https://h/a b",
        "/etc",
    ] {
        let request = FetchRequest {
            url: url.to_owned(),
            ..world.request()
        };
        assert_eq!(world.fetcher.fetch(&request).err().unwrap().label(), "url", "{url}");
    }
}

#[tokio::test]
async fn a_silent_server_costs_the_caller_no_more_than_the_timeout_and_recovers() {
    let world = World::new();
    world.repo.commit(&[("a", "1")], "one");
    world.server.behave(Manner::Silent);
    let fetcher = Arc::new(GitFetcher::new(world.storage()));
    let timeout = Duration::from_millis(100);
    let request = FetchRequest {
        timeout,
        ..world.request()
    };
    let error = fetcher.fetch_within(request).await.err().unwrap();
    assert_eq!(
        world.stable(&error.to_string()),
        "unable to clone 'http://HOST/app': it took longer than the timeout of 100ms: the server is silent"
    );
    // The first still hangs, yet is in nobody's way.
    world.server.behave(Manner::Serve);
    assert!(fetcher.fetch_within(world.request()).await.is_ok());
}

#[test]
fn a_source_is_fetched_by_one_at_a_time() {
    let mut world = World::new();
    world.repo.commit(&[("a", "1")], "one");
    world.server.behave(Manner::Silent);
    let fetcher = Arc::new(GitFetcher::new(world.storage()));
    let (other, request) = (Arc::clone(&fetcher), world.request());
    let first = std::thread::spawn(move || other.fetch(&request).err());
    world.server.wait_until_silent();
    let error = fetcher.fetch(&world.request()).err().unwrap();
    assert!(
        error.to_string().ends_with("20s: an earlier fetch has not ended yet"),
        "{error}"
    );
    world.server.stop();
    assert_eq!(first.join().unwrap().unwrap().label(), "unreachable");
}

#[test]
fn more_bytes_than_the_limit_are_refused() {
    let world = World::new();
    world.repo.commit(&[("noise", &noise(2_000_000))], "big");
    let fetcher = GitFetcher::new(world.storage()).with_max_bytes(100_000);
    let error = fetcher.fetch(&world.request()).err().unwrap();
    assert_eq!(
        world.stable(&error.to_string()),
        "unable to clone 'http://HOST/app': it is larger than the limit of 100000 bytes for one fetch"
    );
}

/// Whether a file is damaged.
type Hits = fn(&Path) -> bool;

#[test]
fn a_damaged_local_repository_is_fetched_anew() {
    let damages: [(&str, Hits); 5] = [
        ("no HEAD", |file| file.ends_with("HEAD")),
        ("no packs", |file| file.extension().is_some_and(|e| e == "pack")),
        ("no indexes", |file| file.extension().is_some_and(|e| e == "idx")),
        ("nothing in it", |_| true),
        ("no references", |file| file.to_string_lossy().contains("/refs/")),
    ];
    for truncate in [false, true] {
        for (what, hits) in &damages {
            let world = World::new();
            let commit = world.repo.commit(&[("a", "1"), ("d/b", "2")], "one");
            world.fetch();
            for file in files_below(&world.storage()).iter().filter(|file| hits(file)) {
                fs::remove_file(file).unwrap();
                if truncate {
                    fs::write(file, "").unwrap();
                }
            }
            // As after a restart: nothing of the old process is left in memory.
            let fetcher = GitFetcher::new(world.storage());
            let request = FetchRequest {
                previous: Some(format!("main@sha1:{commit}")),
                ..world.request()
            };
            let fetched = fetcher
                .fetch(&request)
                .unwrap_or_else(|e| panic!("{what}, truncate {truncate}: {e}"));
            assert_eq!(text(&fetched.tree, "d/b").as_deref(), Some("2"), "{what}");
        }
    }
}

#[test]
fn damage_that_only_a_read_finds_is_healed_by_the_next_fetch() {
    let world = World::new();
    world.repo.commit(&[("a", &noise(100_000))], "one");
    let first = world.fetch();
    drop(first);
    let packs = files_below(&world.storage())
        .into_iter()
        .filter(|file| file.extension().is_some_and(|e| e == "pack"));
    for pack in packs {
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle..middle + 64].fill(0);
        fs::remove_file(&pack).unwrap();
        fs::write(&pack, bytes).unwrap();
    }
    let second = world.fetch();
    let error = second.tree.read("a").unwrap_err().to_string();
    assert!(
        error.contains("the local repository is damaged and will be fetched anew"),
        "{error}"
    );
    assert_eq!(text(&world.fetch().tree, "a").map(|n| n.len()), Some(100_000));
}
