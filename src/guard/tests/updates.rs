//! Updates of the object itself and of its subresources.

use serde_json::{Value, json};

use super::fixtures::*;
use crate::core::fields::{FieldSet, Path};
use crate::guard::{Cause, Change, Owner, Parent, Reason, Verdict, decide};

const IMAGE: &str = "spec.template.spec.containers[name=\"web\"].image";

#[test]
fn a_declared_field_cannot_be_edited() {
    let image = |o: &mut Value| container(o)["image"] = json!("registry.example.com/web:evil");
    denied(&update(&deployment(), image), &[IMAGE]);
    // So does the API server show it: the field has left our entry and stands under that of the client.
    let recomputed = |o: &mut Value| {
        image(o);
        let entry = "/metadata/managedFields/0/fieldsV1/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"web\"}";
        o.pointer_mut(entry).unwrap().as_object_mut().unwrap().remove("f:image");
    };
    denied(&update(&deployment(), recomputed), &[IMAGE]);
    let several = |o: &mut Value| {
        image(o);
        o["spec"]["replicas"] = json!(9);
        container(o)["env"][0]["value"] = json!("slow");
    };
    let env = "spec.template.spec.containers[name=\"web\"].env[name=\"MODE\"].value";
    denied(&update(&deployment(), several), &["spec.replicas", env, IMAGE]);
}

#[test]
fn a_declared_thing_cannot_be_taken_out() {
    let web = "spec.template.spec.containers[name=\"web\"]";
    let gone = |o: &mut Value| containers(o)[0] = json!({"name": "other", "image": "other:1"});
    denied(&update(&deployment(), gone), &[web]);
    let env = |o: &mut Value| drop(container(o)["env"].as_array_mut().unwrap().remove(1));
    denied(&update(&deployment(), env), &[&format!("{web}.env[name=\"REGION\"]")]);
    let limit = |o: &mut Value| drop(container(o).as_object_mut().unwrap().remove("resources"));
    denied(&update(&deployment(), limit), &[&format!("{web}.resources")]);
    let volume =
        |o: &mut Value| o["spec"]["template"]["spec"]["volumes"][0] = json!({"name": "tmp", "hostPath": {"path": "/"}});
    denied(
        &update(&deployment(), volume),
        &["spec.template.spec.volumes[name=\"tmp\"].emptyDir"],
    );
    let label = |o: &mut Value| {
        drop(
            o["metadata"]["labels"]
                .as_object_mut()
                .unwrap()
                .remove("app.kubernetes.io/name"),
        );
    };
    denied(
        &update(&deployment(), label),
        &["metadata.labels[\"app.kubernetes.io/name\"]"],
    );
}

#[test]
fn a_list_that_is_one_value_cannot_be_changed_in_part() {
    let args = "spec.template.spec.containers[name=\"web\"].args";
    denied(
        &update(&deployment(), |o| {
            container(o)["args"] = json!(["--listen", ":8080", "--debug"]);
        }),
        &[args],
    );
    denied(
        &update(&deployment(), |o| container(o)["args"] = json!([":8080", "--listen"])),
        &[args],
    );
}

#[test]
fn what_git_does_not_declare_may_be_changed() {
    let free = |edit: &dyn Fn(&mut Value)| allowed(&update(&deployment(), edit), Reason::Undeclared);
    free(&|_| {});
    free(&|o| o["metadata"]["labels"]["extra"] = json!("x"));
    free(&|o| o["metadata"]["annotations"]["extra"] = json!("x"));
    free(&|o| o["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("3"));
    free(&|o| o["metadata"]["annotations"]["reconcile.fluxcd.io/requestedAt"] = json!("now"));
    free(&|o| o["metadata"]["finalizers"] = json!(["example.com/wait"]));
    free(&|o| o["metadata"]["ownerReferences"] = json!([{"kind": "Shop", "name": "shop"}]));
    free(&|o| o["spec"]["revisionHistoryLimit"] = json!(2));
    free(&|o| o["spec"]["paused"] = json!(true));
    // kubectl rollout restart.
    free(&|o| o["spec"]["template"]["metadata"]["annotations"] = json!({"kubectl.kubernetes.io/restartedAt": "now"}));
    free(&|o| container(o)["imagePullPolicy"] = json!("Always"));
    free(&|o| {
        container(o)["env"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "EXTRA", "value": "x"}));
    });
    // A sidecar with its volume, put first.
    free(&|o| {
        containers(o).insert(0, json!({"name": "proxy", "image": "proxy:1"}));
        o["spec"]["template"]["spec"]["volumes"]
            .as_array_mut()
            .unwrap()
            .insert(0, json!({"name": "proxy", "emptyDir": {}}));
        o["spec"]["template"]["spec"]["initContainers"] = json!([{"name": "init", "image": "init:1"}]);
    });
    // Declared as {}, so what others put into it is theirs.
    free(&|o| container(o)["securityContext"] = json!({"runAsNonRoot": true}));
}

