//! Puts a backup into a cluster that was just founded: its one node, stopped, never used before.
//!
//! As with a recovery, both groups run without any way to other nodes while that happens. A mark in
//! the data directory says that a restore has begun; with it the node does not start, and the same
//! backup can be put in again, which goes on from what is there. It goes last.

use crate::belongings;
use crate::network::{self, Network};
use crate::node::{Ground, begin};
use crate::stores::{self, Stores};
use crate::{ClusterPart, NodeConfig, StartError, marks};
use fill::fill;
use floeberg_backup::{Backup, ReadError, Verified, verify};
use floeberg_consensus::{Begin, Footing, Standing};
use floeberg_env::{DiskFile, Env};
use floeberg_members::{Home, Identity};
use floeberg_metastore::{StoreError, TransactError};
use floeberg_state::FEATURE_LEVEL;
use floeberg_telemetry::NodeMetrics;
use floeberg_types::{ChunkId, ClusterId, GroupId};
use floeberg_volume::WriteError;
use std::sync::Arc;

mod fill;

/// Holds the name of the backup that is being put in.
const MARK: &str = "restoring";

/// The groups of a backup, in the order in which they were read.
const GROUPS: [GroupId; 2] = [GroupId::CATALOG, GroupId::OBJECTS];

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
    let standing = Standing::cleared();
    let ground = Ground {
        config: &config,
        env: &env,
        identity,
        metrics: &metrics,
        opened: &opened,
        volume: &volume,
        marks: None,
        standing: &standing,
    };
    let groups = ground
        .groups(&Network::none(), begin(identity.node), |_| Footing::alone())
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
        ("region", &manifest.origin.region, config.region.to_string()),
        (
            "account",
            &manifest.origin.account,
            config.account.to_string(),
        ),
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
    let name = backup.manifest().origin.backup.clone();
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
    let name = backup.manifest().origin.backup.clone();
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
