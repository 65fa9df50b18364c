//! JSON kept as text: raw values, shallow objects whose members keep order and bytes, and a
//! canonical form for comparisons.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use serde_json::value::RawValue;

/// One JSON value as text, exactly as it was received or generated.
///
/// Deserializing needs `serde_json` (directly, not through a buffered or flattened field).
#[derive(Clone, PartialEq, Eq)]
pub struct RawJson(Arc<str>);

/// The deepest nesting of objects and arrays inside one value. Parsers of other engines stop at 128
/// levels for a whole document, and a value stands a few levels below the top of its document.
pub const NESTING_MAX: usize = 100;

/// How deep objects and arrays are nested in JSON text.
pub(crate) fn nesting(text: &str) -> usize {
    let (mut depth, mut deepest, mut bytes) = (0usize, 0usize, text.bytes());
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => {
                            bytes.next();
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// Text that is not the JSON it has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// Not JSON at all, or not of the expected shape.
    #[error("invalid JSON: {detail}")]
    Syntax { detail: Arc<str> },
    /// Two members of one object have the same name.
    #[error("duplicate field `{field}`")]
    DuplicateField { field: Arc<str> },
    /// A required member is absent or null.
    #[error("missing field `{field}`")]
    MissingField { field: &'static str },
    /// A member has the wrong type or is out of range.
    #[error("invalid field `{field}`: {detail}")]
    InvalidField { field: Arc<str>, detail: Arc<str> },
}

impl RawJson {
    /// Checks that `text` is one JSON value and keeps it without surrounding whitespace.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        serde_json::from_str::<RawJson>(text).map_err(JsonError::from)
    }

    /// Takes text that this crate rendered or that was checked before.
    pub(crate) fn from_rendered(text: Arc<str>) -> Self {
        Self(text)
    }

    /// The text of a serializable value.
    pub fn of<T: Serialize + ?Sized>(value: &T) -> Self {
        let text = serde_json::to_string(value).expect("plain data always serializes");
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The shared text.
    pub fn text(&self) -> &Arc<str> {
        &self.0
    }

    /// Parses the text into a type.
    pub fn read<'de, T: Deserialize<'de>>(&'de self) -> Result<T, JsonError> {
        serde_json::from_str(&self.0).map_err(JsonError::from)
    }

    /// Whether the value is JSON `null`.
    pub fn is_null(&self) -> bool {
        &*self.0 == "null"
    }
}

impl fmt::Debug for RawJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for RawJson {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw: &RawValue = serde_json::from_str(&self.0).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RawJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Box::<RawValue>::deserialize(deserializer)?;
        let depth = nesting(raw.get());
        if depth > NESTING_MAX {
            // Values are walked by recursion, here and in every engine that reads them later.
            return Err(serde::de::Error::custom(format!(
                "the value is nested {depth} levels deep, the limit is {NESTING_MAX}"
            )));
        }
        Ok(Self(raw.get().into()))
    }
}

impl From<serde_json::Error> for JsonError {
    fn from(error: serde_json::Error) -> Self {
        JsonError::Syntax {
            detail: error.to_string().into(),
        }
    }
}

/// An object taken apart one level deep: members in order, values as text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawObject {
    members: Vec<(Arc<str>, RawJson)>,
}

impl RawObject {
    /// Takes an object apart; a repeated member name is an error, because readers disagree on it.
    pub fn parse(text: &str) -> Result<Self, JsonError> {
        let object: RawObject = serde_json::from_str(text)?;
        let mut names: Vec<&Arc<str>> = object.members.iter().map(|(name, _)| name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(JsonError::DuplicateField {
                field: pair[0].clone(),
            });
        }
        Ok(object)
    }

    /// An object of members in this order; of several with one name, the last value counts.
    pub(crate) fn of_members(members: impl Iterator<Item = (Arc<str>, RawJson)>) -> Self {
        let mut places: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut object = Self::default();
        for (name, value) in members {
            match places.entry(name.clone()) {
                Entry::Occupied(place) => object.members[*place.get()].1 = value,
                Entry::Vacant(place) => {
                    place.insert(object.members.len());
                    object.members.push((name, value));
                }
            }
        }
        object
    }

    /// Takes out the members that are null.
    pub(crate) fn remove_nulls(&mut self) {
        self.members.retain(|(_, value)| !value.is_null());
    }

    /// Members in document order.
    pub fn members(&self) -> &[(Arc<str>, RawJson)] {
        &self.members
    }

    /// A member that is present and not null.
    pub fn get(&self, name: &str) -> Option<&RawJson> {
        self.members
            .iter()
            .find(|(n, _)| &**n == name)
            .map(|(_, v)| v)
            .filter(|v| !v.is_null())
    }

