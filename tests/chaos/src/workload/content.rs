//! Bytes of objects: all of them follow from one number, so that any change is noticed.

use bytes::Bytes;

/// Sizes on both sides of what is kept inline.
const SIZES: [usize; 8] = [16, 100, 1_000, 4_096, 16_000, 17_000, 70_000, 300_000];

/// A volume writes a chunk in cells of this size while it arrives.
const CELL: usize = 1 << 20;

/// One object in so many has one to five cells: rare enough that all of a round together stay below some
/// tens of MiB.
const LONG_EVERY: u64 = 32;

fn next(state: &mut u64) -> u64 {
    // SplitMix64.
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn below(state: &mut u64, limit: usize) -> usize {
    usize::try_from(next(state) % limit as u64).unwrap_or(0)
}

/// The size of the bytes of the marker that `state` begins as.
fn size(state: &mut u64) -> usize {
    let kind = below(state, SIZES.len());
    if next(state).is_multiple_of(LONG_EVERY) {
        CELL + below(state, 4 * CELL)
    } else {
        SIZES[kind]
    }
}

/// Whether the bytes of a marker take more than one cell.
#[must_use]
pub fn is_long(mut marker: u64) -> bool {
    size(&mut marker) > CELL
}

/// The bytes of a marker.
#[must_use]
pub fn bytes(marker: u64) -> Bytes {
    let mut state = marker;
    let size = size(&mut state);
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
    fn some_objects_have_many_cells() {
        let long = (0..3_200).filter(|marker| is_long(*marker)).count();
        assert!((60..140).contains(&long), "{long} of 3200");
        let marker = (0..).find(|marker| is_long(*marker)).unwrap_or(0);
        assert!((CELL..5 * CELL).contains(&bytes(marker).len()));
    }

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
