//! Whose the object is, who asks, and what is made or deleted.

use serde_json::json;

use super::fixtures::*;
use crate::guard::{Cause, Change, Mode, Options, Owner, Reason, User, Verdict, decide};

/// An update that anybody else would be refused.
fn edit() -> Change {
    update(&deployment(), |o| o["spec"]["replicas"] = json!(9))
}

fn reason(change: &Change, owner: Option<&Owner>) -> Option<Reason> {
    match decide(change, owner, &identities()) {
        Verdict::Allow { reason, .. } => Some(reason),
        Verdict::Exempt { .. } | Verdict::Deny(_) => None,
    }
}

#[test]
fn what_no_inventory_lists_is_nobodys() {
    // The labels are there, but copied.
    for change in [
        edit(),
        delete(&deployment()),
        create(&deployment()),
        scale(&deployment(), 2, 5),
    ] {
        assert_eq!(reason(&change, None), Some(Reason::Unmanaged));
        assert_eq!(reason(&change, Some(&owner())), None);
    }
}

#[test]
fn weir_may_do_everything() {
    let tenant = User {
        extra: [("weir.dev/kustomization".to_owned(), vec!["apps/web".to_owned()])].into(),
        ..user("system:serviceaccount:apps:deployer")
    };
    let empty = User {
        extra: [("weir.dev/kustomization".to_owned(), vec![])].into(),
        ..tenant.clone()
    };
    for change in [
        edit(),
        delete(&deployment()),
        create(&deployment()),
        scale(&deployment(), 2, 5),
    ] {
        allowed(&by(WEIR, change.clone()), Reason::Weir);
        allowed(
            &Change {
                user: tenant.clone(),
                ..change.clone()
            },
            Reason::Weir,
        );
        assert_eq!(
            reason(
                &Change {
                    user: empty.clone(),
                    ..change.clone()
                },
                Some(&owner())
            ),
            None
        );
        // The same service account without Weir behind it.
        assert_eq!(
            reason(&by("system:serviceaccount:apps:deployer", change), Some(&owner())),
            None
        );
    }
}

#[test]
fn somebody_who_calls_their_field_manager_like_ours_is_still_somebody() {
    let mut change = edit();
    change.options.field_manager = "kustomize-controller".to_owned();
    denied(&change, &["spec.replicas"]);
    change.user.groups = vec!["system:masters".to_owned()];
    denied(&change, &["spec.replicas"]);
}

#[test]
fn the_owner_says_how_strict_the_guard_is() {
    let with = |owner: Owner| decide(&edit(), Some(&owner), &identities());
    let check = |owner: Owner, expect: Reason, text: Option<&str>| {
        let warnings: Vec<String> = text.map(str::to_owned).into_iter().collect();
        assert_eq!(
            with(owner),
            Verdict::Allow {
                reason: expect,
                warnings
            }
        );
    };
    check(
        Owner {
            mode: Mode::Off,
            ..owner()
        },
        Reason::Off,
        None,
    );
    check(
        Owner {
            mode: Mode::Warn,
            ..owner()
        },
        Reason::Warned,
        Some("Deployment/prod/web: spec.replicas belongs to Kustomization apps/web; Weir puts it back"),
    );
    check(
        Owner {
            mode: Mode::Audit,
            ..owner()
        },
        Reason::Audited,
        Some("Deployment/prod/web: spec.replicas belongs to Kustomization apps/web; it stays until the next interval"),
    );
    check(
        Owner {
            suspended: true,
            ..owner()
        },
        Reason::Suspended,
        Some(
            "Deployment/prod/web: spec.replicas belongs to Kustomization apps/web; it is suspended, so this stays until it is resumed",
        ),
    );
    let free = update(&deployment(), |o| o["spec"]["paused"] = json!(true));
    for owner in [
        Owner {
            mode: Mode::Warn,
            ..owner()
        },
        Owner {
            suspended: true,
            ..owner()
        },
    ] {
        let expect = Verdict::Allow {
            reason: Reason::Undeclared,
            warnings: vec![],
        };
        assert_eq!(decide(&free, Some(&owner), &identities()), expect);
    }
}

#[test]
fn a_dry_run_is_told_what_would_happen() {
    let change = Change {
        options: Options {
            dry_run: true,
            ..Options::default()
        },
        ..edit()
    };
    let expect = "Deployment/prod/web: spec.replicas belongs to Kustomization apps/web; without a dry run this request is refused";
    assert_eq!(
        decide(&change, Some(&owner()), &identities()),
        Verdict::Allow {
            reason: Reason::DryRun,
            warnings: vec![expect.to_owned()]
        }
    );
}

