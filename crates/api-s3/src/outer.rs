//! What surrounds s3s: request ids, metrics, the access log, stalled bodies, and refusals that
//! deserve a better message.

use crate::access::{Gate, KeyringAuth};
use crate::hosts::Domains;
use crate::seen::Seen;
use crate::state::{Api, S3State};
use bytes::Bytes;
use floeberg_http::{Access, Moving, StallWatch, request_span};
use floeberg_telemetry::HttpLabels;
use floeberg_types::RequestId;
use futures::future::BoxFuture;
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use s3s::config::{S3Config, StaticConfigProvider};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, HttpError};
use std::sync::Arc;
use std::task::{Context, Poll};
use tracing::Instrument as _;

/// Signed chunks are buffered whole, so this bounds the memory of a stream. Clients send 64 KiB
/// (C++) to 128 KiB (Java).
const AWS_CHUNK_MAX: usize = floeberg_types::limits::SIGNED_CHUNK_BYTES;
/// The largest XML request is a completion of 10,000 parts.
const XML_BODY_MAX: usize = floeberg_types::limits::XML_BODY_BYTES;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-amz-request-id");

/// The S3 port: clone it for every connection.
#[derive(Clone)]
pub struct S3Api {
    inner: S3Service,
    state: Arc<S3State>,
}

/// Builds the S3 port. Nothing of it runs until it is called.
#[must_use]
pub fn service(state: S3State) -> S3Api {
    let state = Arc::new(state);
    let mut config = S3Config::default();
    config.aws_chunked_stream_max_chunk_size = AWS_CHUNK_MAX;
    config.xml_max_body_size = XML_BODY_MAX;
    config.allow_post_signature = false;
    config.sig_v4_allowed_services = vec!["s3".to_owned()];
    if state.settings.enforce_region {
        config.expected_region = state.settings.region.as_str().parse().ok();
    }
    let mut builder = S3ServiceBuilder::new(Api {
        state: state.clone(),
    });
    builder.set_config(Arc::new(StaticConfigProvider::new(Arc::new(config))));
    // Without these two every request would be anonymous and allowed.
    builder.set_auth(KeyringAuth {
        keyring: state.keyring.clone(),
    });
    builder.set_access(Gate {
        keyring: state.keyring.clone(),
        env: state.env.clone(),
    });
    if !state.settings.domains.is_empty() {
        builder.set_host(Domains::new(&state.settings.domains));
    }
    S3Api {
        inner: builder.build(),
        state,
    }
}

impl S3Api {
    /// Takes one request from its id to its log line.
    async fn serve(self, request: Request<Body>) -> Result<Response<Body>, HttpError> {
        let env = &self.state.env;
        let started = env.clock.monotonic();
        let id = RequestId::from_bytes(env.rng.id128());
        let id_text = id.to_hex();
        let seen = Seen::default();
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let answer = self.answer(request, id, &seen);
        let mut response = answer.instrument(request_span(&id_text)).await?;
        stamp(&mut response, &id_text);
        let code = error_code(&response);
        let principal = seen.who();
        if method == Method::HEAD && is_failure(&response) {
            // RFC 9110, section 9.3.2: an answer to HEAD has no content, also when it is an error.
            *response.body_mut() = Body::empty();
        }
        let took = env.clock.monotonic().saturating_sub(started);
        let labels = HttpLabels {
            api: "s3",
            operation: seen.operation_name(),
            status: response.status().as_u16(),
        };
        self.state.metrics.record(labels, took.as_secs_f64());
        let access = Access {
            request_id: &id_text,
            api: "s3",
            operation: seen.operation_name(),
            method: &method,
            path: uri.path(),
            status: response.status(),
            code: code.as_deref(),
            principal: principal.as_deref(),
            took,
        };
        access.log();
        Ok(response)
    }

