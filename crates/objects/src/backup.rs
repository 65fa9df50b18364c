//! Which rows of an object group belong into a backup: objects and what says whose their chunks are.
//!
//! Uploads in progress, garbage and owed copies do not: they are about a cluster at work.

use crate::errors::Outage;
use crate::keys::{self, tag};
use crate::survey::chunks_of;
use bytes::Bytes;
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_types::ChunkId;
use prost::Message as _;
use std::collections::HashSet;

/// Follows a walk over all rows in the order of their keys.
#[derive(Debug, Default)]
pub struct BackupRows {
    /// Chunks of the objects so far; every object comes before the owners of chunks.
    named: HashSet<ChunkId>,
}

impl BackupRows {
    /// Whether a row may belong into a backup, by its key.
    #[must_use]
    pub fn wanted(key: &[u8]) -> bool {
        !matches!(
            key.first(),
            Some(&(tag::UPLOAD | tag::UPLOAD_LISTING | tag::PART | tag::GARBAGE | tag::REPAIR))
        )
    }

    /// Takes the next row: the chunks it names with their lengths, or `None` if it does not belong
    /// into a backup.
    ///
    /// # Errors
    /// The row is damaged.
    pub fn take(
        &mut self,
        key: &[u8],
        payload: &Bytes,
    ) -> Result<Option<Vec<(ChunkId, u64)>>, Outage> {
        let chunks = match key.first() {
            Some(&tag::CURRENT) => {
                let row = pb::ObjectRow::decode(payload.clone()).map_err(Outage::storage)?;
                chunks_of(&row.extents)
            }
            Some(&tag::MANIFEST) => {
                let row = pb::ManifestRow::decode(payload.clone()).map_err(Outage::storage)?;
                chunks_of(&row.extents)
            }
            Some(&tag::OWNER) => {
                let chunk = keys::parse_owner(key)?;
                return Ok(self.named.contains(&chunk).then(Vec::new));
            }
            _ => Vec::new(),
        };
        self.named.extend(chunks.iter().map(|(chunk, _)| *chunk));
        Ok(Some(chunks))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::ObjectPlace;
    use crate::rows::chunk_extent;
    use floeberg_placement::{Epoch, Profile, ShardSet};
    use floeberg_shards::ChunkRef;
    use floeberg_types::BucketId;

    fn chunk(n: u8) -> pb::Extent {
        chunk_extent(&ChunkRef {
            chunk: ChunkId::from_bytes([n; 16]),
            len: 5,
            crc64: 0,
            profile: Profile::R1,
            epoch: Epoch(0),
            owed: ShardSet::from_bits(0),
        })
    }

    #[test]
    fn owners_of_chunks_that_objects_name_are_kept_and_others_are_not() {
        let mut rows = BackupRows::default();
        let place = ObjectPlace::new(BucketId::from_bytes([1; 16]), "k");
        let row = pb::ObjectRow {
            extents: vec![chunk(1)],
            ..pb::ObjectRow::default()
        };
        let manifest = pb::ManifestRow {
            extents: vec![chunk(2)],
        };
        let named = |n: u8| Some(vec![(ChunkId::from_bytes([n; 16]), 5)]);
        let take = |rows: &mut BackupRows, key: &[u8], payload: Vec<u8>| {
            assert!(BackupRows::wanted(key));
            rows.take(key, &payload.into()).unwrap()
        };
        let found = take(&mut rows, &place.current(), row.encode_to_vec());
        assert_eq!(found, named(1));
        let found = take(&mut rows, &place.listing(), Vec::new());
        assert_eq!(found, Some(Vec::new()));
        let found = take(
            &mut rows,
            &place.manifest(&[7; 16], 0),
            manifest.encode_to_vec(),
        );
        assert_eq!(found, named(2));
        for (n, kept) in [(1, true), (2, true), (3, false)] {
            let key = keys::owner(ChunkId::from_bytes([n; 16]));
            assert_eq!(take(&mut rows, &key, Vec::new()).is_some(), kept);
        }
        for key in [
            keys::repair(ChunkId::from_bytes([1; 16])),
            keys::garbage_of(3),
        ] {
            assert!(!BackupRows::wanted(&key));
        }
    }
}
