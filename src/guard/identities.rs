//! Who may do what without being asked what Git says.

use std::collections::BTreeSet;

use super::User;

/// User names that delete managed objects, or make them, as a consequence of something that was decided before: an owner,
/// a namespace or a node that is gone, a lifetime that has ended. They are controllers of Kubernetes itself, by name: other
/// service accounts of `kube-system` are whoever was given them. `system:kube-controller-manager` is all of them at once
/// where it runs without `--use-service-account-credentials`.
const CONTROLLERS: [&str; 19] = [
    "system:apiserver",
    "system:kube-controller-manager",
    "system:kube-scheduler",
    "system:serviceaccount:kube-system:cronjob-controller",
    "system:serviceaccount:kube-system:daemon-set-controller",
    "system:serviceaccount:kube-system:deployment-controller",
    "system:serviceaccount:kube-system:endpoint-controller",
    "system:serviceaccount:kube-system:endpointslice-controller",
    "system:serviceaccount:kube-system:generic-garbage-collector",
    "system:serviceaccount:kube-system:job-controller",
    "system:serviceaccount:kube-system:namespace-controller",
    "system:serviceaccount:kube-system:node-controller",
    "system:serviceaccount:kube-system:pod-garbage-collector",
    "system:serviceaccount:kube-system:replicaset-controller",
    "system:serviceaccount:kube-system:root-ca-cert-publisher",
    "system:serviceaccount:kube-system:service-account-controller",
    "system:serviceaccount:kube-system:statefulset-controller",
    "system:serviceaccount:kube-system:taint-eviction-controller",
    "system:serviceaccount:kube-system:ttl-after-finished-controller",
];

/// The API server's own loopback identity.
const API_SERVER: &str = "system:apiserver";
/// What user names of service accounts begin with.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// Group of kubelets, which delete the pods of their node.
const NODES: &str = "system:nodes";

/// Whom the guard knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identities {
    /// User names that are Weir itself, as the API server told it.
    pub weir: BTreeSet<String>,
    /// Key of the extra by which the API server names the credential that a user has shown, when Weir's own has it. Who only
    /// impersonates Weir has shown none of Weir's, and has no such extra unless they forge that too.
    pub credential: Option<String>,
    /// Key of the impersonation extra that only Weir's role may set. It marks Weir's writes in the name of a tenant.
    pub extra: Option<String>,
    /// User names that may create and delete managed objects beside the controllers of Kubernetes.
    pub controllers: BTreeSet<String>,
}

impl Identities {
    /// Whether Weir asks.
    #[must_use]
    pub fn is_weir(&self, user: &User) -> bool {
        let marked = |key: &String| user.extra.get(key).is_some_and(|values| !values.is_empty());
        self.weir.contains(&user.username) && self.credential.as_ref().is_none_or(marked)
            || self.extra.as_ref().is_some_and(marked)
    }

    /// Whether a controller asks that may create and delete what Git declares. What it changes is judged like any
    /// other change: an autoscaler is a controller too.
    #[must_use]
    pub fn is_controller(&self, user: &User) -> bool {
        CONTROLLERS.contains(&user.username.as_str())
            || self.controllers.contains(&user.username)
            || user.groups.iter().any(|group| group == NODES)
    }

    /// What kind of user asks, as metrics call it.
    #[must_use]
    pub fn class(&self, user: &User) -> &'static str {
        if self.is_weir(user) {
            "weir"
        } else if self.is_controller(user) {
            "controller"
        } else if user.username.starts_with(SERVICE_ACCOUNT) {
            "service-account"
        } else if user.username.starts_with("system:") {
            "system"
        } else {
            "person"
        }
    }

    /// Whether a service account or a part of the control plane asks, so that an owner reference is its own doing.
    #[must_use]
    pub fn is_machine(&self, user: &User) -> bool {
        self.class(user) != "person"
    }

    /// Whether the API server itself asks, which keeps its own objects in order.
    #[must_use]
    pub fn is_api_server(&self, user: &User) -> bool {
        user.username == API_SERVER
    }
}

/// Field managers of the control plane; the cloud's own controllers call themselves so too.
const CONTROL_PLANE: [&str; 5] = [
    "kube-controller-manager",
    "cloud-controller-manager",
    "kube-scheduler",
    "kube-apiserver",
    "kubelet",
];
/// What the field managers of programs begin with that people work with; `Mozilla` is a browser.
const BY_HAND: [&str; 4] = ["kubectl", "k9s", "Lens", "Mozilla"];

/// What kind of user is behind a field manager, as metrics call it: `person`, `controller` or `unknown`. What has got in tells
/// no user, and a name is only a claim.
#[must_use]
pub fn class_of_manager(manager: &str) -> &'static str {
    if CONTROL_PLANE.contains(&manager) {
        "controller"
    } else if BY_HAND.iter().any(|name| manager.starts_with(name)) {
        "person"
    } else {
        "unknown"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::identity::CREDENTIAL_EXTRA;

    #[test]
    fn who_borrows_weirs_name_shows_no_credential_of_it() {
        let credential = CREDENTIAL_EXTRA.to_owned();
        let user = |extra: Option<&str>| User {
            username: "weir".to_owned(),
            extra: extra
                .map(|key| (key.to_owned(), vec!["JTI=1".to_owned()]))
                .into_iter()
                .collect(),
            ..User::default()
        };
        let known = |credential| Identities {
            weir: ["weir".to_owned()].into(),
            credential,
            ..Identities::default()
        };
        assert!(known(Some(credential.clone())).is_weir(&user(Some(&credential))));
        assert!(!known(Some(credential.clone())).is_weir(&user(None)));
        assert!(!known(Some(credential)).is_weir(&user(Some("other"))));
        // An API server that names no credentials.
        assert!(known(None).is_weir(&user(None)));
    }

    #[test]
    fn managers_tell_who_is_behind_them_where_their_names_do() {
        let check = |name: &str, expect: &str| assert_eq!(class_of_manager(name), expect, "{name}");
        check("kubectl", "person");
        check("kubectl-edit", "person");
        check("kubectl-client-side-apply", "person");
        check("kube-controller-manager", "controller");
        check("helm", "unknown");
        check("kustomize-controller", "unknown");
        check("", "unknown");
    }
}
