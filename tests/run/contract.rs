//! What others rely on in a Kustomization's behaviour and words: those who wait for it, depend on it, read its events.

use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::cluster::{condition, eventually, has_condition};
use crate::git_server::Manner;
use crate::world::{CONFIG_MAP, KUSTOMIZATION, LABEL, REPOSITORY, Setup, World, config_map};

/// Asks for a reconciliation and waits for its receipt.
async fn ask(world: &World, kind: &str, name: &str, token: &str) -> Value {
    let annotations = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": token}}});
    world.merge(kind, name, annotations).await;
    eventually("the receipt", async || {
        let found = world.get(kind, name).await.unwrap_or_default();
        if found["status"]["lastHandledReconcileAt"] == token {
            Ok(found)
        } else {
            Err(found["status"].to_string())
        }
    })
    .await
}

/// Events of an object with all that they hold.
async fn events(world: &World, name: &str) -> Vec<Value> {
    let selector = format!("involvedObject.kind=Kustomization,involvedObject.name={name}");
    let parameters = kube::api::ListParams::default().fields(&selector);
    let found = world.cluster.api("v1/Event", &world.namespace).list(&parameters).await;
    found
        .unwrap()
        .items
        .iter()
        .map(|one| serde_json::to_value(one).unwrap())
        .collect()
}

#[tokio::test]
async fn what_is_suspended_gives_its_receipt_and_keeps_nobody_waiting() {
    let Some(world) = World::start("resting").await else {
        return;
    };
    let namespace = world.namespace.clone();
    let child = format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata:\n  name: child\n  labels:\n    \
         {LABEL}: {namespace}\nspec:\n  interval: 10m\n  path: ./app\n  prune: true\n  targetNamespace: {namespace}\n  \
         sourceRef: {{kind: GitRepository, name: app}}\n"
    );
    let first = world.commit(&[
        ("parent/child.yaml", &child),
        ("app/settings.yaml", &config_map("settings", "one")),
    ]);
    world.source(json!({})).await;
    let parent = json!({"path": "./parent", "wait": true, "timeout": "10m"});
    world.kustomization("parent", parent).await;
    world.ready("parent", &first).await;
    world.ready("child", &first).await;

    // Suspended in Git: a new generation, which counts as observed, so that the parent does not wait for it.
    let rests = child.replace("spec:\n", "spec:\n  suspend: true\n");
    let second = world.commit(&[("parent/child.yaml", &rests)]);
    world.ready("parent", &second).await;
    let object = ask(&world, KUSTOMIZATION, "child", "while it rests").await;
    assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
    assert_eq!(condition(&object, "Ready").unwrap().0, "True");

    world.merge(REPOSITORY, "app", json!({"spec": {"suspend": true}})).await;
    let object = ask(&world, REPOSITORY, "app", "rests too").await;
    assert_eq!(object["status"]["observedGeneration"], object["metadata"]["generation"]);
    assert_eq!(condition(&object, "Ready").unwrap().0, "True");
}

#[tokio::test]
async fn those_that_depend_on_each_other_wait_until_the_circle_is_broken() {
    let Some(world) = World::start("circle").await else {
        return;
    };
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    let depends = |name: &str, on: &str| {
        (
            name.to_owned(),
            json!({"nameSuffix": format!("-{name}"), "dependsOn": [{"name": on}]}),
        )
    };
    for (name, spec) in [depends("one", "two"), depends("two", "three"), depends("three", "one")] {
        world.kustomization(&name, spec).await;
    }
    for (name, on) in [("one", "two"), ("two", "three"), ("three", "one")] {
        let expect = format!("dependency '{}/{on}' is not ready", world.namespace);
        eventually("the circle is told", async || {
            let (_, message) = world.not_ready(name, "DependencyNotReady").await;
            if message == expect { Ok(()) } else { Err(message) }
        })
        .await;
    }
    let itself = json!({"nameSuffix": "-self", "dependsOn": [{"name": "self"}]});
    world.kustomization("self", itself).await;
    world.not_ready("self", "DependencyNotReady").await;
    let told = "Dependencies do not meet ready condition, retrying in 30s";
    world
        .event(KUSTOMIZATION, "one", ("Normal", "DependencyNotReady", told))
        .await;
    world
        .merge(KUSTOMIZATION, "two", json!({"spec": {"dependsOn": null}}))
        .await;
    for name in ["two", "one", "three"] {
        world.ready(name, &commit).await;
    }
    // A suspended dependency that was ready still is.
    world
        .merge(KUSTOMIZATION, "two", json!({"spec": {"suspend": true}}))
        .await;
    let late = json!({"nameSuffix": "-late", "dependsOn": [{"name": "two"}]});
    world.kustomization("late", late).await;
    world.ready("late", &commit).await;
}

