//! The program and the tests share their third-party code: a feature that only the tests switch on
//! compiles it, and everything above it, a second time.

use floeberg_test_tidy::cargo;
use std::collections::BTreeSet;

/// Every package with its features, as a selection of the workspace builds it.
fn built(selection: &[&str]) -> BTreeSet<String> {
    let tree = ["tree", "--locked", "--offline", "--prefix", "none"];
    let text = cargo(&[&tree[..], &["--format", "{p} [{f}]"], selection].concat());
    let packages = text.lines().map(|line| line.trim_end_matches(" (*)"));
    packages.map(str::to_owned).collect()
}

#[test]
fn tests_switch_on_no_feature_that_the_program_lacks() {
    let program = built(&["--package", "floeberg-cli", "--edges", "no-dev"]);
    let tests = built(&["--workspace"]);
    assert!(program.len() > 100, "{program:?}");
    let twice: Vec<_> = program.difference(&tests).collect();
    assert!(
        twice.is_empty(),
        "built again for the tests, with more features; name those in crates/features: {twice:#?}"
    );
}
