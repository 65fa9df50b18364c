//! Partition and sort transforms: syntax and the source types they apply to.

use std::sync::Arc;

use crate::types::base_name;

/// A transform that cannot be right, whatever its source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransformError {
    #[error("Invalid number of buckets: 0 (must be > 0)")]
    NoBuckets,
    #[error("Invalid truncate width: 0 (must be > 0)")]
    NoWidth,
    #[error("Invalid transform parameter: {transform}")]
    Parameter { transform: Arc<str> },
    #[error("Invalid transform: name is empty")]
    Empty,
}

/// Checks a transform name; names this version does not know are allowed, as the format demands.
pub(crate) fn check(transform: &str) -> Result<(), TransformError> {
    if transform.trim().is_empty() {
        return Err(TransformError::Empty);
    }
    let (name, parameter) = parts(transform);
    let Some(parameter) = parameter else {
        return Ok(());
    };
    let number: Option<i32> = parameter.parse().ok();
    match (name.as_str(), number) {
        ("bucket", Some(0)) => Err(TransformError::NoBuckets),
        ("truncate", Some(0)) => Err(TransformError::NoWidth),
        ("bucket" | "truncate", None) => Err(TransformError::Parameter {
            transform: transform.into(),
        }),
        ("bucket" | "truncate", Some(n)) if n < 0 => Err(TransformError::Parameter {
            transform: transform.into(),
        }),
        _ => Ok(()),
    }
}

/// Whether the transform always yields null, which marks a dropped v1 field.
pub(crate) fn is_void(transform: &str) -> bool {
    transform.eq_ignore_ascii_case("void")
}

/// Whether the transform is `identity`.
pub(crate) fn is_identity(transform: &str) -> bool {
    transform.eq_ignore_ascii_case("identity")
}

/// Whether a transform applies to a (normalized) primitive type.
pub(crate) fn applies_to(transform: &str, kind: &str) -> bool {
    let kind = base_name(kind);
    let is_timestamp = matches!(
        kind,
        "timestamp" | "timestamptz" | "timestamp_ns" | "timestamptz_ns"
    );
    let (name, _) = parts(transform);
    match name.as_str() {
        "identity" => !matches!(kind, "geometry" | "geography" | "variant"),
        "bucket" => {
            is_timestamp
                || matches!(
                    kind,
                    "int"
                        | "long"
                        | "decimal"
                        | "date"
                        | "time"
                        | "string"
                        | "uuid"
                        | "fixed"
                        | "binary"
                )
        }
        "truncate" => matches!(kind, "int" | "long" | "decimal" | "string" | "binary"),
        "year" | "month" | "day" => is_timestamp || kind == "date",
        "hour" => is_timestamp,
        _ => true,
    }
}

fn parts(transform: &str) -> (String, Option<&str>) {
    let lower = |text: &str| text.trim().to_ascii_lowercase();
    match transform.split_once('[') {
        Some((name, rest)) => (lower(name), rest.strip_suffix(']')),
        None => (lower(transform), None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_and_unknown_names_pass() {
        assert!(check("identity").is_ok());
        assert!(check("bucket[16]").is_ok());
        assert!(check("zorder").is_ok());
        assert_eq!(check("bucket[0]"), Err(TransformError::NoBuckets));
        assert!(check("truncate[x]").is_err());
        assert!(check(" ").is_err());
    }

    #[test]
    fn source_types_follow_the_format() {
        assert!(applies_to("day", "timestamptz_ns"));
        assert!(!applies_to("hour", "date"));
        assert!(!applies_to("truncate[4]", "double"));
        assert!(applies_to("bucket[4]", "decimal(9,2)"));
        assert!(!applies_to("identity", "variant"));
        assert!(applies_to("void", "variant"));
    }
}
