//! A Deployment, a ConfigMap, a Secret and a Pod that Git declares, their owner, and requests against them.

use serde_json::{Value, json};

use crate::core::object::Object;
use crate::core::snapshot::Commit;
use crate::guard::{Change, Identities, Operation, Options, Owner, Parent, Reason, User, Verdict, decide};

pub(super) const WEIR: &str = "system:serviceaccount:flux-system:weir-controller";

pub(super) fn identities() -> Identities {
    Identities {
        weir: [WEIR.to_owned()].into(),
        credential: None,
        extra: Some(crate::core::identity::KUSTOMIZATION_EXTRA.to_owned()),
        controllers: ["system:serviceaccount:velero:velero".to_owned()].into(),
    }
}

pub(super) fn owner() -> Owner {
    Owner {
        name: "web".to_owned(),
        namespace: "apps".to_owned(),
        source_kind: "GitRepository".to_owned(),
        source_name: "flux-system/apps".to_owned(),
        url: Some("https://deploy:s3cret@git.example.com/shop/apps.git".to_owned()),
        revision: Some("main@sha1:1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".to_owned()),
        path: Some("./apps/web".to_owned()),
        commit: Some(Commit {
            id: "1a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d".to_owned(),
            author: "Ann Example <ann@example.com>".to_owned(),
            subject: "Run the shop on two replicas".to_owned(),
        }),
        file: Some("apps/web/deployment.yaml".to_owned()),
        ..Owner::default()
    }
}

fn entry(manager: &str, operation: &str, version: &str, subresource: &str, fields: Value) -> Value {
    let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": version,
        "fieldsType": "FieldsV1", "fieldsV1": fields, "time": "2026-11-01T10:00:00Z"});
    if !subresource.is_empty() {
        entry["subresource"] = json!(subresource);
    }
    entry
}

fn owned_labels() -> Value {
    json!({"f:app.kubernetes.io/name": {}, "f:kustomize.toolkit.fluxcd.io/name": {}, "f:kustomize.toolkit.fluxcd.io/namespace": {}})
}

/// A Deployment whose replicas Git declares.
pub(super) fn deployment() -> Value {
    let declared = json!({
        "f:metadata": {"f:labels": owned_labels(), "f:annotations": {"f:shop.example.com/owner": {}}},
        "f:spec": {
            "f:replicas": {},
            "f:selector": {},
            "f:template": {
                "f:metadata": {"f:labels": {"f:app.kubernetes.io/name": {}}},
                "f:spec": {
                    "f:containers": {"k:{\"name\":\"web\"}": {
                        ".": {}, "f:name": {}, "f:image": {}, "f:args": {}, "f:securityContext": {},
                        "f:env": {
                            "k:{\"name\":\"MODE\"}": {".": {}, "f:name": {}, "f:value": {}},
                            "k:{\"name\":\"REGION\"}": {".": {}, "f:name": {}, "f:value": {}},
                        },
                        "f:ports": {"k:{\"containerPort\":8080,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}}},
                        "f:resources": {"f:limits": {"f:memory": {}}},
                    }},
                    "f:volumes": {"k:{\"name\":\"tmp\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}},
                },
            },
        },
    });
    let status = json!({"f:status": {"f:replicas": {}, "f:observedGeneration": {}}});
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "web", "namespace": "prod", "uid": "5b0f", "resourceVersion": "711", "generation": 3,
            "creationTimestamp": "2026-11-01T10:00:00Z",
            "labels": {
                "app.kubernetes.io/name": "web",
                "kustomize.toolkit.fluxcd.io/name": "web",
                "kustomize.toolkit.fluxcd.io/namespace": "apps",
            },
            "annotations": {"shop.example.com/owner": "team-web", "deployment.kubernetes.io/revision": "2"},
            "managedFields": [
                entry("kustomize-controller", "Apply", "apps/v1", "", declared),
                entry("kube-controller-manager", "Update", "apps/v1", "status", status),
            ],
        },
        "spec": {
            "replicas": 2,
            "revisionHistoryLimit": 10,
            "selector": {"matchLabels": {"app.kubernetes.io/name": "web"}},
            "strategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {"app.kubernetes.io/name": "web"}},
                "spec": {
                    "containers": [{
                        "name": "web", "image": "registry.example.com/web:1.4.2", "imagePullPolicy": "IfNotPresent",
                        "args": ["--listen", ":8080"],
                        "env": [{"name": "MODE", "value": "fast"}, {"name": "REGION", "value": "eu"}],
                        "ports": [{"containerPort": 8080, "name": "http", "protocol": "TCP"}],
                        "resources": {"limits": {"memory": "64Mi"}},
                        "securityContext": {},
                    }],
                    "volumes": [{"name": "tmp", "emptyDir": {}}],
                    "restartPolicy": "Always",
                },
            },
        },
        "status": {"replicas": 2, "observedGeneration": 3},
    })
}

