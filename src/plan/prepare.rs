//! Rendered objects become desired ones: owned, labelled, in a namespace.

use std::collections::HashMap;
use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::api::kustomize::{CommonMetadata, OWNER_NAME, OWNER_NAMESPACE};
use crate::core::object::{Gvk, Object, ObjectRef};

/// The Kustomization that owns what is applied.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Owner {
    /// Name.
    pub name: String,
    /// Namespace.
    pub namespace: String,
}

/// An object as it should be.
#[derive(Debug, Clone, PartialEq)]
pub struct Desired {
    /// The object.
    pub object: Object,
    /// File that declares it, when known.
    pub file: Option<String>,
    /// Line in that file, when known.
    pub line: Option<u32>,
}

impl Desired {
    /// `path/file.yaml:12`, as far as it is known.
    #[must_use]
    pub fn place(&self) -> Option<String> {
        let file = self.file.as_ref()?;
        Some(self.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}")))
    }
}

/// Whether objects of a kind live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// They do.
    Namespaced,
    /// They do not.
    Cluster,
}

/// Something that keeps one object from being applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The object.
    pub object: ObjectRef,
    /// Where it is declared, when known.
    pub place: Option<String>,
    /// What is wrong and what to do; begins as Flux's words after the object do.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.object, self.reason)?;
        self.place.as_ref().map_or(Ok(()), |place| write!(f, " ({place})"))
    }
}

/// All that is wrong with a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError(pub Vec<Problem>);

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Problem::to_string).collect();
        f.write_str(&lines.join("\n"))
    }
}

impl std::error::Error for PlanError {}

/// Puts owner labels and common metadata on objects and checks that each can be placed.
///
/// `scope` answers for kinds that the cluster serves; kinds that a CRD of the same change defines are known from it.
///
/// # Errors
/// Names every object whose kind is unknown or which lacks a namespace.
pub fn prepare(
    objects: impl IntoIterator<Item = Desired>,
    owner: &Owner,
    common: Option<&CommonMetadata>,
    scope: impl Fn(&Gvk) -> Option<Scope>,
) -> Result<Vec<Desired>, PlanError> {
    let mut desired: Vec<Desired> = objects.into_iter().collect();
    let defined = defined_kinds(&desired);
    let mut problems = Vec::new();
    for item in &mut desired {
        let gvk = item.object.gvk();
        let known = scope(&gvk).or_else(|| defined.get(&(gvk.group.clone(), gvk.kind.clone())).copied());
        let reason = match known {
            None => Some(format!(
                "dry-run failed: no matches for kind {:?} in version {:?}; is its CRD installed?",
                gvk.kind,
                gvk.api_version()
            )),
            Some(Scope::Namespaced) if item.object.namespace().is_empty() => {
                Some("namespace not specified: set metadata.namespace or spec.targetNamespace".to_owned())
            }
            Some(Scope::Cluster) => {
                item.object.set_namespace("");
                None
            }
            Some(Scope::Namespaced) => None,
        };
        if let Some(reason) = reason {
            problems.push(Problem {
                object: item.object.reference(),
                place: item.place(),
                reason,
            });
        }
        own(&mut item.object, owner, common);
        encode_string_data(&mut item.object);
    }
    if problems.is_empty() {
        Ok(desired)
    } else {
        Err(PlanError(problems))
    }
}

fn own(object: &mut Object, owner: &Owner, common: Option<&CommonMetadata>) {
    fn pairs(map: Option<&std::collections::BTreeMap<String, String>>) -> impl Iterator<Item = (&str, &str)> {
        map.into_iter()
            .flatten()
            .map(|(key, value)| (key.as_str(), value.as_str()))
    }
    object.merge_labels(pairs(common.and_then(|common| common.labels.as_ref())));
    object.merge_annotations(pairs(common.and_then(|common| common.annotations.as_ref())));
    object.merge_labels([
        (OWNER_NAME, owner.name.as_str()),
        (OWNER_NAMESPACE, owner.namespace.as_str()),
    ]);
}

