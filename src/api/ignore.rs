//! Rules of `spec.ignore`, compiled: which fields of which objects Git declares but leaves to others.

use super::kustomize::{IgnoreRule, Selector};
use crate::core::ignored::is_pointer;
use crate::core::object::Object;
use crate::core::selector::{Target, TargetText};

/// Compiled rules.
#[derive(Debug, Clone, Default)]
pub struct IgnoreRules(Vec<(Option<Target>, Vec<String>)>);

impl IgnoreRules {
    /// Compiles rules.
    ///
    /// # Errors
    /// Names the rule and what is wrong with it.
    pub fn compile(rules: &[IgnoreRule]) -> Result<Self, String> {
        let compiled = rules.iter().enumerate().map(|(index, rule)| {
            let place = |why: String| format!("spec.ignore[{index}].{why}");
            if let Some(path) = rule.paths.iter().find(|path| !is_pointer(path)) {
                return Err(place(format!(
                    "paths: {path:?} is not a JSON pointer such as /spec/replicas"
                )));
            }
            let target = rule.target.as_ref().map(target).transpose().map_err(place)?;
            Ok((target, rule.paths.clone()))
        });
        compiled.collect::<Result<_, _>>().map(Self)
    }

    /// The JSON pointers of an object's fields that are left to others.
    #[must_use]
    pub fn pointers(&self, object: &Object) -> Vec<String> {
        let rules = self.0.iter();
        let fitting = rules.filter(|(target, _)| target.as_ref().is_none_or(|target| target.matches(object)));
        fitting.flat_map(|(_, paths)| paths).cloned().collect()
    }
}

fn target(selector: &Selector) -> Result<Target, String> {
    Target::compile(TargetText {
        group: selector.group.as_deref(),
        version: selector.version.as_deref(),
        kind: selector.kind.as_deref(),
        name: selector.name.as_deref(),
        namespace: selector.namespace.as_deref(),
        labels: selector.label_selector.as_deref(),
        annotations: selector.annotation_selector.as_deref(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rules(value: Value) -> Result<IgnoreRules, String> {
        let rules: Vec<IgnoreRule> = serde_json::from_value(value).unwrap();
        IgnoreRules::compile(&rules)
    }

    #[test]
    fn the_paths_of_all_rules_that_fit_are_ignored() {
        let rules = rules(json!([{"paths": ["/metadata/annotations/a~1b"]},
            {"paths": ["/spec/replicas", "/spec/paused"], "target": {"kind": "Deployment"}},
            {"paths": ["/data"], "target": {"kind": "ConfigMap"}}]))
        .unwrap();
        let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
        assert_eq!(
            rules.pointers(&Object::new(object).unwrap()),
            ["/metadata/annotations/a~1b", "/spec/replicas", "/spec/paused"]
        );
    }

    #[test]
    fn what_is_wrong_is_named_with_its_place() {
        let check = |value: Value, expect: &str| assert_eq!(rules(value).unwrap_err(), expect);
        check(
            json!([{"paths": ["/a"]}, {"paths": ["spec.replicas"]}]),
            "spec.ignore[1].paths: \"spec.replicas\" is not a JSON pointer such as /spec/replicas",
        );
        check(
            json!([{"paths": ["/a"], "target": {"kind": "("}}]),
            "spec.ignore[0].target.kind: \"(\" is not a regular expression",
        );
    }
}
