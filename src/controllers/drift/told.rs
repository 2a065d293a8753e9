//! What is told of drift, in events and logs.

use std::time::Duration;

use crate::core::duration::format_duration;
use crate::core::fields::Path;
use crate::core::object::ObjectRef;
use crate::guard::revert::{Drift, News};

/// How many fields an event names.
const NAMED_FIELDS: usize = 5;
/// Stands in for the name of a manager where there is none to see.
const SOMEBODY: &str = "an unknown manager";

/// `Deployment/prod/web: spec.replicas was changed by kubectl (scale)`.
pub(super) fn told(object: &ObjectRef, drift: &Drift) -> String {
    let by = drift.manager.as_ref().map_or(SOMEBODY.to_owned(), ToString::to_string);
    if drift.gone {
        format!("{object} was deleted, or lost its owner labels")
    } else if !drift.markers.is_empty() && drift.markers == drift.fields {
        format!(
            "{object} was marked by {by} to be left alone, which only Git may do: {}",
            names(&drift.fields)
        )
    } else if drift.fields.is_empty() {
        format!("{object} was applied by somebody else under the name {by}")
    } else {
        let verb = if drift.fields.len() == 1 { "was" } else { "were" };
        format!("{object}: {} {verb} changed by {by}", names(&drift.fields))
    }
}

/// What is told of a fight.
pub(super) fn fight(object: &ObjectRef, drift: &Drift, news: News) -> String {
    let manager = drift.manager.as_ref().map_or(SOMEBODY, |manager| manager.name.as_str());
    let fields = if drift.fields.is_empty() {
        "what Git declares".to_owned()
    } else {
        names(&drift.fields)
    };
    match news {
        News::Again(wait) => format!(
            "{manager} keeps changing {fields} of {object}, which Git declares; put back again after {} at the soonest. Take \
             the field out of Git if {manager} is to set it, or stop {manager} from setting it",
            format_duration(wait)
        ),
        News::ByMany(wait) => format!(
            "{object} is changed again and again under several names or in several fields, which Git declares, just now \
             {fields} by {manager}; put back again after {} at the soonest",
            format_duration(Duration::from_secs(wait.as_secs().max(1)))
        ),
    }
}

/// Fields for people, the first few of many.
pub(super) fn names(fields: &[Path]) -> String {
    let named: Vec<String> = fields.iter().take(NAMED_FIELDS).map(ToString::to_string).collect();
    match fields.len().saturating_sub(NAMED_FIELDS) {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

/// Name of the field manager, as metrics and fights know it.
pub(super) fn manager_of(drift: &Drift) -> &str {
    drift.manager.as_ref().map_or("", |manager| manager.name.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::revert::Manager;

    fn object() -> ObjectRef {
        ObjectRef {
            group: "apps".into(),
            kind: "Deployment".into(),
            namespace: "prod".into(),
            name: "web".into(),
        }
    }

    fn drift(fields: &[&[&str]], manager: Option<&str>) -> Drift {
        let manager = manager.map(|name| Manager {
            name: name.to_owned(),
            subresource: String::new(),
            applied: false,
            time: String::new(),
        });
        Drift {
            fields: fields
                .iter()
                .map(|path| Path::of_fields(path.iter().copied()))
                .collect(),
            manager,
            gone: false,
            markers: Vec::new(),
        }
    }

    #[test]
    fn drift_is_told_with_its_fields_and_whose_it_is() {
        let check = |drift: &Drift, expect: &str| assert_eq!(told(&object(), drift), expect);
        let replicas: &[&str] = &["spec", "replicas"];
        check(
            &drift(&[replicas], Some("kubectl")),
            "Deployment/prod/web: spec.replicas was changed by kubectl",
        );
        check(
            &drift(&[replicas, &["spec", "paused"]], None),
            "Deployment/prod/web: spec.replicas, spec.paused were changed by an unknown manager",
        );
        check(
            &drift(&[], Some("kustomize-controller")),
            "Deployment/prod/web was applied by somebody else under the name kustomize-controller",
        );
        check(
            &Drift {
                gone: true,
                ..drift(&[], None)
            },
            "Deployment/prod/web was deleted, or lost its owner labels",
        );
        let marked = drift(&[&["metadata", "annotations", "x/reconcile"]], Some("sly"));
        check(
            &Drift {
                markers: marked.fields.clone(),
                ..marked
            },
            "Deployment/prod/web was marked by sly to be left alone, which only Git may do: metadata.annotations[\"x/reconcile\"]",
        );
    }

    #[test]
    fn a_fight_is_told_with_what_to_do() {
        let replicas = drift(&[&["spec", "replicas"]], Some("hpa"));
        assert_eq!(
            fight(&object(), &replicas, News::Again(Duration::from_secs(4))),
            "hpa keeps changing spec.replicas of Deployment/prod/web, which Git declares; put back again after 4s at the soonest. \
             Take the field out of Git if hpa is to set it, or stop hpa from setting it"
        );
        assert_eq!(
            fight(&object(), &replicas, News::ByMany(Duration::from_millis(200))),
            "Deployment/prod/web is changed again and again under several names or in several fields, which Git declares, just \
             now spec.replicas by hpa; put back again after 1s at the soonest"
        );
    }
}
