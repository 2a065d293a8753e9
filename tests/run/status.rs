//! What a Kustomization's status, history and events tell, as Flux's consumers read them.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::cluster::{condition, eventually, has_condition};
use crate::tenants;
use crate::world::{CONFIG_MAP, KUSTOMIZATION, Setup, World, config_map, renderer};

fn history(object: &Value) -> Vec<(String, i64, String)> {
    let entries = object["status"]["history"].as_array().unwrap().iter();
    let text = |entry: &Value, pointer: &str| entry.pointer(pointer).unwrap().as_str().unwrap().to_owned();
    entries
        .map(|entry| {
            let total = entry["totalReconciliations"].as_i64().unwrap();
            (
                text(entry, "/lastReconciledStatus"),
                total,
                text(entry, "/metadata/revision"),
            )
        })
        .collect()
}

/// Asks for a reconciliation and waits for its receipt.
async fn ask(world: &World, token: &str) -> Value {
    let annotations = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": token}}});
    world.merge(KUSTOMIZATION, "app", annotations).await;
    eventually("the receipt", async || {
        let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
        if found["status"]["lastHandledReconcileAt"] == token {
            Ok(found)
        } else {
            Err(found["status"].to_string())
        }
    })
    .await
}

#[tokio::test]
async fn history_counts_builds_by_their_outcome_and_events_name_the_revision() {
    let Some(world) = World::start("history").await else {
        return;
    };
    let first = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world
        .kustomization("app", json!({"interval": "1h", "retryInterval": "1h"}))
        .await;
    world.ready("app", &first).await;
    ask(&world, "1").await;
    let object = ask(&world, "2").await;
    let revision = |commit: &str| format!("main@sha1:{commit}");
    let succeeded = "ReconciliationSucceeded".to_owned();
    assert_eq!(history(&object), [(succeeded.clone(), 3, revision(&first))]);
    let good = object["status"]["history"][0]["digest"].clone();
    assert!(good.as_str().unwrap().starts_with("sha256:"), "{good}");

    // What does not build leaves no entry; what the API server refuses does, and the last good state is told all the same.
    let second = world.commit(&[("settings.yaml", "apiVersion: v1\nkind: [")]);
    world.not_ready("app", "BuildFailed").await;
    let third = world.commit(&[(
        "settings.yaml",
        &config_map("settings", "one").replace("\ndata:", "\ndata: {a: [1]}\nold:"),
    )]);
    let (object, _) = world.not_ready("app", "ReconciliationFailed").await;
    let status = &object["status"];
    assert_eq!(status["lastAppliedRevision"], revision(&first));
    assert_eq!(status["lastAttemptedRevision"], revision(&third));
    assert_ne!(second, third);
    let generation = object["metadata"]["generation"].clone();
    assert_eq!(
        status["observedGeneration"], generation,
        "nothing of the spec has changed"
    );
    let entries = history(&object);
    assert_eq!(
        (entries[0].0.as_str(), &entries[0].2),
        ("ReconciliationFailed", &revision(&third))
    );
    assert_eq!(entries[1..], [(succeeded.clone(), 3, revision(&first))]);

    // The same build as the first is the same entry, at its new revision; it comes first.
    let fourth = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    let object = world.ready("app", &fourth).await;
    assert_eq!(object["status"]["history"][0]["digest"], good);
    let entries = history(&object);
    assert_eq!(entries[0], (succeeded, 4, revision(&fourth)));
    assert_eq!((entries.len(), entries[1].0.as_str()), (2, "ReconciliationFailed"));
    for value in ["2", "3", "4", "5", "6"] {
        let commit = world.commit(&[("settings.yaml", &config_map("settings", value))]);
        world.ready("app", &commit).await;
    }
    let object = world.get(KUSTOMIZATION, "app").await.unwrap();
    assert_eq!(history(&object).len(), 5);

    let annotation = |event: &Value, key: &str| {
        event["metadata"]["annotations"][format!("kustomize.toolkit.fluxcd.io/{key}")]
            .as_str()
            .map(str::to_owned)
    };
    eventually("the events name their revision", async || {
        let events = world
            .cluster
            .api("v1/Event", &world.namespace)
            .list(&Default::default())
            .await
            .unwrap();
        let events: Vec<Value> = events
            .items
            .iter()
            .map(|event| serde_json::to_value(event).unwrap())
            .collect();
        let of = |reason: &str, commit: &str| {
            let found = events.iter().filter(|event| event["reason"] == reason);
            found
                .filter(|event| annotation(event, "revision") == Some(revision(commit)))
                .count()
        };
        let marked = |event: &&Value| annotation(event, "commit_status").as_deref() == Some("update");
        let finished: Vec<&Value> = events.iter().filter(marked).collect();
        let well = finished.iter().all(|event| {
            event["reason"] == "ReconciliationSucceeded"
                && event["message"]
                    .as_str()
                    .unwrap()
                    .starts_with("Reconciliation finished in ")
        });
        let seen = (
            of("ReconciliationSucceeded", &first),
            of("BuildFailed", &second),
            of("ReconciliationFailed", &third),
        );
        if seen.0 >= 1 && seen.1 >= 1 && seen.2 >= 1 && well && finished.len() >= 2 {
            Ok(())
        } else {
            Err(format!("{seen:?} {finished:?}"))
        }
    })
    .await;
}

