//! Durations and sizes as people write them.

use std::time::Duration;

fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    Some((text[..end].parse().ok()?, text[end..].trim()))
}

/// Reads `500ms`, `30s`, `5m`, `1h`; a number without a unit is nothing.
#[must_use]
pub fn duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let ms = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    number.checked_mul(ms).map(Duration::from_millis)
}

/// `4096`, `64 KiB`, `64 MiB`, `1 GiB`, `2 TiB`.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let shift = match unit {
        "" | "B" => 0,
        "KiB" => 10,
        "MiB" => 20,
        "GiB" => 30,
        "TiB" => 40,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_needed_and_understood() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("2 h"), Some(Duration::from_secs(7200)));
        assert_eq!(duration("30"), None);
        assert_eq!(duration("-1s"), None);
        assert_eq!(duration(&format!("{}h", u64::MAX)), None);
        assert_eq!(bytes("1 GiB"), Some(1 << 30));
        assert_eq!(bytes("64MiB"), Some(64 << 20));
        assert_eq!(bytes("4096"), Some(4096));
        assert_eq!(bytes("1 GB"), None, "decimal units would be a guess");
        assert_eq!(bytes(""), None);
    }
}