#[tokio::test]
async fn a_changed_label_of_a_dependency_is_seen_by_the_expression_that_reads_it() {
    let Some(setup) = Setup::new("labels").await else {
        return;
    };
    // So long that only the change can be what starts the dependent.
    let world = setup.with_arguments(&["--requeue-dependency=30m"]).start().await;
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("first", json!({"retryInterval": "30m"})).await;
    world.ready("first", &commit).await;
    let expr = "has(dep.metadata.labels.approved) && dep.metadata.labels.approved == self.metadata.name";
    let second =
        json!({"nameSuffix": "-2", "retryInterval": "30m", "dependsOn": [{"name": "first", "readyExpr": expr}]});
    world.kustomization("second", second).await;
    world.not_ready("second", "DependencyNotReady").await;
    let label = json!({"metadata": {"labels": {"approved": "second"}}});
    world.merge(KUSTOMIZATION, "first", label).await;
    world.ready("second", &commit).await;
}

#[tokio::test]
async fn events_carry_what_their_readers_look_for() {
    let Some(world) = World::start("events").await else {
        return;
    };
    let first = world.commit(&[
        ("settings.yaml", &config_map("settings", "one")),
        ("gone.yaml", &config_map("gone", "one")),
    ]);
    world.source(json!({})).await;
    world
        .kustomization("app", json!({"interval": "1h", "retryInterval": "1h"}))
        .await;
    let mark = json!({"metadata": {"annotations": {"event.toolkit.fluxcd.io/channel": "shop", "other": "x"}}});
    world.merge(KUSTOMIZATION, "app", mark).await;
    world.ready("app", &first).await;
    world.repo.git(&["rm", "--quiet", "gone.yaml"]);
    let second = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    world.ready("app", &second).await;
    world.commit(&[("settings.yaml", "apiVersion: v1\nkind: [")]);
    world.not_ready("app", "BuildFailed").await;
    // What was applied before is as it was, and that it works again is news.
    let third = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    let object = world.ready("app", &third).await;
    assert!(condition(&object, "Healthy").is_none(), "nothing is checked");
    assert!(condition(&object, "Reconciling").is_none());

    let namespace = &world.namespace;
    let group = "kustomize.toolkit.fluxcd.io";
    let revision = |commit: &str| format!("main@sha1:{commit}");
    let wanted = [
        (
            format!("ConfigMap/{namespace}/settings configured"),
            "Progressing",
            revision(&second),
        ),
        (
            format!("ConfigMap/{namespace}/gone deleted"),
            "Progressing",
            revision(&second),
        ),
    ];
    eventually("all events are there", async || {
        let found = events(&world, "app").await;
        let all = wanted.iter().all(|(message, reason, revision)| {
            found.iter().any(|event| {
                let annotations = &event["metadata"]["annotations"];
                event["message"] == message.as_str()
                    && event["reason"] == *reason
                    && event["type"] == "Normal"
                    && event["source"]["component"] == "kustomize-controller"
                    && annotations[format!("{group}/revision")] == revision.as_str()
                    && annotations["event.toolkit.fluxcd.io/channel"] == "shop"
                    && annotations.get("other").is_none()
            })
        });
        let succeeded = found.iter().filter(|event| {
            event["reason"] == "ReconciliationSucceeded"
                && event["metadata"]["annotations"][format!("{group}/commit_status")] == "update"
                && event["metadata"]["annotations"][format!("{group}/revision")] == revision(&third).as_str()
        });
        if all && succeeded.count() == 1 {
            Ok(())
        } else {
            Err(format!("{found:#?}"))
        }
    })
    .await;
    let message = "Reconciliation finished in ";
    let before = events(&world, "app").await.len();
    ask(&world, KUSTOMIZATION, "app", "again").await;
    eventually("who asks is told", async || {
        let found = events(&world, "app").await;
        let count: i64 = found
            .iter()
            .filter(|event| {
                event["message"]
                    .as_str()
                    .is_some_and(|text| text.starts_with(message) && text.ends_with(", next run in 1h0m0s"))
            })
            .map(|event| event["count"].as_i64().unwrap_or(1))
            .sum();
        if count >= 4 {
            Ok(())
        } else {
            Err(format!("{count} of {before}"))
        }
    })
    .await;
}

