//! Brings copies of chunks where they belong.
//!
//! What a chunk owed when it was published is a row of the index, which the leader of the group works
//! off. Copies that a read passed over are known only to the node that read, which repairs them
//! itself. A repair can be repeated at any time, so two nodes at the same chunk do no harm.

use crate::errors::Outage;
use crate::keys::{self, tag};
use crate::reclaim::log_stopped;
use crate::rows::profile_from_row;
use crate::service::Objects;
use crate::store::CommitFailure;
use bytes::Bytes;
use floeberg_metastore::{PageLimit, ReadView, Rows as _};
use floeberg_placement::{Epoch, PlacementMap, Profile, ShardSet};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_shards::{CopyError, Depth, RepairError};
use floeberg_types::{ChunkId, NodeId};
use futures::future::join_all;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Rows handled between two commits.
const BATCH: usize = 256;
/// Chunks under repair at a time.
const PARALLEL: usize = 8;
/// Passed-over copies kept for another pass; more are found again when they are read again.
const PASSED_OVER_MAX: usize = 65_536;
/// A chunk that is being given back cannot be repaired either, but only for one pass.
const HOPELESS_AFTER: u32 = 2;

/// What one pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Chunks whose copies are all where they belong now.
    pub complete: usize,
    /// Chunks that wait for a node.
    pub open: usize,
}

/// What is carried from pass to pass.
#[derive(Debug, Default)]
pub struct Repairs {
    passed_over: BTreeMap<ChunkId, Profile>,
    /// How often a chunk was found to be beyond repair.
    hopeless: BTreeMap<ChunkId, u32>,
    /// Nodes that did not answer in this pass, or have no room.
    away: BTreeSet<NodeId>,
}

impl Repairs {
    fn note(&mut self, chunk: ChunkId, error: &RepairError) {
        match error {
            RepairError::NoSource { failures, .. } => self.note_away(failures),
            RepairError::NotFound { .. } | RepairError::Differ { .. } => {
                let found = self.hopeless.entry(chunk).or_default();
                *found = found.saturating_add(1);
                if *found == HOPELESS_AFTER {
                    tracing::error!(%chunk, %error, "a chunk cannot be repaired");
                }
            }
            RepairError::Read(_) | RepairError::Profile(_) => {}
        }
        tracing::debug!(%chunk, %error, "a chunk is not repaired yet");
    }

    fn note_away(&mut self, failures: &[(NodeId, CopyError)]) {
        // A full node takes nothing else in this pass either.
        let away = |error: &CopyError| {
            matches!(
                error,
                CopyError::Unreachable { .. } | CopyError::Suspect | CopyError::DiskFull { .. }
            )
        };
        let away = failures.iter().filter(|(_, error)| away(error));
        self.away.extend(away.map(|(node, _)| *node));
    }

    /// Whether all that the chunk owes lies on nodes that do not answer.
    fn is_in_vain(
        &self,
        map: &PlacementMap,
        chunk: ChunkId,
        profile: Profile,
        row: &pb::RepairRow,
    ) -> bool {
        let targets = map.targets(map.group_of(&chunk), profile);
        let is_away = |shard| targets.get(shard).is_some_and(|n| self.away.contains(n));
        // Under another map the chunk may lack other copies as well.
        Epoch(row.epoch) == map.epoch() && ShardSet::from_bits(row.owed).iter().all(is_away)
    }
}

impl Objects {
    /// Repairs for ever. Failures are logged and tried again at the next pass.
    pub async fn run_repairs(self: Arc<Self>) {
        let mut repairs = Repairs::default();
        let mut last = Repaired::default();
        loop {
            tokio::time::sleep(Duration::from_millis(self.config.repair_every_ms)).await;
            match self.repair(&mut repairs).await {
                Ok(done) if done != last => {
                    tracing::info!(?done, "looked after copies");
                    last = done;
                }
                Ok(_) => {}
                Err(error) => log_stopped(&error, "a repair pass stopped"),
            }
        }
    }

    /// One pass: over the copies that reads on this node passed over, and on the leader over those
    /// that writes owe.
    ///
    /// # Errors
    /// If the index failed; what was repaired before stays repaired.
    pub async fn repair(&self, repairs: &mut Repairs) -> Result<Repaired, Outage> {
        repairs.away.clear();
        let mut done = Repaired::default();
        self.heal(repairs, &mut done).await?;
        if self.leads() {
            self.pay(repairs, &mut done).await?;
        }
        let open = i64::try_from(done.open).unwrap_or(i64::MAX);
        self.metrics.owed_chunks.set(open);
        Ok(done)
    }

