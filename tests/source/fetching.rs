//! What is fetched: references, history, increments, restarts.

use super::*;

#[test]
fn a_branch_is_fetched_once_and_then_only_asked_about() {
    let world = World::new();
    let commit = world
        .repo
        .commit(&[("deploy/a.yaml", "a: 1\n")], "First words\n\nAnd more.");
    let first = world.fetch();
    assert_eq!(first.revision, format!("main@sha1:{commit}"));
    assert_eq!(first.commit.id, commit);
    assert_eq!(first.commit.author, "Ada <ada@example.com>");
    assert_eq!(first.commit.subject, "First words");
    assert_eq!((first.unchanged, first.history), (false, History::First));
    assert_eq!(text(&first.tree, "deploy/a.yaml").as_deref(), Some("a: 1\n"));
    assert_eq!(
        world.server.take_log(),
        [
            "GET /app/info/refs?service=git-upload-pack",
            "POST /app/git-upload-pack",
            "POST /app/git-upload-pack"
        ]
    );

    let second = world.fetch_after(&commit);
    assert!(second.unchanged);
    assert_eq!((second.received_bytes, second.history), (0, History::Same));
    assert_eq!(text(&second.tree, "deploy/a.yaml").as_deref(), Some("a: 1\n"));
    assert_eq!(world.server.take_log(), ["GET /app/info/refs?service=git-upload-pack"]);
}

#[test]
fn every_kind_of_reference_leads_to_its_commit() {
    let world = World::new();
    let one = world.repo.commit(&[("v", "1")], "one");
    world.repo.git(&["tag", "v1.0.0"]);
    let two = world.repo.commit(&[("v", "2")], "two");
    world.repo.git(&["tag", "--annotate", "--message", "Release", "v1.1.0"]);
    world.repo.git(&["update-ref", "refs/pull/7/head", &one]);
    let three = world.repo.commit(&[("v", "3")], "three");
    world.repo.git(&["tag", "v2.0.0-rc.1"]);
    let check = |reference: GitRef, revision: String, content: &str| {
        let fetched = world.fetch_ref(reference.clone()).unwrap();
        assert_eq!(fetched.revision, revision);
        assert_eq!(text(&fetched.tree, "v").as_deref(), Some(content), "{reference:?}");
    };
    let none = GitRef::default;
    let some = |text: &str| Some(text.to_owned());
    check(branch("main"), format!("main@sha1:{three}"), "3");
    check(
        GitRef {
            tag: some("v1.0.0"),
            ..none()
        },
        format!("v1.0.0@sha1:{one}"),
        "1",
    );
    check(
        GitRef {
            tag: some("v1.1.0"),
            ..none()
        },
        format!("v1.1.0@sha1:{two}"),
        "2",
    );
    check(
        GitRef {
            semver: some("1.x"),
            ..none()
        },
        format!("v1.1.0@sha1:{two}"),
        "2",
    );
    check(
        GitRef {
            semver: some(">=1.0.0-0"),
            ..none()
        },
        format!("v2.0.0-rc.1@sha1:{three}"),
        "3",
    );
    check(
        GitRef {
            name: some("refs/pull/7/head"),
            ..none()
        },
        format!("refs/pull/7/head@sha1:{one}"),
        "1",
    );
    check(
        GitRef {
            commit: some(&two),
            ..none()
        },
        format!("sha1:{two}"),
        "2",
    );
    check(
        GitRef {
            commit: some(&one),
            ..branch("main")
        },
        format!("main@sha1:{one}"),
        "1",
    );
}

#[test]
fn a_commit_is_found_in_the_history_by_a_fetcher_that_has_nothing_yet() {
    let on_branch = |reference: &dyn Fn(&str) -> GitRef, revision: &str| {
        let world = World::new();
        let one = world.repo.commit(&[("v", "1")], "one");
        world.repo.commit(&[("v", "2")], "two");
        world.repo.commit(&[("v", "3")], "three");
        let fetched = world.fetch_ref(reference(&one)).unwrap();
        assert_eq!(fetched.revision, format!("{revision}sha1:{one}"));
        assert_eq!(text(&fetched.tree, "v").as_deref(), Some("1"));
    };
    let pinned = |commit: &str, reference| GitRef {
        commit: Some(commit.to_owned()),
        ..reference
    };
    on_branch(&|commit| pinned(commit, GitRef::default()), "");
    on_branch(&|commit| pinned(commit, branch("main")), "main@");
}

