//! Keys of the rows in group 0 that say who belongs to the cluster. The layout is a stored format:
//! `docs/formats/member-rows.md` describes it and a golden test pins it.

use bytes::Bytes;
use floeberg_state::keys::KeyWriter;
use floeberg_types::NodeId;

/// First bytes of the keys. Append-only: a tag is never given a second meaning.
mod tag {
    pub const MEMBER: u8 = 0x80;
    pub const CLUSTER: u8 = 0x81;
    pub const PLACEMENT: u8 = 0x82;
    pub const ROTATION: u8 = 0x83;
    pub const ROTATION_STEP: u8 = 0x84;
}

pub(crate) fn member(node: NodeId) -> Bytes {
    KeyWriter::new(tag::MEMBER).u64(node.0).finish()
}

/// The prefix of all members, gone ones included.
pub(crate) fn members() -> Bytes {
    KeyWriter::new(tag::MEMBER).finish()
}

pub(crate) fn cluster() -> Bytes {
    KeyWriter::new(tag::CLUSTER).finish()
}

pub(crate) fn placement() -> Bytes {
    KeyWriter::new(tag::PLACEMENT).finish()
}

pub(crate) fn rotation() -> Bytes {
    KeyWriter::new(tag::ROTATION).finish()
}

pub(crate) fn rotation_step(node: NodeId) -> Bytes {
    KeyWriter::new(tag::ROTATION_STEP).u64(node.0).finish()
}

/// The prefix of all steps.
pub(crate) fn rotation_steps() -> Bytes {
    KeyWriter::new(tag::ROTATION_STEP).finish()
}
