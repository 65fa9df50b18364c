//! The program and the tests share their third-party code: a feature that only the tests switch on
//! compiles it, and everything above it, a second time.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// Every package with its features, as a selection of the workspace builds it.
fn built(selection: &[&str]) -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2);
    let out = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--offline", "--prefix", "none"])
        .args(["--format", "{p} [{f}]"])
        .args(selection)
        .current_dir(root.expect("two levels up"))
        .output()
        .expect("cargo tree runs");
    let (text, said) = (
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr),
    );
    assert!(out.status.success(), "{said}");
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
