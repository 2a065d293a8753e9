//! Feature gates that change what Weir does, each with what it does.

use serde_json::{Value, json};

use crate::cluster::{condition, eventually, has_condition};
use crate::world::{CONFIG_MAP, KUSTOMIZATION, Setup, config_map};

#[tokio::test]
async fn without_fail_fast_a_wait_lasts_as_long_as_its_timeout() {
    let Some(setup) = Setup::new("failfast").await else {
        return;
    };
    let gates = ["--feature-gates=DisableFailFastBehavior=true"];
    let world = setup.with_arguments(&gates).start().await;
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    let exprs = json!([{"apiVersion": "v1", "kind": "ConfigMap", "current": "data.value == 'well'",
        "failed": "data.value == 'one'"}]);
    // Shorter timeouts count as 30 s.
    let spec = json!({"wait": true, "timeout": "30s", "retryInterval": "1h", "healthCheckExprs": exprs});
    world.kustomization("app", spec).await;
    eventually("health is being checked", async || {
        let found = world.get(KUSTOMIZATION, "app").await.unwrap_or_default();
        has_condition(&found, "Healthy", "Unknown", "Progressing")
    })
    .await;
    // It has failed for good, and may become well all the same: with the gate that is waited for.
    let (object, message) = world.not_ready("app", "HealthCheckFailed").await;
    let name = format!("ConfigMap/{}/settings status: 'Failed'", world.namespace);
    assert!(message.contains(&format!("timeout waiting for: [{name}")), "{message}");
    assert_eq!(
        condition(&object, "Reconciling").unwrap().2,
        format!("Running health checks for revision main@sha1:{commit} with a timeout of 30s")
    );
}

#[tokio::test]
async fn no_event_tells_of_success_where_nobody_wants_to_hear_of_it() {
    let Some(setup) = Setup::new("quiet").await else { return };
    let gates = ["--feature-gates=DisableCommitStatusEvent=true,GroupChangeLog=true"];
    let world = setup.with_arguments(&gates).start().await;
    let first = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &first).await;
    let second = world.commit(&[("settings.yaml", &config_map("settings", "two"))]);
    world.ready("app", &second).await;
    let line = format!("ConfigMap/{}/settings", world.namespace);
    for word in ["created", "configured"] {
        let wanted = format!("{line} {word}");
        world
            .event(KUSTOMIZATION, "app", ("Normal", "Progressing", &wanted))
            .await;
    }
    // Events are written in their order: one that told of the first success would be there by now.
    let events = world.cluster.events(&world.namespace, "Kustomization", "app").await;
    assert!(
        events.iter().all(|(_, reason, _)| reason != "ReconciliationSucceeded"),
        "{events:?}"
    );
    // Grouped by what was done, objects by name.
    let outputs: Vec<Value> = world
        .weir
        .lines()
        .filter(|line| line["msg"] == "server-side apply completed")
        .map(|line| serde_json::from_str(line["output"].as_str().unwrap()).unwrap())
        .collect();
    assert_eq!(outputs, [json!({"created": [line]}), json!({"configured": [line]})]);
}

#[tokio::test]
async fn gates_that_change_nothing_say_so_and_why() {
    let Some(setup) = Setup::new("fixed").await else { return };
    let gates =
        ["--feature-gates=CancelHealthCheckOnNewRevision=true,DisableStatusPollerCache=false,DirectSourceFetch=true"];
    let world = setup.with_arguments(&gates).start().await;
    let notes: Vec<String> = world
        .weir
        .lines()
        .filter_map(|line| line["msg"].as_str().map(str::to_owned))
        .filter(|text| text.starts_with("feature gate "))
        .collect();
    for gate in [
        "CancelHealthCheckOnNewRevision",
        "DisableStatusPollerCache",
        "DirectSourceFetch",
    ] {
        let part = format!("feature gate {gate} changes nothing: ");
        assert!(notes.iter().any(|note| note.starts_with(&part)), "{gate}: {notes:?}");
    }
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    world.kustomization("app", json!({})).await;
    world.ready("app", &commit).await;
    assert!(world.get(CONFIG_MAP, "settings").await.is_some());
}

#[tokio::test]
async fn an_identity_of_its_own_for_decryption_needs_its_gate() {
    let Some(setup) = Setup::new("identity").await else {
        return;
    };
    let world = setup.start().await;
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "one"))]);
    world.source(json!({})).await;
    let account = json!({"decryption": {"provider": "sops", "serviceAccountName": "kms"}});
    world.kustomization("app", account).await;
    let (object, message) = world.not_ready("app", "FeatureGateDisabled").await;
    let expect = "to use spec.decryption.serviceAccountName for decryption authentication please enable the \
        ObjectLevelWorkloadIdentity feature gate in the controller";
    assert_eq!(message, expect);
    assert_eq!(condition(&object, "Stalled").unwrap().1, "FeatureGateDisabled");
    world
        .event(KUSTOMIZATION, "app", ("Warning", "FeatureGateDisabled", expect))
        .await;
    world
        .merge(KUSTOMIZATION, "app", json!({"spec": {"decryption": null}}))
        .await;
    world.ready("app", &commit).await;
}
