//! Gives chunks back: discarded ones, garbage that is due, leftovers of crashes, abandoned uploads.
//!
//! A chunk in the volume is in one of three states: it has an owner row (live, or garbage that is
//! not due), a request is still writing it, or nobody accounts for it. Only the last kind is an
//! orphan. A node knows its own requests; that those of other nodes have ended follows from their
//! greatest age, so an orphan is what had no owner for longer than a request and its command take.
//!
//! Every node gives back what it discarded and the orphans on its own disk. What rows say is due is
//! left to the leader of the group; a second one at the same time does no harm.

use crate::errors::Outage;
use crate::keys::{self, ObjectPlace, tag};
use crate::multipart::{abort, take_parts};
use crate::publish::{Reason, discard};
use crate::service::Objects;
use crate::store::CommitFailure;
use bytes::Bytes;
use floeberg_env::{Attendance, Peer};
use floeberg_metastore::{Cx, PageLimit, ReadView, Rows, Store};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_shards::{DeleteError, Shards};
use floeberg_types::{ChunkId, RequestId, SLOTS, TimestampMs, UploadId};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

/// Rows handled between two looks at the log.
const BATCH: usize = 256;

/// Every so many passes the whole volume is compared with the index.
const SWEEP_EVERY: u32 = 10;

/// What one pass gave back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reclaimed {
    /// Chunks of requests that failed before they proposed anything.
    pub discarded: usize,
    /// Chunks of garbage rows that fell due.
    pub due: usize,
    /// Multipart uploads that were abandoned, or ended long ago.
    pub uploads: usize,
    /// Deletions of buckets whose worker stopped.
    pub deletions: usize,
    /// Fences that a worker of an aborted deletion left.
    pub fences: usize,
}

/// Chunks that nobody accounted for at an earlier look.
#[derive(Debug, Default)]
pub struct OrphanSweep {
    suspects: HashMap<ChunkId, Duration>,
}

impl Objects {
    /// Reclaims for ever. Failures are logged and tried again at the next pass.
    pub async fn run_reclaimer(self: Arc<Self>) {
        let mut sweep = OrphanSweep::default();
        let mut passes = 0u32;
        // A bucket whose deletion a crash stopped refuses writes until it is ended.
        if let Err(error) = self
            .resume_deletions(&self.background_cx("floeberg:reclaimer"))
            .await
        {
            log_stopped(&error, "stopped deletions were not ended");
        }
        loop {
            tokio::time::sleep(Duration::from_millis(self.config.reclaim_every_ms)).await;
            let pass = match self.leads() {
                true => self.reclaim().await,
                false => self.reclaim_discarded().await,
            };
            match pass {
                Ok(done) if done != Reclaimed::default() => tracing::info!(?done, "reclaimed"),
                Ok(_) => {}
                Err(error) => log_stopped(&error, "a reclaim pass stopped"),
            }
            passes = passes.wrapping_add(1);
            if passes.is_multiple_of(SWEEP_EVERY) {
                self.sweep_volume(&mut sweep).await;
            }
        }
    }

    /// A node that cannot read the rows may not have been compared with the others yet, and until then
    /// nothing is written to its volume.
    async fn sweep_volume(&self, sweep: &mut OrphanSweep) {
        match self.sweep_orphans(sweep).await {
            Ok(0) => {}
            Ok(chunks) => tracing::info!(chunks, "gave back chunks left by a crash"),
            Err(error) => return log_stopped(&error, "an orphan sweep stopped"),
        }
        if let Err(error) = self.shards.local().reclaim().await {
            tracing::warn!(%error, "the volume could not be compacted");
        }
    }

    /// One pass over everything but orphans.
    ///
    /// # Errors
    /// If storage failed; what was given back before stays given back.
    pub async fn reclaim(&self) -> Result<Reclaimed, Outage> {
        let cx = self.background_cx("floeberg:reclaimer");
        Ok(Reclaimed {
            discarded: self.delete_discarded().await?,
            due: self.collect_due().await?,
            uploads: self.end_uploads().await?,
            deletions: self.resume_deletions(&cx).await?,
            fences: self.lift_stale_fences(&cx).await?,
        })
    }

    async fn reclaim_discarded(&self) -> Result<Reclaimed, Outage> {
        Ok(Reclaimed {
            discarded: self.delete_discarded().await?,
            ..Reclaimed::default()
        })
    }

