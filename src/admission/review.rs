//! AdmissionReview `admission.k8s.io/v1`, read and written as JSON.
//!
//! The request is kept whole, because policies see all of it (`input.review`); what every door needs is read out once.
//!
//! Guarantees: a body that is no review of a request is refused with an error that says what is wrong with it; an answer
//! always carries the uid of its request.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::core::object::{Gvk, ObjectRef};

/// What the API server asks about.
#[derive(Debug, Clone, PartialEq)]
pub struct AdmissionRequest {
    /// Names the question; the answer repeats it.
    pub uid: String,
    /// Kind of the object.
    pub kind: Gvk,
    /// Group of the resource.
    pub group: String,
    /// Resource, as in `deployments`.
    pub resource: String,
    /// Subresource, as in `scale`; empty for the object itself.
    pub subresource: String,
    /// Name; empty when the API server will make one up.
    pub name: String,
    /// Namespace; empty for cluster-scoped objects. For a Namespace it is its own name, as the API server sends it.
    pub namespace: String,
    /// What is to be done.
    pub operation: Operation,
    /// Who asks.
    pub user: User,
    /// Whether nothing will be stored.
    pub dry_run: bool,
    /// The whole `request` of the review.
    pub raw: Value,
}

/// What is to be done with the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// Make it.
    Create,
    /// Change it.
    Update,
    /// Remove it.
    Delete,
    /// Open a connection to it, as `kubectl exec` does.
    Connect,
}

/// Who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct User {
    /// User name.
    pub username: String,
    /// Its unique id.
    pub uid: String,
    /// Groups.
    pub groups: Vec<String>,
    /// What authentication and impersonation added.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl AdmissionRequest {
    /// The object as it will be; none for a deletion.
    #[must_use]
    pub fn object(&self) -> Option<&Value> {
        self.raw.get("object").filter(|value| !value.is_null())
    }

    /// The object as it is; none for a creation.
    #[must_use]
    pub fn old_object(&self) -> Option<&Value> {
        self.raw.get("oldObject").filter(|value| !value.is_null())
    }

    /// The object that is asked about; for a subresource the reference has the kind that the API server sends, as `Scale`.
    ///
    /// A name that the API server makes up is read from the object, where it stands by the time of validation, and so is that
    /// of an object that is deleted with a whole collection, which the request does not name; and a
    /// Namespace lies in no namespace, although its requests say that it lies in itself.
    #[must_use]
    pub fn reference(&self) -> ObjectRef {
        let made_up = || self.object().or(self.old_object())?.pointer("/metadata/name")?.as_str();
        let name = if self.name.is_empty() {
            made_up().unwrap_or_default()
        } else {
            &self.name
        };
        let is_namespace = self.group.is_empty() && self.resource == "namespaces";
        ObjectRef {
            group: self.kind.group.clone(),
            kind: self.kind.kind.clone(),
            namespace: if is_namespace {
                String::new()
            } else {
                self.namespace.clone()
            },
            name: name.to_owned(),
        }
    }

    /// The options of the request: field manager, dry run, propagation.
    #[must_use]
    pub fn options(&self) -> Option<&Value> {
        self.raw.get("options").filter(|value| !value.is_null())
    }
}

/// A decision.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Answer {
    /// Whether the request may go on.
    pub allowed: bool,
    /// Why not; shown to the user.
    pub message: String,
    /// HTTP code of a denial.
    pub code: u16,
    /// Shown to the user although the request goes on.
    pub warnings: Vec<String>,
    /// Changes to the object; only from a mutating webhook.
    pub patch: Option<json_patch::Patch>,
}

impl Answer {
    /// Yes.
    #[must_use]
    pub fn allow() -> Self {
        Self {
            allowed: true,
            ..Self::default()
        }
    }

    /// No, with a reason; 403 as Gatekeeper answers.
    #[must_use]
    pub fn deny(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: 403,
            ..Self::default()
        }
    }
}

