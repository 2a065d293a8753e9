//! Which objects a constraint is about: Gatekeeper's `spec.match`.
//!
//! All criteria must hold, an absent one holds. A review matches when its object or its old object does, so that a change
//! cannot move an object out of a constraint's sight. Namespaces say nothing about cluster-scoped objects.

use serde::Deserialize;
use serde_json::Value as Json;

use super::review::Review;
use super::selector::Selector;

/// A `spec.match` that was checked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Match {
    kinds: Vec<Kinds>,
    scope: Scope,
    namespaces: Vec<String>,
    excluded_namespaces: Vec<String>,
    label_selector: Option<Selector>,
    namespace_selector: Option<Selector>,
    name: String,
    source: Source,
}

#[derive(Debug, Clone, Deserialize)]
struct Kinds {
    #[serde(default, rename = "apiGroups")]
    groups: Option<Vec<String>>,
    #[serde(default)]
    kinds: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Scope {
    #[default]
    Any,
    Cluster,
    Namespaced,
}

/// Where an object comes from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Source {
    #[default]
    Any,
    /// From what an ExpansionTemplate made of another object.
    Generated,
    /// From the request itself.
    Original,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Raw {
    kinds: Option<Vec<Kinds>>,
    scope: Option<String>,
    namespaces: Option<Vec<String>>,
    excluded_namespaces: Option<Vec<String>>,
    label_selector: Option<Json>,
    namespace_selector: Option<Json>,
    name: Option<String>,
    source: Option<String>,
}

/// A criterion that cannot be decided with what is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MatchError {
    #[error("spec.match.namespaceSelector needs the Namespace {0:?}, which is not known")]
    NamespaceUnknown(String),
}

impl Match {
    /// Reads a `spec.match`; absent is everything.
    pub(crate) fn read(value: Option<&Json>) -> Result<Self, String> {
        let Some(value) = value.filter(|value| !value.is_null()) else {
            return Ok(Self::default());
        };
        if !value.is_object() {
            return Err("spec.match is malformed: it must be an object".to_owned());
        }
        let raw = Raw::deserialize(value).map_err(|error| format!("spec.match is malformed: {error}"))?;
        let selector = |field: &str, value: Option<Json>| match value {
            None | Some(Json::Null) => Ok(None),
            Some(value) => Selector::read(field, &value).map(Some),
        };
        for (field, globs) in [
            ("namespaces", &raw.namespaces),
            ("excludedNamespaces", &raw.excluded_namespaces),
        ] {
            for glob in globs.iter().flatten() {
                checked(field, glob)?;
            }
        }
        checked("name", raw.name.as_deref().unwrap_or_default())?;
        Ok(Self {
            kinds: raw.kinds.unwrap_or_default(),
            scope: match raw.scope.as_deref() {
                Some("Cluster") => Scope::Cluster,
                Some("Namespaced") => Scope::Namespaced,
                // Gatekeeper takes everything else for `*`.
                _ => Scope::Any,
            },
            namespaces: raw.namespaces.unwrap_or_default(),
            excluded_namespaces: raw.excluded_namespaces.unwrap_or_default(),
            label_selector: selector("spec.match.labelSelector", raw.label_selector)?,
            namespace_selector: selector("spec.match.namespaceSelector", raw.namespace_selector)?,
            name: raw.name.unwrap_or_default(),
            source: match raw.source.as_deref() {
                None | Some("All") => Source::Any,
                Some("Original") => Source::Original,
                Some("Generated") => Source::Generated,
                Some(other) => {
                    return Err(format!(
                        "spec.match.source {other:?} is none of All, Generated, Original"
                    ));
                }
            },
        })
    }

    /// The kinds that can match; `None` when any can.
    pub(crate) fn kinds(&self) -> Option<Vec<&str>> {
        let mut found = Vec::new();
        for entry in &self.kinds {
            let kinds = entry.kinds.as_deref().unwrap_or_default();
            if kinds.is_empty() || kinds.iter().any(|kind| kind == "*") {
                return None;
            }
            found.extend(kinds.iter().map(String::as_str));
        }
        (!self.kinds.is_empty()).then_some(found)
    }

    /// Whether a review matches.
    pub(crate) fn matches(&self, review: &Review) -> Result<bool, MatchError> {
        self.matches_any(review, &Subject::of(review))
    }

