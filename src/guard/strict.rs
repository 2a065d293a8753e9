//! A strict namespace takes nothing but what comes from Git and what controllers make of it.
//!
//! Whoever is no person and makes an object that belongs to another one does a controller's work: a person's owner
//! reference would be a forgery. What such an object does is decided where its owner was made, which came from Git. A program
//! could forge one too, so the door looks whether the owner is there (`claimed_owner`).

use serde_json::Value;

use super::message::{made_under, strict};
use super::{Cause, Change, Denial, Identities, Operation, Reason, Verdict};
use crate::api::weir::GROUP;
use crate::core::object::Gvk;

/// The kind that breaks the glass.
const EXEMPTION: &str = "Exemption";

/// An object that another one names as its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedOwner {
    /// Its kind.
    pub gvk: Gvk,
    /// Its name.
    pub name: String,
    /// Its uid, which no other object has or ever had.
    pub uid: String,
}

/// The owner that a program names for what it makes: the one that controls it, else the first. Who need not name one, or may
/// not, is not asked for it.
#[must_use]
pub fn claimed_owner(change: &Change, identities: &Identities) -> Option<ClaimedOwner> {
    if change.operation != Operation::Create || is_known(change, identities) || !identities.is_machine(&change.user) {
        return None;
    }
    let owners = change.new.as_ref()?.pointer("/metadata/ownerReferences")?.as_array()?;
    let controls = |owner: &&Value| owner.get("controller") == Some(&Value::Bool(true));
    let owner = owners.iter().find(controls).or_else(|| owners.first())?;
    let text = |field: &str| owner.get(field)?.as_str();
    Some(ClaimedOwner {
        gvk: Gvk::new(text("apiVersion")?, text("kind")?),
        name: text("name")?.to_owned(),
        uid: text("uid")?.to_owned(),
    })
}

fn is_known(change: &Change, identities: &Identities) -> bool {
    identities.is_controller(&change.user) || identities.is_api_server(&change.user)
}

/// May the request make this object, which no inventory lists, in a strict namespace? `owner_is_there` says that the owner it
/// names was found; `exempt` is what the user is told whom an Exemption lets make it.
#[must_use]
pub fn decide_strict(change: &Change, identities: &Identities, owner_is_there: bool, exempt: Option<&str>) -> Verdict {
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
    if is_known(change, identities) || owner_is_there {
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
