//! How far apply has come: position, membership, log time and the rolling digest.

use crate::apply::{FEATURE_LEVEL, FEATURE_LEVEL_FIRST};
use crate::keys;
use crate::row::{RawRow, RowFormatError, encode_row};
use crate::view::{View, ViewError};
use bytes::Bytes;
use floeberg_proto::floeberg::state::v1::AppliedRow;
use floeberg_types::{ClusterId, CommitId, GroupId, TimestampMs};
use prost::Message as _;
use std::fmt;

/// A position in a group's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPos {
    /// Term of the leader that appended the entry.
    pub term: u64,
    /// That leader.
    pub node: u64,
    /// Index in the log.
    pub index: u64,
}

/// Whose state this is; every command must name the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// The cluster.
    pub cluster: ClusterId,
    /// The Raft group.
    pub group: GroupId,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "group {} of cluster {}", self.group, self.cluster)
    }
}

/// BLAKE3 over everything applied; equal on two nodes that applied the same log.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Digest(pub [u8; 32]);

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What an entry is, as the digest sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) enum EntryKind {
    Blank = 0,
    Command = 1,
    Membership = 2,
}

/// What apply has reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The last entry applied; `None` in a new group.
    pub last: Option<LogPos>,
    /// The last membership applied, opaque here.
    pub membership: Option<Bytes>,
    /// The highest log time so far.
    pub log_time: TimestampMs,
    /// Digest of everything up to `last`.
    pub digest: Digest,
    /// What commands may rely on: every node that applies this group's log knows it.
    pub feature_level: u32,
}

impl Default for Applied {
    /// A new group.
    fn default() -> Self {
        Self {
            last: None,
            membership: None,
            log_time: TimestampMs::default(),
            digest: Digest::default(),
            feature_level: FEATURE_LEVEL_FIRST,
        }
    }
}

/// A stored applied row that cannot be taken over.
#[derive(Debug, thiserror::Error)]
pub enum AppliedRowError {
    /// The store failed.
    #[error(transparent)]
    View(#[from] ViewError),
    /// The row's header is unknown.
    #[error("the applied row is unreadable: {0}")]
    Format(#[from] RowFormatError),
    /// The row's payload is damaged.
    #[error("the applied row is damaged: {0}")]
    Damaged(#[from] prost::DecodeError),
    /// The row's digest or cluster id has the wrong length.
    #[error("the applied row is damaged: {field} has {len} bytes")]
    FieldLength {
        /// Name of the field.
        field: &'static str,
        /// Its length.
        len: usize,
    },
    /// The group relies on a feature that this version does not have.
    #[error(
        "the group has feature level {level}; this version has {FEATURE_LEVEL}: \
         run a version that knows the level"
    )]
    UnknownFeatureLevel {
        /// The group's level.
        level: u32,
    },
    /// The directory belongs to another group or cluster.
    #[error("the stored state is of {found}, expected {expected}")]
    OtherIdentity {
        /// Whose state it is.
        found: Identity,
        /// Whose state was asked for.
        expected: Identity,
    },
}

impl Applied {
    /// Reads what the state in `view` has reached.
    ///
    /// # Errors
    /// The row is damaged or belongs to another group.
    pub fn load(view: &dyn View, identity: Identity) -> Result<Self, AppliedRowError> {
        let Some(value) = view.get(&keys::applied())? else {
            return Ok(Self::default());
        };
        let row = AppliedRow::decode(RawRow::decode(value)?.payload)?;
        let field = |field, bytes: &Bytes| AppliedRowError::FieldLength {
            field,
            len: bytes.len(),
        };
        let digest = row.digest[..]
            .try_into()
            .map_err(|_| field("digest", &row.digest))?;
        let cluster = ClusterId::from_slice(&row.cluster_id);
        let found = Identity {
            cluster: cluster.ok_or_else(|| field("cluster id", &row.cluster_id))?,
            group: GroupId(row.group),
        };
        if found != identity {
            return Err(AppliedRowError::OtherIdentity {
                found,
                expected: identity,
            });
        }
        let level = row.feature_level;
        if level > FEATURE_LEVEL {
            return Err(AppliedRowError::UnknownFeatureLevel { level });
        }
        Ok(Self {
            last: Some(LogPos {
                term: row.term,
                node: row.node,
                index: row.index,
            }),
            membership: (!row.membership.is_empty()).then_some(row.membership),
            log_time: TimestampMs(row.log_time_ms),
            digest: Digest(digest),
            feature_level: level.max(FEATURE_LEVEL_FIRST),
        })
    }

    /// The stored form; `None` before the first entry.
    #[must_use]
    pub fn encode(&self, identity: Identity) -> Option<Bytes> {
        let last = self.last?;
        let row = AppliedRow {
            term: last.term,
            node: last.node,
            index: last.index,
            membership: self.membership.clone().unwrap_or_default(),
            log_time_ms: self.log_time.0,
            digest: Bytes::copy_from_slice(&self.digest.0),
            cluster_id: Bytes::copy_from_slice(identity.cluster.as_bytes()),
            group: identity.group.0,
            // Rows written before there were levels have none.
            feature_level: match self.feature_level {
                FEATURE_LEVEL_FIRST => 0,
                level => level,
            },
        };
        // No command writes this row, hence the all-zero commit id.
        Some(encode_row(
            CommitId::from_bytes([0; 16]),
            &row.encode_to_vec(),
        ))
    }

    /// Moves to `at`: `digest' = blake3(digest, index, kind, payload length, payload, outcome)`.
    pub(crate) fn advance(&mut self, at: LogPos, kind: EntryKind, payload: &[u8], outcome: &[u8]) {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.digest.0);
        hasher.update(&at.index.to_be_bytes());
        hasher.update(&[kind as u8]);
        hasher.update(&(payload.len() as u64).to_be_bytes());
        hasher.update(payload);
        hasher.update(outcome);
        self.digest = Digest(*hasher.finalize().as_bytes());
        self.last = Some(at);
    }
}
