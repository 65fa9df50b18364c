//! Apply: compare what the leader read, then write what it decided.

use crate::applied::{Applied, AppliedRowError, EntryKind, Identity, LogPos};
use crate::keys::{self, tag};
use crate::mark::{MARK_EVERY, Mark};
use crate::row::{RawRow, RowFormatError, encode_row};
use crate::usage;
use crate::view::{Batch, Overlay, View, ViewError};
use crate::{COMMAND_FORMAT, Command, EventRow, RowChange, UsageRow};
use bytes::Bytes;
use floeberg_proto::floeberg::state::v1 as pb;
use floeberg_types::{CommitId, RequestId, TimestampMs};
use prost::Message as _;

/// The level of a new group. A proposer relies on nothing above its group's present level.
pub const FEATURE_LEVEL_FIRST: u32 = 1;

/// The level of groups of several nodes.
pub const FEATURE_LEVEL_SEVERAL_NODES: u32 = 2;

/// The level from which on fragments of a table may lie under another id than its own, and in
/// several rows each.
pub const FEATURE_LEVEL_PIECES: u32 = 3;

/// The highest feature level this version can apply.
pub const FEATURE_LEVEL: u32 = FEATURE_LEVEL_PIECES;

/// What apply made of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every read matched; all its rows are written.
    Applied,
    /// A row or range was not as the leader had read it; nothing was written.
    Missed {
        /// The row, or the first row of a range that should have been empty.
        key: Bytes,
    },
}

/// What apply made of which command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// The command.
    pub commit_id: CommitId,
    /// What became of it.
    pub outcome: Outcome,
}

/// A response that is not the encoding of an outcome.
#[derive(Debug, Clone, thiserror::Error)]
#[error("the response of apply is damaged")]
pub struct OutcomeDecodeError;

impl Outcome {
    /// The response to the proposer of the command at `index`.
    #[must_use]
    pub fn encode(&self, index: u64) -> Bytes {
        let outcome = match self {
            Self::Applied => pb::outcome::Outcome::AppliedIndex(index),
            Self::Missed { key } => pb::outcome::Outcome::MissedKey(key.clone()),
        };
        pb::Outcome {
            outcome: Some(outcome),
        }
        .encode_to_vec()
        .into()
    }

    /// Reads a response; an applied command also has its index.
    ///
    /// # Errors
    /// The bytes are not the encoding of an outcome.
    pub fn decode(response: Bytes) -> Result<(Self, Option<u64>), OutcomeDecodeError> {
        let message = pb::Outcome::decode(response).map_err(|_| OutcomeDecodeError)?;
        match message.outcome.ok_or(OutcomeDecodeError)? {
            pb::outcome::Outcome::AppliedIndex(index) => Ok((Self::Applied, Some(index))),
            pb::outcome::Outcome::MissedKey(key) => Ok((Self::Missed { key }, None)),
        }
    }

    /// What the digest covers: a byte, and the missed key.
    fn digest_bytes(&self) -> Vec<u8> {
        match self {
            Self::Applied => vec![0],
            Self::Missed { key } => [&[1], &key[..]].concat(),
        }
    }
}

