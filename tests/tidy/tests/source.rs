//! Lengths, headers and words of the source tree. Lengths are a ratchet: the lists of exceptions in
//! `docs/lengths.toml` may only shrink.

use floeberg_test_tidy::{functions, production_part, root, rust_files};
use serde::Deserialize;
use std::collections::BTreeMap;

const FUNCTION_LINES_MAX: usize = 70;
const FILE_LINES_MAX: usize = 500;

#[derive(Deserialize, Default)]
struct Exceptions {
    #[serde(default)]
    files: BTreeMap<String, usize>,
    #[serde(default)]
    functions: BTreeMap<String, usize>,
}

fn sources() -> Vec<(String, String)> {
    let root = root();
    let mut out = Vec::new();
    for top in ["crates", "tests"] {
        for file in rust_files(&root.join(top)) {
            let name = file
                .strip_prefix(&root)
                .expect("below the root")
                .display()
                .to_string();
            out.push((
                name,
                std::fs::read_to_string(&file).expect("readable source"),
            ));
        }
    }
    assert!(out.len() > 50, "the source tree was not found");
    out
}

fn is_test(name: &str) -> bool {
    name.starts_with("tests/") || name.contains("/tests/") || name.ends_with("tests.rs")
}

#[test]
fn every_file_says_what_it_owns() {
    let missing: Vec<_> = sources()
        .into_iter()
        .filter(|(_, t)| !t.starts_with("//!"))
        .map(|(n, _)| n)
        .collect();
    assert!(
        missing.is_empty(),
        "open these files with `//!`: {missing:#?}"
    );
}

#[test]
fn functions_and_files_stay_short() {
    let text = std::fs::read_to_string(root().join("docs/lengths.toml")).unwrap_or_default();
    let allowed: Exceptions = toml::from_str(&text).expect("lengths.toml parses");
    let mut broken = Vec::new();
    for (name, text) in sources().iter().filter(|(n, _)| !is_test(n)) {
        let part = production_part(text);
        let lines = part.lines().count();
        if lines > allowed.files.get(name).copied().unwrap_or(FILE_LINES_MAX) {
            broken.push(format!("{name}: {lines} lines"));
        }
        for (function, at, lines) in functions(part) {
            let key = format!("{name}::{function}");
            if lines
                > allowed
                    .functions
                    .get(&key)
                    .copied()
                    .unwrap_or(FUNCTION_LINES_MAX)
            {
                broken.push(format!("{name}:{at}: `{function}` has {lines} lines"));
            }
        }
    }
    assert!(broken.is_empty(), "split these: {broken:#?}");
}

#[test]
fn no_name_says_nothing() {
    let banned = ["Manager", "Helper", "Util", "Common"];
    for (name, text) in sources().iter().filter(|(n, _)| !is_test(n)) {
        for line in production_part(text).lines() {
            let trimmed = line.trim_start();
            let declares = ["struct ", "enum ", "trait ", "mod "].iter().any(|k| {
                trimmed.starts_with(k)
                    || trimmed.starts_with(&format!("pub {k}"))
                    || trimmed.starts_with(&format!("pub(crate) {k}"))
            });
            assert!(
                !declares || !banned.iter().any(|b| trimmed.contains(b)),
                "{name}: `{trimmed}` needs a name from the domain"
            );
        }
    }
}
