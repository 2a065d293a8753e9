//! `weir why` on a real object: file, line, commit and author of each field, or who else set it.

use crate::ONE_AT_A_TIME;
use crate::stand::{Cluster, Git, Weir, clean, deploys, is_ready};

const WEB: &str = "apiVersion: v1
kind: Namespace
metadata:
  name: guard-shop
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: guard-shop
spec:
  replicas: 1
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
        - name: web
          image: registry.example/web
          ports:
            - containerPort: 8080
";
const KUSTOMIZATION: &str = "resources: [web.yaml]
patches:
  - path: scale.yaml
images:
  - name: registry.example/web
    newTag: 1.0.0
labels:
  - pairs: {part: shop}
";
const SCALE: &str = "apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: guard-shop
spec:
  replicas: 2
";

#[tokio::test(flavor = "multi_thread")]
async fn every_field_of_a_live_object_is_traced_to_its_line_commit_and_author() {
    let _one = ONE_AT_A_TIME.lock().await;
    let Some(cluster) = Cluster::find() else { return };
    clean(&cluster);
    let git = Git::new(&[("shop/web.yaml", WEB), ("shop/kustomization.yaml", KUSTOMIZATION)]);
    let first = git.repo.git(&["rev-parse", "HEAD"]);
    let patches = KUSTOMIZATION.replace("1.0.0", "1.1.0");
    let commit = |files: &[(&str, &str)], who: &str, message: &str| {
        for (path, text) in files {
            std::fs::write(git.repo.path().join(path), text).unwrap();
        }
        git.repo.git(&["add", "--all"]);
        git.repo
            .git(&["commit", "--quiet", "--author", who, "--message", message]);
        git.repo.git(&["rev-parse", "HEAD"])
    };
    let second = commit(
        &[("shop/scale.yaml", SCALE), ("shop/kustomization.yaml", &patches)],
        "Bo <bo@example.com>",
        "Two of the next",
    );
    let third = commit(&[("README.md", "The shop.\n")], "Cy <cy@example.com>", "Say what it is");
    let weir = Weir::start(&cluster, false);
    cluster.apply(&deploys("guard-shop", &git.url(), "./shop"));
    cluster.eventually("the shop is applied", &is_ready("guard-shop"));
    cluster.ok("alice annotate deployment web note=mine >/dev/null");
    let said = cluster.ok("weir why deployment/web -n guard-shop");
    let said = said.replace(&git.url(), "URL").replace(&third, "THIRD");
    let short = |id: &str| id.chars().take(8).collect::<String>();
    let said = [(&first, "FIRST___"), (&second, "SECOND__"), (&third, "THIRD___")]
        .into_iter()
        .fold(said, |said, (id, name)| said.replace(&short(id), name));
    let said: Vec<&str> = said
        .lines()
        // When the annotation was put on differs.
        .map(|line| line.split_once(", 20").map_or(line, |(line, _)| line))
        .collect();
    insta::assert_snapshot!(said.join("\n"), @r#"
    Deployment/guard-shop/web
      Kustomization  flux-system/guard-shop
      source         GitRepository flux-system/guard-shop
      repository     URL
      revision       main@sha1:THIRD
      commit         THIRD___ "Say what it is" by Cy <cy@example.com>
      file           shop/web.yaml:6
      last changed   FIRST___ "The shop" by Ada <ada@example.com>

    metadata.annotations["deployment.kubernetes.io/revision"]  "1"                            ← kube-controller-manager (status)
    metadata.annotations.note                                  "mine"                         ← kubectl-annotate
    metadata.labels["kustomize.toolkit.fluxcd.io/name"]        "guard-shop"                   ← Weir, to mark whose it is
    metadata.labels["kustomize.toolkit.fluxcd.io/namespace"]   "flux-system"                  ← Weir, to mark whose it is
    metadata.labels.part                                       "shop"                         ← Git, made from shop/web.yaml, last changed in FIRST___ by Ada
    spec.replicas                                              2                              ← Git, shop/scale.yaml:7, SECOND__ by Bo
    spec.selector                                              {"matchLabels":{"app":"web"}}  ← Git, shop/web.yaml:13, FIRST___ by Ada
    spec.template.metadata.labels.app                          "web"                          ← Git, shop/web.yaml:17, FIRST___ by Ada
    spec.template.spec.containers[name="web"].image            "registry.example/web:1.1.0"   ← Git, shop/kustomization.yaml:6, SECOND__ by Bo
    spec.template.spec.containers[name="web"].name             "web"                          ← Git, shop/web.yaml:20, FIRST___ by Ada
    spec.template.spec.containers[name="web"].ports[containerPort=8080,protocol="TCP"].containerPort  8080                           ← Git, shop/web.yaml:23, FIRST___ by Ada
    "#);
    drop(weir);
    clean(&cluster);
}