/// A log entry that must not be skipped and cannot be applied: the node halts.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The command's bytes are not a command.
    #[error("the command at {index} is damaged: {source}")]
    Damaged {
        /// Log index.
        index: u64,
        /// What the decoder found.
        source: prost::DecodeError,
    },
    /// The command has a layout that this version does not know.
    #[error("the command has format {format}; this version applies {COMMAND_FORMAT}")]
    UnknownFormat {
        /// The format found.
        format: u32,
    },
    /// The command relies on a feature that this version does not have.
    #[error("the command needs feature level {level}; this version has {FEATURE_LEVEL}")]
    UnknownFeatureLevel {
        /// The level found.
        level: u32,
    },
    /// The command raises the group's level above the one it needs itself, so that a version
    /// without that level would pass over it instead of halting.
    #[error("the command raises the feature level to {to}, but needs only {needs}")]
    FeatureLevelRaise {
        /// The level it raises to.
        to: u32,
        /// The level it needs.
        needs: u32,
    },
    /// The command was made for another group or cluster.
    #[error("the command is not for {expected}")]
    OtherIdentity {
        /// Whose state this is.
        expected: Identity,
    },
    /// A field does not have the length of an id.
    #[error("the command's {field} has {len} bytes instead of 16")]
    IdLength {
        /// Name of the field.
        field: &'static str,
        /// Its length.
        len: usize,
    },
    /// A row operation of a kind that this version does not know.
    #[error("the command has a row operation that this version does not know")]
    UnknownOperation,
    /// A row operation or usage delta on a key that it may not touch.
    #[error("the command touches a reserved row with tag {tag:?}")]
    ReservedRow {
        /// First byte of the key; `None` for an empty key.
        tag: Option<u8>,
    },
    /// The entry is not the successor of the last one applied.
    #[error("entry {index} follows entry {last:?}")]
    OutOfOrder {
        /// Index of the entry.
        index: u64,
        /// The last index applied.
        last: Option<u64>,
    },
    /// A stored row has an unknown header.
    #[error("a stored row is unreadable: {0}")]
    Row(#[from] RowFormatError),
    /// A stored usage row is damaged.
    #[error("a stored usage row is damaged: {0}")]
    Usage(#[source] prost::DecodeError),
    /// The applied row cannot be taken over.
    #[error(transparent)]
    Applied(#[from] AppliedRowError),
    /// The store failed.
    #[error(transparent)]
    View(#[from] ViewError),
}

/// Compares every read and range of `command` with `view` and returns the rows to write.
///
/// `log_time` is the group's log time including this command. A miss writes nothing.
///
/// # Errors
/// The command is not for this state or this version; the node must halt, never skip it.
pub fn apply(
    view: &dyn View,
    identity: Identity,
    at: LogPos,
    log_time: TimestampMs,
    command: &Command,
) -> Result<(Batch, Outcome), ApplyError> {
    let commit_id = check_command(identity, command)?;
    if let Some(key) = missed(view, command)? {
        return Ok((Batch::default(), Outcome::Missed { key }));
    }
    let mut batch = Batch::default();
    for row in &command.ops {
        match row.op.as_ref() {
            Some(RowChange::Put(payload)) => {
                batch.put(row.key.clone(), encode_row(commit_id, payload));
            }
            Some(RowChange::Delete(_)) => batch.delete(row.key.clone()),
            None => return Err(ApplyError::UnknownOperation),
        }
    }
    count_usage(view, commit_id, command, &mut batch)?;
    if let Some(event) = &command.event {
        let row = EventRow {
            kind: event.kind.clone(),
            resource: event.resource.clone(),
            details: event.details.clone(),
            log_time_ms: log_time.0,
            account: command.account.clone(),
            principal: command.principal.clone(),
            request_id: command.request_id.clone(),
            commit_id: command.commit_id.clone(),
        };
        let value = encode_row(commit_id, &row.encode_to_vec());
        batch.put(keys::event(identity.group, at.index), value);
    }
    Ok((batch, Outcome::Applied))
}

/// Whether the command may be applied here at all. Whoever takes a command from elsewhere asks
/// before it enters the log: in apply there is no way but to halt.
///
/// # Errors
/// What [`apply`] would halt on, whatever the rows are.
pub fn check_command(identity: Identity, command: &Command) -> Result<CommitId, ApplyError> {
    if command.format != COMMAND_FORMAT {
        return Err(ApplyError::UnknownFormat {
            format: command.format,
        });
    }
    if command.feature_level > FEATURE_LEVEL {
        return Err(ApplyError::UnknownFeatureLevel {
            level: command.feature_level,
        });
    }
    if command.raise_feature_level > command.feature_level {
        return Err(ApplyError::FeatureLevelRaise {
            to: command.raise_feature_level,
            needs: command.feature_level,
        });
    }
    if command.cluster_id[..] != identity.cluster.as_bytes()[..]
        || command.group != identity.group.0
    {
        return Err(ApplyError::OtherIdentity { expected: identity });
    }
    let request = &command.request_id;
    if RequestId::from_slice(request).is_none() {
        return Err(ApplyError::IdLength {
            field: "request id",
            len: request.len(),
        });
    }
    for read in command
        .reads
        .iter()
        .filter(|read| !read.commit_id.is_empty())
    {
        if read.commit_id.len() != 16 {
            let len = read.commit_id.len();
            return Err(ApplyError::IdLength {
                field: "read commit id",
                len,
            });
        }
    }
    for row in &command.ops {
        let tag = row.key.first().copied();
        // Retention deletes events and counters; nothing else may touch what apply maintains.
        let retention = matches!(row.op, Some(RowChange::Delete(_)))
            && matches!(tag, Some(tag::EVENT | tag::USAGE));
        if tag.is_none_or(|tag| tag::SYSTEM.contains(&tag)) && !retention {
            return Err(ApplyError::ReservedRow { tag });
        }
        if row.op.is_none() {
            return Err(ApplyError::UnknownOperation);
        }
    }
    for delta in &command.usage {
        if delta.key.first() != Some(&tag::USAGE) {
            return Err(ApplyError::ReservedRow {
                tag: delta.key.first().copied(),
            });
        }
    }
    let id = &command.commit_id;
    CommitId::from_slice(id).ok_or(ApplyError::IdLength {
        field: "commit id",
        len: id.len(),
    })
}

/// The first row or range that is not as the leader had read it.
fn missed(view: &dyn View, command: &Command) -> Result<Option<Bytes>, ApplyError> {
    for read in &command.reads {
        let matches = match view.get(&read.key)? {
            Some(value) => RawRow::decode(value)?.commit_id.as_bytes()[..] == read.commit_id[..],
            None => read.commit_id.is_empty(),
        };
        if !matches {
            return Ok(Some(read.key.clone()));
        }
    }
    for range in &command.ranges_empty {
        if let Some(key) = view.first_key(&range.start, &range.end)? {
            return Ok(Some(key));
        }
    }
    Ok(None)
}

/// Adds the command's usage deltas to their rows, as the command itself leaves them.
fn count_usage(
    view: &dyn View,
    commit_id: CommitId,
    command: &Command,
    batch: &mut Batch,
) -> Result<(), ApplyError> {
    for delta in &command.usage {
        let stored = match batch.change(&delta.key) {
            Some(change) => change.clone(),
            None => view.get(&delta.key)?,
        };
        let mut row = match stored {
            Some(value) => {
                UsageRow::decode(RawRow::decode(value)?.payload).map_err(ApplyError::Usage)?
            }
            None => UsageRow::default(),
        };
        usage::add(&mut row, delta);
        batch.put(
            delta.key.clone(),
            encode_row(commit_id, &row.encode_to_vec()),
        );
    }
    Ok(())
}

/// Applies a run of log entries to one batch.
///
/// How a log is cut into runs changes neither the rows nor the digest.
pub struct Run<'a> {
    identity: Identity,
    rows: Overlay<'a>,
    applied: Applied,
    marks: Vec<Mark>,
}

impl<'a> Run<'a> {
    /// Starts behind `applied`, which must be what `view` has reached.
    #[must_use]
    pub fn new(view: &'a dyn View, identity: Identity, applied: Applied) -> Self {
        Self {
            identity,
            rows: Overlay::new(view),
            applied,
            marks: Vec::new(),
        }
    }

    /// Indices must be consecutive: a gap means that the log lost an entry.
    fn follow(&self, at: LogPos) -> Result<(), ApplyError> {
        let last = self.applied.last.map(|last| last.index);
        match last {
            Some(last) if at.index != last + 1 => Err(ApplyError::OutOfOrder {
                index: at.index,
                last: Some(last),
            }),
            _ => Ok(()),
        }
    }

    fn advance(&mut self, at: LogPos, kind: EntryKind, payload: &[u8], outcome: &[u8]) {
        self.applied.advance(at, kind, payload, outcome);
        if at.index.is_multiple_of(MARK_EVERY) {
            self.marks.push(Mark {
                index: at.index,
                digest: self.applied.digest,
            });
        }
    }

    /// The digests at the marks that the run has passed; each is given out once.
    pub fn take_marks(&mut self) -> Vec<Mark> {
        std::mem::take(&mut self.marks)
    }

    /// Applies the command with these bytes.
    ///
    /// # Errors
    /// The node must halt; nothing of this run may be written.
    pub fn command(&mut self, at: LogPos, bytes: &Bytes) -> Result<Receipt, ApplyError> {
        self.follow(at)?;
        let command = Command::decode(bytes.clone()).map_err(|source| ApplyError::Damaged {
            index: at.index,
            source,
        })?;
        let log_time = self.applied.log_time.max(TimestampMs(command.log_time_ms));
        let (batch, outcome) = apply(&self.rows, self.identity, at, log_time, &command)?;
        self.rows.absorb(batch);
        self.applied.log_time = log_time;
        if outcome == Outcome::Applied {
            let level = &mut self.applied.feature_level;
            *level = command.raise_feature_level.max(*level);
        }
        self.advance(at, EntryKind::Command, bytes, &outcome.digest_bytes());
        let commit_id = CommitId::from_slice(&command.commit_id)
            .expect("apply refuses a command whose id has another length");
        Ok(Receipt { commit_id, outcome })
    }

    /// Passes an entry without content, such as a new leader's first one.
    ///
    /// # Errors
    /// The entry does not follow the last one.
    pub fn blank(&mut self, at: LogPos) -> Result<(), ApplyError> {
        self.follow(at)?;
        self.advance(at, EntryKind::Blank, &[], &[]);
        Ok(())
    }

    /// Takes over a membership.
    ///
    /// # Errors
    /// The entry does not follow the last one.
    pub fn membership(&mut self, at: LogPos, membership: Bytes) -> Result<(), ApplyError> {
        self.follow(at)?;
        self.advance(at, EntryKind::Membership, &membership, &[]);
        self.applied.membership = Some(membership);
        Ok(())
    }

    /// Everything the run changed, the applied row included, to be written atomically.
    #[must_use]
    pub fn finish(self) -> (Batch, Applied) {
        let mut batch = self.rows.into_changes();
        if let Some(value) = self.applied.encode(self.identity) {
            batch.put(keys::applied(), value);
        }
        (batch, self.applied)
    }
}

#[cfg(test)]
mod tests;
