//! Between stored rows and the model.

use crate::model::{Headers, ListedObject, ObjectHead, StoredChecksum};
use bytes::Bytes;
use floeberg_placement::Profile;
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_shards::ChunkRef;
use floeberg_types::{Checksum, ChecksumAlgorithm, ChecksumKind, ChunkId, TimestampMs};

/// How many extents a row may hold before they move to manifest rows of this many each.
pub(crate) const EXTENTS_PER_ROW: usize = 256;

pub(crate) const fn kind_of(composite: bool) -> ChecksumKind {
    if composite {
        ChecksumKind::Composite
    } else {
        ChecksumKind::FullObject
    }
}

pub(crate) const fn is_composite(kind: ChecksumKind) -> bool {
    matches!(kind, ChecksumKind::Composite)
}

pub(crate) fn headers_to_row(headers: Headers) -> pb::ObjectHeaders {
    pb::ObjectHeaders {
        content_type: headers.content_type,
        content_encoding: headers.content_encoding,
        content_language: headers.content_language,
        content_disposition: headers.content_disposition,
        cache_control: headers.cache_control,
        expires: headers.expires,
        user_metadata: headers.user_metadata,
    }
}

pub(crate) fn headers_from_row(row: Option<pb::ObjectHeaders>) -> Headers {
    let row = row.unwrap_or_default();
    Headers {
        content_type: row.content_type,
        content_encoding: row.content_encoding,
        content_language: row.content_language,
        content_disposition: row.content_disposition,
        cache_control: row.cache_control,
        expires: row.expires,
        user_metadata: row.user_metadata,
    }
}

pub(crate) fn checksum_to_row(checksum: &StoredChecksum) -> pb::Checksum {
    pb::Checksum {
        algorithm: checksum.value.algorithm().id(),
        value: checksum.value.value().clone(),
        composite: is_composite(checksum.kind),
    }
}

/// `None` also for an algorithm that a newer version stored.
pub(crate) fn checksum_from_row(row: Option<&pb::Checksum>) -> Option<StoredChecksum> {
    let row = row?;
    let algorithm = ChecksumAlgorithm::from_id(row.algorithm)?;
    let value = Checksum::new(algorithm, row.value.clone())?;
    Some(StoredChecksum {
        value,
        kind: kind_of(row.composite),
    })
}

pub(crate) fn head_from_row(row: &pb::ObjectRow) -> ObjectHead {
    ObjectHead {
        size: row.size,
        etag: row.etag.clone(),
        modified: TimestampMs(row.modified_ms),
        headers: headers_from_row(row.headers.clone()),
        tag_count: row.tags.len(),
        checksum: checksum_from_row(row.checksum.as_ref()),
        parts: row.parts.iter().map(|run| run.count).sum(),
        delete_requested: (row.delete_requested_ms != 0)
            .then_some(TimestampMs(row.delete_requested_ms)),
    }
}

pub(crate) fn listing_of(row: &pb::ObjectRow) -> pb::ListingRow {
    pb::ListingRow {
        size: row.size,
        etag: row.etag.clone(),
        modified_ms: row.modified_ms,
        checksum_algorithm: row.checksum.as_ref().map_or(0, |c| c.algorithm),
        checksum_composite: row.checksum.as_ref().is_some_and(|c| c.composite),
    }
}

pub(crate) fn listed_from_row(key: String, row: pb::ListingRow) -> ListedObject {
    ListedObject {
        key,
        size: row.size,
        etag: row.etag,
        modified: TimestampMs(row.modified_ms),
        checksum: ChecksumAlgorithm::from_id(row.checksum_algorithm)
            .map(|a| (a, kind_of(row.checksum_composite))),
    }
}

pub(crate) fn inline_extent(bytes: Bytes) -> pb::Extent {
    pb::Extent {
        place: Some(pb::extent::Place::Inline(bytes)),
    }
}

pub(crate) fn chunk_extent(chunk: &ChunkRef) -> pb::Extent {
    pb::Extent {
        place: Some(pb::extent::Place::Chunk(pb::ChunkExtent {
            chunk_id: Bytes::copy_from_slice(chunk.chunk.as_bytes()),
            len: chunk.len,
            crc64: chunk.crc64,
            profile: profile_to_row(chunk.profile),
        })),
    }
}

/// What the chunk owes, if not all its copies are known to be durable.
pub(crate) fn repair_of(chunk: &ChunkRef) -> Option<pb::RepairRow> {
    (!chunk.owed.is_empty()).then(|| pb::RepairRow {
        profile: profile_to_row(chunk.profile),
        epoch: chunk.epoch.0,
        owed: chunk.owed.bits(),
    })
}

