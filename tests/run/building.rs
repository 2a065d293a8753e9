//! How a build comes out: variables in all their forms, components, metadata of the build, what the repository holds.

use serde_json::{Value, json};

use crate::cluster::eventually;
use crate::world::{CONFIG_MAP, KUSTOMIZATION, World, config_map};

/// Waits until a Kustomization does not build, with this part in what it says.
async fn does_not_build(world: &World, name: &str, part: &str) -> String {
    eventually(&format!("{name} says {part:?}"), async || {
        let (_, message) = world.not_ready(name, "BuildFailed").await;
        if message.contains(part) {
            Ok(message)
        } else {
            Err(message)
        }
    })
    .await
}

#[tokio::test]
async fn variables_are_replaced_as_flux_replaces_them() {
    let Some(world) = World::start("variables").await else {
        return;
    };
    let data = |lines: &[(&str, &str)]| {
        let lines: Vec<String> = lines.iter().map(|(key, text)| format!("  {key}: {text}\n")).collect();
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: settings\ndata:\n{}",
            lines.concat()
        )
    };
    let forms = [
        ("plain", "${word}"),
        ("bare", "$word"),
        ("escaped", "$${word}"),
        ("default", "${none:-else} ${none:=else} ${word:-else}"),
        ("empty", "\"<${blank:-else}>\""),
        ("part", "${word:1:2}"),
        ("length", "n${#word}"),
        ("upper", "${word^^}${word^}"),
        ("replaced", "${word/o/0} ${word//r/R}"),
        ("cut", "${path##*/} ${path%/*}"),
        ("lines", "${lines}"),
        ("number", "${q}${number}${q}"),
        ("inside", "a${word}b"),
    ];
    let first = world.commit(&[("app/settings.yaml", &data(&forms))]);
    world.source(json!({})).await;
    let variables = json!({"word": "word", "path": "a/b/c", "lines": "x\ny\n", "number": "1", "q": "\"", "blank": ""});
    let spec = json!({"path": "./app", "postBuild": {"substitute": variables}});
    world.kustomization("app", spec).await;
    world.ready("app", &first).await;
    let found = world.data("settings").await;
    assert_eq!(
        found,
        json!({
            "plain": "word", "bare": "$word", "escaped": "${word}", "default": "else else word", "empty": "<else>",
            "part": "or", "length": "n4", "upper": "WORDWord", "replaced": "w0rd woRd", "cut": "c a/b", "lines": "xy",
            "number": "1", "inside": "awordb",
        }),
    );

    // Read again as YAML, whose quotes kustomize has dropped: what looks like a number is one, and the API server has its say.
    world.commit(&[("app/settings.yaml", &data(&[("number", "\"${number}\"")]))]);
    world.not_ready("app", "ReconciliationFailed").await;

    // Strictness: unknown names are errors and all tell their name, wherever a default does not help.
    world.commit(&[("app/settings.yaml", &data(&[("x", "${unknown}")]))]);
    let message = does_not_build(&world, "app", "unknown").await;
    assert!(
        message.contains("post build failed for 'ConfigMap/")
            && message.contains("variable not set (strict mode): \"unknown\""),
        "{message}"
    );

    // Without postBuild everything stays as it is; so it does without one variable, unless that is asked for.
    let raw = world.commit(&[(
        "app/settings.yaml",
        &data(&[("x", "${unknown} $${word}"), ("d", "${none:=else}")]),
    )]);
    let bare = json!({"spec": {"postBuild": null}});
    world.merge(KUSTOMIZATION, "app", bare).await;
    world.ready("app", &raw).await;
    assert_eq!(
        world.data("settings").await,
        json!({"x": "${unknown} $${word}", "d": "${none:=else}"})
    );
    let none = json!({"spec": {"postBuild": {"substitute": {}}}});
    world.merge(KUSTOMIZATION, "app", none).await;
    world.ready("app", &raw).await;
    assert_eq!(world.data("settings").await["d"], "${none:=else}");
    let always = world.commit(&[("app/settings.yaml", &data(&[("x", "$${word}"), ("d", "${none:=else}")]))]);
    let strategy = json!({"spec": {"postBuild": {"substituteStrategy": "Always"}}});
    world.merge(KUSTOMIZATION, "app", strategy).await;
    world.ready("app", &always).await;
    eventually("defaults count", async || {
        let found = world.data("settings").await;
        if found == json!({"x": "${word}", "d": "else"}) {
            Ok(())
        } else {
            Err(found.to_string())
        }
    })
    .await;
}

