//! Keys of the catalog's rows in group 0, and their inverses where rows are listed.
//!
//! The layout is a stored format: `docs/formats/catalog-rows.md` describes it and a golden test
//! pins it.

use bytes::Bytes;
use floeberg_iceberg::Section;
use floeberg_state::keys::{KeyReader, KeyWriter, MalformedKey};
use floeberg_types::{
    BucketId, BucketName, Namespace, NamespaceId, TableId, TableName, TimestampMs,
};

/// First bytes of the catalog's keys. Append-only: a tag is never given a second meaning.
mod tag {
    pub const BUCKET: u8 = 0x10;
    pub const NAMESPACE: u8 = 0x11;
    pub const NAME: u8 = 0x12;
    pub const HEAD: u8 = 0x13;
    pub const FRAGMENT: u8 = 0x14;
    pub const VERSION: u8 = 0x15;
    pub const LOCATION: u8 = 0x16;
    pub const STAGED: u8 = 0x17;
    pub const SEEN: u8 = 0x18;
    pub const SEEN_ORDER: u8 = 0x19;
    pub const COLLECTED: u8 = 0x1a;
    pub const ANSWER: u8 = 0x1b;
    pub const ANSWER_EXPIRY: u8 = 0x1c;
    pub const SERIES: u8 = 0x1d;
    pub const PIECES: u8 = 0x1e;
}

/// Under which id fragments lie: the first of a table under the table's own, those of a document that
/// was written ahead under one that nothing names until it is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SeriesId([u8; 16]);

impl SeriesId {
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    pub(crate) const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The series that a table begins with.
    pub(crate) const fn first_of(table: TableId) -> Self {
        Self(*table.as_bytes())
    }
}

pub(crate) fn bucket(name: &BucketName) -> Bytes {
    buckets(name.as_str())
}

/// The prefix of all buckets whose name begins with `prefix`.
pub(crate) fn buckets(prefix: &str) -> Bytes {
    KeyWriter::new(tag::BUCKET).tail(prefix.as_bytes()).finish()
}

pub(crate) fn bucket_name(key: &[u8]) -> Result<String, MalformedKey> {
    tail_text(KeyReader::new(key, tag::BUCKET)?)
}

fn tail_text(reader: KeyReader<'_>) -> Result<String, MalformedKey> {
    String::from_utf8(reader.tail().to_vec()).map_err(|_| MalformedKey { offset: 1 })
}

/// Depth comes before the levels, so that the children of a namespace lie together, without their
/// own children between them.
fn levels(bucket: BucketId, depth: usize, levels: &[String]) -> KeyWriter {
    let depth = u8::try_from(depth).expect("a namespace has at most 16 levels");
    let start = KeyWriter::new(tag::NAMESPACE)
        .id(bucket.as_bytes())
        .u8(depth);
    levels.iter().fold(start, |key, level| key.text(level))
}

pub(crate) fn namespace(bucket: BucketId, namespace: &Namespace) -> Bytes {
    levels(bucket, namespace.levels().len(), namespace.levels()).finish()
}

/// The prefix of the direct children of `parent`, or of the outermost namespaces, whose last level
/// begins with `prefix`.
pub(crate) fn children(bucket: BucketId, parent: Option<&Namespace>, prefix: &str) -> Bytes {
    let parents = parent.map_or(&[][..], Namespace::levels);
    levels(bucket, parents.len() + 1, parents)
        .open_bytes(prefix.as_bytes())
        .finish()
}

/// The prefix of every namespace of a bucket.
pub(crate) fn namespaces(bucket: BucketId) -> Bytes {
    KeyWriter::new(tag::NAMESPACE)
        .id(bucket.as_bytes())
        .finish()
}

pub(crate) fn name(namespace: NamespaceId, name: &TableName) -> Bytes {
    names(namespace, name.as_str())
}

/// The prefix of the names in a namespace that begin with `prefix`.
pub(crate) fn names(namespace: NamespaceId, prefix: &str) -> Bytes {
    KeyWriter::new(tag::NAME)
        .id(namespace.as_bytes())
        .tail(prefix.as_bytes())
        .finish()
}

pub(crate) fn head(table: TableId) -> Bytes {
    KeyWriter::new(tag::HEAD).id(table.as_bytes()).finish()
}

/// The prefix of all table heads.
pub(crate) fn heads() -> Bytes {
    KeyWriter::new(tag::HEAD).finish()
}

pub(crate) fn head_table(key: &[u8]) -> Result<TableId, MalformedKey> {
    Ok(TableId::from_bytes(KeyReader::new(key, tag::HEAD)?.id()?))
}

/// Which part of a document a fragment row is, and from which version on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FragmentKey {
    pub section: Section,
    pub ordinal: u64,
    pub from: u64,
}

/// The prefix of all fragments of a series.
pub(crate) fn fragments(series: SeriesId) -> Bytes {
    KeyWriter::new(tag::FRAGMENT).id(series.as_bytes()).finish()
}

