//! The words of denials, as kubectl prints them.

use serde_json::json;

use super::fixtures::*;
use crate::guard::{Change, Owner, Verdict, decide};

#[track_caller]
fn text_for(change: &Change, owner: &Owner) -> String {
    match decide(change, Some(owner), &identities()) {
        Verdict::Deny(denial) => denial.message,
        Verdict::Allow { reason, .. } => panic!("allowed: {reason:?}"),
        Verdict::Exempt { warning, .. } => panic!("exempt: {warning}"),
    }
}

fn text(change: &Change) -> String {
    text_for(change, &owner())
}

#[test]
fn an_edited_image_names_field_owner_commit_and_remedy() {
    let change = update(&deployment(), |o| {
        container(o)["image"] = json!("registry.example.com/web:evil");
    });
    insta::assert_snapshot!(text(&change), @r#"
    Deployment/prod/web comes from Git, and so does the field that this request changes:
      spec.template.spec.containers[name="web"].image: "registry.example.com/web:1.4.2" → "registry.example.com/web:evil"
    It belongs to Kustomization apps/web
      source:   GitRepository flux-system/apps, https://git.example.com/shop/apps.git
      revision: main@sha1:1a2b3c4d
      commit:   1a2b3c4d "Run the shop on two replicas" by Ann Example <ann@example.com>
      file:     apps/web/deployment.yaml
    To change it, edit apps/web/deployment.yaml in https://git.example.com/shop/apps.git and push.
    To do it by hand for the time being: flux suspend kustomization web -n apps
    In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev
    "#);
}

#[test]
fn a_scaled_deployment_is_told_about_autoscalers() {
    insta::assert_snapshot!(text(&scale(&deployment(), 2, 0)), @r#"
    Deployment/prod/web comes from Git, and so does the field that this request changes:
      spec.replicas: 2 → 0
    It belongs to Kustomization apps/web
      source:   GitRepository flux-system/apps, https://git.example.com/shop/apps.git
      revision: main@sha1:1a2b3c4d
      commit:   1a2b3c4d "Run the shop on two replicas" by Ann Example <ann@example.com>
      file:     apps/web/deployment.yaml
    To change it, edit apps/web/deployment.yaml in https://git.example.com/shop/apps.git and push.
    If an autoscaler is to set the number, take spec.replicas out of the manifest.
    To do it by hand for the time being: flux suspend kustomization web -n apps
    In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev
    "#);
}

#[test]
fn of_many_fields_some_are_named() {
    let change = update(&deployment(), |o| {
        o["spec"]["replicas"] = json!(9);
        o["metadata"]["annotations"]["shop.example.com/owner"] = json!("team-x");
        let container = container(o);
        container["image"] = json!("x");
        container["args"] = json!([
            "--listen",
            ":8080",
            "--debug",
            "--with-a-rather-long-argument",
            "--and=another-one"
        ]);
        container["env"] = json!([]);
        container["ports"][0]["name"] = json!("web");
    });
    insta::assert_snapshot!(text(&change), @r#"
    Deployment/prod/web comes from Git, and so do the fields that this request changes:
      metadata.annotations["shop.example.com/owner"]: "team-web" → "team-x"
      spec.replicas: 2 → 9
      spec.template.spec.containers[name="web"].args: …ten",":8080"] → …ten",":8080","--debug","--with-a-rather-long-argument","--a…
      spec.template.spec.containers[name="web"].env[name="MODE"]: {"name":"MODE","value":"fast"} → removed
      spec.template.spec.containers[name="web"].env[name="REGION"]: {"name":"REGION","value":"eu"} → removed
      and 2 more
    It belongs to Kustomization apps/web
      source:   GitRepository flux-system/apps, https://git.example.com/shop/apps.git
      revision: main@sha1:1a2b3c4d
      commit:   1a2b3c4d "Run the shop on two replicas" by Ann Example <ann@example.com>
      file:     apps/web/deployment.yaml
    To change it, edit apps/web/deployment.yaml in https://git.example.com/shop/apps.git and push.
    If an autoscaler is to set the number, take spec.replicas out of the manifest.
    To do it by hand for the time being: flux suspend kustomization web -n apps
    In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev
    "#);
}

#[test]
fn a_deletion_says_how_to_delete() {
    insta::assert_snapshot!(text(&delete(&deployment())), @r#"
    Deployment/prod/web comes from Git and cannot be deleted by hand.
    It belongs to Kustomization apps/web
      source:   GitRepository flux-system/apps, https://git.example.com/shop/apps.git
      revision: main@sha1:1a2b3c4d
      commit:   1a2b3c4d "Run the shop on two replicas" by Ann Example <ann@example.com>
      file:     apps/web/deployment.yaml
    To delete it, take it out of apps/web/deployment.yaml in https://git.example.com/shop/apps.git and push.
    To do it by hand for the time being: flux suspend kustomization web -n apps
    In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev
    "#);
}

#[test]
fn a_creation_says_that_weir_makes_it() {
    insta::assert_snapshot!(text(&create(&deployment())), @r#"
    Deployment/prod/web comes from Git and is made by Weir, not by hand.
    It belongs to Kustomization apps/web
      source:   GitRepository flux-system/apps, https://git.example.com/shop/apps.git
      revision: main@sha1:1a2b3c4d
      commit:   1a2b3c4d "Run the shop on two replicas" by Ann Example <ann@example.com>
      file:     apps/web/deployment.yaml
    To have it made, see that apps/web/deployment.yaml in https://git.example.com/shop/apps.git declares it; Weir makes it again.
    To do it by hand for the time being: flux suspend kustomization web -n apps
    In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev
    "#);
}

#[test]
fn owner_labels_and_tampering_have_words_of_their_own() {
    let label = update(&deployment(), |o| {
        o["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = json!("mine");
    });
    insta::assert_snapshot!(text(&label), @r#"
    Deployment/prod/web comes from Git, and only Git says to whom it belongs and how it is treated:
      metadata.labels["kustomize.toolkit.fluxcd.io/name"]: "web" → "mine"
    It belongs to Kustomization apps/web
      source:   GitRepository flux-system/apps, https://git.example.com/shop/apps.git
      revision: main@sha1:1a2b3c4d
      commit:   1a2b3c4d "Run the shop on two replicas" by Ann Example <ann@example.com>
      file:     apps/web/deployment.yaml
    To change it, edit apps/web/deployment.yaml in https://git.example.com/shop/apps.git and push.
    To do it by hand for the time being: flux suspend kustomization web -n apps
    In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev
    "#);
    let tampered = update(&deployment(), |o| o["metadata"]["managedFields"] = json!([{}]));
    insta::assert_snapshot!(text(&tampered), @r#"
    Deployment/prod/web comes from Git, and this request takes fields away from their owner in metadata.managedFields.
    It belongs to Kustomization apps/web
      source:   GitRepository flux-system/apps, https://git.example.com/shop/apps.git
      revision: main@sha1:1a2b3c4d
      commit:   1a2b3c4d "Run the shop on two replicas" by Ann Example <ann@example.com>
      file:     apps/web/deployment.yaml
    To change it, edit apps/web/deployment.yaml in https://git.example.com/shop/apps.git and push.
    To do it by hand for the time being: flux suspend kustomization web -n apps
    In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev
    "#);
}

#[test]
fn values_of_secrets_are_never_shown() {
    let mut secret = data("Secret");
    secret["metadata"]["managedFields"][0]["fieldsV1"]["f:type"] = json!({});
    secret["type"] = json!("Opaque");
    let change = update(&secret, |o| {
        o["data"]["mode"] = json!("c2xvdw==");
        o["data"].as_object_mut().unwrap().remove("app.properties");
        o["type"] = json!("kubernetes.io/tls");
    });
    insta::assert_snapshot!(text(&change), @r#"
    Secret/prod/web comes from Git, and so do the fields that this request changes:
      data["app.properties"]: (hidden) → removed
      data.mode: (hidden) → (hidden)
      type: "Opaque" → "kubernetes.io/tls"
    It belongs to Kustomization apps/web
      source:   GitRepository flux-system/apps, https://git.example.com/shop/apps.git
      revision: main@sha1:1a2b3c4d
      commit:   1a2b3c4d "Run the shop on two replicas" by Ann Example <ann@example.com>
      file:     apps/web/deployment.yaml
    To change it, edit apps/web/deployment.yaml in https://git.example.com/shop/apps.git and push.
    To do it by hand for the time being: flux suspend kustomization web -n apps
    In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev
    "#);
}

#[test]
fn little_knowledge_makes_a_short_text() {
    let owner = Owner {
        name: "web".to_owned(),
        namespace: "apps".to_owned(),
        ..Owner::default()
    };
    insta::assert_snapshot!(text_for(&update(&data("ConfigMap"), |o| o["data"]["mode"] = json!("x")), &owner), @r#"
    ConfigMap/prod/web comes from Git, and so does the field that this request changes:
      data.mode: "ZmFzdA==" → "x"
    It belongs to Kustomization apps/web
    To change it, edit its manifest and push.
    To do it by hand for the time being: flux suspend kustomization web -n apps
    In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev
    "#);
}

#[test]
fn other_sources_are_published_and_hostile_text_is_tamed() {
    let mut owner = owner();
    owner.source_kind = "OCIRepository".to_owned();
    owner.url = Some("oci://ghcr.io/shop/apps".to_owned());
    owner.revision = Some("1.2.3@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".to_owned());
    owner.file = None;
    if let Some(commit) = &mut owner.commit {
        commit.subject = format!("\u{1b}[31mred\n{}", "long ".repeat(40));
    }
    insta::assert_snapshot!(text_for(&delete(&deployment()), &owner), @r#"
    Deployment/prod/web comes from Git and cannot be deleted by hand.
    It belongs to Kustomization apps/web
      source:   OCIRepository flux-system/apps, oci://ghcr.io/shop/apps
      revision: 1.2.3@sha256:9f86d081
      commit:   1a2b3c4d "�[31mred�long long long long long long long long long long …" by Ann Example <ann@example.com>
      path:     ./apps/web
    To delete it, take it out of its manifest under ./apps/web in oci://ghcr.io/shop/apps and publish it.
    To do it by hand for the time being: flux suspend kustomization web -n apps
    In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev
    "#);
}