#[tokio::test]
async fn what_takes_its_time_is_told_meanwhile() {
    let Some(setup) = Setup::new("slow").await else {
        return;
    };
    // A worker that begins when `go` is there.
    let (wrapper, go) = (
        setup.directory.path().join("renderer"),
        setup.directory.path().join("go"),
    );
    let script = format!(
        "#!/bin/bash\nwhile [[ ! -e {go} ]]; do /bin/sleep 0.1; done\nexec {real} \"$@\"\n",
        go = go.display(),
        real = renderer().display()
    );
    std::fs::write(&wrapper, script).unwrap();
    std::fs::set_permissions(&wrapper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let world = setup.with_renderer(&wrapper).start().await;
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({"timeout": "2m"})).await;
    let object = eventually("the build is told", async || {
        let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
        let message = has_condition(&found, "Reconciling", "True", "Progressing")?;
        if message.starts_with("Building manifests") {
            Ok(found)
        } else {
            Err(message)
        }
    })
    .await;
    let expect = format!("Building manifests for revision main@sha1:{commit} with a timeout of 2m0s");
    assert_eq!(condition(&object, "Reconciling").unwrap().2, expect);
    let (status, reason, _) = condition(&object, "Ready").unwrap();
    assert_eq!((status, reason), ("Unknown", "Progressing"));
    std::fs::write(&go, "").unwrap();
    let object = world.ready("app", &commit).await;
    assert!(condition(&object, "Reconciling").is_none());
}

