//! Puts a backup into a cluster that was just founded: its one node, stopped, never used before.
//!
//! As with a recovery, both groups run without any way to other nodes while that happens. A mark in
//! the data directory says that a restore has begun; with it the node does not start, and the same
//! backup can be put in again, which goes on from what is there. It goes last.

use crate::belongings;
use crate::network::{self, Network};
use crate::node::{Ground, GroupStores, begin};
use crate::stores::{self, Stores};
use crate::{ClusterPart, NodeConfig, StartError, marks};
use bytes::Bytes;
use floeberg_backup::{Backup, GroupPart, ReadError, Row, Verified, verify};
use floeberg_consensus::Begin;
use floeberg_env::{DiskFile, Env};
use floeberg_members::{Home, Identity};
use floeberg_metastore::{
    Cx, Rows as _, Store, StoreError, TransactError, Txn, UsageDelta, UsageKey, UsageRow, keys,
};
use floeberg_state::FEATURE_LEVEL;
use floeberg_telemetry::NodeMetrics;
use floeberg_types::{BucketId, ChunkId, ClusterId, GroupId, RequestId, TableId};
use floeberg_volume::{Volume, WriteError};
use futures::{StreamExt as _, TryStreamExt as _};
use keys::KeyReader;
use prost::Message as _;
use std::sync::Arc;

/// Holds the name of the backup that is being put in.
const MARK: &str = "restoring";

/// The groups of a backup, in the order in which they were read.
const GROUPS: [GroupId; 2] = [GroupId::CATALOG, GroupId::OBJECTS];

/// Chunks written at a time.
const PARALLEL: usize = 4;

/// Rows and bytes of rows in one command.
const ROWS: usize = 500;
const BYTES: usize = 512 * 1024;

/// Why a backup was not restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The node does not open.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The backup is damaged; no row or chunk was written.
    #[error("the backup is damaged, nothing was restored:\n{}", .0.join("\n"))]
    Damaged(Vec<String>),
    /// It cannot be read.
    #[error("the backup cannot be read")]
    Backup(#[from] ReadError),
    /// Where it is kept.
    #[error("the backup cannot be read")]
    Place(#[from] floeberg_backup::StoreError),
    /// It was made where something else is fixed.
    #[error(
        "the backup is of {what} `{theirs}` and this node of `{ours}`: names of resources would \
         change; restore into a node with the same {what}"
    )]
    Other {
        /// Region or account.
        what: &'static str,
        /// Of the backup.
        theirs: String,
        /// Of the node.
        ours: String,
    },
    /// The node does not begin a cluster.
    #[error(
        "this node joins a cluster that is there: restore into the first node of a new one, made by \
         `floeberg cluster init`, and let others join after that"
    )]
    Joined,
    /// There is something already.
    #[error(
        "the data directory has been used: restore into an empty one, or with `--config` into one \
         that `floeberg cluster init` has just made"
    )]
    Used,
    /// Another one was begun.
    #[error(
        "backup {begun} is being restored here and is not finished: restore that one, or empty the \
         data directory"
    )]
    Another {
        /// Its name.
        begun: String,
    },
    /// Its rows lie in other groups than this version has.
    #[error("the backup has other groups than this version: use the floeberg that made it")]
    Groups,
    /// Rows of the backup need a newer version.
    #[error("rows of the backup have feature level {level}: use a newer floeberg")]
    Newer {
        /// The level.
        level: u32,
    },
    /// A row was not taken.
    #[error("rows could not be written: {0}")]
    Rows(String),
    /// A chunk was not taken.
    #[error("chunk {chunk} could not be written")]
    Chunk {
        /// The chunk.
        chunk: ChunkId,
        /// Why.
        #[source]
        source: WriteError,
    },
}

impl From<StoreError> for RestoreError {
    fn from(error: StoreError) -> Self {
        Self::Rows(error.to_string())
    }
}

impl From<TransactError<StoreError>> for RestoreError {
    fn from(error: TransactError<StoreError>) -> Self {
        Self::Rows(error.to_string())
    }
}

/// What was restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// The new cluster, which has an id of its own.
    pub cluster: ClusterId,
    /// Rows of both groups.
    pub rows: u64,
    /// Chunks.
    pub chunks: u64,
}

/// The backup that is only partly restored, if one is.
fn begun(config: &NodeConfig, env: &Env) -> Result<Option<String>, StartError> {
    marks::read(&config.data_dir().join(MARK), env)
}

/// A node does not start on half a backup.
pub(crate) fn check_finished(config: &NodeConfig, env: &Env) -> Result<(), StartError> {
    match begun(config, env)? {
        None => Ok(()),
        Some(backup) => Err(StartError::Restoring { backup }),
    }
}

