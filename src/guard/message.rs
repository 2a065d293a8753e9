//! What the person reads whose change is refused, in a terminal, behind kubectl's own words.
//!
//! It answers four questions in this order: what exactly is refused, whose it is, who wrote it and where, and what to do
//! instead. Guarantees: no value of a Secret and no credential of a URL is shown; nothing that came from elsewhere can
//! send control characters to the terminal; the text is bounded, whatever the size of the change.

use serde_json::Value;

use super::{Change, Operation, Owner, modes};
use crate::core::fields::{FieldChange, Path};
use crate::core::object::ObjectRef;

/// How many fields are named. A screen of 24 lines holds these, the owner and the remedies.
const MAX_FIELDS: usize = 5;
/// Longest part of a value that is shown, so that old, new and a short path fit on two lines of a terminal.
const MAX_VALUE: usize = 60;
/// Longest path, URL or other foreign text: annotation keys may have 317 characters, and nest under long paths.
const MAX_TEXT: usize = 200;
/// Longest warning: the API server cuts longer ones (`admission/v1` advises 256 characters at most).
const MAX_WARNING: usize = 256;
/// How much of what two long values have in common is shown before they part.
const CONTEXT: usize = 12;
/// Characters of a commit id that people use.
const SHORT_ID: usize = 8;
/// Stands for a value of a Secret.
const HIDDEN: &str = "(hidden)";

/// What a refused request would do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Facts {
    /// It makes the object.
    Created,
    /// It deletes the object.
    Deleted,
    /// It changes declared fields.
    Changed(Vec<FieldChange>),
    /// It changes owner labels or control markers.
    Marked(Vec<FieldChange>),
    /// It takes fields out of our entry in `managedFields`.
    Disowned,
    /// The declared fields cannot be read.
    Unreadable(String),
}

impl Facts {
    /// The fields in question.
    pub(super) fn fields(&self) -> std::slice::Iter<'_, FieldChange> {
        match self {
            Self::Changed(fields) | Self::Marked(fields) => fields.iter(),
            _ => [].iter(),
        }
    }
}

/// The text of a denial.
pub(super) fn explain(change: &Change, owner: &Owner, facts: &Facts) -> String {
    let object = &change.object;
    let mut lines = vec![headline(object, facts)];
    let secret = is_secret(object) && !matches!(facts, Facts::Marked(_));
    let fields = facts.fields();
    lines.extend(
        fields
            .take(MAX_FIELDS)
            .map(|field| format!("  {}", describe(field, secret))),
    );
    match facts.fields().len().saturating_sub(MAX_FIELDS) {
        0 => {}
        more => lines.push(format!("  and {more} more")),
    }
    lines.extend(provenance(owner));
    lines.extend(remedies(change, owner, facts));
    lines.join("\n")
}

/// One line for a request that goes on although it changes what Git declares.
pub(super) fn warning(change: &Change, owner: &Owner, facts: &Facts, consequence: &str) -> String {
    let what = match facts {
        Facts::Created | Facts::Deleted | Facts::Disowned | Facts::Unreadable(_) => "it".to_owned(),
        Facts::Changed(fields) | Facts::Marked(fields) => {
            let first = fields.first().map(|field| field.path.to_string()).unwrap_or_default();
            match fields.len() {
                0 | 1 => first,
                n => format!("{first} and {} more", n - 1),
            }
        }
    };
    let text = format!(
        "{}: {what} belongs to {}; {consequence}",
        change.object,
        kustomization(owner)
    );
    clean(&text, MAX_WARNING)
}

/// One line for a request whose effect on declared fields cannot be seen at the door.
pub(super) fn unseen(change: &Change, owner: &Owner) -> String {
    let text = format!(
        "{} belongs to {}; if Git declares what this changes, Weir puts it back",
        change.object,
        kustomization(owner)
    );
    clean(&text, MAX_WARNING)
}

/// A change of a field for people: `spec.replicas: 2 → 5`, bounded, and without what a Secret holds.
#[must_use]
pub fn shown_change(object: &ObjectRef, change: &FieldChange) -> String {
    describe(change, is_secret(object))
}

