//! `weir run --reconcilers=kustomization` on artifacts that others write: whatever kind of source, whoever serves them.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::cluster::{condition, eventually, has_condition};
use crate::files::FileServer;
use crate::world::{CONFIG_MAP, KUSTOMIZATION, LABEL, REPOSITORY, Setup, World, config_map};

pub(crate) const GROUP: &str = "source.toolkit.fluxcd.io";

/// What tests of sources say of themselves and Weir's own CRDs do not hold.
pub(crate) async fn define(world: &World, kind: &str, plural: &str) {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let name = format!("{plural}.{GROUP}");
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": schema}}]}});
    world.cluster.apply("", crd).await;
    eventually(&format!("{name} is served"), async || {
        let kind = "apiextensions.k8s.io/v1/CustomResourceDefinition";
        let crd = world.cluster.get(kind, "", &name).await;
        has_condition(&crd.unwrap_or_default(), "Established", "True", "")
    })
    .await;
}

/// An archive as others may write it: with a directory for the root, names that begin in `./`, and a link.
pub(crate) fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Directory);
    header.set_mode(0o755);
    header.set_size(0);
    tar.append_data(&mut header, "./", &b""[..]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "link.yaml", "/etc/passwd").unwrap();
    for (path, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o600);
        header.set_size(content.len() as u64);
        tar.append_data(&mut header, format!("./{path}"), content.as_bytes())
            .unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

fn digest(archive: &[u8]) -> String {
    let hex: Vec<String> = Sha256::digest(archive)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{}", hex.concat())
}

/// The artifact of a source as its controller would write it.
pub(crate) fn artifact(url: &str, revision: &str, archive: &[u8]) -> Value {
    json!({"url": url, "path": "x/y/z.tar.gz", "revision": revision, "digest": digest(archive), "size": archive.len(),
        "lastUpdateTime": "2026-01-02T03:04:05Z"})
}

/// Writes a status, as whoever reconciles the source would.
pub(crate) async fn report(world: &World, kind: &str, name: &str, artifact: Value) {
    let api = world.cluster.api(kind, &world.namespace);
    let patch = kube::api::Patch::Merge(json!({"status": {"artifact": artifact}}));
    api.patch_status(name, &Default::default(), &patch).await.unwrap();
}

async fn world(name: &str) -> Option<World> {
    let arguments = [
        "--reconcilers=kustomization",
        "--feature-gates=ExternalArtifact=true",
        "--requeue-dependency=1s",
    ];
    Some(Setup::new(name).await?.with_arguments(&arguments).start().await)
}

/// Waits until a Kustomization is ready at a revision; gives it.
pub(crate) async fn ready(world: &World, name: &str, revision: &str) -> Value {
    eventually(&format!("{name} is ready at {revision}"), async || {
        let found = world.get(KUSTOMIZATION, name).await.unwrap_or_default();
        let message = has_condition(&found, "Ready", "True", "ReconciliationSucceeded")?;
        if message == format!("Applied revision: {revision}") {
            Ok(found)
        } else {
            Err(found["status"].to_string())
        }
    })
    .await
}

/// Waits until a Kustomization has failed for want of an artifact with exactly these words; gives it.
async fn fails(world: &World, name: &str, expect: &str) -> Value {
    eventually(&format!("{name} says {expect:?}"), async || {
        let found = world.get(KUSTOMIZATION, name).await.unwrap_or_default();
        let message = has_condition(&found, "Ready", "False", "ArtifactFailed")?;
        if message == expect { Ok(found) } else { Err(message) }
    })
    .await
}

