//! A page of rows: what a source sends and what a backup stores, byte for byte.

use bytes::Bytes;
use floeberg_types::ChunkId;
use prost::Message;

/// Layout of a page.
const FORMAT: u32 = 1;

#[derive(Clone, PartialEq, Message)]
struct StoredPage {
    #[prost(uint32, tag = "1")]
    format: u32,
    #[prost(message, repeated, tag = "2")]
    rows: Vec<StoredRow>,
    #[prost(bool, tag = "3")]
    last: bool,
}

#[derive(Clone, PartialEq, Message)]
struct StoredRow {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    payload: Bytes,
    #[prost(message, repeated, tag = "3")]
    chunks: Vec<StoredChunk>,
}

#[derive(Clone, PartialEq, Message)]
struct StoredChunk {
    #[prost(bytes = "bytes", tag = "1")]
    id: Bytes,
    #[prost(uint64, tag = "2")]
    len: u64,
}

/// A chunk that a row names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkUse {
    /// The chunk.
    pub chunk: ChunkId,
    /// Its bytes.
    pub len: u64,
}

/// A row without the header that says who wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its key.
    pub key: Bytes,
    /// Its message.
    pub payload: Bytes,
    /// The chunks that hold bytes of it.
    pub chunks: Vec<ChunkUse>,
}

/// Rows of one group in the order of their keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// The rows.
    pub rows: Vec<Row>,
    /// Whether no page follows.
    pub last: bool,
}

impl Page {
    /// The bytes that are sent and stored.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let chunk = |chunk: &ChunkUse| StoredChunk {
            id: Bytes::copy_from_slice(chunk.chunk.as_bytes()),
            len: chunk.len,
        };
        let row = |row: &Row| StoredRow {
            key: row.key.clone(),
            payload: row.payload.clone(),
            chunks: row.chunks.iter().map(chunk).collect(),
        };
        let page = StoredPage {
            format: FORMAT,
            rows: self.rows.iter().map(row).collect(),
            last: self.last,
        };
        page.encode_to_vec().into()
    }

    /// Reads what [`Self::encode`] wrote.
    ///
    /// # Errors
    /// It is something else, in words.
    pub fn decode(bytes: Bytes) -> Result<Self, String> {
        let page = StoredPage::decode(bytes).map_err(|e| format!("it is no page of rows: {e}"))?;
        if page.format != FORMAT {
            return Err(format!(
                "its format is {}, this version knows {FORMAT}",
                page.format
            ));
        }
        let chunk = |chunk: StoredChunk| {
            let id = ChunkId::from_slice(&chunk.id).ok_or("a chunk's id has not 16 bytes")?;
            Ok::<_, String>(ChunkUse {
                chunk: id,
                len: chunk.len,
            })
        };
        let row = |row: StoredRow| {
            Ok::<_, String>(Row {
                key: row.key,
                payload: row.payload,
                chunks: row
                    .chunks
                    .into_iter()
                    .map(chunk)
                    .collect::<Result<_, _>>()?,
            })
        };
        Ok(Self {
            rows: page.rows.into_iter().map(row).collect::<Result<_, _>>()?,
            last: page.last,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    /// A changed expectation here is a changed format: backups that were made must stay readable.
    #[test]
    fn golden_page() {
        let page = Page {
            rows: vec![
                Row {
                    key: Bytes::from_static(b"\x10lake"),
                    payload: Bytes::from_static(b"bucket"),
                    chunks: Vec::new(),
                },
                Row {
                    key: Bytes::from_static(b"\x40key"),
                    payload: Bytes::from_static(b"object"),
                    chunks: vec![ChunkUse {
                        chunk: ChunkId::from_bytes([7; 16]),
                        len: 300,
                    }],
                },
            ],
            last: true,
        };
        expect!["0801120f0a05106c616b6512066275636b657412250a04406b657912066f626a6563741a150a100707070707070707070707070707070710ac021801"]
            .assert_eq(&hex::encode(page.encode()));
        assert_eq!(Page::decode(page.encode()), Ok(page));
    }

    #[test]
    fn what_is_not_a_page_is_refused() {
        assert!(Page::decode(Bytes::new()).is_err());
        assert!(Page::decode(Bytes::from_static(b"nonsense")).is_err());
        assert!(Page::decode(Bytes::from_static(&[8, 2])).is_err());
    }
}
