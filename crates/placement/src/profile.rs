//! How a chunk is spread: its profile, and sets of its shards.

use std::fmt;

/// How many shards a chunk has and how many of them may be lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Profile {
    /// One copy.
    R1,
    /// Three copies.
    R3,
    /// `k` pieces of the data and `m` of parity.
    Ec {
        /// Data shards.
        k: u8,
        /// Parity shards.
        m: u8,
    },
}

/// The profile can be read from rows and headers, but nothing writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("chunks of profile {profile} cannot be written by this version: use R1 or R3")]
pub struct NotWritable {
    /// The profile.
    pub profile: Profile,
}

impl Profile {
    /// The number that stands for it in rows, headers and messages.
    #[must_use]
    pub fn code(self) -> u16 {
        match self {
            Self::R1 => 1,
            Self::R3 => 3,
            Self::Ec { k, m } => u16::from_be_bytes([k, m]),
        }
    }

    /// The profile of a code; `None` if no profile has it.
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        let [k, m] = code.to_be_bytes();
        match code {
            1 => Some(Self::R1),
            3 => Some(Self::R3),
            _ if k >= 2 && m >= 1 && u32::from(k) + u32::from(m) <= ShardSet::LIMIT => {
                Some(Self::Ec { k, m })
            }
            _ => None,
        }
    }

    /// How many shards a chunk has.
    #[must_use]
    pub fn shards(self) -> usize {
        match self {
            Self::R1 => 1,
            Self::R3 => 3,
            Self::Ec { k, m } => usize::from(k) + usize::from(m),
        }
    }

    /// How many shards must be durable before a chunk counts as stored: enough that one more
    /// failure cannot take it, and few enough that a node may be away.
    #[must_use]
    pub fn acks(self) -> usize {
        match self {
            Self::R1 => 1,
            Self::R3 => 2,
            Self::Ec { k, m } => usize::from(k) + usize::from(m).div_ceil(2),
        }
    }

    /// What a cluster of this many nodes should use.
    #[must_use]
    pub fn for_nodes(nodes: usize) -> Self {
        match nodes {
            0 | 1 => Self::R1,
            2 | 3 => Self::R3,
            4 => Self::Ec { k: 2, m: 2 },
            5 => Self::Ec { k: 3, m: 2 },
            6..=8 => Self::Ec { k: 4, m: 2 },
            9..=11 => Self::Ec { k: 6, m: 3 },
            _ => Self::Ec { k: 8, m: 3 },
        }
    }

    /// What a cluster of this many nodes uses as long as only copies can be written.
    #[must_use]
    pub fn copies_for_nodes(nodes: usize) -> Self {
        match nodes {
            0 | 1 => Self::R1,
            _ => Self::R3,
        }
    }

    /// The number of copies, for a profile whose shards are copies.
    ///
    /// # Errors
    /// If the profile is erasure-coded.
    pub fn copies(self) -> Result<usize, NotWritable> {
        match self {
            Self::R1 | Self::R3 => Ok(self.shards()),
            Self::Ec { .. } => Err(NotWritable { profile: self }),
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::R1 => f.write_str("R1"),
            Self::R3 => f.write_str("R3"),
            Self::Ec { k, m } => write!(f, "{k}+{m}"),
        }
    }
}

/// Some of the shards of one chunk, as a bitmap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ShardSet(u32);

impl ShardSet {
    /// Shard numbers lie below.
    pub const LIMIT: u32 = 32;

    /// The set whose bit `n` stands for shard `n`.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// Bit `n` stands for shard `n`.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Every shard of a profile.
    #[must_use]
    pub fn all(profile: Profile) -> Self {
        (0..profile.shards()).collect()
    }

    /// Whether no shard is in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many shards are in it.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Whether a shard is in it.
    #[must_use]
    pub fn contains(self, shard: usize) -> bool {
        self.0 & bit(shard) != 0
    }

    /// Adds a shard.
    pub fn insert(&mut self, shard: usize) {
        self.0 |= bit(shard);
    }

    /// Takes a shard out.
    pub fn remove(&mut self, shard: usize) {
        self.0 &= !bit(shard);
    }

    /// Its shards in ascending order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..32_usize).filter(move |shard| self.contains(*shard))
    }
}

/// A number beyond the limit has no bit.
fn bit(shard: usize) -> u32 {
    u32::try_from(shard)
        .ok()
        .and_then(|shard| 1_u32.checked_shl(shard))
        .unwrap_or(0)
}

impl FromIterator<usize> for ShardSet {
    fn from_iter<I: IntoIterator<Item = usize>>(shards: I) -> Self {
        let mut set = Self::default();
        for shard in shards {
            set.insert(shard);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_pinned_and_unambiguous() {
        let known = [
            (Profile::R1, 1),
            (Profile::R3, 3),
            (Profile::Ec { k: 2, m: 2 }, 0x0202),
            (Profile::Ec { k: 3, m: 2 }, 0x0302),
            (Profile::Ec { k: 4, m: 2 }, 0x0402),
            (Profile::Ec { k: 6, m: 3 }, 0x0603),
            (Profile::Ec { k: 8, m: 3 }, 0x0803),
        ];
        for (profile, code) in known {
            assert_eq!(profile.code(), code, "{profile}");
        }
        let mut decoded = 0;
        for code in 0..=u16::MAX {
            if let Some(profile) = Profile::from_code(code) {
                assert_eq!(profile.code(), code);
                assert!(profile.shards() <= 32 && profile.acks() <= profile.shards());
                decoded += 1;
            }
        }
        // R1, R3, and k + m <= 32 with k >= 2 and m >= 1.
        assert_eq!(decoded, 2 + 465);
    }

    #[test]
    fn an_acknowledged_chunk_survives_a_loss_wherever_shards_can_be_lost() {
        for nodes in 2..=16 {
            let profile = Profile::for_nodes(nodes);
            let needed = match profile {
                Profile::Ec { k, .. } => usize::from(k),
                Profile::R1 | Profile::R3 => 1,
            };
            assert!(profile.acks() > needed, "{profile} on {nodes} nodes");
            let copies = Profile::copies_for_nodes(nodes).copies();
            assert_eq!(copies, Ok(3));
        }
        assert_eq!(Profile::Ec { k: 4, m: 2 }.acks(), 5);
        assert_eq!(Profile::Ec { k: 8, m: 3 }.acks(), 10);
        assert_eq!(Profile::copies_for_nodes(1), Profile::R1);
        let refused = Profile::for_nodes(4).copies().expect_err("not written yet");
        assert_eq!(refused.profile, Profile::Ec { k: 2, m: 2 });
    }

    #[test]
    fn a_shard_set_is_its_bitmap() {
        let mut set = ShardSet::all(Profile::R3);
        assert_eq!((set.bits(), set.len()), (0b111, 3));
        set.remove(1);
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 2]);
        assert!(set.contains(2) && !set.contains(1) && !set.contains(40));
        set.insert(40);
        assert_eq!(ShardSet::from_bits(0b101), set);
        assert!(ShardSet::default().is_empty());
    }
}
