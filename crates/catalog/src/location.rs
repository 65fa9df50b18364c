//! Where tables lie: parsing locations, making unique ones, and keeping them disjoint.
//!
//! Two tables never share a path: no live, staged or dropped location contains or lies within
//! another. That is what makes drop and re-create safe and credentials scoped to one table.

use crate::errors::{InvalidLocation, InvalidProperty, LocationRule};
use crate::keys;
use crate::rows::{LocationRow, LocationState};
use floeberg_iceberg::TableMetadata;
use floeberg_metastore::{RangeState, Rows, StoreError, Txn};
use floeberg_types::{BucketId, BucketName, Namespace, NamespaceId, TableId, TableName};
use std::collections::BTreeSet;
use std::fmt::Write as _;

/// Longest path of a location; leaves room for file names below the key limit of 1024 bytes.
const PATH_MAX: usize = floeberg_types::limits::LOCATION_BYTES;

/// Longest encoded namespace or table name in a location.
const SEGMENT_MAX: usize = 160;

/// Table properties that direct writers to other places.
const PATH_PROPERTIES: [&str; 4] = [
    "write.data.path",
    "write.metadata.path",
    "write.object-storage.path",
    "write.folder-storage.path",
];

/// A path inside a table bucket, without slashes at its ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path(String);

impl Path {
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `other` equals this path or lies below it.
    pub(crate) fn contains(&self, other: &Self) -> bool {
        contains(&self.0, &other.0)
    }
}

/// Whether `path` equals `base` or lies below it.
pub(crate) fn contains(base: &str, path: &str) -> bool {
    path.strip_prefix(base)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The path of a location inside `bucket`.
pub(crate) fn parse(bucket: &BucketName, location: &str) -> Result<Path, InvalidLocation> {
    let refuse = |rule| InvalidLocation {
        location: location.to_owned(),
        rule,
    };
    let rest = location
        .strip_prefix("s3://")
        .or_else(|| location.strip_prefix("s3a://"))
        .ok_or_else(|| refuse(LocationRule::Scheme))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    if host != bucket.as_str() {
        return Err(refuse(LocationRule::OtherBucket {
            bucket: bucket.clone(),
        }));
    }
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Err(refuse(LocationRule::NoPath));
    }
    let bad_segment = |s: &str| s.is_empty() || s == "." || s == "..";
    let bad_char = |c: char| c.is_control() || c == '?' || c == '#';
    if path.len() > PATH_MAX || path.split('/').any(bad_segment) || path.chars().any(bad_char) {
        return Err(refuse(LocationRule::Path));
    }
    Ok(Path(path.to_owned()))
}

/// The URI of a path.
pub(crate) fn uri(bucket: &BucketName, path: &str) -> String {
    format!("s3://{bucket}/{path}")
}

/// Appends `text` with everything but letters, digits, `_` and `-` written as `~` and two
/// hexadecimal digits: safe in URLs, file systems and policies, and never `.` or `..`.
fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-' {
            out.push(char::from(byte));
        } else {
            write!(out, "~{byte:02x}").expect("writing to a string cannot fail");
        }
    }
}

/// Encoded text is ASCII, so any byte position is a character boundary.
fn shorten(mut text: String) -> String {
    text.truncate(SEGMENT_MAX);
    text
}

/// The namespace as one segment of a path: encoded levels joined by dots. It is for people; the
/// table id at the end of a location is what makes it unique.
pub(crate) fn namespace_segment(namespace: &Namespace) -> String {
    let mut out = String::new();
    for level in namespace.levels() {
        if !out.is_empty() {
            out.push('.');
        }
        encode(&mut out, level);
    }
    shorten(out)
}

/// The location of a table whose creator did not choose one.
pub(crate) fn unique(namespace: &Namespace, table: &TableName, id: TableId) -> Path {
    let mut name = String::new();
    encode(&mut name, table.as_str());
    let name = shorten(name);
    Path(format!(
        "{}/{name}-{}",
        namespace_segment(namespace),
        id.to_hex()
    ))
}

/// The key of the metadata file of a version.
pub(crate) fn metadata_key(path: &str, version: u64, file: uuid::Uuid) -> String {
    format!("{path}/metadata/{version:05}-{file}.metadata.json")
}

/// The version and file id in the name of a metadata file that this catalog made.
pub(crate) fn parse_metadata_name(name: &str) -> Option<(u64, uuid::Uuid)> {
    let stem = name.strip_suffix(".metadata.json")?;
    let (version, file) = stem.split_once('-')?;
    if version.len() < 5 || !version.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some((version.parse().ok()?, uuid::Uuid::try_parse(file).ok()?))
}

