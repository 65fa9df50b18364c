//! The serving side of the streams: handshake, then calls in the order they come.

use crate::call::Crew;
use crate::callee::{Callee, Outcome, Started};
use crate::link::About;
use crate::wire::{self, Frame, Kind};
use crate::{Lane, Method, Refusal, RefusalCode, Request, STRANGER, Station};
use floeberg_types::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Status, Streaming};

pub(crate) type Outgoing = mpsc::Sender<Result<Frame, Status>>;

/// Answers that may wait for a slow peer before its calls are no longer read.
pub(crate) const OUTGOING: usize = 64;

/// Mismatches that are told apart in the log; beyond that the log has been told enough.
const COMPLAINTS: usize = 256;

/// What all streams of a server share.
pub(crate) struct Host {
    pub(crate) station: Station,
    pub(crate) callee: Callee,
    pub(crate) stop: CancellationToken,
    pub(crate) tracker: TaskTracker,
    pub(crate) complaints: Mutex<BTreeSet<String>>,
}

/// Who opened a stream.
struct Guest {
    from: NodeId,
    lane: Lane,
    /// It may only ask what is known of it.
    asking: bool,
    /// Cancelled once its calls are wanted no more.
    member: CancellationToken,
}

impl Host {
    /// Runs one stream to its end.
    pub(crate) async fn serve(
        self: Arc<Self>,
        about: About,
        mut frames: Streaming<Frame>,
        out: Outgoing,
    ) {
        let greeted = tokio::select! {
            biased;
            () = self.stop.cancelled() => return,
            greeted = self.greet(&about, &mut frames) => greeted,
        };
        let Guest {
            from,
            lane,
            asking,
            member,
        } = match greeted {
            Ok(guest) => guest,
            Err(refusal) => {
                self.complain(&about, &refusal);
                let _ = out.send(Ok(wire::goodbye(refusal))).await;
                return;
            }
        };
        let hello = self.station.hello(from, lane);
        if out.send(Ok(hello)).await.is_err() {
            return;
        }
        let host = self.clone();
        let calls = async move {
            tokio::select! {
                biased;
                () = host.stop.cancelled() => {}
                () = member.cancelled() => about.cut.cancel(),
                () = host.take_calls((from, lane, asking), &mut frames, &out) => {}
            }
        };
        match lane.crew() {
            Crew::Consensus => calls.await,
            Crew::Requests => {
                let calls = self.tracker.track_future(calls);
                self.station.env.tasks.spawn("rpc.stream", calls);
            }
        }
    }

    async fn greet(&self, about: &About, frames: &mut Streaming<Frame>) -> Result<Guest, Refusal> {
        let malformed = |message: &str| Refusal::new(RefusalCode::Malformed, message);
        let patience = self.station.settings.connect_patience;
        let first = tokio::time::timeout(patience, frames.message())
            .await
            .map_err(|_| malformed("no hello came"))?;
        let Ok(Some(Frame {
            kind: Some(Kind::Hello(hello)),
        })) = first
        else {
            return Err(malformed("the first frame must be a hello"));
        };
        let (from, lane) = wire::check_hello(&hello, &self.station.local, about.proof)?;
        let (start, address) = (hello.start, &hello.address);
        let asking = hello.asking;
        let admitted = match asking {
            true => self.station.peers.admit_asking(from),
            false => self.station.peers.admit(from, start, address),
        };
        let member = admitted.map_err(|unwanted| unwanted.refusal(from, start))?;
        Ok(Guest {
            from,
            lane,
            asking,
            member,
        })
    }

    /// Each mismatch is logged once: whoever is misconfigured tries again and again.
    fn complain(&self, about: &About, refusal: &Refusal) {
        let complaint = format!("{} {}", about.remote.ip(), refusal.message);
        let mut known = self.complaints.lock();
        if known.len() < COMPLAINTS && known.insert(complaint) {
            tracing::warn!(remote = %about.remote, "a peer's stream is refused: {refusal}");
        }
    }

    async fn take_calls(
        self: &Arc<Self>,
        (from, lane, asking): (NodeId, Lane, bool),
        frames: &mut Streaming<Frame>,
        out: &Outgoing,
    ) {
        loop {
            let frame = match frames.message().await {
                Ok(Some(frame)) => frame,
                Ok(None) => return,
                Err(status) => {
                    tracing::debug!(%from, ?lane, "a stream broke: {}", status.message());
                    return;
                }
            };
            // Frames of a kind that only a later version knows are skipped.
            let Some(Kind::Call(call)) = frame.kind else {
                continue;
            };
            let id = call.id;
            let started = match wire::read_call(call) {
                Ok(request) if asking && request.method != Method::Marks => {
                    let message = format!("node {from} has not been compared since it started");
                    let refusal = Refusal::new(RefusalCode::NotServing, message);
                    Started::Done(Outcome::Refused(refusal))
                }
                Ok(request) if request.method.lane() == lane => {
                    match (request.method.crew(), lane.crew()) {
                        (Crew::Requests, Crew::Consensus) => {
                            self.callee
                                .hand_over(from, request, &self.station.env.tasks)
                        }
                        _ => self.callee.start(from, request).await,
                    }
                }
                Ok(request) => {
                    let message = format!("{:?} does not belong on lane {lane:?}", request.method);
                    let refusal = Refusal::new(RefusalCode::Malformed, message);
                    Started::Done(Outcome::Refused(refusal))
                }
                Err(refusal) => Started::Done(Outcome::Refused(refusal)),
            };
            match started {
                // A full queue holds up the reading of further calls, as it should.
                Started::Done(outcome) => {
                    if out.send(Ok(wire::answer(id, outcome))).await.is_err() {
                        return;
                    }
                }
                Started::Running(running) => {
                    let out = out.clone();
                    let stop = self.stop.clone();
                    let finish = self.tracker.track_future(async move {
                        let answer = wire::answer(id, running.await);
                        tokio::select! {
                            biased;
                            // The peer may be gone; it knows that its calls are lost.
                            _ = out.send(Ok(answer)) => {}
                            () = stop.cancelled() => {}
                        }
                    });
                    self.station.tasks(lane.crew()).spawn("rpc.call", finish);
                }
            }
        }
    }

    /// Serves the call of a stranger.
    pub(crate) async fn open_door(&self, frame: Frame) -> Result<Frame, Status> {
        let Some(Kind::Call(call)) = frame.kind else {
            return Err(Status::invalid_argument("only a call is taken here"));
        };
        let id = call.id;
        let outcome = match wire::read_call(call) {
            Ok(request) if request.method == Method::Join => self.join(request).await,
            Ok(request) => Outcome::Refused(Refusal::new(
                RefusalCode::Unauthorised,
                format!(
                    "{:?} is for members; join the cluster first",
                    request.method
                ),
            )),
            Err(refusal) => Outcome::Refused(refusal),
        };
        Ok(wire::answer(id, outcome))
    }

    async fn join(&self, request: Request) -> Outcome {
        let tasks = &self.station.env.tasks;
        match self.callee.hand_over(STRANGER, request, tasks) {
            Started::Done(outcome) => outcome,
            Started::Running(running) => running.await,
        }
    }
}
