//! Digests at positions that every node passes, so that nodes can be compared.

use crate::applied::Digest;
use std::cmp::Ordering;
use std::collections::VecDeque;

/// A digest is remembered at every index that is a multiple of this.
pub const MARK_EVERY: u64 = 1024;

/// How many digests a node remembers.
pub const MARKS_MAX: usize = 64;

/// The digest of everything applied up to an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The last entry that the digest covers.
    pub index: u64,
    /// The digest.
    pub digest: Digest,
}

/// The newest marks of a node, oldest first.
#[derive(Debug, Clone, Default)]
pub struct Marks(VecDeque<Mark>);

impl Marks {
    /// Adds a mark behind all others, forgetting the oldest where there are too many.
    pub fn push(&mut self, mark: Mark) {
        if self.0.len() == MARKS_MAX {
            self.0.pop_front();
        }
        self.0.push_back(mark);
    }

    /// Forgets everything: the state was replaced by another.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// The digest at `index`, if that is a mark still remembered.
    #[must_use]
    pub fn at(&self, index: u64) -> Option<Digest> {
        let found = self.0.binary_search_by_key(&index, |mark| mark.index);
        found.ok().map(|place| self.0[place].digest)
    }

    /// All marks, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Mark> {
        self.0.iter().copied().collect()
    }
}

/// What the marks of two nodes say about their states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// All common positions are equal; this is the last of them.
    Equal {
        /// The position.
        index: u64,
    },
    /// The nodes applied the same log and have different states: one of them must stop.
    Diverged {
        /// The first position where they differ.
        index: u64,
    },
    /// No position is known of both.
    NothingInCommon,
}

/// Compares two nodes' marks, each oldest first.
#[must_use]
pub fn compare_marks(ours: &[Mark], theirs: &[Mark]) -> Comparison {
    let mut result = Comparison::NothingInCommon;
    let (mut ours, mut theirs) = (ours.iter().peekable(), theirs.iter().peekable());
    while let (Some(our), Some(their)) = (ours.peek(), theirs.peek()) {
        match our.index.cmp(&their.index) {
            Ordering::Less => drop(ours.next()),
            Ordering::Greater => drop(theirs.next()),
            Ordering::Equal => {
                let index = our.index;
                if our.digest != their.digest {
                    return Comparison::Diverged { index };
                }
                result = Comparison::Equal { index };
                ours.next();
                theirs.next();
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marks(digests: &[(u64, u8)]) -> Vec<Mark> {
        let mark = |&(index, byte)| Mark {
            index,
            digest: Digest([byte; 32]),
        };
        digests.iter().map(mark).collect()
    }

    #[test]
    fn only_common_positions_are_compared() {
        let ours = marks(&[(0, 1), (1024, 2), (3072, 4)]);
        let compare = |theirs: &[(u64, u8)]| compare_marks(&ours, &marks(theirs));
        assert_eq!(
            compare(&[(1024, 2), (2048, 9)]),
            Comparison::Equal { index: 1024 }
        );
        assert_eq!(
            compare(&[(0, 1), (1024, 3), (3072, 4)]),
            Comparison::Diverged { index: 1024 }
        );
        assert_eq!(compare(&[(2048, 3)]), Comparison::NothingInCommon);
        assert_eq!(compare(&[]), Comparison::NothingInCommon);
    }

    #[test]
    fn the_oldest_mark_is_forgotten_first() {
        let mut kept = Marks::default();
        for n in 0..=MARKS_MAX as u64 {
            kept.push(Mark {
                index: n * MARK_EVERY,
                digest: Digest([1; 32]),
            });
        }
        assert_eq!(kept.at(0), None);
        assert_eq!(kept.at(MARK_EVERY), Some(Digest([1; 32])));
        assert_eq!(kept.at(MARK_EVERY + 1), None);
        assert_eq!(kept.all().len(), MARKS_MAX);
        kept.clear();
        assert_eq!(kept.at(MARK_EVERY), None);
    }
}