/// Checks that a file which metadata names lies below one of the table's paths. A file's name may
/// be longer than a location, and hold what a location may not, as long as all readers agree on
/// what it means.
pub(crate) fn check_manifest(
    bucket: &BucketName,
    path: &Path,
    former: &BTreeSet<&str>,
    file: &str,
) -> Result<(), InvalidLocation> {
    let rest = file
        .strip_prefix("s3://")
        .or_else(|| file.strip_prefix("s3a://"));
    let key = rest
        .and_then(|rest| rest.strip_prefix(bucket.as_str()))
        .and_then(|rest| rest.strip_prefix('/'));
    let is_plain = |key: &&str| !key.split('/').any(|segment| matches!(segment, "." | ".."));
    let is_below = |key: &str| {
        let directories = key.match_indices('/').map(|(at, _)| at);
        directories
            .take_while(|at| *at <= PATH_MAX)
            .map(|at| &key[..at])
            .any(|directory| directory == path.as_str() || former.contains(directory))
    };
    if key.filter(is_plain).is_some_and(is_below) {
        return Ok(());
    }
    Err(InvalidLocation {
        location: file.to_owned(),
        rule: LocationRule::ManifestOutsideTable {
            table: uri(bucket, path.as_str()),
        },
    })
}

/// Checks that nothing of a table's metadata leads readers or writers outside its location.
pub(crate) fn check_properties(
    bucket: &BucketName,
    metadata: &TableMetadata,
) -> Result<(), InvalidProperty> {
    for key in PATH_PROPERTIES {
        let Some(value) = metadata.property(key) else {
            continue;
        };
        let refuse = |source| InvalidProperty { key, source };
        let path = parse(bucket, value).map_err(refuse)?;
        let base = parse(bucket, metadata.location()).map_err(refuse)?;
        if !base.contains(&path) {
            let rule = LocationRule::OutsideTable {
                table: metadata.location().to_owned(),
            };
            return Err(refuse(InvalidLocation {
                location: value.to_owned(),
                rule,
            }));
        }
    }
    Ok(())
}

/// Why a location could not be claimed.
pub(crate) enum ClaimError {
    Refused(InvalidLocation),
    Store(StoreError),
}

impl From<StoreError> for ClaimError {
    fn from(source: StoreError) -> Self {
        Self::Store(source)
    }
}

/// The table a claimed location is for.
pub(crate) struct Claim<'a> {
    pub bucket: (BucketId, &'a BucketName),
    pub table: TableId,
    pub path: &'a Path,
}

/// Checks that no other table's location overlaps `claim`, in a way that also holds when the
/// command is applied, and that it leaves room for the tables to come. Returns the row that the
/// table itself already has there.
pub(crate) fn check_free(
    txn: &mut Txn<'_>,
    claim: &Claim<'_>,
) -> Result<Option<LocationRow>, ClaimError> {
    let (bucket, name) = claim.bucket;
    let path = claim.path.as_str();
    let overlap = |other: &str| {
        ClaimError::Refused(InvalidLocation {
            location: uri(name, path),
            rule: LocationRule::Overlaps {
                other: uri(name, other),
            },
        })
    };
    if let Some(row) = txn.get::<LocationRow>(&keys::location(bucket, path))? {
        return if row.value.table_id[..] == claim.table.as_bytes()[..] {
            Ok(Some(row.value))
        } else {
            Err(overlap(path))
        };
    }
    // The locations that this catalog chooses have two segments, so nothing shorter can be in the
    // way of a table that is created later.
    if !path.contains('/') {
        return Err(ClaimError::Refused(InvalidLocation {
            location: uri(name, path),
            rule: LocationRule::OneSegment,
        }));
    }
    for (at, _) in path.match_indices('/') {
        let ancestor = &path[..at];
        if txn.exists(&keys::location(bucket, ancestor))? {
            return Err(overlap(ancestor));
        }
    }
    let below = keys::locations(bucket, &format!("{path}/"));
    // The scan also finds what this transaction itself has claimed, which the range does not.
    if let Some((key, _)) = txn.scan_prefix(&below, None, 1)?.into_iter().next() {
        return Err(overlap(
            keys::location_path(&key).as_deref().unwrap_or(path),
        ));
    }
    match txn.require_empty(&below)? {
        RangeState::Empty => Ok(None),
        RangeState::Occupied => Err(overlap(path)),
    }
}

/// Who a staged location is kept for.
pub(crate) fn live_row(table: TableId) -> LocationRow {
    LocationRow {
        table_id: bytes::Bytes::copy_from_slice(table.as_bytes()),
        state: LocationState::Live.into(),
        ..LocationRow::default()
    }
}