/// One copy is the absence of a code, because rows of one node alone were written without it.
fn profile_to_row(profile: Profile) -> u32 {
    match profile {
        Profile::R1 => 0,
        spread => u32::from(spread.code()),
    }
}

/// `None` for a profile that a newer version stored.
pub(crate) fn profile_from_row(code: u32) -> Option<Profile> {
    match code {
        0 => Some(Profile::R1),
        code => Profile::from_code(u16::try_from(code).ok()?),
    }
}

pub(crate) fn extent_len(extent: &pb::Extent) -> u64 {
    match &extent.place {
        Some(pb::extent::Place::Inline(bytes)) => bytes.len() as u64,
        Some(pb::extent::Place::Chunk(chunk)) => chunk.len,
        None => 0,
    }
}

/// The chunks among some extents.
pub(crate) fn chunks_of(
    extents: &[pb::Extent],
) -> impl Iterator<Item = (ChunkId, &pb::ChunkExtent)> + '_ {
    extents.iter().filter_map(|extent| match &extent.place {
        Some(pb::extent::Place::Chunk(chunk)) => {
            Some((ChunkId::from_slice(&chunk.chunk_id)?, chunk))
        }
        _ => None,
    })
}

/// Consecutive parts of equal size become one run.
pub(crate) fn part_runs(sizes: impl Iterator<Item = u64>) -> Vec<pb::PartRun> {
    let mut runs: Vec<pb::PartRun> = Vec::new();
    for size in sizes {
        match runs.last_mut() {
            Some(run) if run.size == size => run.count += 1,
            _ => runs.push(pb::PartRun { count: 1, size }),
        }
    }
    runs
}

/// The bytes of part `number` (from 1); `None` if there are fewer parts.
pub(crate) fn part_range(runs: &[pb::PartRun], number: u32) -> Option<std::ops::Range<u64>> {
    let mut left = number.checked_sub(1)?;
    let mut offset = 0;
    for run in runs {
        if left < run.count {
            let start = offset + u64::from(left) * run.size;
            return Some(start..start + run.size);
        }
        left -= run.count;
        offset += u64::from(run.count) * run.size;
    }
    None
}