    /// The answer of s3s. The request's headers reach its signature check untouched.
    async fn answer(
        &self,
        request: Request<Body>,
        id: RequestId,
        seen: &Seen,
    ) -> Result<Response<Body>, HttpError> {
        if let Some(refused) = refusal(&request) {
            return Ok(refused.answer());
        }
        let (mut request, watch) = self.watch(request);
        request.extensions_mut().insert(id);
        request.extensions_mut().insert(seen.clone());
        let response = self.inner.call(request).await?;
        // Only here: what s3s makes of a body that breaks depends on who was reading it.
        if watch.stalled() && is_failure(&response) {
            let mut answer = STALLED.answer();
            let close = HeaderValue::from_static("close");
            answer.headers_mut().insert(header::CONNECTION, close);
            return Ok(answer);
        }
        Ok(response)
    }

    /// Has the body cut off if it stalls.
    fn watch(&self, request: Request<Body>) -> (Request<Body>, StallWatch) {
        let (parts, body) = request.into_parts();
        if http_body::Body::is_end_stream(&body) {
            return (Request::from_parts(parts, body), StallWatch::default());
        }
        let body = Moving::new(body, self.state.settings.body_stall);
        let watch = body.watch();
        let body = Body::http_body_unsync(body);
        (Request::from_parts(parts, body), watch)
    }
}

/// A request that is refused in front of the protocol library.
struct Refusal {
    code: &'static str,
    message: &'static str,
}

const SIGV2: Refusal = Refusal {
    code: "InvalidRequest",
    message: "Signature version 2 is not accepted: sign with version 4 (in boto3 \
        Config(signature_version=\"s3v4\"))",
};

const STALLED: Refusal = Refusal {
    code: "RequestTimeout",
    message: "The request body stopped arriving and was not stored: send the request again",
};

/// Listings and errors are XML 1.0, which cannot hold these characters at all (section 2.2): one
/// such key would make every listing of its bucket fail.
const NOT_XML: Refusal = Refusal {
    code: "InvalidArgument",
    message: "Keys and parameters must not contain control characters that XML cannot hold",
};

fn refusal(request: &Request<Body>) -> Option<Refusal> {
    if is_sigv2(request) {
        return Some(SIGV2);
    }
    let source = request
        .headers()
        .get("x-amz-copy-source")
        .map(HeaderValue::as_bytes);
    let uri = request.uri();
    let texts = [
        uri.path().as_bytes(),
        uri.query().unwrap_or("").as_bytes(),
        source.unwrap_or(b""),
    ];
    texts.into_iter().any(has_non_xml).then_some(NOT_XML)
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

impl Refusal {
    fn answer(&self) -> Response<Body> {
        let Self { code, message } = self;
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?><Error><Code>{code}</Code>\
             <Message>{message}</Message></Error>"
        );
        let mut response = Response::new(Body::from(body));
        *response.status_mut() = StatusCode::BAD_REQUEST;
        let xml = HeaderValue::from_static("application/xml");
        response.headers_mut().insert(header::CONTENT_TYPE, xml);
        response
    }
}

fn is_failure(response: &Response<Body>) -> bool {
    response.status().is_client_error() || response.status().is_server_error()
}

/// Puts the request id into the headers, and into the body of an error.
fn stamp(response: &mut Response<Body>, id: &str) {
    const END: &[u8] = b"</Error>";
    if let Ok(value) = HeaderValue::from_str(id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    if !is_failure(response) || response.headers().contains_key(header::CONTENT_LENGTH) {
        return;
    }
    let Some(body) = response.body().bytes() else {
        return;
    };
    if let Some(text) = body.strip_suffix(END) {
        let element = format!("<RequestId>{id}</RequestId>");
        let stamped: Vec<u8> = [text, element.as_bytes(), END].concat();
        *response.body_mut() = Body::from(Bytes::from(stamped));
    }
}

/// What the body of an error calls itself.
fn error_code(response: &Response<Body>) -> Option<String> {
    if !is_failure(response) {
        return None;
    }
    let body = response.body().bytes()?;
    let text = std::str::from_utf8(&body).ok()?;
    let (_, rest) = text.split_once("<Code>")?;
    Some(rest.split_once("</Code>")?.0.to_owned())
}

impl<B> tower::Service<Request<B>> for S3Api
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        Box::pin(self.clone().serve(request.map(Body::http_body_unsync)))
    }
}

impl hyper::service::Service<Request<hyper::body::Incoming>> for S3Api {
    type Response = Response<Body>;
    type Error = HttpError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        Box::pin(self.clone().serve(request.map(Body::from)))
    }
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
}
