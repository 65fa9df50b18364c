//! Bringing copies where they belong: owed ones, damaged ones, those of a new or emptied node.

use crate::error::{CopyError, RepairError, StatError};
use crate::reader::Reading;
use crate::stat::{CopyState, Listed};
use crate::store::Shards;
use crate::wire::{End, IDS_MAX, Piece, RunningCrc, ShardId, WriteHead, crc64};
use floeberg_placement::{NodeState, PlacementMap, Profile};
use floeberg_types::{ChunkId, NodeId};
use futures::future::join_all;
use std::collections::BTreeSet;

/// How closely copies are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The index is asked: enough for copies that are owed.
    Presence,
    /// Every byte is read: for copies that a read passed over, and for scrubs.
    Content,
}

impl Depth {
    pub(crate) fn code(self) -> u32 {
        match self {
            Self::Presence => 1,
            Self::Content => 2,
        }
    }

    pub(crate) fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Presence),
            2 => Some(Self::Content),
            _ => None,
        }
    }
}

/// What a repair found and did, by node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepairReport {
    /// Had a copy that belongs there.
    pub present: Vec<NodeId>,
    /// Got a copy.
    pub copied: Vec<NodeId>,
    /// Is getting a copy from its writer.
    pub pending: Vec<NodeId>,
    /// Could not be asked, or did not take the copy.
    pub failed: Vec<(NodeId, CopyError)>,
    /// Has a copy that need not be there any more.
    pub surplus: Vec<NodeId>,
    /// Copies for which the map has no node.
    pub unplaced: usize,
}

impl RepairReport {
    /// Whether every copy is where it belongs, so that the chunk owes nothing.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.pending.is_empty() && self.failed.is_empty() && self.unplaced == 0
    }
}

/// Chunks that a node lacks, up to some id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MissingPage {
    /// Chunks that belong on the node, are elsewhere, and are not on it.
    pub missing: Vec<ChunkId>,
    /// Where to continue; `None`: this was the last page.
    pub next: Option<ChunkId>,
    /// Nodes that were not compared: chunks that only they have are not listed.
    pub skipped: Vec<(NodeId, CopyError)>,
}

/// The copies of a chunk before a repair.
struct Survey {
    stored: Vec<(NodeId, u64, Option<u64>)>,
    lacking: Vec<NodeId>,
    pending: Vec<NodeId>,
    failed: Vec<(NodeId, CopyError)>,
    /// Copies that exist but are damaged.
    damaged: usize,
}

impl Shards {
    /// Copies a chunk to every node that should have it and does not, at the pace of repairs. It can
    /// be repeated at any time: what is there is not copied again.
    ///
    /// # Errors
    /// If no healthy copy can be reached, or copies differ. What single targets did is in the report.
    pub async fn repair(
        &self,
        chunk: ChunkId,
        profile: Profile,
        depth: Depth,
    ) -> Result<RepairReport, RepairError> {
        let copies = profile.copies()?;
        let map = self.map();
        let group = map.group_of(&chunk);
        let targets = map.targets(group, profile);
        let survey = self.survey(chunk, map.candidates(group), depth).await;
        let len = survey.agreed_len(chunk)?;
        let sources: Vec<NodeId> = survey.stored.iter().map(|(node, ..)| *node).collect();
        let belongs = |node: &NodeId| targets.contains(node);
        let mut report = RepairReport {
            present: sources.iter().copied().filter(belongs).collect(),
            surplus: sources.iter().copied().filter(|n| !belongs(n)).collect(),
            pending: survey.pending.into_iter().filter(belongs).collect(),
            failed: survey
                .failed
                .into_iter()
                .filter(|(n, _)| belongs(n))
                .collect(),
            copied: Vec::new(),
            unplaced: copies.saturating_sub(targets.len()),
        };
        for node in survey.lacking.iter().copied().filter(belongs) {
            let head = WriteHead {
                shard: ShardId {
                    chunk,
                    number: number_of(node, targets),
                },
                write: self.inner.env.rng.id128(),
                epoch: map.epoch(),
                profile,
                announced: Some(len),
            };
            match self.copy_to(node, head, len, &sources).await? {
                Ok(()) => {
                    tracing::info!(%chunk, %node, "copied a chunk to a node that lacked it");
                    report.copied.push(node);
                }
                Err(error) => report.failed.push((node, error)),
            }
        }
        Ok(report)
    }

    async fn survey(&self, chunk: ChunkId, nodes: &[NodeId], depth: Depth) -> Survey {
        let asked = nodes.iter().map(|node| async move {
            let state = self.state_on(*node, chunk, depth).await;
            (*node, state)
        });
        let mut survey = Survey {
            stored: Vec::new(),
            lacking: Vec::new(),
            pending: Vec::new(),
            failed: Vec::new(),
            damaged: 0,
        };
        for (node, state) in join_all(asked).await {
            match state {
                Ok(CopyState::Stored { len, crc64 }) => survey.stored.push((node, len, crc64)),
                Ok(CopyState::Absent) => survey.lacking.push(node),
                Ok(CopyState::Damaged) => {
                    survey.lacking.push(node);
                    survey.damaged += 1;
                }
                Ok(CopyState::Writing) => survey.pending.push(node),
                Err(error) => survey.failed.push((node, error)),
            }
        }
        survey
    }

