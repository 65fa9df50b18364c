//! The in-memory twin of the transport: same contract, seeded faults, tokio's pausable time.
//!
//! It behaves like streams over TCP do: what one node sends another on one lane arrives in order or
//! not at all, lanes overtake each other, a cut is noticed only after a while, and a call that was
//! on its way to a node that went down is lost.

mod net;
mod wires;

use crate::callee::Started;
use crate::{CallError, Method, Peers, Request, Routes, STRANGER, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::Env;
use floeberg_types::{GroupId, NodeId};
use net::{Net, Sending};
use parking_lot::Mutex;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A network in memory. Clones are the same network.
///
/// Two networks with the same seed whose calls and faults come in the same order behave the same.
#[derive(Clone)]
pub struct MemNetwork {
    shared: Arc<Shared>,
}

pub(crate) struct Shared {
    env: Env,
    net: Mutex<Net>,
    meddler: Mutex<Option<Arc<dyn Meddler>>>,
}

/// Stands between the nodes and the network, so that tests can plant what a faulty node would send
/// or believe.
#[async_trait]
pub trait Meddler: Send + Sync + 'static {
    /// Answers a call of `from`, by `way` or otherwise.
    ///
    /// # Errors
    /// As [`Transport::call`].
    async fn call(
        &self,
        from: NodeId,
        way: Arc<dyn Transport>,
        to: NodeId,
        request: Request,
        patience: Duration,
    ) -> Result<Bytes, CallError>;
}

/// A transport whose calls go through the meddler.
struct Meddled {
    way: Arc<MemTransport>,
    meddler: Arc<dyn Meddler>,
}

#[async_trait]
impl Transport for Meddled {
    async fn call(
        &self,
        to: NodeId,
        request: Request,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let (from, way) = (self.way.node, self.way.clone());
        self.meddler.call(from, way, to, request, patience).await
    }
}

/// One node's way into the network, for as long as it does not go down.
struct MemTransport {
    shared: Arc<Shared>,
    node: NodeId,
    life: u64,
    peers: Option<Arc<Peers>>,
}

impl MemNetwork {
    /// A network without nodes, delays or faults. Only the tasks of `env` are used: faults draw
    /// from a stream of their own, so that they do not shift the draws of the nodes.
    #[must_use]
    pub fn new(env: &Env, seed: u64) -> Self {
        Self {
            shared: Arc::new(Shared {
                env: env.clone(),
                net: Mutex::new(Net::new(seed)),
                meddler: Mutex::new(None),
            }),
        }
    }

    /// Starts `node`, or starts it again: it serves `routes` and reaches every node there is.
    pub fn node(&self, node: NodeId, routes: Routes) -> Arc<dyn Transport> {
        self.start(node, routes, None)
    }

    /// The same with an address book: the node reaches only who is in it (whatever the address
    /// says), and refuses whom it removed.
    pub fn member(&self, node: NodeId, routes: Routes, peers: Arc<Peers>) -> Arc<dyn Transport> {
        self.start(node, routes, Some(peers))
    }

    fn start(&self, node: NodeId, routes: Routes, peers: Option<Arc<Peers>>) -> Arc<dyn Transport> {
        let life = self.shared.net.lock().start(node, routes, peers.clone());
        let way = Arc::new(MemTransport {
            shared: self.shared.clone(),
            node,
            life,
            peers,
        });
        match self.shared.meddler.lock().clone() {
            Some(meddler) => Arc::new(Meddled { way, meddler }),
            None => way,
        }
    }

    /// Lets the calls of every node that starts from now on go through `meddler`.
    pub fn meddle(&self, meddler: Arc<dyn Meddler>) {
        *self.shared.meddler.lock() = Some(meddler);
    }

    /// The call of a node that is not a member yet, as [`knock`](crate::knock) makes it: it reaches
    /// [`Method::Join`] of `node` without delays, cuts and losses.
    ///
    /// # Errors
    /// As [`Transport::call`].
    pub async fn knock(&self, node: NodeId, body: Bytes) -> Result<Bytes, CallError> {
        let running = self.shared.net.lock().running(node).cloned();
        let running = running.ok_or_else(|| CallError::not_sent(format!("node {node} is down")))?;
        let request = Request {
            method: Method::Join,
            group: GroupId::CATALOG,
            body,
        };
        let outcome = match running.callee.start(STRANGER, request).await {
            Started::Done(outcome) => outcome,
            Started::Running(outcome) => outcome.await,
        };
        wires::result(outcome)
    }

    /// `node` is gone at once: its handlers are dropped, calls to it are lost, and its transport
    /// sends nothing any more. [`MemNetwork::node`] starts it again.
    pub fn down(&self, node: NodeId) {
        // Dropped after the lock is free: handlers may come back to the network.
        let ended = self.shared.net.lock().down(node);
        drop(ended);
    }

    /// Nothing that `from` sends reaches `to` any more; the other direction is untouched.
    pub fn cut(&self, from: NodeId, to: NodeId) {
        self.shared.net.lock().cut(from, to);
    }

    /// `from` cannot open streams to `to` any more, as behind a firewall; calls of `to` and their answers pass.
    pub fn refuse(&self, from: NodeId, to: NodeId) {
        self.shared.net.lock().refuse(from, to);
    }

    /// Cuts both directions between `node` and everyone else.
    pub fn isolate(&self, node: NodeId) {
        let mut net = self.shared.net.lock();
        for other in net.others(node) {
            net.cut(node, other);
            net.cut(other, node);
        }
    }

    /// Ends every cut and refusal.
    pub fn heal(&self) {
        self.shared.net.lock().heal();
    }

    /// How long a message of either direction takes; zero at first.
    pub fn delay(&self, range: Range<Duration>) {
        self.shared.net.lock().delay = range;
    }

    /// How many of 1000 calls fail on the way: unsent, with the request lost, or with the answer
    /// lost, a third each.
    pub fn loss(&self, permille: u16) {
        self.shared.net.lock().loss = permille;
    }
}

impl fmt::Debug for MemNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.net.lock().fmt(f)
    }
}

#[async_trait]
impl Transport for MemTransport {
    async fn call(
        &self,
        to: NodeId,
        request: Request,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let deadline = Instant::now() + patience;
        let stale = match &self.peers {
            None => None,
            Some(peers) => match peers.way(to) {
                Some(way) => Some(way.stale),
                None => return Err(CallError::not_sent(unknown(to))),
            },
        };
        let sending = wires::send(&self.shared, (self.node, self.life), to, request);
        let flight = match sending {
            Sending::Flying(flight) => flight,
            Sending::Failed { after, error } => {
                tokio::time::sleep_until(deadline.min(Instant::now() + after)).await;
                return Err(error);
            }
        };
        let stale = async {
            match stale {
                Some(stale) => stale.cancelled_owned().await,
                None => std::future::pending().await,
            }
        };
        let answer = async {
            match flight.answer.await {
                Ok(result) => result,
                // Lost on the way, and like a silent network that shows only when patience ends.
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            result = answer => result,
            () = flight.reset.cancelled_owned() => {
                Err(CallError::lost(format!("node {to} went down")))
            }
            () = stale => Err(CallError::lost(format!("node {to} was removed or moved"))),
            () = tokio::time::sleep_until(deadline) => Err(late(patience)),
        }
    }
}

pub(crate) fn unknown(to: NodeId) -> String {
    format!("node {to} is not in the address book of this node")
}

pub(crate) fn late(patience: Duration) -> CallError {
    CallError::lost(format!("no answer within {} ms", patience.as_millis()))
}