#[tokio::test]
async fn what_could_not_be_pruned_stays_owned_and_goes_when_it_can() {
    let Some(world) = World::start("survivors").await else {
        return;
    };
    let namespace = world.namespace.clone();
    // Refuses to delete what is locked.
    let group = "admissionregistration.k8s.io/v1";
    let rule = json!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"]});
    let policy = json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": namespace},
        "spec": {"failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "!oldObject.metadata.name.startsWith('locked')", "message": "it is locked"}]}});
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
    let binding = json!({"apiVersion": group, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": namespace},
        "spec": {"policyName": namespace, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": selector}}});
    world.cluster.apply("", policy).await;
    world.cluster.apply("", binding).await;
    let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "locked-probe"}});
    world.cluster.apply(&namespace, probe).await;
    eventually("the lock holds", async || {
        let deleted = world
            .cluster
            .api(CONFIG_MAP, &namespace)
            .delete("locked-probe", &Default::default())
            .await;
        match deleted {
            Err(kube::Error::Api(status)) if status.message.contains("it is locked") => Ok(()),
            other => {
                let probe = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "locked-probe"}});
                world.cluster.apply(&namespace, probe).await;
                Err(format!("{other:?}"))
            }
        }
    })
    .await;

    let first = world.commit(&[
        ("locked.yaml", &config_map("locked", "one")),
        ("free.yaml", &config_map("free", "one")),
        ("kept.yaml", &config_map("kept", "one")),
    ]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &first).await;
    world.repo.git(&["rm", "--quiet", "locked.yaml", "free.yaml"]);
    let second = world.commit(&[("kept.yaml", &config_map("kept", "two"))]);
    let (object, message) = world.not_ready("app", "PruneFailed").await;
    assert!(
        message.contains(&format!("ConfigMap/{namespace}/locked delete failed")) && message.contains("it is locked"),
        "{message}"
    );
    let ids = |object: &Value| -> Vec<String> {
        let entries = object["status"]["inventory"]["entries"].as_array().unwrap();
        entries
            .iter()
            .map(|one| one["id"].as_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(
        ids(&object),
        [
            format!("{namespace}_kept__ConfigMap"),
            format!("{namespace}_locked__ConfigMap")
        ]
    );
    assert_eq!(object["status"]["history"][0]["lastReconciledStatus"], "PruneFailed");
    assert_eq!(object["status"]["lastAppliedRevision"], format!("main@sha1:{first}"));
    assert_eq!(world.data("kept").await["value"], "two", "pruning comes after applying");
    assert!(world.get(CONFIG_MAP, "free").await.is_none());
    world
        .event(KUSTOMIZATION, "app", ("Warning", "PruneFailed", "it is locked"))
        .await;

    world
        .cluster
        .delete(&format!("{group}/ValidatingAdmissionPolicyBinding"), "", &namespace)
        .await;
    world
        .cluster
        .delete(&format!("{group}/ValidatingAdmissionPolicy"), "", &namespace)
        .await;
    let object = world.ready("app", &second).await;
    assert_eq!(ids(&object), [format!("{namespace}_kept__ConfigMap")]);
    assert!(world.get(CONFIG_MAP, "locked").await.is_none());
}

#[tokio::test]
async fn force_makes_anew_what_cannot_be_changed_and_nothing_else() {
    let Some(world) = World::start("force-any").await else {
        return;
    };
    let binding = |role: &str| {
        format!(
            "apiVersion: rbac.authorization.k8s.io/v1\nkind: RoleBinding\nmetadata: {{name: reader}}\nroleRef: {{apiGroup: \
             rbac.authorization.k8s.io, kind: ClusterRole, name: {role}}}\nsubjects:\n- {{kind: ServiceAccount, name: x, \
             namespace: default}}\n"
        )
    };
    let service = |more: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  selector: {{app: web}}\n  ports: [{{port: 80}}]\n{more}"
        )
    };
    let first = world.commit(&[("binding.yaml", &binding("view")), ("service.yaml", &service(""))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &first).await;
    let uid = async |kind: &str, name: &str| world.get(kind, name).await.unwrap()["metadata"]["uid"].clone();
    let roles = "rbac.authorization.k8s.io/v1/RoleBinding";
    let (role_before, service_before) = (uid(roles, "reader").await, uid("v1/Service", "web").await);
    let second = world.commit(&[
        ("binding.yaml", &binding("edit")),
        ("service.yaml", &service("  clusterIP: None\n")),
    ]);
    let (_, message) = world.not_ready("app", "ReconciliationFailed").await;
    assert!(message.contains("cannot change roleRef"), "{message}");
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"force": true}}))
        .await;
    world.ready("app", &second).await;
    assert_ne!(uid(roles, "reader").await, role_before);
    assert_ne!(uid("v1/Service", "web").await, service_before);
    assert_eq!(world.get(roles, "reader").await.unwrap()["roleRef"]["name"], "edit");
    assert_eq!(
        world.get("v1/Service", "web").await.unwrap()["spec"]["clusterIP"],
        "None"
    );
    let namespace = &world.namespace;
    for object in ["RoleBinding", "Service"] {
        let name = if object == "Service" { "web" } else { "reader" };
        let line = format!("{object}/{namespace}/{name} created");
        world
            .event(KUSTOMIZATION, "app", ("Normal", "Progressing", &line))
            .await;
    }

    // What is wrong in itself would not come back: it is not deleted.
    let service_before = uid("v1/Service", "web").await;
    world.commit(&[(
        "service.yaml",
        &service("  clusterIP: None\n  sessionAffinity: Sometimes\n"),
    )]);
    let (_, message) = world.not_ready("app", "ReconciliationFailed").await;
    assert!(message.contains("sessionAffinity"), "{message}");
    assert_eq!(uid("v1/Service", "web").await, service_before);
}

