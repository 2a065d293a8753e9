//! One answer in every format.

use super::overlay;

#[test]
fn people_see_file_line_value_title_and_fix() {
    insta::assert_snapshot!(overlay().weir("check apps/production --policies policies"));
}

#[test]
fn the_working_directory_may_be_inside_of_the_repository() {
    let fixture = overlay();
    fixture.write(".git/HEAD", "");
    let outside = fixture.weir("check apps/production --policies policies");
    assert!(outside.contains("apps/base/deployment.yaml:14"), "{outside}");
    let inside = super::command::run(
        &fixture.path("apps/production"),
        "check . --policies ../../policies",
        "",
    );
    assert!(
        inside.stdout.contains("  ../base/deployment.yaml:14\n"),
        "{}",
        inside.stdout
    );
}

#[test]
fn json_has_a_stable_shape() {
    insta::assert_snapshot!(overlay().weir("check apps/production --policies policies -o json"));
}

#[test]
fn sarif_is_for_code_scanning() {
    insta::assert_snapshot!(overlay().weir("check apps/production --policies policies -o sarif"));
}

#[test]
fn junit_is_for_test_reports() {
    insta::assert_snapshot!(overlay().weir("check apps/production --policies policies -o junit"));
}

#[test]
fn github_is_for_annotations() {
    insta::assert_snapshot!(overlay().weir("check apps/production --policies policies -o github"));
}

#[test]
fn explain_accounts_for_every_policy() {
    insta::assert_snapshot!(overlay().weir("check apps/production --policies policies --explain"));
}

#[test]
fn help_says_what_a_path_is() {
    insta::assert_snapshot!(overlay().weir("check --help"));
}
