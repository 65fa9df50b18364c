//! A TOML file as values by key, each with the line it stands on.

use crate::keys::{KEYS, Preset, find};
use crate::nearest::nearest_key;
use crate::problem::{Origin, Problem};
use std::collections::BTreeMap;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value by kind; the file knows no others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    Number(String),
    Texts(Vec<String>),
    /// Booleans, dates, floats, mixed lists: no key wants one.
    Other,
}

/// A value with where it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) origin: Origin,
    /// As it was written.
    pub(crate) written: String,
    pub(crate) value: Value,
}

/// Values by the path of their key.
#[derive(Debug, Default)]
pub(crate) struct Document {
    values: BTreeMap<&'static str, Found>,
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.as_bytes()[..offset.min(text.len())]
        .iter()
        .filter(|byte| **byte == b'\n')
        .count()
}

fn unknown(origin: Origin, key: String) -> Problem {
    let known = nearest_key(&key);
    let sections = || {
        let mut names: Vec<_> = KEYS.iter().map(crate::Key::section).collect();
        names.dedup();
        names.join(", ")
    };
    let wrong = if key.contains('.') {
        "there is no such key".to_owned()
    } else {
        format!("there is no such key or section (sections: {})", sections())
    };
    Problem {
        origin,
        value: None,
        wrong,
        advice: format!(
            "did you mean `{known}`? `floeberg config example` prints every key, and a key that \
             is not among them has to go"
        ),
        key,
    }
}

fn not_toml(text: &str, error: &toml::de::Error) -> Problem {
    let span = error.span();
    let part = span.clone().and_then(|span| text.get(span));
    let part = part.and_then(|part| part.lines().next()).map(str::trim);
    let part = part.filter(|part| !part.is_empty());
    let at = part.map_or_else(String::new, |part| format!(", at `{part}`"));
    Problem {
        origin: span.map_or(Origin::Absent, |span| {
            Origin::Line(line_of(text, span.start))
        }),
        key: String::new(),
        value: None,
        wrong: format!("this is not TOML: {}{at}", error.message().trim()),
        advice: "write `key = \"value\"` lines below `[section]` lines".to_owned(),
    }
}

fn value_of(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.clone().into_owned()),
        DeValue::Integer(number) if number.radix() == 10 => Value::Number(number.as_str().into()),
        DeValue::Array(items) => {
            let texts = items.iter().map(|item| item.get_ref().as_str());
            texts
                .map(|text| text.map(str::to_owned))
                .collect::<Option<Vec<_>>>()
                .map_or(Value::Other, Value::Texts)
        }
        _ => Value::Other,
    }
}

impl Document {
    /// Reads `text`; what is not a key is a problem. `None` if it is not TOML, which is one, too.
    pub(crate) fn read(text: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let mut document = Self::default();
        match DeTable::parse(text) {
            Ok(table) => document.take(text, "", table.get_ref(), problems),
            Err(error) => {
                problems.push(not_toml(text, &error));
                return None;
            }
        }
        Some(document)
    }

    fn take(
        &mut self,
        text: &str,
        section: &str,
        table: &DeTable<'_>,
        problems: &mut Vec<Problem>,
    ) {
        let mut entries: Vec<_> = table.iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        for (name, value) in entries {
            let origin = Origin::Line(line_of(text, name.span().start));
            let path = if section.is_empty() {
                name.get_ref().clone().into_owned()
            } else {
                format!("{section}.{}", name.get_ref())
            };
            let is_section = KEYS.iter().any(|key| key.section() == path);
            match value.get_ref() {
                DeValue::Table(inner) if is_section => self.take(text, &path, inner, problems),
                found => match find(&path) {
                    Some(key) => {
                        let found = Found {
                            origin,
                            written: written(text, value),
                            value: value_of(found),
                        };
                        self.values.insert(key.path, found);
                    }
                    None => problems.push(unknown(origin, path)),
                },
            }
        }
    }

    /// Lays `path = text` over the file; a text that is not a TOML value is taken as a string.
    pub(crate) fn overlay(&mut self, path: &str, text: &str, problems: &mut Vec<Problem>) {
        let Some(key) = find(path) else {
            problems.push(unknown(Origin::CommandLine, path.to_owned()));
            return;
        };
        let value = literal(text).unwrap_or_else(|| Value::Text(text.to_owned()));
        let found = Found {
            origin: Origin::CommandLine,
            written: text.to_owned(),
            value,
        };
        self.values.insert(key.path, found);
    }

    /// What was written for a key.
    pub(crate) fn written(&self, path: &str) -> Option<&Found> {
        self.values.get(path)
    }

    /// What holds for a key: what was written, or its default.
    pub(crate) fn get(&self, path: &str) -> Option<Found> {
        if let Some(found) = self.values.get(path) {
            return Some(found.clone());
        }
        match find(path)?.preset {
            Preset::Value(text) => Some(Found {
                origin: Origin::Absent,
                written: text.to_owned(),
                value: literal(text)?,
            }),
            _ => None,
        }
    }
}

fn written(text: &str, value: &Spanned<DeValue<'_>>) -> String {
    text.get(value.span()).unwrap_or_default().to_owned()
}

/// A TOML value on its own.
pub(crate) fn literal(text: &str) -> Option<Value> {
    let value = DeValue::parse(text).ok()?;
    Some(value_of(value.get_ref()))
}