/// The same, but Git leaves the number of replicas to an autoscaler.
pub(super) fn autoscaled() -> Value {
    let mut object = deployment();
    object["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
        .as_object_mut()
        .unwrap()
        .remove("f:replicas");
    object
}

/// A ConfigMap or Secret with two declared keys and one that is not.
pub(super) fn data(kind: &str) -> Value {
    let fields = json!({
        "f:metadata": {"f:labels": owned_labels()},
        "f:data": {".": {}, "f:mode": {}, "f:app.properties": {}},
    });
    json!({
        "apiVersion": "v1",
        "kind": kind,
        "metadata": {
            "name": "web", "namespace": "prod",
            "labels": {
                "app.kubernetes.io/name": "web",
                "kustomize.toolkit.fluxcd.io/name": "web",
                "kustomize.toolkit.fluxcd.io/namespace": "apps",
            },
            "managedFields": [entry("kustomize-controller", "Apply", "v1", "", fields)],
        },
        "data": {"mode": "ZmFzdA==", "app.properties": "YT0x", "theirs": "eA=="},
    })
}

/// A bare Pod.
pub(super) fn pod() -> Value {
    let fields = json!({
        "f:metadata": {"f:labels": owned_labels()},
        "f:spec": {"f:containers": {"k:{\"name\":\"web\"}": {
            ".": {}, "f:name": {}, "f:image": {}, "f:resources": {"f:limits": {"f:memory": {}}},
        }}},
    });
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "namespace": "prod",
            "managedFields": [entry("kustomize-controller", "Apply", "v1", "", fields)]},
        "spec": {"containers": [{"name": "web", "image": "web:1", "resources": {"limits": {"memory": "64Mi", "cpu": "1"}}}]},
    })
}

/// A request against `old` by somebody who is neither Weir nor a controller.
pub(super) fn update(old: &Value, edit: impl Fn(&mut Value)) -> Change {
    let mut new = old.clone();
    edit(&mut new);
    Change {
        operation: Operation::Update,
        subresource: String::new(),
        object: Object::new(old.clone()).unwrap().reference(),
        old: Some(old.clone()),
        new: Some(new),
        user: user("jane"),
        options: Options::default(),
        parent: None,
    }
}

pub(super) fn delete(old: &Value) -> Change {
    Change {
        operation: Operation::Delete,
        new: None,
        ..update(old, |_| {})
    }
}

pub(super) fn create(new: &Value) -> Change {
    Change {
        operation: Operation::Create,
        old: None,
        ..update(new, |_| {})
    }
}

/// `kubectl scale`, or an autoscaler.
pub(super) fn scale(parent: &Value, from: i64, to: i64) -> Change {
    let show = |replicas: i64| {
        let spec = if replicas == 0 {
            json!({})
        } else {
            json!({"replicas": replicas})
        };
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "web", "namespace": "prod"}, "spec": spec})
    };
    Change {
        subresource: "scale".to_owned(),
        old: Some(show(from)),
        new: Some(show(to)),
        parent: Some(Parent::new(parent.clone())),
        ..update(parent, |_| {})
    }
}

pub(super) fn user(name: &str) -> User {
    User {
        username: name.to_owned(),
        groups: vec!["system:authenticated".to_owned()],
        ..User::default()
    }
}

pub(super) fn by(name: &str, change: Change) -> Change {
    Change {
        user: user(name),
        ..change
    }
}

pub(super) fn container(object: &mut Value) -> &mut Value {
    &mut object["spec"]["template"]["spec"]["containers"][0]
}

pub(super) fn containers(object: &mut Value) -> &mut Vec<Value> {
    object["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap()
}

#[track_caller]
pub(super) fn allowed(change: &Change, reason: Reason) {
    match decide(change, Some(&owner()), &identities()) {
        Verdict::Allow {
            reason: found,
            warnings,
        } => {
            assert_eq!(found, reason);
            assert_eq!(
                warnings.is_empty(),
                reason != Reason::DryRun && reason != Reason::Unseen,
                "{warnings:?}"
            );
        }
        Verdict::Exempt { warning, .. } => panic!("exempt: {warning}"),
        Verdict::Deny(denial) => panic!("denied: {}", denial.message),
    }
}

/// Expects a denial that names just these fields.
#[track_caller]
pub(super) fn denied(change: &Change, fields: &[&str]) {
    match decide(change, Some(&owner()), &identities()) {
        Verdict::Allow { reason, .. } => panic!("allowed: {reason:?}"),
        Verdict::Exempt { warning, .. } => panic!("exempt: {warning}"),
        Verdict::Deny(denial) => assert_eq!(denial.fields, fields, "{}", denial.message),
    }
}