#[tokio::test]
async fn all_that_is_wrong_with_a_change_is_told_at_once() {
    let Some(world) = World::start("wrong").await else {
        return;
    };
    let good = world.commit(&[("good.yaml", &config_map("good", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &good).await;
    let bad = |name: &str| config_map(name, "x").replace("\ndata:", "\ndata: {a: [1]}\nold:");
    world.commit(&[
        ("good.yaml", &config_map("good", "two")),
        ("first.yaml", &bad("first")),
        ("second.yaml", &bad("second")),
        (
            "third.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: third}\nspec: {replicas: x}\n",
        ),
    ]);
    let (_, message) = world.not_ready("app", "ReconciliationFailed").await;
    for name in [
        "ConfigMap/{}/first dry-run failed",
        "ConfigMap/{}/second dry-run failed",
        "Deployment/{}/third dry-run failed",
    ] {
        let name = name.replace("{}", &world.namespace);
        assert!(message.contains(&name), "{name} is not in {message}");
    }
    assert_eq!(world.data("good").await["value"], "one");
}

#[tokio::test]
async fn more_deletions_than_anybody_means_wait_for_a_nod() {
    let Some(setup) = Setup::new("held").await else {
        return;
    };
    let world = setup.with_arguments(&["--max-prune=2"]).start().await;
    let manifests: Vec<(String, String)> = ["a", "b", "c", "d", "e", "f"]
        .map(|name| (format!("{name}.yaml"), config_map(name, "one")))
        .into();
    let files: Vec<(&str, &str)> = manifests
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let first = world.commit(&files);
    world.source(json!({})).await;
    world
        .kustomization("app", json!({"retryInterval": "1h", "interval": "1h"}))
        .await;
    world.ready("app", &first).await;
    world.repo.git(&["rm", "--quiet", "a.yaml", "b.yaml"]);
    let second = world.commit(&[]);
    world.ready("app", &second).await;
    assert!(world.get(CONFIG_MAP, "a").await.is_none(), "so many need no nod");

    world.repo.git(&["rm", "--quiet", "c.yaml", "d.yaml", "e.yaml"]);
    let third = world.commit(&[("f.yaml", &config_map("f", "two"))]);
    let (object, message) = world.not_ready("app", "PruneHeld").await;
    let revision = format!("main@sha1:{third}");
    let namespace = &world.namespace;
    for part in [
        format!("revision {revision} would delete 3 objects, more than 2 (--max-prune)"),
        format!("ConfigMap/{namespace}/c"),
        format!("app weir.dev/allow-prune={revision}"),
    ] {
        assert!(message.contains(&part), "{part} is not in {message}");
    }
    assert_eq!(condition(&object, "Stalled").unwrap().1, "PruneHeld");
    world
        .event(KUSTOMIZATION, "app", ("Warning", "PruneHeld", "would delete 3 objects"))
        .await;
    assert_eq!(
        world.data("f").await["value"],
        "one",
        "nothing of the change is applied"
    );
    assert!(world.get(CONFIG_MAP, "c").await.is_some());

    // The nod is for that revision only.
    let nod = |revision: &str| json!({"metadata": {"annotations": {"weir.dev/allow-prune": revision}}});
    world
        .merge(KUSTOMIZATION, "app", nod(&format!("main@sha1:{second}")))
        .await;
    ask(&world, "again").await;
    world.not_ready("app", "PruneHeld").await;
    world.merge(KUSTOMIZATION, "app", nod(&revision)).await;
    let object = world.ready("app", &third).await;
    assert_eq!(object["status"]["inventory"]["entries"].as_array().unwrap().len(), 1);
    assert_eq!(world.data("f").await["value"], "two");
    for name in ["c", "d", "e"] {
        assert!(world.get(CONFIG_MAP, name).await.is_none(), "{name}");
    }
}

#[tokio::test]
async fn kinds_of_the_custom_stage_are_there_before_what_needs_them() {
    let Some(setup) = Setup::new("stages").await else {
        return;
    };
    let kinds = ["--custom-apply-stage-kinds=rbac.authorization.k8s.io/Role"];
    let world = setup.with_arguments(&kinds).start().await;
    tenants::account(&world, "tenant", &["get"]).await;
    // May make roles and bind them, but only to what it may do itself.
    let (group, namespace) = ("rbac.authorization.k8s.io", &world.namespace);
    let metadata = json!({"name": "binder", "namespace": namespace});
    let verbs = ["get", "create", "patch", "delete"];
    for object in [
        json!({"apiVersion": format!("{group}/v1"), "kind": "Role", "metadata": metadata,
            "rules": [{"apiGroups": [group], "resources": ["roles", "rolebindings"], "verbs": verbs}]}),
        json!({"apiVersion": format!("{group}/v1"), "kind": "RoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": group, "kind": "Role", "name": "binder"},
            "subjects": [{"kind": "ServiceAccount", "name": "tenant", "namespace": namespace}]}),
    ] {
        world.cluster.apply(namespace, object).await;
    }
    let role = "apiVersion: rbac.authorization.k8s.io/v1\nkind: Role\nmetadata: {name: reader}\nrules:\n\
        - {apiGroups: [''], resources: [configmaps], verbs: [get]}\n";
    let binding = "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {name: reader}\nroleRef: \
        {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}\nsubjects:\n- {kind: ServiceAccount, name: x, namespace: default}\n";
    let commit = world.commit(&[("role.yaml", role), ("binding.yaml", binding)]);
    world.source(json!({})).await;
    world
        .kustomization("app", json!({"serviceAccountName": "tenant"}))
        .await;
    world.ready("app", &commit).await;
}
