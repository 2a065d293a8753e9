//! In whose name, and in which cluster, a Kustomization is carried out.
//!
//! Guarantees: a Kustomization that names a service account, or gets one by `--default-service-account`, reads and writes
//! its objects in that name only, with the rights of that account; in another cluster too, where it must be an account.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;

use super::flow::{Again, Run, Stop};
use super::remote::{self, RemoteError};
use super::status::Ending;
use crate::api::kustomize::Kustomization;
use crate::api::meta::UNSUPPORTED;
use crate::apply::objects::{ObjectError, Objects};
use crate::cluster::impersonation::{Impersonation, ImpersonationError};
use crate::controllers::Shared;
use crate::core::identity::Identity;
use crate::core::object::{Gvk, ObjectRef};
use crate::core::snapshot::Snapshot;
use crate::plan::Desired;

/// The way to the objects of a Kustomization.
#[derive(Clone)]
pub struct Access {
    /// Reads and writes them.
    pub objects: Objects,
    /// Whom the API server takes that for.
    pub identity: Identity,
    /// Whether they are in another cluster, which nobody watches for drift or guards.
    pub elsewhere: bool,
}

/// Why there is no way.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The service account has no possible name.
    #[error(transparent)]
    Account(#[from] ImpersonationError),
    /// The other cluster cannot be reached.
    #[error(transparent)]
    Remote(#[from] RemoteError),
}

/// The service account in whose name a Kustomization is carried out; `None` when it is Weir's own.
#[must_use]
pub fn account(kustomization: &Kustomization, default: Option<&str>) -> Option<String> {
    let named = |name: &&str| !name.is_empty();
    let own = kustomization.spec.service_account_name.as_deref().filter(named);
    own.or(default.filter(named)).map(str::to_owned)
}

/// The way to the objects of a Kustomization, for writing a revision of it.
///
/// # Errors
/// When the service account has no possible name, or another cluster cannot be reached.
pub async fn of(shared: &Shared, kustomization: &Kustomization, revision: Option<&str>) -> Result<Access, AccessError> {
    let account = account(kustomization, shared.settings.default_service_account.as_deref());
    let namespace = kustomization.namespace().unwrap_or_default();
    if let Some(cluster) = remote::of(shared, kustomization).await? {
        let Some(account) = account else {
            return Ok(Access {
                objects: cluster.objects,
                identity: cluster.identity,
                elsewhere: true,
            });
        };
        let tenant = Impersonation::elsewhere(&namespace, &account)?;
        return Ok(Access {
            identity: tenant.identity().clone(),
            objects: cluster.objects.in_the_name_of(tenant),
            elsewhere: true,
        });
    }
    let Some(account) = account else {
        return Ok(Access {
            objects: shared.objects.clone(),
            identity: shared.identity.clone(),
            elsewhere: false,
        });
    };
    let owner = format!("{namespace}/{}", kustomization.name_any());
    let tenant = Impersonation::of(&namespace, &account, &owner, revision)?;
    Ok(Access {
        identity: tenant.identity().clone(),
        objects: shared.objects.in_the_name_of(tenant),
        elsewhere: false,
    })
}

impl Access {
    /// The namespaces that these objects lie in, for policies that select by their labels.
    pub(super) async fn namespaces(
        &self,
        shared: &Shared,
        desired: &[Desired],
    ) -> Result<Vec<Arc<Namespace>>, ObjectError> {
        if !self.elsewhere {
            return Ok(shared.namespaces.state());
        }
        let names: BTreeSet<&str> = desired.iter().map(|one| one.object.namespace()).collect();
        let (gvk, mut found) = (Gvk::new("v1", "Namespace"), Vec::new());
        for name in names.into_iter().filter(|name| !name.is_empty()) {
            let object = ObjectRef {
                group: String::new(),
                kind: gvk.kind.clone(),
                namespace: String::new(),
                name: name.to_owned(),
            };
            let live = self.objects.get(&gvk, &object).await?;
            found.extend(
                live.and_then(|live| serde_json::from_value(live.into_value()).ok())
                    .map(Arc::new),
            );
        }
        Ok(found)
    }
}

impl Run<'_> {
    /// The way to the objects of this Kustomization.
    pub(super) async fn access(&self, snapshot: &Snapshot) -> Result<Access, Box<Stop>> {
        let found = of(&self.context.shared, self.kustomization, Some(&snapshot.revision)).await;
        found.map_err(|error| match error {
            AccessError::Remote(RemoteError::Unsupported(message)) => {
                let reason = UNSUPPORTED;
                self.stop(
                    self.attempt(Ending::Stalled { reason, message }).at(snapshot),
                    Again::Change,
                )
            }
            error => self.failed("ReconciliationFailed", error.to_string(), snapshot),
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::inputs::tests::spec;
    use super::*;

    #[test]
    fn the_spec_s_account_comes_before_the_default() {
        let check = |extra: Value, default: Option<&str>, expect: Option<&str>| {
            let one = Kustomization::new("app", spec(&extra));
            assert_eq!(account(&one, default).as_deref(), expect);
        };
        check(json!({}), None, None);
        check(json!({}), Some("tenant"), Some("tenant"));
        check(json!({"serviceAccountName": "own"}), Some("tenant"), Some("own"));
        check(json!({"serviceAccountName": ""}), Some("tenant"), Some("tenant"));
        check(json!({}), Some(""), None);
    }
}
