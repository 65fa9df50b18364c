//! The object service: what it is made of and how it finds a bucket.

use crate::chunks::ChunkSessions;
use crate::errors::{CatalogFile, Outage, OutsideTables};
use crate::keys::ObjectPlace;
use crate::ports::{BucketInfo, BucketKind, Buckets, Location, TableFiles};
use floeberg_env::Env;
use floeberg_metastore::Store;
use floeberg_shards::Shards;
use floeberg_telemetry::ObjectsMetrics;
use floeberg_types::AccountId;
use std::sync::Arc;
use std::time::Duration;

/// Limits and grace periods. The defaults suit a server; tests shorten them.
#[derive(Clone, Debug)]
pub struct ObjectsConfig {
    /// Bodies up to this many bytes live in the index row itself.
    pub inline_max: usize,
    /// The most bytes of one chunk.
    pub chunk_max: u64,
    /// The least bytes of every part but the last.
    pub part_min: u64,
    /// How long replaced or deleted bytes of a general purpose bucket stay readable for requests
    /// that already found them.
    pub grace_general_ms: i64,
    /// The same for table buckets, whose readers plan long scans over a snapshot's files.
    pub grace_tables_ms: i64,
    /// How long a chunk must have been unaccounted for before it counts as left over by a crash.
    /// Longer than any proposal can stay in flight. With several nodes [`Self::request_max_ms`] is
    /// added, because a node does not know what requests at others are still writing.
    pub orphan_grace_ms: i64,
    /// How long the body of one request may take.
    pub request_max_ms: i64,
    /// After how long an abandoned multipart upload ends.
    pub upload_lifetime_ms: i64,
    /// How long the answer of a completed upload is repeated to a client that asks again.
    pub completed_memory_ms: i64,
    /// How often the reclaimer looks for work.
    pub reclaim_every_ms: u64,
    /// How often copies that are owed or damaged are looked for.
    pub repair_every_ms: u64,
}

impl ObjectsConfig {
    pub(crate) fn request_max(&self) -> Duration {
        Duration::from_millis(u64::try_from(self.request_max_ms).unwrap_or(0))
    }
}

const HOUR_MS: i64 = 3_600_000;

impl Default for ObjectsConfig {
    fn default() -> Self {
        Self {
            inline_max: 16 << 10,
            chunk_max: 64 << 20,
            part_min: 5 << 20,
            grace_general_ms: HOUR_MS,
            grace_tables_ms: 24 * HOUR_MS,
            orphan_grace_ms: HOUR_MS,
            request_max_ms: 24 * HOUR_MS,
            upload_lifetime_ms: 7 * 24 * HOUR_MS,
            completed_memory_ms: 24 * HOUR_MS,
            reclaim_every_ms: 60_000,
            repair_every_ms: 10_000,
        }
    }
}

/// The object use cases over one object group and the chunks of all nodes.
pub struct Objects {
    pub(crate) store: Store,
    pub(crate) shards: Shards,
    pub(crate) buckets: Arc<dyn Buckets>,
    pub(crate) tables: Arc<dyn TableFiles>,
    pub(crate) env: Env,
    pub(crate) metrics: ObjectsMetrics,
    pub(crate) account: AccountId,
    pub(crate) config: ObjectsConfig,
    pub(crate) chunks: Arc<ChunkSessions>,
}

/// What the service is built from.
pub struct ObjectsParts {
    /// The object group's rows.
    pub store: Store,
    /// The chunks.
    pub shards: Shards,
    /// Which buckets exist.
    pub buckets: Arc<dyn Buckets>,
    /// Which keys belong to tables.
    pub tables: Arc<dyn TableFiles>,
    /// Clock, randomness and tasks.
    pub env: Env,
    /// Counters.
    pub metrics: ObjectsMetrics,
    /// The account in commands of the reclaimer.
    pub account: AccountId,
    /// Limits and grace periods.
    pub config: ObjectsConfig,
}

/// A bucket and a key in it that a request is about.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) bucket: BucketInfo,
    pub(crate) place: ObjectPlace,
}

impl Target {
    pub(crate) fn key(&self) -> &str {
        &self.place.key
    }

    /// The object in events and messages.
    pub(crate) fn resource(&self) -> String {
        format!("arn:aws:s3:::{}/{}", self.bucket.name, self.place.key)
    }
}

/// Why a key of a table bucket may not be written.
pub(crate) enum KeyRefused {
    Outside(OutsideTables),
    CatalogFile(CatalogFile),
    Outage(Outage),
}

impl Objects {
    /// Builds the service. Nothing runs in the background until [`Self::run_reclaimer`]
    /// and [`Self::run_repairs`].
    #[must_use]
    pub fn new(parts: ObjectsParts) -> Self {
        Self {
            store: parts.store,
            shards: parts.shards,
            buckets: parts.buckets,
            tables: parts.tables,
            env: parts.env,
            metrics: parts.metrics,
            account: parts.account,
            config: parts.config,
            chunks: Arc::default(),
        }
    }

    /// A key of a table bucket must belong to a live or staged table and must not be one of the
    /// metadata files that the catalog serves itself.
    pub(crate) async fn check_writable<E>(&self, target: &Target) -> Result<(), E>
    where
        E: From<KeyRefused>,
    {
        if target.bucket.kind == BucketKind::General {
            return Ok(());
        }
        let (id, key) = (target.bucket.id, target.key());
        match self
            .tables
            .locate(id, key)
            .await
            .map_err(KeyRefused::Outage)?
        {
            Location::Live | Location::Staged => {}
            Location::Dropped | Location::Outside => {
                let (bucket, key) = (target.bucket.name.clone(), key.to_owned());
                return Err(KeyRefused::Outside(OutsideTables { bucket, key }).into());
            }
        }
        if is_metadata_name(key)
            && self
                .tables
                .metadata_file(id, key)
                .await
                .map_err(KeyRefused::Outage)?
                .is_some()
        {
            return Err(KeyRefused::CatalogFile(CatalogFile {
                key: key.to_owned(),
            })
            .into());
        }
        Ok(())
    }

    pub(crate) fn grace_ms(&self, kind: BucketKind) -> i64 {
        match kind {
            BucketKind::General => self.config.grace_general_ms,
            BucketKind::Table => self.config.grace_tables_ms,
        }
    }
}

/// Only keys of this form can name a metadata file of the catalog, so other keys need no look-up.
pub(crate) fn is_metadata_name(key: &str) -> bool {
    key.ends_with(".metadata.json")
}

macro_rules! from_key_refused {
    ($($error:ident),*) => {$(
        impl From<KeyRefused> for crate::errors::$error {
            fn from(refused: KeyRefused) -> Self {
                match refused {
                    KeyRefused::Outside(e) => Self::Outside(e),
                    KeyRefused::CatalogFile(e) => Self::CatalogFile(e),
                    KeyRefused::Outage(e) => Self::Outage(e),
                }
            }
        }
    )*};
}

from_key_refused!(PutError, CreateUploadError, CompleteError);
