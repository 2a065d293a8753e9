//! A strict namespace takes nothing but what comes from Git and what controllers make of it.
//!
//! Whoever is no person and makes an object that belongs to another one does a controller's work: a person's owner
//! reference would be a forgery. What such an object does is decided where its owner was made, which came from Git.

use serde_json::Value;

use super::message::strict;
use super::{Cause, Change, Denial, Identities, Operation, Reason, Verdict};

/// May the request make this object, which no inventory lists, in a strict namespace?
#[must_use]
pub fn decide_strict(change: &Change, identities: &Identities) -> Verdict {
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
    let made_for_another = identities.is_machine(&change.user) && change.new.as_ref().is_some_and(has_owner);
    if identities.is_controller(&change.user) || identities.is_api_server(&change.user) || made_for_another {
        return allow(Reason::Controller);
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
