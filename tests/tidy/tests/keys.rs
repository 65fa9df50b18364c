//! Tags of row keys: every crate that stores rows assigns them within its own range, each once.

use floeberg_state::keys::tag::RANGES;
use std::collections::BTreeMap;
use std::path::Path;

/// The tags that a crate's `keys.rs` declares, by name.
fn tags(owner: &str) -> BTreeMap<String, u8> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("two levels up");
    let file = root.join(format!("crates/{owner}/src/keys.rs"));
    let text = std::fs::read_to_string(&file).expect("a file of keys");
    let declared = text.lines().filter_map(|line| {
        let (_, rest) = line.trim().split_once("const ")?;
        let (name, value) = rest.split_once(": u8 = 0x")?;
        let value = u8::from_str_radix(value.trim_end_matches(';'), 16).ok()?;
        name.chars()
            .all(|c| c.is_ascii_uppercase() || c == '_')
            .then(|| (name.to_owned(), value))
    });
    // The state's file also names the bytes of an escape.
    let is_tag = |name: &String| !["ESCAPE", "ESCAPED_ZERO", "TERMINATOR"].contains(&&**name);
    declared.filter(|(name, _)| is_tag(name)).collect()
}

#[test]
fn every_tag_is_in_its_owners_range_and_used_once() {
    let mut used = BTreeMap::new();
    for (owner, range) in RANGES {
        let tags = tags(owner);
        assert!(tags.len() > 2, "the tags of {owner} were not found");
        for (name, tag) in tags {
            assert!(
                range.contains(&tag),
                "{owner}: {name} is outside of its range"
            );
            let before = used.insert(tag, format!("{owner}: {name}"));
            assert_eq!(before, None, "{owner}: {name} is taken");
        }
    }
}