/// A value of a field for people, bounded, and without what a Secret holds.
#[must_use]
pub fn shown_value(object: &ObjectRef, path: &Path, value: &Value) -> String {
    if is_secret(object) && !is_public_in_secret(path) {
        return HIDDEN.to_owned();
    }
    clean(&value.to_string(), MAX_VALUE)
}

/// The text for a request that makes something in a strict namespace.
pub(super) fn strict(change: &Change) -> String {
    let namespace = clean(&change.object.namespace, MAX_TEXT);
    format!(
        "{} cannot be made by hand: Namespace {namespace} takes only what comes from Git.\n\
         To have it made, add it to the repository of a Kustomization that deploys into {namespace}, and push.\n\
         The namespace says so by its label {}={}.\n\
         In an emergency, an Exemption that lifts strict lets named people in: kubectl explain exemptions.weir.dev",
        clean(&change.object.to_string(), MAX_TEXT),
        modes::GUARD,
        modes::STRICT,
    )
}

/// One line for a request that makes something in a strict namespace under an Exemption.
pub(super) fn made_under(change: &Change, consequence: &str) -> String {
    let text = format!(
        "{}: Namespace {} takes only what comes from Git; {consequence}",
        change.object, change.object.namespace
    );
    clean(&text, MAX_WARNING)
}

fn headline(object: &ObjectRef, facts: &Facts) -> String {
    let object = clean(&object.to_string(), MAX_TEXT);
    match facts {
        Facts::Created => format!("{object} comes from Git and is made by Weir, not by hand."),
        Facts::Deleted => format!("{object} comes from Git and cannot be deleted by hand."),
        Facts::Changed(fields) if fields.len() == 1 => {
            format!("{object} comes from Git, and so does the field that this request changes:")
        }
        Facts::Changed(_) => format!("{object} comes from Git, and so do the fields that this request changes:"),
        Facts::Marked(_) => {
            format!("{object} comes from Git, and only Git says to whom it belongs and how it is treated:")
        }
        Facts::Disowned => format!(
            "{object} comes from Git, and this request takes fields away from their owner in metadata.managedFields."
        ),
        Facts::Unreadable(error) => format!(
            "{object} comes from Git, but which of its fields do cannot be read ({}), so this request is refused.",
            clean(error, MAX_TEXT)
        ),
    }
}

fn provenance(owner: &Owner) -> Vec<String> {
    let mut lines = vec![format!("It belongs to {}", kustomization(owner))];
    let mut add = |label: &str, text: String| lines.push(format!("  {label:<9} {text}"));
    if !owner.source_name.is_empty() {
        let name = clean(&format!("{} {}", owner.source_kind, owner.source_name), MAX_TEXT);
        match &owner.url {
            Some(url) => add("source:", format!("{name}, {}", public_url(url))),
            None => add("source:", name),
        }
    }
    if let Some(revision) = &owner.revision {
        add("revision:", short_revision(revision));
    }
    if let Some(commit) = &owner.commit {
        let id: String = commit.id.chars().take(SHORT_ID).collect();
        let (subject, author) = (clean(&commit.subject, MAX_VALUE), clean(&commit.author, MAX_VALUE));
        add("commit:", format!("{} \"{subject}\" by {author}", clean(&id, SHORT_ID)));
    }
    match (&owner.file, &owner.path) {
        (Some(file), _) => add("file:", clean(file, MAX_TEXT)),
        (None, Some(path)) => add("path:", clean(path, MAX_TEXT)),
        (None, None) => {}
    }
    lines
}

