use super::*;

/// Each row: a range, versions in it, versions outside of it.
const TABLE: &[(&str, &str, &str)] = &[
    ("", "0.0.0 1.2.3", "1.0.0-alpha"),
    ("*", "0.0.0 1.2.3", "1.0.0-alpha"),
    ("=2.0.0", "2.0.0 2.0.0+build", "1.2.3 2.0.1"),
    ("2.0.0", "2.0.0", "2.0.1"),
    ("v2.0.0", "2.0.0", "2.0.1"),
    ("= 2.0", "2.0.0 2.0.9", "2.1.0"),
    ("4.1", "4.1.0 4.1.7", "4.2.0 4.0.9"),
    ("4", "4.0.0 4.9.1", "5.0.0 3.9.9"),
    ("2.x", "2.1.1 2.0.0", "3.1.1 1.9.9"),
    ("2.X.*", "2.1.1", "3.1.1"),
    ("1.2.x", "1.2.0 1.2.9", "1.3.0"),
    ("!=4.1.0", "4.1.1 5.1.0", "4.1.0"),
    ("!=4.x", "5.1.0 3.0.0", "4.1.0 4.0.0"),
    ("!=4.2.x", "4.1.0 4.3.0", "4.2.0 4.2.3"),
    (">1.1", "1.2.0 2.0.0", "1.1.0 1.1.9"),
    (">1.1.0", "1.1.1", "1.1.0"),
    (">11", "12.0.0", "11.0.0 11.1.0"),
    (">11.1", "11.2.1 12.0.0", "11.1.0 11.1.1"),
    ("<0.0.5", "0.0.4", "0.0.5 0.1.0"),
    ("<4.x", "3.9.9", "4.0.0"),
    (">=11.1.3", "11.1.3 11.1.4", "11.1.2"),
    ("=>11.1.3", "11.1.3", "11.1.2"),
    ("<=11", "11.2.3 1.0.0", "12.2.3"),
    ("<=11.2.3", "11.2.3", "11.2.4"),
    ("=<1.3.x", "1.3.9 1.2.0 0.9.9", "1.4.0 2.0.0"),
    ("~1.2.3", "1.2.3 1.2.8", "1.2.2 1.3.0"),
    ("~1", "1.0.0 1.9.9", "2.0.0"),
    ("~>1.2", "1.2.0 1.2.9", "1.3.0"),
    ("~2.3.x", "2.3.0 2.3.5", "2.4.0"),
    ("~*", "0.1.0 2.1.1", ""),
    ("^1.2.3", "1.2.3 1.8.9", "1.2.2 2.0.0"),
    ("^1.2.x", "1.2.0 1.3.0", "1.1.9 2.0.0"),
    ("^2.3", "2.3.0 2.9.9", "3.0.0 2.2.9"),
    ("^2.x", "2.0.0 2.9.9", "3.0.0"),
    ("^0.2.3", "0.2.3 0.2.9", "0.3.0 0.2.2 1.0.0"),
    ("^0.2", "0.2.0 0.2.9", "0.3.0"),
    ("^0.0.3", "0.0.3", "0.0.4 0.1.0"),
    ("^0.0", "0.0.0 0.0.9", "0.1.0"),
    ("^0", "0.0.0 0.9.9", "1.0.0"),
    ("^*", "0.1.0 3.0.0", ""),
    ("1.1 - 2", "1.1.0 1.9.9 2.0.0 2.9.9", "1.0.9 3.0.0"),
    ("1.1.0 - 2.3.4", "1.1.0 2.3.4", "2.3.5"),
    ("1.5.0 - 4.5", "3.7.0 4.5.9", "4.6.0 1.4.9"),
    (">=1.1, <2, !=1.2.3", "1.1.0 1.2.4", "1.2.3 2.0.0"),
    (">= 1.1 < 2.0", "1.5.0", "2.0.0 1.0.0"),
    (">=1.1,<2", "1.5.0", "2.0.0"),
    (">=1 <2 || >=3", "1.5.0 3.0.0 9.0.0", "2.5.0 0.9.0"),
    ("1.0.0 || 1.5.x||2", "1.0.0 1.5.9 2.8.0", "1.6.0"),
    // Prereleases: only where the alternative names one.
    (">=1.0.0", "1.0.1", "1.1.0-rc.1"),
    (">=1.0.0-0", "1.1.0-rc.1 1.0.0-alpha 1.0.0", "0.9.9"),
    (">=0.2.3-beta.1, <1", "0.2.3-beta.2 0.9.0", "0.2.3-alpha 1.0.0"),
    ("^1.0.0-alpha", "1.0.0-beta 1.2.0-rc.1 1.2.0", "2.0.0-alpha"),
    ("~1.2.3-beta.2", "1.2.3-beta.4 1.2.4", "1.3.0-beta 1.2.3-beta.1"),
    ("1.x-0", "1.2.0-alpha", "2.0.0-alpha"),
    ("1.0.0-rc.1", "1.0.0-rc.1", "1.0.0-rc.2 1.0.0"),
    (">1 || >=2.0.0-0", "2.1.0-rc.1", "1.9.0-rc.1"),
];

#[test]
fn ranges_match_what_masterminds_semver_documents() {
    for (range, inside, outside) in TABLE {
        let parsed = Range::parse(range).unwrap();
        let check = |version: &str, expect: bool| {
            let version = Version::parse(version).unwrap();
            assert_eq!(parsed.matches(&version), expect, "{range:?} and {version}");
        };
        inside.split_whitespace().for_each(|version| check(version, true));
        outside.split_whitespace().for_each(|version| check(version, false));
    }
}

#[test]
fn what_is_no_range_is_refused_with_its_reason() {
    let check = |range: &str, reason: &str| {
        let error = Range::parse(range).unwrap_err().to_string();
        assert_eq!(error, format!("{range:?} is not a version range: {reason}"));
    };
    check("foo", "\"foo\" is not a version");
    check(">", "an operator is not followed by a version");
    check("> 1.2,", "it ends with a comma");
    check("1.2.3.4", "\"1.2.3.4\" is not a version");
    check("1..2", "\"1..2\" is not a version");
    check(">=1 <2 || bar", "\"bar\" is not a version");
    check(">1 - 2", "a range \"1 - …\" takes no operator");
    check("1 - ", "\"-\" is not a version");
    check("99999999999999999999", "\"99999999999999999999\" is not a version");
    check("1.2.3-", "\"1.2.3-\" is not a version");
    assert!(Range::parse(&"1 ".repeat(MAX_LENGTH)).is_err());
}

#[test]
fn a_tag_is_a_version_only_when_it_is_complete() {
    for (tag, expect) in [
        ("1.2.3", true),
        ("v1.2.3", true),
        ("v1.2.3-rc.1+b", true),
        ("v1.2", false),
        ("1", false),
        ("release-1.2.3", false),
        ("vv1.2.3", false),
    ] {
        assert_eq!(parse_tag(tag).is_some(), expect, "{tag}");
    }
}
