//! The replicated state of a group: how rows and keys are laid out, and what a command does to them.
//!
//! A leader decides and proposes a [`Command`]: the rows it read, each with the commit id it saw,
//! and the rows it writes. Apply compares and writes, nothing else: no clock, no randomness and no
//! knowledge of what the rows mean, so that nodes of different versions cannot diverge.

mod applied;
mod apply;
pub mod keys;
mod mark;
mod row;
mod usage;
mod view;

pub use applied::{Applied, AppliedRowError, Digest, Identity, LogPos};
pub use apply::{
    ApplyError, FEATURE_LEVEL, FEATURE_LEVEL_FIRST, FEATURE_LEVEL_PIECES,
    FEATURE_LEVEL_SEVERAL_NODES, Outcome, OutcomeDecodeError, Receipt, Run, apply, check_command,
};
pub use floeberg_proto::floeberg::state::v1::{Command, Event, EventRow, Read, RowOp, UsageRow};
pub use floeberg_proto::floeberg::state::v1::{RangeEmpty, row_op::Op as RowChange};
pub use mark::{Comparison, MARK_EVERY, MARKS_MAX, Mark, Marks, compare_marks};
pub use row::{ROW_FORMAT, RawRow, RowFormatError, RowMessage, encode_row};
pub use usage::{UsageDelta, UsageKey};
pub use view::{Batch, Overlay, View, ViewError};

/// Layout of [`Command`] that this version writes and the only one it applies.
pub const COMMAND_FORMAT: u32 = 1;
