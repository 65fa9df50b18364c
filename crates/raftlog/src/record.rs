//! The bytes of a stored record; described in `docs/formats/raft-log.md`.

use crate::{Corrupt, Damage};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};
use floeberg_types::GroupId;

/// Format number of the records this program writes.
pub const FORMAT: u8 = 1;

pub(crate) const HEADER_BYTES: usize = 32;
const CRC_AT: usize = 28;

/// First byte of a key; also the order in which a scan meets them.
const LOG_PREFIX: u8 = 1;
const META_PREFIX: u8 = 2;

/// What a record holds. Numbers are stored: append only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    Entry = 1,
    Vote = 2,
    Committed = 3,
    Purged = 4,
}

impl Kind {
    fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Entry),
            2 => Some(Self::Vote),
            3 => Some(Self::Committed),
            4 => Some(Self::Purged),
            _ => None,
        }
    }
}

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Entry { group: GroupId, index: u64 },
    Meta { group: GroupId, kind: Kind },
}

impl Key {
    pub(crate) fn encode(self) -> Vec<u8> {
        match self {
            Self::Entry { group, index } => {
                let mut key = Vec::with_capacity(13);
                key.push(LOG_PREFIX);
                key.extend_from_slice(&group.0.to_be_bytes());
                key.extend_from_slice(&index.to_be_bytes());
                key
            }
            Self::Meta { group, kind } => {
                let mut key = Vec::with_capacity(6);
                key.push(META_PREFIX);
                key.extend_from_slice(&group.0.to_be_bytes());
                key.push(kind as u8);
                key
            }
        }
    }

    pub(crate) fn decode(key: &[u8]) -> Option<Self> {
        let (prefix, rest) = key.split_first()?;
        let (group, rest) = rest.split_first_chunk::<4>()?;
        let group = GroupId(u32::from_be_bytes(*group));
        match (*prefix, rest) {
            (LOG_PREFIX, rest) => {
                let index = u64::from_be_bytes(rest.try_into().ok()?);
                Some(Self::Entry { group, index })
            }
            (META_PREFIX, [kind]) => Some(Self::Meta {
                group,
                kind: Kind::from_number(*kind)?,
            }),
            _ => None,
        }
    }
}

/// The fields in front of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) group: GroupId,
    /// Entry: its index. Purged: the last purged index. Vote: how many votes the group has saved.
    pub(crate) number: u64,
    /// Entry: checksum of the record before it. Purged: what the next entry must have here.
    pub(crate) previous: u32,
    /// Entry: how many votes the group had saved, saturating; reveals a vote lost before it.
    pub(crate) votes: u32,
}

impl Header {
    /// The stored bytes and their checksum, which the next entry carries as `previous`.
    pub(crate) fn encode(&self, payload: &[u8]) -> (Vec<u8>, u32) {
        let mut out = Vec::with_capacity(HEADER_BYTES + payload.len());
        let len = u32::try_from(payload.len()).expect("a record is far below 4 GiB");
        out.extend_from_slice(&[FORMAT, self.kind as u8, 0, 0]);
        out.extend_from_slice(&self.group.0.to_be_bytes());
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.previous.to_be_bytes());
        out.extend_from_slice(&self.votes.to_be_bytes());
        out.extend_from_slice(&len.to_be_bytes());
        let crc = crc32c(&[&out, payload]);
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(payload);
        (out, crc)
    }
}

/// A stored record that has passed its checksum and lies under its own key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) header: Header,
    pub(crate) crc: u32,
    pub(crate) payload: Bytes,
}

impl Stored {
    /// Checks and takes apart the bytes found under `key`.
    pub(crate) fn decode(key: Key, bytes: Bytes) -> Result<Self, Corrupt> {
        let (group, index) = match key {
            Key::Entry { group, index } => (group, Some(index)),
            Key::Meta { group, .. } => (group, None),
        };
        let damaged = |damage| Corrupt {
            group: Some(group),
            index,
            damage,
        };
        let stored = Self::parse(bytes).map_err(damaged)?;
        let header = &stored.header;
        let in_place = match key {
            Key::Entry { group, index } => {
                header.kind == Kind::Entry && header.group == group && header.number == index
            }
            Key::Meta { group, kind } => header.kind == kind && header.group == group,
        };
        if in_place {
            Ok(stored)
        } else {
            Err(damaged(Damage::Malformed))
        }
    }

    fn parse(bytes: Bytes) -> Result<Self, Damage> {
        let found = *bytes.first().ok_or(Damage::Malformed)?;
        if bytes.len() < HEADER_BYTES {
            return Err(Damage::Malformed);
        }
        let crc = word(&bytes, CRC_AT);
        // The checksum comes first: a flipped format byte is damage, not a newer program's work.
        if crc32c(&[&bytes[..CRC_AT], &bytes[HEADER_BYTES..]]) != crc {
            return Err(Damage::Checksum);
        }
        if found != FORMAT {
            return Err(Damage::UnknownFormat { found });
        }
        let kind = Kind::from_number(bytes[1]).ok_or(Damage::Malformed)?;
        let payload = bytes.slice(HEADER_BYTES..);
        if word(&bytes, 24) as usize != payload.len() {
            return Err(Damage::Malformed);
        }
        let number = u64::from(word(&bytes, 8)) << 32 | u64::from(word(&bytes, 12));
        let header = Header {
            kind,
            group: GroupId(word(&bytes, 4)),
            number,
            previous: word(&bytes, 16),
            votes: word(&bytes, 20),
        };
        Ok(Self {
            header,
            crc,
            payload,
        })
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let word: [u8; 4] = bytes[at..at + 4]
        .try_into()
        .expect("four bytes were asked for");
    u32::from_be_bytes(word)
}

/// CRC-32C (Castagnoli, as in RFC 3720) over the concatenation of `parts`.
pub(crate) fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = Digest::new(CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    u32::try_from(digest.finalize()).expect("a CRC-32 has 32 bits")
}

/// What the first entry of a group that was never purged has in `previous`.
pub(crate) fn first_link(group: GroupId) -> u32 {
    crc32c(&[b"floeberg log start", &group.0.to_be_bytes()])
}

/// What the entry after a position that was purged without being in the log has in `previous`.
pub(crate) fn purged_link(group: GroupId, upto: u64, log_id: &[u8]) -> u32 {
    crc32c(&[
        b"floeberg log purged",
        &group.0.to_be_bytes(),
        &upto.to_be_bytes(),
        log_id,
    ])
}

#[cfg(test)]
mod tests;
