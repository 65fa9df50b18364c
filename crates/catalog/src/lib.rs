//! The use cases of the catalog: buckets, namespaces, tables, commits.
//!
//! Everything here lives in group 0. Each change is one command, decided on the leader against rows
//! it lists and applied only if they are still as they were, so a commit over many tables is one
//! atomic step. No HTTP here: the protocol adapters own status codes.

mod admit;
mod buckets;
mod commit;
mod create;
mod deletion;
mod documents;
mod drop;
mod errors;
mod files;
mod heads;
mod idempotency;
pub mod janitor;
mod keys;
mod load;
mod location;
mod namespaces;
mod page;
mod pieces;
mod publish;
mod register;
mod rename;
mod request;
mod rows;
mod seen;
mod survey;
mod versions;

#[cfg(test)]
mod tests;

pub use buckets::{BucketInfo, BucketKind, BucketState, CreateTableBucket, ListBuckets};
pub use commit::{CommitOutcome, CommittedTable, TableChange};
pub use create::{CreateTable, StagedTable};
pub use deletion::DeletionEnd;
pub use drop::{DropTable, Purge};
pub use errors::*;
pub use files::{FileLocation, MetadataEntry, MetadataFile};
pub use floeberg_metastore::CommandTooLarge;
pub use heads::{SnapshotsMode, TableHead, TableInfo, TableState, VersionToken};
pub use idempotency::{IDEMPOTENCY_LIFETIME_MS, KeyUsed, Refusal};
pub use load::{ListTables, MetadataLocation, TableSelector};
pub use namespaces::{
    CreateNamespace, ListNamespaces, NamespaceInfo, PropertiesUpdated, UpdateProperties,
};
pub use page::{LISTING_BYTES_MAX, Page, PageRequest};
pub use register::{
    FoundFile, MetadataReader, Overwrite, ReadMetadataError, RegisterTable, UpdateMetadataLocation,
};
pub use rename::RenameTable;
pub use survey::bucket_names;

use floeberg_env::{ByteBudget, Env};
use floeberg_metastore::{Committed, Cx, ReadView, Store, TransactError, Txn};
use floeberg_telemetry::CatalogMetrics;
use floeberg_types::{TimestampMs, limits};
use heads::{HeadCache, Heads, Pinned};
use std::sync::Arc;

/// Sizes of the catalog's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogConfig {
    /// Bytes of memory for table metadata that is kept.
    pub head_cache_bytes: u64,
    /// Which documents are written in pieces.
    pub pieces: PieceSizes,
}

/// When a metadata document is written in pieces, and how large they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PieceSizes {
    /// Bytes of rows that go into the command itself.
    pub above: usize,
    /// Bytes of a row, and about half of the most that a piece has.
    pub bytes: usize,
}

impl Default for CatalogConfig {
    fn default() -> Self {
        Self {
            head_cache_bytes: limits::HEADS_KEPT_BYTES as u64,
            pieces: PieceSizes::default(),
        }
    }
}

/// The catalog of a cluster; clones share everything.
#[derive(Clone)]
pub struct Catalog {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    env: Env,
    heads: Arc<HeadCache>,
    files: Arc<dyn MetadataReader>,
    metrics: CatalogMetrics,
    pieces: PieceSizes,
    /// Memory for metadata files that are read for clients, and for what becomes of them.
    files_held: ByteBudget,
    /// Memory for documents of tables while they are read from their rows, and while clients read them.
    documents_held: ByteBudget,
    /// Places to write documents ahead.
    writers: ByteBudget,
}

/// What a decision found: an answer, or that it lacks something which has to be found apart first, because others
/// would wait for it.
enum Decided<T, M> {
    Done(T),
    /// Nothing was decided.
    Lacks(M),
}

/// Lacks the metadata of all these tables in memory.
type Step<T> = Decided<T, Vec<heads::ColdHead>>;

/// Lacks a draft of what it would write, made at this time or before: a later one would be of the future.
type Draftable<T> = Decided<T, TimestampMs>;

impl Catalog {
    /// A catalog over the rows of group 0. `files` reads metadata files that clients wrote.
    #[must_use]
    pub fn new(
        store: Store,
        env: Env,
        config: &CatalogConfig,
        files: Arc<dyn MetadataReader>,
        metrics: CatalogMetrics,
    ) -> Self {
        let heads = Arc::new(HeadCache::new(config.head_cache_bytes));
        let followed = Arc::clone(&heads);
        store.on_launch(move |commit, command| followed.launched(commit, command));
        Self {
            inner: Arc::new(Inner {
                store,
                env,
                heads,
                files,
                metrics,
                pieces: config.pieces,
                files_held: register::files_budget(),
                documents_held: documents::budget(),
                writers: pieces::writers(),
            }),
        }
    }

