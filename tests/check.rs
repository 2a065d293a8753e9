//! `weir check` as people run it: the real binary, the real render worker, whole output.
//!
//! The answers are snapshots in `tests/snapshots`; `INSTA_UPDATE=always cargo test --test check` writes them anew.

// clippy.toml lets tests unwrap, but sees no test in the helpers of an integration test.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/command.rs"]
mod command;
#[path = "check/formats.rs"]
mod formats;
#[path = "check/inputs.rs"]
mod inputs;
#[path = "check/repository.rs"]
mod repository;

use command::Fixture;

/// An overlay of a base with one image that is pinned and one that is not.
fn overlay() -> Fixture {
    Fixture::new(&[
        (
            "apps/base/kustomization.yaml",
            "resources: [deployment.yaml]\nconfigMapGenerator: [{name: settings, literals: [a=b]}]\n",
        ),
        (
            "apps/base/deployment.yaml",
            "# The shop.\napiVersion: apps/v1\nkind: Deployment\nmetadata:\n  name: web\nspec:\n  replicas: 1\n  template:\n    spec:\n      \
             containers:\n        - name: web\n          image: nginx:1.27\n        - name: side\n          image: side:latest\n",
        ),
        (
            "apps/production/kustomization.yaml",
            "namespace: shop\nresources: [../base]\nimages: [{name: nginx, newTag: latest}]\n",
        ),
        ("policies/latest.rego", LATEST),
        ("policies/replicas.rego", REPLICAS),
    ])
}

const LATEST: &str = r#"# METADATA
# title: No moving tags
# custom:
#   fix: name a version
#   kinds: [Deployment]
package images.latest

deny contains sprintf("container %q uses image %q", [container.name, container.image]) if {
	some container in input.review.object.spec.template.spec.containers
	endswith(container.image, ":latest")
}
"#;

const REPLICAS: &str = r#"# METADATA
# title: Two of each
package replicas

warn contains {"msg": "there is only one replica", "field": "spec.replicas"} if input.review.object.spec.replicas == 1
"#;