#[test]
fn an_environment_variable_cannot_be_overridden_by_a_second_one() {
    let twice = |o: &mut Value| {
        container(o)["env"]
            .as_array_mut()
            .unwrap()
            .push(json!({"name": "MODE", "value": "slow"}));
    };
    denied(
        &update(&deployment(), twice),
        &["spec.template.spec.containers[name=\"web\"].env[name=\"MODE\"]"],
    );
}

#[test]
fn declared_items_keep_their_order_among_themselves() {
    denied(
        &update(&deployment(), |o| container(o)["env"].as_array_mut().unwrap().reverse()),
        &["spec.template.spec.containers[name=\"web\"].env"],
    );
    // A variable of somebody's own between them changes nothing about that.
    let between = |o: &mut Value| {
        let env = container(o)["env"].as_array_mut().unwrap();
        env.insert(1, json!({"name": "EXTRA", "value": "x"}));
    };
    allowed(&update(&deployment(), between), Reason::Undeclared);
}

#[test]
fn keys_of_a_config_map_are_guarded_one_by_one() {
    for kind in ["ConfigMap", "Secret"] {
        let old = data(kind);
        denied(&update(&old, |o| o["data"]["mode"] = json!("c2xvdw==")), &["data.mode"]);
        let remove = |o: &mut Value| drop(o["data"].as_object_mut().unwrap().remove("app.properties"));
        denied(&update(&old, remove), &["data[\"app.properties\"]"]);
        denied(
            &update(&old, |o| drop(o.as_object_mut().unwrap().remove("data"))),
            &["data"],
        );
        allowed(&update(&old, |o| o["data"]["more"] = json!("eA==")), Reason::Undeclared);
        allowed(
            &update(&old, |o| o["data"]["theirs"] = json!("eQ==")),
            Reason::Undeclared,
        );
        allowed(
            &update(&old, |o| drop(o["data"].as_object_mut().unwrap().remove("theirs"))),
            Reason::Undeclared,
        );
    }
}

#[test]
fn the_number_of_replicas_is_whose_git_says_it_is() {
    for who in [
        "jane",
        "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
        "system:kube-controller-manager",
    ] {
        denied(&by(who, scale(&deployment(), 2, 5)), &["spec.replicas"]);
        denied(&by(who, scale(&deployment(), 2, 0)), &["spec.replicas"]);
        allowed(&by(who, scale(&deployment(), 2, 2)), Reason::Undeclared);
        allowed(&by(who, scale(&deployment(), 0, 0)), Reason::Undeclared);
        allowed(&by(who, scale(&autoscaled(), 2, 5)), Reason::Undeclared);
        allowed(
            &by(who, update(&autoscaled(), |o| o["spec"]["replicas"] = json!(7))),
            Reason::Undeclared,
        );
    }
}

#[test]
fn scale_is_judged_by_the_metadata_of_its_parent() {
    // A metadata-only cache knows no version of the object.
    let partial =
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": deployment()["metadata"]});
    let mut change = scale(&deployment(), 2, 5);
    change.parent.as_mut().unwrap().object = partial;
    denied(&change, &["spec.replicas"]);
    // A custom resource may keep the number elsewhere.
    let parent = change.parent.as_mut().unwrap();
    parent.replicas = Path::of_fields(["spec", "size"]);
    allowed(&change, Reason::Undeclared);
    // Deleted while it is scaled, left alone, or not known at all.
    let mut terminating = deployment();
    terminating["metadata"]["deletionTimestamp"] = json!("2026-11-02T10:00:00Z");
    allowed(&scale(&terminating, 2, 0), Reason::Terminating);
    let mut alone = deployment();
    alone["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"] = json!("disabled");
    allowed(&scale(&alone, 2, 0), Reason::LeftAlone);
    allowed(
        &Change {
            parent: None,
            ..scale(&deployment(), 2, 5)
        },
        Reason::Unseen,
    );
}