    /// What bounds the memory of its requests, by name.
    #[must_use]
    pub fn budgets(&self) -> [(&'static str, ByteBudget); 2] {
        let Inner {
            files_held,
            documents_held,
            ..
        } = &*self.inner;
        [
            ("metadata-files", files_held.clone()),
            ("documents", documents_held.clone()),
        ]
    }

    /// Runs a decision that needs no table metadata.
    async fn transact<T, E>(
        &self,
        cx: &Cx,
        decide: impl FnMut(&mut Txn<'_>) -> Result<T, E> + Send,
    ) -> Result<T, E>
    where
        T: Send,
        E: From<Outage> + Send,
    {
        match self.inner.store.transact(cx, decide).await {
            Ok(Committed { value, .. }) => Ok(value),
            Err(TransactError::Refused(refused)) => Err(refused),
            Err(TransactError::Unavailable) => Err(Outage::Unavailable.into()),
            Err(TransactError::Crowded(crowded)) => Err(Outage::Crowded(crowded).into()),
            Err(TransactError::Indefinite) => Err(Outage::Indefinite.into()),
            Err(TransactError::TooLarge(large)) => Err(Outage::TooLarge(large).into()),
            Err(TransactError::Storage(source)) => Err(Outage::storage(source).into()),
        }
    }

    /// Runs a decision over table metadata, once for each idempotency key. Cold tables are read
    /// outside of the evaluation, which would otherwise wait for one table's fragments with every
    /// other commit behind it, and all that one evaluation misses before the next.
    async fn transact_heads<T, E>(
        &self,
        cx: &Cx,
        decide: impl FnMut(&mut Txn<'_>, &Heads<'_>) -> Result<Step<T>, E> + Send,
    ) -> Result<T, E>
    where
        T: idempotency::Remembered + Send,
        E: From<Outage> + Send,
    {
        let mut pinned = Pinned::new();
        self.transact_pinned(cx, &mut pinned, decide).await
    }

    /// The same with what was read before for the same request.
    async fn transact_pinned<T, E>(
        &self,
        cx: &Cx,
        pinned: &mut Pinned,
        mut decide: impl FnMut(&mut Txn<'_>, &Heads<'_>) -> Result<Step<T>, E> + Send,
    ) -> Result<T, E>
    where
        T: idempotency::Remembered + Send,
        E: From<Outage> + Send,
    {
        loop {
            let heads = Heads {
                cache: &self.inner.heads,
                pinned,
            };
            match self.transact_once(cx, |txn| decide(txn, &heads)).await? {
                Step::Done(value) => return Ok(value),
                Step::Lacks(cold) => self.pin(cx, &cold, pinned).await?,
            }
        }
    }

    /// Reads cold tables into memory for one request.
    async fn pin(
        &self,
        cx: &Cx,
        cold: &[heads::ColdHead],
        pinned: &mut Pinned,
    ) -> Result<(), Outage> {
        for cold in cold {
            if cx.is_over() {
                return Err(Outage::Unavailable);
            }
            if let Some((table, commit, head)) = self.warm(cx.caller, cold).await? {
                pinned.insert((table, commit), head);
            }
        }
        Ok(())
    }

    /// Log time, as far as this node knows.
    fn now(&self) -> TimestampMs {
        let applied = self.inner.store.applied().log_time;
        self.inner.env.clock.now().max(applied)
    }

    /// The time by which answers under keys expire. Not the log's: that leaps with one wrong clock and never falls again, and
    /// what was done half an hour before would be done twice.
    fn present(&self) -> TimestampMs {
        self.inner.env.clock.now()
    }

    /// Does a bounded piece of work whose size a client decides apart from what must not wait.
    ///
    /// # Errors
    /// The process is ending.
    pub async fn step<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Outage> {
        let done = self.inner.store.step(work).await;
        done.map_err(|_| Outage::Unavailable)
    }

    /// The same over many rows or entries, as for a listing: it stands behind all else.
    ///
    /// # Errors
    /// The process is ending.
    pub async fn step_behind<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Outage> {
        let done = self.inner.store.step_behind(work).await;
        done.map_err(|_| Outage::Unavailable)
    }

    /// Rows of one moment that show everything acknowledged before the call.
    pub(crate) async fn view(&self) -> Result<ReadView, Outage> {
        let view = self.inner.store.view().await;
        view.map_err(|_| Outage::Unavailable)
    }

    /// A linearizable read of a few rows.
    async fn read<T, E>(&self, f: impl FnOnce(&ReadView) -> Result<T, E> + Send) -> Result<T, E>
    where
        T: Send,
        E: From<Outage> + Send,
    {
        match self.inner.store.read(f).await {
            Ok(answer) => answer,
            Err(_) => Err(Outage::Unavailable.into()),
        }
    }
}
