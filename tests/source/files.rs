//! What a tree shows and what its artifact holds.

use super::*;

#[test]
fn a_tree_shows_what_the_artifact_holds() {
    let world = World::new();
    let content = [
        ("deploy/app.yaml", "x"),
        ("deploy/run.sh", "#!"),
        ("deploy.txt", "t"),
        ("logo.png", "p"),
        (".sops.yaml", ""),
    ];
    world.repo.commit(&content, "one");
    std::os::unix::fs::symlink("deploy.txt", world.repo.path().join("link")).unwrap();
    std::os::unix::fs::symlink("/etc", world.repo.path().join("deploy/etc")).unwrap();
    world.repo.git(&[
        "update-index",
        "--add",
        "--cacheinfo",
        &format!("160000,{},module", "1".repeat(40)),
    ]);
    world.repo.git(&["add", "link", "deploy/etc"]);
    world.repo.git(&["update-index", "--chmod=+x", "deploy/run.sh"]);
    world.repo.git(&["commit", "--quiet", "--message", "two"]);
    let tree = world.fetch().tree;
    assert_eq!(names(&tree, ""), ["deploy", "deploy.txt"]);
    assert_eq!(names(&tree, "deploy"), ["app.yaml", "run.sh"]);
    assert_eq!(tree.stat("").unwrap(), Some(FileKind::Dir));
    assert_eq!(tree.stat("deploy").unwrap(), Some(FileKind::Dir));
    assert_eq!(tree.stat("deploy/app.yaml").unwrap(), Some(FileKind::File));
    for missing in [
        "link",
        "module",
        "logo.png",
        ".sops.yaml",
        "deploy/etc/passwd",
        "deploy/x",
        "deploy.txt/x",
    ] {
        assert_eq!(tree.stat(missing).unwrap(), None, "{missing}");
        assert_eq!(tree.read(missing).unwrap(), None, "{missing}");
        assert_eq!(tree.digest(missing).unwrap(), None, "{missing}");
        assert_eq!(tree.list(missing).unwrap(), None, "{missing}");
    }
    for odd in ["..", "deploy/..", "/deploy", "deploy/", "./deploy", "deploy//app.yaml"] {
        assert_eq!(tree.stat(odd).unwrap(), None, "{odd}");
    }
    let blob = world.repo.git(&["rev-parse", "HEAD:deploy/app.yaml"]);
    assert_eq!(tree.digest("deploy/app.yaml").unwrap(), Some(blob));
    assert_eq!(
        packed(&world, &tree),
        [
            "deploy/ 750",
            "deploy/app.yaml 600",
            "deploy/run.sh 700",
            "deploy.txt 600"
        ]
    );
}

#[test]
fn sourceignore_files_and_spec_ignore_combine() {
    let world = World::new();
    let content = [
        ("a/.sourceignore", "*.md\n"),
        ("a/x.md", ""),
        ("a/x.yaml", ""),
        ("b/x.md", ""),
        ("logo.png", ""),
        (".gitignore", ""),
    ];
    world.repo.commit(&content, "one");
    assert_eq!(
        packed(&world, &world.fetch().tree),
        [
            "a/ 750",
            "a/.sourceignore 600",
            "a/x.yaml 600",
            "b/ 750",
            "b/x.md 600",
            "logo.png 600"
        ]
    );
    let ignore = Some("/*\n!/a\n!/b/x.md\n".to_owned());
    let tree = world
        .fetcher
        .fetch(&FetchRequest {
            ignore,
            ..world.request()
        })
        .unwrap()
        .tree;
    assert_eq!(
        packed(&world, &tree),
        [
            "a/ 750",
            "a/.sourceignore 600",
            "a/x.md 600",
            "a/x.yaml 600",
            "b/ 750",
            "b/x.md 600"
        ]
    );
    assert_eq!(names(&tree, "b"), ["x.md"]);
}

/// Stores a tree and lists the archive: paths and modes.
fn packed(world: &World, tree: &weir::source::SourceTree) -> Vec<String> {
    let store = ArtifactStore::new(world.storage(), "localhost:9090");
    let revision = format!("main@sha1:{}", tree.commit());
    let now = "2026-01-02T03:04:05.6Z".parse().unwrap();
    let artifact = store.put("flux-system", "app", &revision, tree, now).unwrap();
    let file = fs::File::open(world.storage().join(&artifact.path)).unwrap();
    let mut archive = tar::Archive::new(GzDecoder::new(file));
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let path = entry.path().unwrap().display().to_string();
        if entry.header().entry_type().is_file() {
            assert_eq!(tree.read(&path).unwrap(), Some(content));
        }
        format!("{path} {:o}", entry.header().mode().unwrap())
    });
    entries.collect()
}

#[test]
fn artifacts_are_the_same_from_any_fetcher_and_for_equal_content() {
    let world = World::new();
    let now = "2026-01-02T03:04:05.6Z".parse().unwrap();
    let one = world.repo.commit(&[("a/x", "1"), ("b", "2")], "one");
    let two = world.repo.commit(&[], "nothing new");
    let put = |place: &str, previous: &str, ignore: Option<&str>| {
        let root = world.directory.path().join(place);
        let tree = GitFetcher::new(&root)
            .fetch(&FetchRequest {
                ignore: ignore.map(str::to_owned),
                reference: Some(GitRef {
                    commit: Some(previous.to_owned()),
                    ..branch("main")
                }),
                ..world.request()
            })
            .unwrap()
            .tree;
        let revision = format!("main@sha1:{previous}");
        ArtifactStore::new(&root, "localhost:9090")
            .put("ns", "app", &revision, &tree, now)
            .unwrap()
    };
    let first = put("here", &one, None);
    assert_eq!(first.path, format!("gitrepository/ns/app/{one}.tar.gz"));
    assert_eq!(first.url, format!("http://localhost:9090/{}", first.path));
    assert_eq!(first.revision, format!("main@sha1:{one}"));
    assert_eq!(first.last_update_time, "2026-01-02T03:04:05Z");
    assert_eq!(put("there", &one, None), first);
    assert_eq!(put("here", &two, None).digest, first.digest);
    assert_ne!(put("here", &one, Some("b")).digest, first.digest);
}

#[test]
fn the_store_keeps_what_is_needed_and_forgets_the_rest() {
    let world = World::new();
    let store = ArtifactStore::new(world.storage(), "localhost:9090");
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let mut artifacts = Vec::new();
    for number in 0..4 {
        let commit = world.repo.commit(&[("a", &number.to_string())], "next");
        let tree = world.fetch().tree;
        artifacts.push(
            store
                .put("ns", "app", &format!("main@sha1:{commit}"), &tree, now)
                .unwrap(),
        );
    }
    let current = artifacts.last();
    let collect = |now: SystemTime| store.collect_garbage("ns", "app", current, now).unwrap().len();
    assert_eq!(collect(SystemTime::now()), 0, "all are young");
    assert_eq!(collect(SystemTime::now() + RETAINED_FOR * 2), 2);
    let has: Vec<bool> = artifacts.iter().map(|artifact| store.has(artifact)).collect();
    assert_eq!(has.iter().filter(|has| **has).count(), 2);
    assert!(has[3], "the one in use stays");
    let mut outside = artifacts[3].clone();
    outside.path = format!("../storage/{}", outside.path);
    assert!(!store.has(&outside));
    store.remove("ns", "app").unwrap();
    assert!(!store.has(&artifacts[3]));
    assert_eq!(collect(SystemTime::now()), 0, "nothing there is no error");
    store.remove("ns", "app").unwrap();
}
