//! How a call travels through the in-memory network: one queue per pair of nodes and lane.

use crate::callee::{Outcome, Started};
use crate::memory::Shared;
use crate::memory::net::{Fate, Flight, Sending, Wire};
use crate::{CallError, Refusal, RefusalCode, Request};
use bytes::Bytes;
use floeberg_types::NodeId;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// How long the real transport tries to open a stream.
const CONNECT_PATIENCE: Duration = Duration::from_secs(1);

/// A request on its way.
pub(crate) struct Parcel {
    arrives: Instant,
    /// The start of the callee that it was sent to.
    life: u64,
    request: Request,
    reply: Reply,
}

/// The way back of an answer.
struct Reply {
    from: NodeId,
    to: NodeId,
    fate: Fate,
    answer: oneshot::Sender<Result<Bytes, CallError>>,
}

/// Sends `request` of the node and life `from`, or says why not.
pub(crate) fn send(
    shared: &Arc<Shared>,
    from: (NodeId, u64),
    to: NodeId,
    request: Request,
) -> Sending {
    let (from, life) = from;
    let lane = request.method.lane();
    if request.body.len() > crate::MAX_BODY {
        return failed(Duration::ZERO, crate::wire::too_large(request.body.len()));
    }
    let mut net = shared.net.lock();
    if net.running(from).is_none_or(|running| running.life != life) {
        return failed(Duration::ZERO, format!("node {from}, the caller, is down"));
    }
    let now = Instant::now();
    let (arrival, fate) = (now + net.draw_delay(), net.draw_fate());
    let callee = net
        .running(to)
        .filter(|_| !net.is_refused(from, to))
        .cloned();
    let Some(callee) = callee else {
        let after = arrival.duration_since(now) * 2;
        return failed(after, format!("node {to} refused the connection"));
    };
    let noticed = net.cut_noticed(from, to);
    let wire = net
        .wires
        .entry((from, to, lane))
        .or_insert_with(|| open(shared, from, to));
    let open_to_it = wire.connected == Some(callee.life);
    wire.connected = match noticed {
        None => Some(callee.life),
        Some(false) if open_to_it => Some(callee.life),
        Some(_) => {
            wire.connected = None;
            return failed(CONNECT_PATIENCE, format!("node {to} cannot be reached"));
        }
    };
    if fate == Fate::NotSent {
        return failed(Duration::ZERO, "the stream broke before it was sent".into());
    }
    wire.last = wire.last.max(arrival);
    let (answer, answered) = oneshot::channel();
    let parcel = Parcel {
        arrives: wire.last,
        life: callee.life,
        request,
        reply: Reply {
            from,
            to,
            fate,
            answer,
        },
    };
    // The receiving task lives as long as the network, so this reaches it.
    let _ = wire.queue.send(parcel);
    Sending::Flying(Flight {
        answer: answered,
        reset: callee.reset,
    })
}

fn failed(after: Duration, reason: String) -> Sending {
    let error = CallError::NotSent { reason };
    Sending::Failed { after, error }
}

/// Starts the task that delivers what is sent on one wire, in order.
fn open(shared: &Arc<Shared>, from: NodeId, to: NodeId) -> Wire {
    let (queue, mut parcels) = mpsc::unbounded_channel::<Parcel>();
    let weak = Arc::downgrade(shared);
    shared.env.tasks.spawn("rpc.wire", async move {
        while let Some(parcel) = parcels.recv().await {
            tokio::time::sleep_until(parcel.arrives).await;
            deliver(&weak, from, to, parcel).await;
        }
    });
    Wire {
        queue,
        last: Instant::now(),
        connected: None,
    }
}

async fn deliver(shared: &Weak<Shared>, from: NodeId, to: NodeId, parcel: Parcel) {
    let Some(strong) = shared.upgrade() else {
        return;
    };
    let callee = {
        let net = strong.net.lock();
        let lost = net.is_cut(from, to) || parcel.reply.fate == Fate::RequestLost;
        match net.running(to) {
            Some(running) if running.life == parcel.life && !lost => running.clone(),
            _ => return,
        }
    };
    if callee.peers.is_some_and(|p| p.is_removed(from)) {
        let removed = Outcome::Refused(Refusal::new(
            RefusalCode::Removed,
            format!("node {from} was removed from the cluster"),
        ));
        return parcel.reply.give(shared, removed);
    }
    let reply = parcel.reply;
    match callee.callee.start(from, parcel.request).await {
        Started::Done(outcome) => reply.give(shared, outcome),
        Started::Running(running) => {
            let shared = shared.clone();
            let finish = async move { reply.give(&shared, running.await) };
            strong.env.tasks.spawn("rpc.call", finish);
        }
    }
}

pub(crate) fn result(outcome: Outcome) -> Result<Bytes, CallError> {
    match outcome {
        Outcome::Answer(body) => Ok(body),
        Outcome::Refused(refusal) => Err(CallError::Refused(refusal)),
        Outcome::Unknown(reason) => Err(CallError::Lost { reason }),
    }
}

impl Reply {
    /// Sends the outcome back, unless the network loses it.
    fn give(self, shared: &Weak<Shared>, outcome: Outcome) {
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let result = result(outcome);
        let net = shared.net.lock();
        if net.is_cut(self.to, self.from) || self.fate == Fate::AnswerLost {
            return;
        }
        let delay = net.draw_delay();
        drop(net);
        if delay.is_zero() {
            // A caller that gave up is no longer interested.
            let _ = self.answer.send(result);
            return;
        }
        let answer = self.answer;
        shared.env.tasks.spawn("rpc.answer", async move {
            tokio::time::sleep(delay).await;
            let _ = answer.send(result);
        });
    }
}
