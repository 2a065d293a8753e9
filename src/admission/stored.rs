//! What the certificate Secret holds, and the pure decision of what is due about it.
//!
//! A CA is replaced in two steps. First the new one joins the old one in `ca.crt` while the serving certificate stays;
//! `SETTLE` later, when every webhook configuration has both, the new one signs a serving certificate. No client ever sees
//! a certificate whose CA it was not told of.
//!
//! A Secret without `ca.key` was brought by somebody else (cert-manager writes that form): it is served and never written.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;

use super::certs::{BACKDATE, CertError, Facts, Pair, certified, make_ca, make_leaf, read_all};

/// How long a new CA is published before it signs. Replicas and API servers hear of a change within seconds; this leaves
/// room for one that is just restarting.
const SETTLE: SignedDuration = SignedDuration::from_mins(10);

/// What the Secret holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stored {
    /// CA certificates, the newest first.
    pub(super) cas: Vec<(String, Facts)>,
    /// Key of the newest; none when somebody else brought the certificates.
    pub(super) ca_key: Option<String>,
    pub(super) leaf: Pair,
    pub(super) leaf_facts: Facts,
}

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Make everything new, because there is nothing or it cannot be used.
    Create,
    /// Publish a new CA beside the old one.
    RenewCa,
    /// Have the newest CA sign a new serving certificate.
    RenewLeaf,
    /// Nothing until then.
    Keep(Timestamp),
}

/// Decides what is due. A Secret that cannot be used is `None`.
pub(super) fn plan(stored: Option<&Stored>, names: &[String], now: Timestamp) -> Step {
    let Some(stored) = stored else { return Step::Create };
    let leaf = &stored.leaf_facts;
    if stored.ca_key.is_none() {
        // Somebody else's: looked at again when it changes, and now and then for the metric.
        return Step::Keep(now + SignedDuration::from_hours(24));
    }
    let Some((_, ca)) = stored.cas.first() else {
        return Step::Create;
    };
    if now >= ca.expires {
        return Step::Create;
    }
    let (ca_due, leaf_due) = (two_thirds(ca), two_thirds(leaf));
    let by_newest = leaf.issuer == ca.subject;
    // A leaf that no client accepts anyway cannot wait for its CA to settle; one that is merely old can, by weeks.
    let useless = now >= leaf.expires || !names.iter().all(|name| leaf.names.contains(name));
    if useless {
        return Step::RenewLeaf;
    }
    if now >= ca_due {
        return Step::RenewCa;
    }
    let settled = ca.begins + BACKDATE + SETTLE;
    let leaf_due = if by_newest { leaf_due } else { settled };
    if now >= leaf_due {
        return Step::RenewLeaf;
    }
    Step::Keep(leaf_due.min(ca_due))
}

/// When one third of a certificate's life is left.
fn two_thirds(facts: &Facts) -> Timestamp {
    facts.expires - facts.expires.duration_since(facts.begins) / 3
}

/// Carries out what is due, in memory.
pub(super) fn carry_out(
    step: &Step,
    stored: Option<&Stored>,
    names: &[String],
    now: Timestamp,
) -> Result<Option<Stored>, CertError> {
    let kept = |ca: &Facts| now < ca.expires;
    let new_ca = || -> Result<_, CertError> {
        let ca = make_ca(now)?;
        let facts = first_facts("ca.crt", &ca.certificate)?;
        Ok((ca, facts))
    };
    match (step, stored) {
        (Step::Keep(_), _) => Ok(None),
        (Step::RenewCa, Some(stored)) => {
            let (ca, facts) = new_ca()?;
            let mut cas = vec![(ca.certificate, facts)];
            cas.extend(stored.cas.iter().filter(|(_, facts)| kept(facts)).cloned());
            Ok(Some(Stored {
                cas,
                ca_key: Some(ca.key),
                ..stored.clone()
            }))
        }
        (
            Step::RenewLeaf,
            Some(Stored {
                cas, ca_key: Some(key), ..
            }),
        ) if !cas.is_empty() => {
            let certificate = cas.first().map(|(pem, _)| pem.clone()).unwrap_or_default();
            let key = key.clone();
            let leaf = make_leaf(
                &Pair {
                    certificate,
                    key: key.clone(),
                },
                names,
                now,
            )?;
            Ok(Some(Stored {
                leaf_facts: first_facts("tls.crt", &leaf.certificate)?,
                leaf,
                cas: cas.iter().filter(|(_, facts)| kept(facts)).cloned().collect(),
                ca_key: Some(key),
            }))
        }
        _ => {
            let (ca, facts) = new_ca()?;
            let leaf = make_leaf(&ca, names, now)?;
            Ok(Some(Stored {
                leaf_facts: first_facts("tls.crt", &leaf.certificate)?,
                leaf,
                cas: vec![(ca.certificate, facts)],
                ca_key: Some(ca.key),
            }))
        }
    }
}

