//! What a node brings to both ends of its streams: who it is, how it proves it, how patient it is.

use crate::call::Crew;
use crate::wire::{self, Frame, Kind};
use crate::{Lane, Peers};
use floeberg_env::{Env, Tasks};
use floeberg_pki::NodeTls;
use floeberg_types::{ClusterId, NodeId};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// The feature levels a node can work at, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// The lowest.
    pub low: u32,
    /// The highest.
    pub high: u32,
}

/// Who this node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalNode {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its id in the cluster.
    pub node: NodeId,
    /// Which start of it this is; 0: not known. The count is in the upper 32 bits, the lower ones are
    /// random. Of two processes with one id the one with the higher number is listened to.
    pub start: u64,
    /// Where the others reach it, `host:port`; empty: it does not say.
    pub address: String,
    /// What it can work with.
    pub features: Features,
}

/// Whether a node has not been compared with the others since it started. Until then its start does not
/// count against another process of it, and only [`Method::Marks`](crate::Method::Marks) is for it. Clones
/// are the same.
#[derive(Clone, Debug, Default)]
pub struct Asking(Arc<AtomicBool>);

impl Asking {
    /// It has to be compared first.
    #[must_use]
    pub fn yes() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// It is compared, and takes part; streams that open from now on say so.
    pub fn end(&self) {
        self.0.store(false, Ordering::Release);
    }

    fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// How connections between nodes are secured.
#[derive(Clone, Debug)]
pub enum Security {
    /// Both sides show certificates of the cluster's authority (TLS 1.3).
    MutualTls(Arc<NodeTls>),
    /// Nothing is proven or hidden. Works on loopback addresses only.
    PlainLoopback,
}

/// Times and sizes; the defaults suit a local network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// From dialling to the end of the handshake.
    pub connect_patience: Duration,
    /// How long a connection without a certificate lasts. Enough for a join, which waits for a commit.
    pub guest_time: Duration,
    /// The pause after the first failure to open a stream; doubles with each further one.
    pub first_pause: Duration,
    /// The longest such pause.
    pub longest_pause: Duration,
    /// How often an idle connection is tried.
    pub ping_every: Duration,
    /// How long a ping may take before the connection is given up.
    pub ping_patience: Duration,
    /// Calls that may wait for one stream to open or to drain; more are not sent.
    pub waiting_calls: usize,
    /// Bytes of bodies that may wait likewise.
    pub waiting_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            connect_patience: Duration::from_secs(1),
            guest_time: Duration::from_secs(60),
            first_pause: Duration::from_millis(20),
            longest_pause: Duration::from_millis(500),
            ping_every: Duration::from_secs(1),
            ping_patience: Duration::from_secs(3),
            waiting_calls: 16 * 1024,
            waiting_bytes: 128 * 1024 * 1024,
        }
    }
}

/// A node as its peers meet it; the transport and the server of a node share one.
#[derive(Clone, Debug)]
pub struct Station {
    /// Who it is.
    pub local: LocalNode,
    /// How it proves that.
    pub security: Security,
    /// Where the others are.
    pub peers: Arc<Peers>,
    /// Times and sizes.
    pub settings: Settings,
    /// Whether it still has to be compared with the others.
    pub asking: Asking,
    /// Tasks and randomness.
    pub env: Env,
}

impl Station {
    /// The tasks of a crew.
    pub(crate) const fn tasks(&self, crew: Crew) -> &Tasks {
        match crew {
            Crew::Consensus => &self.env.consensus,
            Crew::Requests => &self.env.tasks,
        }
    }

    /// The first frame to `to` on a stream for `lane`.
    pub(crate) fn hello(&self, to: NodeId, lane: Lane) -> Frame {
        let mut frame = wire::hello(&self.local, to, lane);
        if let Some(Kind::Hello(hello)) = &mut frame.kind {
            hello.asking = self.asking.get();
        }
        frame
    }
}

/// HTTP/2 flow control: what may be on its way unread. A batch of log entries is 1 MiB, and a few
/// must fit, or a round trip passes between them.
pub(crate) const fn windows(lane: Lane) -> (u32, u32) {
    const MIB: u32 = 1024 * 1024;
    match lane {
        Lane::Votes => (MIB, 2 * MIB),
        Lane::Proposals => (4 * MIB, 5 * MIB),
        Lane::Log | Lane::Bulk => (8 * MIB, 9 * MIB),
    }
}
