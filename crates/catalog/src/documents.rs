//! Documents of tables in memory: read from rows, rendered, and held until clients have read them.
//!
//! What no cache keeps is counted, for whoever asked for it: a document of 64 MiB is as much memory for
//! each client that is slow to read a version of its own.

use crate::errors::Outage;
use crate::files::MetadataFile;
use crate::heads::{ColdHead, SnapshotsMode, TableHead};
use crate::keys::SeriesId;
use crate::load::StoredTable;
use crate::rows::{TableHeadRow, series_of};
use crate::versions::{self, PartsWalk, StoredPart};
use crate::{Catalog, keys};
use bytes::Bytes;
use floeberg_env::{ByteBudget, Held, Peer, SHARE_PATIENCE, Shares};
use floeberg_metastore::{ReadView, Rows as _};
use floeberg_types::limits::{
    ANSWER_UNCOUNTED_BYTES, DOCUMENT_COPIES, DOCUMENTS_HELD_BYTES, TABLE_METADATA_BYTES,
};
use floeberg_types::{CommitId, TableId};
use std::sync::Arc;
use std::time::Duration;

/// A document of so many bytes is rendered sooner than it could be handed to another thread and back.
const RENDERED_IN_PLACE: u64 = 256 << 10;

/// What the largest table takes while it is read.
const LARGEST: u64 = (DOCUMENT_COPIES * TABLE_METADATA_BYTES) as u64;

/// What a node has for documents.
pub(crate) fn budget() -> ByteBudget {
    ByteBudget::new(Shares::of(DOCUMENTS_HELD_BYTES as u64, LARGEST))
}

/// A small document holds nothing.
fn counted(bytes: Bytes, held: Option<Held>) -> Bytes {
    match held {
        Some(held) => held.of_bytes(bytes),
        None => bytes,
    }
}

impl Catalog {
    /// Room for `copies` of a document of `length` bytes; small ones need none. What an earlier version let
    /// grow beyond what there is counts as the largest.
    async fn room(
        &self,
        caller: Peer,
        length: u64,
        copies: u64,
        patience: Duration,
    ) -> Result<Option<Held>, Outage> {
        if length <= ANSWER_UNCOUNTED_BYTES as u64 {
            return Ok(None);
        }
        let bytes = length.saturating_mul(copies).min(LARGEST);
        let held = self.inner.documents_held.hold(caller, bytes, patience);
        Ok(Some(held.await?))
    }

    /// Reads the parts of a version, in steps that others take turns with.
    async fn parts(
        &self,
        view: ReadView,
        series: SeriesId,
        version: u64,
    ) -> Result<Vec<StoredPart>, Outage> {
        let mut walk = PartsWalk::new(series, version);
        loop {
            let view = view.clone();
            let advance = move || walk.advance::<Outage>(&view).map(|done| (walk, done));
            let (on, done) = self.step(advance).await??;
            if done {
                return Ok(on.into_parts());
            }
            walk = on;
        }
    }

    /// The head of a table that a view shows, read into memory if it is not there.
    pub(crate) async fn head(
        &self,
        caller: Peer,
        view: ReadView,
        table: StoredTable,
    ) -> Result<Arc<TableHead>, Outage> {
        let (id, commit, version) = (table.id, table.commit, table.row.version);
        if let Some(head) = self.inner.heads.get(id, commit) {
            return Ok(head);
        }
        let (series, length) = match &table.row.current {
            Some(current) => (series_of(id, current)?, current.length),
            None => (SeriesId::first_of(id), 0),
        };
        let copies = DOCUMENT_COPIES as u64;
        let _held = self.room(caller, length, copies, SHARE_PATIENCE).await?;
        // Others may have waited for the same.
        if let Some(head) = self.inner.heads.get(id, commit) {
            return Ok(head);
        }
        let parts = self.parts(view, series, version).await?;
        let assembled = self.step(move || versions::assemble(&table, parts)).await?;
        let head = Arc::new(assembled?);
        self.inner.heads.insert(id, commit, head.clone());
        Ok(head)
    }

    /// Reads a table's metadata into memory for a decision that found it missing there. By then
    /// every row the decision saw is applied.
    pub(crate) async fn warm(
        &self,
        caller: Peer,
        cold: &ColdHead,
    ) -> Result<Option<(TableId, CommitId, Arc<TableHead>)>, Outage> {
        let view = self.inner.store.local();
        let Some(row) = view.get::<TableHeadRow>(&keys::head(cold.table))? else {
            return Ok(None);
        };
        let (id, commit) = (cold.table, row.commit_id);
        let table = StoredTable {
            id,
            commit,
            row: Box::new(row.value),
        };
        Ok(Some((id, commit, self.head(caller, view, table).await?)))
    }

    /// The document of a head in a mode, rendered apart if it is large. It counts as held by `caller`
    /// until the last of its bytes is dropped; room for that is waited for as long as `patience`.
    ///
    /// # Errors
    /// Others hold the memory, or the process is ending.
    pub async fn document(
        &self,
        caller: Peer,
        head: &Arc<TableHead>,
        mode: SnapshotsMode,
        patience: Duration,
    ) -> Result<Bytes, Outage> {
        let length = head.metadata().rendered_len();
        let held = self.room(caller, length, 1, patience).await?;
        if length <= RENDERED_IN_PLACE {
            return Ok(counted(head.rendered(mode), held));
        }
        if let Some(document) = head.at_hand(mode) {
            return Ok(counted(document, held));
        }
        let _rendering = head.rendering().await;
        let head = Arc::clone(head);
        let document = self.step(move || head.rendered(mode)).await?;
        Ok(counted(document, held))
    }

    /// The bytes of a metadata file: those of every earlier and later call. They count as held by `caller`
    /// until the last of them is dropped.
    ///
    /// # Errors
    /// Only outages; among them, that the version has been collected meanwhile.
    pub async fn render_metadata_file(
        &self,
        caller: Peer,
        file: &MetadataFile,
    ) -> Result<Bytes, Outage> {
        let length = file.row.length;
        let mut held = self.room(caller, length, 2, SHARE_PATIENCE).await?;
        let view = self.inner.store.local();
        let series = series_of(file.table, &file.row)?;
        let parts = self.parts(view, series, file.version).await?;
        let row = file.row.clone();
        let rendered = self.step(move || versions::render(parts, &row)).await??;
        if let Some(held) = &mut held {
            // Less than before, so there is nothing to wait for.
            held.resize(length.min(LARGEST), Duration::ZERO).await?;
        }
        Ok(counted(rendered, held))
    }
}