#[test]
fn the_number_of_a_custom_kind_stands_where_its_definition_says() {
    let definition = json!({"spec": {"versions": [
        {"name": "v1alpha1", "subresources": {"scale": {"specReplicasPath": ".spec.old"}}},
        {"name": "v1", "subresources": {"scale": {"specReplicasPath": ".spec.pool.size"}}}]}});
    let place = |version: &str, definition: &Value| {
        let object = json!({"apiVersion": format!("shop.example/{version}"), "kind": "Pool"});
        Parent::of_custom(object, definition).replicas.to_string()
    };
    assert_eq!(place("v1", &definition), "spec.pool.size");
    assert_eq!(place("v1alpha1", &definition), "spec.old");
    assert_eq!(place("v2", &definition), "spec.replicas");
    assert_eq!(place("v1", &Value::Null), "spec.replicas");
}

#[test]
fn status_and_subresources_are_free_as_far_as_they_reach_nothing_declared() {
    let sub = |name: &str, change: Change| Change {
        subresource: name.to_owned(),
        ..change
    };
    allowed(
        &sub("status", update(&deployment(), |o| o["status"]["replicas"] = json!(1))),
        Reason::Undeclared,
    );
    // The status endpoint of many kinds takes labels along.
    let label = update(&deployment(), |o| {
        o["metadata"]["labels"]["app.kubernetes.io/name"] = json!("x");
    });
    denied(&sub("status", label), &["metadata.labels[\"app.kubernetes.io/name\"]"]);
    let debug = update(&pod(), |o| {
        o["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": "busybox"}]);
    });
    allowed(&sub("ephemeralcontainers", debug), Reason::Undeclared);
    let resource =
        |name: &'static str| move |o: &mut Value| o["spec"]["containers"][0]["resources"]["limits"][name] = json!("2");
    allowed(&sub("resize", update(&pod(), resource("cpu"))), Reason::Undeclared);
    let memory = "spec.containers[name=\"web\"].resources.limits.memory";
    denied(&sub("resize", update(&pod(), resource("memory"))), &[memory]);
    // kubectl drain, the scheduler.
    for made in ["eviction", "binding"] {
        allowed(
            &sub(
                made,
                create(&json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "web"}})),
            ),
            Reason::Undeclared,
        );
    }
}

#[test]
fn who_owns_an_object_is_not_for_others_to_say() {
    let label = |key: &'static str, value: Value| {
        update(&deployment(), move |o| {
            o["metadata"]["labels"][format!("kustomize.toolkit.fluxcd.io/{key}")] = value.clone();
        })
    };
    denied(
        &label("name", json!("mine")),
        &["metadata.labels[\"kustomize.toolkit.fluxcd.io/name\"]"],
    );
    denied(
        &label("reconcile", json!("disabled")),
        &["metadata.labels[\"kustomize.toolkit.fluxcd.io/reconcile\"]"],
    );
    let both = update(&deployment(), |o| {
        o["metadata"]["labels"] = json!({"app.kubernetes.io/name": "web"});
        o["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/prune"] = json!("disabled");
    });
    denied(
        &both,
        &[
            "metadata.labels[\"kustomize.toolkit.fluxcd.io/name\"]",
            "metadata.labels[\"kustomize.toolkit.fluxcd.io/namespace\"]",
            "metadata.annotations[\"kustomize.toolkit.fluxcd.io/prune\"]",
        ],
    );
    // Flux's own annotations and look-alikes are not control markers.
    allowed(
        &update(&deployment(), |o| {
            o["metadata"]["labels"]["kustomize.toolkit.fluxcd.iox/y"] = json!("z");
        }),
        Reason::Undeclared,
    );
}

