use super::*;

fn remote() -> Vec<RemoteRef> {
    [
        ("HEAD", 'a', None),
        ("refs/heads/main", 'a', None),
        ("refs/heads/feature/x", 'b', None),
        ("refs/pull/1/head", 'c', None),
        ("refs/tags/1.0.0", '1', None),
        ("refs/tags/v1.0.0", '2', None),
        ("refs/tags/v1.4.0", '3', Some('4')),
        ("refs/tags/v2.0.0-rc.1", '5', None),
        ("refs/tags/nightly", '6', None),
    ]
    .into_iter()
    .map(|(name, oid, peeled)| RemoteRef {
        name: name.to_owned(),
        oid: id(oid),
        peeled: peeled.map(id),
    })
    .collect()
}

fn id(digit: char) -> String {
    digit.to_string().repeat(40)
}

fn reference(fields: &[(&str, &str)]) -> GitRef {
    let mut reference = GitRef::default();
    for (field, value) in fields {
        let value = Some((*value).to_owned());
        match *field {
            "branch" => reference.branch = value,
            "tag" => reference.tag = value,
            "semver" => reference.semver = value,
            "name" => reference.name = value,
            _ => reference.commit = value,
        }
    }
    reference
}

#[test]
fn references_resolve_with_flux_precedence_and_revisions() {
    let check = |fields: &[(&str, &str)], expect: &str| {
        let selection = select(Some(&reference(fields)), &remote()).unwrap();
        assert_eq!(selection.revision(), expect, "{fields:?}");
    };
    let commit = id('d');
    check(&[("branch", "main")], &format!("main@sha1:{}", id('a')));
    check(&[("branch", "feature/x")], &format!("feature/x@sha1:{}", id('b')));
    check(
        &[("branch", "main"), ("tag", "nightly")],
        &format!("nightly@sha1:{}", id('6')),
    );
    check(&[("tag", "v1.4.0")], &format!("v1.4.0@sha1:{}", id('4')));
    check(
        &[("tag", "nightly"), ("semver", "1.x")],
        &format!("v1.4.0@sha1:{}", id('4')),
    );
    check(&[("semver", "~1.0.0")], &format!("v1.0.0@sha1:{}", id('2')));
    check(&[("semver", ">=1.0.0-0")], &format!("v2.0.0-rc.1@sha1:{}", id('5')));
    check(
        &[("semver", "1"), ("name", "refs/pull/1/head")],
        &format!("refs/pull/1/head@sha1:{}", id('c')),
    );
    check(
        &[("name", "refs/tags/v1.4.0^{}")],
        &format!("refs/tags/v1.4.0^{{}}@sha1:{}", id('4')),
    );
    check(
        &[("name", "refs/heads/main"), ("commit", &commit)],
        &format!("sha1:{commit}"),
    );
    check(
        &[("branch", "main"), ("commit", &commit)],
        &format!("main@sha1:{commit}"),
    );
    check(
        &[("branch", ""), ("tag", "nightly")],
        &format!("nightly@sha1:{}", id('6')),
    );
}

#[test]
fn without_a_reference_the_branch_master_is_meant() {
    let refs = [RemoteRef {
        name: "refs/heads/master".to_owned(),
        oid: id('e'),
        peeled: None,
    }];
    assert_eq!(
        select(None, &refs).unwrap().revision(),
        format!("master@sha1:{}", id('e'))
    );
}

#[test]
fn errors_name_the_reference_and_what_exists_nearby() {
    let check = |fields: &[(&str, &str)], expect: &str| {
        let error = select(Some(&reference(fields)), &remote()).unwrap_err();
        assert_eq!(error.to_string(), expect, "{fields:?}");
    };
    check(
        &[("branch", "mian")],
        "couldn't find remote ref \"refs/heads/mian\": its branches are main, feature/x",
    );
    check(
        &[("tag", "v1.4.1")],
        "couldn't find remote ref \"refs/tags/v1.4.1\": its tags are v1.4.0, v1.0.0, v2.0.0-rc.1, 1.0.0, nightly",
    );
    check(
        &[("semver", ">=3")],
        "no match found for semver: >=3; the highest version tag is v2.0.0-rc.1",
    );
    check(
        &[("semver", "one")],
        "spec.ref.semver: \"one\" is not a version range: \"one\" is not a version",
    );
    check(
        &[("commit", "abc")],
        "spec.ref.commit \"abc\" is not a commit id of 40 hexadecimal digits",
    );
    check(
        &[("name", "refs/pull/2/head")],
        "couldn't find remote ref \"refs/pull/2/head\": its references are pull/1/head, heads/feature/x, heads/main, \
         tags/1.0.0, tags/nightly and 3 more",
    );
    let empty = select(None, &[]).unwrap_err();
    assert_eq!(empty.to_string(), "git repository is empty");
}

#[test]
fn revisions_are_read_back() {
    let commit = id('a');
    let check = |revision: String, expect: Option<&str>| {
        let expect = expect.map(|label| (label, commit.as_str()));
        assert_eq!(parse_revision(&revision), expect, "{revision}");
    };
    check(format!("main@sha1:{commit}"), Some("main"));
    check(format!("a@b@sha1:{commit}"), Some("a@b"));
    check(format!("sha1:{commit}"), Some(""));
    check(format!("main@sha256:{commit}"), None);
    check("main@sha1:abc".to_owned(), None);
    check(String::new(), None);
}