/// A location that is kept for a create that may still be committed.
pub(crate) fn staged_row(
    table: TableId,
    namespace: NamespaceId,
    name: &TableName,
    expires: floeberg_types::TimestampMs,
) -> LocationRow {
    LocationRow {
        table_id: bytes::Bytes::copy_from_slice(table.as_bytes()),
        state: LocationState::Staged.into(),
        namespace_id: bytes::Bytes::copy_from_slice(namespace.as_bytes()),
        name: name.as_str().to_owned(),
        expires_at_ms: expires.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lake() -> BucketName {
        BucketName::for_tables("lake").unwrap()
    }

    #[test]
    fn locations_are_checked() {
        for (location, path) in [
            ("s3://lake/ns/t-1", "ns/t-1"),
            ("s3a://lake/ns/t-1/", "ns/t-1"),
            ("s3://lake/a=b/%41", "a=b/%41"),
        ] {
            assert_eq!(parse(&lake(), location).unwrap().as_str(), path);
        }
        let rule = |location: &str| parse(&lake(), location).unwrap_err().rule;
        assert_eq!(rule("file:/tmp/x"), LocationRule::Scheme);
        assert_eq!(
            rule("s3://lake2/x"),
            LocationRule::OtherBucket { bucket: lake() }
        );
        for none in ["s3://lake", "s3://lake/"] {
            assert_eq!(rule(none), LocationRule::NoPath);
        }
        for bad in [
            "s3://lake//x",
            "s3://lake/../x",
            "s3://lake/a?b",
            "s3://lake/a/./b",
        ] {
            assert_eq!(rule(bad), LocationRule::Path, "{bad}");
        }
        assert_eq!(
            rule(&format!("s3://lake/{}", "x".repeat(701))),
            LocationRule::Path
        );
    }

    #[test]
    fn manifests_lie_below_a_path_of_the_table() {
        let path = parse(&lake(), "s3://lake/ns/t").unwrap();
        let former = BTreeSet::from(["old/t"]);
        let check = |file: &str| check_manifest(&lake(), &path, &former, file);
        let long = format!("s3://lake/ns/t/metadata/{}.avro", "x".repeat(900));
        for good in [
            "s3://lake/ns/t/metadata/snap-1.avro",
            "s3a://lake/ns/t/x",
            "s3://lake/old/t/metadata/snap-1.avro",
            "s3://lake/ns/t//metadata/a b=%20?.avro",
            &long,
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "s3://lake/ns/t",
            "s3://lake/ns/t2/metadata/snap-1.avro",
            "s3://lake/ns/t/../t2/snap-1.avro",
            "s3://lake/ns/t/./snap-1.avro",
            "s3://lake2/ns/t/metadata/snap-1.avro",
            "s3://other/ns/t/metadata/snap-1.avro",
            "s3://lake/ns",
            "s3://lake",
            "file:/ns/t/x",
            "ns/t/x",
            "",
        ] {
            let refused = check(bad).unwrap_err();
            let rule = LocationRule::ManifestOutsideTable {
                table: "s3://lake/ns/t".to_owned(),
            };
            assert_eq!((refused.location.as_str(), refused.rule), (bad, rule));
        }
    }

    #[test]
    fn made_locations_read_well_and_end_in_the_id() {
        let ns = Namespace::new(vec!["a".into(), "b.c".into()]).unwrap();
        let id = TableId::from_bytes([0xab; 16]);
        let path = unique(&ns, &"or*ders".parse().unwrap(), id);
        assert_eq!(
            path.as_str(),
            format!("a.b~2ec/or~2aders-{}", "ab".repeat(16))
        );
    }

    #[test]
    fn metadata_names_parse_back() {
        let file = uuid::Uuid::from_bytes([7; 16]);
        for version in [1, 99_999, 100_000] {
            let key = metadata_key("a/b", version, file);
            let name = key.strip_prefix("a/b/metadata/").unwrap();
            assert_eq!(parse_metadata_name(name), Some((version, file)));
        }
        assert_eq!(parse_metadata_name("v1.metadata.json"), None);
        assert_eq!(parse_metadata_name("00001-x.metadata.json"), None);
    }

    proptest! {
        #[test]
        fn every_made_location_is_a_legal_one(level in "\\PC{1,255}", name in "\\PC{1,255}") {
            let (Ok(ns), Ok(name)) = (Namespace::new(vec![level]), name.parse()) else {
                return Ok(());
            };
            let path = unique(&ns, &name, TableId::from_bytes([1; 16]));
            let parsed = parse(&lake(), &uri(&lake(), path.as_str())).unwrap();
            prop_assert_eq!(parsed, path);
        }
    }
}