fn remedies(change: &Change, owner: &Owner, facts: &Facts) -> Vec<String> {
    let place = match (&owner.file, &owner.path) {
        (Some(file), _) => clean(file, MAX_TEXT),
        (None, Some(path)) => format!("its manifest under {}", clean(path, MAX_TEXT)),
        (None, None) => "its manifest".to_owned(),
    };
    let repository = owner
        .url
        .as_deref()
        .map_or(String::new(), |url| format!(" in {}", public_url(url)));
    let publish = if owner.source_kind == "GitRepository" || owner.source_kind.is_empty() {
        "push"
    } else {
        "publish it"
    };
    let mut lines = vec![match change.operation {
        Operation::Delete => format!("To delete it, take it out of {place}{repository} and {publish}."),
        Operation::Create => format!("To have it made, see that {place}{repository} declares it; Weir makes it again."),
        Operation::Update => format!("To change it, edit {place}{repository} and {publish}."),
    }];
    if facts
        .fields()
        .any(|field| field.path == Path::of_fields(["spec", "replicas"]))
    {
        lines.push("If an autoscaler is to set the number, take spec.replicas out of the manifest.".to_owned());
    }
    let (name, namespace) = (clean(&owner.name, MAX_TEXT), clean(&owner.namespace, MAX_TEXT));
    lines.push(format!(
        "To do it by hand for the time being: flux suspend kustomization {name} -n {namespace}"
    ));
    lines.push("In an emergency, an Exemption lets named people in: kubectl explain exemptions.weir.dev".to_owned());
    lines
}

fn describe(field: &FieldChange, secret: bool) -> String {
    let path = clean(&field.path.to_string(), MAX_TEXT);
    let (old, new) = if secret && !is_public_in_secret(&field.path) {
        let hidden = |value: &Option<Value>| value.as_ref().map(|_| HIDDEN.to_owned());
        (hidden(&field.old), hidden(&field.new))
    } else {
        shorten(
            field.old.as_ref().map(Value::to_string),
            field.new.as_ref().map(Value::to_string),
        )
    };
    let (old, new) = (old.unwrap_or("absent".to_owned()), new.unwrap_or("removed".to_owned()));
    format!("{path}: {old} → {new}")
}

/// Shortens two values so that what differs is in view.
fn shorten(old: Option<String>, new: Option<String>) -> (Option<String>, Option<String>) {
    let long = |text: &Option<String>| text.as_ref().is_some_and(|text| text.chars().count() > MAX_VALUE);
    let common = match (&old, &new) {
        (Some(old), Some(new)) if long(&Some(old.clone())) || long(&Some(new.clone())) => {
            old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count()
        }
        _ => 0,
    };
    let start = common.saturating_sub(CONTEXT);
    let cut = |text: String| {
        let rest: String = text.chars().skip(start).collect();
        let lead = if start > 0 { "…" } else { "" };
        format!("{lead}{}", clean(&rest, MAX_VALUE))
    };
    (old.map(cut), new.map(cut))
}

fn is_secret(object: &ObjectRef) -> bool {
    object.group.is_empty() && object.kind == "Secret"
}

/// Annotations are not: tools keep whole copies of the object in them.
fn is_public_in_secret(path: &Path) -> bool {
    [&["metadata", "labels"][..], &["type"], &["immutable"]]
        .iter()
        .any(|public| path.starts_with(&Path::of_fields(public.iter().copied())))
}

fn kustomization(owner: &Owner) -> String {
    clean(&format!("Kustomization {}/{}", owner.namespace, owner.name), MAX_TEXT)
}

/// A revision with its digest shortened: `main@sha1:0123abcd`.
fn short_revision(revision: &str) -> String {
    let (head, digest) = match revision.rsplit_once(':') {
        Some((head, digest)) => (format!("{head}:"), digest),
        None => (String::new(), revision),
    };
    let is_digest = digest.len() > SHORT_ID && digest.chars().all(|c| c.is_ascii_hexdigit());
    let short = if is_digest {
        digest.get(..SHORT_ID).unwrap_or(digest)
    } else {
        digest
    };
    clean(&format!("{head}{short}"), MAX_TEXT)
}

