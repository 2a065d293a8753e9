//! Gathers the variables of `spec.postBuild` from ConfigMaps and Secrets.
//!
//! Guarantees: later references win over earlier ones and inline variables over all; line breaks are removed from values,
//! as Flux does; a name that cannot be a variable is an error.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};
use serde_json::Value;

use crate::api::kustomize::{PostBuild, SubstituteStrategy, VariablesKind};
use crate::cluster::client::explain;
use crate::core::object::Object;

/// Variables for a build.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables {
    /// By name.
    pub values: BTreeMap<String, String>,
}

/// Why variables could not be gathered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum VariablesError {
    /// An object that is not optional is not there.
    #[error("substitute from '{kind:?}/{name}' error: {} \"{name}\" not found in namespace '{namespace}'", plural(*kind))]
    NotFound {
        /// ConfigMap or Secret.
        kind: VariablesKind,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The API server could not be read.
    #[error("substitute from '{kind:?}/{name}' error: {reason}")]
    Unreadable {
        /// ConfigMap or Secret.
        kind: VariablesKind,
        /// Its name.
        name: String,
        /// What it said.
        reason: String,
    },
    /// A key that cannot be a variable.
    #[error(
        "'{0}' var name is invalid, must match '^[_[:alpha:]][_[:alpha:][:digit:]]*$': letters, digits and underscores only, \
        and no digit first"
    )]
    Name(String),
    /// A Secret's value that is no text.
    #[error("value of '{key}' in Secret '{name}' is not UTF-8")]
    NotText {
        /// The Secret.
        name: String,
        /// The key.
        key: String,
    },
}

/// What the API server calls them.
fn plural(kind: VariablesKind) -> &'static str {
    match kind {
        VariablesKind::ConfigMap => "configmaps",
        VariablesKind::Secret => "secrets",
    }
}

/// Gathers variables; `None` when the spec does not ask for substitution.
///
/// # Errors
/// When a reference that is not optional cannot be read, or a name cannot be a variable.
pub async fn gather(
    client: &Client,
    namespace: &str,
    post_build: Option<&PostBuild>,
) -> Result<Option<Variables>, VariablesError> {
    let Some(post_build) = post_build else { return Ok(None) };
    let mut found = Vec::new();
    for reference in post_build.substitute_from.iter().flatten() {
        found.push(match reference.kind {
            VariablesKind::ConfigMap => config_map(client, namespace, &reference.name).await,
            VariablesKind::Secret => secret(client, namespace, &reference.name).await,
        }?);
    }
    combine(namespace, post_build, found)
}

/// Gathers variables where there is no cluster, from the ConfigMaps and Secrets that Git declares.
///
/// # Errors
/// When a reference that is not optional is not among them, or a name cannot be a variable.
pub fn gather_declared<'a>(
    objects: &(impl Iterator<Item = &'a Object> + Clone),
    namespace: &str,
    post_build: Option<&PostBuild>,
) -> Result<Option<Variables>, VariablesError> {
    let Some(post_build) = post_build else { return Ok(None) };
    let mut found = Vec::new();
    for reference in post_build.substitute_from.iter().flatten() {
        let kind = match reference.kind {
            VariablesKind::ConfigMap => "ConfigMap",
            VariablesKind::Secret => "Secret",
        };
        let declared = objects.clone().find(|object| {
            let (is, gvk) = (object.reference(), object.gvk());
            gvk.group.is_empty() && is.kind == kind && is.namespace == namespace && is.name == reference.name
        });
        found.push(match declared {
            None => None,
            Some(object) => Some(declared_values(object, reference.kind)?),
        });
    }
    combine(namespace, post_build, found)
}

/// `found` answers `substituteFrom`, entry by entry.
fn combine(
    namespace: &str,
    post_build: &PostBuild,
    found: Vec<Option<BTreeMap<String, String>>>,
) -> Result<Option<Variables>, VariablesError> {
    let mut values = BTreeMap::new();
    for (reference, found) in post_build.substitute_from.iter().flatten().zip(found) {
        match found {
            Some(found) => values.extend(found),
            None if reference.optional => {}
            None => {
                return Err(VariablesError::NotFound {
                    kind: reference.kind,
                    namespace: namespace.to_owned(),
                    name: reference.name.clone(),
                });
            }
        }
    }
    values.extend(post_build.substitute.clone().unwrap_or_default());
    if values.is_empty() && post_build.substitute_strategy != Some(SubstituteStrategy::Always) {
        return Ok(None);
    }
    clean(values).map(|values| Some(Variables { values }))
}

