//! Whether the Kustomizations that one depends on are ready for it: pure.

use crate::api::kustomize::{Dependency, GROUP, Kustomization};
use crate::api::meta::READY;
use crate::cel::ready::{ReadyError, is_ready};

/// What the API server calls Kustomizations.
const PLURAL: &str = "kustomizations";

/// Namespace and name of everything that a Kustomization depends on.
pub fn of(kustomization: &Kustomization) -> impl Iterator<Item = (String, String)> {
    wanted(kustomization).map(|(namespace, wanted)| (namespace.to_owned(), wanted.name.clone()))
}

/// Why a Kustomization has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unmet {
    /// A dependency is not ready yet.
    NotReady(String),
    /// A `readyExpr` can never be answered.
    Invalid(String),
}

/// The first dependency that is not ready.
///
/// `find` answers with the Kustomization of that namespace and name; `revision` is what this Kustomization is about to
/// apply. A `readyExpr` is asked instead of the usual test, or beside it when it is `additive`.
#[must_use]
pub fn unmet(
    kustomization: &Kustomization,
    revision: &str,
    additive: bool,
    find: impl Fn(&str, &str) -> Option<std::sync::Arc<Kustomization>>,
) -> Option<Unmet> {
    let not_ready = |message: String| Some(Unmet::NotReady(message));
    wanted(kustomization).find_map(|(namespace, wanted)| {
        let name = format!("{namespace}/{}", wanted.name);
        let Some(dependency) = find(namespace, &wanted.name) else {
            let absent = &wanted.name;
            return not_ready(format!(
                "dependency '{name}' not found: {PLURAL}.{GROUP} \"{absent}\" not found"
            ));
        };
        if let Some(text) = wanted.ready_expr.as_deref().filter(|text| !text.is_empty()) {
            let json = |one: &Kustomization| serde_json::to_value(one).unwrap_or_default();
            match is_ready(text, &json(kustomization), &json(&dependency)) {
                Ok(true) if additive => {}
                Ok(true) => return None,
                Ok(false) => {
                    return not_ready(format!("dependency '{name}' is not ready according to readyExpr eval"));
                }
                Err(ReadyError::Invalid(why)) => {
                    return Some(Unmet::Invalid(format!(
                        "failed to evaluate dependency {}: {why}",
                        wanted.name
                    )));
                }
                Err(ReadyError::Failed(why)) => return not_ready(format!("dependency '{name}': {why}")),
            }
        }
        if !tells_ready(&dependency) {
            not_ready(format!("dependency '{name}' is not ready"))
        } else if !has_revision(kustomization, &dependency, revision) {
            not_ready(format!("dependency '{name}' revision is not up to date"))
        } else {
            None
        }
    })
}

/// The dependencies of a Kustomization, each with its namespace.
pub fn wanted(kustomization: &Kustomization) -> impl Iterator<Item = (&str, &Dependency)> {
    let own = kustomization.metadata.namespace.as_deref().unwrap_or_default();
    let all = kustomization.spec.depends_on.iter().flatten();
    all.map(move |one| {
        (
            one.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or(own),
            one,
        )
    })
}

fn tells_ready(dependency: &Kustomization) -> bool {
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
            let found = unmet(&wanting, "r2", false, |_, _| dependency.clone());
            assert_eq!(found, expect.map(|message| Unmet::NotReady(message.to_owned())));
        };
        let ready = |generation: i64, revision: &str| {
            json!({"observedGeneration": generation, "lastAppliedRevision": revision, "conditions": [{"type": "Ready",
                "status": "True", "reason": "x", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]})
        };
        check(
            None,
            Some("dependency 'ns/base' not found: kustomizations.kustomize.toolkit.fluxcd.io \"base\" not found"),
        );
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

    #[test]
    fn an_expression_is_asked_instead_of_the_usual_test_or_beside_it() {
        let check = |text: &str, additive: bool, expect: Option<Unmet>| {
            let mut wanting = kustomization("repo", &json!({}));
            wanting.spec.depends_on.as_mut().unwrap()[0].ready_expr = Some(text.to_owned());
            let dependency = Arc::new(kustomization("repo", &json!({"lastAppliedRevision": "r1"})));
            let found = unmet(&wanting, "r2", additive, |_, _| Some(Arc::clone(&dependency)));
            assert_eq!(found, expect, "{text}");
        };
        let not_ready = |message: &str| Some(Unmet::NotReady(message.to_owned()));
        let applied = "dep.status.lastAppliedRevision == 'r1' && self.metadata.namespace == dep.metadata.namespace";
        check(applied, false, None);
        check(applied, true, not_ready("dependency 'ns/base' is not ready"));
        check(
            "false",
            false,
            not_ready("dependency 'ns/base' is not ready according to readyExpr eval"),
        );
        check(
            "dep.status.absent == 1",
            false,
            not_ready(
                "dependency 'ns/base': failed to evaluate the CEL expression \
            'dep.status.absent == 1': no such key: absent",
            ),
        );
        check(
            "dep.spec.prune",
            false,
            Some(Unmet::Invalid(
                "failed to evaluate dependency base: CEL expression output \
            type mismatch: expected bool, got dyn"
                    .to_owned(),
            )),
        );
    }
}
