//! Whole repositories of Flux objects: every Kustomization as its cluster would render it.

use super::command::Fixture;

/// Two clusters that manage themselves, as `flux bootstrap` leaves them, over shared bases.
fn repository() -> Fixture {
    let sync = |cluster: &str| {
        format!(
            "apiVersion: source.toolkit.fluxcd.io/v1\nkind: GitRepository\nmetadata: {{name: flux-system, namespace: flux-system}}\n\
             spec: {{interval: 1m, url: https://example.com/fleet}}\n---\n{}",
            kustomization("flux-system", &format!("path: ./clusters/{cluster}"))
        )
    };
    Fixture::new(&[
        (".git/HEAD", ""),
        ("clusters/production/flux-system/gotk-sync.yaml", &sync("production")),
        (
            "clusters/production/flux-system/kustomization.yaml",
            "resources: [gotk-sync.yaml]\n",
        ),
        (
            "clusters/production/settings.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: cluster, namespace: flux-system}\ndata: {domain: shop.example}\n",
        ),
        (
            "clusters/production/apps.yaml",
            &kustomization(
                "apps",
                "path: ./apps\n  targetNamespace: shop\n  components: [../components/tier]\n  images: [{name: web, newTag: '2'}]\n  \
                 commonMetadata: {labels: {team: shop}}\n  patches:\n    - patch: |\n        - {op: add, path: /spec/patched, value: true}\n      \
                 target: {kind: Deployment}\n  postBuild:\n    substitute: {replicas: '3'}\n    substituteFrom: [{kind: ConfigMap, name: \
                 cluster}]",
            ),
        ),
        (
            "clusters/production/other.yaml",
            &[
                kustomization("paused", "path: ./nowhere\n  suspend: true"),
                kustomization("elsewhere", "path: ./").replace("kind: GitRepository", "kind: OCIRepository"),
            ]
            .join("---\n"),
        ),
        ("clusters/staging/flux-system/gotk-sync.yaml", &sync("staging")),
        // A patch for one is none.
        (
            "clusters/staging/flux-system/kustomization.yaml",
            "resources: [gotk-sync.yaml]\npatches: [{path: patch.yaml}]\n",
        ),
        (
            "clusters/staging/flux-system/patch.yaml",
            "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {name: flux-system, namespace: flux-system}\n\
             spec: {wait: true}\n",
        ),
        (
            "clusters/staging/apps.yaml",
            &kustomization("apps", "path: ./apps\n  targetNamespace: shop-staging"),
        ),
        (
            "apps/web.yaml",
            "apiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\n  annotations: {host: \"${domain:=none}\", \
             replicas: \"${replicas:=1}\"}\nspec: {template: {spec: {containers: [{name: web, image: web:1}]}}}\n",
        ),
        (
            "components/tier/kustomization.yaml",
            "apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\nlabels: [{pairs: {tier: front}}]\n",
        ),
        ("policies/show.rego", SHOW),
    ])
}

/// Says everything that rendering decides.
const SHOW: &str = r#"package show

deny contains sprintf("%s %s %s %s %s %s", [
	object.metadata.namespace,
	object.spec.template.spec.containers[0].image,
	object.get(object.metadata.labels, "tier", "no tier"),
	object.get(object.metadata.labels, "team", "no team"),
	object.metadata.annotations.host,
	object.metadata.annotations.replicas,
]) if {
	some object in [input.review.object]
	object.kind == "Deployment"
	object.metadata.labels["kustomize.toolkit.fluxcd.io/name"] == "apps"
}
"#;

fn kustomization(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\nspec:\n  \
         interval: 10m\n  prune: true\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n  {spec}\n"
    )
}

#[test]
fn every_kustomization_is_rendered_as_its_cluster_would() {
    insta::assert_snapshot!(repository().weir("check . --policies policies"));
}

#[test]
fn one_cluster_may_be_checked() {
    let answer = repository().weir("check clusters/staging --policies policies");
    assert!(answer.contains("1 of 4 objects refused"), "{answer}");
    assert!(
        answer.contains("shop-staging web:1 no tier no team ${domain:=none} ${replicas:=1}"),
        "{answer}"
    );
}

#[test]
fn what_the_cluster_could_not_build_is_an_error() {
    let fixture = repository();
    for (file, spec) in [
        ("gone", "path: ./gone"),
        (
            "variables",
            "path: ./apps\n  postBuild: {substituteFrom: [{kind: Secret, name: absent}]}",
        ),
        ("homeless", "path: ./apps"),
        ("strange", "path: 7"),
    ] {
        fixture.write(&format!("clusters/production/{file}.yaml"), &kustomization(file, spec));
    }
    insta::assert_snapshot!(fixture.weir("check clusters/production --policies policies"));
}