    /// The same for whoever asks many constraints: `subjects` is what [`Subject::of`] gives.
    pub(crate) fn matches_any(&self, review: &Review, subjects: &[Subject<'_>]) -> Result<bool, MatchError> {
        let mut error = None;
        for subject in subjects {
            match self.matches_one(subject, review) {
                Ok(true) => return Ok(true),
                Ok(false) => {}
                Err(unknown) => error = Some(unknown),
            }
        }
        error.map_or(Ok(false), Err)
    }

    fn matches_one(&self, subject: &Subject<'_>, review: &Review) -> Result<bool, MatchError> {
        let Subject {
            object,
            group,
            kind,
            within,
            ..
        } = *subject;
        let is_namespace = subject.is_namespace();
        let namespaced = !is_namespace && within.is_some();
        let holds = self.kind_matches(group, kind)
            && match self.scope {
                Scope::Any => true,
                Scope::Cluster => !namespaced,
                Scope::Namespaced => namespaced,
            }
            && within
                .is_none_or(|name| self.namespaces.is_empty() || self.namespaces.iter().any(|glob| globs(glob, name)))
            && within.is_none_or(|name| !self.excluded_namespaces.iter().any(|glob| globs(glob, name)))
            && self
                .label_selector
                .as_ref()
                .is_none_or(|selector| selector.matches(object))
            && self.name_matches(subject.name, subject.generate_name)
            && match self.source {
                Source::Any => true,
                Source::Generated => review.is_generated(),
                Source::Original => !review.is_generated(),
            };
        if !holds {
            return Ok(false);
        }
        let Some(selector) = &self.namespace_selector else {
            return Ok(true);
        };
        match (is_namespace, review.namespace_object(), within) {
            (true, _, _) => Ok(selector.matches(object)),
            (false, Some(namespace), _) => Ok(selector.matches(namespace)),
            (false, None, Some(name)) => Err(MatchError::NamespaceUnknown(name.to_owned())),
            (false, None, None) => Ok(true),
        }
    }

    fn kind_matches(&self, group: &str, kind: &str) -> bool {
        let any = |list: &Option<Vec<String>>, wanted: &str| {
            let list = list.as_deref().unwrap_or_default();
            list.is_empty() || list.iter().any(|entry| entry == "*" || entry == wanted)
        };
        self.kinds.is_empty()
            || self
                .kinds
                .iter()
                .any(|entry| any(&entry.kinds, kind) && any(&entry.groups, group))
    }

    fn name_matches(&self, name: &str, generate_name: &str) -> bool {
        if self.name.is_empty() {
            return true;
        }
        // A generated name is known only by its beginning: a pattern for its end cannot be decided and does not match.
        globs(&self.name, name) || (self.name.ends_with('*') && globs(&self.name, generate_name))
    }
}

/// What criteria look at in one object of a review.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    object: &'a Json,
    group: &'a str,
    kind: &'a str,
    name: &'a str,
    generate_name: &'a str,
    /// The namespace that it lies in, or is.
    within: Option<&'a str>,
}

impl<'a> Subject<'a> {
    /// The object of a review and the old one, as far as there are any.
    pub(crate) fn of(review: &'a Review) -> Vec<Self> {
        let objects = [review.object(), review.old_object()].into_iter().flatten();
        objects.map(|object| Self::read(object, review)).collect()
    }

    fn read(object: &'a Json, review: &'a Review) -> Self {
        let text = |object: &'a Json, key: &str| object.get("metadata")?.get(key)?.as_str();
        let (group, kind) = group_and_kind(object, review);
        let mut subject = Self {
            object,
            group,
            kind,
            name: text(object, "name").unwrap_or_default(),
            generate_name: text(object, "generateName").unwrap_or_default(),
            within: None,
        };
        subject.within = if subject.is_namespace() {
            Some(subject.name)
        } else {
            // The object of a request may lack its namespace; the request never does.
            let known = review.namespace_object().and_then(|namespace| text(namespace, "name"));
            let own = text(object, "namespace").filter(|own| !own.is_empty());
            let asked = Some(review.namespace()).filter(|asked| !asked.is_empty());
            known.or(own).or(asked)
        };
        subject
    }

    fn is_namespace(&self) -> bool {
        self.kind == "Namespace" && self.group.is_empty()
    }
}

fn group_and_kind<'a>(object: &'a Json, review: &'a Review) -> (&'a str, &'a str) {
    match (
        object.get("apiVersion").and_then(Json::as_str),
        object.get("kind").and_then(Json::as_str),
    ) {
        (Some(version), Some(kind)) => (version.split_once('/').map_or("", |(group, _)| group), kind),
        _ => (review.gvk().group.as_str(), review.gvk().kind.as_str()),
    }
}

/// Refuses a pattern that no name fits, as Gatekeeper's schema does.
fn checked(field: &str, glob: &str) -> Result<(), String> {
    let inner = glob.strip_prefix('*').unwrap_or(glob);
    let inner = inner.strip_suffix('*').unwrap_or(inner);
    let known = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | ':');
    if inner.chars().all(known) {
        return Ok(());
    }
    Err(format!(
        "spec.match.{field}: {glob:?} must consist of a-z, 0-9, - and :, with a star at the beginning or the end"
    ))
}

