//! Bytes of objects: all of them follow from one number, so that any change is noticed.

use bytes::Bytes;

/// Sizes on both sides of what is kept inline and of a chunk.
const SIZES: [usize; 8] = [16, 100, 1_000, 4_096, 16_000, 17_000, 70_000, 300_000];

fn next(state: &mut u64) -> u64 {
    // SplitMix64.
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The bytes of a marker.
#[must_use]
pub fn bytes(marker: u64) -> Bytes {
    let mut state = marker;
    let kind = usize::try_from(next(&mut state) % 8).unwrap_or(0);
    let size = SIZES[kind];
    let mut out = Vec::with_capacity(size + 8);
    out.extend(marker.to_le_bytes());
    while out.len() < size {
        out.extend(next(&mut state).to_le_bytes());
    }
    out.truncate(size);
    out.into()
}

/// The marker of bytes.
///
/// # Errors
/// What is wrong with them, if no marker has these bytes.
pub fn marker(read: &[u8]) -> Result<u64, String> {
    let (head, _) = read
        .split_first_chunk()
        .ok_or_else(|| format!("only {} bytes", read.len()))?;
    let marker = u64::from_le_bytes(*head);
    let expected = bytes(marker);
    if expected == read {
        return Ok(marker);
    }
    let same = expected.iter().zip(read).take_while(|(a, b)| a == b);
    Err(format!(
        "{} bytes that differ from the {} of marker {marker} from byte {} on",
        read.len(),
        expected.len(),
        same.count()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_changed_byte_is_noticed() {
        for number in 0..40 {
            let good = bytes(number);
            assert_eq!(marker(&good), Ok(number));
            for at in [0, 8, good.len() / 2, good.len() - 1] {
                let mut bad = good.to_vec();
                bad[at] ^= 1;
                assert!(marker(&bad) != Ok(number));
            }
            assert!(marker(&good[..good.len() - 1]).is_err());
        }
    }
}
