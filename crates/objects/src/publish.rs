//! The one place that makes an object visible, and the one that takes it away.
//!
//! Everything here runs inside a transaction of the object group, so conditions, the fence and the
//! rules of table buckets hold at the moment the object appears.

use crate::errors::{BucketFenced, NoSuchKey, PreconditionFailed, WrittenOnce};
use crate::ingest::Stored;
use crate::keys::{self, ObjectPlace};
use crate::model::{StoredChecksum, WriteConditions, Written};
use crate::ports::BucketKind;
use crate::rows::{
    EXTENTS_PER_ROW, checksum_from_row, chunks_of, extent_len, kind_of, listing_of, same_bytes,
};
use crate::service::Target;
use crate::store::Stop;
use bytes::Bytes;
use floeberg_metastore::{Rows, StoreError, Txn};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_state::{Event, UsageDelta, UsageKey};
use floeberg_types::{Checksum, ChecksumAlgorithm, TimestampMs};

/// Why an object was not published. Definite: nothing was written.
#[derive(Debug)]
pub(crate) enum PublishRefused {
    Fenced(BucketFenced),
    Precondition(PreconditionFailed),
    NoSuchKey(NoSuchKey),
    WrittenOnce(WrittenOnce),
}

macro_rules! from_publish_refused {
    ($($error:ident),*) => {$(
        impl From<PublishRefused> for crate::errors::$error {
            fn from(refused: PublishRefused) -> Self {
                match refused {
                    PublishRefused::Fenced(e) => Self::Fenced(e),
                    PublishRefused::Precondition(e) => Self::Precondition(e),
                    PublishRefused::NoSuchKey(e) => Self::NoSuchKey(e),
                    PublishRefused::WrittenOnce(e) => Self::WrittenOnce(e),
                }
            }
        }
    )*};
}

from_publish_refused!(PutError, CompleteError);

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Publication {
    /// The new bytes are the object.
    New,
    /// A table's file already held these bytes; the new copy is garbage.
    AlreadyThere,
}

/// Refuses work on a bucket that is being deleted.
pub(crate) fn check_fence<E>(txn: &mut Txn<'_>, target: &Target) -> Result<(), Stop<E>>
where
    E: From<BucketFenced>,
{
    match txn.get::<pb::FenceRow>(&keys::fence(target.bucket.id))? {
        None => Ok(()),
        Some(_) => Err(Stop::Refused(fenced(target).into())),
    }
}

fn fenced(target: &Target) -> BucketFenced {
    BucketFenced {
        bucket: target.bucket.name.clone(),
    }
}

impl From<BucketFenced> for PublishRefused {
    fn from(fenced: BucketFenced) -> Self {
        Self::Fenced(fenced)
    }
}

/// Makes `row` with `extents` the object at `target`. `row.modified_ms` is set here.
pub(crate) fn publish(
    txn: &mut Txn<'_>,
    target: &Target,
    conditions: &WriteConditions,
    mut row: pb::ObjectRow,
    extents: &[pb::Extent],
    grace_ms: i64,
) -> Result<(Publication, Written), Stop<PublishRefused>> {
    check_fence::<PublishRefused>(txn, target)?;
    let current = txn
        .get::<pb::ObjectRow>(&target.place.current())?
        .map(|row| row.value);
    // A file whose deletion was asked for is gone as far as its writer is concerned.
    let visible = current.as_ref().filter(|row| row.delete_requested_ms == 0);
    conditions
        .check(visible.map(|row| row.etag.as_str()))
        .map_err(|failed| {
            Stop::Refused(match failed {
                Some(failed) => PublishRefused::Precondition(failed),
                None => PublishRefused::NoSuchKey(NoSuchKey {
                    key: target.key().to_owned(),
                }),
            })
        })?;
    row.modified_ms = txn.now().0;
    if let Some(current) = current {
        if target.bucket.kind == BucketKind::Table {
            return keep_written(txn, target, current, &row);
        }
        retire(txn, &target.place, &current, Reason::Overwrite, grace_ms)?;
        count(txn, target, -1, current.size);
    }
    store_extents(txn, target, &mut row, extents);
    txn.put(target.place.listing(), &listing_of(&row));
    txn.put(target.place.current(), &row);
    count(txn, target, 1, row.size);
    let written = written(&row);
    txn.event(object_event(
        "object.put",
        target,
        &[("size", row.size.to_string())],
    ));
    Ok((Publication::New, written))
}

/// The write-once rule of table buckets: equal bytes succeed, also after a delete request, which
/// they take back; other bytes are refused.
fn keep_written(
    txn: &mut Txn<'_>,
    target: &Target,
    mut current: pb::ObjectRow,
    new: &pb::ObjectRow,
) -> Result<(Publication, Written), Stop<PublishRefused>> {
    if !same_bytes(&current, new) {
        let key = target.key().to_owned();
        return Err(Stop::Refused(PublishRefused::WrittenOnce(WrittenOnce {
            key,
        })));
    }
    if current.delete_requested_ms != 0 {
        current.delete_requested_ms = 0;
        txn.put(target.place.listing(), &listing_of(&current));
        txn.put(target.place.current(), &current);
        txn.delete(target.place.delete_request());
        txn.event(object_event("object.delete-withdrawn", target, &[]));
    }
    Ok((Publication::AlreadyThere, written(&current)))
}

fn written(row: &pb::ObjectRow) -> Written {
    Written {
        etag: row.etag.clone(),
        size: row.size,
        checksum: checksum_from_row(row.checksum.as_ref()).unwrap_or_else(|| StoredChecksum {
            value: Checksum::new(
                ChecksumAlgorithm::Crc64Nvme,
                Bytes::copy_from_slice(&row.crc64.to_be_bytes()),
            )
            .expect("a CRC-64 has 8 bytes"),
            kind: kind_of(false),
        }),
        modified: TimestampMs(row.modified_ms),
    }
}

/// Puts the extents into the row, or into manifest rows if there are very many.
fn store_extents(
    txn: &mut Txn<'_>,
    target: &Target,
    row: &mut pb::ObjectRow,
    extents: &[pb::Extent],
) {
    if extents.len() <= EXTENTS_PER_ROW {
        row.extents = extents.to_vec();
        return;
    }
    let id = txn.new_id();
    row.manifest_id = Bytes::copy_from_slice(&id);
    let mut offset = 0;
    for (sequence, slice) in (0u32..).zip(extents.chunks(EXTENTS_PER_ROW)) {
        row.manifest_offsets.push(offset);
        offset += slice.iter().map(extent_len).sum::<u64>();
        let manifest = pb::ManifestRow {
            extents: slice.to_vec(),
        };
        txn.put(target.place.manifest(&id, sequence), &manifest);
    }
}

/// Why bytes became garbage.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reason {
    Overwrite,
    Delete,
    Abort,
    Part,
}