#[test]
fn a_managed_object_is_deleted_by_those_who_clean_up_only() {
    let mut terminating = deployment();
    terminating["metadata"]["deletionTimestamp"] = json!("2026-11-02T10:00:00Z");
    let kubelet = User {
        groups: vec!["system:nodes".to_owned()],
        ..user("system:node:worker-1")
    };
    denied(&delete(&deployment()), &[]);
    denied(
        &by(
            "system:serviceaccount:kube-system:somebodys-dashboard",
            delete(&deployment()),
        ),
        &[],
    );
    for name in [
        "generic-garbage-collector",
        "namespace-controller",
        "ttl-after-finished-controller",
    ] {
        let name = format!("system:serviceaccount:kube-system:{name}");
        allowed(&by(&name, delete(&deployment())), Reason::Controller);
        // The right to clean up is no right to edit.
        denied(&by(&name, edit()), &["spec.replicas"]);
    }
    allowed(
        &by("system:serviceaccount:velero:velero", delete(&deployment())),
        Reason::Controller,
    );
    allowed(
        &Change {
            user: kubelet,
            ..delete(&pod())
        },
        Reason::Controller,
    );
    allowed(&delete(&terminating), Reason::Terminating);
    // Finalizers must be able to go, whoever takes them off.
    allowed(
        &update(&terminating, |o| o["spec"]["replicas"] = json!(0)),
        Reason::Terminating,
    );
}

#[test]
fn a_managed_object_is_made_by_weir_and_controllers_only() {
    denied(&create(&data("ConfigMap")), &[]);
    allowed(
        &by(
            "system:serviceaccount:kube-system:root-ca-cert-publisher",
            create(&data("ConfigMap")),
        ),
        Reason::Controller,
    );
    allowed(
        &by("system:serviceaccount:velero:velero", create(&data("ConfigMap"))),
        Reason::Controller,
    );
    let suspended = Owner {
        suspended: true,
        ..owner()
    };
    assert_eq!(
        reason(&create(&data("ConfigMap")), Some(&suspended)),
        Some(Reason::Suspended)
    );
}

#[test]
fn the_api_server_keeps_its_own_objects() {
    allowed(&by("system:apiserver", edit()), Reason::Controller);
}

#[test]
fn another_manager_may_share_a_field_but_not_change_it() {
    // Server-side apply with --force-conflicts shows the same value under both managers, or its own under one.
    let share = json!({"manager": "argocd", "operation": "Apply", "apiVersion": "apps/v1", "fieldsType": "FieldsV1",
        "fieldsV1": {"f:spec": {"f:replicas": {}}}});
    let take = |replicas: i64| {
        let share = share.clone();
        by(
            "argo",
            update(&deployment(), move |o| {
                o["metadata"]["managedFields"]
                    .as_array_mut()
                    .unwrap()
                    .push(share.clone());
                o["spec"]["replicas"] = json!(replicas);
            }),
        )
    };
    allowed(&take(2), Reason::Undeclared);
    denied(&take(3), &["spec.replicas"]);
}

#[test]
fn every_denial_says_its_cause() {
    let cause = |change: &Change| match decide(change, Some(&owner()), &identities()) {
        Verdict::Deny(denial) => Some(denial.cause),
        Verdict::Allow { .. } | Verdict::Exempt { .. } => None,
    };
    assert_eq!(cause(&edit()), Some(Cause::Fields));
    assert_eq!(cause(&delete(&deployment())), Some(Cause::Deletion));
    assert_eq!(cause(&create(&deployment())), Some(Cause::Creation));
    let label = update(&deployment(), |o| {
        o["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = json!("x");
    });
    assert_eq!(cause(&label), Some(Cause::Markers));
}

#[test]
fn an_exemption_lifts_drift_and_nothing_else() {
    let exempt = Owner {
        exempt: Some(
            "Exemption prod/incident allows this until 2026-11-01T10:30:00Z, then Weir puts it back".to_owned(),
        ),
        ..owner()
    };
    let fields = |change: &Change| match decide(change, Some(&exempt), &identities()) {
        Verdict::Exempt { fields, warning } => {
            assert!(
                warning.contains("Exemption prod/incident allows this until"),
                "{warning}"
            );
            Some(fields)
        }
        Verdict::Allow { .. } | Verdict::Deny(_) => None,
    };
    assert_eq!(fields(&edit()), Some(vec!["spec.replicas".to_owned()]));
    assert_eq!(
        fields(&scale(&deployment(), 2, 5)),
        Some(vec!["spec.replicas".to_owned()])
    );
    assert_eq!(fields(&delete(&deployment())), Some(vec![]));
    assert_eq!(fields(&create(&deployment())), Some(vec![]));
    let label = update(&deployment(), |o| {
        o["metadata"]["labels"]["kustomize.toolkit.fluxcd.io/name"] = json!("x");
    });
    assert!(
        !decide(&label, Some(&exempt), &identities()).is_allowed(),
        "whom it belongs to stays Git's"
    );
    let undeclared = update(&deployment(), |o| o["spec"]["revisionHistoryLimit"] = json!(4));
    assert_eq!(
        fields(&undeclared),
        None,
        "what Git does not declare needs none and is not noted"
    );
    let frozen = Owner {
        frozen: Some("frozen".to_owned()),
        ..exempt.clone()
    };
    assert!(matches!(
        decide(&edit(), Some(&frozen), &identities()),
        Verdict::Allow {
            reason: Reason::Frozen,
            ..
        }
    ));
}
