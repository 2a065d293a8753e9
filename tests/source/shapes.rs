//! Trees that are more or less than their commit: sparse checkouts, submodules, included repositories.

use weir::source::Mount;
use weir::source::store::StoreError;

use super::*;

fn shaped(world: &World, shape: Shape) -> Result<Fetched, String> {
    let request = FetchRequest {
        shape,
        ..world.request()
    };
    let fetched = world.fetcher.fetch(&request);
    fetched.map_err(|error| world.stable(&error.to_string()))
}

fn all(tree: &dyn Files, path: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in tree.list(path).unwrap().unwrap() {
        let child = if path.is_empty() {
            entry.name
        } else {
            format!("{path}/{}", entry.name)
        };
        match entry.kind {
            FileKind::Dir => found.extend(all(tree, &child)),
            FileKind::File => found.push(child),
        }
    }
    found
}

fn submodules() -> Shape {
    Shape {
        submodules: true,
        ..Shape::default()
    }
}

/// Adds a repository on the same server as a submodule.
fn add(parent: &Repo, url: &str, path: &str) {
    parent.git(&[
        "-c",
        "protocol.allow=always",
        "submodule",
        "--quiet",
        "add",
        "--force",
        url,
        path,
    ]);
}

#[test]
fn a_sparse_checkout_holds_its_directories_and_their_rules() {
    let world = World::new();
    world.repo.commit(
        &[
            ("apps/a/x", "1"),
            ("apps/b/y", "2"),
            ("infra/.sourceignore", "*.md"),
            ("infra/z", "3"),
            ("infra/note.md", ""),
            (".sourceignore", "x"),
            ("top", ""),
        ],
        "one",
    );
    let sparse = |directories: &[&str]| {
        let sparse = directories.iter().map(|one| (*one).to_owned()).collect();
        let shape = Shape {
            sparse,
            ..Shape::default()
        };
        shaped(&world, shape).map(|fetched| all(&fetched.tree, ""))
    };
    // The rules at the top are not checked out either.
    assert_eq!(sparse(&["apps/a"]).unwrap(), ["apps/a/x"]);
    assert_eq!(
        sparse(&["./apps", "infra/"]).unwrap(),
        ["apps/a/x", "apps/b/y", "infra/.sourceignore", "infra/z"]
    );
    let missing = sparse(&["apps", "nowhere"]).unwrap_err();
    assert_eq!(
        missing,
        "failed to sparse checkout directories: 'nowhere' does not exist in the repository"
    );
    assert!(sparse(&["../etc"]).unwrap_err().contains("leads out of the repository"));
    assert!(sparse(&["top"]).unwrap_err().contains("is a file"));
}

#[test]
fn submodules_are_fetched_at_the_commit_that_the_repository_names() {
    let world = World::new();
    let served = world.directory.path().join("served");
    let (library, deep) = (Repo::new(&served, "library"), Repo::new(&served, "deep"));
    deep.commit(&[("bottom", "1")], "one");
    library.commit(&[("code", "1")], "one");
    add(&library, &world.server.url("deep"), "nested");
    let pinned = library.commit(&[], "with a submodule of its own");
    world.repo.commit(&[("a", "1")], "one");
    add(&world.repo, "../library", "vendor/library");
    world.repo.commit(&[], "with a submodule");
    library.commit(&[("code", "2")], "not asked for");

    let without = world.fetch();
    assert_eq!(all(&without.tree, ""), ["a"]);
    let first = shaped(&world, submodules()).unwrap();
    let expect = ["a", "vendor/library/code", "vendor/library/nested/bottom"];
    assert_eq!(all(&first.tree, ""), expect);
    assert_eq!(text(&first.tree, "vendor/library/code").as_deref(), Some("1"));
    // Nothing changed: nobody else is asked.
    world.server.take_log();
    let second = shaped(&world, submodules()).unwrap();
    assert_eq!(all(&second.tree, ""), expect);
    let log = world.server.take_log();
    assert!(log.iter().all(|line| line.contains("/app/")), "{log:?}");
    // A new commit of the submodule is a new commit here.
    world.repo.git(&["-C", "vendor/library", "fetch", "--quiet"]);
    world
        .repo
        .git(&["-C", "vendor/library", "checkout", "--quiet", "origin/main"]);
    world.repo.commit(&[], "newer");
    let third = shaped(&world, submodules()).unwrap();
    assert_eq!(text(&third.tree, "vendor/library/code").as_deref(), Some("2"));
    assert_ne!(library.git(&["rev-parse", "HEAD"]), pinned);
    // Gone from the repository, gone from the disk.
    world.repo.git(&["rm", "--quiet", "-f", "vendor/library"]);
    world.repo.commit(&[], "without");
    drop((first, second, third));
    shaped(&world, submodules()).unwrap();
    let left = files_below(&world.storage());
    assert!(
        left.iter().all(|file| !file.to_string_lossy().contains("/modules/")),
        "{left:?}"
    );
}

