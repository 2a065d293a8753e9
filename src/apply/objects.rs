//! Single requests on objects of any kind: get, server-side apply (for real or dry), delete.
//!
//! Guarantees: nothing here decides anything; a missing object is `None`, not an error; every error names the object and
//! carries the API server's own words; once a tenant is named, every request is made in its name.

use std::sync::Arc;

use kube::Client;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, PropagationPolicy};
use kube::core::Request;
use kube::core::response::StatusSummary;
use serde_json::Value;

use crate::api::kustomize::FIELD_MANAGER;
use crate::cluster::client::{explain, is_code};
use crate::cluster::discovery::{Discovery, DiscoveryError, Resolved};
use crate::cluster::impersonation::Impersonation;
use crate::core::object::{Gvk, Object, ObjectRef};

/// Reads and writes objects of any kind. Clones share connections and discovery.
#[derive(Clone)]
pub struct Objects {
    client: Client,
    discovery: Discovery,
    in_the_name_of: Option<Arc<Impersonation>>,
}

/// Whether a write is real.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The API server answers as if, and stores nothing.
    DryRun,
    /// It is stored.
    Write,
}

/// Why a request on one object failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ObjectError {
    /// The kind is not served, or discovery failed.
    #[error("{object} dry-run failed: {source}")]
    Kind {
        /// The object.
        object: ObjectRef,
        /// What discovery said.
        source: DiscoveryError,
    },
    /// The API server refused or could not be reached.
    #[error("{object} {action} failed{reason}: {message}")]
    Refused {
        /// The object.
        object: ObjectRef,
        /// `get`, `dry-run`, `apply`, `take-over` or `delete`.
        action: &'static str,
        /// HTTP code, 0 when there was no answer.
        code: u16,
        /// ` (Invalid)` or empty.
        reason: String,
        /// The API server's words.
        message: String,
    },
}

impl ObjectError {
    /// Whether it is said in words that a field cannot be changed, so that only recreating the object helps: by the API
    /// server, or by a webhook or a rule of a CRD, whatever code they answer with.
    #[must_use]
    pub fn is_immutable(&self) -> bool {
        match self {
            Self::Refused {
                action: "dry-run" | "apply",
                code,
                message,
                ..
            } => {
                let refused = matches!(code, 409 | 422);
                message.contains("is immutable")
                    || message.contains("immutable field")
                    || refused && (message.contains("immutable") || message.contains("Forbidden: updates to"))
            }
            _ => false,
        }
    }

    /// Whether a change is refused in a way that may be because of what the object was before.
    #[must_use]
    pub fn may_be_immutable(&self) -> bool {
        matches!(self, Self::Refused { action: "dry-run", code, .. } if matches!(code, 409 | 422))
    }

    /// Whether the object has changed since it was read.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        matches!(
            self,
            Self::Refused {
                action: "take-over",
                code: 409,
                ..
            }
        )
    }

    /// Whether a dry run may succeed once something else is there: a role that is referred to, a right that it gives.
    #[must_use]
    pub fn may_need_others(&self) -> bool {
        let refused = |code: &u16| matches!(code, 403 | 404);
        matches!(self, Self::Refused { action: "dry-run", code, .. } if refused(code))
    }

    /// Whether trying again later may help without anybody changing anything.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Kind { source, .. } => matches!(source, DiscoveryError::Unavailable(_)),
            Self::Refused { code, .. } => *code == 0 || *code == 429 || *code >= 500 || self.is_conflict(),
        }
    }
}

impl Objects {
    /// Makes one.
    #[must_use]
    pub fn new(client: Client, discovery: Discovery) -> Self {
        Self {
            client,
            discovery,
            in_the_name_of: None,
        }
    }

    /// The same in the name of somebody else.
    #[must_use]
    pub fn in_the_name_of(&self, tenant: Impersonation) -> Self {
        Self {
            in_the_name_of: Some(Arc::new(tenant)),
            ..self.clone()
        }
    }

    async fn send(&self, mut request: http::Request<Vec<u8>>) -> Result<Value, kube::Error> {
        if let Some(tenant) = &self.in_the_name_of {
            tenant.mark(request.headers_mut());
        }
        self.client.request(request).await
    }

    /// What the cluster serves.
    #[must_use]
    pub fn discovery(&self) -> &Discovery {
        &self.discovery
    }

    /// The object as it is, or `None`. A kind that is not served has no objects.
    ///
    /// # Errors
    /// When the API server cannot say.
    pub async fn get(&self, gvk: &Gvk, object: &ObjectRef) -> Result<Option<Object>, ObjectError> {
        let resolved = match self.discovery.resolve(gvk).await {
            Ok(resolved) => resolved,
            Err(DiscoveryError::NotServed(_)) => return Ok(None),
            Err(source) => {
                return Err(ObjectError::Kind {
                    object: object.clone(),
                    source,
                });
            }
        };
        let request = paths(&resolved, &object.namespace)
            .get(&object.name, &GetParams::default())
            .map_err(|error| refused(object, "get", &kube::Error::BuildRequest(error)))?;
        match self.send(request).await {
            Ok(value) => Ok(Object::new(value).ok()),
            Err(error) if is_code(&error, 404) => Ok(None),
            Err(error) => Err(refused(object, "get", &error)),
        }
    }

