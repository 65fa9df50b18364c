//! The fixed hash slots of the object index.

use crate::BucketId;

/// How many slots there are; part of the stored key format, so it never changes.
pub const SLOTS: u16 = 1024;

/// One of the [`SLOTS`] hash slots.
pub type Slot = u16;

/// The slot of an object: FNV-1a 64 over the bucket id and the key bytes, folded to [`SLOTS`].
///
/// The function is part of the stored format; the golden values below pin it.
#[must_use]
pub fn slot(bucket: BucketId, key: &[u8]) -> Slot {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    let mut hash = OFFSET;
    for byte in bucket.as_bytes().iter().chain(key) {
        hash ^= u64::from(*byte);
        hash = hash.wrapping_mul(PRIME);
    }
    // The low bits of FNV mix poorly for short keys, so the high half is folded in.
    let folded = hash ^ (hash >> 32) ^ (hash >> 16);
    u16::try_from(folded % u64::from(SLOTS)).expect("a remainder of 1024 fits 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_pinned_and_spread() {
        let bucket = BucketId::from_bytes([7; 16]);
        let mut seen = [0u32; SLOTS as usize];
        for n in 0..102_400 {
            seen[slot(bucket, format!("data/part-{n:05}.parquet").as_bytes()) as usize] += 1;
        }
        assert!(
            seen.iter().all(|n| (50..160).contains(n)),
            "{:?}",
            seen.iter().max()
        );
        assert_eq!(slot(BucketId::from_bytes([0; 16]), b""), GOLDEN_EMPTY);
        assert_eq!(slot(bucket, b"a/b"), GOLDEN_AB);
    }
    const GOLDEN_EMPTY: u16 = 803;
    const GOLDEN_AB: u16 = 507;
}
