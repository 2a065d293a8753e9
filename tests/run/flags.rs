//! Flags of `weir run` that change what it does, by Flux's names.

use std::process::Command;

use serde_json::json;

use crate::cluster::condition;
use crate::world::{KUSTOMIZATION, Setup, World, config_map};

/// What `weir run` with these arguments says when it cannot start.
fn refused(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_weir"))
        .arg("run")
        .args(arguments)
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_gate_that_does_not_exist_is_refused_at_start() {
    let message = refused(&["--feature-gates=GroupChangeLog=true,Odd=true"]);
    assert!(
        message.contains("--feature-gates: there is no gate \"Odd\""),
        "{message}"
    );
    let message = refused(&["--feature-gates=GroupChangeLog=yes"]);
    assert!(
        message.contains("GroupChangeLog: \"yes\" is neither true nor false"),
        "{message}"
    );
}

#[tokio::test]
async fn without_strict_substitution_an_unknown_variable_is_empty() {
    let Some(setup) = Setup::new("lenient").await else {
        return;
    };
    let gates = ["--feature-gates=StrictPostBuildSubstitutions=false,GroupChangeLog=true"];
    let world = setup.with_arguments(&gates).start().await;
    let commit = world.commit(&[("settings.yaml", &config_map("settings", "<${unknown}${known}>"))]);
    world.source(json!({})).await;
    let known = json!({"postBuild": {"substitute": {"known": "one"}}});
    world.kustomization("app", known).await;
    world.ready("app", &commit).await;
    assert_eq!(world.data("settings").await["value"], "<one>");
    let line = world
        .weir
        .lines()
        .find(|line| line["msg"] == "server-side apply completed");
    let output = line.expect("what was applied is in the log")["output"].to_string();
    assert!(output.contains("created"), "{output}");
}

#[tokio::test]
async fn an_external_artifact_needs_its_gate() {
    let Some(world) = World::start("external").await else {
        return;
    };
    let elsewhere = json!({"sourceRef": {"kind": "ExternalArtifact", "name": "app"}});
    world.kustomization("app", elsewhere).await;
    let (object, message) = world.not_ready("app", "AccessDenied").await;
    let expect = format!(
        "can't access 'ExternalArtifact/{}/app', ExternalArtifact feature gate is disabled",
        world.namespace
    );
    assert_eq!(message, expect);
    assert_eq!(condition(&object, "Stalled").unwrap().1, "AccessDenied");
    world
        .event(KUSTOMIZATION, "app", ("Warning", "AccessDenied", &expect))
        .await;
}