    /// Server-side apply with Weir's field manager; conflicts are taken over. Returns what is (or would be) stored.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn apply(&self, desired: &Object, mode: Mode) -> Result<Object, ObjectError> {
        let object = desired.reference();
        let action = if mode == Mode::DryRun { "dry-run" } else { "apply" };
        let resolved = self
            .discovery
            .resolve(&desired.gvk())
            .await
            .map_err(|source| ObjectError::Kind {
                object: object.clone(),
                source,
            })?;
        let mut parameters = PatchParams::apply(FIELD_MANAGER).force();
        parameters.dry_run = mode == Mode::DryRun;
        let request = paths(&resolved, &object.namespace)
            .patch(&object.name, &parameters, &Patch::Apply(desired.value()))
            .map_err(|error| refused(&object, action, &kube::Error::BuildRequest(error)))?;
        let value = self
            .send(request)
            .await
            .map_err(|error| refused(&object, action, &error))?;
        Object::new(value).map_err(|error| ObjectError::Refused {
            object,
            action,
            code: 0,
            reason: String::new(),
            message: format!("the API server's answer is no object: {error}"),
        })
    }

    /// Changes an object by a JSON patch, to take over fields of others.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn patch(&self, gvk: &Gvk, object: &ObjectRef, patch: &json_patch::Patch) -> Result<(), ObjectError> {
        const ACTION: &str = "take-over";
        let resolved = self.discovery.resolve(gvk).await.map_err(|source| ObjectError::Kind {
            object: object.clone(),
            source,
        })?;
        let parameters = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let request =
            paths(&resolved, &object.namespace).patch(&object.name, &parameters, &Patch::Json::<()>(patch.clone()));
        let request = request.map_err(|error| refused(object, ACTION, &kube::Error::BuildRequest(error)))?;
        match self.send(request).await {
            Ok(_) => Ok(()),
            Err(error) => Err(refused(object, ACTION, &error)),
        }
    }

    /// Deletes in the background; an object that is not there counts as deleted. Returns whether there was one.
    ///
    /// # Errors
    /// When the API server refuses or cannot be reached.
    pub async fn delete(&self, gvk: &Gvk, object: &ObjectRef) -> Result<bool, ObjectError> {
        let resolved = match self.discovery.resolve(gvk).await {
            Ok(resolved) => resolved,
            Err(DiscoveryError::NotServed(_)) => return Ok(false),
            Err(source) => {
                return Err(ObjectError::Kind {
                    object: object.clone(),
                    source,
                });
            }
        };
        let parameters = DeleteParams {
            propagation_policy: Some(PropagationPolicy::Background),
            ..DeleteParams::default()
        };
        let request = paths(&resolved, &object.namespace)
            .delete(&object.name, &parameters)
            .map_err(|error| refused(object, "delete", &kube::Error::BuildRequest(error)))?;
        match self.send(request).await {
            Ok(_) => Ok(true),
            Err(error) if is_code(&error, 404) => Ok(false),
            Err(error) => Err(refused(object, "delete", &error)),
        }
    }
}

fn paths(resolved: &Resolved, namespace: &str) -> Request {
    use kube::core::dynamic::DynamicObject;
    let namespace = (resolved.namespaced && !namespace.is_empty()).then_some(namespace);
    Request::new(<DynamicObject as kube::Resource>::url_path(
        &resolved.resource,
        namespace,
    ))
}

fn refused(object: &ObjectRef, action: &'static str, error: &kube::Error) -> ObjectError {
    let (code, reason) = match error {
        kube::Error::Api(status) if status.status == Some(StatusSummary::Failure) || status.code >= 400 => (
            status.code,
            if status.reason.is_empty() {
                String::new()
            } else {
                format!(" ({})", status.reason)
            },
        ),
        _ => (0, String::new()),
    };
    ObjectError::Refused {
        object: object.clone(),
        action,
        code,
        reason,
        message: explain(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_be_changed_is_recreated() {
        let check = |code: u16, message: &str, immutable: bool, perhaps: bool| {
            let error = ObjectError::Refused {
                object: ObjectRef {
                    group: String::new(),
                    kind: "Thing".to_owned(),
                    namespace: String::new(),
                    name: "x".to_owned(),
                },
                action: "dry-run",
                code,
                reason: String::new(),
                message: message.to_owned(),
            };
            let told = (error.is_immutable(), error.may_be_immutable());
            assert_eq!(told, (immutable, perhaps), "{code} {message}");
        };
        check(422, "spec.selector: Invalid value: field is immutable", true, true);
        check(
            422,
            "spec: Forbidden: updates to statefulset spec for fields other than",
            true,
            true,
        );
        check(
            403,
            "admission webhook \"x\" denied the request: size is immutable",
            true,
            false,
        );
        check(400, "immutable field changed", true, false);
        check(422, "roleRef: Invalid value: cannot change roleRef", false, true);
        check(409, "the object has been modified", false, true);
        check(403, "forbidden", false, false);
    }
}
