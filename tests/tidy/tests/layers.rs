//! The dependency graph obeys `docs/layers.toml`.

use floeberg_test_tidy::{cargo, root};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Deserialize)]
struct Rules {
    layers: BTreeMap<String, u32>,
    pure: Pure,
    confined: BTreeMap<String, Vec<String>>,
    status_codes: StatusCodes,
}

#[derive(Deserialize)]
struct Pure {
    crates: Vec<String>,
    impure_external: Vec<String>,
}

#[derive(Deserialize)]
struct StatusCodes {
    crates: Vec<String>,
}

fn rules() -> Rules {
    let text = std::fs::read_to_string(root().join("docs/layers.toml")).expect("layers.toml");
    toml::from_str(&text).expect("layers.toml parses")
}

/// Of this platform only: a new machine has not downloaded what others need.
fn metadata() -> Value {
    let version = cargo(&["-vV"]);
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let platform = ["--filter-platform", host.expect("cargo names its host")];
    let metadata = ["metadata", "--format-version", "1", "--locked", "--offline"];
    let text = cargo(&[&metadata[..], &platform].concat());
    serde_json::from_str(&text).expect("cargo metadata prints JSON")
}

/// Package name to the names of its normal and build dependencies, transitively resolvable.
struct Graph {
    names: BTreeMap<String, String>,
    edges: BTreeMap<String, Vec<String>>,
    direct: BTreeMap<String, BTreeSet<String>>,
}

fn graph() -> Graph {
    let meta = metadata();
    let mut names = BTreeMap::new();
    for package in meta["packages"].as_array().expect("packages") {
        let id = package["id"].as_str().expect("id").to_owned();
        names.insert(id, package["name"].as_str().expect("name").to_owned());
    }
    let mut edges = BTreeMap::new();
    let mut direct: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for node in meta["resolve"]["nodes"].as_array().expect("nodes") {
        let id = node["id"].as_str().expect("id").to_owned();
        let mut out = Vec::new();
        for dep in node["deps"].as_array().expect("deps") {
            let normal = dep["dep_kinds"]
                .as_array()
                .expect("kinds")
                .iter()
                .any(|k| k["kind"].is_null());
            if normal {
                let to = dep["pkg"].as_str().expect("pkg").to_owned();
                direct
                    .entry(names[&id].clone())
                    .or_default()
                    .insert(names[&to].clone());
                out.push(to);
            }
        }
        edges.insert(id, out);
    }
    Graph {
        names,
        edges,
        direct,
    }
}

impl Graph {
    fn reaches(&self, package: &str) -> BTreeSet<String> {
        let start = self
            .names
            .iter()
            .find(|(_, n)| *n == package)
            .expect("a known package")
            .0;
        let mut seen = BTreeSet::new();
        let mut stack = vec![start.clone()];
        while let Some(id) = stack.pop() {
            for next in &self.edges[&id] {
                if seen.insert(self.names[next].clone()) {
                    stack.push(next.clone());
                }
            }
        }
        seen
    }
}

#[test]
fn crates_depend_only_downwards() {
    let (rules, graph) = (rules(), graph());
    let mut broken = Vec::new();
    for (package, deps) in &graph.direct {
        let Some(name) = package.strip_prefix("floeberg-") else {
            continue;
        };
        if name.starts_with("test-") {
            continue;
        }
        let Some(layer) = rules.layers.get(name) else {
            broken.push(format!("{name} has no layer in docs/layers.toml"));
            continue;
        };
        for dep in deps.iter().filter_map(|d| d.strip_prefix("floeberg-")) {
            match rules.layers.get(dep) {
                Some(lower) if lower < layer => {}
                _ => broken.push(format!("{name} must not depend on {dep}")),
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_folder_under_crates_has_a_layer() {
    let rules = rules();
    let folders: BTreeSet<String> = std::fs::read_dir(root().join("crates"))
        .expect("crates")
        .map(|e| e.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    let listed: BTreeSet<String> = rules.layers.keys().cloned().collect();
    assert_eq!(folders, listed);
}

#[test]
fn pure_crates_reach_no_runtime() {
    let (rules, graph) = (rules(), graph());
    for name in &rules.pure.crates {
        let reached = graph.reaches(&format!("floeberg-{name}"));
        for banned in &rules.pure.impure_external {
            assert!(
                !reached.contains(banned),
                "{name} is pure but reaches {banned}"
            );
        }
    }
}

#[test]
fn confined_dependencies_stay_where_they_belong() {
    let (rules, graph) = (rules(), graph());
    for (external, allowed) in &rules.confined {
        for (package, deps) in &graph.direct {
            let Some(name) = package.strip_prefix("floeberg-") else {
                continue;
            };
            if name.starts_with("test-") || !deps.contains(external) {
                continue;
            }
            assert!(
                allowed.iter().any(|a| a == name),
                "{name} must not depend on {external}"
            );
        }
    }
}

#[test]
fn only_protocol_crates_know_status_codes() {
    let rules = rules();
    for name in rules
        .layers
        .keys()
        .filter(|n| !rules.status_codes.crates.contains(n))
    {
        for file in floeberg_test_tidy::rust_files(&root().join("crates").join(name).join("src")) {
            let text = std::fs::read_to_string(&file).expect("readable source");
            assert!(
                !text.contains("StatusCode") && !text.contains("http::status"),
                "{} names a status code",
                file.display()
            );
        }
    }
}

#[test]
fn every_crate_takes_the_workspace_lints() {
    for folder in std::fs::read_dir(root().join("crates")).expect("crates") {
        let manifest = folder.expect("entry").path().join("Cargo.toml");
        let text = std::fs::read_to_string(&manifest).expect("a manifest");
        assert!(
            text.contains("[lints]\nworkspace = true"),
            "{}",
            manifest.display()
        );
    }
}