#[tokio::test]
async fn sources_of_every_kind_are_built_from_as_soon_as_they_tell_of_an_artifact() {
    let Some(world) = world("artifacts").await else { return };
    define(&world, "OCIRepository", "ocirepositories").await;
    define(&world, "Bucket", "buckets").await;
    let server = FileServer::start();
    for (kind, name) in [
        ("OCIRepository", "oci"),
        ("Bucket", "bucket"),
        ("ExternalArtifact", "external"),
        ("GitRepository", "git"),
    ] {
        let (full, one, two) = (
            format!("{GROUP}/v1/{kind}"),
            archive(&[("app/settings.yaml", &config_map(name, "one"))]),
            archive(&[("app/settings.yaml", &config_map(name, "two"))]),
        );
        let spec = json!({"path": "./app", "interval": "1h", "retryInterval": "1h",
            "sourceRef": {"kind": kind, "name": name}});
        world.kustomization(name, spec).await;
        fails(&world, name, &format!("{kind}.{GROUP} \"{name}\" not found")).await;
        let spec = match kind {
            "GitRepository" => json!({"url": "https://git.example/app", "interval": "1h"}),
            "ExternalArtifact" => json!({}),
            _ => json!({"interval": "1h"}),
        };
        world.make(&full, name, spec).await;
        // It comes back by itself after the retry interval, which is an hour: who asks is answered.
        let ask = json!({"metadata": {"annotations": {"reconcile.fluxcd.io/requestedAt": "now"}}});
        world.merge(KUSTOMIZATION, name, ask).await;
        let object = fails(&world, name, "Source artifact not found, retrying in 1s").await;
        assert_eq!(object["status"]["lastHandledReconcileAt"], "now");
        assert!(object["status"]["lastAttemptedRevision"].is_null());

        let first = format!("latest@sha256:{}", "a".repeat(64));
        let mut held = artifact(&server.serve(&format!("{name}/one.tar.gz"), 200, &one), &first, &one);
        held["metadata"] = json!({"org.opencontainers.image.revision": "main@sha1:abc"});
        report(&world, &full, name, held).await;
        let object = ready(&world, name, &first).await;
        assert_eq!(world.data(name).await, json!({"value": "one"}));
        let status = &object["status"];
        assert_eq!(status["lastAppliedOriginRevision"], "main@sha1:abc");
        assert_eq!(
            status["history"][0]["metadata"],
            json!({"revision": first, "originRevision": "main@sha1:abc"})
        );
        assert_eq!(status["lastAttemptedRevision"], first);

        // News is followed without waiting for the interval, whatever the source says of its own readiness.
        let second = format!("latest@sha256:{}", "b".repeat(64));
        let newer = artifact(&server.serve(&format!("{name}/two.tar.gz"), 200, &two), &second, &two);
        report(&world, &full, name, newer.clone()).await;
        ready(&world, name, &second).await;
        assert_eq!(world.data(name).await, json!({"value": "two"}));
        // The same files at another revision: that is recorded.
        let mut third = newer;
        third["revision"] = json!("v3@sha256:cc");
        report(&world, &full, name, third).await;
        let object = ready(&world, name, "v3@sha256:cc").await;
        assert_eq!(world.data(name).await, json!({"value": "two"}));
        let history = &object["status"]["history"];
        assert_eq!(history.as_array().unwrap().len(), 2);
        assert_eq!(history[0]["metadata"]["revision"], "v3@sha256:cc");
        assert_eq!(history[0]["totalReconciliations"], 2);
        assert_eq!(
            server.asked(&format!("{name}/one.tar.gz")),
            1,
            "an artifact is fetched once"
        );
    }
}

