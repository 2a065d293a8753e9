//! In which stage and in which order objects are applied, as Flux does it.

use super::{Change, Deletion};
use crate::core::object::{Gvk, ObjectRef};

/// Stages are applied one after the other; all of a stage stands before the next begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// CRDs, Namespaces and ClusterRoles: others cannot exist without them.
    Definitions,
    /// Kinds whose name ends in `Class`.
    Classes,
    /// Kinds that `--custom-apply-stage-kinds` names.
    Custom,
    /// Everything else.
    Rest,
}

/// Kinds that go first, in this order.
const FIRST: [&str; 3] = ["CustomResourceDefinition", "Namespace", "ClusterRole"];
/// Kinds that follow them, in this order; kinds that are named nowhere come after these.
const EARLY: [&str; 10] = [
    "ClusterRoleBinding",
    "ResourceQuota",
    "ServiceAccount",
    "Role",
    "RoleBinding",
    "ConfigMap",
    "Secret",
    "Service",
    "LimitRange",
    "Deployment",
];
/// Kinds that follow Deployments.
const WORKLOADS: [&str; 3] = ["StatefulSet", "CronJob", "PodDisruptionBudget"];
/// Kinds that go last: they could refuse what is applied with them.
const LAST: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// The stage of a kind; `custom` holds group and kind of those that go before the rest.
#[must_use]
pub fn stage_of(gvk: &Gvk, custom: &[(String, String)]) -> Stage {
    if FIRST.contains(&gvk.kind.as_str()) {
        Stage::Definitions
    } else if gvk.kind.ends_with("Class") {
        Stage::Classes
    } else if custom
        .iter()
        .any(|(group, kind)| *group == gvk.group && *kind == gvk.kind)
    {
        Stage::Custom
    } else {
        Stage::Rest
    }
}

pub(super) fn sort(changes: &mut [Change]) {
    changes.sort_by_cached_key(|change| key(&change.desired.object.reference()));
}

pub(super) fn sort_deletions(deletions: &mut [Deletion]) {
    deletions.sort_by_cached_key(|deletion| std::cmp::Reverse(key(&deletion.object)));
}

fn key(object: &ObjectRef) -> (usize, ObjectRef) {
    let kind = object.kind.as_str();
    let after = |list: &[&str], base: usize| list.iter().position(|name| *name == kind).map(|at| base + at);
    let rank = after(&FIRST, 0)
        .or_else(|| kind.ends_with("Class").then_some(10))
        .or_else(|| after(&EARLY, 20))
        .or_else(|| after(&WORKLOADS, 40))
        .or_else(|| after(&LAST, 90))
        .unwrap_or(60);
    (rank, object.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_come_before_what_needs_them_and_webhooks_last() {
        let mut kinds = [
            "ValidatingWebhookConfiguration",
            "Ingress",
            "Deployment",
            "ConfigMap",
            "StorageClass",
            "Namespace",
            "CustomResourceDefinition",
        ];
        let object = |kind: &str| ObjectRef {
            group: String::new(),
            kind: kind.into(),
            namespace: String::new(),
            name: "x".into(),
        };
        kinds.sort_by_key(|kind| key(&object(kind)));
        assert_eq!(
            kinds,
            [
                "CustomResourceDefinition",
                "Namespace",
                "StorageClass",
                "ConfigMap",
                "Deployment",
                "Ingress",
                "ValidatingWebhookConfiguration"
            ]
        );
        let custom = [("rbac.authorization.k8s.io".to_owned(), "Role".to_owned())];
        let check = |api_version: &str, kind: &str, expect: Stage| {
            assert_eq!(stage_of(&Gvk::new(api_version, kind), &custom), expect);
        };
        check("v1", "Namespace", Stage::Definitions);
        check("storage.k8s.io/v1", "StorageClass", Stage::Classes);
        check("apps/v1", "Deployment", Stage::Rest);
        check("rbac.authorization.k8s.io/v1", "Role", Stage::Custom);
        check("x.io/v1", "Role", Stage::Rest);
    }
}
