//! What is judged: one object in one request, in the shape that Gatekeeper gives to its policies.
//!
//! Every door makes a [`Review`]: admission from the request it got, the gate and `weir check` from a planned change. The
//! zero values are Go's, because policies compare with them.

use std::sync::OnceLock;

use regorus::Value;
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use super::cel;
use crate::core::object::{Gvk, Object};

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A new object.
    Create,
    /// A changed object.
    Update,
    /// A deleted object.
    Delete,
    /// A connection, as `kubectl exec` makes.
    Connect,
}

impl Operation {
    /// As the API server writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// Why an admission request cannot be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReviewError {
    /// The request is not a JSON object.
    #[error("the admission request is not a JSON object")]
    NotAnObject,
    /// A field has another form than the API server gives it.
    #[error("field {0} of the admission request is malformed")]
    Malformed(&'static str),
    /// Nothing to judge.
    #[error("the admission request holds neither object nor oldObject")]
    NoObject,
}

/// One object in one request.
#[derive(Debug, Clone)]
pub struct Review {
    gvk: Gvk,
    name: String,
    namespace: String,
    /// The request as JSON, with the namespace in it.
    request: Json,
    /// Whether an ExpansionTemplate made the object.
    generated: bool,
    input: OnceLock<Value>,
    cel: OnceLock<Json>,
}

impl Review {
    /// Reads the `request` of an AdmissionReview. The namespace is the object's own, when it has one and it is known.
    ///
    /// # Errors
    /// When the request does not have the API server's form.
    pub fn from_admission(request: &Json, namespace: Option<&Json>) -> Result<Self, ReviewError> {
        Self::from_request(request.clone(), namespace.cloned())
    }

