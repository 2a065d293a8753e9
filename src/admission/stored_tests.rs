//! The decision table of rotation, and five years of it in one test.

use super::*;
use crate::admission::certs::{CA_LIFE, LEAF_LIFE};
use crate::admission::rotate::names;

fn provider() {
    let _ = rustls::crypto::ring::default_provider().install_default();
}

fn start_of_time() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn wanted() -> Vec<String> {
    names("weir-webhook", "flux-system", None)
}

fn made(now: Timestamp) -> Stored {
    carry_out(&Step::Create, None, &wanted(), now).unwrap().unwrap()
}

#[test]
fn what_is_done_with_the_secret_that_is_there() {
    let born = start_of_time();
    let days = |count: i64| born + SignedDuration::from_hours(24 * count);
    let stored = made(born);
    let check = |what: &str, stored: Option<&Stored>, now: Timestamp, expect: &str| {
        let step = plan(stored, &wanted(), now);
        let step = format!("{step:?}");
        assert!(step.starts_with(expect), "{what}: {step}");
    };
    check("nothing there", None, born, "Create");
    check("just made", Some(&stored), born, "Keep");
    check("59 days old", Some(&stored), days(59), "Keep");
    check("one third left", Some(&stored), days(61), "RenewLeaf");
    check("leaf expired", Some(&stored), days(91), "RenewLeaf");
    let mut fresh = stored.clone();
    fresh.leaf_facts.expires = days(560);
    check("CA at one third", Some(&fresh), days(490), "RenewCa");
    check("CA expired", Some(&stored), days(731), "Create");

    let mut renamed = stored.clone();
    renamed.leaf_facts.names = vec!["other".into()];
    check("another name", Some(&renamed), born, "RenewLeaf");

    let two = carry_out(&Step::RenewCa, Some(&stored), &wanted(), days(30))
        .unwrap()
        .unwrap();
    assert_eq!(two.cas.len(), 2);
    assert_eq!(two.leaf, stored.leaf, "the leaf stays when a CA joins");
    check(
        "new CA not settled",
        Some(&two),
        days(30) + SignedDuration::from_mins(9),
        "Keep",
    );
    check(
        "new CA settled",
        Some(&two),
        days(30) + SignedDuration::from_mins(10),
        "RenewLeaf",
    );
    let signed = carry_out(&Step::RenewLeaf, Some(&two), &wanted(), days(31))
        .unwrap()
        .unwrap();
    assert_eq!(signed.leaf_facts.issuer, two.cas[0].1.subject);
    check("signed by the new CA", Some(&signed), days(31), "Keep");

    let mut foreign = stored;
    foreign.ca_key = None;
    check("brought by somebody else", Some(&foreign), days(200), "Keep");
}

#[test]
fn the_next_look_is_when_something_is_due() {
    let born = start_of_time();
    let stored = made(born);
    let Step::Keep(due) = plan(Some(&stored), &wanted(), born) else {
        panic!("due at once")
    };
    let third = LEAF_LIFE / 3;
    let from_end = (born + LEAF_LIFE).duration_since(due);
    assert!((from_end - third).abs() < SignedDuration::from_hours(1), "{from_end:?}");
    assert_eq!(plan(Some(&stored), &wanted(), due), Step::RenewLeaf);
}

#[test]
fn for_five_years_every_client_trusts_what_is_served() {
    provider();
    let mut now = start_of_time();
    let mut stored = made(now);
    let end = now + SignedDuration::from_hours(24 * 365 * 5);
    // What clients were told, and when they were told of each CA.
    let mut told: Vec<(Vec<u8>, Timestamp)> = vec![(stored.cas[0].1.subject.clone(), now)];
    let (mut leaves, mut cas) = (1, 1);
    while now < end {
        now += SignedDuration::from_mins(30);
        let step = plan(Some(&stored), &wanted(), now);
        if let Some(new) = carry_out(&step, Some(&stored), &wanted(), now).unwrap() {
            let secret = Secret {
                data: Some(new.data()),
                ..Secret::default()
            };
            assert_eq!(Stored::read(&secret).unwrap(), new, "what is written is read again");
            leaves += usize::from(step == Step::RenewLeaf);
            cas += usize::from(step == Step::RenewCa);
            assert_ne!(step, Step::Create, "trust was broken at {now}");
            stored = new;
            for (_, facts) in &stored.cas {
                if !told.iter().any(|(subject, _)| subject == &facts.subject) {
                    told.push((facts.subject.clone(), now));
                }
            }
        }
        let leaf = &stored.leaf_facts;
        assert!(leaf.begins <= now && now < leaf.expires, "expired at {now}");
        assert!(
            stored.cas.iter().any(|(_, ca)| ca.subject == leaf.issuer),
            "signer not in the bundle at {now}"
        );
        let since = told.iter().find(|(subject, _)| *subject == leaf.issuer).unwrap().1;
        let settle = if since == start_of_time() {
            SignedDuration::ZERO
        } else {
            SETTLE
        };
        assert!(leaf.begins + BACKDATE >= since + settle, "served before it was told");
        assert!(stored.cas.len() <= 2);
    }
    assert!((28..=36).contains(&leaves), "{leaves} leaves");
    assert!((4..=5).contains(&cas), "{cas} CAs of {CA_LIFE:?}");
}

#[test]
fn a_secret_that_cannot_be_used_says_why() {
    provider();
    let stored = made(start_of_time());
    let check = |key: &str, value: Option<&[u8]>, expect: &str| {
        let mut data = stored.data();
        match value {
            Some(value) => data.insert(key.to_owned(), ByteString(value.to_vec())),
            None => data.remove(key),
        };
        let secret = Secret {
            data: Some(data),
            ..Secret::default()
        };
        let error = Stored::read(&secret).unwrap_err().to_string();
        assert!(error.starts_with(expect), "{error}");
    };
    check("tls.crt", None, "tls.crt cannot be read: the secret does not have it");
    check("tls.key", Some(b"junk"), "tls.key cannot be read: ");
    check("ca.crt", Some(&[0xff, 0xfe]), "ca.crt cannot be read: it is not text");
    let other = made(start_of_time());
    check(
        "tls.key",
        Some(other.leaf.key.as_bytes()),
        "tls.crt and tls.key cannot be served: ",
    );
}

#[test]
fn a_secret_without_the_key_of_its_ca_was_brought() {
    let mut data = made(start_of_time()).data();
    let secret = |data: &BTreeMap<String, ByteString>| Secret {
        data: Some(data.clone()),
        ..Secret::default()
    };
    assert!(!brought(&secret(&data)));
    data.remove("ca.key");
    assert!(brought(&secret(&data)));
    assert!(!brought(&Secret::default()), "an empty secret is filled");
}
