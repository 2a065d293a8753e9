//! Changes that delete more than anybody is likely to mean wait for a nod: pure.
//!
//! Guarantees: nothing of such a change is applied before its revision stands in an annotation of the Kustomization; the
//! message says how many objects would go, names the first of them, and how to nod.

pub use crate::api::weir::ALLOW_PRUNE as NOD;
use crate::core::object::ObjectRef;

/// Reason while a change waits for a nod. Weir's own.
pub const PRUNE_HELD: &str = "PruneHeld";
/// How many objects the message names; the rest is counted.
const NAMED: usize = 10;

/// Why a change has to wait; `None` when it may go on. `most` is how many deletions need no nod, 0 stands for any number.
#[must_use]
pub fn held(
    deletions: &[ObjectRef],
    most: usize,
    nod: Option<&str>,
    revision: &str,
    kustomization: (&str, &str),
) -> Option<String> {
    if most == 0 || deletions.len() <= most || nod == Some(revision) {
        return None;
    }
    let named: Vec<String> = deletions.iter().take(NAMED).map(ToString::to_string).collect();
    let more = match deletions.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let (namespace, name) = kustomization;
    Some(format!(
        "revision {revision} would delete {} objects, more than {most} (--max-prune), so nothing of it was applied: {}{more}. \
         If that is meant: kubectl -n {namespace} annotate --overwrite kustomizations.kustomize.toolkit.fluxcd.io {name} \
         {NOD}={revision}; else put them back in Git",
        deletions.len(),
        named.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deletions(count: usize) -> Vec<ObjectRef> {
        let one = |number| ObjectRef {
            group: String::new(),
            kind: "ConfigMap".into(),
            namespace: "shop".into(),
            name: format!("c{number}"),
        };
        (0..count).map(one).collect()
    }

    #[test]
    fn more_than_the_bound_needs_a_nod_for_this_very_revision() {
        let check = |count: usize, most: usize, nod: Option<&str>, expect: bool| {
            let found = held(&deletions(count), most, nod, "main@sha1:aa", ("apps", "shop"));
            assert_eq!(found.is_some(), expect, "{count} of {most} with {nod:?}");
        };
        check(3, 3, None, false);
        check(4, 3, None, true);
        check(4, 3, Some("main@sha1:aa"), false);
        check(4, 3, Some("main@sha1:bb"), true);
        check(4000, 0, None, false);
    }

    #[test]
    fn the_message_says_how_many_which_and_what_to_do() {
        let message = held(&deletions(12), 5, None, "main@sha1:aa", ("apps", "shop")).unwrap();
        assert!(
            message.starts_with("revision main@sha1:aa would delete 12 objects, more than 5 (--max-prune)"),
            "{message}"
        );
        assert!(
            message.contains("ConfigMap/shop/c9 and 2 more. If that is meant: "),
            "{message}"
        );
        assert!(message.contains("kustomizations.kustomize.toolkit.fluxcd.io shop weir.dev/allow-prune=main@sha1:aa"));
        assert!(!message.contains("c10"), "{message}");
    }
}
