//! Keys of the rows of an object group; the layout is described in `docs/formats/object-rows.md`.
//!
//! Rows that belong to one object begin with its slot, so that a range of slots can move to another
//! group without rewriting a key. Four kinds do not: the listing rows (`ls`, `ups`), because LIST
//! must walk one bucket in key order and would otherwise merge 1024 ranges per page, and the rows of
//! a chunk (`own`, `rep`), because a volume knows a chunk by nothing but its id.

use bytes::Bytes;
use floeberg_state::keys::{KeyReader, KeyWriter, MalformedKey};
use floeberg_types::{BucketId, ChunkId, Slot, TimestampMs, UploadId, slot};

/// First bytes of the keys, from the range that the state's registry gives to objects. Append-only.
pub(crate) mod tag {
    pub(crate) const CURRENT: u8 = 0x40;
    pub(crate) const LISTING: u8 = 0x41;
    pub(crate) const MANIFEST: u8 = 0x42;
    pub(crate) const UPLOAD: u8 = 0x43;
    pub(crate) const UPLOAD_LISTING: u8 = 0x44;
    pub(crate) const PART: u8 = 0x45;
    pub(crate) const OWNER: u8 = 0x46;
    pub(crate) const GARBAGE: u8 = 0x47;
    pub(crate) const DELETE_REQUEST: u8 = 0x48;
    pub(crate) const FENCE: u8 = 0x49;
    pub(crate) const REPAIR: u8 = 0x4a;
}

/// Where an object lives: everything its row keys are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ObjectPlace {
    pub(crate) bucket: BucketId,
    pub(crate) slot: Slot,
    pub(crate) key: String,
}

impl ObjectPlace {
    pub(crate) fn new(bucket: BucketId, key: &str) -> Self {
        Self {
            bucket,
            slot: slot(bucket, key.as_bytes()),
            key: key.to_owned(),
        }
    }

    fn under(&self, tag: u8) -> KeyWriter {
        KeyWriter::new(tag)
            .u16(self.slot)
            .id(self.bucket.as_bytes())
    }

    pub(crate) fn current(&self) -> Bytes {
        self.under(tag::CURRENT).tail(self.key.as_bytes()).finish()
    }

    pub(crate) fn listing(&self) -> Bytes {
        KeyWriter::after(&bucket_listing(self.bucket))
            .tail(self.key.as_bytes())
            .finish()
    }

    pub(crate) fn delete_request(&self) -> Bytes {
        self.under(tag::DELETE_REQUEST)
            .tail(self.key.as_bytes())
            .finish()
    }

    pub(crate) fn manifest(&self, id: &[u8], sequence: u32) -> Bytes {
        let sequence = sequence.to_be_bytes();
        self.under(tag::MANIFEST).tail(id).tail(&sequence).finish()
    }

    pub(crate) fn upload(&self, upload: UploadId) -> Bytes {
        self.under(tag::UPLOAD).id(upload.as_bytes()).finish()
    }

    /// The prefix of an upload's part rows.
    pub(crate) fn parts(&self, upload: UploadId) -> Bytes {
        self.under(tag::PART).id(upload.as_bytes()).finish()
    }

    pub(crate) fn part(&self, upload: UploadId, number: u32) -> Bytes {
        let number = u16::try_from(number).expect("part numbers end at 10,000");
        KeyWriter::after(&self.parts(upload)).u16(number).finish()
    }

    pub(crate) fn upload_listing(&self, upload: UploadId) -> Bytes {
        KeyWriter::after(&bucket_uploads(self.bucket))
            .text(&self.key)
            .id(upload.as_bytes())
            .finish()
    }

    pub(crate) fn garbage(&self, due: TimestampMs, id: &[u8; 16]) -> Bytes {
        KeyWriter::after(&garbage_of(self.slot))
            .i64(due.0)
            .id(id)
            .finish()
    }
}

/// The prefix of a bucket's listing rows.
pub(crate) fn bucket_listing(bucket: BucketId) -> Bytes {
    KeyWriter::new(tag::LISTING).id(bucket.as_bytes()).finish()
}

/// The prefix of a bucket's upload listing rows.
pub(crate) fn bucket_uploads(bucket: BucketId) -> Bytes {
    KeyWriter::new(tag::UPLOAD_LISTING)
        .id(bucket.as_bytes())
        .finish()
}

/// The prefix of the listing rows of uploads whose key begins with `prefix`.
pub(crate) fn uploads_below(bucket: BucketId, prefix: &str) -> Bytes {
    KeyWriter::after(&bucket_uploads(bucket))
        .open_bytes(prefix.as_bytes())
        .finish()
}

pub(crate) fn owner(chunk: ChunkId) -> Bytes {
    KeyWriter::new(tag::OWNER).id(chunk.as_bytes()).finish()
}

pub(crate) fn fence(bucket: BucketId) -> Bytes {
    KeyWriter::new(tag::FENCE).id(bucket.as_bytes()).finish()
}

pub(crate) fn repair(chunk: ChunkId) -> Bytes {
    KeyWriter::new(tag::REPAIR).id(chunk.as_bytes()).finish()
}

/// The chunk in an owner row's key.
pub(crate) fn parse_owner(row: &[u8]) -> Result<ChunkId, MalformedKey> {
    KeyReader::new(row, tag::OWNER)?
        .id()
        .map(ChunkId::from_bytes)
}

/// The bucket and key in the row key of a current object.
pub(crate) fn parse_current(row: &[u8]) -> Result<(BucketId, String), MalformedKey> {
    let mut fields = KeyReader::new(row, tag::CURRENT)?;
    fields.u16()?;
    let bucket = BucketId::from_bytes(fields.id()?);
    let offset = row.len();
    let key = String::from_utf8(fields.tail().to_vec());
    Ok((bucket, key.map_err(|_| MalformedKey { offset })?))
}

