//! The messages between a node that decides and the leader that orders, and their checks.

use bytes::Bytes;
use floeberg_consensus::{CommandTooLarge, Term};
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{Refusal, RefusalCode};
use floeberg_types::{CommitId, TimestampMs};
use pb::proposal_reply::{Answer, refused};
use prost::Message;

/// Layout of the messages that this version sends and the only one it takes.
pub(crate) const FORMAT: u32 = 1;

/// A command for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Propose {
    pub(crate) term: Term,
    pub(crate) command: Bytes,
    /// How often the request behind it missed before.
    pub(crate) earlier_misses: u32,
}

/// Bars a command unless it is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Withdraw {
    pub(crate) term: Term,
    pub(crate) commit_id: CommitId,
    pub(crate) decided: TimestampMs,
}

/// Why a command was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// A row is not as it was read.
    Missed(Bytes),
    /// Its time is too far ahead, or too old to be told from a copy of an earlier command.
    EvaluateAt(TimestampMs),
    /// It was withdrawn, turned down or settled before.
    Barred,
    /// Too much is in flight.
    Busy,
    /// It does not fit into one entry of the log.
    TooLarge(CommandTooLarge),
}

/// What the leader says of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// It is on its way; the log tells the outcome.
    InFlight,
    /// It is not in the log behind `settled`, and never will be.
    Refused {
        /// The last entry that can be or can have hidden it.
        settled: u64,
        /// Why.
        reason: Reason,
    },
    /// The node does not lead the term, or not yet.
    NotLeading {
        /// The newest term that it knows.
        term: Term,
    },
}

pub(crate) fn malformed(what: &str) -> Refusal {
    Refusal {
        code: RefusalCode::Malformed,
        message: format!("{what}: the nodes run versions that do not understand each other"),
    }
}

fn decoded<M: Message + Default>(
    body: Bytes,
    format: impl FnOnce(&M) -> u32,
) -> Result<M, Refusal> {
    let message = M::decode(body).map_err(|_| malformed("the message is damaged"))?;
    match format(&message) {
        FORMAT => Ok(message),
        other => Err(malformed(&format!("the message has format {other}"))),
    }
}

impl Propose {
    pub(crate) fn encode(self) -> Bytes {
        let message = pb::Propose {
            format: FORMAT,
            term: self.term,
            command: self.command,
            earlier_misses: self.earlier_misses,
        };
        message.encode_to_vec().into()
    }

    pub(crate) fn decode(body: Bytes) -> Result<Self, Refusal> {
        let message: pb::Propose = decoded(body, |m: &pb::Propose| m.format)?;
        Ok(Self {
            term: message.term,
            command: message.command,
            earlier_misses: message.earlier_misses,
        })
    }
}

impl Withdraw {
    pub(crate) fn encode(self) -> Bytes {
        let message = pb::Withdraw {
            format: FORMAT,
            term: self.term,
            commit_id: Bytes::copy_from_slice(self.commit_id.as_bytes()),
            decided_ms: self.decided.0,
        };
        message.encode_to_vec().into()
    }

    pub(crate) fn decode(body: Bytes) -> Result<Self, Refusal> {
        let message: pb::Withdraw = decoded(body, |m: &pb::Withdraw| m.format)?;
        let commit_id = CommitId::from_slice(&message.commit_id);
        Ok(Self {
            term: message.term,
            commit_id: commit_id.ok_or_else(|| malformed("the commit id is not one"))?,
            decided: TimestampMs(message.decided_ms),
        })
    }
}

impl Reason {
    fn encode(self) -> refused::Reason {
        use pb::proposal_reply::{Barred, Busy, TooLarge};
        match self {
            Self::Missed(key) => refused::Reason::MissedKey(key),
            Self::EvaluateAt(time) => refused::Reason::EvaluateAtMs(time.0),
            Self::Barred => refused::Reason::Barred(Barred {}),
            Self::Busy => refused::Reason::Busy(Busy {}),
            Self::TooLarge(CommandTooLarge { bytes, limit }) => {
                refused::Reason::TooLarge(TooLarge { bytes, limit })
            }
        }
    }

    fn decode(reason: refused::Reason) -> Self {
        match reason {
            refused::Reason::MissedKey(key) => Self::Missed(key),
            refused::Reason::EvaluateAtMs(time) => Self::EvaluateAt(TimestampMs(time)),
            refused::Reason::Barred(_) => Self::Barred,
            refused::Reason::Busy(_) => Self::Busy,
            refused::Reason::TooLarge(large) => Self::TooLarge(CommandTooLarge {
                bytes: large.bytes,
                limit: large.limit,
            }),
        }
    }
}

impl Reply {
    pub(crate) fn encode(self) -> Bytes {
        use pb::proposal_reply::{InFlight, NotLeading, Refused};
        let answer = match self {
            Self::InFlight => Answer::InFlight(InFlight {}),
            Self::Refused { settled, reason } => Answer::Refused(Refused {
                settled_index: settled,
                reason: Some(reason.encode()),
            }),
            Self::NotLeading { term } => Answer::NotLeading(NotLeading { term }),
        };
        let message = pb::ProposalReply {
            format: FORMAT,
            answer: Some(answer),
        };
        message.encode_to_vec().into()
    }

    pub(crate) fn decode(body: Bytes) -> Result<Self, Refusal> {
        let message: pb::ProposalReply = decoded(body, |m: &pb::ProposalReply| m.format)?;
        match message.answer {
            Some(Answer::InFlight(_)) => Ok(Self::InFlight),
            Some(Answer::NotLeading(not)) => Ok(Self::NotLeading { term: not.term }),
            Some(Answer::Refused(refused)) => match refused.reason {
                Some(reason) => Ok(Self::Refused {
                    settled: refused.settled_index,
                    reason: Reason::decode(reason),
                }),
                None => Err(malformed("the refusal has an unknown reason")),
            },
            None => Err(malformed("the answer is of an unknown kind")),
        }
    }
}

#[cfg(test)]
mod tests;