/// Writes `stringData` of a Secret as `data`, which the API server would do. It would also note that we own `stringData`,
/// which is never stored, and so neither a conflict nor drift of the real field would ever be seen.
fn encode_string_data(object: &mut Object) {
    let gvk = object.gvk();
    if !(gvk.group.is_empty() && gvk.kind == "Secret") {
        return;
    }
    let Some(plain) = object.take("stringData") else {
        return;
    };
    let encoded = plain.as_object().into_iter().flatten().map(|(key, value)| {
        let encoded = value.as_str().map(|text| Value::from(STANDARD.encode(text)));
        // What is no text is left for the API server to refuse.
        (key.clone(), encoded.unwrap_or_else(|| value.clone()))
    });
    object.merge_map("data", encoded.collect());
}

fn defined_kinds(desired: &[Desired]) -> HashMap<(String, String), Scope> {
    desired
        .iter()
        .filter_map(|item| super::builtin::defines(&item.object))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn item(value: Value) -> Desired {
        Desired {
            object: Object::new(value).unwrap(),
            file: Some("a.yaml".into()),
            line: Some(3),
        }
    }

    fn scope(gvk: &Gvk) -> Option<Scope> {
        match gvk.kind.as_str() {
            "ConfigMap" => Some(Scope::Namespaced),
            "Namespace" | "CustomResourceDefinition" => Some(Scope::Cluster),
            _ => None,
        }
    }

    fn owner() -> Owner {
        Owner {
            name: "app".into(),
            namespace: "flux-system".into(),
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once_with_its_place() {
        let error = prepare(
            [
                item(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}})),
                item(json!({"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "b"}})),
            ],
            &owner(),
            None,
            scope,
        )
        .unwrap_err();
        assert_eq!(
            error.to_string(),
            "ConfigMap/a namespace not specified: set metadata.namespace or spec.targetNamespace (a.yaml:3)\n\
             Thing/b dry-run failed: no matches for kind \"Thing\" in version \"x.io/v1\"; is its CRD installed? (a.yaml:3)"
        );
    }

    #[test]
    fn a_kind_defined_in_the_same_change_is_known() {
        let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "things.x.io"},
            "spec": {"group": "x.io", "scope": "Cluster", "names": {"kind": "Thing"}}});
        let thing = json!({"apiVersion": "x.io/v1", "kind": "Thing", "metadata": {"name": "b", "namespace": "odd"}});
        let desired = prepare([item(crd), item(thing)], &owner(), None, scope).unwrap();
        assert_eq!(
            desired[1].object.namespace(),
            "",
            "cluster-scoped objects lose a stray namespace"
        );
        assert_eq!(desired[1].object.label(OWNER_NAME), Some("app"));
    }

    #[test]
    fn string_data_of_a_secret_becomes_data_and_wins() {
        let secret = |fields: Value| {
            let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "n"}});
            secret
                .as_object_mut()
                .unwrap()
                .extend(fields.as_object().unwrap().clone());
            let scope = |_: &Gvk| Some(Scope::Namespaced);
            let prepared = prepare([item(secret)], &owner(), None, scope).unwrap();
            let value = prepared[0].object.value().clone();
            (value.get("data").cloned(), value.get("stringData").cloned())
        };
        let both = secret(json!({"data": {"a": "b2xk", "b": "Yg=="}, "stringData": {"a": "new"}}));
        assert_eq!(both, (Some(json!({"a": "bmV3", "b": "Yg=="})), None));
        assert_eq!(
            secret(json!({"stringData": {"a": "x"}})),
            (Some(json!({"a": "eA=="})), None)
        );
        assert_eq!(
            secret(json!({"data": {"a": "eA=="}})),
            (Some(json!({"a": "eA=="})), None)
        );
        assert_eq!(secret(json!({"stringData": {"a": 1}})), (Some(json!({"a": 1})), None));
    }

    #[test]
    fn owner_labels_win_over_common_metadata() {
        let common = CommonMetadata {
            labels: Some(
                [
                    (OWNER_NAME.to_owned(), "forged".to_owned()),
                    ("team".to_owned(), "a".to_owned()),
                ]
                .into(),
            ),
            annotations: None,
        };
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "n"}});
        let desired = prepare([item(map)], &owner(), Some(&common), scope).unwrap();
        assert_eq!(desired[0].object.label(OWNER_NAME), Some("app"));
        assert_eq!(desired[0].object.label("team"), Some("a"));
    }
}