/// Why a body is no review of a request.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The body is not JSON.
    #[error("the body is not JSON: {0}")]
    NotJson(#[source] serde_json::Error),
    /// The body is another kind of object.
    #[error("expected an AdmissionReview of admission.k8s.io/v1, got {kind:?} of {api_version:?}")]
    NotAReview {
        /// What it says it is.
        kind: String,
        /// Of which version.
        api_version: String,
    },
    /// There is no request in it.
    #[error("the AdmissionReview has no request")]
    NoRequest,
    /// The request lacks a field or has one of another type.
    #[error("the request of the AdmissionReview cannot be read: {0}")]
    BadRequest(#[source] serde_json::Error),
}

/// Reads the body of a request to a webhook.
///
/// # Errors
/// When it is no review of a request.
pub fn read(body: &[u8]) -> Result<AdmissionRequest, ReviewError> {
    let mut review: Value = serde_json::from_slice(body).map_err(ReviewError::NotJson)?;
    let text = |key: &str| review.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    if kind != "AdmissionReview" || api_version != "admission.k8s.io/v1" {
        return Err(ReviewError::NotAReview { kind, api_version });
    }
    let raw = review.get_mut("request").map(Value::take).filter(Value::is_object);
    let raw = raw.ok_or(ReviewError::NoRequest)?;
    let wire = Wire::deserialize(&raw).map_err(ReviewError::BadRequest)?;
    Ok(AdmissionRequest {
        uid: wire.uid,
        kind: Gvk {
            group: wire.kind.group,
            version: wire.kind.version,
            kind: wire.kind.kind,
        },
        group: wire.resource.group,
        resource: wire.resource.resource,
        subresource: wire.sub_resource,
        name: wire.name,
        namespace: wire.namespace,
        operation: wire.operation,
        user: wire.user_info,
        dry_run: wire.dry_run.unwrap_or(false),
        raw,
    })
}

/// Writes the answer to the request with this uid.
#[must_use]
pub fn write(uid: &str, answer: &Answer) -> Value {
    let mut response = json!({"uid": uid, "allowed": answer.allowed});
    let mut put = |key: &str, value: Value| {
        if let Some(map) = response.as_object_mut() {
            map.insert(key.to_owned(), value);
        }
    };
    if !answer.allowed {
        put("status", json!({"code": answer.code, "message": answer.message}));
    }
    if !answer.warnings.is_empty() {
        put("warnings", json!(answer.warnings));
    }
    if let Some(patch) = answer
        .patch
        .as_ref()
        .filter(|patch| answer.allowed && !patch.is_empty())
    {
        // A patch is made of JSON values, whose writing cannot fail.
        let text = serde_json::to_vec(patch).unwrap_or_default();
        put("patchType", json!("JSONPatch"));
        put("patch", json!(STANDARD.encode(text)));
    }
    json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response})
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    uid: String,
    kind: WireKind,
    resource: WireResource,
    #[serde(default)]
    sub_resource: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    operation: Operation,
    #[serde(default)]
    user_info: User,
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
struct WireKind {
    #[serde(default)]
    group: String,
    version: String,
    kind: String,
}

