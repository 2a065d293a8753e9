//! A strict namespace.

use serde_json::json;

use super::fixtures::*;
use crate::core::object::Gvk;
use crate::guard::{Change, ClaimedOwner, Options, Reason, Verdict, claimed_owner, decide_strict};

fn reason(change: &Change) -> Option<Reason> {
    let owner_is_there = claimed_owner(change, &identities()).is_some_and(|owner| owner.uid == "1");
    match decide_strict(change, &identities(), owner_is_there, None) {
        Verdict::Allow { reason, .. } => Some(reason),
        Verdict::Exempt { .. } | Verdict::Deny(_) => None,
    }
}

#[test]
fn nothing_is_made_in_a_strict_namespace_but_by_weir_and_by_controllers() {
    let mut owned = data("ConfigMap");
    owned["metadata"]["ownerReferences"] = json!([
        {"apiVersion": "a.example/v1", "kind": "Bar", "name": "y", "uid": "2"},
        {"apiVersion": "foos.example/v1", "kind": "Foo", "name": "x", "uid": "1", "controller": true}]);
    let mut forged = owned.clone();
    forged["metadata"]["ownerReferences"][1]["uid"] = json!("3");
    let forged = create(&forged);
    let (plain, owned) = (create(&data("ConfigMap")), create(&owned));
    let account = "system:serviceaccount:operators:foo";
    let check = |change: Change, expect: Option<Reason>| assert_eq!(reason(&change), expect, "{change:?}");
    check(by("jane", plain.clone()), None);
    check(by("jane", owned.clone()), None);
    check(by(account, plain.clone()), None);
    let claimed = ClaimedOwner {
        gvk: Gvk::new("foos.example/v1", "Foo"),
        name: "x".to_owned(),
        uid: "1".to_owned(),
    };
    assert_eq!(claimed_owner(&by(account, owned.clone()), &identities()), Some(claimed));
    assert_eq!(claimed_owner(&by("jane", owned.clone()), &identities()), None);
    check(by(account, owned), Some(Reason::Controller));
    check(by(account, forged), None);
    check(by(WEIR, plain.clone()), Some(Reason::Weir));
    check(
        by(
            "system:serviceaccount:kube-system:root-ca-cert-publisher",
            plain.clone(),
        ),
        Some(Reason::Controller),
    );
    // What is there may be changed and deleted like anywhere, if nobody manages it.
    check(by("jane", delete(&data("ConfigMap"))), Some(Reason::Unmanaged));
    let mut glass = by("jane", plain.clone());
    glass.object.group = "weir.dev".to_owned();
    glass.object.kind = "Exemption".to_owned();
    check(glass, Some(Reason::Unmanaged));
    let dry = Options {
        dry_run: true,
        ..Options::default()
    };
    let dry = Change {
        options: dry,
        ..by("jane", plain.clone())
    };
    check(dry, Some(Reason::DryRun));
    let Verdict::Deny(denial) = decide_strict(&by("jane", plain.clone()), &identities(), false, None) else {
        panic!("allowed")
    };
    insta::assert_snapshot!(denial.message, @r"
    ConfigMap/prod/web cannot be made by hand: Namespace prod takes only what comes from Git.
    To have it made, add it to the repository of a Kustomization that deploys into prod, and push.
    The namespace says so by its label weir.dev/guard=strict.
    In an emergency, an Exemption that lifts strict lets named people in: kubectl explain exemptions.weir.dev
    ");
    let exempt = "Exemption prod/incident allows this until 2026-11-01T10:30:00Z; it stays afterwards";
    assert_eq!(
        decide_strict(&by("jane", plain.clone()), &identities(), false, Some(exempt)),
        Verdict::Exempt {
            fields: vec![],
            warning: format!("ConfigMap/prod/web: Namespace prod takes only what comes from Git; {exempt}"),
        }
    );
    assert!(matches!(
        decide_strict(&by(WEIR, plain), &identities(), false, Some(exempt)),
        Verdict::Allow {
            reason: Reason::Weir,
            ..
        }
    ));
}
