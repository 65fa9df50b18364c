//! What the head of a request tells before the protocol library sees it.
//!
//! The library hashes whatever a signature names, however often, and buffers forms before it asks who
//! sends them. So the head is looked at here first, in time that is linear in it.

use floeberg_auth::sigv4::{self, SignatureError};
use floeberg_http::Exhausted;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use s3s::Body;
use std::borrow::Cow;

/// A request that is refused in front of the protocol library.
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) code: &'static str,
    pub(crate) message: Cow<'static, str>,
}

const fn refused(status: StatusCode, code: &'static str, message: &'static str) -> Refusal {
    Refusal {
        status,
        code,
        message: Cow::Borrowed(message),
    }
}

const SIGV2: Refusal = refused(
    StatusCode::BAD_REQUEST,
    "InvalidRequest",
    "Signature version 2 is not accepted: sign with version 4 (in boto3 \
     Config(signature_version=\"s3v4\"))",
);

/// The body stopped arriving.
pub(crate) const STALLED: Refusal = refused(
    StatusCode::BAD_REQUEST,
    "RequestTimeout",
    "The request body stopped arriving and was not stored: send the request again",
);

/// The body broke off.
pub(crate) const BROKEN: Refusal = refused(
    StatusCode::BAD_REQUEST,
    "IncompleteBody",
    "The request body broke off and was not stored: send the request again",
);

/// The document repeats more than any operation does.
pub(crate) const CROWDED: Refusal = refused(
    StatusCode::BAD_REQUEST,
    "MalformedXML",
    "The XML in the request has more than 131072 tags: a request names at most 10000 parts or 1000 \
     objects, send the rest in another one",
);

/// There is no memory for an answer that a client may be slow to read.
pub(crate) fn slow_down(exhausted: Exhausted) -> Refusal {
    Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        code: "SlowDown",
        message: Cow::Owned(exhausted.to_string()),
    }
}

const _: () = assert!(floeberg_types::limits::XML_TAGS == 131_072);

/// What s3s says of it names no limit.
pub(crate) const KEY_TOO_LONG: Refusal = refused(
    StatusCode::BAD_REQUEST,
    "KeyTooLongError",
    "The key has more than 1024 bytes in UTF-8, which is the limit: use a shorter one",
);

const _: () = assert!(floeberg_types::limits::OBJECT_KEY_BYTES == 1024);

/// Listings and errors are XML 1.0, which cannot hold these characters at all (section 2.2): one
/// such key would make every listing of its bucket fail.
const NOT_XML: Refusal = refused(
    StatusCode::BAD_REQUEST,
    "InvalidArgument",
    "Keys and parameters must not contain control characters that XML cannot hold",
);

const FORM: Refusal = refused(
    StatusCode::NOT_IMPLEMENTED,
    "NotImplemented",
    "Uploads by HTML form (POST with multipart/form-data) are not supported: use PUT, or a presigned \
     URL for PUT",
);

/// Says why a request is refused for its head alone.
pub(crate) fn check(request: &Request<Body>) -> Result<(), Refusal> {
    if is_sigv2(request) {
        return Err(SIGV2);
    }
    if is_form(request) {
        return Err(FORM);
    }
    let uri = request.uri();
    let query = uri.query().unwrap_or("");
    check_signatures(request.headers(), query)?;
    let source = request.headers().get("x-amz-copy-source");
    let source = source.map(HeaderValue::as_bytes);
    let texts = [
        uri.path().as_bytes(),
        query.as_bytes(),
        source.unwrap_or(b""),
    ];
    match texts.into_iter().any(has_non_xml) {
        true => Err(NOT_XML),
        false => Ok(()),
    }
}

/// Checks what signatures ask for: in the header, in the query, and in both if both are there.
fn check_signatures(headers: &HeaderMap, query: &str) -> Result<(), Refusal> {
    for value in headers.get_all(header::AUTHORIZATION) {
        let text = String::from_utf8_lossy(value.as_bytes());
        sigv4::check_authorization(&text)
            .map_err(|error| signature(&error, "AuthorizationHeaderMalformed"))?;
    }
    let in_query = |error: SignatureError| signature(&error, "AuthorizationQueryParametersError");
    sigv4::check_query(query).map_err(in_query)?;
    // As the library decodes them.
    let pairs: Vec<_> = query.split('&').map(decoded).collect();
    let pairs = pairs.iter().map(|(name, value)| (&**name, &**value));
    sigv4::check_presigned(pairs).map_err(in_query)
}