/// The prefix of the fragments of one section.
pub(crate) fn fragment_section(series: SeriesId, section: Section) -> Bytes {
    KeyWriter::after(&fragments(series))
        .u8(section.id())
        .finish()
}

pub(crate) fn fragment(series: SeriesId, part: FragmentKey) -> Bytes {
    KeyWriter::new(tag::FRAGMENT)
        .id(series.as_bytes())
        .u8(part.section.id())
        .u64(part.ordinal)
        .u64(part.from)
        .finish()
}

/// Where a fragment goes on for the `number`th time, counted from 1.
pub(crate) fn fragment_more(series: SeriesId, part: FragmentKey, number: u32) -> Bytes {
    KeyWriter::after(&fragment(series, part))
        .u32(number)
        .finish()
}

/// Which part a fragment row belongs to, and whether it begins it or goes on with it.
pub(crate) fn fragment_key(key: &[u8]) -> Result<(FragmentKey, FragmentRole), MalformedKey> {
    let mut reader = KeyReader::new(key, tag::FRAGMENT)?;
    reader.id()?;
    let section = Section::from_id(reader.u8()?).ok_or(MalformedKey { offset: 17 })?;
    let part = FragmentKey {
        section,
        ordinal: reader.u64()?,
        from: reader.u64()?,
    };
    let role = match reader.tail().is_empty() {
        true => FragmentRole::Begins,
        false => FragmentRole::GoesOn,
    };
    Ok((part, role))
}

/// What a fragment row is of its part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FragmentRole {
    Begins,
    GoesOn,
}

pub(crate) fn series(table: TableId, series: SeriesId) -> Bytes {
    KeyWriter::after(&all_series(table))
        .id(series.as_bytes())
        .finish()
}

/// The prefix of the series of a table beside its first.
pub(crate) fn all_series(table: TableId) -> Bytes {
    KeyWriter::new(tag::SERIES).id(table.as_bytes()).finish()
}

pub(crate) fn series_id(key: &[u8]) -> Result<SeriesId, MalformedKey> {
    let mut reader = KeyReader::new(key, tag::SERIES)?;
    reader.id()?;
    reader.id().map(SeriesId)
}

pub(crate) fn pieces(expires: TimestampMs, series: SeriesId) -> Bytes {
    KeyWriter::new(tag::PIECES)
        .i64(expires.0)
        .id(series.as_bytes())
        .finish()
}

/// The prefix of all series that are written ahead, in the order they expire.
pub(crate) fn all_pieces() -> Bytes {
    KeyWriter::new(tag::PIECES).finish()
}

pub(crate) fn pieces_key(key: &[u8]) -> Result<(TimestampMs, SeriesId), MalformedKey> {
    let mut reader = KeyReader::new(key, tag::PIECES)?;
    Ok((TimestampMs(reader.i64()?), SeriesId(reader.id()?)))
}

/// The prefix of all versions of a table.
pub(crate) fn versions(table: TableId) -> Bytes {
    KeyWriter::new(tag::VERSION).id(table.as_bytes()).finish()
}

pub(crate) fn version(table: TableId, version: u64) -> Bytes {
    KeyWriter::new(tag::VERSION)
        .id(table.as_bytes())
        .u64(version)
        .finish()
}

pub(crate) fn version_number(key: &[u8]) -> Result<u64, MalformedKey> {
    let mut reader = KeyReader::new(key, tag::VERSION)?;
    reader.id()?;
    reader.u64()
}

/// `path` is relative to the bucket, without slashes at its ends. The key ends in a slash, so that
/// a prefix of keys is exactly an ancestor of paths.
pub(crate) fn location(bucket: BucketId, path: &str) -> Bytes {
    locations(bucket, &format!("{path}/"))
}

/// The prefix of the locations of a bucket that begin with `prefix`.
pub(crate) fn locations(bucket: BucketId, prefix: &str) -> Bytes {
    KeyWriter::new(tag::LOCATION)
        .id(bucket.as_bytes())
        .tail(prefix.as_bytes())
        .finish()
}

/// The path of a location without its last slash.
pub(crate) fn location_path(key: &[u8]) -> Result<String, MalformedKey> {
    let mut reader = KeyReader::new(key, tag::LOCATION)?;
    reader.id()?;
    let mut path = tail_text(reader)?;
    match path.pop() {
        Some('/') => Ok(path),
        _ => Err(MalformedKey { offset: key.len() }),
    }
}

pub(crate) fn staged(expires: TimestampMs, table: TableId) -> Bytes {
    KeyWriter::new(tag::STAGED)
        .i64(expires.0)
        .id(table.as_bytes())
        .finish()
}

/// The prefix of all staged creates, in the order they expire.
pub(crate) fn all_staged() -> Bytes {
    KeyWriter::new(tag::STAGED).finish()
}

