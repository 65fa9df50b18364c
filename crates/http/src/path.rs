//! Request paths: split at raw slashes first, decoded afterwards.

use percent_encoding::percent_decode_str;

/// Segments of a path; the deepest route has nine.
const SEGMENTS_MAX: usize = 32;

/// Why a path was turned away before anything else was looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// The target is not a path.
    #[error("the request target must be a path that begins with `/`")]
    NotAbsolute,
    /// Two slashes in a row.
    #[error("the path contains an empty segment")]
    EmptySegment,
    /// A segment that signers and routers understand differently.
    #[error("the path contains a `.` or `..` segment")]
    DotSegment,
    /// More segments than any route has.
    #[error("the path has more than {SEGMENTS_MAX} segments")]
    TooDeep,
    /// Percent escapes that do not decode to UTF-8, or a NUL.
    #[error("a path segment is not percent-encoded UTF-8 text")]
    Undecodable,
}

/// The decoded segments of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments(Vec<String>);

impl Segments {
    /// Splits a raw path and decodes each segment once. `/` is one empty segment, and a trailing
    /// slash gives an empty last one, which no route but `/` has.
    ///
    /// # Errors
    /// Says what about the path cannot be understood in one way only.
    pub fn parse(raw_path: &str) -> Result<Self, PathError> {
        let inner = raw_path.strip_prefix('/').ok_or(PathError::NotAbsolute)?;
        let raw: Vec<_> = inner.split('/').take(SEGMENTS_MAX + 1).collect();
        if raw.len() > SEGMENTS_MAX {
            return Err(PathError::TooDeep);
        }
        let mut segments = Vec::with_capacity(raw.len());
        for (i, part) in raw.iter().enumerate() {
            if part.is_empty() && i + 1 < raw.len() {
                return Err(PathError::EmptySegment);
            }
            // Iceberg's Java client form-encodes names, so a space arrives as `+`; whoever means a
            // plus sends `%2B`.
            let spaced = part.replace('+', " ");
            let text = percent_decode_str(&spaced)
                .decode_utf8()
                .map_err(|_| PathError::Undecodable)?;
            if text.contains('\0') {
                return Err(PathError::Undecodable);
            }
            if text == "." || text == ".." {
                return Err(PathError::DotSegment);
            }
            segments.push(text.into_owned());
        }
        Ok(Self(segments))
    }

    /// The segments for a slice pattern.
    #[must_use]
    pub fn as_strs(&self) -> Vec<&str> {
        self.0.iter().map(String::as_str).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Result<Vec<String>, PathError> {
        Segments::parse(path).map(|s| s.0)
    }

    #[test]
    fn an_arn_is_one_segment_however_it_is_encoded() {
        let arn = "arn:aws:s3tables:us-east-1:000000000000:bucket/lake";
        for raw in [
            "/tables/arn%3Aaws%3As3tables%3Aus-east-1%3A000000000000%3Abucket%2Flake/ns",
            "/tables/arn:aws:s3tables:us-east-1:000000000000:bucket%2Flake/ns",
        ] {
            assert_eq!(parse(raw).unwrap(), ["tables", arn, "ns"]);
        }
        assert_eq!(parse("/a%1Fb%2520+%2B/c").unwrap(), ["a\u{1f}b%20 +", "c"]);
        assert_eq!(parse("/").unwrap(), [""]);
        assert_eq!(parse("/a/").unwrap(), ["a", ""]);
    }

    #[test]
    fn ambiguous_paths_are_refused() {
        assert_eq!(parse("*"), Err(PathError::NotAbsolute));
        assert_eq!(parse("//a"), Err(PathError::EmptySegment));
        assert_eq!(parse("/a//b"), Err(PathError::EmptySegment));
        for dots in ["/a/./b", "/a/..", "/%2e%2E/b", "/.%2e"] {
            assert_eq!(parse(dots), Err(PathError::DotSegment), "{dots}");
        }
        assert_eq!(parse(&"/a".repeat(33)), Err(PathError::TooDeep));
        assert!(parse(&"/a".repeat(32)).is_ok());
        assert_eq!(parse("/%ff"), Err(PathError::Undecodable));
        assert_eq!(parse("/a%00b"), Err(PathError::Undecodable));
    }
}