#[test]
fn what_git_leaves_alone_the_guard_leaves_alone() {
    for (key, value) in [("reconcile", "Disabled"), ("ssa", "ignore"), ("ssa", "IfNotPresent")] {
        let mut old = deployment();
        old["metadata"]["annotations"][format!("kustomize.toolkit.fluxcd.io/{key}")] = json!(value);
        allowed(&update(&old, |o| o["spec"]["replicas"] = json!(9)), Reason::LeftAlone);
        allowed(&delete(&old), Reason::LeftAlone);
    }
    let mut old = deployment();
    old["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/ssa"] = json!("Merge");
    denied(&update(&old, |o| o["spec"]["replicas"] = json!(9)), &["spec.replicas"]);
}

#[test]
fn a_marker_that_somebody_has_put_on_opens_nothing_and_may_be_taken_off() {
    let key = "kustomize.toolkit.fluxcd.io/reconcile";
    let mut old = deployment();
    old["metadata"]["annotations"][key] = json!("disabled");
    let with = |left_alone: Option<bool>, change: &Change| {
        let owner = Owner { left_alone, ..owner() };
        match decide(change, Some(&owner), &identities()) {
            Verdict::Allow { reason, .. } => Some(reason),
            _ => None,
        }
    };
    let edit = update(&old, |o| o["spec"]["replicas"] = json!(9));
    let off = update(&old, |o| {
        o["metadata"]["annotations"].as_object_mut().unwrap().remove(key);
    });
    // Through the status, where the door does not look, or while it was away.
    assert_eq!(with(Some(false), &edit), None);
    assert_eq!(with(Some(false), &delete(&old)), None);
    assert_eq!(with(Some(false), &scale(&old, 2, 9)), None);
    assert_eq!(with(Some(false), &off), Some(Reason::Undeclared));
    // From before Weir's time.
    assert_eq!(with(None, &edit), Some(Reason::LeftAlone));
    assert_eq!(with(None, &scale(&old, 2, 9)), Some(Reason::LeftAlone));
    // Git says so, and what it leaves alone it does not mark.
    let edit = update(&deployment(), |o| o["spec"]["replicas"] = json!(9));
    assert_eq!(with(Some(true), &edit), Some(Reason::LeftAlone));
    assert_eq!(with(Some(true), &delete(&deployment())), Some(Reason::LeftAlone));
    // An owner label is no marker of that sort, whoever has put it there.
    let unowned = update(&autoscaled(), |o| {
        let labels = o["metadata"]["labels"].as_object_mut().unwrap();
        labels.remove("kustomize.toolkit.fluxcd.io/name");
    });
    assert_eq!(with(None, &unowned), None);
    // Who agrees to deletions does so by hand.
    let nod = |value: &'static str| {
        update(&deployment(), move |o| {
            o["metadata"]["annotations"]["weir.dev/allow-prune"] = json!(value);
        })
    };
    allowed(&nod("main@sha1:aa"), Reason::Undeclared);
}

#[test]
fn the_entry_of_the_declared_fields_cannot_be_tampered_with() {
    let ownership = |edit: &dyn Fn(&mut Value)| {
        let verdict = decide(&update(&deployment(), edit), Some(&owner()), &identities());
        assert!(
            matches!(&verdict, Verdict::Deny(denial) if denial.cause == Cause::Ownership),
            "{verdict:?}"
        );
    };
    ownership(&|o| o["metadata"]["managedFields"] = json!([]));
    ownership(&|o| drop(o["metadata"].as_object_mut().unwrap().remove("managedFields")));
    ownership(&|o| drop(o["metadata"]["managedFields"].as_array_mut().unwrap().remove(0)));
    ownership(&|o| o["metadata"]["managedFields"][0]["manager"] = json!("jane"));
    ownership(&|o| o["metadata"]["managedFields"][0]["operation"] = json!("Update"));
    ownership(&|o| {
        drop(
            o["metadata"]["managedFields"][0]["fieldsV1"]["f:spec"]
                .as_object_mut()
                .unwrap()
                .remove("f:replicas"),
        );
    });
    // Other managers come and go.
    allowed(
        &update(&deployment(), |o| {
            drop(o["metadata"]["managedFields"].as_array_mut().unwrap().remove(1));
        }),
        Reason::Undeclared,
    );
    // A change under cover of a forged entry is still a change.
    let forged = |o: &mut Value| {
        o["metadata"]["managedFields"] = json!([]);
        o["spec"]["replicas"] = json!(9);
    };
    denied(&update(&deployment(), forged), &["spec.replicas"]);
}