impl Reason {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Overwrite => "overwrite",
            Self::Delete => "delete",
            Self::Abort => "abort",
            Self::Part => "part",
        }
    }
}

/// Hands an object's chunks to garbage collection and removes its manifest rows. The object's own
/// rows are the caller's.
pub(crate) fn retire(
    txn: &mut Txn<'_>,
    place: &ObjectPlace,
    row: &pb::ObjectRow,
    reason: Reason,
    grace_ms: i64,
) -> Result<(), StoreError> {
    let mut extents = row.extents.clone();
    for (sequence, _) in (0u32..).zip(&row.manifest_offsets) {
        let key = place.manifest(&row.manifest_id, sequence);
        if let Some(manifest) = txn.get::<pb::ManifestRow>(&key)? {
            extents.extend(manifest.value.extents);
        }
        txn.delete(key);
    }
    discard(txn, place, &extents, reason, grace_ms);
    Ok(())
}

/// Writes one garbage row for the chunks among `extents`. Their owner rows stay until they are
/// given back, so that a chunk is accounted for at every moment.
pub(crate) fn discard(
    txn: &mut Txn<'_>,
    place: &ObjectPlace,
    extents: &[pb::Extent],
    reason: Reason,
    grace_ms: i64,
) {
    let chunk_ids: Vec<Bytes> = chunks_of(extents)
        .map(|(chunk, _)| Bytes::copy_from_slice(chunk.as_bytes()))
        .collect();
    if chunk_ids.is_empty() {
        return;
    }
    let due = txn.now().plus_ms(grace_ms);
    let id = txn.new_id();
    let garbage = pb::GcRow {
        bucket_id: Bytes::copy_from_slice(place.bucket.as_bytes()),
        reason: reason.as_str().to_owned(),
        chunk_ids,
    };
    txn.put(place.garbage(due, &id), &garbage);
}

/// Accounts for fresh chunks and for the copies they owe.
pub(crate) fn own(txn: &mut Txn<'_>, place: &ObjectPlace, stored: &Stored) {
    for (chunk, extent) in chunks_of(&stored.extents) {
        let owner = pb::ChunkOwnerRow {
            bucket_id: Bytes::copy_from_slice(place.bucket.as_bytes()),
            slot: u32::from(place.slot),
            len: extent.len,
            profile: extent.profile,
        };
        txn.put(keys::owner(chunk), &owner);
    }
    for (chunk, owed) in &stored.owed {
        txn.put(keys::repair(*chunk), owed);
    }
}

/// Adds `objects` objects of `size` bytes to the bucket's usage.
pub(crate) fn count(txn: &mut Txn<'_>, target: &Target, objects: i64, size: u64) {
    let bytes = objects.saturating_mul(i64::try_from(size).unwrap_or(i64::MAX));
    let delta = UsageDelta {
        objects,
        bytes,
        ..UsageDelta::default()
    };
    txn.usage(UsageKey::Bucket(target.bucket.id), delta);
}

pub(crate) fn object_event(kind: &str, target: &Target, details: &[(&str, String)]) -> Event {
    Event {
        kind: kind.to_owned(),
        resource: target.resource(),
        details: details
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    }
}
