//! Inventories: the set of objects that a Kustomization owns, in Flux's own notation.
//!
//! An entry is `{id: "<namespace>_<name>_<group>_<Kind>", v: "<version>"}`. Colons, which RBAC allows in names, are
//! written `__`. The notation is shared with Flux so that a cluster can move between the two without touching an object.

use std::collections::BTreeMap;

use super::object::{Gvk, ObjectRef};

/// What replaces a colon in an id: `_` is not allowed in any Kubernetes name, so the double underscore is unambiguous.
const COLON: &str = "__";

/// Identities with the version they were applied at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Inventory(pub BTreeMap<ObjectRef, String>);

/// An inventory id that does not have Flux's form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("inventory id {0:?} is not of the form <namespace>_<name>_<group>_<Kind>")]
pub struct IdError(pub String);

impl Inventory {
    /// Reads entries; ids that cannot be read are returned beside it rather than dropped in silence.
    pub fn read<'a>(entries: impl IntoIterator<Item = (&'a str, &'a str)>) -> (Self, Vec<IdError>) {
        let (mut found, mut bad) = (BTreeMap::new(), Vec::new());
        for (id, version) in entries {
            match parse_id(id) {
                Ok(object) => {
                    found.insert(object, version.to_owned());
                }
                Err(error) => bad.push(error),
            }
        }
        (Self(found), bad)
    }

    /// The entries as `(id, version)`, in a stable order.
    #[must_use]
    pub fn entries(&self) -> Vec<(String, String)> {
        self.0
            .iter()
            .map(|(object, version)| (id_of(object), version.clone()))
            .collect()
    }

    /// What is in `self` and not in `newer`: what pruning deletes. Versions do not count.
    #[must_use]
    pub fn without(&self, newer: &Self) -> Vec<(ObjectRef, Gvk)> {
        let stale = self.0.iter().filter(|(object, _)| !newer.0.contains_key(*object));
        stale
            .map(|(object, version)| (object.clone(), gvk_of(object, version)))
            .collect()
    }

    /// Adds an object at a version.
    pub fn insert(&mut self, object: ObjectRef, version: &str) {
        self.0.insert(object, version.to_owned());
    }
}

/// The kind of an inventory entry.
#[must_use]
pub fn gvk_of(object: &ObjectRef, version: &str) -> Gvk {
    Gvk {
        group: object.group.clone(),
        version: version.to_owned(),
        kind: object.kind.clone(),
    }
}

/// The id of an object.
#[must_use]
pub fn id_of(object: &ObjectRef) -> String {
    format!(
        "{}_{}_{}_{}",
        object.namespace,
        object.name.replace(':', COLON),
        object.group,
        object.kind
    )
}

/// Reads an id.
///
/// # Errors
/// When it does not have four parts or lacks a name or a kind.
pub fn parse_id(id: &str) -> Result<ObjectRef, IdError> {
    let bad = || IdError(id.to_owned());
    // The namespace ends at the first underscore, kind and group are the last two parts; what is between is the name,
    // in which a double underscore stands for a colon.
    let (namespace, rest) = id.split_once('_').ok_or_else(bad)?;
    let (rest, kind) = rest.rsplit_once('_').ok_or_else(bad)?;
    let (name, group) = rest.rsplit_once('_').ok_or_else(bad)?;
    if name.is_empty() || kind.is_empty() {
        return Err(bad());
    }
    Ok(ObjectRef {
        group: group.to_owned(),
        kind: kind.to_owned(),
        namespace: namespace.to_owned(),
        name: name.replace(COLON, ":"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(group: &str, kind: &str, namespace: &str, name: &str) -> ObjectRef {
        ObjectRef {
            group: group.into(),
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    #[test]
    fn ids_are_written_and_read_as_flux_does() {
        let check = |object: ObjectRef, id: &str| {
            assert_eq!(id_of(&object), id);
            assert_eq!(parse_id(id), Ok(object));
        };
        check(object("apps", "Deployment", "prod", "web"), "prod_web_apps_Deployment");
        check(object("", "ConfigMap", "prod", "web"), "prod_web__ConfigMap");
        check(object("", "Namespace", "", "prod"), "_prod__Namespace");
        check(
            object("rbac.authorization.k8s.io", "ClusterRole", "", "system:x"),
            "_system__x_rbac.authorization.k8s.io_ClusterRole",
        );
        for bad in ["", "a", "a_b", "a_b_c", "a___", "_", "a__c_D"] {
            assert!(parse_id(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_an_inventory_lost_is_stale_whatever_its_version() {
        let old = Inventory::read([("a_x_apps_Deployment", "v1beta1"), ("a_y__Service", "v1")]).0;
        let new = Inventory::read([("a_x_apps_Deployment", "v1")]).0;
        let stale = old.without(&new);
        assert_eq!(stale.len(), 1);
        assert_eq!(stale[0].0, object("", "Service", "a", "y"));
    }
}
