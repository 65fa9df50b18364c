//! The header every stored row starts with.

use bytes::Bytes;
use floeberg_types::CommitId;

/// Format byte of the rows this version writes.
pub const ROW_FORMAT: u8 = 1;

/// Format byte and commit id.
const HEADER: usize = 17;

/// A message that can be the payload of a row.
pub trait RowMessage: prost::Message + Default {}

impl<M: prost::Message + Default> RowMessage for M {}

/// A row as stored: who wrote it last, and its undecoded payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawRow {
    /// The command that wrote this row.
    pub commit_id: CommitId,
    /// Protobuf of the row's kind.
    pub payload: Bytes,
}

/// A stored row whose header this version cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowFormatError {
    /// Shorter than its header.
    #[error("the row has {len} bytes, less than its header")]
    Truncated {
        /// Length of the stored value.
        len: usize,
    },
    /// Written by a version that this one does not know.
    #[error("the row has format {format}; this version reads {ROW_FORMAT}")]
    UnknownFormat {
        /// The format byte found.
        format: u8,
    },
}

impl RawRow {
    /// Splits a stored value into header and payload; the payload shares the value's memory.
    ///
    /// # Errors
    /// The value is too short for a header or has an unknown format.
    pub fn decode(value: Bytes) -> Result<Self, RowFormatError> {
        let Some(header) = value.get(..HEADER) else {
            return Err(RowFormatError::Truncated { len: value.len() });
        };
        if header[0] != ROW_FORMAT {
            return Err(RowFormatError::UnknownFormat { format: header[0] });
        }
        let commit_id = CommitId::from_slice(&header[1..]).expect("the header holds 16 id bytes");
        Ok(Self {
            commit_id,
            payload: value.slice(HEADER..),
        })
    }
}

/// The stored value of a row: format byte, commit id, payload.
#[must_use]
pub fn encode_row(commit_id: CommitId, payload: &[u8]) -> Bytes {
    let mut value = Vec::with_capacity(HEADER + payload.len());
    value.push(ROW_FORMAT);
    value.extend_from_slice(commit_id.as_bytes());
    value.extend_from_slice(payload);
    value.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_keeps_its_commit_id_and_payload() {
        let id = CommitId::from_bytes([3; 16]);
        let row = RawRow::decode(encode_row(id, b"abc")).unwrap();
        assert_eq!(
            row,
            RawRow {
                commit_id: id,
                payload: Bytes::from_static(b"abc")
            }
        );
    }

    #[test]
    fn a_damaged_header_is_named() {
        let short = RawRow::decode(Bytes::from_static(&[1; 16]));
        assert_eq!(short, Err(RowFormatError::Truncated { len: 16 }));
        let future = RawRow::decode(Bytes::from_static(&[2; 20]));
        assert_eq!(future, Err(RowFormatError::UnknownFormat { format: 2 }));
    }
}
