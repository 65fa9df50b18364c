//! Requests and answers of the object use cases, without any HTTP in them.

use crate::errors::{PreconditionFailed, RangeNotSatisfiable};
use floeberg_types::{Checksum, ChecksumAlgorithm, ChecksumKind, TimestampMs, UploadId};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

/// An object's key: 1 to 1024 bytes of UTF-8 (S3 "Naming objects").
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey(String);

/// A text that cannot be an object key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an object key has 1 to 1024 bytes, not {len}")]
pub struct BadKey {
    /// Its length in bytes.
    pub len: usize,
}

impl ObjectKey {
    /// The longest key, in bytes.
    pub const LEN_MAX: usize = floeberg_types::limits::OBJECT_KEY_BYTES;

    /// Checks the length.
    ///
    /// # Errors
    /// If the key is empty or too long.
    pub fn new(key: impl Into<String>) -> Result<Self, BadKey> {
        let key = key.into();
        if (1..=Self::LEN_MAX).contains(&key.len()) {
            Ok(Self(key))
        } else {
            Err(BadKey { len: key.len() })
        }
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Tags of an object, by name.
pub type Tags = BTreeMap<String, String>;

/// The headers a client stores with an object and gets back; an empty text means not set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Headers {
    /// `Content-Type`.
    pub content_type: String,
    /// `Content-Encoding`, without `aws-chunked`.
    pub content_encoding: String,
    /// `Content-Language`.
    pub content_language: String,
    /// `Content-Disposition`.
    pub content_disposition: String,
    /// `Cache-Control`.
    pub cache_control: String,
    /// `Expires`.
    pub expires: String,
    /// `x-amz-meta-*`, without the prefix.
    pub user_metadata: BTreeMap<String, String>,
}

/// A checksum and what it was computed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChecksum {
    /// The value.
    pub value: Checksum,
    /// Over the object or over its parts' checksums.
    pub kind: ChecksumKind,
}

/// What HEAD returns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectHead {
    /// Size in bytes.
    pub size: u64,
    /// Entity tag without quotes.
    pub etag: String,
    /// When it was written.
    pub modified: TimestampMs,
    /// Stored headers.
    pub headers: Headers,
    /// How many tags it has.
    pub tag_count: usize,
    /// Checksum of the whole object; none for metadata files that the catalog renders.
    pub checksum: Option<StoredChecksum>,
    /// How many parts it was uploaded in; 0 if it was put in one request.
    pub parts: u32,
    /// A client asked to delete it, so LIST no longer shows it.
    pub delete_requested: Option<TimestampMs>,
}

/// The bytes a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ByteRange {
    /// `bytes=first-last`, both inclusive.
    Closed(u64, u64),
    /// `bytes=first-`.
    From(u64),
    /// `bytes=-count`: the last `count` bytes.
    Last(u64),
}

impl ByteRange {
    /// The half-open range inside an object of `size` bytes (RFC 9110, section 14.1.2).
    ///
    /// # Errors
    /// If no byte of the object lies in the range.
    pub fn resolve(self, size: u64) -> Result<Range<u64>, RangeNotSatisfiable> {
        let range = match self {
            Self::Closed(first, last) => first..last.saturating_add(1).min(size),
            Self::From(first) => first..size,
            Self::Last(count) => size.saturating_sub(count)..size,
        };
        if range.start < range.end {
            Ok(range)
        } else {
            Err(RangeNotSatisfiable { size })
        }
    }
}

/// Which part of an object a client wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Selection {
    /// All of it.
    #[default]
    Whole,
    /// A range of bytes.
    Range(ByteRange),
    /// The bytes that were uploaded as one part, from 1.
    Part(u32),
}

/// An entity tag in a condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagMatch {
    /// `*`: any object.
    Any,
    /// This entity tag, without quotes.
    Etag(String),
}

impl TagMatch {
    fn matches(&self, etag: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Etag(wanted) => wanted == etag,
        }
    }
}

/// Conditions on reads (RFC 9110, section 13).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReadConditions {
    /// `If-Match`.
    pub if_match: Option<TagMatch>,
    /// `If-None-Match`.
    pub if_none_match: Option<TagMatch>,
    /// `If-Modified-Since`.
    pub if_modified_since: Option<TimestampMs>,
    /// `If-Unmodified-Since`.
    pub if_unmodified_since: Option<TimestampMs>,
}

/// What the conditions of a read say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Serve the object.
    Serve,
    /// The client's copy is current.
    NotModified,
    /// The named condition does not hold.
    Failed(&'static str),
}

impl ReadConditions {
    /// Evaluates the conditions in the order of RFC 9110, section 13.2.2. HTTP dates have whole
    /// seconds, so the time of the object is compared in those.
    #[must_use]
    pub fn evaluate(&self, etag: &str, modified: TimestampMs) -> Verdict {
        let modified = modified.0.div_euclid(1000);
        let after = |since: TimestampMs| modified > since.0.div_euclid(1000);
        match (&self.if_match, self.if_unmodified_since) {
            (Some(tag), _) if !tag.matches(etag) => return Verdict::Failed("If-Match"),
            (None, Some(since)) if after(since) => return Verdict::Failed("If-Unmodified-Since"),
            _ => {}
        }
        match (&self.if_none_match, self.if_modified_since) {
            (Some(tag), _) if tag.matches(etag) => Verdict::NotModified,
            (None, Some(since)) if !after(since) => Verdict::NotModified,
            _ => Verdict::Serve,
        }
    }
}