    /// The same, of a request that nobody needs any more.
    ///
    /// # Errors
    /// When the request does not have the API server's form.
    pub fn from_request(request: Json, namespace: Option<Json>) -> Result<Self, ReviewError> {
        let Json::Object(mut fields) = request else {
            return Err(ReviewError::NotAnObject);
        };
        let mut part = |key: &'static str| match fields.get_mut(key).map(Json::take) {
            None | Some(Json::Null) => Ok(Json::Null),
            Some(value @ Json::Object(_)) => Ok(value),
            Some(_) => Err(ReviewError::Malformed(key)),
        };
        let (mut object, old, options) = (part("object")?, part("oldObject")?, part("options")?);
        let text = |of: &Map<String, Json>, key: &'static str| match of.get(key) {
            None | Some(Json::Null) => Ok(String::new()),
            Some(Json::String(text)) => Ok(text.clone()),
            Some(_) => Err(ReviewError::Malformed(key)),
        };
        let record = |key: &'static str| match fields.get(key) {
            None | Some(Json::Null) => Ok(Map::new()),
            Some(Json::Object(fields)) => Ok(fields.clone()),
            Some(_) => Err(ReviewError::Malformed(key)),
        };
        let kind = record("kind")?;
        let resource = record("resource")?;
        let operation = text(&fields, "operation")?;
        if object.is_null() && old.is_null() {
            return Err(ReviewError::NoObject);
        }
        if operation == "DELETE" || object.is_null() {
            // Gatekeeper's policies read the deleted object where they read every other.
            object = if old.is_null() { object } else { old.clone() };
        }
        let mut out = Map::new();
        out.insert("uid".to_owned(), text(&fields, "uid")?.into());
        out.insert(
            "kind".to_owned(),
            json!({"group": text(&kind, "group")?, "version": text(&kind, "version")?, "kind": text(&kind, "kind")?}),
        );
        out.insert(
            "resource".to_owned(),
            json!({"group": text(&resource, "group")?, "version": text(&resource, "version")?,
                "resource": text(&resource, "resource")?}),
        );
        for key in ["subResource", "requestSubResource", "name", "namespace"] {
            let value = text(&fields, key)?;
            if !value.is_empty() {
                out.insert(key.to_owned(), value.into());
            }
        }
        for key in ["requestKind", "requestResource"] {
            let value = record(key)?;
            if !value.is_empty() {
                out.insert(key.to_owned(), Json::Object(value));
            }
        }
        if let Some(dry_run @ Json::Bool(_)) = fields.get("dryRun") {
            out.insert("dryRun".to_owned(), dry_run.clone());
        }
        out.insert("operation".to_owned(), operation.into());
        out.insert("userInfo".to_owned(), Json::Object(record("userInfo")?));
        out.insert("object".to_owned(), object);
        out.insert("oldObject".to_owned(), old);
        out.insert("options".to_owned(), options);
        out.insert("namespaceObject".to_owned(), namespace.unwrap_or(Json::Null));
        let gvk = Gvk {
            group: text(&kind, "group")?,
            version: text(&kind, "version")?,
            kind: text(&kind, "kind")?,
        };
        let (name, namespace) = (text(&fields, "name")?, text(&fields, "namespace")?);
        Ok(Self {
            gvk,
            name,
            namespace,
            request: Json::Object(out),
            generated: false,
            input: OnceLock::new(),
            cel: OnceLock::new(),
        })
    }

    /// A change that is planned but not yet asked of the API server. A deletion has only an old object.
    ///
    /// `namespace` is the object's Namespace, when it has one and it is known; `None` for both objects gives a review that
    /// nothing matches.
    #[must_use]
    pub fn planned(
        operation: Operation,
        object: Option<&Object>,
        old: Option<&Object>,
        namespace: Option<&Json>,
    ) -> Self {
        let subject = object.or(old);
        let gvk = subject.map_or_else(|| Gvk::new("", ""), Object::gvk);
        let name = subject.map_or("", Object::name).to_owned();
        let namespace_name = subject.map_or("", Object::namespace).to_owned();
        let mut request = json!({
            "uid": "",
            "kind": {"group": gvk.group, "version": gvk.version, "kind": gvk.kind},
            "resource": {"group": "", "version": "", "resource": ""},
            "operation": operation.as_str(),
            "userInfo": {},
            "object": subject.map_or(Json::Null, |object| object.value().clone()),
            "oldObject": old.map_or(Json::Null, |object| object.value().clone()),
            "options": null,
            "namespaceObject": namespace.cloned().unwrap_or(Json::Null),
        });
        if let Some(fields) = request.as_object_mut() {
            if !name.is_empty() {
                fields.insert("name".to_owned(), name.clone().into());
            }
            if !namespace_name.is_empty() {
                fields.insert("namespace".to_owned(), namespace_name.clone().into());
            }
        }
        Self {
            gvk,
            name,
            namespace: namespace_name,
            request,
            generated: false,
            input: OnceLock::new(),
            cel: OnceLock::new(),
        }
    }

    /// Says who asks, as the `userInfo` of a request: the identity that a planned change will be applied with.
    #[must_use]
    pub fn with_user(mut self, user_info: Json) -> Self {
        self.set("userInfo", user_info);
        self
    }

    /// Says that an ExpansionTemplate made the object.
    #[must_use]
    pub fn generated(mut self) -> Self {
        self.generated = true;
        self
    }

    /// Whether an ExpansionTemplate made the object.
    #[must_use]
    pub fn is_generated(&self) -> bool {
        self.generated
    }

    /// Replaces the object, as mutation does.
    #[must_use]
    pub fn with_object(&self, object: Json) -> Self {
        let mut review = self.clone();
        review.set("object", object);
        review
    }

    fn set(&mut self, key: &str, value: Json) {
        if let Some(fields) = self.request.as_object_mut() {
            fields.insert(key.to_owned(), value);
        }
        self.input = OnceLock::new();
        self.cel = OnceLock::new();
    }

    /// Kind of the object as the request names it.
    #[must_use]
    pub fn gvk(&self) -> &Gvk {
        &self.gvk
    }

    /// Name of the object; empty while it is to be generated.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Namespace of the request; empty for cluster-scoped objects.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The object; for a deletion the one that is deleted.
    #[must_use]
    pub fn object(&self) -> Option<&Json> {
        self.part("object")
    }

    /// The object as it was.
    #[must_use]
    pub fn old_object(&self) -> Option<&Json> {
        self.part("oldObject")
    }

    /// The object's Namespace, when known.
    #[must_use]
    pub fn namespace_object(&self) -> Option<&Json> {
        self.part("namespaceObject")
    }

    /// What the request does, as the API server writes it.
    #[must_use]
    pub fn operation(&self) -> &str {
        self.request.get("operation").and_then(Json::as_str).unwrap_or_default()
    }

    /// Whether the object goes.
    #[must_use]
    pub fn is_deletion(&self) -> bool {
        self.operation() == Operation::Delete.as_str()
    }

    /// The operation, when policies are asked about it only if they want to be. Gatekeeper's webhook does not send these
    /// to its policies unless it is told to: a policy that does not think of deletions would keep its own offenders from
    /// being deleted.
    pub(crate) fn unusual_operation(&self) -> Option<&str> {
        let unusual = [Operation::Delete, Operation::Connect].map(Operation::as_str);
        Some(self.operation()).filter(|operation| unusual.contains(operation))
    }

    /// All of it, in the form that policies get.
    pub(crate) fn request(&self) -> &Json {
        &self.request
    }

    /// The same for templates in CEL, without the objects; made once.
    pub(crate) fn cel_request(&self) -> &Json {
        self.cel.get_or_init(|| cel::request(self))
    }

    fn part(&self, key: &str) -> Option<&Json> {
        self.request.get(key).filter(|value| !value.is_null())
    }

    /// `input.review`, made once.
    pub(crate) fn value(&self) -> Value {
        let make = || {
            let mut value = Value::deserialize(&self.request).unwrap_or(Value::Null);
            // Without a Namespace Gatekeeper's Rego sees an empty one; its CEL sees null.
            if self.namespace_object().is_none()
                && let Ok(fields) = value.as_object_mut()
            {
                fields.insert(Value::from("namespaceObject"), Value::new_object());
            }
            value
        };
        self.input.get_or_init(make).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admission_request_gets_gos_zero_values() {
        let review = Review::from_admission(
            &json!({"operation": "CREATE", "kind": {"group": "", "version": "v1", "kind": "Pod"}, "name": "",
                "object": {"kind": "Pod"}, "dryRun": false}),
            None,
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(review.value()).unwrap(),
            json!({"uid": "", "kind": {"group": "", "version": "v1", "kind": "Pod"},
                "resource": {"group": "", "version": "", "resource": ""}, "operation": "CREATE", "userInfo": {},
                "object": {"kind": "Pod"}, "oldObject": null, "options": null, "dryRun": false, "namespaceObject": {}})
        );
    }

    #[test]
    fn a_deletion_shows_the_deleted_object_as_the_object() {
        let review =
            Review::from_admission(&json!({"operation": "DELETE", "oldObject": {"kind": "Pod"}}), None).unwrap();
        assert_eq!(review.object(), Some(&json!({"kind": "Pod"})));
        let object =
            Object::new(json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "b"}}));
        let review = Review::planned(Operation::Delete, None, Some(&object.unwrap()), None);
        assert_eq!(review.object(), review.old_object());
        assert_eq!((review.name(), review.namespace()), ("a", "b"));
    }

    #[test]
    fn malformed_requests_are_refused() {
        let check = |request: Json, expect: &str| {
            assert_eq!(Review::from_admission(&request, None).unwrap_err().to_string(), expect);
        };
        check(json!([]), "the admission request is not a JSON object");
        check(
            json!({"operation": 1}),
            "field operation of the admission request is malformed",
        );
        check(
            json!({"object": []}),
            "field object of the admission request is malformed",
        );
        check(json!({}), "the admission request holds neither object nor oldObject");
    }
}
