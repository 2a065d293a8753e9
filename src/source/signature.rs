//! Who signed a commit or tag: OpenPGP and SSH signatures against the public keys of a Secret. Pure; the time is given.
//!
//! Guarantees: the bytes that are checked are those that Git stored, never a rewritten form; a key that has expired, was
//! revoked, may not sign, or is bound to nobody is refused; so is a signature made with MD5, SHA-1 or RIPEMD.

use std::collections::BTreeMap;

use jiff::Timestamp;
use pgp::composed::{Deserializable, DetachedSignature, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Signature, SignatureType};
use pgp::types::{KeyDetails, Tag};
use russh::keys::ssh_key::SshSig;
use russh::keys::{HashAlg, PublicKey};

use super::artifact::hex;

/// How an armored OpenPGP signature begins.
const OPENPGP: &str = "-----BEGIN PGP SIGNATURE-----";
/// How an armored SSH signature begins.
const SSH: &str = "-----BEGIN SSH SIGNATURE-----";
/// What a Secret's OpenPGP keys begin with.
const OPENPGP_KEYS: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
/// How a Secret's key with SSH public keys ends, as Flux has it.
const SSH_KEYS: &str = ".sshpub";
/// What Git signs for.
const NAMESPACE: &str = "git";

/// An object of Git and its signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The bytes that were signed.
    pub payload: Vec<u8>,
    /// Armored; nothing when it is not signed.
    pub signature: Option<String>,
}

/// The public keys of those who are trusted.
#[derive(Debug, Default)]
pub struct Keys {
    openpgp: Vec<SignedPublicKey>,
    ssh: Vec<PublicKey>,
}

/// Why nobody trusted has signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// There is none.
    #[error("it is not signed")]
    Missing,
    /// It is neither OpenPGP nor SSH.
    #[error("the signature is of a kind that is not known; OpenPGP and SSH are")]
    Kind,
    /// It is damaged.
    #[error("the signature cannot be read: {0}")]
    Unreadable(String),
    /// By somebody else, or for something else.
    #[error("no {kind} key of the Secret made this signature{by}; it has {keys} of them")]
    Untrusted {
        /// OpenPGP or SSH.
        kind: &'static str,
        /// Who says to have made it.
        by: String,
        /// How many keys of the kind there are.
        keys: usize,
    },
    /// By a trusted key that is no longer good, or never was for this.
    #[error("the key {key} made this signature, but {reason}")]
    Unusable {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl Keys {
    /// Reads the keys of a Secret: OpenPGP ones wherever they are, SSH ones where the name ends in `.sshpub`.
    ///
    /// # Errors
    /// What cannot be read, or that there is nothing.
    pub fn from_secret(data: &BTreeMap<String, Vec<u8>>) -> Result<Self, String> {
        let mut keys = Self::default();
        for (name, value) in data {
            let text = String::from_utf8_lossy(value);
            if text.contains(OPENPGP_KEYS) {
                let parsed = SignedPublicKey::from_armor_many(value.as_slice());
                let (parsed, _) = parsed.map_err(|error| format!("{name:?} cannot be read: {error}"))?;
                for key in parsed {
                    keys.openpgp
                        .push(key.map_err(|error| format!("{name:?} cannot be read: {error}"))?);
                }
            } else if name.ends_with(SSH_KEYS) {
                let lines = text.lines().map(str::trim);
                for line in lines.filter(|line| !line.is_empty() && !line.starts_with('#')) {
                    let key = PublicKey::from_openssh(line);
                    keys.ssh
                        .push(key.map_err(|error| format!("{name:?} cannot be read: {error}"))?);
                }
            }
        }
        if keys.openpgp.is_empty() && keys.ssh.is_empty() {
            return Err(format!(
                "it holds no public key, neither OpenPGP (armored) nor SSH (in a key that ends in {SSH_KEYS:?})"
            ));
        }
        Ok(keys)
    }

    /// Checks a signature, and gives the key that made it: its id, or its fingerprint with SSH.
    ///
    /// # Errors
    /// When nobody trusted made it.
    pub fn verify(&self, signed: &Signed, now: Timestamp) -> Result<String, SignatureError> {
        let text = signed.signature.as_deref().ok_or(SignatureError::Missing)?;
        if text.trim_start().starts_with(OPENPGP) {
            self.verify_openpgp(text, &signed.payload, now)
        } else if text.trim_start().starts_with(SSH) {
            self.verify_ssh(text, &signed.payload)
        } else {
            Err(SignatureError::Kind)
        }
    }

    fn verify_ssh(&self, text: &str, payload: &[u8]) -> Result<String, SignatureError> {
        let signature = SshSig::from_pem(text.trim()).map_err(|error| SignatureError::Unreadable(error.to_string()))?;
        let by = signature.public_key().fingerprint(HashAlg::Sha256);
        let made = |key: &&PublicKey| key.verify(NAMESPACE, payload, &signature).is_ok();
        match self.ssh.iter().find(made) {
            Some(key) => Ok(key.fingerprint(HashAlg::Sha256).to_string()),
            None => Err(SignatureError::Untrusted {
                kind: "SSH",
                by: format!(" by {by}"),
                keys: self.ssh.len(),
            }),
        }
    }

    fn verify_openpgp(&self, text: &str, payload: &[u8], now: Timestamp) -> Result<String, SignatureError> {
        let (read, _) =
            DetachedSignature::from_string(text).map_err(|error| SignatureError::Unreadable(error.to_string()))?;
        let signature = read.signature;
        let now = now.as_second();
        let mut problem = None;
        for key in &self.openpgp {
            match made(key, &signature, payload, now) {
                None => {}
                Some(Ok(())) => return Ok(id(key)),
                Some(Err(reason)) => {
                    problem = Some(SignatureError::Unusable { key: id(key), reason });
                }
            }
        }
        Err(problem.unwrap_or_else(|| {
            let by = signature
                .issuer_fingerprint()
                .first()
                .map(|print| format!(" by {print:X}"));
            SignatureError::Untrusted {
                kind: "OpenPGP",
                by: by.unwrap_or_default(),
                keys: self.openpgp.len(),
            }
        }))
    }
}

/// The signature of a commit or tag as Git stored it: headers end at the first empty line.
#[must_use]
pub fn split_tag(object: &[u8]) -> Signed {
    let starts = [OPENPGP, SSH].map(|mark| {
        let mark = mark.as_bytes();
        object
            .windows(mark.len())
            .enumerate()
            // At the start of a line, and the last one: a message may quote another signature.
            .filter(|(at, window)| *window == mark && (*at == 0 || object.get(at - 1) == Some(&b'\n')))
            .map(|(at, _)| at)
            .next_back()
    });
    match starts.into_iter().flatten().max() {
        Some(at) => {
            let (payload, signature) = object.split_at(at);
            Signed {
                payload: payload.to_vec(),
                signature: Some(String::from_utf8_lossy(signature).into_owned()),
            }
        }
        None => Signed {
            payload: object.to_vec(),
            signature: None,
        },
    }
}

fn id(key: &SignedPublicKey) -> String {
    hex(key.primary_key.legacy_key_id().as_ref()).to_uppercase()
}

/// Whether a key, or one of its subkeys, made a signature: not at all, rightly, or though it must not.
fn made(key: &SignedPublicKey, signature: &Signature, payload: &[u8], now: i64) -> Option<Result<(), &'static str>> {
    let verifies = |with: &dyn Fn() -> bool| with().then_some(());
    if verifies(&|| signature.verify(&key.primary_key, payload).is_ok()).is_some() {
        return Some(may_sign(key, signature, now).and_then(|own| {
            let flags = own.key_flags();
            // A key without flags may do everything.
            if flags.sign() || !(flags.certify() || flags.encrypt_comms() || flags.authentication()) {
                Ok(())
            } else {
                Err("it is not meant for signing")
            }
        }));
    }
    let subkey = key
        .public_subkeys
        .iter()
        .find(|subkey| signature.verify(&subkey.key, payload).is_ok())?;
    Some(may_sign(key, signature, now).and_then(|_| subkey_may_sign(key, subkey, now)))
}