#[tokio::test]
async fn a_wrong_password_is_told_and_the_artifact_stays() {
    let Some(world) = World::start("password").await else {
        return;
    };
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    let right = "Basic YWRhOnJpZ2h0";
    world.git.behave(Manner::Authorized(right.to_owned()));
    let secret = |password: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "git"},
            "stringData": {"username": "ada", "password": password}})
    };
    world.cluster.apply(&world.namespace, secret("right")).await;
    world.source(json!({"secretRef": {"name": "git"}})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &commit).await;
    let before = world.get(REPOSITORY, "app").await.unwrap()["status"]["artifact"].clone();
    world.cluster.apply(&world.namespace, secret("wrong")).await;
    let (object, message) = world.fails(REPOSITORY, "app", "GitOperationFailed").await;
    assert!(
        message.starts_with("failed to checkout and determine revision: unable to clone '")
            && message.contains("authentication required"),
        "{message}"
    );
    assert!(!message.contains("wrong"), "{message}");
    let (status, reason, why) = condition(&object, "FetchFailed").unwrap();
    assert_eq!((status, reason, why), ("True", "GitOperationFailed", message.as_str()));
    assert_eq!(condition(&object, "ArtifactInStorage").unwrap().0, "True");
    assert_eq!(condition(&object, "Reconciling").unwrap().1, "ProgressingWithRetry");
    assert_eq!(object["status"]["artifact"], before);
    let served = reqwest::get(before["url"].as_str().unwrap()).await.unwrap();
    assert!(served.status().is_success(), "and it is served");
    world.ready("app", &commit).await;
    world.cluster.apply(&world.namespace, secret("right")).await;
    let next = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    world.ready("app", &next).await;
    let object = world.get(REPOSITORY, "app").await.unwrap();
    assert!(condition(&object, "FetchFailed").is_none());
}

#[tokio::test]
async fn who_waits_for_termination_waits_no_longer_than_the_timeout() {
    let Some(world) = World::start("termination").await else {
        return;
    };
    let held = config_map("held", "one").replace("metadata:\n", "metadata:\n  finalizers: [weir.test/held]\n");
    let commit = world.commit(&[
        ("held/held.yaml", &held),
        ("plain/plain.yaml", &config_map("plain", "one")),
    ]);
    world.source(json!({})).await;
    // Shorter timeouts count as 30 s.
    let waits = json!({"path": "./held", "prune": false, "deletionPolicy": "WaitForTermination", "timeout": "1s"});
    world.kustomization("waits", waits).await;
    let deletes = json!({"path": "./plain", "prune": false, "deletionPolicy": "Delete"});
    world.kustomization("deletes", deletes).await;
    for name in ["waits", "deletes"] {
        world.ready(name, &commit).await;
        world.cluster.delete(KUSTOMIZATION, &world.namespace, name).await;
    }
    world.gone(KUSTOMIZATION, "deletes").await;
    assert!(world.get(CONFIG_MAP, "plain").await.is_none());
    let line = format!("ConfigMap/{}/held deleted", world.namespace);
    world
        .event(KUSTOMIZATION, "waits", ("Normal", "ReconciliationSucceeded", &line))
        .await;
    let waiting = world.get(KUSTOMIZATION, "waits").await;
    assert!(waiting.is_some_and(|one| one["metadata"]["deletionTimestamp"].is_string()));
    world.gone(KUSTOMIZATION, "waits").await;
    let told = "failed to wait for resources termination";
    world
        .event(KUSTOMIZATION, "waits", ("Warning", "ReconciliationSucceeded", told))
        .await;
    let left = world.get(CONFIG_MAP, "held").await.expect("its finalizer keeps it");
    assert!(left["metadata"]["deletionTimestamp"].is_string());
    let api = world.cluster.api(CONFIG_MAP, &world.namespace);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("held", &PatchParams::default(), &free).await.unwrap();
}