#[test]
fn filling_a_list_that_is_one_value_is_a_change_when_the_api_server_says_so() {
    let mut old = deployment();
    container(&mut old)["args"] = json!([]);
    let fill = |o: &mut Value| container(o)["args"] = json!(["--debug"]);
    allowed(&update(&old, fill), Reason::Undeclared);
    let lost = |o: &mut Value| {
        fill(o);
        let entry = "/metadata/managedFields/0/fieldsV1/f:spec/f:template/f:spec/f:containers/k:{\"name\":\"web\"}";
        o.pointer_mut(entry).unwrap().as_object_mut().unwrap().remove("f:args");
    };
    denied(
        &update(&old, lost),
        &["spec.template.spec.containers[name=\"web\"].args"],
    );
}

#[test]
fn an_edit_that_got_in_does_not_open_the_field() {
    // While the guard was away somebody changed the replicas, and they left our entry.
    let mut old = autoscaled();
    old["spec"]["replicas"] = json!(7);
    let applied = FieldSet::parse(&deployment()["metadata"]["managedFields"][0]["fieldsV1"]).unwrap();
    let owner = Owner {
        applied: Some(applied),
        ..owner()
    };
    let check = |change: &Change, expect: bool| {
        assert_eq!(decide(change, Some(&owner), &identities()).is_allowed(), expect);
    };
    check(&update(&old, |o| o["spec"]["replicas"] = json!(8)), false);
    check(&scale(&old, 7, 8), false);
    check(&update(&old, |o| o["spec"]["paused"] = json!(true)), true);
}

#[test]
fn another_version_of_the_api_is_no_way_in() {
    let mut old = deployment();
    old["apiVersion"] = json!("apps/v2");
    old["spec"]["size"] = json!(2);
    denied(&update(&old, |o| o["spec"]["size"] = json!(9)), &["spec.size"]);
    denied(
        &update(&old, |o| container(o)["image"] = json!("x")),
        &["spec.template.spec.containers[0].image"],
    );
    let label = |o: &mut Value| o["metadata"]["labels"]["app.kubernetes.io/name"] = json!("x");
    denied(&update(&old, label), &["metadata.labels[\"app.kubernetes.io/name\"]"]);
    allowed(
        &update(&old, |o| o["metadata"]["labels"]["extra"] = json!("x")),
        Reason::Undeclared,
    );
    allowed(
        &update(&old, |o| o["status"]["replicas"] = json!(1)),
        Reason::Undeclared,
    );
    allowed(&update(&old, |_| {}), Reason::Undeclared);
}

#[test]
fn fields_that_cannot_be_read_are_not_taken_for_free() {
    let mut old = deployment();
    old["metadata"]["managedFields"][0]["fieldsV1"] = json!({"f:spec": {"nonsense": {}}});
    let verdict = decide(&update(&old, |_| {}), Some(&owner()), &identities());
    assert!(matches!(verdict, Verdict::Deny(denial) if denial.cause == Cause::Unreadable));
}

#[test]
fn what_spec_ignore_leaves_to_others_may_be_changed() {
    let owner = Owner {
        ignored: vec![
            "/spec/replicas".to_owned(),
            "/metadata/labels/app.kubernetes.io~1name".to_owned(),
        ],
        ..owner()
    };
    let free = update(&deployment(), |o| {
        o["spec"]["replicas"] = json!(9);
        o["metadata"]["labels"]["app.kubernetes.io/name"] = json!("other");
        // So does the API server show it.
        let entry = o.pointer_mut("/metadata/managedFields/0/fieldsV1/f:spec").unwrap();
        entry.as_object_mut().unwrap().remove("f:replicas");
    });
    let Verdict::Allow { reason, .. } = decide(&free, Some(&owner), &identities()) else {
        panic!("an ignored field is refused");
    };
    assert_eq!(reason, Reason::Undeclared);
    let both = update(&deployment(), |o| {
        o["spec"]["replicas"] = json!(9);
        container(o)["image"] = json!("registry.example.com/web:evil");
    });
    let Verdict::Deny(denial) = decide(&both, Some(&owner), &identities()) else {
        panic!("what is not ignored passes");
    };
    assert_eq!(denial.fields, [IMAGE]);
}
