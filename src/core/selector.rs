//! Label selectors as people write them (`app=web,tier in (a, b),!legacy`), and targets that select whole objects.
//!
//! Guarantees: what is taken here is what the API server and kustomize take; everything else is an error that quotes the
//! part; an unset field selects everything; names, kinds and the like are regular expressions that have to fit as a whole.

use std::collections::BTreeMap;

use regex::Regex;

use super::object::Object;

/// A label selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Missing(String),
    Above(String, i64),
    Below(String, i64),
}

/// What kind of objects a rule is for.
#[derive(Debug, Clone, Default)]
pub struct Target {
    group: Option<Regex>,
    version: Option<Regex>,
    kind: Option<Regex>,
    name: Option<Regex>,
    namespace: Option<Regex>,
    labels: Option<LabelSelector>,
    annotations: Option<LabelSelector>,
}

/// The fields of a target as they are written.
#[derive(Debug, Clone, Copy, Default)]
pub struct TargetText<'a> {
    /// API group, a regular expression.
    pub group: Option<&'a str>,
    /// API version without the group, a regular expression.
    pub version: Option<&'a str>,
    /// Kind, a regular expression.
    pub kind: Option<&'a str>,
    /// Name, a regular expression.
    pub name: Option<&'a str>,
    /// Namespace, a regular expression.
    pub namespace: Option<&'a str>,
    /// Label selector.
    pub labels: Option<&'a str>,
    /// The same over annotations.
    pub annotations: Option<&'a str>,
}

impl LabelSelector {
    /// Reads a selector.
    ///
    /// # Errors
    /// Quotes the part that is none.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for part in parts(text) {
            let part = part.trim();
            if !part.is_empty() {
                requirements.push(requirement(part).ok_or_else(|| format!("{part:?} is no requirement on labels"))?);
            }
        }
        Ok(Self(requirements))
    }

    /// Whether labels fit.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        let number = |key: &str| labels.get(key)?.parse::<i64>().ok();
        self.0.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            Requirement::NotIn(key, values) => labels.get(key).is_none_or(|value| !values.contains(value)),
            Requirement::Exists(key) => labels.contains_key(key),
            Requirement::Missing(key) => !labels.contains_key(key),
            Requirement::Above(key, bound) => number(key).is_some_and(|value| value > *bound),
            Requirement::Below(key, bound) => number(key).is_some_and(|value| value < *bound),
        })
    }
}

impl Target {
    /// Compiles a target.
    ///
    /// # Errors
    /// Names the field that cannot be read.
    pub fn compile(text: TargetText<'_>) -> Result<Self, String> {
        let regex = |field: &str, text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty());
            let compiled = text.map(|text| Regex::new(&format!("^(?:{text})$")));
            compiled.transpose().map_err(|_| {
                format!(
                    "target.{field}: {:?} is not a regular expression",
                    text.unwrap_or_default()
                )
            })
        };
        let selector = |field: &str, text: Option<&str>| {
            let text = text.filter(|text| !text.is_empty());
            let parsed = text.map(LabelSelector::parse);
            parsed.transpose().map_err(|why| format!("target.{field}: {why}"))
        };
        Ok(Self {
            group: regex("group", text.group)?,
            version: regex("version", text.version)?,
            kind: regex("kind", text.kind)?,
            name: regex("name", text.name)?,
            namespace: regex("namespace", text.namespace)?,
            labels: selector("labelSelector", text.labels)?,
            annotations: selector("annotationSelector", text.annotations)?,
        })
    }

    /// Whether it selects an object.
    #[must_use]
    pub fn matches(&self, object: &Object) -> bool {
        let gvk = object.gvk();
        let fits = |wanted: &Option<Regex>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted.is_match(is));
        fits(&self.group, &gvk.group)
            && fits(&self.version, &gvk.version)
            && fits(&self.kind, &gvk.kind)
            && fits(&self.name, object.name())
            && fits(&self.namespace, object.namespace())
            && self
                .labels
                .as_ref()
                .is_none_or(|wanted| wanted.matches(&object.labels()))
            && self
                .annotations
                .as_ref()
                .is_none_or(|wanted| wanted.matches(&object.annotations()))
    }
}

/// Splits at commas outside parentheses.
fn parts(text: &str) -> Vec<&str> {
    let (mut depth, mut from, mut found) = (0_usize, 0, Vec::new());
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                found.extend(text.get(from..at));
                from = at + 1;
            }
            _ => {}
        }
    }
    found.extend(text.get(from..));
    found
}

