//! A strict namespace takes nothing but what comes from Git and what controllers make of it.
//!
//! Whoever is no person and makes an object that belongs to another one does a controller's work: a person's owner
//! reference would be a forgery. What such an object does is decided where its owner was made, which came from Git.

use serde_json::Value;

use super::message::{made_under, strict};
use super::{Cause, Change, Denial, Identities, Operation, Reason, Verdict};
use crate::api::weir::GROUP;

/// The kind that breaks the glass.
const EXEMPTION: &str = "Exemption";

/// May the request make this object, which no inventory lists, in a strict namespace? `exempt` is what the user is told whom
/// an Exemption lets make it.
#[must_use]
pub fn decide_strict(change: &Change, identities: &Identities, exempt: Option<&str>) -> Verdict {
    let allow = |reason| Verdict::Allow {
        reason,
        warnings: Vec::new(),
    };
    if change.operation != Operation::Create || !change.subresource.is_empty() {
        return allow(Reason::Unmanaged);
    }
    if identities.is_weir(&change.user) {
        return allow(Reason::Weir);
    }
    // Breaking the glass is a thing that is made by hand; who may is a question of rights.
    if change.object.group == GROUP && change.object.kind == EXEMPTION {
        return allow(Reason::Unmanaged);
    }
    let made_for_another = identities.is_machine(&change.user) && change.new.as_ref().is_some_and(has_owner);
    if identities.is_controller(&change.user) || identities.is_api_server(&change.user) || made_for_another {
        return allow(Reason::Controller);
    }
    if let Some(consequence) = exempt {
        return Verdict::Exempt {
            fields: Vec::new(),
            warning: made_under(change, consequence),
        };
    }
    let message = strict(change);
    if change.options.dry_run {
        let first = message.lines().next().unwrap_or_default().to_owned();
        return Verdict::Allow {
            reason: Reason::DryRun,
            warnings: vec![first],
        };
    }
    Verdict::Deny(Denial {
        cause: Cause::Creation,
        fields: Vec::new(),
        message,
    })
}

fn has_owner(object: &Value) -> bool {
    let owners = object.pointer("/metadata/ownerReferences").and_then(Value::as_array);
    owners.is_some_and(|owners| !owners.is_empty())
}
