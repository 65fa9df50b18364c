//! `docs/limits.md` lists every limit with its value, and nothing that is none.

use floeberg_types::limits;
use std::collections::BTreeMap;

/// The rows of the page: a constant's name and the number behind it.
fn rows(page: &str) -> BTreeMap<String, usize> {
    let mut rows = BTreeMap::new();
    for line in page.lines() {
        let mut cells = line.split('|').map(str::trim).skip(1);
        let (Some(name), Some(value)) = (cells.next(), cells.next()) else {
            continue;
        };
        let Some(name) = name.strip_prefix('`').and_then(|n| n.strip_suffix('`')) else {
            continue;
        };
        let digits: String = value.chars().filter(|c| *c != ',').collect();
        let value = digits.parse().expect("a number with or without commas");
        assert_eq!(rows.insert(name.to_owned(), value), None, "{name} twice");
    }
    rows
}

#[test]
fn the_page_says_what_the_code_does() {
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/limits.md");
    let page = std::fs::read_to_string(page).expect("docs/limits.md");
    let named = limits::ALL.iter();
    let named: BTreeMap<String, usize> = named.map(|(n, v)| ((*n).to_owned(), *v)).collect();
    assert_eq!(rows(&page), named);
}

#[test]
fn a_refusal_names_the_limit_and_what_to_do() {
    let refused = limits::check("tables of one transaction", 2001, 2000, "split it");
    assert_eq!(
        refused.expect_err("above").to_string(),
        "tables of one transaction: 2001 are more than the limit of 2000; split it"
    );
    assert_eq!(limits::check("tables", 2000, 2000, ""), Ok(()));
}