/// A URL without what lets somebody in: user and password of http, the password of ssh, query and fragment.
fn public_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return clean(url, MAX_TEXT);
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = match rest.find('/') {
        Some(slash) => rest.split_at(slash),
        None => (rest, ""),
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, authority),
    };
    // A password with an unescaped slash ends the authority too early; what is left then has a port that is no number.
    let port = host
        .rsplit_once(':')
        .map(|(_, port)| port)
        .filter(|_| !host.ends_with(']'));
    if port.is_some_and(|port| port.chars().any(|c| !c.is_ascii_digit())) {
        return format!("{} (address not shown)", clean(scheme, MAX_TEXT));
    }
    let user = match user.and_then(|user| user.split(':').next()) {
        Some(user) if scheme.starts_with("ssh") => format!("{user}@"),
        _ => String::new(),
    };
    clean(&format!("{scheme}://{user}{host}{path}"), MAX_TEXT)
}

/// Text that is safe to show: without control and direction characters, on one line, at most `limit` characters long.
fn clean(text: &str, limit: usize) -> String {
    let unsafe_char = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut characters = text.chars().map(|c| if unsafe_char(c) { '\u{fffd}' } else { c });
    let mut kept: String = characters.by_ref().take(limit).collect();
    if characters.next().is_some() {
        kept.pop();
        kept.push('…');
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_shown_without_what_lets_somebody_in() {
        let check = |url: &str, expect: &str| assert_eq!(public_url(url), expect, "{url}");
        check("https://git.example.com/a/b.git", "https://git.example.com/a/b.git");
        check(
            "https://user:token@git.example.com:8443/a",
            "https://git.example.com:8443/a",
        );
        check("https://token@git.example.com", "https://git.example.com");
        check("https://us@er:pa@ss@git.example.com/a@b", "https://git.example.com/a@b");
        check(
            "https://git.example.com/a?access_token=x#y",
            "https://git.example.com/a",
        );
        check("https://user:pa/ss@git.example.com/a", "https (address not shown)");
        check("ssh://git@git.example.com/a.git", "ssh://git@git.example.com/a.git");
        check(
            "ssh://git:pw@git.example.com:22/a.git",
            "ssh://git@git.example.com:22/a.git",
        );
        check("http://[::1]:3000/a", "http://[::1]:3000/a");
        check("http://[::1]/a", "http://[::1]/a");
        check("oci://ghcr.io/org/app", "oci://ghcr.io/org/app");
        check("git@github.com:org/app", "git@github.com:org/app");
    }

    #[test]
    fn revisions_are_shown_with_a_short_digest() {
        let check = |revision: &str, expect: &str| assert_eq!(short_revision(revision), expect);
        check(
            "main@sha1:0123456789abcdef0123456789abcdef01234567",
            "main@sha1:01234567",
        );
        check("sha1:0123456789abcdef0123456789abcdef01234567", "sha1:01234567");
        check("v1.2.3@sha256:0123456789abcdef", "v1.2.3@sha256:01234567");
        check("6.5.4", "6.5.4");
        check("main@sha1:not-a-digest", "main@sha1:not-a-digest");
    }

    #[test]
    fn long_values_are_shortened_to_where_they_differ() {
        let check = |old: &str, new: &str, expect: (&str, &str)| {
            let found = shorten(Some(old.to_owned()), Some(new.to_owned()));
            assert_eq!((found.0.unwrap().as_str(), found.1.unwrap().as_str()), expect);
        };
        check("1", "2", ("1", "2"));
        let same = "x".repeat(100);
        check(
            &format!("{same}=a"),
            &format!("{same}=b"),
            ("…xxxxxxxxxxx=a", "…xxxxxxxxxxx=b"),
        );
        let start = "y".repeat(59);
        check("a", &format!("b{same}"), ("a", &format!("b{}…", &same[..58])));
        check(&start, &start, (&start, &start));
    }

    #[test]
    fn nothing_foreign_reaches_the_terminal_as_control() {
        assert_eq!(
            clean("a\u{1b}[31mb\nc\u{202e}d", 99),
            "a\u{fffd}[31mb\u{fffd}c\u{fffd}d"
        );
        assert_eq!(clean("abcdef", 3), "ab…");
        assert_eq!(clean("abc", 3), "abc");
    }
}