/// What holds for the primary key and the signature; gives the latest signature of the key on itself.
fn may_sign<'a>(key: &'a SignedPublicKey, signature: &Signature, now: i64) -> Result<&'a Signature, &'static str> {
    if !matches!(signature.typ(), Some(SignatureType::Binary | SignatureType::Text)) {
        return Err("it is no signature over a document");
    }
    let weak = [HashAlgorithm::Md5, HashAlgorithm::Sha1, HashAlgorithm::Ripemd160];
    if signature.hash_alg().is_none_or(|hash| weak.contains(&hash)) {
        return Err("it was made with a hash function that is broken");
    }
    if let (Some(made), Some(lives)) = (signature.created(), signature.signature_expiration_time())
        && expired(made.as_secs(), lives.as_secs(), now)
    {
        return Err("the signature has expired");
    }
    let primary = &key.primary_key;
    let revocations = &key.details.revocation_signatures;
    if revocations.iter().any(|one| one.verify_key(primary).is_ok()) {
        return Err("the key was revoked");
    }
    let of_users = key.details.users.iter().flat_map(|user| {
        let own = |one: &&Signature| {
            one.is_certification() && one.verify_certification(primary, Tag::UserId, &user.id).is_ok()
        };
        user.signatures.iter().filter(own)
    });
    let direct = key.details.direct_signatures.iter();
    let direct = direct.filter(|one| one.typ() == Some(SignatureType::Key) && one.verify_key(primary).is_ok());
    let latest = of_users
        .chain(direct)
        .max_by_key(|one| one.created().map(|at| at.as_secs()));
    let latest = latest.ok_or("no name is bound to the key")?;
    match latest.key_expiration_time() {
        Some(lives) if expired(primary.created_at().as_secs(), lives.as_secs(), now) => Err("the key has expired"),
        _ => Ok(latest),
    }
}

fn subkey_may_sign(key: &SignedPublicKey, subkey: &SignedPublicSubKey, now: i64) -> Result<(), &'static str> {
    let primary = &key.primary_key;
    let of = |kind: SignatureType| {
        let bound =
            move |one: &&Signature| one.typ() == Some(kind) && one.verify_subkey_binding(primary, &subkey.key).is_ok();
        subkey.signatures.iter().filter(bound)
    };
    if of(SignatureType::SubkeyRevocation).next().is_some() {
        return Err("the subkey was revoked");
    }
    let latest = of(SignatureType::SubkeyBinding).max_by_key(|one| one.created().map(|at| at.as_secs()));
    let latest = latest.ok_or("the subkey is not bound to the key")?;
    if !latest.key_flags().sign() {
        return Err("the subkey is not meant for signing");
    }
    // The subkey must agree, or anybody could claim the signatures of another's key.
    let agrees = latest
        .embedded_signature()
        .is_some_and(|back| back.verify_primary_key_binding(&subkey.key, primary).is_ok());
    if !agrees {
        return Err("the subkey does not agree to belong to the key");
    }
    match latest.key_expiration_time() {
        Some(lives) if expired(subkey.key.created_at().as_secs(), lives.as_secs(), now) => {
            Err("the subkey has expired")
        }
        _ => Ok(()),
    }
}

/// Zero stands for "never".
fn expired(from: u32, lives: u32, now: i64) -> bool {
    lives != 0 && i64::from(from) + i64::from(lives) <= now
}