/// Conditions on writes, evaluated in the transaction that publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WriteConditions {
    /// `If-Match`: the key must hold this object.
    pub if_match: Option<TagMatch>,
    /// `If-None-Match`: the key must hold no such object.
    pub if_none_match: Option<TagMatch>,
}

impl WriteConditions {
    /// Whether the write may go ahead when the key holds `current`.
    ///
    /// # Errors
    /// `Err(None)` if `If-Match` met no object at all, else the condition that failed.
    pub(crate) fn check(&self, current: Option<&str>) -> Result<(), Option<PreconditionFailed>> {
        let failed = |condition| Err(Some(PreconditionFailed { condition }));
        match (&self.if_match, current) {
            (Some(_), None) => return Err(None),
            (Some(tag), Some(etag)) if !tag.matches(etag) => return failed("If-Match"),
            _ => {}
        }
        match (&self.if_none_match, current) {
            (Some(tag), Some(etag)) if tag.matches(etag) => failed("If-None-Match"),
            _ => Ok(()),
        }
    }
}

/// What a successful write left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Entity tag without quotes.
    pub etag: String,
    /// Size in bytes.
    pub size: u64,
    /// The checksum stored with the object.
    pub checksum: StoredChecksum,
    /// When it was written.
    pub modified: TimestampMs,
}

/// An entry of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// The key.
    pub key: String,
    /// Size in bytes.
    pub size: u64,
    /// Entity tag without quotes.
    pub etag: String,
    /// When it was written.
    pub modified: TimestampMs,
    /// Algorithm and kind of its checksum.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

/// A multipart upload in progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadInfo {
    /// The key it will write.
    pub key: String,
    /// Its id.
    pub upload: UploadId,
    /// When it was begun.
    pub initiated: TimestampMs,
    /// The checksum it was begun with.
    pub checksum: Option<(ChecksumAlgorithm, ChecksumKind)>,
}

/// An uploaded part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartInfo {
    /// From 1 to 10,000.
    pub number: u32,
    /// Size in bytes.
    pub size: u64,
    /// Entity tag without quotes.
    pub etag: String,
    /// When it was uploaded.
    pub modified: TimestampMs,
    /// The checksum that was sent or asked for.
    pub checksum: Option<Checksum>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_resolve_as_http_says() {
        assert_eq!(ByteRange::Closed(0, 4).resolve(10), Ok(0..5));
        assert_eq!(ByteRange::Closed(8, 99).resolve(10), Ok(8..10));
        assert_eq!(ByteRange::From(9).resolve(10), Ok(9..10));
        assert_eq!(ByteRange::Last(3).resolve(10), Ok(7..10));
        assert_eq!(ByteRange::Last(30).resolve(10), Ok(0..10));
        assert_eq!(ByteRange::Closed(0, u64::MAX).resolve(10), Ok(0..10));
        for (range, size) in [
            (ByteRange::Closed(10, 12), 10),
            (ByteRange::From(10), 10),
            (ByteRange::Last(0), 10),
            (ByteRange::From(0), 0),
            (ByteRange::Last(5), 0),
        ] {
            assert_eq!(range.resolve(size), Err(RangeNotSatisfiable { size }));
        }
    }

    #[test]
    fn read_conditions_follow_their_precedence() {
        let at = TimestampMs(5_500);
        let tag = |t: &str| Some(TagMatch::Etag(t.to_owned()));
        let verdict = |c: ReadConditions| c.evaluate("e", at);
        let none = ReadConditions::default();
        assert_eq!(verdict(none.clone()), Verdict::Serve);
        let stale = ReadConditions {
            if_match: tag("x"),
            ..none.clone()
        };
        assert_eq!(verdict(stale), Verdict::Failed("If-Match"));
        // If-Match overrides If-Unmodified-Since, If-None-Match overrides If-Modified-Since.
        let both = ReadConditions {
            if_match: tag("e"),
            if_unmodified_since: Some(TimestampMs(0)),
            ..none.clone()
        };
        assert_eq!(verdict(both), Verdict::Serve);
        let fresh = ReadConditions {
            if_none_match: tag("x"),
            if_modified_since: Some(TimestampMs(9_000)),
            ..none.clone()
        };
        assert_eq!(verdict(fresh), Verdict::Serve);
        let same_second = ReadConditions {
            if_modified_since: Some(TimestampMs(5_000)),
            ..none.clone()
        };
        assert_eq!(verdict(same_second), Verdict::NotModified);
        let older = ReadConditions {
            if_unmodified_since: Some(TimestampMs(4_000)),
            ..none
        };
        assert_eq!(verdict(older), Verdict::Failed("If-Unmodified-Since"));
    }

    #[test]
    fn write_conditions() {
        let create = WriteConditions {
            if_none_match: Some(TagMatch::Any),
            ..Default::default()
        };
        assert!(create.check(None).is_ok());
        assert!(create.check(Some("e")).is_err());
        let swap = WriteConditions {
            if_match: Some(TagMatch::Etag("e".to_owned())),
            ..Default::default()
        };
        assert_eq!(swap.check(None), Err(None));
        assert!(swap.check(Some("f")).is_err());
        assert!(swap.check(Some("e")).is_ok());
    }
}