#[tokio::test]
async fn variables_come_from_the_last_who_has_them_and_must_be_there() {
    let Some(world) = World::start("variables-from").await else {
        return;
    };
    let settings = config_map("settings", "${a} ${b} ${c}");
    let commit = world.commit(&[("settings.yaml", &settings)]);
    let object = |kind: &str, name: &str, field: &str, data: Value| {
        let metadata = json!({"name": name, "labels": {"reconcile.fluxcd.io/watch": "Enabled"}});
        json!({"apiVersion": "v1", "kind": kind, "metadata": metadata, field: data})
    };
    let map = object("ConfigMap", "vars", "data", json!({"a": "map", "b": "map", "c": "map"}));
    world.cluster.apply(&world.namespace, map).await;
    world.source(json!({})).await;
    let from = json!([{"kind": "ConfigMap", "name": "vars"}, {"kind": "Secret", "name": "secret-vars"}]);
    let spec = json!({"retryInterval": "1h", "postBuild": {"substitute": {"c": "inline"}, "substituteFrom": from}});
    world.kustomization("app", spec).await;
    let missing = "substitute from 'Secret/secret-vars' error: secrets \"secret-vars\" not found";
    does_not_build(&world, "app", missing).await;
    // The retry interval is an hour: who is watched is followed at once.
    let secret = object("Secret", "secret-vars", "stringData", json!({"b": "secret"}));
    world.cluster.apply(&world.namespace, secret).await;
    world.ready("app", &commit).await;
    assert_eq!(world.data("settings").await["value"], "map secret inline");
    let bad = json!({"data": {"not-a-name": "x"}});
    world.merge(CONFIG_MAP, "vars", bad).await;
    does_not_build(
        &world,
        "app",
        "'not-a-name' var name is invalid, must match '^[_[:alpha:]][_[:alpha:][:digit:]]*$'",
    )
    .await;
    world
        .merge(CONFIG_MAP, "vars", json!({"data": {"not-a-name": null}}))
        .await;
    world.ready("app", &commit).await;
    world.cluster.delete("v1/Secret", &world.namespace, "secret-vars").await;
    does_not_build(&world, "app", missing).await;
}

#[tokio::test]
async fn components_may_be_missing_where_that_is_allowed_and_builds_may_name_their_origin() {
    let Some(world) = World::start("components").await else {
        return;
    };
    let commit = world.commit(&[
        (
            "app/kustomization.yaml",
            "resources: [settings.yaml]\nlabels:\n- pairs: {team: shop}\n",
        ),
        ("app/settings.yaml", &config_map("settings", "one")),
        (
            "there/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [more.yaml]\n",
        ),
        ("there/more.yaml", &config_map("more", "one")),
    ]);
    world.source(json!({})).await;
    let components = json!({"path": "./app", "components": ["../there", "../absent"]});
    world.kustomization("app", components).await;
    does_not_build(&world, "app", "absent").await;
    let ignoring = json!({"spec": {"ignoreMissingComponents": true,
        "buildMetadata": ["originAnnotations", "transformerAnnotations"]}});
    world.merge(KUSTOMIZATION, "app", ignoring).await;
    world.ready("app", &commit).await;
    assert_eq!(world.data("more").await["value"], "one");
    let settings = world.get(CONFIG_MAP, "settings").await.unwrap();
    let annotations = &settings["metadata"]["annotations"];
    assert_eq!(annotations["config.kubernetes.io/origin"], "path: settings.yaml\n");
    let transformed = annotations["alpha.config.kubernetes.io/transformations"]
        .as_str()
        .unwrap();
    assert!(transformed.contains("LabelTransformer"), "{transformed}");
    assert_eq!(settings["metadata"]["labels"]["team"], "shop");

    // A component that comes to be there is part of the next build.
    let whole = world.commit(&[
        (
            "absent/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nresources: [late.yaml]\n",
        ),
        ("absent/late.yaml", &config_map("late", "one")),
    ]);
    world.ready("app", &whole).await;
    assert_eq!(world.data("late").await["value"], "one");
}

