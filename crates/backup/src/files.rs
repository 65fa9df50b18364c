//! The list of a backup's files with their lengths and checksums, and how they are named.

use floeberg_types::{ChunkId, GroupId};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Its name.
pub(crate) const LIST: &str = "files.list";

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) len: u64,
    pub(crate) blake3: String,
}

impl File {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            len: bytes.len() as u64,
            blake3: checksum(bytes),
        }
    }
}

/// Every file by its path.
pub(crate) type Files = BTreeMap<String, File>;

pub(crate) fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// Where a page of rows lies.
pub(crate) fn page_path(group: GroupId, number: u64) -> String {
    format!("rows/{group}/{number:08}")
}

/// Where a chunk lies; the middle keeps directories small.
pub(crate) fn chunk_path(chunk: ChunkId) -> String {
    let id = hex::encode(chunk.as_bytes());
    format!("chunks/{}/{id}", &id[..2])
}

/// The chunk of a path, if it is one's.
pub(crate) fn chunk_of(path: &str) -> Option<ChunkId> {
    let id = path.strip_prefix("chunks/")?.split_once('/')?.1;
    ChunkId::from_slice(&hex::decode(id).ok()?)
}

pub(crate) fn encode(files: &Files) -> String {
    let mut text = String::new();
    for (path, file) in files {
        writeln!(text, "{} {} {path}", file.blake3, file.len).expect("writing to a string");
    }
    text
}

pub(crate) fn decode(text: &str) -> Result<Files, String> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, ' ');
        let (blake3, len, path) = (parts.next()?, parts.next()?, parts.next()?);
        let (blake3, len) = (blake3.to_owned(), len.parse().ok()?);
        // It becomes a path below a directory.
        let plain = path.split('/').all(|part| !part.is_empty() && part != "..");
        plain.then(|| (path.to_owned(), File { len, blake3 }))
    };
    let parsed = text
        .lines()
        .map(|text| line(text).ok_or_else(|| format!("`{text}` is no line of a list of files")));
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// A changed expectation here is a changed format: backups that were made must stay readable.
    #[test]
    fn golden_list() {
        let chunk = ChunkId::from_bytes([0xc4; 16]);
        let files: Files = [
            (page_path(GroupId(1), 12), File::of(b"page")),
            (chunk_path(chunk), File::of(b"chunk")),
        ]
        .into();
        let text = encode(&files);
        expect![[r#"
            6b1d440ada61d0f4e4416c73bcbab3694f96875a3e5df3253075163ffe93cd4d 5 chunks/c4/c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4
            cad079fe52fa1b162e375eceec083d82ed9ac94420e05934969828aee1702491 4 rows/1/00000012
        "#]].assert_eq(&text);
        assert_eq!(decode(&text), Ok(files));
        assert_eq!(chunk_of(&chunk_path(chunk)), Some(chunk));
        for bad in ["x", "a 1 ../x", "a 1 /x", "a b c"] {
            assert!(decode(bad).is_err(), "{bad}");
        }
    }
}
