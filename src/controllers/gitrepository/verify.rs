//! `spec.verify`: who signed the commit, the tag, or both. Decides; the keys are read by whoever asks.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::status::{Ending, Verified};
use crate::api::source::{GitVerification, VerifyMode};
use crate::source::Fetched;
use crate::source::git::Tag;
use crate::source::signature::{Keys, Signed};

/// What is verified of a fetch.
pub(super) struct Evidence {
    commit: String,
    signed: Signed,
    tag: Option<Tag>,
}

impl Evidence {
    /// Of what was fetched.
    pub(super) fn of(fetched: &Fetched) -> Self {
        Self {
            commit: fetched.commit.id.clone(),
            signed: fetched.signed.clone(),
            tag: fetched.tag.clone(),
        }
    }
}

/// Verifies what the spec asks for.
pub(super) fn verify(
    verification: &GitVerification,
    evidence: &Evidence,
    secret: &BTreeMap<String, Vec<u8>>,
    now: Timestamp,
) -> Result<Verified, Ending> {
    let failed = |reason, message: String| Ending::VerificationFailed {
        reason,
        message,
        for_good: false,
    };
    let keys = Keys::from_secret(secret).map_err(|error| {
        let name = &verification.secret_ref.name;
        failed("VerificationError", format!("public keys of secret '{name}': {error}"))
    })?;
    let (head, tag) = match verification.mode {
        VerifyMode::Head | VerifyMode::HeadUpper => (true, false),
        VerifyMode::Tag => (false, true),
        VerifyMode::TagAndHEAD => (true, true),
    };
    let mut told = Vec::new();
    if tag {
        let Some(tag) = &evidence.tag else {
            return Err(Ending::VerificationFailed {
                reason: "InvalidVerificationMode",
                message: "cannot verify tag object's signature if a tag reference is not specified".to_owned(),
                for_good: true,
            });
        };
        let name = format!("{}@{}", tag.name, tag.id);
        if tag.signed.signature.is_none() {
            let message = format!("cannot verify signature of tag '{name}' since it is not signed");
            return Err(failed("InvalidGitObject", message));
        }
        let key = keys.verify(&tag.signed, now).map_err(|error| {
            let message = format!("signature verification of tag '{name}' failed: {error}");
            failed("InvalidTagSignature", message)
        })?;
        told.push(format!("tag '{name}' with key '{key}'"));
    }
    if head {
        let commit = &evidence.commit;
        let key = keys.verify(&evidence.signed, now).map_err(|error| {
            let message = format!("signature verification of commit '{commit}' failed: {error}");
            failed("InvalidCommitSignature", message)
        })?;
        told.push(format!("commit '{commit}' with key '{key}'"));
    }
    Ok(Verified {
        mode: match verification.mode {
            VerifyMode::Head | VerifyMode::HeadUpper => "HEAD",
            VerifyMode::Tag => "Tag",
            VerifyMode::TagAndHEAD => "TagAndHEAD",
        },
        message: format!("verified signature of\n\t- {}", told.join("\n\t- ")),
    })
}
