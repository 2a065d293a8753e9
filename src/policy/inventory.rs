//! What policies see as `data.inventory`: other objects, in Gatekeeper's shape.
//!
//! Guarantees: a clone shares everything; what changes afterwards in one is not seen in the other. Only what lies on the
//! way to a changed object is copied.

use std::sync::{Arc, LazyLock};

use regorus::Value;
use serde::Deserialize;
use serde_json::Value as Json;

/// Objects by scope, kind and name: `cluster[groupVersion][kind][name]`, `namespace[ns][groupVersion][kind][name]`.
#[derive(Debug, Clone)]
pub struct Inventory(Arc<Value>);

/// Where they stand in the data document.
const INVENTORY: &str = "inventory";

/// The data document of no objects, which most evaluations are about.
static NOTHING: LazyLock<Inventory> = LazyLock::new(|| {
    let mut data = Value::new_object();
    if let Ok(fields) = data.as_object_mut() {
        fields.insert(Value::from(INVENTORY), Value::new_object());
    }
    Inventory(Arc::new(data))
});

impl Default for Inventory {
    fn default() -> Self {
        NOTHING.clone()
    }
}

impl Inventory {
    /// Builds one from objects. What has no identity is left out.
    pub fn from_objects<'a>(objects: impl IntoIterator<Item = &'a Json>) -> Self {
        let mut inventory = Self::default();
        for object in objects {
            inventory.insert(object);
        }
        inventory
    }

    /// Adds an object or replaces it. Answers whether it has an identity.
    pub fn insert(&mut self, object: &Json) -> bool {
        let (Some(path), Ok(value)) = (path(object), Value::deserialize(object)) else {
            return false;
        };
        let mut at = Arc::make_mut(&mut self.0);
        for part in &path {
            let Ok(fields) = at.as_object_mut() else { return false };
            at = fields.get_or_insert_with(Value::from(part.as_str()), Value::new_object);
        }
        *at = value;
        true
    }

    /// Takes an object out. Only its identity matters.
    pub fn remove(&mut self, object: &Json) {
        let Some(path) = path(object) else { return };
        let Some((name, parents)) = path.split_last() else {
            return;
        };
        let mut at = Arc::make_mut(&mut self.0);
        for part in parents {
            let Ok(fields) = at.as_object_mut() else { return };
            let Some(next) = fields.get_mut(&Value::from(part.as_str())) else {
                return;
            };
            at = next;
        }
        if let Ok(fields) = at.as_object_mut() {
            fields.remove(&Value::from(name.as_str()));
        }
    }

    /// The data document.
    pub(crate) fn data(&self) -> Value {
        (*self.0).clone()
    }

    /// Whether both are the same, without looking into them.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

fn path(object: &Json) -> Option<Vec<String>> {
    let text = |pointer: &str| {
        object
            .pointer(pointer)
            .and_then(Json::as_str)
            .filter(|text| !text.is_empty())
    };
    let (version, kind, name) = (text("/apiVersion")?, text("/kind")?, text("/metadata/name")?);
    let mut path = vec![INVENTORY.to_owned()];
    match text("/metadata/namespace") {
        Some(namespace) => path.extend(["namespace", namespace].map(str::to_owned)),
        None => path.push("cluster".to_owned()),
    }
    path.extend([version, kind, name].map(str::to_owned));
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn objects_stand_where_gatekeeper_puts_them() {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a"}});
        let deployment =
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d", "namespace": "a"}});
        let mut inventory = Inventory::from_objects([&namespace, &deployment, &json!({"kind": "x"})]);
        assert_eq!(
            serde_json::to_value(inventory.data()).unwrap(),
            json!({"inventory": {"cluster": {"v1": {"Namespace": {"a": namespace}}},
                "namespace": {"a": {"apps/v1": {"Deployment": {"d": deployment}}}}}})
        );
        let before = inventory.clone();
        assert!(before.is(&inventory));
        inventory.remove(&deployment);
        assert!(!before.is(&inventory));
        assert_eq!(
            before.data()["inventory"]["namespace"]["a"]["apps/v1"]["Deployment"]["d"]["kind"],
            Value::from("Deployment")
        );
        assert_eq!(
            inventory.data()["inventory"]["namespace"]["a"]["apps/v1"]["Deployment"],
            Value::new_object()
        );
    }
}