/// The values of a ConfigMap or Secret as it stands in Git: a Secret may have both forms, and the plain one wins.
fn declared_values(object: &Object, kind: VariablesKind) -> Result<BTreeMap<String, String>, VariablesError> {
    let texts = |field: &str| {
        let entries = object
            .value()
            .get(field)
            .and_then(Value::as_object)
            .into_iter()
            .flatten();
        entries.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
    };
    if kind == VariablesKind::ConfigMap {
        return Ok(texts("data").collect());
    }
    let mut values = BTreeMap::new();
    for (key, text) in texts("data") {
        let bytes = BASE64.decode(text.trim()).ok();
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        let text = text.ok_or_else(|| VariablesError::NotText {
            name: object.name().to_owned(),
            key: key.clone(),
        })?;
        values.insert(key, text);
    }
    values.extend(texts("stringData"));
    Ok(values)
}

/// Checks names and removes line breaks from values.
fn clean(values: BTreeMap<String, String>) -> Result<BTreeMap<String, String>, VariablesError> {
    values
        .into_iter()
        .map(|(name, value)| {
            let mut letters = name.chars();
            let first = letters
                .next()
                .is_some_and(|first| first.is_ascii_alphabetic() || first == '_');
            if first && letters.all(|letter| letter.is_ascii_alphanumeric() || letter == '_') {
                Ok((name, value.replace('\n', "")))
            } else {
                Err(VariablesError::Name(name))
            }
        })
        .collect()
}

async fn config_map(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<BTreeMap<String, String>>, VariablesError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = api
        .get_opt(name)
        .await
        .map_err(|error| unreadable(VariablesKind::ConfigMap, name, &error))?;
    Ok(found.map(|map| map.data.unwrap_or_default()))
}

async fn secret(
    client: &Client,
    namespace: &str,
    name: &str,
) -> Result<Option<BTreeMap<String, String>>, VariablesError> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = api
        .get_opt(name)
        .await
        .map_err(|error| unreadable(VariablesKind::Secret, name, &error))?;
    let Some(secret) = found else { return Ok(None) };
    let texts = secret.data.unwrap_or_default().into_iter().map(|(key, bytes)| {
        let text = String::from_utf8(bytes.0).map_err(|_| VariablesError::NotText {
            name: name.to_owned(),
            key: key.clone(),
        })?;
        Ok((key, text))
    });
    texts.collect::<Result<_, _>>().map(Some)
}

fn unreadable(kind: VariablesKind, name: &str, error: &kube::Error) -> VariablesError {
    VariablesError::Unreadable {
        kind,
        name: name.to_owned(),
        reason: explain(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_are_checked_and_line_breaks_removed() {
        let map = |key: &str| BTreeMap::from([(key.to_owned(), "a\nb\n".to_owned())]);
        assert_eq!(clean(map("_x1")).unwrap()["_x1"], "ab");
        for bad in ["", "1x", "a-b", "ä"] {
            assert_eq!(clean(map(bad)), Err(VariablesError::Name(bad.into())));
        }
    }

    #[test]
    fn variables_come_from_what_git_declares_where_there_is_no_cluster() {
        let object = |kind: &str, fields: serde_json::Value| {
            let mut value = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "v", "namespace": "a"}});
            value
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            Object::new(value).unwrap()
        };
        let objects = [
            object("ConfigMap", json!({"data": {"a": "map", "b": "map"}})),
            object(
                "Secret",
                json!({"data": {"b": "c2VjcmV0"}, "stringData": {"c": "plain"}}),
            ),
        ];
        let gather = |namespace: &str, from: serde_json::Value| {
            let post_build = json!({"substituteFrom": from, "substitute": {"d": "inline"}});
            let post_build: PostBuild = serde_json::from_value(post_build).unwrap();
            gather_declared(&objects.iter(), namespace, Some(&post_build))
        };
        let both = json!([{"kind": "ConfigMap", "name": "v"}, {"kind": "Secret", "name": "v"}]);
        let values = gather("a", both.clone()).unwrap().unwrap().values;
        let values: Vec<_> = values
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_str()))
            .collect();
        assert_eq!(values, [("a", "map"), ("b", "secret"), ("c", "plain"), ("d", "inline")]);
        let error = gather("b", both).unwrap_err().to_string();
        assert_eq!(
            error,
            "substitute from 'ConfigMap/v' error: configmaps \"v\" not found in namespace 'b'"
        );
        let optional = json!([{"kind": "Secret", "name": "other", "optional": true}]);
        assert_eq!(gather("a", optional).unwrap().unwrap().values.len(), 1);
    }
}
