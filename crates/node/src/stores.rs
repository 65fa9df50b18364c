//! Opens what a node keeps its bytes in: the log, the rows of each group, the volume.

use crate::network::{self, Papers};
use crate::{ClusterPart, NodeConfig, StartError, belongings, restore};
use floeberg_catalog::PieceSizes;
use floeberg_consensus::OnFatal;
use floeberg_env::{DiskFile, Env, OpenMode};
use floeberg_kv::{Damage, Kv, KvMemory, MemKv, MemKvStore, RocksKv, RocksKvConfig};
use floeberg_members::Identity;
use floeberg_raftlog::{LogStore, MemLog, MemLogStore, RocksLog};
use floeberg_telemetry::NodeMetrics;
use floeberg_volume::{IndexStore, Volume, VolumeConfig};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// Where a node keeps its log and rows.
#[derive(Clone, Debug)]
pub enum Stores {
    /// RocksDB below the data directory.
    Disk,
    /// In memory, for the simulator.
    Memory(MemoryStores),
}

/// In-memory stores that outlive a simulated crash of the node.
#[derive(Clone, Debug)]
pub struct MemoryStores {
    /// The log of all groups.
    pub log: MemLogStore,
    /// Rows of the catalog group.
    pub catalog: MemKvStore,
    /// Rows of the first object group.
    pub objects: MemKvStore,
    /// Index of the volume.
    pub volume_index: MemKvStore,
    /// Which metadata documents the catalog writes in pieces: small ones, where large ones take too long.
    pub pieces: PieceSizes,
    /// What the death of the process is to the simulator.
    pub on_fatal: FatalHook,
}

/// Called when a group fails: the process would abort now.
#[derive(Clone)]
pub struct FatalHook(pub OnFatal);

impl fmt::Debug for FatalHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FatalHook(..)")
    }
}

/// A group that fails stops the process: only recovery from what is durable is safe.
pub(crate) fn on_fatal(stores: &Stores) -> OnFatal {
    match stores {
        Stores::Disk => Arc::new(|group, cause| {
            tracing::error!(%group, cause, "a group failed; aborting so that recovery can decide");
            std::process::abort();
        }),
        Stores::Memory(memory) => memory.on_fatal.0.clone(),
    }
}

/// The log and the rows of both groups, opened.
pub(crate) struct Opened {
    pub(crate) log: Arc<dyn LogStore>,
    pub(crate) catalog: Arc<dyn Kv>,
    pub(crate) objects: Arc<dyn Kv>,
    /// Reads of the rows of each group that met damage.
    pub(crate) damage: [Damage; 2],
    pub(crate) volume_index: IndexStore,
    pub(crate) pieces: PieceSizes,
    pub(crate) on_fatal: OnFatal,
    /// Held while the node lives, so that no second process uses the directory.
    pub(crate) lock: Arc<dyn DiskFile>,
}

/// Opens everything but the volume, and says whose directory it is.
pub(crate) async fn open_all(
    config: &NodeConfig,
    env: &Env,
    stores: Stores,
    metrics: &NodeMetrics,
) -> Result<(Opened, Identity, Option<Papers>), StartError> {
    let tasks = env.tasks.clone();
    let (config, env, metrics) = (config.clone(), env.clone(), metrics.clone());
    let opening = tasks.spawn_blocking("open-stores", move || {
        let lock = lock(config.data_dir(), &env)?;
        restore::check_finished(&config, &env)?;
        // Whose directory it is comes first: nothing is written into one that is somebody else's.
        let (identity, papers) = network::identify(&config.cluster, config.data_dir(), &env)?;
        if matches!(stores, Stores::Disk) {
            belongings::check(&config, identity, &env)?;
        }
        let opened = open(&config, &stores, &env, &metrics, lock)?;
        Ok::<_, StartError>((opened, identity, papers))
    });
    let opened = opening.await.map_err(|_| StartError::Stopping)??;
    let identity = opened.1;
    tracing::info!(cluster = %identity.cluster, node = %identity.node, "starting");
    Ok(opened)
}

