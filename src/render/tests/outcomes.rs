//! What a request gives: objects, places, read sets and failures.

use super::*;

#[tokio::test]
async fn a_request_renders_to_objects_with_their_places() {
    let request = RenderRequest {
        path: "./prod".to_owned(),
        target_namespace: Some("apps".to_owned()),
        name_prefix: Some("a-".to_owned()),
        name_suffix: Some("-z".to_owned()),
        patches: vec![Patch {
            patch: "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n  size: \"1\"\n".to_owned(),
            target: None,
        }],
        components: vec!["../nowhere".to_owned()],
        ignore_missing_components: true,
        substitute: Some(Substitution {
            variables: BTreeMap::from([("colour".to_owned(), "blue".to_owned())]),
            strict: true,
            always: false,
        }),
        ..RenderRequest::default()
    };
    let rendered = pool().render(&request, Arc::new(app())).await.unwrap();
    assert_eq!(
        serde_json::to_value(rendered.objects.iter().map(|o| &o.object).collect::<Vec<_>>()).unwrap(),
        serde_json::json!([{
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a-settings-z", "namespace": "apps", "labels": {"team": "a"}},
            "data": {"colour": "blue", "size": "1"},
        }])
    );
    assert_eq!(rendered.objects[0].file.as_deref(), Some("base/settings.yaml"));
    assert_eq!(rendered.objects[0].line, Some(1));
    assert_eq!(rendered.warnings.len(), 1);
    assert!(
        rendered.warnings[0].starts_with("prod/kustomization.yaml: 'commonLabels' is deprecated."),
        "{:?}",
        rendered.warnings
    );
}

#[tokio::test]
async fn the_read_set_has_every_path_and_what_was_found_there() {
    let tree = app();
    let rendered = pool().render(&at("prod"), Arc::new(tree)).await.unwrap();
    let found: Vec<(&str, &Found)> = rendered.reads.iter().collect();
    let file = |c: &str| Found::File(format!("digest of {c}"));
    assert_eq!(
        found,
        [
            ("base", &Found::Kind(FileKind::Dir)),
            ("base/Kustomization", &Found::Missing),
            ("base/kustomization.yaml", &file("resources:\n- settings.yaml\n")),
            ("base/kustomization.yml", &Found::Missing),
            ("base/settings.yaml", &file(CONFIG_MAP)),
            ("prod", &Found::Kind(FileKind::Dir)),
            ("prod/Kustomization", &Found::Missing),
            ("prod/kustomization.yaml", &file(PROD)),
            ("prod/kustomization.yml", &Found::Missing),
        ]
    );
}

#[tokio::test]
async fn a_read_set_holds_until_something_that_was_asked_for_changes() {
    let pool = pool();
    let scanned = || {
        Tree::new(&[
            ("d/a.yaml", CONFIG_MAP),
            ("d/sub/readme.md", "x"),
            ("e/b.yaml", CONFIG_MAP),
        ])
    };
    let listed = pool.render(&at("prod"), Arc::new(app())).await.unwrap().reads;
    let walked = pool.render(&at("d"), Arc::new(scanned())).await.unwrap().reads;
    for (what, reads, tree, changed, expected) in [
        ("nothing", &listed, app(), vec![], true),
        (
            "an unrelated file",
            &listed,
            app().with("unrelated/readme.md", "bye"),
            vec!["unrelated/readme.md"],
            true,
        ),
        (
            "a file that is not listed",
            &listed,
            app().with("base/new.yaml", "x"),
            vec!["base/new.yaml"],
            true,
        ),
        (
            "a file that is read",
            &listed,
            app().with("base/settings.yaml", "x"),
            vec!["base/settings.yaml"],
            false,
        ),
        (
            "a file that is gone",
            &listed,
            app().without("base/settings.yaml"),
            vec!["base/settings.yaml"],
            false,
        ),
        (
            "one looked for in vain",
            &listed,
            app().with("base/Kustomization", "x"),
            vec!["base/Kustomization"],
            false,
        ),
        (
            "a scanned file",
            &walked,
            scanned().with("d/a.yaml", "x"),
            vec!["d/a.yaml"],
            false,
        ),
        (
            "a new file to scan",
            &walked,
            scanned().with("d/b.yaml", "x"),
            vec!["d/b.yaml"],
            false,
        ),
        (
            "a new file below",
            &walked,
            scanned().with("d/sub/deep/b.yaml", "x"),
            vec!["d/sub/deep/b.yaml"],
            false,
        ),
        (
            "a file beside",
            &walked,
            scanned().with("e/b.yaml", "x"),
            vec!["e/b.yaml"],
            true,
        ),
        (
            "a directory gone",
            &walked,
            scanned().without("d/sub/readme.md"),
            vec!["d/sub/readme.md"],
            false,
        ),
        (
            "content that is not read",
            &walked,
            scanned().with("d/sub/readme.md", "y"),
            vec!["d/sub/readme.md"],
            true,
        ),
    ] {
        assert_eq!(
            reads.holds_after(changed.clone(), &tree).unwrap(),
            expected,
            "{what}, by the difference"
        );
        assert_eq!(reads.holds(&tree).unwrap(), expected, "{what}, by everything");
    }
}

#[tokio::test]
async fn failures_say_where_and_leave_the_worker_warm() {
    let pool = pool();
    let nowhere = pool.render(&at("no/where"), Arc::new(app())).await.unwrap_err();
    assert_eq!(nowhere, RenderError::NotFound("no/where".to_owned()));
    let warm = pool.idle_ids();

    let malformed = app().with("base/settings.yaml", "a: b\nc: d: e\n");
    let error = pool.render(&at("prod"), Arc::new(malformed)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "base/settings.yaml:2: malformed YAML: mapping values are not allowed in this context"
    );
    let remote = Tree::new(&[("kustomization.yaml", "resources:\n- https://example.com/org/repo//x\n")]);
    let error = pool.render(&at(""), Arc::new(remote)).await.unwrap_err();
    assert!(matches!(error, RenderError::Invalid { .. }), "{error:?}");
    assert!(
        error
            .to_string()
            .starts_with("kustomization.yaml:2: remote base 'https://example.com/org/repo//x' refused"),
        "{error}"
    );
    let mut broken = app();
    broken.broken = Some("base/settings.yaml");
    let error = pool.render(&at("prod"), Arc::new(broken)).await.unwrap_err();
    assert_eq!(error.to_string(), "cannot read base/settings.yaml: the disk is on fire");

    let huge = app().with("base/settings.yaml", &"#".repeat(protocol::MAX_FILE + 1));
    let error = pool.render(&at("prod"), Arc::new(huge)).await.unwrap_err();
    assert!(
        matches!(&error, RenderError::TooLarge { place, .. } if place.path.as_deref() == Some("base/settings.yaml"))
    );

    assert_eq!(pool.idle_ids(), warm);
    assert_eq!(
        pool.render(&at("prod"), Arc::new(app())).await.unwrap().objects.len(),
        1
    );
}
