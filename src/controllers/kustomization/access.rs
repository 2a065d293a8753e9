//! In whose name a Kustomization is carried out.
//!
//! Guarantees: a Kustomization that names a service account, or gets one by `--default-service-account`, reads and writes
//! its objects in that name only, with the rights of that account.

use kube::ResourceExt;

use super::flow::{Run, Stop};
use crate::api::kustomize::Kustomization;
use crate::apply::objects::Objects;
use crate::cluster::impersonation::{Impersonation, ImpersonationError};
use crate::controllers::Shared;
use crate::core::identity::Identity;
use crate::core::snapshot::Snapshot;

/// The way to the objects of a Kustomization.
#[derive(Clone)]
pub struct Access {
    /// Reads and writes them.
    pub objects: Objects,
    /// Whom the API server takes that for.
    pub identity: Identity,
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
/// When the service account has no possible name.
pub fn of(
    shared: &Shared,
    kustomization: &Kustomization,
    revision: Option<&str>,
) -> Result<Access, ImpersonationError> {
    let Some(account) = account(kustomization, shared.settings.default_service_account.as_deref()) else {
        return Ok(Access {
            objects: shared.objects.clone(),
            identity: shared.identity.clone(),
        });
    };
    let namespace = kustomization.namespace().unwrap_or_default();
    let owner = format!("{namespace}/{}", kustomization.name_any());
    let tenant = Impersonation::of(&namespace, &account, &owner, revision)?;
    Ok(Access {
        identity: tenant.identity().clone(),
        objects: shared.objects.in_the_name_of(tenant),
    })
}

impl Run<'_> {
    /// The way to the objects of this Kustomization.
    pub(super) fn access(&self, snapshot: &Snapshot) -> Result<Access, Box<Stop>> {
        of(&self.context.shared, self.kustomization, Some(&snapshot.revision))
            .map_err(|error| self.failed("ReconciliationFailed", error.to_string(), snapshot))
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