/// Opens everything but the volume. Blocks: call it on a blocking thread.
pub(crate) fn open(
    config: &NodeConfig,
    stores: &Stores,
    env: &Env,
    metrics: &NodeMetrics,
    lock: Arc<dyn DiskFile>,
) -> Result<Opened, StartError> {
    match stores {
        Stores::Disk => open_disk(config, env, metrics, lock),
        Stores::Memory(memory) => Ok(Opened {
            log: Arc::new(MemLog::open(&memory.log, env)),
            catalog: Arc::new(MemKv::open(&memory.catalog)),
            objects: Arc::new(MemKv::open(&memory.objects)),
            damage: Default::default(),
            volume_index: IndexStore::Memory(memory.volume_index.clone()),
            pieces: memory.pieces,
            on_fatal: on_fatal(stores),
            lock,
        }),
    }
}

fn open_disk(
    config: &NodeConfig,
    env: &Env,
    metrics: &NodeMetrics,
    lock: Arc<dyn DiskFile>,
) -> Result<Opened, StartError> {
    let memory = KvMemory::default();
    let rows = || RocksKvConfig {
        memory: memory.clone(),
        ..RocksKvConfig::default()
    };
    let (catalog_rows, object_rows) = (rows(), rows());
    let open_rows = |group: &str, rows: &RocksKvConfig| {
        let dir = config.state_dir().join(group);
        env.disk
            .create_dir_all(&dir)
            .map_err(|source| StartError::DataDir {
                path: dir.clone(),
                source,
            })?;
        let kv: Arc<dyn Kv> = Arc::new(RocksKv::open(&dir, rows)?);
        Ok::<_, StartError>(kv)
    };
    Ok(Opened {
        log: Arc::new(RocksLog::open(
            &config.log_dir(),
            env,
            metrics.raft_log.clone(),
        )?),
        catalog: open_rows("0", &catalog_rows)?,
        objects: open_rows("1", &object_rows)?,
        damage: [catalog_rows.damage, object_rows.damage],
        volume_index: IndexStore::Rocks(rows()),
        pieces: PieceSizes::default(),
        on_fatal: on_fatal(&Stores::Disk),
        lock,
    })
}

/// A new directory survives power loss only once the directory above it is synced.
fn sync_parents(data_dir: &Path, env: &Env) {
    for parent in data_dir.ancestors().skip(1) {
        if let Err(error) = env.disk.sync_dir(parent) {
            // Directories far above may belong to others; they existed before we did.
            tracing::debug!(%error, parent = %parent.display(), "a parent was not synced");
            return;
        }
    }
}

/// Takes the data directory, which is made if it is missing, for this process alone.
pub(crate) fn lock(data_dir: &Path, env: &Env) -> Result<Arc<dyn DiskFile>, StartError> {
    let failed = |source| StartError::DataDir {
        path: data_dir.to_owned(),
        source,
    };
    env.disk.create_dir_all(data_dir).map_err(failed)?;
    sync_parents(data_dir, env);
    let file = env
        .disk
        .open(&data_dir.join("LOCK"), OpenMode::Create)
        .map_err(failed)?;
    if file.lock_exclusive().map_err(failed)? {
        Ok(file)
    } else {
        Err(StartError::InUse {
            path: data_dir.to_owned(),
        })
    }
}

/// Opens the volume; a small segment size also makes chunks small, so that they fit.
pub(crate) async fn open_volume(
    config: &NodeConfig,
    index: IndexStore,
    env: &Env,
    metrics: &NodeMetrics,
) -> Result<Volume, StartError> {
    let mut volume = VolumeConfig::new(index);
    volume.segment_bytes = config.segment_bytes;
    volume.max_chunk_bytes = volume.max_chunk_bytes.min(config.segment_bytes / 4);
    if let ClusterPart::Member(member) = &config.cluster {
        volume.capacity_bytes = member.volume_bytes;
    }
    let dir = config.volume_dir();
    let (volume, report) = Volume::open(&dir, volume, env.clone(), metrics.volume.clone()).await?;
    tracing::info!(?report, "volume open");
    Ok(volume)
}
