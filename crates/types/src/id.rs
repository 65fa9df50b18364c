//! Typed identifiers. Every 128-bit id is unique for ever and never reused.

use std::fmt;
use std::str::FromStr;

/// A text that is not 32 hexadecimal digits (with or without the hyphens of a UUID).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a 128-bit id: expected 32 hexadecimal digits")]
pub struct IdParseError {
    /// What was given.
    pub text: String,
}

macro_rules! id128 {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// Wraps 16 bytes drawn by the caller.
            #[must_use]
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// Wraps a stored id; `None` unless it is exactly 16 bytes.
            #[must_use]
            pub fn from_slice(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(Self)
            }

            /// The 16 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 16] {
                &self.0
            }

            /// 32 lower-case hexadecimal digits.
            #[must_use]
            pub fn to_hex(&self) -> String {
                hex::encode(self.0)
            }

            /// The form with hyphens, as in a UUID.
            #[must_use]
            pub fn to_uuid_string(&self) -> String {
                uuid::Uuid::from_bytes(self.0).to_string()
            }
        }

        impl FromStr for $name {
            type Err = IdParseError;
            fn from_str(text: &str) -> Result<Self, IdParseError> {
                uuid::Uuid::try_parse(text)
                    .map(|u| Self(u.into_bytes()))
                    .map_err(|_| IdParseError { text: text.to_owned() })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_uuid_string())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.to_hex())
            }
        }
    )*};
}

id128! {
    /// One cluster; checked wherever two parts of it meet.
    ClusterId;
    /// A table bucket or a general purpose bucket.
    BucketId;
    /// A namespace of a table bucket.
    NamespaceId;
    /// A table: in ARNs, rows and locations. Not Iceberg's `table-uuid`, which clients choose.
    TableId;
    /// One replicated command; the id of every row it wrote.
    CommitId;
    /// One client request; in every log line and error body.
    RequestId;
    /// A run of object bytes in the volumes.
    ChunkId;
    /// A multipart upload.
    UploadId;
}

/// A Raft group: part of every log key, message and metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The catalog: buckets, namespaces, tables, policies.
    pub const CATALOG: Self = Self(0);
    /// The first group of object index rows.
    pub const OBJECTS: Self = Self(1);
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A member of the cluster; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_and_uuid_forms_parse_to_the_same_id() {
        let id = TableId::from_bytes([0xab; 16]);
        assert_eq!(id.to_hex().parse::<TableId>().unwrap(), id);
        assert_eq!(id.to_uuid_string().parse::<TableId>().unwrap(), id);
        assert!("abc".parse::<TableId>().is_err());
        assert_eq!(TableId::from_slice(&[1; 15]), None);
    }
}