/// The chunk in a repair row's key.
pub(crate) fn parse_repair(row: &[u8]) -> Result<ChunkId, MalformedKey> {
    KeyReader::new(row, tag::REPAIR)?
        .id()
        .map(ChunkId::from_bytes)
}

/// The bucket in a fence row's key.
pub(crate) fn parse_fence(row: &[u8]) -> Result<BucketId, MalformedKey> {
    KeyReader::new(row, tag::FENCE)?
        .id()
        .map(BucketId::from_bytes)
}

/// The prefix of a slot's garbage rows, in the order in which they fall due.
pub(crate) fn garbage_of(slot: Slot) -> Bytes {
    KeyWriter::new(tag::GARBAGE).u16(slot).finish()
}

/// When a garbage row falls due.
pub(crate) fn garbage_due(row: &[u8]) -> Result<TimestampMs, MalformedKey> {
    let mut fields = KeyReader::new(row, tag::GARBAGE)?;
    fields.u16()?;
    Ok(TimestampMs(fields.i64()?))
}

/// The bucket and upload in the key of an upload row.
pub(crate) fn parse_upload(row: &[u8]) -> Result<(BucketId, UploadId), MalformedKey> {
    let mut fields = KeyReader::new(row, tag::UPLOAD)?;
    fields.u16()?;
    Ok((
        BucketId::from_bytes(fields.id()?),
        UploadId::from_bytes(fields.id()?),
    ))
}

/// The number in the key of a part row.
pub(crate) fn parse_part(row: &[u8]) -> Result<u32, MalformedKey> {
    let mut fields = KeyReader::new(row, tag::PART)?;
    fields.u16()?;
    fields.id()?;
    fields.id()?;
    fields.u16().map(u32::from)
}

/// The object key and upload in the key of an upload listing row.
pub(crate) fn parse_upload_listing(row: &[u8]) -> Result<(String, UploadId), MalformedKey> {
    let mut fields = KeyReader::new(row, tag::UPLOAD_LISTING)?;
    fields.id()?;
    Ok((fields.text()?, UploadId::from_bytes(fields.id()?)))
}

/// The object key in a listing row's key.
pub(crate) fn parse_listing(row: &[u8]) -> Result<String, MalformedKey> {
    let mut fields = KeyReader::new(row, tag::LISTING)?;
    fields.id()?;
    String::from_utf8(fields.tail().to_vec()).map_err(|_| MalformedKey { offset: 17 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(key: &str) -> ObjectPlace {
        ObjectPlace::new(BucketId::from_bytes([7; 16]), key)
    }

    #[test]
    fn keys_parse_back() {
        let upload = UploadId::from_bytes([9; 16]);
        let object = place("a/\0b");
        assert_eq!(parse_listing(&object.listing()).unwrap(), "a/\0b");
        assert_eq!(
            parse_upload(&object.upload(upload)),
            Ok((object.bucket, upload))
        );
        assert_eq!(parse_part(&object.part(upload, 10_000)), Ok(10_000));
        assert_eq!(
            parse_upload_listing(&object.upload_listing(upload)),
            Ok(("a/\0b".to_owned(), upload))
        );
        assert_eq!(parse_fence(&fence(object.bucket)), Ok(object.bucket));
        let chunk = ChunkId::from_bytes([1; 16]);
        assert_eq!(parse_repair(&repair(chunk)), Ok(chunk));
        let due = TimestampMs(1_800_000_000_000);
        assert_eq!(garbage_due(&object.garbage(due, &[1; 16])), Ok(due));
        assert!(
            object
                .upload_listing(upload)
                .starts_with(&uploads_below(object.bucket, "a/\0"))
        );
    }

    /// The layout is a stored format.
    #[test]
    fn golden_keys() {
        let object = place("k");
        let slot = object.slot.to_be_bytes();
        let bucket = [7; 16];
        let upload = UploadId::from_bytes([9; 16]);
        assert_eq!(
            object.current(),
            [&[0x40], &slot[..], &bucket, b"k"].concat()
        );
        assert_eq!(object.listing(), [&[0x41], &bucket[..], b"k"].concat());
        assert_eq!(
            object.manifest(&[5; 16], 2),
            [&[0x42], &slot[..], &bucket, &[5; 16], &[0, 0, 0, 2]].concat()
        );
        assert_eq!(
            object.upload(upload),
            [&[0x43], &slot[..], &bucket, &[9; 16]].concat()
        );
        assert_eq!(
            object.upload_listing(upload),
            [&[0x44], &bucket[..], b"k\0\x01", &[9; 16]].concat()
        );
        assert_eq!(
            object.part(upload, 3),
            [&[0x45], &slot[..], &bucket, &[9; 16], &[0, 3]].concat()
        );
        assert_eq!(
            owner(ChunkId::from_bytes([1; 16])),
            [&[0x46], &[1u8; 16][..]].concat()
        );
        assert_eq!(
            object.garbage(TimestampMs(1), &[1; 16]),
            [&[0x47], &slot[..], &[0x80, 0, 0, 0, 0, 0, 0, 1], &[1; 16]].concat()
        );
        assert_eq!(
            object.delete_request(),
            [&[0x48], &slot[..], &bucket, b"k"].concat()
        );
        assert_eq!(fence(object.bucket), [&[0x49], &bucket[..]].concat());
        assert_eq!(
            repair(ChunkId::from_bytes([1; 16])),
            [&[0x4a], &[1u8; 16][..]].concat()
        );
    }
}
