//! Prints the configuration with every key, its meaning and its default.

use crate::keys::{KEYS, Key, Preset};
use std::fmt::Write as _;

const HEAD: &str = "\
# Configuration of a Floeberg node. Lines behind a single `#` show what holds without them.
# `floeberg config check FILE` says what is wrong with a file; unknown keys are refused.
";

/// A complete configuration with comments; it can be used once the names in it are yours.
#[must_use]
pub fn example() -> String {
    let mut out = HEAD.to_owned();
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            section = key.section();
            line(&mut out, &format!("\n[{section}]"));
        }
        print(&mut out, key);
    }
    out
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("writing to a string never fails");
}

fn print(out: &mut String, key: &Key) {
    for text in key.text {
        line(out, &format!("# {text}"));
    }
    let name = key.name();
    match key.preset {
        Preset::Value(value) => line(out, &format!("#{name} = {value}")),
        Preset::Derived { rule, example } => {
            line(out, &format!("#{name} = {example}   # default: {rule}"));
        }
        Preset::Unset(value) => line(out, &format!("#{name} = {value}   # default: not set")),
        Preset::Needed(value) => line(out, &format!("{name} = {value}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Settings;

    fn uncommented(unset_too: bool) -> String {
        let text = example();
        let lines = text.lines().map(|line| {
            let Some(rest) = line.strip_prefix('#').filter(|r| !r.starts_with(' ')) else {
                return line.to_owned();
            };
            if rest.ends_with("# default: not set") && !unset_too {
                return line.to_owned();
            }
            rest.to_owned()
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn the_example_is_usable_and_its_comments_are_the_defaults() {
        let settings = Settings::parse(&example(), &[]).unwrap();
        let spelled_out = Settings::parse(&uncommented(false), &[]).unwrap();
        assert_eq!(settings, spelled_out);
    }

    #[test]
    fn every_key_is_listed_once_below_its_section_and_its_example_is_read() {
        let text = uncommented(true);
        let mut section = "";
        let mut listed = Vec::new();
        for line in text.lines() {
            if let Some(name) = line.strip_prefix('[') {
                section = name.trim_end_matches(']');
            } else if let Some((name, _)) =
                line.split_once(" = ").filter(|_| !line.starts_with('#'))
            {
                listed.push(format!("{section}.{name}"));
            }
        }
        let known: Vec<_> = KEYS.iter().map(|key| key.path.to_owned()).collect();
        assert_eq!(listed, known);
        // Only tls.plain contradicts the rest; every other example is a legal value.
        let problems = Settings::parse(&text, &[]).unwrap_err();
        let keys: Vec<_> = problems.0.iter().map(|p| p.key.as_str()).collect();
        assert!(keys.iter().all(|key| *key == "tls.plain"), "{problems}");
    }
}
