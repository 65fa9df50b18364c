//! Names that clients choose: accounts, regions, buckets, namespaces and tables.

use crate::limits;
use std::fmt;
use std::str::FromStr;

/// What separates namespace levels in a URL path once decoded (`%1F`, Iceberg REST).
pub const NAMESPACE_SEPARATOR: char = '\u{1f}';

/// Why a name was refused, in words for the person who chose it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} `{name}`: {rule}")]
pub struct NameError {
    /// The kind of name, for example `table bucket name`.
    pub what: &'static str,
    /// What was given.
    pub name: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

fn refuse<T>(what: &'static str, name: &str, rule: &'static str) -> Result<T, NameError> {
    Err(NameError {
        what,
        name: name.to_owned(),
        rule,
    })
}

macro_rules! text_name {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    )*};
}

text_name! {
    /// Twelve digits that own buckets.
    AccountId;
    /// A region name such as `us-east-1`.
    Region;
    /// The name of a table bucket or general purpose bucket; unique in the cluster.
    BucketName;
    /// The name of a table or view inside its namespace.
    TableName;
}

impl FromStr for AccountId {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(text.to_owned()))
        } else {
            refuse("account id", text, "it must be exactly 12 digits")
        }
    }
}

impl FromStr for Region {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=64).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            refuse(
                "region",
                text,
                "use 1 to 64 lower-case letters, digits and hyphens",
            )
        }
    }
}

/// The rules both kinds of bucket share (Amazon S3 "Bucket naming rules").
fn check_bucket(what: &'static str, text: &str, dots: Dots) -> Result<(), NameError> {
    let legal = |b: u8| {
        b.is_ascii_lowercase()
            || b.is_ascii_digit()
            || b == b'-'
            || (dots == Dots::Legal && b == b'.')
    };
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if !(3..=63).contains(&text.len()) {
        return refuse(what, text, "it must have 3 to 63 characters");
    }
    if !text.bytes().all(legal) {
        return refuse(
            what,
            text,
            "use only lower-case letters, digits and hyphens",
        );
    }
    if !edge(text.as_bytes().first()) || !edge(text.as_bytes().last()) {
        return refuse(what, text, "it must begin and end with a letter or digit");
    }
    for prefix in ["xn--", "sthree-", "amzn-s3-demo-"] {
        if text.starts_with(prefix) {
            return refuse(
                what,
                text,
                "the prefixes `xn--`, `sthree-` and `amzn-s3-demo-` are reserved",
            );
        }
    }
    for suffix in ["-s3alias", "--ol-s3", "--x-s3", "--table-s3"] {
        if text.ends_with(suffix) {
            return refuse(
                what,
                text,
                "the suffixes `-s3alias`, `--ol-s3`, `--x-s3` and `--table-s3` are reserved",
            );
        }
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dots {
    Legal,
    Refused,
}

impl BucketName {
    /// Checks the naming rules of table buckets (S3 Tables, "Naming rules").
    ///
    /// # Errors
    /// Says which rule the name breaks.
    pub fn for_tables(text: &str) -> Result<Self, NameError> {
        check_bucket("table bucket name", text, Dots::Refused)?;
        if text.starts_with("aws") {
            return refuse("table bucket name", text, "the prefix `aws` is reserved");
        }
        Ok(Self(text.to_owned()))
    }

    /// Checks the naming rules of general purpose buckets (Amazon S3, "Bucket naming rules").
    ///
    /// # Errors
    /// Says which rule the name breaks.
    pub fn for_objects(text: &str) -> Result<Self, NameError> {
        const WHAT: &str = "bucket name";
        check_bucket(WHAT, text, Dots::Legal)?;
        if text.contains("..") || text.contains(".-") || text.contains("-.") {
            return refuse(WHAT, text, "dots must stand between letters or digits");
        }
        if text.split('.').count() == 4 && text.split('.').all(|part| part.parse::<u8>().is_ok()) {
            return refuse(WHAT, text, "it must not look like an IP address");
        }
        Ok(Self(text.to_owned()))
    }

    /// Accepts any text that could name a bucket of either kind, for look-ups.
    ///
    /// # Errors
    /// If no bucket can have this name.
    pub fn for_lookup(text: &str) -> Result<Self, NameError> {
        let legal =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
        if (3..=63).contains(&text.len()) && text.bytes().all(legal) {
            Ok(Self(text.to_owned()))
        } else {
            refuse(
                "bucket name",
                text,
                "use 3 to 63 lower-case letters, digits, hyphens and dots",
            )
        }
    }
}

/// No name may hold control characters: they would break URLs, logs and the level separator.
fn check_text(what: &'static str, text: &str) -> Result<(), NameError> {
    if text.is_empty() {
        return refuse(what, text, "it must not be empty");
    }
    if text.len() > limits::NAME_BYTES {
        return refuse(what, text, "it must have at most 255 bytes");
    }
    if text.chars().any(char::is_control) {
        return refuse(what, text, "control characters are not allowed");
    }
    if text == "." || text == ".." {
        return refuse(what, text, "`.` and `..` are not names");
    }
    Ok(())
}

impl FromStr for TableName {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        check_text("table name", text)?;
        Ok(Self(text.to_owned()))
    }
}

/// A namespace of one or more levels, outermost first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Namespace(Vec<String>);

impl Namespace {
    /// The deepest nesting that is accepted.
    pub const LEVELS_MAX: usize = limits::NAMESPACE_LEVELS;

    /// Checks every level.
    ///
    /// # Errors
    /// If there is no level, too many of them, or one is empty, too long or holds control characters.
    pub fn new(levels: Vec<String>) -> Result<Self, NameError> {
        const WHAT: &str = "namespace";
        if levels.is_empty() {
            return refuse(WHAT, "", "it must have at least one level");
        }
        if levels.len() > Self::LEVELS_MAX {
            return refuse(WHAT, &levels.join("."), "it must have at most 16 levels");
        }
        for level in &levels {
            check_text(WHAT, level)?;
        }
        Ok(Self(levels))
    }

    /// The levels, outermost first; never empty.
    #[must_use]
    pub fn levels(&self) -> &[String] {
        &self.0
    }

    /// The namespace around this one, if it is nested.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        (self.0.len() > 1).then(|| Self(self.0[..self.0.len() - 1].to_vec()))
    }
}