pub(crate) fn staged_key(key: &[u8]) -> Result<(TimestampMs, TableId), MalformedKey> {
    let mut reader = KeyReader::new(key, tag::STAGED)?;
    Ok((
        TimestampMs(reader.i64()?),
        TableId::from_bytes(reader.id()?),
    ))
}

pub(crate) fn seen(table: TableId, snapshot: i64) -> Bytes {
    KeyWriter::new(tag::SEEN)
        .id(table.as_bytes())
        .i64(snapshot)
        .finish()
}

pub(crate) fn seen_order(table: TableId, sequence: u64) -> Bytes {
    KeyWriter::new(tag::SEEN_ORDER)
        .id(table.as_bytes())
        .u64(sequence)
        .finish()
}

/// The prefix of the seen snapshots of a table, oldest first.
pub(crate) fn seen_orders(table: TableId) -> Bytes {
    KeyWriter::new(tag::SEEN_ORDER)
        .id(table.as_bytes())
        .finish()
}

pub(crate) fn seen_order_sequence(key: &[u8]) -> Result<u64, MalformedKey> {
    let mut reader = KeyReader::new(key, tag::SEEN_ORDER)?;
    reader.id()?;
    reader.u64()
}

pub(crate) fn collected(table: TableId) -> Bytes {
    KeyWriter::new(tag::COLLECTED).id(table.as_bytes()).finish()
}

pub(crate) fn answer(id: &[u8; 32]) -> Bytes {
    KeyWriter::new(tag::ANSWER).tail(id).finish()
}

pub(crate) fn answer_expiry(expires: TimestampMs, id: &[u8; 32]) -> Bytes {
    KeyWriter::new(tag::ANSWER_EXPIRY)
        .i64(expires.0)
        .tail(id)
        .finish()
}

/// The prefix of the expiry rows of all answers, in the order they expire.
pub(crate) fn answer_expiries() -> Bytes {
    KeyWriter::new(tag::ANSWER_EXPIRY).finish()
}

pub(crate) fn answer_expiry_key(key: &[u8]) -> Result<(TimestampMs, [u8; 32]), MalformedKey> {
    let mut reader = KeyReader::new(key, tag::ANSWER_EXPIRY)?;
    let expires = TimestampMs(reader.i64()?);
    let id = reader.tail().try_into();
    Ok((expires, id.map_err(|_| MalformedKey { offset: 9 })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ns(levels: &[&str]) -> Namespace {
        Namespace::new(levels.iter().map(|l| (*l).to_owned()).collect()).unwrap()
    }

    #[test]
    fn children_lie_together_without_grandchildren() {
        let bucket = BucketId::from_bytes([1; 16]);
        let prefix = children(bucket, Some(&ns(&["a"])), "");
        assert!(namespace(bucket, &ns(&["a", "b"])).starts_with(&prefix));
        assert!(!namespace(bucket, &ns(&["a", "b", "c"])).starts_with(&prefix));
        assert!(!namespace(bucket, &ns(&["ab", "b"])).starts_with(&prefix));
        assert!(namespace(bucket, &ns(&["abc"])).starts_with(&children(bucket, None, "ab")));
        assert!(namespace(bucket, &ns(&["a", "b"])).starts_with(&namespaces(bucket)));
    }

    #[test]
    fn keys_read_back() {
        let table = TableId::from_bytes([9; 16]);
        let part = FragmentKey {
            section: Section::Snapshots,
            ordinal: 7,
            from: 300,
        };
        let own = SeriesId::from_bytes([8; 16]);
        let begins = fragment(own, part);
        assert_eq!(fragment_key(&begins), Ok((part, FragmentRole::Begins)));
        let goes_on = fragment_more(own, part, 1);
        assert_eq!(fragment_key(&goes_on), Ok((part, FragmentRole::GoesOn)));
        let next = FragmentKey { from: 301, ..part };
        assert!(begins < goes_on && goes_on < fragment(own, next));
        assert_eq!(series_id(&series(table, own)), Ok(own));
        assert_eq!(version_number(&version(table, 300)), Ok(300));
        assert_eq!(head_table(&head(table)), Ok(table));
        assert_eq!(seen_order_sequence(&seen_order(table, 5)), Ok(5));
        let at = TimestampMs(1_700_000_000_000);
        assert_eq!(staged_key(&staged(at, table)), Ok((at, table)));
        assert_eq!(pieces_key(&pieces(at, own)), Ok((at, own)));
        assert_eq!(
            answer_expiry_key(&answer_expiry(at, &[3; 32])),
            Ok((at, [3; 32]))
        );
        let id = BucketId::from_bytes([1; 16]);
        assert_eq!(location_path(&location(id, "a/b")).as_deref(), Ok("a/b"));
        let lake = BucketName::for_tables("lake").unwrap();
        assert_eq!(bucket_name(&bucket(&lake)).as_deref(), Ok("lake"));
    }
}
