//! What a restore writes: the chunks of a backup, then its rows.

use super::RestoreError;
use crate::StartError;
use crate::group_stores::GroupStores;
use crate::node::Ground;
use bytes::Bytes;
use floeberg_backup::{Backup, GroupPart, Row};
use floeberg_metastore::{
    Cx, Rows as _, Store, StoreError, Txn, UsageDelta, UsageKey, UsageRow, keys,
};
use floeberg_types::{BucketId, ChunkId, GroupId, TableId};
use floeberg_volume::Volume;
use futures::{StreamExt as _, TryStreamExt as _};
use keys::KeyReader;
use prost::Message as _;

/// Chunks written at a time.
const PARALLEL: usize = 4;

/// Rows and bytes of rows in one command.
const ROWS: usize = 500;
const BYTES: usize = 512 * 1024;

/// Puts in every chunk, then every row: a row that is there can be read.
pub(super) async fn fill(
    ground: &Ground<'_>,
    groups: &GroupStores,
    backup: &Backup,
) -> Result<(u64, u64), RestoreError> {
    let chunks: Vec<_> = backup.chunks().collect();
    let count = chunks.len() as u64;
    // Chunks that are written at the same time share a sync.
    let put = |(chunk, len)| put_chunk(ground.volume, backup, chunk, len);
    let puts = futures::stream::iter(chunks.into_iter().map(put)).buffer_unordered(PARALLEL);
    puts.try_collect::<()>().await?;
    let mut rows = 0;
    for (group, store) in groups.each() {
        let parts = backup.manifest().groups.iter();
        for part in parts.filter(|part| part.point.group == group.0) {
            rows += put_rows(ground, store, backup, part).await?;
        }
    }
    Ok((rows, count))
}

async fn put_chunk(
    volume: &Volume,
    backup: &Backup,
    chunk: ChunkId,
    len: u64,
) -> Result<(), RestoreError> {
    if volume.len_of(&chunk).map_err(StartError::from)? == Some(len) {
        return Ok(());
    }
    let bytes = backup.chunk(chunk).await?;
    let failed = |source| RestoreError::Chunk { chunk, source };
    let mut writer = volume.begin_as(chunk, Some(len)).await.map_err(failed)?;
    writer.append(bytes).await.map_err(failed)?;
    writer.finish().await.map(|_| ()).map_err(failed)
}

async fn put_rows(
    ground: &Ground<'_>,
    store: &Store,
    backup: &Backup,
    part: &GroupPart,
) -> Result<u64, RestoreError> {
    let cx = || Cx {
        principal: "floeberg:restore".into(),
        ..Cx::own(ground.config.account.clone(), ground.env)
    };
    let level = part.point.feature_level;
    let raised = store.raise_feature_level(&cx(), level).await;
    raised.map_err(|error| RestoreError::Rows(error.to_string()))?;
    let mut count = 0;
    for number in 0..part.pages {
        let page = backup.page(GroupId(part.point.group), number).await?;
        count += page.rows.len() as u64;
        let mut rest = &page.rows[..];
        while !rest.is_empty() {
            let (now, later) = rest.split_at(batch(rest));
            let puts = now.iter().map(Put::of).collect::<Result<Vec<_>, _>>();
            let puts = puts.map_err(|error| RestoreError::Rows(error.to_string()))?;
            let cx = cx();
            store
                .transact(&cx, |txn| puts.iter().try_for_each(|put| put.to(txn)))
                .await?;
            rest = later;
        }
    }
    Ok(count)
}

/// How many of the rows fit one command.
fn batch(rows: &[Row]) -> usize {
    let mut bytes = 0;
    let fits = rows.iter().take(ROWS).take_while(|row| {
        bytes += row.key.len() + row.payload.len();
        bytes <= BYTES
    });
    fits.count().max(1)
}

/// What becomes of a row. Commands say by how much counters change and never put them.
enum Put {
    Row { key: Bytes, payload: Bytes },
    Usage { key: UsageKey, wanted: UsageRow },
}

impl Put {
    fn of(row: &Row) -> Result<Self, prost::DecodeError> {
        let (key, payload) = (row.key.clone(), row.payload.clone());
        match usage_key(&key) {
            None => Ok(Self::Row { key, payload }),
            Some(key) => {
                let wanted = UsageRow::decode(payload)?;
                Ok(Self::Usage { key, wanted })
            }
        }
    }

    fn to(&self, txn: &mut Txn<'_>) -> Result<(), StoreError> {
        match self {
            Self::Row { key, payload } => txn.put_raw(key.clone(), payload.clone()),
            Self::Usage { key, wanted } => {
                let there = txn.get::<UsageRow>(&key.key())?;
                let there = there.map(|row| row.value).unwrap_or_default();
                txn.usage(*key, missing(wanted, &there));
            }
        }
        Ok(())
    }
}

fn usage_key(row: &[u8]) -> Option<UsageKey> {
    let mut key = KeyReader::new(row, keys::tag::USAGE).ok()?;
    let (kind, id) = (key.u8().ok()?, key.id().ok()?);
    match kind {
        0 => Some(UsageKey::Bucket(BucketId::from_bytes(id))),
        _ => Some(UsageKey::Table(TableId::from_bytes(id))),
    }
}

/// What turns one counter into the other, however often it is done.
fn missing(wanted: &UsageRow, there: &UsageRow) -> UsageDelta {
    UsageDelta {
        objects: wanted.objects - there.objects,
        bytes: wanted.bytes - there.bytes,
        commits: wanted.commits - there.commits,
        tables: wanted.tables - there.tables,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_bounded_in_rows_and_bytes() {
        let rows = |count: usize, bytes: usize| {
            let row = Row {
                key: Bytes::new(),
                payload: vec![0; bytes].into(),
                chunks: Vec::new(),
            };
            vec![row; count]
        };
        assert_eq!(batch(&rows(3, 10)), 3);
        assert_eq!(batch(&rows(ROWS + 1, 10)), ROWS);
        assert_eq!(batch(&rows(3, BYTES / 2)), 2);
        assert_eq!(batch(&rows(3, BYTES + 1)), 1);
    }

    #[test]
    fn counters_are_recognised_and_raised_by_what_they_lack() {
        for key in [
            UsageKey::Bucket(BucketId::from_bytes([1; 16])),
            UsageKey::Table(TableId::from_bytes([2; 16])),
        ] {
            assert_eq!(usage_key(&key.key()), Some(key));
        }
        assert_eq!(usage_key(b"\x10lake"), None);
        let wanted = UsageRow {
            objects: 7,
            bytes: 70,
            commits: 3,
            tables: 1,
        };
        let lacks = missing(&wanted, &UsageRow::default());
        assert_eq!((lacks.objects, lacks.bytes), (7, 70));
        assert_eq!((lacks.commits, lacks.tables), (3, 1));
        assert_eq!(missing(&wanted, &wanted), UsageDelta::default());
    }
}
