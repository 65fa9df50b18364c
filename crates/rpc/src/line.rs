//! The calls of one node to one peer on one lane: those that wait and those that were sent.
//!
//! Here is decided what a caller without an answer is told: a call counts as sent from the moment
//! its frame is taken for the stream, under the same lock as everything else.

use crate::wire::{self, Frame};
use crate::{CallError, Request, Settings};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio_stream::Stream;

type Answer = Result<Bytes, CallError>;

/// See the module.
#[derive(Debug)]
pub(crate) struct Line {
    settings: Settings,
    calls: Mutex<Calls>,
    work: Notify,
}

#[derive(Debug, Default)]
struct Calls {
    last_id: u64,
    queue: VecDeque<(u64, Request)>,
    queued_bytes: usize,
    waiting: BTreeMap<u64, Waiting>,
    stage: Stage,
    /// The latest stream; an older one takes nothing any more.
    stream: u64,
    /// Wakes the stream that has nothing to send.
    idle: Option<Waker>,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Answer>,
    sent: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Stage {
    /// No stream, or its handshake is not over.
    #[default]
    Shut,
    /// The latest stream takes calls.
    Open,
    /// There will be none any more.
    Closed(String),
}

/// A call whose answer is awaited.
#[derive(Debug)]
pub(crate) struct Ticket {
    id: u64,
    pub(crate) answer: oneshot::Receiver<Answer>,
}

impl Line {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            settings,
            calls: Mutex::new(Calls::default()),
            work: Notify::new(),
        }
    }

    /// Puts a call in the queue.
    pub(crate) fn ask(&self, request: Request) -> Result<Ticket, CallError> {
        let mut calls = self.calls.lock();
        if let Stage::Closed(reason) = &calls.stage {
            return Err(CallError::not_sent(reason));
        }
        let bytes = calls.queued_bytes + request.body.len();
        // A single large call is let through, whatever the limit.
        let crowded = !calls.queue.is_empty() && bytes > self.settings.waiting_bytes;
        if crowded || calls.queue.len() >= self.settings.waiting_calls {
            return Err(CallError::not_sent("too many calls wait for this peer"));
        }
        calls.queued_bytes = bytes;
        calls.last_id += 1;
        let id = calls.last_id;
        let (sender, answer) = oneshot::channel();
        let waiting = Waiting {
            answer: sender,
            sent: false,
        };
        calls.waiting.insert(id, waiting);
        calls.queue.push_back((id, request));
        if let Some(idle) = calls.idle.take() {
            idle.wake();
        }
        self.work.notify_one();
        Ok(Ticket { id, answer })
    }

    /// The caller's patience is over: a call still in the queue is never sent.
    pub(crate) fn give_up(&self, mut ticket: Ticket, patience: Duration) -> Answer {
        match self.calls.lock().waiting.remove(&ticket.id) {
            Some(waiting) if waiting.sent => Err(crate::memory::late(patience)),
            Some(_) => Err(CallError::not_sent(format!(
                "no stream to the peer within {} ms",
                patience.as_millis()
            ))),
            // Answered between the end of patience and here.
            None => match ticket.answer.try_recv() {
                Ok(answer) => answer,
                Err(_) => Err(CallError::lost("the answer went missing")),
            },
        }
    }

    /// Waits until a call is in the queue.
    pub(crate) async fn wanted(&self) {
        loop {
            let work = self.work.notified();
            if !self.calls.lock().queue.is_empty() {
                return;
            }
            work.await;
        }
    }

    /// The frames of a new stream, which takes calls once it is [`Line::opened`].
    pub(crate) fn begin(self: &Arc<Self>, hello: Frame) -> Outbox {
        let mut calls = self.calls.lock();
        calls.stream += 1;
        calls.idle = None;
        Outbox {
            line: self.clone(),
            stream: calls.stream,
            hello: Some(hello),
        }
    }

    /// The latest stream has passed its handshake.
    pub(crate) fn opened(&self) {
        let mut calls = self.calls.lock();
        calls.stage = Stage::Open;
        if let Some(idle) = calls.idle.take() {
            idle.wake();
        }
    }

    /// An answer came in; one that nobody awaits is dropped.
    pub(crate) fn answered(&self, id: u64, answer: Answer) {
        let waiting = self.calls.lock().waiting.remove(&id);
        if let Some(waiting) = waiting {
            let _ = waiting.answer.send(answer);
        }
    }

    /// The stream broke: what was sent is lost, what waits goes to the next stream.
    pub(crate) fn broken(&self, reason: &str) {
        let mut calls = self.calls.lock();
        calls.stage = Stage::Shut;
        calls.end_sent(reason);
    }

    /// No stream could be opened: nothing that waits was sent.
    pub(crate) fn unreachable(&self, error: &CallError) {
        self.calls.lock().end_queued(error);
    }

    /// There will be no further stream.
    pub(crate) fn close(&self, reason: &str) {
        let mut calls = self.calls.lock();
        calls.stage = Stage::Closed(reason.to_owned());
        calls.end_sent(reason);
        calls.end_queued(&CallError::not_sent(reason));
        if let Some(idle) = calls.idle.take() {
            idle.wake();
        }
    }
}

impl Calls {
    fn end_sent(&mut self, reason: &str) {
        let ids: Vec<u64> = self
            .waiting
            .iter()
            .filter_map(|(id, waiting)| waiting.sent.then_some(*id))
            .collect();
        for waiting in ids.into_iter().filter_map(|id| self.waiting.remove(&id)) {
            let _ = waiting.answer.send(Err(CallError::lost(reason)));
        }
    }

    fn end_queued(&mut self, error: &CallError) {
        self.queued_bytes = 0;
        for (id, _) in std::mem::take(&mut self.queue) {
            if let Some(waiting) = self.waiting.remove(&id) {
                let _ = waiting.answer.send(Err(error.clone()));
            }
        }
    }

    /// The next call that somebody has not given up, counted as sent from here on.
    fn take(&mut self) -> Option<Frame> {
        while let Some((id, request)) = self.queue.pop_front() {
            self.queued_bytes -= request.body.len();
            if let Some(waiting) = self.waiting.get_mut(&id) {
                waiting.sent = true;
                return Some(wire::call(id, request));
            }
        }
        None
    }
}

/// The frames of one stream: hello, then calls once the handshake is over.
pub(crate) struct Outbox {
    line: Arc<Line>,
    stream: u64,
    hello: Option<Frame>,
}

impl Stream for Outbox {
    type Item = Frame;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frame>> {
        if let Some(hello) = self.hello.take() {
            return Poll::Ready(Some(hello));
        }
        let mut calls = self.line.calls.lock();
        if calls.stream != self.stream {
            return Poll::Ready(None);
        }
        match calls.stage {
            Stage::Open => {
                if let Some(frame) = calls.take() {
                    return Poll::Ready(Some(frame));
                }
            }
            Stage::Shut => {}
            Stage::Closed(_) => return Poll::Ready(None),
        }
        calls.idle = Some(cx.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
#[path = "line_tests.rs"]
mod tests;