    /// An optional member as `T`.
    pub fn optional<'a, T: Deserialize<'a>>(&'a self, name: &str) -> Result<Option<T>, JsonError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        serde_json::from_str(value.as_str())
            .map(Some)
            .map_err(|error| JsonError::InvalidField {
                field: name.into(),
                detail: error.to_string().into(),
            })
    }

    /// A required member as `T`.
    pub fn required<'a, T: Deserialize<'a>>(&'a self, name: &'static str) -> Result<T, JsonError> {
        self.optional(name)?
            .ok_or(JsonError::MissingField { field: name })
    }

    /// Replaces a member in place, or appends it.
    pub fn set(&mut self, name: &str, value: RawJson) {
        match self.members.iter_mut().find(|(n, _)| &**n == name) {
            Some(member) => member.1 = value,
            None => self.members.push((name.into(), value)),
        }
    }

    /// Like [`RawObject::set`], but an absent member becomes the first one.
    pub fn set_first(&mut self, name: &str, value: RawJson) {
        match self.members.iter_mut().find(|(n, _)| &**n == name) {
            Some(member) => member.1 = value,
            None => self.members.insert(0, (name.into(), value)),
        }
    }

    /// Takes a member out.
    pub fn remove(&mut self, name: &str) -> Option<RawJson> {
        let at = self.members.iter().position(|(n, _)| &**n == name)?;
        Some(self.members.remove(at).1)
    }

    /// The object as compact text; member values keep their bytes.
    pub fn render(&self) -> RawJson {
        let mut out = String::from("{");
        for (at, (name, value)) in self.members.iter().enumerate() {
            if at > 0 {
                out.push(',');
            }
            out.push_str(&quote(name));
            out.push(':');
            out.push_str(value.as_str());
        }
        out.push('}');
        RawJson(out.into())
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = RawObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<Arc<str>>()? {
                    members.push((name, map.next_value::<RawJson>()?));
                }
                Ok(RawObject { members })
            }
        }
        deserializer.deserialize_map(Members)
    }
}

/// A JSON string literal.
pub(crate) fn quote(text: &str) -> String {
    serde_json::to_string(text).expect("a string always serializes")
}

/// `"name":value`, the text of one object member.
pub(crate) fn member(name: &str, value: &str) -> Arc<str> {
    let mut out = quote(name);
    out.push(':');
    out.push_str(value);
    out.into()
}

/// Splits the text of one object member again.
pub(crate) fn split_member(text: &str) -> Result<(Arc<str>, RawJson), JsonError> {
    let object = RawObject::parse(&format!("{{{text}}}"))?;
    let mut members = object.members.into_iter();
    match (members.next(), members.next()) {
        (Some(member), None) => Ok(member),
        _ => Err(JsonError::Syntax {
            detail: "expected exactly one object member".into(),
        }),
    }
}

/// Appends `value` in canonical form: sorted member names, no whitespace, nulls left out.
///
/// Two values that differ only in member order, whitespace or explicit nulls have the same form.
pub(crate) fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(object) => {
            let mut names: Vec<&String> = object
                .iter()
                .filter(|(_, v)| !v.is_null())
                .map(|(n, _)| n)
                .collect();
            names.sort_unstable();
            out.push('{');
            for (at, name) in names.into_iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                out.push_str(&quote(name));
                out.push(':');
                canonical(&object[name], out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                canonical(item, out);
            }
            out.push(']');
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_member_order_and_number_text() {
        let text = r#"{"b": 1.50, "a": {"x" : 1e3}}"#;
        let object = RawObject::parse(text).unwrap();
        assert_eq!(object.render().as_str(), r#"{"b":1.50,"a":{"x" : 1e3}}"#);
    }

    #[test]
    fn a_repeated_member_is_refused() {
        let error = RawObject::parse(r#"{"a":1,"a":2}"#).unwrap_err();
        assert_eq!(error.to_string(), "duplicate field `a`");
    }

    #[test]
    fn null_counts_as_absent() {
        let object = RawObject::parse(r#"{"a":null}"#).unwrap();
        assert_eq!(object.optional::<i64>("a"), Ok(None));
        assert_eq!(
            object.required::<i64>("a").unwrap_err().to_string(),
            "missing field `a`"
        );
    }

    #[test]
    fn canonical_form_ignores_order_and_nulls() {
        let form = |text: &str| {
            let mut out = String::new();
            canonical(&serde_json::from_str(text).unwrap(), &mut out);
            out
        };
        assert_eq!(
            form(r#"{"b":[1, 2],"a":null,"c":"x"}"#),
            form(r#"{"c":"x","b":[1,2]}"#)
        );
        assert_ne!(form("[1,2]"), form("[2,1]"));
    }
}