#[test]
fn a_submodule_that_cannot_be_had_is_named() {
    let world = World::new();
    let served = world.directory.path().join("served");
    let library = Repo::new(&served, "library");
    library.commit(&[("code", "1")], "one");
    world.repo.commit(&[("a", "1")], "one");
    add(&world.repo, &world.server.url("library"), "lib");
    world.repo.commit(&[], "with a submodule");
    let urls = |url: &str| {
        world
            .repo
            .git(&["config", "-f", ".gitmodules", "submodule.lib.url", url]);
        world.repo.commit(&[], "elsewhere");
        shaped(&world, submodules()).map(|_| ()).unwrap_err()
    };
    assert_eq!(
        urls(&world.server.url("nothing")),
        "submodule 'lib': unable to clone 'http://HOST/nothing': repository not found"
    );
    assert!(urls("file:///etc").contains("only https, http and ssh are supported"));
    assert!(urls("/etc").contains("only https, http and ssh are supported"));
    world
        .repo
        .git(&["config", "-f", ".gitmodules", "submodule.lib.path", "../out"]);
    world.repo.commit(&[], "outside");
    let outside = shaped(&world, submodules()).map(|_| ()).unwrap_err();
    assert_eq!(
        outside,
        ".gitmodules: submodule \"lib\" has a path outside of the repository"
    );
}

#[test]
fn credentials_are_not_shown_to_submodules_elsewhere() {
    let world = World::new();
    let served = world.directory.path().join("served");
    let elsewhere = GitServer::start(&served);
    Repo::new(&served, "library").commit(&[("code", "1")], "one");
    world.repo.commit(&[("a", "1")], "one");
    add(&world.repo, &elsewhere.url("library"), "lib");
    world.repo.commit(&[], "with a submodule");
    elsewhere.take_log();
    let request = FetchRequest {
        credentials: Credentials::Bearer("t0ken".to_owned()),
        shape: submodules(),
        ..world.request()
    };
    let fetched = world.fetcher.fetch(&request).unwrap();
    assert_eq!(all(&fetched.tree, ""), ["a", "lib/code"]);
    let log = elsewhere.take_log();
    assert!(!log.is_empty() && log.iter().all(|line| !line.contains('[')), "{log:?}");
}

#[test]
fn included_trees_are_part_of_the_artifact() -> Result<(), StoreError> {
    let world = World::new();
    world
        .repo
        .commit(&[("a", "1"), ("d/b", "2"), (".sourceignore", "*.md")], "one");
    let other = World::new();
    other
        .repo
        .commit(&[("deploy/run.sh", "#!"), ("deploy/note.md", ""), ("x", "")], "one");
    other.repo.git(&["update-index", "--chmod=+x", "deploy/run.sh"]);
    other.repo.git(&["commit", "--quiet", "--message", "executable"]);
    let files: Arc<dyn Files> = Arc::new(other.fetch().tree);
    let include = |path: &str, from: &str| {
        let mount = Mount {
            path: path.to_owned(),
            from: from.to_owned(),
            files: Arc::clone(&files),
        };
        let includes = vec![mount];
        shaped(
            &world,
            Shape {
                includes,
                ..Shape::default()
            },
        )
    };
    let fetched = include("d/other", "deploy").unwrap();
    assert_eq!(all(&fetched.tree, ""), [".sourceignore", "a", "d/b", "d/other/run.sh"]);
    let store = ArtifactStore::new(world.storage(), "h");
    let now = "2026-01-02T03:04:05Z".parse().unwrap();
    let artifact = store.put("flux-system", "app", &fetched.revision, &fetched.tree, now)?;
    // What is on disk is what is shown, modes included; as after a restart.
    let unpacked = store.open(&artifact).unwrap();
    assert_eq!(all(&unpacked, ""), all(&fetched.tree, ""));
    assert_eq!(unpacked.is_executable("d/other/run.sh"), Ok(true));
    assert_eq!(unpacked.is_executable("a"), Ok(false));
    assert_eq!(
        include("d", "").map(|_| ()).unwrap_err(),
        "spec.include: there is already something at 'd'; choose another toPath"
    );
    Ok(())
}