    /// Whether this node leads the object group, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        let leadership = self.store.leadership();
        let known = leadership.borrow();
        known.is_leader && known.ready
    }

    pub(crate) fn background_cx(&self, principal: &'static str) -> Cx {
        Cx {
            request_id: RequestId::from_bytes(self.env.rng.id128()),
            account: self.account.clone(),
            principal: principal.into(),
            deadline: None,
            attendance: Attendance::default(),
            caller: Peer::INSIDE,
            idempotency: None,
        }
    }

    /// Copies on nodes that do not answer become orphans there, which their own sweeps find.
    async fn give_back(&self, chunks: &[ChunkId]) -> Result<(), Outage> {
        let deleted = self.shards.delete_all(chunks).await?;
        for (node, error) in &deleted.unconfirmed {
            let chunks = chunks.len();
            tracing::info!(%node, chunks, %error, "a node keeps copies until its next sweep");
        }
        self.metrics.reclaimed_chunks.inc_by(chunks.len() as u64);
        Ok(())
    }

    async fn delete_discarded(&self) -> Result<usize, Outage> {
        let chunks = self.chunks.take_discarded();
        if let Err(outage) = self.give_back(&chunks).await {
            self.chunks.discard_again(chunks);
            return Err(outage);
        }
        Ok(chunks.len())
    }

    /// Deletes first and forgets after: a crash between the two repeats the deletion, which does no
    /// harm, while the other order would leave orphans.
    async fn collect_due(&self) -> Result<usize, Outage> {
        let now = self.env.clock.now();
        let mut total = 0;
        for slot in 0..SLOTS {
            loop {
                let (rows, chunks) = self.due_rows(slot, now).await?;
                if rows.is_empty() {
                    break;
                }
                self.give_back(&chunks).await?;
                self.commit::<(), Outage>(&self.background_cx("floeberg:reclaimer"), |txn| {
                    for row in &rows {
                        txn.delete(row.clone());
                    }
                    for chunk in &chunks {
                        txn.delete(keys::owner(*chunk));
                    }
                    Ok(())
                })
                .await
                .map_err(CommitFailure::into_error::<Outage>)?;
                total += chunks.len();
            }
        }
        Ok(total)
    }

    /// The garbage rows of a slot that are due, with their chunks.
    async fn due_rows(
        &self,
        slot: u16,
        now: TimestampMs,
    ) -> Result<(Vec<Bytes>, Vec<ChunkId>), Outage> {
        let view = self.fresh_or_local(slot).await?;
        self.step_behind(move || due_rows(&view, slot, now)).await
    }

    /// One barrier per pass is enough: garbage rows only appear, and only this task removes them.
    async fn fresh_or_local(&self, slot: u16) -> Result<ReadView, Outage> {
        if slot == 0 {
            self.view().await
        } else {
            Ok(self.store.local())
        }
    }

    fn orphan_grace(&self) -> Duration {
        let command = u64::try_from(self.config.orphan_grace_ms).unwrap_or(0);
        let command = Duration::from_millis(command);
        if self.shards.map().members().len() > 1 {
            command + self.config.request_max()
        } else {
            command
        }
    }

    /// Compares the chunks on this node's disk with the owner rows and gives back what nobody has
    /// accounted for at any look since one that lies at least the grace back (see
    /// [`crate::ObjectsConfig::orphan_grace_ms`]).
    ///
    /// # Errors
    /// If storage failed.
    pub async fn sweep_orphans(&self, sweep: &mut OrphanSweep) -> Result<usize, Outage> {
        let now = self.env.clock.monotonic();
        let grace = self.orphan_grace();
        self.view().await?;
        let mut seen = HashMap::new();
        let mut orphans = Vec::new();
        let mut after = None;
        loop {
            // The rows are at least as new as the chunks.
            let (shards, store) = (self.shards.clone(), self.store.clone());
            let page = self.step_behind(move || owned_chunks(&shards, &store, after.as_ref()));
            let page = page.await?;
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            for (chunk, owned) in page {
                if owned || self.chunks.is_writing(&chunk) {
                    continue;
                }
                let first = sweep.suspects.get(&chunk).copied().unwrap_or(now);
                if now.saturating_sub(first) >= grace && sweep.suspects.contains_key(&chunk) {
                    orphans.push(chunk);
                } else {
                    seen.insert(chunk, first);
                }
            }
        }
        sweep.suspects = seen;
        let volume = self.shards.local();
        volume.delete_all(&orphans).await.map_err(DeleteError)?;
        self.metrics.reclaimed_chunks.inc_by(orphans.len() as u64);
        Ok(orphans.len())
    }

    /// Aborts uploads that were abandoned, and forgets those that ended long ago together with parts
    /// that were applied after the end.
    async fn end_uploads(&self) -> Result<usize, Outage> {
        let now = self.env.clock.now();
        self.view().await?;
        let mut ended = 0;
        let mut after: Option<Bytes> = None;
        loop {
            let view = self.store.local();
            let page = self.step_behind(move || {
                let limit = PageLimit::STEP.at_most(BATCH);
                Ok(view.page::<pb::UploadRow>(&[tag::UPLOAD], after.as_deref(), limit)?)
            });
            let rows = page.await?.rows;
            let Some((last, _)) = rows.last() else {
                return Ok(ended);
            };
            after = Some(last.clone());
            for (key, raw) in rows {
                let (bucket, upload) = keys::parse_upload(&key)?;
                let row = raw.value;
                let place = ObjectPlace::new(bucket, &row.key);
                if self.end_upload(&place, upload, &row, now).await? {
                    ended += 1;
                }
            }
        }
    }

    async fn end_upload(
        &self,
        place: &ObjectPlace,
        upload: UploadId,
        row: &pb::UploadRow,
        now: TimestampMs,
    ) -> Result<bool, Outage> {
        let since = |ms: i64| now.since_ms(TimestampMs(ms));
        let config = &self.config;
        // Nobody reads the bytes of an upload, but its bucket's kind is not in the row.
        let grace = config.grace_general_ms;
        let forget = match (&row.completed, row.aborted_ms) {
            (Some(done), _) => since(done.completed_ms) >= config.completed_memory_ms,
            (None, 0) => false,
            (None, aborted) => since(aborted) >= config.orphan_grace_ms,
        };
        let open = row.completed.is_none() && row.aborted_ms == 0;
        let abandoned = open && since(row.initiated_ms) >= config.upload_lifetime_ms;
        if !forget && !abandoned {
            return Ok(false);
        }
        self.commit::<(), Outage>(&self.background_cx("floeberg:reclaimer"), |txn| {
            let key = place.upload(upload);
            let Some(stored) = txn.get::<pb::UploadRow>(&key)? else {
                return Ok(());
            };
            if stored.value != *row {
                return Ok(());
            }
            if open {
                return abort(txn, place, upload, stored.value, grace);
            }
            for (_, part) in take_parts(txn, place, upload)? {
                discard(txn, place, &part.extents, Reason::Abort, grace);
            }
            txn.delete(key);
            Ok(())
        })
        .await
        .map_err(CommitFailure::into_error::<Outage>)?;
        Ok(true)
    }
}

