//! The state of the in-memory network: who is up, what is cut, what is drawn next.

use crate::callee::Callee;
use crate::memory::wires::Parcel;
use crate::{CallError, Lane, Peers, Routes};
use bytes::Bytes;
use floeberg_env::{Rng, SeededRng};
use floeberg_types::NodeId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long a stream over a cut link still looks alive: the pings of the real transport.
const NOTICE_AFTER: Duration = Duration::from_secs(4);

/// All there is to know, under one lock.
pub(crate) struct Net {
    rng: SeededRng,
    nodes: BTreeMap<NodeId, Place>,
    cuts: BTreeMap<(NodeId, NodeId), Instant>,
    refused: BTreeSet<(NodeId, NodeId)>,
    pub(crate) wires: BTreeMap<(NodeId, NodeId, Lane), Wire>,
    pub(crate) delay: Range<Duration>,
    pub(crate) loss: u16,
}

struct Place {
    /// Which start of the node this is; a transport of an earlier one is dead.
    life: u64,
    /// `None` while the node is down.
    running: Option<Running>,
}

/// A node that is up.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) life: u64,
    pub(crate) callee: Arc<Callee>,
    /// Cancelled when the node goes down.
    pub(crate) reset: CancellationToken,
    pub(crate) peers: Option<Arc<Peers>>,
}

/// One lane from one node to another.
pub(crate) struct Wire {
    pub(crate) queue: mpsc::UnboundedSender<Parcel>,
    /// When the last message arrives; none may overtake it.
    pub(crate) last: Instant,
    /// The life of the callee to which a stream is open.
    pub(crate) connected: Option<u64>,
}

/// What became of the attempt to send.
pub(crate) enum Sending {
    Flying(Flight),
    Failed { after: Duration, error: CallError },
}

/// A call on its way.
pub(crate) struct Flight {
    pub(crate) answer: oneshot::Receiver<Result<Bytes, CallError>>,
    pub(crate) reset: CancellationToken,
}

/// What the network does to one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Passes,
    NotSent,
    RequestLost,
    AnswerLost,
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            rng: SeededRng::new(seed),
            nodes: BTreeMap::new(),
            cuts: BTreeMap::new(),
            refused: BTreeSet::new(),
            wires: BTreeMap::new(),
            delay: Duration::ZERO..Duration::ZERO,
            loss: 0,
        }
    }

    pub(crate) fn start(&mut self, node: NodeId, routes: Routes, peers: Option<Arc<Peers>>) -> u64 {
        drop(self.down(node));
        let place = self.nodes.entry(node).or_insert(Place {
            life: 0,
            running: None,
        });
        place.life += 1;
        let reset = CancellationToken::new();
        place.running = Some(Running {
            life: place.life,
            callee: Arc::new(Callee::new(routes, reset.clone())),
            reset,
            peers,
        });
        place.life
    }

    pub(crate) fn down(&mut self, node: NodeId) -> Option<Running> {
        let ended = self.nodes.get_mut(&node)?.running.take()?;
        ended.reset.cancel();
        Some(ended)
    }

    pub(crate) fn running(&self, node: NodeId) -> Option<&Running> {
        self.nodes.get(&node)?.running.as_ref()
    }

    pub(crate) fn others(&self, node: NodeId) -> Vec<NodeId> {
        self.nodes.keys().copied().filter(|n| *n != node).collect()
    }

    pub(crate) fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cuts.entry((from, to)).or_insert_with(Instant::now);
    }

    pub(crate) fn refuse(&mut self, from: NodeId, to: NodeId) {
        self.refused.insert((from, to));
    }

    pub(crate) fn is_refused(&self, from: NodeId, to: NodeId) -> bool {
        self.refused.contains(&(from, to))
    }

    pub(crate) fn heal(&mut self) {
        self.refused.clear();
        // Whoever noticed a cut must open a new stream, which costs nothing here.
        let now = Instant::now();
        let cuts = std::mem::take(&mut self.cuts);
        for ((from, to, _), wire) in &mut self.wires {
            let noticed = |at: &Instant| now >= *at + NOTICE_AFTER;
            let either = [cuts.get(&(*from, *to)), cuts.get(&(*to, *from))];
            if either.into_iter().flatten().any(noticed) {
                wire.connected = None;
            }
        }
    }

    pub(crate) fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cuts.contains_key(&(from, to))
    }

    /// Whether a stream between the two can be opened or kept at all: not while a direction is cut.
    pub(crate) fn cut_noticed(&self, from: NodeId, to: NodeId) -> Option<bool> {
        let either = [self.cuts.get(&(from, to)), self.cuts.get(&(to, from))];
        let since = either.into_iter().flatten().min()?;
        Some(Instant::now() >= *since + NOTICE_AFTER)
    }

    pub(crate) fn draw_delay(&self) -> Duration {
        let span = self.delay.end.saturating_sub(self.delay.start);
        let span = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let rng: &dyn Rng = &self.rng;
        self.delay.start + Duration::from_nanos(rng.below(span))
    }

    pub(crate) fn draw_fate(&self) -> Fate {
        let rng: &dyn Rng = &self.rng;
        if self.loss == 0 || rng.below(1000) >= u64::from(self.loss) {
            return Fate::Passes;
        }
        match rng.below(3) {
            0 => Fate::NotSent,
            1 => Fate::RequestLost,
            _ => Fate::AnswerLost,
        }
    }
}

impl fmt::Debug for Net {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let up = self.nodes.iter().filter(|(_, p)| p.running.is_some());
        f.debug_struct("MemNetwork")
            .field("up", &up.map(|(node, _)| *node).collect::<Vec<_>>())
            .field("cuts", &self.cuts.keys().collect::<Vec<_>>())
            .field("delay", &self.delay)
            .field("loss", &self.loss)
            .finish_non_exhaustive()
    }
}
