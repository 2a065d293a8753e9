//! Which kinds live in namespaces, for doors without a cluster to ask: what Kubernetes itself serves, what CRDs among the
//! objects say, and for every other kind what its objects look like.

use std::collections::HashMap;

use super::Scope;
use crate::api::gatekeeper::{CONSTRAINTS_GROUP, TEMPLATES_GROUP};
use crate::core::object::{Gvk, Object};

/// Kinds of Kubernetes 1.36 whose objects live in no namespace, by group.
const CLUSTER_SCOPED: &[(&str, &[&str])] = &[
    ("", &["Namespace", "Node", "PersistentVolume", "ComponentStatus"]),
    (
        "admissionregistration.k8s.io",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apiextensions.k8s.io", &["CustomResourceDefinition"]),
    ("apiregistration.k8s.io", &["APIService"]),
    (
        "certificates.k8s.io",
        &["CertificateSigningRequest", "ClusterTrustBundle"],
    ),
    (
        "flowcontrol.apiserver.k8s.io",
        &["FlowSchema", "PriorityLevelConfiguration"],
    ),
    ("networking.k8s.io", &["IngressClass", "IPAddress", "ServiceCIDR"]),
    ("node.k8s.io", &["RuntimeClass"]),
    ("rbac.authorization.k8s.io", &["ClusterRole", "ClusterRoleBinding"]),
    ("resource.k8s.io", &["DeviceClass", "DeviceTaintRule", "ResourceSlice"]),
    ("scheduling.k8s.io", &["PriorityClass"]),
    (
        "storage.k8s.io",
        &[
            "CSIDriver",
            "CSINode",
            "StorageClass",
            "VolumeAttachment",
            "VolumeAttributesClass",
        ],
    ),
    ("storagemigration.k8s.io", &["StorageVersionMigration"]),
    (TEMPLATES_GROUP, &["ConstraintTemplate"]),
];

/// Groups of Kubernetes whose kinds all live in namespaces.
const NAMESPACED_GROUPS: &[&str] = &[
    "apps",
    "autoscaling",
    "batch",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "policy",
];

/// The scope of a kind that Kubernetes serves; `None` for every other.
#[must_use]
pub fn builtin_scope(gvk: &Gvk) -> Option<Scope> {
    if gvk.group == CONSTRAINTS_GROUP {
        return Some(Scope::Cluster);
    }
    match CLUSTER_SCOPED.iter().find(|(group, _)| *group == gvk.group) {
        Some((_, kinds)) if kinds.contains(&gvk.kind.as_str()) => Some(Scope::Cluster),
        Some(_) => Some(Scope::Namespaced),
        None => NAMESPACED_GROUPS
            .contains(&gvk.group.as_str())
            .then_some(Scope::Namespaced),
    }
}

/// Scopes of the kinds of a set of objects.
#[derive(Debug, Clone, Default)]
pub struct Scopes {
    defined: HashMap<(String, String), Scope>,
    guessed: HashMap<(String, String), Scope>,
}

impl Scopes {
    /// Learns from objects: from CRDs what they define, and of an unknown kind that it lives in namespaces when any object
    /// of it names one.
    pub fn of<'a>(objects: impl IntoIterator<Item = &'a Object>) -> Self {
        let mut scopes = Self::default();
        for object in objects {
            let gvk = object.gvk();
            if let Some((key, scope)) = defines(object) {
                scopes.defined.insert(key, scope);
            }
            let guess = scopes.guessed.entry((gvk.group, gvk.kind)).or_insert(Scope::Cluster);
            if !object.namespace().is_empty() {
                *guess = Scope::Namespaced;
            }
        }
        scopes
    }

    /// The scope of a kind; `None` when no object of it was seen.
    #[must_use]
    pub fn get(&self, gvk: &Gvk) -> Option<Scope> {
        let key = (gvk.group.clone(), gvk.kind.clone());
        let known = builtin_scope(gvk).or_else(|| self.defined.get(&key).copied());
        known.or_else(|| self.guessed.get(&key).copied())
    }
}

/// Group and kind that a CRD defines, with their scope.
pub(super) fn defines(object: &Object) -> Option<((String, String), Scope)> {
    if object.kind() != "CustomResourceDefinition" {
        return None;
    }
    let text = |pointer: &str| object.value().pointer(pointer)?.as_str();
    let scope = if text("/spec/scope")? == "Namespaced" {
        Scope::Namespaced
    } else {
        Scope::Cluster
    };
    Some((
        (text("/spec/group")?.to_owned(), text("/spec/names/kind")?.to_owned()),
        scope,
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn scopes_are_known_defined_or_guessed() {
        let objects = [
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "x"},
                "spec": {"group": "a.io", "scope": "Cluster", "names": {"kind": "Wide"}}}),
            json!({"apiVersion": "b.io/v1", "kind": "Narrow", "metadata": {"name": "x", "namespace": "n"}}),
            json!({"apiVersion": "b.io/v1", "kind": "Wide", "metadata": {"name": "x"}}),
        ]
        .map(|value| Object::new(value).unwrap());
        let scopes = Scopes::of(&objects);
        let check = |version: &str, kind: &str, expect: Option<Scope>| {
            assert_eq!(scopes.get(&Gvk::new(version, kind)), expect, "{version} {kind}");
        };
        check("v1", "Namespace", Some(Scope::Cluster));
        check("v1", "Secret", Some(Scope::Namespaced));
        check("rbac.authorization.k8s.io/v1", "RoleBinding", Some(Scope::Namespaced));
        check("apps/v1", "Deployment", Some(Scope::Namespaced));
        check("constraints.gatekeeper.sh/v1beta1", "Anything", Some(Scope::Cluster));
        check("a.io/v1", "Wide", Some(Scope::Cluster));
        check("b.io/v1", "Narrow", Some(Scope::Namespaced));
        check("b.io/v1", "Wide", Some(Scope::Cluster));
        check("b.io/v1", "Unseen", None);
    }
}
