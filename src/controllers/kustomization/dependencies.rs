//! Whether the Kustomizations that one depends on are ready for it: pure.

use crate::api::kustomize::Kustomization;
use crate::api::meta::READY;

/// Namespace and name of everything that a Kustomization depends on.
pub fn of(kustomization: &Kustomization) -> impl Iterator<Item = (String, String)> {
    let own = kustomization.metadata.namespace.as_deref().unwrap_or_default();
    kustomization.spec.depends_on.iter().flatten().map(move |wanted| {
        let namespace = wanted.namespace.as_deref().unwrap_or(own);
        (namespace.to_owned(), wanted.name.clone())
    })
}

/// Why a Kustomization has to wait: the first dependency that is not ready.
///
/// `find` answers with the Kustomization of that namespace and name; `revision` is what this Kustomization is about to apply.
#[must_use]
pub fn unmet(
    kustomization: &Kustomization,
    revision: &str,
    find: impl Fn(&str, &str) -> Option<std::sync::Arc<Kustomization>>,
) -> Option<String> {
    let own = kustomization.metadata.namespace.as_deref().unwrap_or_default();
    kustomization.spec.depends_on.iter().flatten().find_map(|wanted| {
        let namespace = wanted.namespace.as_deref().unwrap_or(own);
        let name = format!("{namespace}/{}", wanted.name);
        let Some(dependency) = find(namespace, &wanted.name) else {
            return Some(format!("dependency '{name}' not found"));
        };
        if is_ready(&dependency) && has_revision(kustomization, &dependency, revision) {
            None
        } else if is_ready(&dependency) {
            Some(format!("dependency '{name}' revision is not up to date"))
        } else {
            Some(format!("dependency '{name}' is not ready"))
        }
    })
}

fn is_ready(dependency: &Kustomization) -> bool {
    let Some(status) = &dependency.status else { return false };
    status.observed_generation == dependency.metadata.generation
        && status
            .conditions
            .iter()
            .any(|condition| condition.type_ == READY && condition.status == "True")
}

/// A dependency on the same source must have applied the revision that is about to be applied.
fn has_revision(kustomization: &Kustomization, dependency: &Kustomization, revision: &str) -> bool {
    let source = |of: &Kustomization| {
        let reference = &of.spec.source_ref;
        let namespace = reference.namespace.clone().or_else(|| of.metadata.namespace.clone());
        (reference.kind, namespace, reference.name.clone())
    };
    source(kustomization) != source(dependency)
        || dependency
            .status
            .as_ref()
            .and_then(|status| status.last_applied_revision.as_deref())
            == Some(revision)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use serde_json::{Value, json};

    fn kustomization(source: &str, status: &Value) -> Kustomization {
        serde_json::from_value(json!({
            "apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
            "metadata": {"name": "x", "namespace": "ns", "generation": 3},
            "spec": {"interval": "1m", "prune": true, "sourceRef": {"kind": "GitRepository", "name": source},
                "dependsOn": [{"name": "base"}]},
            "status": status,
        }))
        .unwrap()
    }

    #[test]
    fn a_dependency_must_be_ready_and_on_the_same_revision() {
        let check = |dependency: Option<Kustomization>, expect: Option<&str>| {
            let wanting = kustomization("repo", &json!({}));
            let dependency = dependency.map(Arc::new);
            assert_eq!(unmet(&wanting, "r2", |_, _| dependency.clone()).as_deref(), expect);
        };
        let ready = |generation: i64, revision: &str| {
            json!({"observedGeneration": generation, "lastAppliedRevision": revision, "conditions": [{"type": "Ready",
                "status": "True", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        check(None, Some("dependency 'ns/base' not found"));
        check(
            Some(kustomization("repo", &json!({}))),
            Some("dependency 'ns/base' is not ready"),
        );
        check(
            Some(kustomization("repo", &ready(2, "r2"))),
            Some("dependency 'ns/base' is not ready"),
        );
        check(
            Some(kustomization("repo", &ready(3, "r1"))),
            Some("dependency 'ns/base' revision is not up to date"),
        );
        check(Some(kustomization("repo", &ready(3, "r2"))), None);
        check(Some(kustomization("other", &ready(3, "r1"))), None);
    }
}
