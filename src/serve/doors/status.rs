//! What Weir's own objects say of themselves: who asked for an Exemption, what it has let pass, and what an inventory lists.

use serde_json::{Value, json};

use crate::admission::review::{AdmissionRequest, Answer};
use crate::api::kustomize;
use crate::api::weir::{self, ASKED_BY};

/// What names of service accounts begin with.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";

/// Writes on an Exemption who asks for it. Who changes something else leaves the name that is there.
pub(super) fn signed(request: &AdmissionRequest) -> Answer {
    let asked_by = |object: &Value| object.pointer("/metadata/annotations")?.get(ASKED_BY).cloned();
    let minutes = |object: Option<&Value>| object?.pointer("/spec/minutes").cloned();
    let (old, Some(new)) = (request.old_object(), request.object()) else {
        return Answer::allow();
    };
    let wanted = match old {
        Some(old) if minutes(Some(old)) == minutes(Some(new)) => asked_by(old),
        _ => Some(Value::from(request.user.username.as_str())),
    };
    if asked_by(new) == wanted {
        return Answer::allow();
    }
    let path = format!("/metadata/annotations/{}", ASKED_BY.replace('/', "~1"));
    let operations = match wanted {
        None => json!([{"op": "remove", "path": path}]),
        Some(name) if new.pointer("/metadata/annotations").is_some_and(Value::is_object) => {
            json!([{"op": "add", "path": path, "value": name}])
        }
        Some(name) => json!([{"op": "add", "path": "/metadata/annotations", "value": {ASKED_BY: name}}]),
    };
    Answer {
        patch: serde_json::from_value(operations).ok(),
        ..Answer::allow()
    }
}

/// Answers a request about a status, which is not Weir's own. `weir` is the user name of this process.
pub(super) fn guarded(request: &AdmissionRequest, weir: &str) -> Answer {
    let object = format!("{}/{}/{}", request.kind.kind, request.namespace, request.name);
    match (request.group.as_str(), request.resource.as_str()) {
        (weir::GROUP, "exemptions") => Answer::deny(format!(
            "{object}: the status says what was edited under it and is written by Weir only. To end it, delete it; to \
             change how long it lasts, change spec.minutes."
        )),
        (kustomize::GROUP, "kustomizations") if changes_inventory(request) && !is_neighbour(request, weir) => {
            Answer::deny(format!(
                "{object}: status.inventory says what Git declares and what is deleted when Git no longer has it, and is \
                 written by the controller only. To give an object up, take it out of Git; to keep it in the cluster then, \
                 annotate it in Git first with {}/prune: disabled.",
                kustomize::GROUP
            ))
        }
        _ => Answer::allow(),
    }
}

fn changes_inventory(request: &AdmissionRequest) -> bool {
    let inventory = |object: Option<&Value>| object?.pointer("/status/inventory").cloned();
    inventory(request.old_object()) != inventory(request.object())
}

/// Whether a service account beside Weir asks: Flux's own controller may look after some of the Kustomizations.
fn is_neighbour(request: &AdmissionRequest, weir: &str) -> bool {
    let namespace = |user: &str| {
        let rest = user.strip_prefix(SERVICE_ACCOUNT)?;
        rest.split_once(':').map(|(namespace, _)| namespace.to_owned())
    };
    match (namespace(&request.user.username), namespace(weir)) {
        (Some(asks), Some(own)) => asks == own,
        // Run outside a cluster, Weir has no namespace to go by.
        (Some(_), None) => true,
        (None, _) => request.user.username == weir,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::review::read;

    const WEIR: &str = "system:serviceaccount:flux-system:weir-controller";

    fn request(user: &str, resource: (&str, &str, &str), old: &Value, new: &Value) -> AdmissionRequest {
        let (group, resource, kind) = resource;
        let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {"uid": "1",
            "kind": {"group": group, "version": "v1", "kind": kind},
            "resource": {"group": group, "version": "v1", "resource": resource}, "subResource": sub,
            "name": "web", "namespace": "shop", "operation": "UPDATE", "userInfo": {"username": user},
            "oldObject": old, "object": new}});
        read(review.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn an_exemption_says_who_asked_for_it() {
        let object = |minutes: u32, by: Option<&str>| {
            let metadata = by.map_or(json!({}), |by| json!({"annotations": {"weir.dev/asked-by": by}}));
            json!({"metadata": metadata, "spec": {"minutes": minutes}})
        };
        let check = |user: &str, old: Value, new: Value, expect: Option<&str>| {
            let answer = signed(&request(user, ("weir.dev", "exemptions", "Exemption"), &old, &new));
            let mut stored = new.clone();
            if let Some(patch) = &answer.patch {
                json_patch::patch(&mut stored, patch).unwrap();
            }
            let found = stored
                .pointer("/metadata/annotations/weir.dev~1asked-by")
                .and_then(Value::as_str);
            assert!(answer.allowed);
            assert_eq!(found, expect, "{user} {old} {new}");
        };
        check("alice", Value::Null, object(5, None), Some("alice"));
        check("alice", Value::Null, object(5, Some("bob")), Some("alice"));
        check("bob", object(5, Some("alice")), object(60, Some("alice")), Some("bob"));
        check("bob", object(5, Some("alice")), object(5, Some("alice")), Some("alice"));
        // Nobody else's name can be written or wiped.
        check("bob", object(5, Some("alice")), object(5, Some("carol")), Some("alice"));
        check("bob", object(5, Some("alice")), object(5, None), Some("alice"));
        check("bob", object(5, None), object(5, Some("alice")), None);
    }

    #[test]
    fn what_an_inventory_lists_is_for_its_controller_to_say() {
        let object = |ids: &[&str], message: &str| {
            let entries: Vec<Value> = ids.iter().map(|id| json!({"id": id, "v": "v1"})).collect();
            json!({"status": {"inventory": {"entries": entries}, "conditions": [{"message": message}]}})
        };
        let check = |user: &str, old: Value, new: Value, expect: bool| {
            let resource = (kustomize::GROUP, "kustomizations/status", "Kustomization");
            let answer = guarded(&request(user, resource, &old, &new), WEIR);
            assert_eq!(answer.allowed, expect, "{user} {old} {new}: {}", answer.message);
            answer
        };
        let (old, less) = (object(&["shop_a__ConfigMap"], "a"), object(&[], "a"));
        let denied = check("alice", old.clone(), less.clone(), false);
        insta::assert_snapshot!(denied.message, @"Kustomization/shop/web: status.inventory says what Git declares and what is deleted when Git no longer has it, and is written by the controller only. To give an object up, take it out of Git; to keep it in the cluster then, annotate it in Git first with kustomize.toolkit.fluxcd.io/prune: disabled.");
        check("alice", old.clone(), object(&["shop_a__ConfigMap"], "b"), true);
        check("system:serviceaccount:ci:deployer", old.clone(), less.clone(), false);
        check(
            "system:serviceaccount:flux-system:kustomize-controller",
            old,
            less,
            true,
        );
    }

    #[test]
    fn the_status_of_an_exemption_is_weirs() {
        let resource = ("weir.dev", "exemptions/status", "Exemption");
        let answer = guarded(&request("alice", resource, &json!({}), &json!({})), WEIR);
        insta::assert_snapshot!(answer.message, @"Exemption/shop/web: the status says what was edited under it and is written by Weir only. To end it, delete it; to change how long it lasts, change spec.minutes.");
    }
}
