//! Names and pages.

use super::*;
use std::collections::BTreeSet;

/// The page of a node on which everything has been told once; a family without a value is not on it.
fn full_page() -> String {
    let metrics = NodeMetrics::new();
    metrics.alarm("stalled").set(1);
    metrics.machine.version("1.0.0");
    metrics.machine.disk("log", 2, 1);
    metrics.render()
}

#[test]
fn every_family_is_documented() {
    let page = full_page();
    let described = include_str!("../../../../docs/operations/metrics.md");
    let mut named = BTreeSet::new();
    for line in page.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap_or_default();
        // Labels follow the name.
        let written = ["`", "{"].map(|end| format!("`{name}{end}"));
        let is_described = written.iter().any(|name| described.contains(name));
        assert!(is_described, "{name} is missing");
        assert!(named.insert(name), "{name} is described twice");
    }
}

/// The families that an expression names, without the endings that the text format adds.
fn named_in(rules: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = rules
        .lines()
        .filter(|line| line.trim_start().starts_with("expr:"));
    let words = words.flat_map(|line| line.split(|c| !is_name(c)));
    let names = words.filter(|word| word.starts_with("floeberg_"));
    names
        .map(|name| {
            let endings = ["_total", "_bucket", "_count", "_sum"];
            let bare = endings.iter().find_map(|end| name.strip_suffix(end));
            bare.unwrap_or(name).to_owned()
        })
        .collect()
}

#[test]
fn every_alert_asks_for_what_a_node_has() {
    let page = full_page();
    let rules = include_str!("../../../../docs/operations/alerts.yml");
    let named = named_in(rules);
    assert!(named.len() >= 10, "{named:?}");
    for name in named {
        let family = format!("# TYPE {name} ");
        assert!(page.contains(&family), "no node has {name}");
    }
}

#[test]
fn the_page_names_every_recorded_request() {
    let metrics = NodeMetrics::new();
    metrics.raft_log.fsyncs.inc();
    metrics.http.record(
        HttpLabels {
            api: "iceberg",
            operation: "updateTable",
            status: 409,
        },
        0.001,
    );
    let page = metrics.render();
    assert!(page.contains("floeberg_raft_log_fsyncs_total 1"), "{page}");
    assert!(
        page.contains(r#"operation="updateTable",status="409""#),
        "{page}"
    );
}