/// Levels joined with dots, as Iceberg prints them in messages.
impl fmt::Display for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// A table by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableIdent {
    /// Where it lives.
    pub namespace: Namespace,
    /// Its name there.
    pub name: TableName,
}

impl fmt::Display for TableIdent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_rules() {
        for good in ["lake", "a-1", "0ab"] {
            assert!(BucketName::for_tables(good).is_ok(), "{good}");
        }
        for bad in [
            "ab",
            "Lake",
            "a_b",
            "-ab",
            "ab-",
            "xn--a",
            "x--table-s3",
            "aws-b",
            "a.b",
        ] {
            assert!(BucketName::for_tables(bad).is_err(), "{bad}");
        }
        assert!(BucketName::for_objects("my.bucket").is_ok());
        assert!(BucketName::for_objects("aws-logs").is_ok());
        for bad in ["a..b", "192.168.1.1", "a.-b", "$extremelyunlikelytoexist$"] {
            assert!(BucketName::for_objects(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn namespaces() {
        let nested = Namespace::new(vec!["a".into(), "b".into()]).unwrap();
        assert_eq!(nested.to_string(), "a.b");
        assert_eq!(nested.parent().unwrap().parent(), None);
        assert!(Namespace::new(vec![]).is_err());
        assert!(Namespace::new(vec!["a\u{1f}b".into()]).is_err());
        assert!("".parse::<TableName>().is_err());
        assert!("12345678901".parse::<AccountId>().is_err());
    }
}