    /// The outer error is the sources', the inner one the target's.
    async fn copy_to(
        &self,
        node: NodeId,
        head: WriteHead,
        len: u64,
        sources: &[NodeId],
    ) -> Result<Result<(), CopyError>, RepairError> {
        let inner = &self.inner;
        let chunk = head.shard.chunk;
        if node == inner.node
            && let Err(message) = inner.reserve.check()
        {
            return Ok(Err(CopyError::DiskFull { message }));
        }
        let mut reading = Reading::new(inner.clone(), chunk, 0..len, sources);
        let mut destination = inner.destination(node, head);
        let mut crc = RunningCrc::new();
        for sequence in 0.. {
            let data = match reading.next().await {
                Ok(data) => data,
                Err(error) => {
                    destination.abandon().await;
                    return Err(error.into());
                }
            };
            inner.pace.admit(data.len()).await;
            crc.update(&data);
            let last = reading.rest.is_empty();
            let piece = Piece {
                sequence,
                crc64: crc64(&data),
                data,
                end: last.then(|| End {
                    len,
                    crc64: crc.value(),
                }),
            };
            if let Err(error) = destination.write(&piece).await {
                destination.abandon().await;
                return Ok(Err(error));
            }
            if last {
                break;
            }
        }
        Ok(Ok(()))
    }

    /// Chunks behind `after` that belong on `node` and are not on it, from the listings of all nodes.
    /// At most 1024 chunks per node are compared at a time.
    ///
    /// # Errors
    /// If `node` itself does not say what it stores.
    pub async fn missing_on(
        &self,
        node: NodeId,
        profile: Profile,
        after: Option<ChunkId>,
        limit: usize,
    ) -> Result<MissingPage, StatError> {
        let limit = limit.clamp(1, IDS_MAX);
        let map = self.map();
        let others = map.members().iter().filter_map(|(other, member)| {
            let asked = *other != node && member.state != NodeState::Dead;
            asked.then_some(*other)
        });
        let listings = others.map(|other| async move {
            let listed = self.list_on(other, after, limit).await;
            (other, listed)
        });
        let (own, listings) = futures::join!(self.list_on(node, after, limit), join_all(listings));
        let own = own?;
        let mut page = MissingPage::default();
        let mut horizon = end_of(&own, limit);
        let mut elsewhere = BTreeSet::new();
        for (other, listed) in listings {
            match listed {
                Ok(listed) => {
                    horizon = nearest(horizon, end_of(&listed, limit));
                    elsewhere.extend(listed.into_iter().map(|l| l.chunk));
                }
                Err(error) => page.skipped.push((other, error.error)),
            }
        }
        for listed in own {
            elsewhere.remove(&listed.chunk);
        }
        let belongs = |chunk: &ChunkId| lies_on(&map, chunk, profile, node);
        let within = |chunk: &ChunkId| horizon.is_none_or(|end| *chunk <= end);
        page.missing = elsewhere
            .into_iter()
            .filter(within)
            .filter(belongs)
            .collect();
        page.next = horizon;
        Ok(page)
    }
}

impl Survey {
    /// The length of the chunk, if its healthy copies agree on it.
    fn agreed_len(&self, chunk: ChunkId) -> Result<u64, RepairError> {
        let Some((_, len, crc64)) = self.stored.first() else {
            let gone = self.failed.is_empty() && self.pending.is_empty() && self.damaged == 0;
            if gone {
                return Err(RepairError::NotFound { chunk });
            }
            let failures = self.failed.clone();
            return Err(RepairError::NoSource { chunk, failures });
        };
        if self.stored.iter().any(|(_, l, c)| (l, c) != (len, crc64)) {
            let nodes = self.stored.iter().map(|(node, ..)| *node).collect();
            return Err(RepairError::Differ { chunk, nodes });
        }
        Ok(*len)
    }
}

fn number_of(node: NodeId, targets: &[NodeId]) -> u32 {
    let at = targets.iter().position(|target| *target == node);
    at.and_then(|at| u32::try_from(at).ok()).unwrap_or(0)
}

fn lies_on(map: &PlacementMap, chunk: &ChunkId, profile: Profile, node: NodeId) -> bool {
    map.targets(map.group_of(chunk), profile).contains(&node)
}

/// The last id of a full page; behind it the listing is not known.
fn end_of(listed: &[Listed], limit: usize) -> Option<ChunkId> {
    (listed.len() == limit).then(|| listed[limit - 1].chunk)
}

fn nearest(a: Option<ChunkId>, b: Option<ChunkId>) -> Option<ChunkId> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}