fn signature(error: &SignatureError, code: &'static str) -> Refusal {
    let (status, code) = match error {
        SignatureError::Unsigned { .. } => (StatusCode::FORBIDDEN, "AccessDenied"),
        SignatureError::TooManySigned => (StatusCode::BAD_REQUEST, "InvalidRequest"),
        SignatureError::TooManyParameters => (StatusCode::BAD_REQUEST, "InvalidArgument"),
        _ => (StatusCode::BAD_REQUEST, code),
    };
    Refusal {
        status,
        code,
        message: Cow::Owned(error.to_string()),
    }
}

fn decoded(pair: &str) -> (String, String) {
    let decode = |text: &str| {
        let spaced = text.replace('+', " ");
        let text = percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy();
        text.into_owned()
    };
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    (decode(name), decode(value))
}

/// Whether percent-encoded text decodes to a character outside of XML 1.0.
fn has_non_xml(text: &[u8]) -> bool {
    let decoded: Vec<u8> = percent_encoding::percent_decode(text).collect();
    let control = |b: &u8| *b < 0x20 && !matches!(*b, b'\t' | b'\n' | b'\r');
    let nonchar = |w: &[u8]| w[..2] == [0xef, 0xbf] && w[2] >= 0xbe;
    decoded.iter().any(control) || decoded.windows(3).any(nonchar)
}

/// Signature version 2: a presigned URL with `Signature`, or an `AWS` authorization.
fn is_sigv2(request: &Request<Body>) -> bool {
    let presigned = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .any(|pair| pair.split('=').next() == Some("Signature"));
    let header = request
        .headers()
        .get(header::AUTHORIZATION)
        .is_some_and(|value| value.as_bytes().starts_with(b"AWS "));
    presigned || header
}

fn is_form(request: &Request<Body>) -> bool {
    const FORM_TYPE: &[u8] = b"multipart/form-data";
    let mut types = request.headers().get_all(header::CONTENT_TYPE).iter();
    request.method() == Method::POST
        && types.any(|value| {
            let start = value.as_bytes().get(..FORM_TYPE.len());
            start.is_some_and(|start| start.eq_ignore_ascii_case(FORM_TYPE))
        })
}

/// Headers besides user metadata whose lines are one list (RFC 9110, section 5.3).
const LISTS: [HeaderName; 5] = [
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LANGUAGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
];

/// Joins the lines of headers that came on several: the library wants one, and the signature of many
/// lines is that of the joined one.
pub(crate) fn join_lines(headers: &mut HeaderMap) {
    let is_list =
        |name: &HeaderName| name.as_str().starts_with("x-amz-meta-") || LISTS.contains(name);
    if headers.len() == headers.keys_len() {
        return;
    }
    let names: Vec<HeaderName> = headers.keys().filter(|n| is_list(n)).cloned().collect();
    for name in names {
        let lines: Vec<&[u8]> = headers
            .get_all(&name)
            .iter()
            .map(HeaderValue::as_bytes)
            .collect();
        if lines.len() > 1
            && let Ok(joined) = HeaderValue::from_bytes(&lines.join(&b','))
        {
            headers.insert(name, joined);
        }
    }
}

impl Refusal {
    pub(crate) fn answer(&self) -> Response<Body> {
        let (code, message) = (self.code, escape(&self.message));
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code>\
             <Message>{message}</Message></Error>"
        );
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = self.status;
        let xml = HeaderValue::from_static("application/xml");
        response.headers_mut().insert(header::CONTENT_TYPE, xml);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            let second = HeaderValue::from_static("1");
            response.headers_mut().insert(header::RETRY_AFTER, second);
        }
        response
    }
}

/// Messages quote names that clients sent.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_characters_that_xml_cannot_hold_are_refused() {
        for bad in [
            "/b/a%01",
            "/b/%00",
            "prefix=%1f",
            "/b/%EF%BF%BF",
            "/b/%ef%bf%be",
        ] {
            assert!(has_non_xml(bad.as_bytes()), "{bad}");
        }
        for good in [
            "/b/a%20b",
            "/b/%0A%09%0D",
            "/b/%EF%BF%BD",
            "/b/%C3%A9",
            "/b/%zz",
        ] {
            assert!(!has_non_xml(good.as_bytes()), "{good}");
        }
    }

    #[test]
    fn lines_of_a_list_are_joined_and_others_are_left() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("x-amz-meta-a", "1"),
            ("x-amz-meta-a", "2"),
            ("cache-control", "no-store"),
            ("cache-control", "private"),
            ("x-amz-date", "a"),
            ("x-amz-date", "b"),
        ] {
            headers.append(
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            );
        }
        join_lines(&mut headers);
        assert_eq!(headers["x-amz-meta-a"], "1,2");
        assert_eq!(headers["cache-control"], "no-store,private");
        assert_eq!(headers.get_all("x-amz-date").iter().count(), 2);
    }
}
