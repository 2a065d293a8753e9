//! What composing needs from other rooms: YAML is read by a render worker, archives are unpacked into temporary files.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio::runtime::Handle;

use crate::core::snapshot::Files;
use crate::core::yaml::to_yaml;
use crate::render::Pool;
use crate::source::archive::Archive;
use crate::source::compose::Tools;

/// For a thread that may block.
pub(super) struct Workers {
    pub(super) pool: Pool,
    pub(super) runtime: Handle,
    /// Where archives are unpacked.
    pub(super) directory: PathBuf,
}

impl Tools for Workers {
    fn merge(&self, below: &[u8], above: &[u8]) -> Result<Vec<u8>, String> {
        let (below, above) = (self.read(below)?, self.read(above)?);
        Ok(to_yaml(&Value::Object(merged(below, above))).into_bytes())
    }

    fn extract(&self, archive: &[u8]) -> Result<Arc<dyn Files>, String> {
        let unpacked = Archive::unpack(archive, &self.directory).map_err(|error| error.to_string())?;
        Ok(Arc::new(unpacked))
    }
}

impl Workers {
    /// All documents of a stream as one map, later ones over earlier ones.
    fn read(&self, yaml: &[u8]) -> Result<Map<String, Value>, String> {
        let documents = self.runtime.block_on(self.pool.decode(yaml.to_vec()));
        let mut all = Map::new();
        for document in documents.map_err(|error| error.to_string())? {
            match document.value {
                Value::Object(map) => all = merged(all, map),
                Value::Null => {}
                _ => return Err(format!("line {}: not a map", document.line)),
            }
        }
        Ok(all)
    }
}

/// One map over another: maps are merged, everything else is replaced, as Helm merges values.
fn merged(mut below: Map<String, Value>, above: Map<String, Value>) -> Map<String, Value> {
    for (key, value) in above {
        let value = match (below.remove(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) => Value::Object(merged(old, new)),
            (_, value) => value,
        };
        below.insert(key, value);
    }
    below
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn maps_are_merged_and_everything_else_is_replaced() {
        let map = |value: Value| value.as_object().unwrap().clone();
        let below = map(json!({"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"d": 1}}));
        let above = map(json!({"a": {"y": [3], "z": null}, "c": 2, "e": {}}));
        let expect = json!({"a": {"x": 1, "y": [3], "z": null}, "b": 1, "c": 2, "e": {}});
        assert_eq!(Value::Object(merged(below, above)), expect);
    }
}
