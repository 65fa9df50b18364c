//! The ordered queue between proposers and the log.
//!
//! One task per group forwards commands in the order they were submitted, without waiting for any
//! of them. The library merges what it finds queued into one append, and the log's sync thread
//! merges appends into one sync: commands share their fsync, and nobody waits for company that is not
//! ready to run.

use crate::Term;
use crate::budget::Permit;
use crate::raft::{Command, LeaderId, Raft, TypeConfig, WriteResult};
use bytes::Bytes;
use floeberg_env::{Crossing, Tasks};
use floeberg_types::limits;
use openraft::OptionalSend;
use openraft::errors::ClientWriteError;
use openraft::raft::responder::Responder;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::sync::{mpsc, oneshot};

/// Commands taken from the queue at once.
const TAKE_MAX: usize = 1024;

/// A command that fits into one entry of the log, and hence into every message that carries one.
///
/// Nothing else can be submitted or proposed: an entry that no message can carry would stay at the end
/// of the leader's log, and everything would wait behind it. Entries that are in a log already are
/// not checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizedCommand(Bytes);

/// A command that is too large for one entry of the log. It is not proposed and never will be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the change takes {bytes} bytes of the log, more than the {limit} of one entry; nothing was \
     changed: make it in several smaller requests"
)]
pub struct CommandTooLarge {
    /// Its length.
    pub bytes: u64,
    /// The longest that is accepted, `floeberg_types::limits::COMMAND_BYTES` on the node that says so.
    pub limit: u64,
}

impl SizedCommand {
    /// Measures a command.
    ///
    /// # Errors
    /// It is above the limit.
    pub fn new(command: impl Into<Bytes>) -> Result<Self, CommandTooLarge> {
        let command = command.into();
        if command.len() > limits::COMMAND_BYTES {
            return Err(CommandTooLarge {
                bytes: command.len() as u64,
                limit: limits::COMMAND_BYTES as u64,
            });
        }
        Ok(Self(command))
    }

    /// The command; cheap to clone.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }
}

/// Why a command has no response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The command is not in the log and never will be: its term does not lead here (any more).
    #[error("the command was not proposed")]
    NotProposed,
    /// The command may or may not be applied, now or later. Only a ReadIndex on a later leader
    /// tells.
    #[error("the outcome of the command is unknown")]
    Indefinite,
}

/// The response to come of a submitted command. Dropping it does not withdraw the command.
#[derive(Debug)]
#[must_use = "the outcome of the command is only known here"]
pub struct Pending(Outcome);

#[derive(Debug)]
enum Outcome {
    /// The group had stopped before the command was queued.
    Refused,
    Awaited {
        answer: oneshot::Receiver<WriteResult>,
        /// Where the answer is made.
        tasks: Tasks,
    },
    /// On its way to who waits for it.
    Told {
        result: Result<Bytes, ProposeError>,
        crossing: Crossing,
    },
}

impl Future for Pending {
    type Output = Result<Bytes, ProposeError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = &mut self.get_mut().0;
        loop {
            match outcome {
                Outcome::Refused => return Poll::Ready(Err(ProposeError::NotProposed)),
                Outcome::Awaited { answer, tasks } => {
                    let result = concluded(ready!(Pin::new(answer).poll(cx)));
                    let crossing = tasks.crossing();
                    *outcome = Outcome::Told { result, crossing };
                }
                Outcome::Told { result, crossing } => {
                    ready!(Pin::new(crossing).poll(cx));
                    return Poll::Ready(result.clone());
                }
            }
        }
    }
}

/// What the library's answer says; none if it has gone.
fn concluded(
    answer: Result<WriteResult, oneshot::error::RecvError>,
) -> Result<Bytes, ProposeError> {
    match answer {
        Ok(Ok(response)) => Ok(response.data),
        // The library says this only before it gives the command a place in the log.
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => Err(ProposeError::NotProposed),
        // Discarded from this log, yet another node may hold and commit it; or the group
        // stopped without an answer.
        Ok(Err(_)) | Err(_) => Err(ProposeError::Indefinite),
    }
}

/// Where the library leaves the outcome of one command.
pub(crate) struct Reply<T> {
    answer: oneshot::Sender<T>,
    _permit: Arc<Permit>,
}

impl<T: OptionalSend + 'static> Responder<TypeConfig, T> for Reply<T> {
    fn on_complete(self, result: T) {
        // The proposer may have gone; its command stands all the same.
        let _ = self.answer.send(result);
    }
}

/// A command on its way to the log.
pub(crate) struct Submission {
    term: Term,
    command: Bytes,
    reply: Reply<WriteResult>,
}

/// The proposers' end of the queue.
#[derive(Debug)]
pub(crate) struct SubmitQueue {
    queue: mpsc::UnboundedSender<Submission>,
    tasks: Tasks,
}

impl SubmitQueue {
    /// The queue is unbounded because permits bound it. `tasks` run what is behind it.
    pub(crate) fn new(tasks: Tasks) -> (Self, mpsc::UnboundedReceiver<Submission>) {
        let (queue, receiver) = mpsc::unbounded_channel();
        (Self { queue, tasks }, receiver)
    }

    /// `permit` is held until the outcome is known, even if nobody waits for it any more.
    pub(crate) fn push(&self, permit: Arc<Permit>, term: Term, command: SizedCommand) -> Pending {
        let (answer, awaited) = oneshot::channel();
        let reply = Reply {
            answer,
            _permit: permit,
        };
        match self.queue.send(Submission {
            term,
            command: command.0,
            reply,
        }) {
            Ok(()) => Pending(Outcome::Awaited {
                answer: awaited,
                tasks: self.tasks.clone(),
            }),
            Err(_) => Pending(Outcome::Refused),
        }
    }
}

/// Forwards commands until the group stops or every handle is gone.
///
/// Each is pinned to the leadership it was decided under: the library appends it only while this
/// node leads that very term.
pub(crate) async fn forward(
    raft: Raft,
    node: u64,
    mut queue: mpsc::UnboundedReceiver<Submission>,
    tasks: Tasks,
) {
    let mut taken = Vec::with_capacity(TAKE_MAX);
    while queue.recv_many(&mut taken, TAKE_MAX).await > 0 {
        tasks.crossing().await;
        // Each wake-up of another thread costs as much as a commit's work here: where all cores are
        // busy, one is to serve many.
        tasks.yield_thread();
        while taken.len() < TAKE_MAX
            && let Ok(more) = queue.try_recv()
        {
            taken.push(more);
        }
        for Submission {
            term,
            command,
            reply,
        } in taken.drain(..)
        {
            let leader = LeaderId {
                term,
                node_id: node,
            };
            let write = raft
                .write(Command(command))
                .responder(reply)
                .with_leader(leader);
            if write.await.is_err() {
                // The group has stopped; what is still queued is dropped and thereby indefinite.
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_above_the_limit_cannot_be_submitted() {
        let largest = vec![0; limits::COMMAND_BYTES];
        assert!(SizedCommand::new(largest).is_ok());
        let refused = SizedCommand::new(vec![0; limits::COMMAND_BYTES + 1]);
        let bytes = limits::COMMAND_BYTES as u64 + 1;
        let limit = limits::COMMAND_BYTES as u64;
        assert_eq!(refused, Err(CommandTooLarge { bytes, limit }));
    }
}
