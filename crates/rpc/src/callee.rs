//! The serving side of a call, the same under both transports: finds the handler, starts it in
//! order, bounds how many run, and tells "not done" from "unknown".

use crate::{Lane, MAX_BODY, Refusal, RefusalCode, Request, Routes};
use bytes::Bytes;
use floeberg_env::Tasks;
use floeberg_types::NodeId;
use futures::FutureExt as _;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use tokio::sync::Semaphore;
use tokio::task::unconstrained;
use tokio_util::sync::CancellationToken;

/// How a call ended on the node that served it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Done, with this answer.
    Answer(Bytes),
    /// Not done.
    Refused(Refusal),
    /// The handler ended before it could say.
    Unknown(String),
}

/// A call that the handler has begun to work on.
pub(crate) enum Started {
    Done(Outcome),
    /// To be driven to its end by a task of the caller's.
    Running(Run),
}

type Run = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// Serves calls by a table of handlers until it is stopped.
pub(crate) struct Callee {
    routes: Routes,
    stop: CancellationToken,
    room: Mutex<BTreeMap<(NodeId, Lane), Arc<Semaphore>>>,
}

/// Calls of one caller on one lane that run at a time; more are refused as busy.
pub(crate) const fn room_for(lane: Lane) -> usize {
    match lane {
        Lane::Votes | Lane::Log => 256,
        Lane::Proposals => 4096,
        Lane::Bulk => 64,
    }
}

impl Callee {
    pub(crate) fn new(routes: Routes, stop: CancellationToken) -> Self {
        Self {
            routes,
            stop,
            room: Mutex::new(BTreeMap::new()),
        }
    }

    fn room(&self, from: NodeId, lane: Lane) -> Arc<Semaphore> {
        let mut room = self.room.lock();
        let fresh = || Arc::new(Semaphore::new(room_for(lane)));
        room.entry((from, lane)).or_insert_with(fresh).clone()
    }

    /// Runs the handler up to its first wait before it returns: calls that are started one after
    /// the other reach their handlers in that order, whatever the scheduler does later.
    pub(crate) async fn start(&self, from: NodeId, request: Request) -> Started {
        let mut run = match self.admit(from, request) {
            Ok(run) => run,
            Err(refusal) => return Started::Done(Outcome::Refused(refusal)),
        };
        // A caller that starts many calls in a row has used up its share of tokio's time at some
        // point, and then nothing below would be polled at all, and later calls would come first.
        match futures::poll!(unconstrained(run.as_mut())) {
            Poll::Ready(outcome) => Started::Done(outcome),
            Poll::Pending => Started::Running(run),
        }
    }

    /// Has `tasks` run the handler, in no order.
    pub(crate) fn hand_over(&self, from: NodeId, request: Request, tasks: &Tasks) -> Started {
        let run = match self.admit(from, request) {
            Ok(run) => run,
            Err(refusal) => return Started::Done(Outcome::Refused(refusal)),
        };
        let running = tasks.spawn("rpc.call", run);
        Started::Running(Box::pin(async move {
            let ended = running.await;
            ended.unwrap_or_else(|_| Outcome::Unknown("the node stopped".into()))
        }))
    }

    /// The work of a call for which there is a handler and room.
    fn admit(&self, from: NodeId, request: Request) -> Result<Run, Refusal> {
        let lane = request.method.lane();
        let handler = self.routes.find(request.method)?;
        let Ok(permit) = self.room(from, lane).try_acquire_owned() else {
            let message = format!("{} calls of node {from} are running", room_for(lane));
            return Err(Refusal::new(RefusalCode::Busy, message));
        };
        let stop = self.stop.clone();
        let method = request.method;
        let run = async move {
            let _permit = permit;
            let handled = AssertUnwindSafe(async { handler.handle(from, request).await });
            tokio::select! {
                biased;
                () = stop.cancelled() => Outcome::Unknown("the node stopped".into()),
                handled = handled.catch_unwind() => match handled {
                    Ok(result) => Outcome::of(result),
                    Err(_) => {
                        tracing::error!(?method, %from, "the handler of a call panicked");
                        Outcome::Unknown("the handler panicked".into())
                    }
                },
            }
        };
        Ok(Box::pin(run))
    }
}

impl Outcome {
    fn of(result: Result<Bytes, Refusal>) -> Self {
        match result {
            Ok(body) if body.len() <= MAX_BODY => Self::Answer(body),
            // The handler has done its work, so this is no refusal.
            Ok(body) => Self::Unknown(format!(
                "the answer has {} bytes and at most {MAX_BODY} can be sent",
                body.len()
            )),
            Err(refusal) => Self::Refused(refusal),
        }
    }
}