/// Whether two objects hold the same bytes, judged by what is stored of them. ETags of equal form
/// must agree; two multipart uploads cut differently have different ETags for equal bytes, so there
/// the size and the CRC-64/NVME of the whole decide.
pub(crate) fn same_bytes(one: &pb::ObjectRow, other: &pb::ObjectRow) -> bool {
    let plain = |row: &pb::ObjectRow| row.parts.is_empty();
    one.size == other.size
        && one.crc64 == other.crc64
        && (one.etag == other.etag || !(plain(one) && plain(other)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_placement::{Epoch, ShardSet};
    use prost::Message;

    #[test]
    fn runs_compress_and_find_parts() {
        let runs = part_runs([5, 5, 5, 3].into_iter());
        assert_eq!(runs.len(), 2);
        assert_eq!(part_range(&runs, 1), Some(0..5));
        assert_eq!(part_range(&runs, 3), Some(10..15));
        assert_eq!(part_range(&runs, 4), Some(15..18));
        assert_eq!(part_range(&runs, 5), None);
        assert_eq!(part_range(&runs, 0), None);
    }

    #[test]
    fn bytes_are_compared_by_size_and_checksums() {
        let plain = pb::ObjectRow {
            size: 3,
            etag: "aa".to_owned(),
            crc64: 7,
            ..Default::default()
        };
        let multipart = pb::ObjectRow {
            etag: "bb-1".to_owned(),
            parts: part_runs([3].into_iter()),
            ..plain.clone()
        };
        assert!(same_bytes(&plain, &plain));
        assert!(same_bytes(&plain, &multipart));
        assert!(!same_bytes(
            &plain,
            &pb::ObjectRow {
                etag: "cc".to_owned(),
                ..plain.clone()
            }
        ));
        assert!(!same_bytes(
            &plain,
            &pb::ObjectRow {
                crc64: 8,
                ..multipart
            }
        ));
    }

    /// The encoded bytes of one row of each kind. A change here changes a stored format.
    #[test]
    fn golden_rows() {
        let alone = chunk_of(Profile::R1, ShardSet::default());
        let spread = chunk_of(Profile::R3, ShardSet::from_bits(0b101));
        let chunk = chunk_extent(&alone);
        let rows = [
            (
                "cur",
                object(vec![inline_extent(Bytes::from_static(b"hi"))]).encode_to_vec(),
            ),
            (
                "man",
                pb::ManifestRow {
                    extents: vec![chunk.clone()],
                }
                .encode_to_vec(),
            ),
            ("ls", listing_of(&object(vec![])).encode_to_vec()),
            ("mpu", upload().encode_to_vec()),
            (
                "ups",
                pb::UploadListingRow { initiated_ms: 5 }.encode_to_vec(),
            ),
            ("part", part(chunk).encode_to_vec()),
            ("own", owner(0).encode_to_vec()),
            ("gc", garbage().encode_to_vec()),
            ("del", delete_request().encode_to_vec()),
            ("fence", fence(0).encode_to_vec()),
            ("fence of a deletion", fence(300).encode_to_vec()),
            (
                "extent of three copies",
                chunk_extent(&spread).encode_to_vec(),
            ),
            ("own of three copies", owner(3).encode_to_vec()),
            ("rep", repair_of(&spread).unwrap().encode_to_vec()),
        ];
        let mut text = String::new();
        for (kind, bytes) in rows {
            text += &format!("{kind} {}\n", hex::encode(bytes));
        }
        assert_eq!(text, include_str!("../tests/golden/rows.txt"));
    }

    fn object(extents: Vec<pb::Extent>) -> pb::ObjectRow {
        pb::ObjectRow {
            size: 2,
            etag: "e".to_owned(),
            modified_ms: 5,
            headers: Some(pb::ObjectHeaders {
                content_type: "text/plain".to_owned(),
                user_metadata: [("a".to_owned(), "b".to_owned())].into(),
                ..Default::default()
            }),
            tags: [("t".to_owned(), "v".to_owned())].into(),
            checksum: Some(pb::Checksum {
                algorithm: 3,
                value: Bytes::from_static(&[9; 8]),
                composite: false,
            }),
            crc64: 11,
            extents,
            manifest_id: Bytes::new(),
            manifest_offsets: vec![0, 7],
            parts: part_runs([2].into_iter()),
            delete_requested_ms: 6,
        }
    }

    fn upload() -> pb::UploadRow {
        pb::UploadRow {
            key: "k".to_owned(),
            initiated_ms: 5,
            headers: Some(pb::ObjectHeaders::default()),
            tags: Default::default(),
            checksum_algorithm: 1,
            checksum_composite: true,
            principal: "p".to_owned(),
            completed: Some(pb::CompletedUpload {
                completed_ms: 6,
                etag: "e-1".to_owned(),
                checksum: None,
            }),
            aborted_ms: 7,
        }
    }

    fn part(chunk: pb::Extent) -> pb::PartRow {
        pb::PartRow {
            size: 300,
            md5: Bytes::from_static(&[2; 16]),
            crc64: 3,
            checksum: None,
            modified_ms: 5,
            extents: vec![chunk],
        }
    }

    fn chunk_of(profile: Profile, owed: ShardSet) -> ChunkRef {
        ChunkRef {
            chunk: ChunkId::from_bytes([1; 16]),
            len: 300,
            crc64: 0x0102_0304_0506_0708,
            profile,
            epoch: Epoch(7),
            owed,
        }
    }

    #[test]
    fn profiles_come_back_and_what_is_not_owed_needs_no_row() {
        for profile in [Profile::R1, Profile::R3, Profile::Ec { k: 4, m: 2 }] {
            assert_eq!(profile_from_row(profile_to_row(profile)), Some(profile));
        }
        assert_eq!(profile_from_row(0), Some(Profile::R1));
        assert_eq!(profile_from_row(2), None);
        assert_eq!(profile_from_row(0x1_0003), None);
        assert_eq!(repair_of(&chunk_of(Profile::R3, ShardSet::default())), None);
    }

    fn owner(profile: u32) -> pb::ChunkOwnerRow {
        pb::ChunkOwnerRow {
            bucket_id: Bytes::from_static(&[7; 16]),
            slot: 9,
            len: 300,
            profile,
        }
    }

    fn garbage() -> pb::GcRow {
        pb::GcRow {
            bucket_id: Bytes::from_static(&[7; 16]),
            reason: "overwrite".to_owned(),
            chunk_ids: vec![Bytes::from_static(&[1; 16])],
        }
    }

    fn delete_request() -> pb::DeleteRequestRow {
        pb::DeleteRequestRow {
            requested_ms: 5,
            principal: "p".to_owned(),
            request_id: Bytes::from_static(&[4; 16]),
        }
    }

    fn fence(deletion: u64) -> pb::FenceRow {
        pb::FenceRow {
            bucket_name: "b".to_owned(),
            fenced_ms: 5,
            deletion,
        }
    }
}
