//! Brings back what this node's volume has lost, once it was put back to an older copy.
//!
//! A pass compares the volume with every row that names a copy on this node, and then with what the other
//! nodes store, because chunks of requests that are still open have no row yet. What is missing is
//! copied from whoever has it. A pass can be ended and repeated at any time.

use crate::errors::Outage;
use crate::keys::{self, tag};
use crate::repair::owner;
use crate::rows::profile_from_row;
use crate::service::Objects;
use bytes::Bytes;
use floeberg_metastore::PageLimit;
use floeberg_placement::{PlacementMap, Profile};
use floeberg_proto::floeberg::objects::v1 as pb;
use floeberg_shards::{Depth, RepairError};
use floeberg_types::{ChunkId, NodeId};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Rows compared in one step.
const BATCH: usize = 256;
/// Chunks compared with the other nodes at a time.
const LISTED: usize = 1024;
/// Chunks copied at a time.
const PARALLEL: usize = 8;

/// What a pass has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refilled {
    /// Rows that were compared.
    pub compared: u64,
    /// Chunks that were missing and are back.
    pub copied: u64,
    /// Chunks that are missing still.
    pub left: u64,
    /// Of those, chunks of which every other node says that it has none.
    pub nowhere: u64,
    /// Nodes that did not say what they store.
    pub silent: BTreeSet<NodeId>,
}

impl Refilled {
    /// Whether nothing was missing at the end that any node knows of.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.left == 0 && self.silent.is_empty()
    }
}

/// How the copy of one chunk turned out.
enum Fate {
    Back,
    Missing,
    /// Nobody has it.
    Nowhere,
    /// It was deleted meanwhile.
    Deleted,
}

/// Rows of one step: how many, which of their chunks are missing, and where to go on.
struct Page {
    rows: u64,
    missing: Vec<(ChunkId, Profile)>,
    last: Option<Bytes>,
}

impl Objects {
    /// One pass; `progress` is told after every step.
    ///
    /// # Errors
    /// If the rows cannot be read, or this node does not know yet where chunks belong.
    pub async fn refill(
        &self,
        mut progress: impl FnMut(&Refilled) + Send,
    ) -> Result<Refilled, Outage> {
        // What is acknowledged up to now is in the rows read below.
        self.view().await?;
        let map = self.shards.map();
        if map.takers() == 0 {
            return Err(Outage::Unavailable);
        }
        let mut done = Refilled::default();
        let mut after = None;
        loop {
            let page = self.rows_of_missing(map.clone(), after).await?;
            done.compared += page.rows;
            self.bring_back(&page.missing, &mut done).await?;
            progress(&done);
            after = page.last;
            if after.is_none() {
                break;
            }
        }
        self.refill_unpublished(&map, &mut done, &mut progress)
            .await?;
        Ok(done)
    }

    /// How many chunks are not on this node although rows say that they are.
    ///
    /// # Errors
    /// As [`Self::refill`].
    pub async fn missing_here(&self) -> Result<u64, Outage> {
        self.view().await?;
        let map = self.shards.map();
        let (mut missing, mut after) = (0, None);
        loop {
            let page = self.rows_of_missing(map.clone(), after).await?;
            missing += page.missing.len() as u64;
            after = page.last;
            if after.is_none() {
                return Ok(missing);
            }
        }
    }

    /// The next rows behind `after`, and those of them that name a copy here which is missing.
    async fn rows_of_missing(
        &self,
        map: Arc<PlacementMap>,
        after: Option<Bytes>,
    ) -> Result<Page, Outage> {
        let (view, shards) = (self.store.local(), self.shards.clone());
        self.step_behind(move || {
            let limit = PageLimit::STEP.at_most(BATCH);
            let rows = view.page::<pb::ChunkOwnerRow>(&[tag::OWNER], after.as_deref(), limit)?;
            let rows = rows.rows;
            let mut missing = Vec::new();
            for (key, row) in &rows {
                let chunk = keys::parse_owner(key)?;
                // Only a newer version knows a profile that is not known here, and where its chunks belong.
                let Some(profile) = profile_from_row(row.value.profile) else {
                    continue;
                };
                let here = map.targets(map.group_of(&chunk), profile);
                if here.contains(&shards.node()) && shards.local().len_of(&chunk)?.is_none() {
                    missing.push((chunk, profile));
                }
            }
            Ok(Page {
                rows: rows.len() as u64,
                missing,
                last: rows.last().map(|(key, _)| key.clone()),
            })
        })
        .await
    }

    /// What other nodes store for requests that have not published it yet.
    async fn refill_unpublished(
        &self,
        map: &PlacementMap,
        done: &mut Refilled,
        progress: &mut (impl FnMut(&Refilled) + Send),
    ) -> Result<(), Outage> {
        let profile = Profile::copies_for_nodes(map.takers());
        let mut after = None;
        loop {
            let (shards, me) = (&self.shards, self.shards.node());
            let page = shards.missing_on(me, profile, after, LISTED).await;
            let page = page.map_err(Outage::storage)?;
            done.silent
                .extend(page.skipped.into_iter().map(|(node, _)| node));
            let missing: Vec<_> = page.missing.into_iter().map(|c| (c, profile)).collect();
            self.bring_back(&missing, done).await?;
            progress(done);
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn bring_back(
        &self,
        missing: &[(ChunkId, Profile)],
        done: &mut Refilled,
    ) -> Result<(), Outage> {
        for some in missing.chunks(PARALLEL) {
            let copies = some.iter().map(|(chunk, profile)| async move {
                let repaired = self.shards.repair(*chunk, *profile, Depth::Presence).await;
                self.fate(*chunk, repaired)
            });
            for fate in join_all(copies).await {
                match fate? {
                    Fate::Back => done.copied += 1,
                    Fate::Missing => done.left += 1,
                    Fate::Nowhere => {
                        done.left += 1;
                        done.nowhere += 1;
                    }
                    Fate::Deleted => {}
                }
            }
        }
        Ok(())
    }

    fn fate(
        &self,
        chunk: ChunkId,
        repaired: Result<floeberg_shards::RepairReport, RepairError>,
    ) -> Result<Fate, Outage> {
        let me = self.shards.node();
        let error = match repaired {
            Ok(report) if report.copied.contains(&me) || report.present.contains(&me) => {
                return Ok(Fate::Back);
            }
            Ok(_) => return Ok(Fate::Missing),
            Err(error) => error,
        };
        tracing::debug!(%chunk, %error, "a chunk is not back yet");
        let nowhere = match &error {
            RepairError::NotFound { .. } => true,
            RepairError::NoSource { failures, .. } => failures.is_empty(),
            _ => false,
        };
        if owner(&self.store.local(), chunk)?.is_some() {
            return Ok(if nowhere {
                Fate::Nowhere
            } else {
                Fate::Missing
            });
        }
        Ok(if nowhere {
            Fate::Deleted
        } else {
            Fate::Missing
        })
    }
}