#[derive(Deserialize)]
struct WireResource {
    #[serde(default)]
    group: String,
    resource: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A review of an update of a Deployment, as kube-apiserver sends it.
    pub(crate) fn review() -> Value {
        json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "resource": {"group": "apps", "version": "v1", "resource": "deployments"},
            "requestKind": {"group": "apps", "version": "v1", "kind": "Deployment"},
            "name": "web", "namespace": "prod", "operation": "UPDATE",
            "userInfo": {"username": "jane", "groups": ["system:authenticated"],
                "extra": {"authentication.kubernetes.io/credential-id": ["X509SHA256=1"]}},
            "object": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"replicas": 2}},
            "oldObject": {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}},
            "dryRun": false, "options": {"kind": "UpdateOptions", "fieldManager": "kubectl-edit"}}})
    }

    #[test]
    fn a_request_is_read_whole() {
        let request = read(review().to_string().as_bytes()).unwrap();
        assert_eq!(request.kind, Gvk::new("apps/v1", "Deployment"));
        assert_eq!(
            (request.resource.as_str(), request.subresource.as_str()),
            ("deployments", "")
        );
        assert_eq!((request.operation, request.dry_run), (Operation::Update, false));
        assert_eq!(request.user.username, "jane");
        assert_eq!(request.object().unwrap()["spec"]["replicas"], 2);
        assert!(request.old_object().is_some());
        assert_eq!(request.options().unwrap()["fieldManager"], "kubectl-edit");
        assert_eq!(request.raw["requestKind"]["kind"], "Deployment");
    }

    #[test]
    fn a_body_that_is_no_review_is_refused_with_what_is_wrong() {
        let check = |body: &str, expect: &str| {
            let error = read(body.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(expect), "{error}");
        };
        check("", "the body is not JSON: ");
        check("{", "the body is not JSON: ");
        check(
            "[]",
            "expected an AdmissionReview of admission.k8s.io/v1, got \"\" of \"\"",
        );
        check(
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1beta1"}"#,
            "expected an AdmissionReview of admission.k8s.io/v1, got \"AdmissionReview\" of \"admission.k8s.io/v1beta1\"",
        );
        check(
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1"}"#,
            "the AdmissionReview has no request",
        );
        for (field, value) in [
            ("uid", Value::Null),
            ("operation", json!("PATCH")),
            ("kind", json!("x")),
        ] {
            let mut body = review();
            body["request"][field] = value;
            check(&body.to_string(), "the request of the AdmissionReview cannot be read: ");
        }
    }

    #[test]
    fn an_object_deleted_with_its_collection_is_named_by_itself() {
        let mut deletion = review();
        deletion["request"]["operation"] = json!("DELETE");
        deletion["request"]["name"] = json!("");
        deletion["request"]["object"] = Value::Null;
        deletion["request"]["oldObject"] = json!({"metadata": {"name": "keys", "namespace": "prod"}});
        let request = read(deletion.to_string().as_bytes()).unwrap();
        assert_eq!(request.reference().name, "keys");
    }

    #[test]
    fn a_namespace_lies_in_no_namespace() {
        let mut body = review();
        assert_eq!(
            read(body.to_string().as_bytes()).unwrap().reference().to_string(),
            "Deployment/prod/web"
        );
        body["request"]["name"] = json!("");
        assert_eq!(
            read(body.to_string().as_bytes()).unwrap().reference().to_string(),
            "Deployment/prod/web"
        );
        body["request"]["kind"] = json!({"group": "", "version": "v1", "kind": "Namespace"});
        body["request"]["resource"] = json!({"group": "", "version": "v1", "resource": "namespaces"});
        body["request"]["name"] = json!("prod");
        assert_eq!(
            read(body.to_string().as_bytes()).unwrap().reference().to_string(),
            "Namespace/prod"
        );
    }

    #[test]
    fn a_deletion_has_no_object() {
        let mut body = review();
        body["request"]["object"] = Value::Null;
        body["request"]["operation"] = json!("DELETE");
        let request = read(body.to_string().as_bytes()).unwrap();
        assert_eq!((request.operation, request.object()), (Operation::Delete, None));
    }

    #[test]
    fn answers_are_written_as_the_api_server_expects_them() {
        assert_eq!(
            write("u", &Answer::allow()),
            json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": {"uid": "u", "allowed": true}})
        );
        let denied = write("u", &Answer::deny("[no-root] not so"));
        assert_eq!(
            denied["response"]["status"],
            json!({"code": 403, "message": "[no-root] not so"})
        );
        let patch = serde_json::from_value(json!([{"op": "add", "path": "/metadata/labels", "value": {"a": "b"}}]));
        let mut answer = Answer {
            patch: Some(patch.unwrap()),
            warnings: vec!["soon".into()],
            ..Answer::allow()
        };
        let written = write("u", &answer);
        assert_eq!(written["response"]["patchType"], "JSONPatch");
        let text = STANDARD.decode(written["response"]["patch"].as_str().unwrap()).unwrap();
        assert_eq!(text, br#"[{"op":"add","path":"/metadata/labels","value":{"a":"b"}}]"#);
        assert_eq!(written["response"]["warnings"], json!(["soon"]));
        answer.allowed = false;
        assert_eq!(
            write("u", &answer)["response"].get("patch"),
            None,
            "a denial changes nothing"
        );
    }
}