#[test]
fn an_incremental_fetch_moves_few_bytes() {
    let world = World::new();
    let one = world.repo.commit(&[("noise", &noise(2_000_000)), ("a", "1")], "one");
    assert!(world.fetch().received_bytes > 1_000_000);
    world.repo.commit(&[("a", "2")], "two");
    let second = world.fetch_after(&one);
    assert!(second.received_bytes < 2_000, "{} bytes", second.received_bytes);
    assert_eq!(second.history, History::Descends);
    assert_eq!(text(&second.tree, "a").as_deref(), Some("2"));
    assert_eq!(text(&second.tree, "noise").map(|n| n.len()), Some(2_000_000));
}

#[test]
fn a_first_fetch_brings_no_history() {
    let world = World::new();
    world.repo.commit(&[("noise", &noise(2_000_000))], "big");
    world.repo.commit(&[("noise", "small")], "small");
    assert!(world.fetch().received_bytes < 2_000);
}

#[test]
fn a_rewritten_history_is_noticed_and_new_commits_are_not_taken_for_one() {
    let world = World::new();
    world.repo.commit(&[("a", "0")], "zero");
    let mut last = world.repo.commit(&[("a", "1")], "one");
    world.fetch();
    for (count, expect) in [(1, History::Descends), (5, History::Descends), (40, History::Descends)] {
        let before = last.clone();
        for number in 0..count {
            last = world.repo.commit(&[], &format!("{number} of {count}"));
        }
        let fetched = world.fetch_after(&before);
        assert_eq!(
            (fetched.history, fetched.rewritten),
            (expect, Vec::new()),
            "{count} commits"
        );
    }
    world
        .repo
        .git(&["commit", "--quiet", "--amend", "--allow-empty", "--message", "amended"]);
    let amended = world.fetch_after(&last);
    assert_eq!((amended.history, amended.rewritten), (History::Rewritten, vec![last]));

    let last = amended.commit.id;
    let three = world.repo.git(&["rev-list", "--max-count=3", "HEAD"]);
    world.repo.git(&["reset", "--quiet", "--hard", "HEAD~3"]);
    let back = world.fetch_after(&last);
    assert_eq!(back.history, History::Rewritten);
    assert_eq!(
        back.rewritten,
        three.lines().collect::<Vec<_>>(),
        "all that was lost is named"
    );

    let last = back.commit.id;
    world.repo.git(&["checkout", "--quiet", "--orphan", "fresh"]);
    world.repo.commit(&[("a", "fresh")], "fresh");
    world.repo.git(&["branch", "--force", "main", "fresh"]);
    let fresh = world.fetch_after(&last);
    assert_eq!(
        (fresh.history, fresh.rewritten.first()),
        (History::Rewritten, Some(&last))
    );
    assert_eq!(fresh.rewritten.len(), 10, "enough of them");
}

#[test]
fn another_branch_is_no_rewritten_history() {
    let world = World::new();
    let commit = world.repo.commit(&[("a", "1")], "one");
    let request = FetchRequest {
        previous: Some(format!("other@sha1:{}", "1".repeat(40))),
        ..world.request()
    };
    let fetched = world.fetcher.fetch(&request).unwrap();
    assert_eq!((fetched.history, fetched.commit.id), (History::First, commit));
}

#[test]
fn a_restart_opens_what_is_there_without_the_network() {
    let mut world = World::new();
    let one = world.repo.commit(&[("a", "1"), ("b", "1")], "one");
    world.fetch();
    world.server.stop();
    let fetcher = GitFetcher::new(world.storage());
    let tree = fetcher.open("flux-system", "app", &one, Some("b")).unwrap();
    assert_eq!(names(&tree, ""), ["a"]);
    assert_eq!(tree.commit(), one);
    assert!(fetcher.open("flux-system", "app", &"1".repeat(40), None).is_none());
    assert!(fetcher.open("flux-system", "other", &one, None).is_none());
    assert!(fetcher.open("..", "app", &one, None).is_none());
    drop(tree);
    fetcher.remove("flux-system", "app");
    assert!(fetcher.open("flux-system", "app", &one, None).is_none());
    assert_eq!(files_below(&world.storage()), [] as [PathBuf; 0]);
}
