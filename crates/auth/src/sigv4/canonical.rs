//! Canonical requests: the text that both sides sign.

use super::Presented;
use percent_encoding::percent_decode_str;
use s3s_sigv4::Payload;

/// How the path stands in the canonical request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PathForm {
    /// Percent-encoded once more, as every service but S3 wants.
    EncodedAgain,
    /// As sent, as S3 wants.
    AsSent,
}

/// The forms to try. Iceberg's Java signer encodes again even under the signing name `s3`, so that
/// name is tried both ways; as sent only if the path holds no `%25`, or two different paths would
/// share a canonical form.
pub(super) fn path_forms(raw_path: &str, service: &str) -> &'static [PathForm] {
    if service != "s3" || raw_path.contains("%25") {
        &[PathForm::EncodedAgain]
    } else {
        &[PathForm::EncodedAgain, PathForm::AsSent]
    }
}

/// The canonical request with `last_line` as the body's hash.
pub(super) fn request(presented: &Presented<'_>, form: PathForm, last_line: &str) -> String {
    let request = &presented.request;
    let headers = presented.signed_headers.as_slice();
    let payload = Payload::SingleChunk(last_line);
    match form {
        PathForm::EncodedAgain => s3s_sigv4::create_canonical_request(
            request.method,
            request.raw_path,
            &presented.query,
            headers,
            payload,
        ),
        PathForm::AsSent => s3s_sigv4::create_canonical_request_with_raw_uri_path(
            request.method,
            request.raw_path,
            &presented.query,
            headers,
            payload,
        ),
    }
}

/// Whether the query carries a signature of its own.
pub(super) fn is_presigned(raw_query: &str) -> bool {
    raw_query.split('&').any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        let name = percent_decode_str(name).decode_utf8_lossy();
        name.eq_ignore_ascii_case("x-amz-signature") || name.eq_ignore_ascii_case("x-amz-algorithm")
    })
}

/// Decoded names and values in the order of their encoded forms. `+` is a space, as it is to every
/// handler behind the signature. `None` if an escape does not decode to UTF-8.
pub(super) fn query(raw_query: &str) -> Option<Vec<(String, String)>> {
    let mut pairs = Vec::new();
    for pair in raw_query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        pairs.push((decode(name)?, decode(value)?));
    }
    // The signing library sorts by encoded name only and keeps the order of equal names, so values
    // are put in order first.
    pairs.sort_by_cached_key(|(name, value)| (encode(name), encode(value)));
    Some(pairs)
}

fn decode(text: &str) -> Option<String> {
    let spaced = text.replace('+', " ");
    percent_decode_str(&spaced)
        .decode_utf8()
        .ok()
        .map(Into::into)
}

fn encode(text: &str) -> String {
    const KEPT: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, KEPT).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_decoded_once_and_sorted_by_encoded_form() {
        let pairs = query("b=2&a=%7E&a=%2F&flag&empty=&sp+ace=a%20b").unwrap();
        let text: Vec<_> = pairs.iter().map(|(n, v)| format!("{n}|{v}")).collect();
        // `%2F` sorts before `~`, which stays unencoded.
        assert_eq!(text, ["a|/", "a|~", "b|2", "empty|", "flag|", "sp ace|a b"]);
        assert_eq!(query("a=%ff"), None);
    }

    #[test]
    fn presigned_queries_are_seen_in_any_spelling() {
        assert!(is_presigned("X-Amz-Signature=1"));
        assert!(is_presigned("a=1&x-amz-%73ignature=1"));
        assert!(is_presigned("X-Amz-Algorithm=AWS4-HMAC-SHA256"));
        assert!(!is_presigned("warehouse=x&pageToken="));
    }

    #[test]
    fn the_sent_form_is_tried_for_s3_alone() {
        assert_eq!(path_forms("/a%2Fb", "s3tables"), [PathForm::EncodedAgain]);
        assert_eq!(path_forms("/a%252Fb", "s3"), [PathForm::EncodedAgain]);
        assert_eq!(path_forms("/a%2Fb", "s3").len(), 2);
    }
}