#[tokio::test]
async fn a_job_that_removes_itself_is_well_once_it_is_gone() {
    let Some(world) = World::start("jobs").await else {
        return;
    };
    let job = |name: &str, more: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata: {{name: {name}}}\nspec:\n{more}  template:\n    spec:\n      \
             restartPolicy: Never\n      containers: [{{name: main, image: registry.example/main:1}}]\n"
        )
    };
    let commit = world.commit(&[
        ("once.yaml", &job("once", "  ttlSecondsAfterFinished: 0\n")),
        ("rests.yaml", &job("rests", "  suspend: true\n")),
    ]);
    world.source(json!({})).await;
    let spec = json!({"wait": true, "timeout": "5m", "interval": "1h"});
    world.kustomization("app", spec).await;
    let object = world.ready("app", &commit).await;
    assert_eq!(condition(&object, "Healthy").unwrap().0, "True");
    world.gone("batch/v1/Job", "once").await;
    assert!(
        world.get("batch/v1/Job", "rests").await.is_some(),
        "a suspended Job is as it should be"
    );
}

#[tokio::test]
async fn what_is_watched_and_not_there_is_named() {
    let Some(world) = World::start("absent").await else {
        return;
    };
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    let check = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "absent", "namespace": world.namespace});
    let spec = json!({"healthChecks": [check], "timeout": "30s", "retryInterval": "1h"});
    world.kustomization("app", spec).await;
    let running = format!("Running health checks for revision main@sha1:{commit} with a timeout of 30s");
    let object = eventually("health is being checked", async || {
        let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
        let message = has_condition(&found, "Healthy", "Unknown", "Progressing")?;
        if message == running { Ok(found) } else { Err(message) }
    })
    .await;
    assert_eq!(
        condition(&object, "Ready").unwrap(),
        ("Unknown", "Progressing", "Reconciliation in progress")
    );
    assert_eq!(
        condition(&object, "Reconciling").unwrap(),
        ("True", "Progressing", running.as_str())
    );
    let (object, message) = world.not_ready("app", "HealthCheckFailed").await;
    let part = format!(
        "timeout waiting for: [ConfigMap/{}/absent status: 'NotFound'",
        world.namespace
    );
    assert!(
        message.starts_with("health check failed after 30") && message.contains(&part),
        "{message}"
    );
    assert!(condition(&object, "Healthy").unwrap().2.starts_with(&part));
    assert_eq!(
        condition(&object, "Reconciling").unwrap(),
        ("True", "ProgressingWithRetry", running.as_str())
    );
    assert!(object["status"]["lastAppliedRevision"].is_null());
    assert_eq!(object["status"]["lastAttemptedRevision"], format!("main@sha1:{commit}"));
    assert_eq!(object["status"]["observedGeneration"], -1);
    assert_eq!(object["status"]["inventory"]["entries"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_status_that_somebody_took_away_comes_back() {
    let Some(world) = World::start("wiped").await else {
        return;
    };
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    let before = world.ready("app", &commit).await;
    let api = world.cluster.api(KUSTOMIZATION, &world.namespace);
    let wiped = Patch::Merge(json!({"status": {"conditions": null, "inventory": null}}));
    api.patch_status("app", &PatchParams::default(), &wiped).await.unwrap();
    let object = ask(&world, KUSTOMIZATION, "app", "now").await;
    assert_eq!(condition(&object, "Ready").unwrap().0, "True");
    assert_eq!(object["status"]["inventory"], before["status"]["inventory"]);
}

#[tokio::test]
async fn an_object_that_says_it_is_to_be_left_alone_is_looked_at_again_when_it_says_otherwise() {
    let Some(world) = World::start("opted-out").await else {
        return;
    };
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({"interval": "1h"})).await;
    world.ready("app", &commit).await;
    let marked = |value: &str, data: &str| json!({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": value}}, "data": {"value": data}});
    world.merge(CONFIG_MAP, "settings", marked("disabled", "mine")).await;
    // A full reconciliation, which leaves it alone; then it may be reconciled again, and still is as it was made.
    ask(&world, KUSTOMIZATION, "app", "1").await;
    assert_eq!(world.data("settings").await["value"], "mine");
    world.merge(CONFIG_MAP, "settings", marked("enabled", "mine")).await;
    let next = world.commit(&[("README.md", "nothing that is built from")]);
    world.ready("app", &next).await;
    assert_eq!(world.data("settings").await["value"], "one");
}