/// Puts a backup into the data directory of a node that is founded and was never started. It is all
/// there when this returns; after a failure the node does not start, and the same backup may be put
/// in again.
///
/// # Errors
/// See [`RestoreError`].
pub async fn restore(
    config: NodeConfig,
    env: Env,
    backup: &Backup,
) -> Result<Restored, RestoreError> {
    fits(&config, backup)?;
    let lock = take(&config, &env, backup).await?;
    // Longest of all that may refuse, hence last.
    let Verified { faults, .. } = verify(backup).await?;
    if !faults.is_empty() {
        return Err(RestoreError::Damaged(faults));
    }
    let metrics = NodeMetrics::new();
    let (opened, identity) = open(&config, &env, &metrics, lock, backup).await?;
    let volume = stores::open_volume(&config, opened.volume_index.clone(), &env, &metrics).await?;
    let ground = Ground {
        config: &config,
        env: &env,
        identity,
        metrics: &metrics,
        opened: &opened,
        volume: &volume,
    };
    let groups = ground
        .groups(&Network::none(), begin(identity.node))
        .await?;
    groups.ready().await;
    let filled = fill(&ground, &groups, backup).await;
    for (_, store) in groups.each().into_iter().rev() {
        store.shutdown().await.map_err(StartError::from)?;
    }
    volume.close().await;
    let (rows, chunks) = filled?;
    marks::remove(config.data_dir(), MARK, &env)?;
    Ok(Restored {
        cluster: identity.cluster,
        rows,
        chunks,
    })
}

fn fits(config: &NodeConfig, backup: &Backup) -> Result<(), RestoreError> {
    let manifest = backup.manifest();
    let pairs = [
        ("region", &manifest.region, config.region.to_string()),
        ("account", &manifest.account, config.account.to_string()),
    ];
    for (what, theirs, ours) in pairs {
        if *theirs != ours {
            let theirs = theirs.clone();
            return Err(RestoreError::Other { what, theirs, ours });
        }
    }
    let groups = manifest.groups.iter().map(|part| GroupId(part.point.group));
    if !groups.eq(GROUPS) {
        return Err(RestoreError::Groups);
    }
    let levels = manifest.groups.iter().map(|part| part.point.feature_level);
    match levels.max().filter(|level| *level > FEATURE_LEVEL) {
        Some(level) => Err(RestoreError::Newer { level }),
        None => Ok(()),
    }
}

/// Takes the data directory for this process alone. Nobody may have used it but an earlier attempt
/// with this backup. Nothing is changed.
async fn take(
    config: &NodeConfig,
    env: &Env,
    backup: &Backup,
) -> Result<Arc<dyn DiskFile>, RestoreError> {
    let name = backup.manifest().backup.clone();
    let (config, env, tasks) = (config.clone(), env.clone(), env.tasks.clone());
    let taking = move || {
        let lock = stores::lock(config.data_dir(), &env)?;
        match begun(&config, &env)? {
            Some(begun) if begun == name => Ok(lock),
            Some(begun) => Err(RestoreError::Another { begun }),
            None => unused(&config, &env).map(|()| lock),
        }
    };
    let taken = tasks.spawn_blocking("take-directory", taking).await;
    taken.map_err(|_| StartError::Stopping)?
}

/// A member was founded before, a single node is nobody yet; neither has ever started.
fn unused(config: &NodeConfig, env: &Env) -> Result<(), RestoreError> {
    let home = Home::new(config.data_dir(), env.disk.clone());
    let used = match &config.cluster {
        ClusterPart::Single => home.identity().map_err(StartError::from)?.is_some(),
        ClusterPart::Member(_) => {
            let identity = home.occupant().map_err(StartError::from)?;
            if begin(identity.node) != Begin::Alone {
                return Err(RestoreError::Joined);
            }
            belongings::are_marked(config, env)?
        }
    };
    if used {
        return Err(RestoreError::Used);
    }
    Ok(())
}

/// Opens the stores of a node that has nothing, or what an earlier attempt left.
async fn open(
    config: &NodeConfig,
    env: &Env,
    metrics: &NodeMetrics,
    lock: Arc<dyn DiskFile>,
    backup: &Backup,
) -> Result<(stores::Opened, Identity), RestoreError> {
    let name = backup.manifest().backup.clone();
    let (config, env, metrics) = (config.clone(), env.clone(), metrics.clone());
    let tasks = env.tasks.clone();
    let opening = move || {
        let first = begun(&config, &env)?.is_none();
        if first {
            marks::write(config.data_dir(), MARK, &name, &env)?;
        }
        let (identity, _) = network::identify(&config.cluster, config.data_dir(), &env)?;
        // Its directories are its own from here on, as after a first start.
        belongings::check(&config, identity, &env)?;
        let opened = stores::open(&config, &Stores::Disk, &env, &metrics, lock)?;
        for group in GROUPS.into_iter().filter(|_| first) {
            let log = opened.log.state(group).map_err(StartError::from)?;
            if log.last.is_some() || log.purged.is_some() {
                // Rows of somebody whose identity was lost are not to be mixed with others.
                marks::remove(config.data_dir(), MARK, &env)?;
                return Err(RestoreError::Used);
            }
        }
        Ok((opened, identity))
    };
    let opened = tasks.spawn_blocking("open-stores", opening).await;
    opened.map_err(|_| StartError::Stopping)?
}

async fn fill(
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
        request_id: RequestId::from_bytes(ground.env.rng.id128()),
        account: ground.config.account.clone(),
        principal: "floeberg:restore".into(),
        deadline: None,
        idempotency: None,
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
