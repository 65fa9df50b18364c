//! Which known key somebody may have meant.

use crate::keys::KEYS;

/// Letters to change, insert, delete or swap with a neighbour to get from one text to the other.
fn distance(one: &str, other: &str) -> usize {
    let (one, other): (Vec<char>, Vec<char>) = (one.chars().collect(), other.chars().collect());
    let mut rows = vec![vec![0; other.len() + 1]; one.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    for (j, cell) in rows[0].iter_mut().enumerate() {
        *cell = j;
    }
    for i in 1..=one.len() {
        for j in 1..=other.len() {
            let same = usize::from(one[i - 1] != other[j - 1]);
            let mut best = (rows[i - 1][j] + 1)
                .min(rows[i][j - 1] + 1)
                .min(rows[i - 1][j - 1] + same);
            let swapped =
                i > 1 && j > 1 && one[i - 1] == other[j - 2] && one[i - 2] == other[j - 1];
            if swapped {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[one.len()][other.len()]
}

/// The known key nearest to an unknown one: by its whole path, or by its name in whatever section.
pub(crate) fn nearest_key(unknown: &str) -> &'static str {
    let name = unknown.rsplit('.').next().unwrap_or(unknown);
    let score = |path: &str, known_name: &str| {
        // A name in a wrong section is nearer than another name in the right one.
        let elsewhere = 2 * distance(name, known_name) + 1;
        (2 * distance(unknown, path)).min(elsewhere)
    };
    KEYS.iter()
        .min_by_key(|key| score(key.path, key.name()))
        .map_or("", |key| key.path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_finger_and_wrong_sections_find_their_key() {
        for (unknown, meant) in [
            ("cluster.regoin", "cluster.region"),
            ("region", "cluster.region"),
            ("server.advertise", "peer.advertise"),
            ("peer.advertize", "peer.advertise"),
            ("limit.drain", "limits.drain"),
        ] {
            assert_eq!(nearest_key(unknown), meant, "{unknown}");
        }
    }
}