#[tokio::test]
async fn what_is_not_served_or_not_what_it_should_be_is_told_and_tried_again() {
    let Some(world) = world("artifacts-bad").await else {
        return;
    };
    let server = FileServer::start();
    let kind = format!("{GROUP}/v1/ExternalArtifact");
    world.make(&kind, "app", json!({})).await;
    let source = json!({"sourceRef": {"kind": "ExternalArtifact", "name": "app"}, "interval": "1h"});
    world.kustomization("app", source).await;
    let good = archive(&[("settings.yaml", &config_map("settings", "one"))]);
    let url = server.serve("good.tar.gz", 200, &good);
    report(&world, &kind, "app", artifact(&url, "r1@sha256:1", &good)).await;
    ready(&world, "app", "r1@sha256:1").await;

    // Not there yet: told although something was applied before, and tried again after --requeue-dependency.
    let next = archive(&[("settings.yaml", &config_map("settings", "two"))]);
    let url = server.serve("next.tar.gz", 404, b"");
    report(&world, &kind, "app", artifact(&url, "r2@sha256:2", &next)).await;
    let object = fails(&world, "app", "Source is not ready, artifact not found, retrying in 1s").await;
    assert_eq!(object["status"]["lastAppliedRevision"], "r1@sha256:1");
    assert_eq!(object["status"]["lastAttemptedRevision"], "r1@sha256:1");
    assert_eq!(world.data("settings").await, json!({"value": "one"}));
    server.serve("next.tar.gz", 200, &next);
    ready(&world, "app", "r2@sha256:2").await;

    // Moved to where it is not, at the same revision: that is told too, and mended when it is back.
    let moved = server.serve("moved.tar.gz", 404, b"");
    report(&world, &kind, "app", artifact(&moved, "r2@sha256:2", &next)).await;
    fails(&world, "app", "Source is not ready, artifact not found, retrying in 1s").await;
    report(&world, &kind, "app", artifact(&url, "r2@sha256:2", &next)).await;
    ready(&world, "app", "r2@sha256:2").await;

    // Another file than it should be.
    let other = archive(&[("settings.yaml", &config_map("settings", "forged"))]);
    let third = archive(&[("settings.yaml", &config_map("settings", "three"))]);
    let url = server.serve("third.tar.gz", 200, &other);
    report(&world, &kind, "app", artifact(&url, "r3@sha256:3", &third)).await;
    let (expected, found) = (digest(&third), digest(&other));
    let message = format!(
        "failed to verify archive: computed digest doesn't match provided '{expected}': the artifact at {url} has the digest {found}"
    );
    let object = fails(&world, "app", &message).await;
    assert_eq!(condition(&object, "Reconciling").unwrap().1, "ProgressingWithRetry");
    world
        .event(
            KUSTOMIZATION,
            "app",
            ("Warning", "ArtifactFailed", "failed to verify archive"),
        )
        .await;
    assert_eq!(world.data("settings").await, json!({"value": "two"}));
    server.serve("third.tar.gz", 200, &third);
    ready(&world, "app", "r3@sha256:3").await;

    // A server in trouble, nothing that could be checked, no archive, and more than is taken.
    let mut wrong = artifact(&url, "r4@sha256:4", &third);
    wrong["digest"] = json!("md5:00");
    report(&world, &kind, "app", wrong).await;
    let why = "failed to verify archive: the digest 'md5:00' is of no kind that is known (sha256, sha384, sha512)";
    fails(&world, "app", why).await;
    let url = server.serve("text.tar.gz", 200, b"no archive");
    report(&world, &kind, "app", artifact(&url, "r5@sha256:5", b"no archive")).await;
    let starts = |part: &'static str| {
        let world = &world;
        async move {
            eventually(part, async || {
                let (_, message) = world.not_ready("app", "ArtifactFailed").await;
                if message.starts_with(part) {
                    Ok(())
                } else {
                    Err(message)
                }
            })
            .await;
        }
    };
    starts("failed to extract archive: the artifact cannot be unpacked: ").await;
    let url = server.serve("down.tar.gz", 503, b"");
    report(&world, &kind, "app", artifact(&url, "r6@sha256:6", &next)).await;
    starts("failed to download archive from http://127.0.0.1:").await;
    let large = "#".repeat((100 << 20) + 1);
    let large = archive(&[("large", &large)]);
    let url = server.serve("large.tar.gz", 200, &large);
    report(&world, &kind, "app", artifact(&url, "r7@sha256:7", &large)).await;
    fails(
        &world,
        "app",
        "failed to extract archive: the artifact holds more than 104857600 bytes in one file",
    )
    .await;
    assert_eq!(
        world.data("settings").await,
        json!({"value": "three"}),
        "the last good state stays"
    );
    let last = server.serve("next.tar.gz", 200, &next);
    report(&world, &kind, "app", artifact(&last, "r8@sha256:8", &next)).await;
    ready(&world, "app", "r8@sha256:8").await;
}

#[tokio::test]
async fn a_source_of_another_shard_is_fetched_from_there() {
    // This Weir reconciles GitRepositories too, but not those without its label.
    let Some(world) = World::start("shards").await else {
        return;
    };
    let server = FileServer::start();
    let held = archive(&[("settings.yaml", &config_map("settings", "one"))]);
    let metadata = json!({"name": "app", "namespace": world.namespace, "labels": {LABEL: "another"}});
    let spec = json!({"url": "https://git.example/app", "interval": "1h"});
    let source =
        json!({"apiVersion": format!("{GROUP}/v1"), "kind": "GitRepository", "metadata": metadata, "spec": spec});
    world.cluster.apply(&world.namespace, source).await;
    let url = server.serve("app.tar.gz", 200, &held);
    report(&world, REPOSITORY, "app", artifact(&url, "main@sha1:aa", &held)).await;
    world.kustomization("app", json!({})).await;
    ready(&world, "app", "main@sha1:aa").await;
    let newer = archive(&[("settings.yaml", &config_map("settings", "two"))]);
    let url = server.serve("newer.tar.gz", 200, &newer);
    report(&world, REPOSITORY, "app", artifact(&url, "main@sha1:bb", &newer)).await;
    ready(&world, "app", "main@sha1:bb").await;
    assert_eq!(world.get(CONFIG_MAP, "settings").await.unwrap()["data"]["value"], "two");
    let source = world.get(REPOSITORY, "app").await.unwrap();
    assert!(source["metadata"]["finalizers"].is_null(), "it is left alone: {source}");
}