fn first_facts(what: &'static str, pem: &str) -> Result<Facts, CertError> {
    let first = read_all(what, pem)?.into_iter().next();
    first.map(|(_, facts)| facts).ok_or(CertError::Read {
        what,
        message: "it holds no certificate".to_owned(),
    })
}

impl Stored {
    pub(super) fn read(secret: &Secret) -> Result<Self, CertError> {
        let text = |key: &'static str| -> Result<Option<String>, CertError> {
            let Some(ByteString(bytes)) = secret.data.as_ref().and_then(|data| data.get(key)) else {
                return Ok(None);
            };
            String::from_utf8(bytes.clone()).map(Some).map_err(|_| CertError::Read {
                what: key,
                message: "it is not text".to_owned(),
            })
        };
        let need = |key: &'static str| -> Result<String, CertError> {
            text(key)?.filter(|text| !text.is_empty()).ok_or(CertError::Read {
                what: key,
                message: "the secret does not have it".to_owned(),
            })
        };
        let leaf = Pair {
            certificate: need("tls.crt")?,
            key: need("tls.key")?,
        };
        // Together they must be fit to be served, else they are as good as absent.
        certified(&leaf.certificate, &leaf.key)?;
        let cas = split(&need("ca.crt")?)
            .into_iter()
            .map(|pem| first_facts("ca.crt", &pem).map(|facts| (pem, facts)))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Self {
            leaf_facts: first_facts("tls.crt", &leaf.certificate)?,
            ca_key: text("ca.key")?.filter(|text| !text.is_empty()),
            cas,
            leaf,
        })
    }

    pub(super) fn bundle(&self) -> String {
        self.cas.iter().map(|(pem, _)| pem.as_str()).collect()
    }

    pub(super) fn data(&self) -> BTreeMap<String, ByteString> {
        let entry = |key: &str, text: &str| (key.to_owned(), ByteString(text.as_bytes().to_vec()));
        let mut data = BTreeMap::from([
            entry("ca.crt", &self.bundle()),
            entry("tls.crt", &self.leaf.certificate),
            entry("tls.key", &self.leaf.key),
        ]);
        data.extend(self.ca_key.as_ref().map(|key| entry("ca.key", key)));
        data
    }
}

/// Splits a PEM bundle into its certificates.
fn split(bundle: &str) -> Vec<String> {
    const END: &str = "-----END CERTIFICATE-----";
    let parts = bundle
        .split_inclusive(END)
        .map(str::trim)
        .filter(|part| part.ends_with(END));
    parts.map(|part| format!("{part}\n")).collect()
}

/// Whether somebody else made the Secret: it has a certificate but no CA key.
pub(super) fn brought(secret: &Secret) -> bool {
    let has = |key: &str| secret.data.as_ref().is_some_and(|data| data.contains_key(key));
    has("tls.crt") && !has("ca.key")
}

#[cfg(test)]
#[path = "stored_tests.rs"]
mod tests;