/// Without a leader a pass stops and the next one goes on, which is nobody's fault.
pub(crate) fn log_stopped(error: &Outage, what: &str) {
    match error {
        Outage::Unavailable | Outage::Crowded(_) | Outage::Indefinite => {
            tracing::info!(%error, "{what}")
        }
        Outage::TooLarge(_) | Outage::DiskFull | Outage::Storage(_) => {
            tracing::warn!(%error, "{what}");
        }
    }
}

/// Some chunks on this node's disk, and whether a row accounts for them.
fn owned_chunks(
    shards: &Shards,
    store: &Store,
    after: Option<&ChunkId>,
) -> Result<Vec<(ChunkId, bool)>, Outage> {
    let page = shards.local().chunks(after, BATCH)?;
    let view = store.local();
    let owned = page.into_iter().map(|(chunk, _)| {
        let owned = view.exists(&keys::owner(chunk))?;
        Ok((chunk, owned))
    });
    owned.collect()
}

fn due_rows(
    view: &ReadView,
    slot: u16,
    now: TimestampMs,
) -> Result<(Vec<Bytes>, Vec<ChunkId>), Outage> {
    let rows = view.scan::<pb::GcRow>(&keys::garbage_of(slot), None, BATCH)?;
    let (mut due, mut chunks) = (Vec::new(), Vec::new());
    for (key, raw) in rows {
        if keys::garbage_due(&key)? > now {
            break;
        }
        chunks.extend(
            raw.chunk_ids
                .iter()
                .filter_map(|id| ChunkId::from_slice(id)),
        );
        due.push(key);
    }
    Ok((due, chunks))
}