/// Gatekeeper's globs have a star at the beginning, at the end or both.
pub(super) fn globs(glob: &str, text: &str) -> bool {
    match (glob.strip_prefix('*'), glob.strip_suffix('*')) {
        (Some(rest), Some(_)) => text.contains(rest.strip_suffix('*').unwrap_or(rest)),
        (Some(end), None) => text.ends_with(end),
        (None, Some(start)) => text.starts_with(start),
        (None, None) => glob == text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(labels: Json) -> Json {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "prod-a", "labels": labels}})
    }

    fn check(matching: Json, request: Json, namespace: Option<Json>, expect: Result<bool, &str>) {
        let read = Match::read(Some(&matching)).unwrap();
        let review = Review::from_admission(&request, namespace.as_ref()).unwrap();
        let found = read.matches(&review).map_err(|error| error.to_string());
        assert_eq!(found, expect.map_err(str::to_owned), "{matching}");
    }

    #[test]
    fn criteria_decide_as_gatekeepers_do() {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "prod-a", "labels": {"env": "prod"}}});
        let request = json!({"operation": "CREATE", "namespace": "prod-a", "object": pod(json!({"app": "web"}))});
        for (matching, expect) in [
            (json!({}), true),
            (json!({"kinds": [{"apiGroups": [""], "kinds": ["Pod"]}]}), true),
            (json!({"kinds": [{"apiGroups": ["apps"], "kinds": ["Pod"]}]}), false),
            (
                json!({"kinds": [{"kinds": ["Service"]}, {"apiGroups": ["*"], "kinds": ["*"]}]}),
                true,
            ),
            (json!({"kinds": [{"apiGroups": [""]}]}), true),
            (json!({"scope": "Namespaced"}), true),
            (json!({"scope": "Cluster"}), false),
            (json!({"scope": "nonsense"}), true),
            (json!({"namespaces": ["prod-*"]}), true),
            (json!({"namespaces": ["*-b", "x"]}), false),
            (json!({"excludedNamespaces": ["*d-*"]}), false),
            (json!({"excludedNamespaces": ["prod"]}), true),
            (json!({"labelSelector": {"matchLabels": {"app": "web"}}}), true),
            (json!({"labelSelector": {"matchLabels": {"app": "db"}}}), false),
            (json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}}), true),
            (json!({"namespaceSelector": {"matchLabels": {"env": "dev"}}}), false),
            (json!({"name": "web-*"}), true),
            (json!({"name": "web"}), false),
            (json!({"source": "Generated"}), false),
            (json!({"source": "Original"}), true),
        ] {
            check(matching, request.clone(), Some(namespace.clone()), Ok(expect));
        }
    }

    #[test]
    fn either_object_may_match() {
        let request = json!({"operation": "UPDATE", "namespace": "prod-a",
            "object": pod(json!({})), "oldObject": pod(json!({"app": "web"}))});
        check(
            json!({"labelSelector": {"matchLabels": {"app": "web"}}}),
            request,
            None,
            Ok(true),
        );
    }

    #[test]
    fn an_unknown_namespace_is_an_error_only_where_it_matters() {
        let request = json!({"operation": "CREATE", "namespace": "prod-a", "object": pod(json!({}))});
        let selector = json!({"namespaceSelector": {"matchLabels": {"env": "prod"}}});
        let said = "spec.match.namespaceSelector needs the Namespace \"prod-a\", which is not known";
        check(selector.clone(), request.clone(), None, Err(said));
        let mut elsewhere = selector.clone();
        elsewhere["kinds"] = json!([{"kinds": ["Service"]}]);
        check(elsewhere, request, None, Ok(false));
        let role = json!({"operation": "CREATE", "object": {"apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole", "metadata": {"name": "x"}}});
        check(selector.clone(), role.clone(), None, Ok(true));
        check(
            json!({"namespaces": ["a"], "excludedNamespaces": ["*"], "scope": "Cluster"}),
            role,
            None,
            Ok(true),
        );
        let own = json!({"operation": "CREATE", "namespace": "prod", "object": {"apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": "prod", "labels": {"env": "prod"}}}});
        check(selector, own.clone(), None, Ok(true));
        check(json!({"namespaces": ["prod"], "scope": "Cluster"}), own, None, Ok(true));
    }

    #[test]
    fn a_generated_name_matches_by_its_beginning() {
        let request = json!({"operation": "CREATE", "object": {"apiVersion": "v1", "kind": "Pod",
            "metadata": {"generateName": "web-"}}});
        for (name, expect) in [("web-*", true), ("*eb*", true), ("*-1", false), ("web-1", false)] {
            check(json!({"name": name}), request.clone(), None, Ok(expect));
        }
    }

    #[test]
    fn the_index_knows_which_kinds_can_match() {
        let kinds = |matching: Json| {
            Match::read(Some(&matching))
                .unwrap()
                .kinds()
                .map(|kinds| kinds.join(","))
        };
        assert_eq!(
            kinds(json!({"kinds": [{"kinds": ["Pod", "Service"]}]})).as_deref(),
            Some("Pod,Service")
        );
        assert_eq!(
            kinds(json!({"kinds": [{"kinds": ["Pod"]}, {"apiGroups": ["apps"]}]})),
            None
        );
        assert_eq!(kinds(json!({})), None);
    }
}