fn requirement(part: &str) -> Option<Requirement> {
    if let Some(name) = part.strip_prefix('!') {
        return key(name).map(Requirement::Missing);
    }
    for (operator, negated) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((name, one)) = part.split_once(operator) {
            let values = vec![value(one)?];
            let name = key(name)?;
            return Some(if negated {
                Requirement::NotIn(name, values)
            } else {
                Requirement::In(name, values)
            });
        }
    }
    for (operator, above) in [('>', true), ('<', false)] {
        if let Some((name, bound)) = part.split_once(operator) {
            let (name, bound) = (key(name)?, bound.trim().parse().ok()?);
            return Some(if above {
                Requirement::Above(name, bound)
            } else {
                Requirement::Below(name, bound)
            });
        }
    }
    let Some((head, list)) = part.split_once('(') else {
        return key(part).map(Requirement::Exists);
    };
    let values: Option<Vec<String>> = list.strip_suffix(')')?.split(',').map(value).collect();
    let (name, operator) = head.trim().split_once(char::is_whitespace)?;
    match operator.trim() {
        "in" => Some(Requirement::In(key(name)?, values?)),
        "notin" => Some(Requirement::NotIn(key(name)?, values?)),
        _ => None,
    }
}

fn key(text: &str) -> Option<String> {
    let text = text.trim();
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    (!text.is_empty() && text.chars().all(allowed)).then(|| text.to_owned())
}

/// A value; annotations have more than labels may have, so only what would end it is refused.
fn value(text: &str) -> Option<String> {
    let text = text.trim();
    (!text.contains(['(', ')', '=', '!'])).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn selectors_are_read_as_the_api_server_reads_them() {
        let labels: BTreeMap<String, String> = [("app", "web"), ("tier", "a"), ("x.io/n", "5"), ("empty", "")]
            .map(|(k, v): (&str, &str)| (k.to_owned(), v.to_owned()))
            .into();
        let check = |text: &str, expect: bool| {
            assert_eq!(LabelSelector::parse(text).unwrap().matches(&labels), expect, "{text}");
        };
        check("", true);
        check("app=web", true);
        check(" app == web , tier = a", true);
        check("app!=web", false);
        check("other!=web", true);
        check("app", true);
        check("!app", false);
        check("!other,tier in (a, b)", true);
        check("tier notin (a,b)", false);
        check("other notin (a)", true);
        check("x.io/n>4,x.io/n<6", true);
        check("app>4", false);
        check("empty=", true);
        for bad in [
            "a b",
            "app in web",
            "app in (web",
            "app like (web)",
            "=web",
            "a=b=c",
            "!",
            "n>x",
            "app (web)",
        ] {
            assert!(LabelSelector::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_target_fits_as_a_whole() {
        let object = Object::new(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web-1",
            "namespace": "shop", "labels": {"app": "web"}, "annotations": {"note": "x"}}}),
        )
        .unwrap();
        let check = |text: TargetText<'_>, expect: bool| {
            assert_eq!(Target::compile(text).unwrap().matches(&object), expect, "{text:?}");
        };
        let none = TargetText::default();
        check(none, true);
        check(
            TargetText {
                kind: Some("Deployment"),
                group: Some("apps"),
                version: Some("v1"),
                ..none
            },
            true,
        );
        check(
            TargetText {
                kind: Some("Deploy"),
                ..none
            },
            false,
        );
        check(
            TargetText {
                name: Some("web-.*|api"),
                namespace: Some("shop"),
                ..none
            },
            true,
        );
        check(
            TargetText {
                name: Some("web"),
                ..none
            },
            false,
        );
        check(
            TargetText {
                group: Some(""),
                ..none
            },
            true,
        );
        check(
            TargetText {
                labels: Some("app=web"),
                annotations: Some("note"),
                ..none
            },
            true,
        );
        check(
            TargetText {
                labels: Some("app=api"),
                ..none
            },
            false,
        );
        let error = Target::compile(TargetText {
            name: Some("("),
            ..none
        })
        .unwrap_err();
        assert_eq!(error, "target.name: \"(\" is not a regular expression");
        let error = Target::compile(TargetText {
            labels: Some("a b"),
            ..none
        })
        .unwrap_err();
        assert_eq!(error, "target.labelSelector: \"a b\" is no requirement on labels");
    }
}