    /// Repairs the chunks of which reads passed a copy over.
    async fn heal(&self, repairs: &mut Repairs, done: &mut Repaired) -> Result<(), Outage> {
        let map = self.shards.map();
        let view = self.store.local();
        for bad in self.shards.take_bad_copies() {
            let Some(Some(profile)) = owner(&view, bad.chunk)?.map(|o| profile_from_row(o.profile))
            else {
                continue;
            };
            let targets = map.targets(map.group_of(&bad.chunk), profile);
            if targets.contains(&bad.node) && repairs.passed_over.len() < PASSED_OVER_MAX {
                repairs.passed_over.insert(bad.chunk, profile);
            }
        }
        let all: Vec<_> = std::mem::take(&mut repairs.passed_over)
            .into_iter()
            .collect();
        for some in all.chunks(PARALLEL) {
            let complete = self.bring(some, Depth::Content, repairs).await;
            done.complete += complete.len();
            let view = self.store.local();
            for (chunk, profile) in some {
                // A chunk that was given back meanwhile needs no copies.
                if complete.contains(chunk) {
                    continue;
                }
                if owner(&view, *chunk)?.is_none() {
                    repairs.hopeless.remove(chunk);
                    continue;
                }
                repairs.passed_over.insert(*chunk, *profile);
                done.open += 1;
            }
        }
        Ok(())
    }

    /// Works the repair rows off.
    async fn pay(&self, repairs: &mut Repairs, done: &mut Repaired) -> Result<(), Outage> {
        let map = self.shards.map();
        let mut after: Option<Bytes> = None;
        loop {
            // What is not applied here yet is found at a later pass.
            let view = self.store.local();
            let page = self.step_behind(move || {
                let limit = PageLimit::STEP.at_most(BATCH);
                Ok(view.page::<pb::RepairRow>(&[tag::REPAIR], after.as_deref(), limit)?)
            });
            let rows = page.await?.rows;
            let Some((last, _)) = rows.last() else {
                return Ok(());
            };
            after = Some(last.clone());
            let mut settled = Vec::new();
            for rows in rows.chunks(PARALLEL) {
                let mut wanted = Vec::new();
                let view = self.store.local();
                for (key, row) in rows {
                    let chunk = keys::parse_repair(key)?;
                    let Some(owner) = owner(&view, chunk)? else {
                        // It was given back; row and owner came together, so it had one.
                        settled.push(chunk);
                        continue;
                    };
                    match profile_from_row(owner.profile) {
                        Some(profile) if !repairs.is_in_vain(&map, chunk, profile, &row.value) => {
                            wanted.push((chunk, profile));
                        }
                        // Its nodes are away, or only a newer version knows its profile.
                        _ => done.open += 1,
                    }
                }
                let complete = self.bring(&wanted, Depth::Presence, repairs).await;
                done.complete += complete.len();
                done.open += wanted.len() - complete.len();
                settled.extend(complete);
            }
            self.forget_repairs(&settled).await?;
            for chunk in settled {
                repairs.hopeless.remove(&chunk);
            }
        }
    }

    /// Repairs a few chunks and returns those that owe nothing any more.
    async fn bring(
        &self,
        chunks: &[(ChunkId, Profile)],
        depth: Depth,
        repairs: &mut Repairs,
    ) -> Vec<ChunkId> {
        let each = chunks.iter().map(|(chunk, profile)| async move {
            let repaired = self.shards.repair(*chunk, *profile, depth).await;
            (*chunk, repaired)
        });
        let mut complete = Vec::new();
        for (chunk, repaired) in join_all(each).await {
            match repaired {
                Ok(report) if report.is_complete() => {
                    complete.push(chunk);
                    repairs.hopeless.remove(&chunk);
                }
                Ok(report) => repairs.note_away(&report.failed),
                Err(error) => repairs.note(chunk, &error),
            }
        }
        complete
    }

    async fn forget_repairs(&self, chunks: &[ChunkId]) -> Result<(), Outage> {
        if chunks.is_empty() {
            return Ok(());
        }
        self.commit::<(), Outage>(&self.background_cx("floeberg:repair"), |txn| {
            for chunk in chunks {
                txn.delete(keys::repair(*chunk));
            }
            Ok(())
        })
        .await
        .map_err(CommitFailure::into_error::<Outage>)
    }
}

pub(crate) fn owner(view: &ReadView, chunk: ChunkId) -> Result<Option<pb::ChunkOwnerRow>, Outage> {
    let row = view.get::<pb::ChunkOwnerRow>(&keys::owner(chunk))?;
    Ok(row.map(|row| row.value))
}
