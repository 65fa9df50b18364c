//! Walks over every stored object, for those who look after the data itself: what was lost with its
//! nodes, and what belongs into a backup.

use crate::errors::Outage;
use crate::keys::{ObjectPlace, parse_current, tag};
use bytes::Bytes;
use floeberg_metastore::{ReadView, Rows as _};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::{BucketId, ChunkId};

/// An object and the chunks that its bytes are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredObject {
    /// Where the walk goes on behind it.
    pub position: Bytes,
    /// Its bucket.
    pub bucket: BucketId,
    /// Its key.
    pub key: String,
    /// Its chunks in the order of its bytes, each with its length; inline bytes are in none.
    pub chunks: Vec<(ChunkId, u64)>,
}

/// Up to `limit` objects behind `after`, in no order that means anything.
///
/// # Errors
/// A row cannot be read.
pub fn stored_objects(
    view: &ReadView,
    after: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<StoredObject>, Outage> {
    let rows = view.scan::<pb::ObjectRow>(&[tag::CURRENT], after, limit)?;
    let mut objects = Vec::with_capacity(rows.len());
    for (position, row) in rows {
        let (bucket, key) = parse_current(&position)?;
        let mut chunks = chunks_of(&row.value.extents);
        let place = ObjectPlace::new(bucket, &key);
        for sequence in (0u32..).take(row.value.manifest_offsets.len()) {
            let at = place.manifest(&row.value.manifest_id, sequence);
            if let Some(manifest) = view.get::<pb::ManifestRow>(&at)? {
                chunks.extend(chunks_of(&manifest.value.extents));
            }
        }
        objects.push(StoredObject {
            position,
            bucket,
            key,
            chunks,
        });
    }
    Ok(objects)
}

pub(crate) fn chunks_of(extents: &[pb::Extent]) -> Vec<(ChunkId, u64)> {
    let chunk = |extent: &pb::Extent| match &extent.place {
        Some(pb::extent::Place::Chunk(chunk)) => {
            let id = <[u8; 16]>::try_from(&chunk.chunk_id[..]).ok()?;
            Some((ChunkId::from_bytes(id), chunk.len))
        }
        Some(pb::extent::Place::Inline(_)) | None => None,
    };
    extents.iter().filter_map(chunk).collect()
}