#[tokio::test]
async fn what_a_directory_holds_is_built_whether_it_says_how_or_not() {
    let Some(world) = World::start("directories").await else {
        return;
    };
    let wrong = config_map("wrong", "one").replace("  name: wrong\n", "  labels: {a: b}\n");
    let first = world.commit(&[
        ("flat/one.yaml", &config_map("one", "1")),
        ("flat/deep/two.yml", &config_map("two", "2")),
        ("flat/deep/notes.txt", "no YAML: ["),
        (
            "flat/own/kustomization.yaml",
            "namePrefix: own-\nresources: [three.yaml]\n",
        ),
        ("flat/own/three.yaml", &config_map("three", "3")),
        ("flat/own/unused.yaml", &config_map("unused", "4")),
        (
            "flat/many.yaml",
            &format!("{}---\n{}---\n", config_map("four", "4"), config_map("five", "5")),
        ),
        ("nothing/README.md", "nothing here"),
        ("unnamed/wrong.yaml", &wrong),
    ]);
    world.source(json!({})).await;
    world.kustomization("flat", json!({"path": "./flat"})).await;
    world.kustomization("nothing", json!({"path": "./nothing"})).await;
    world.kustomization("unnamed", json!({"path": "unnamed"})).await;
    let object = world.ready("flat", &first).await;
    let entries = object["status"]["inventory"]["entries"].as_array().unwrap();
    let ids: Vec<String> = entries
        .iter()
        .map(|one| one["id"].as_str().unwrap().to_owned())
        .collect();
    let expect = ["five", "four", "one", "own-three", "two"];
    assert_eq!(ids, expect.map(|name| format!("{}_{name}__ConfigMap", world.namespace)));
    assert!(entries.iter().all(|one| one["v"] == "v1"));
    let object = world.ready("nothing", &first).await;
    assert_eq!(object["status"]["inventory"]["entries"], json!([]));
    does_not_build(&world, "unnamed", "missing metadata.name").await;

    // All that was there leaves Git at once, and the directory is empty: what it owned goes.
    world.repo.git(&["rm", "--quiet", "-r", "flat"]);
    let second = world.commit(&[("flat/README.md", "nothing here either")]);
    world.ready("flat", &second).await;
    for name in ["one", "two", "four", "own-three"] {
        assert!(world.get(CONFIG_MAP, name).await.is_none(), "{name}");
    }
}

#[tokio::test]
async fn a_failure_says_which_step_it_was() {
    let Some(world) = World::start("steps").await else {
        return;
    };
    world.commit(&[
        ("dangling/kustomization.yaml", "resources: [absent.yaml]\n"),
        ("unset/settings.yaml", &config_map("settings", "${absent}")),
    ]);
    world.source(json!({})).await;
    world.kustomization("dangling", json!({"path": "./dangling"})).await;
    let variables = json!({"path": "./unset", "postBuild": {"substitute": {"known": "word"}}});
    world.kustomization("unset", variables).await;
    let message = does_not_build(&world, "dangling", "kustomize build failed: ").await;
    assert!(
        message.starts_with("kustomize build failed: dangling/kustomization.yaml"),
        "{message}"
    );
    let message = does_not_build(&world, "unset", "post build failed").await;
    let expect = format!(
        "unset/settings.yaml:1: post build failed for 'ConfigMap/{}/settings': envsubst error: variable substitution failed: \
         variable not set (strict mode): \"absent\"",
        world.namespace
    );
    assert_eq!(message, expect);
}

#[tokio::test]
async fn a_definition_and_an_object_of_its_kind_come_in_one_commit() {
    let Some(world) = World::start("definition").await else {
        return;
    };
    let group = format!("{}.example", world.namespace);
    let definition = format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata:\n  name: things.{group}\nspec:\n  \
         group: {group}\n  scope: Namespaced\n  names: {{kind: Thing, plural: things}}\n  versions:\n  - name: v1\n    \
         served: true\n    storage: true\n    schema:\n      openAPIV3Schema:\n        type: object\n        \
         x-kubernetes-preserve-unknown-fields: true\n"
    );
    let thing = format!("apiVersion: {group}/v1\nkind: Thing\nmetadata:\n  name: one\nspec: {{size: 3}}\n");
    let commit = world.commit(&[("app/a-thing.yaml", &thing), ("app/definition.yaml", &definition)]);
    world.source(json!({})).await;
    world.kustomization("app", json!({"path": "./app", "wait": true})).await;
    let object = world.ready("app", &commit).await;
    let ids: Vec<&str> = object["status"]["inventory"]["entries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["id"].as_str().unwrap())
        .collect();
    let definition = format!("_things.{group}_apiextensions.k8s.io_CustomResourceDefinition");
    let thing = format!("{}_one_{group}_Thing", world.namespace);
    assert_eq!(ids.len(), 2);
    assert!(
        ids.contains(&definition.as_str()) && ids.contains(&thing.as_str()),
        "{ids:?}"
    );
    // Both go, and the definition takes nothing with it that is looked for afterwards.
    world.cluster.delete(KUSTOMIZATION, &world.namespace, "app").await;
    world.gone(KUSTOMIZATION, "app").await;
    let kind = "apiextensions.k8s.io/v1/CustomResourceDefinition";
    let api = world.cluster.api(kind, "");
    eventually("the definition is gone", async || {
        match api.get_opt(&format!("things.{group}")).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}
