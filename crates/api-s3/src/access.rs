//! The doors of s3s: secrets for signatures, and the check that nobody passes anonymously.

use crate::errors::{lookup_failed, slow_down};
use crate::operations::{self, BodyKind, DOCUMENT_MAX};
use crate::seen::Seen;
use crate::xml_tags::TagCount;
use floeberg_auth::{Keyring, LookupError};
use floeberg_env::Env;
use floeberg_http::limits::BODY_PATIENCE;
use floeberg_http::{BodyWatch, ByteBudget, peer_of};
use floeberg_types::limits::{XML_TAG_BYTES, XML_TAGS};
use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Error, S3ErrorCode, S3Result};
use std::sync::Arc;

/// Gives s3s the secret behind an access key id.
pub(crate) struct KeyringAuth {
    pub(crate) keyring: Arc<Keyring>,
}

#[async_trait::async_trait]
impl S3Auth for KeyringAuth {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.keyring.secret_for(access_key) {
            Some(secret) => Ok(SecretKey::from(secret.expose())),
            None => Err(lookup_failed(LookupError::UnknownKey)),
        }
    }
}

/// Runs after the signature was verified and before anything of the request is used.
///
/// s3s lets unsigned requests come this far and does not look at session tokens: a temporary key
/// would work without its token. What passes here carries its principal; every handler then asks
/// for its own action on its own resource.
pub(crate) struct Gate {
    pub(crate) keyring: Arc<Keyring>,
    pub(crate) env: Env,
    /// What documents count against.
    pub(crate) bodies: ByteBudget,
}

#[async_trait::async_trait]
impl S3Access for Gate {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let seen = cx.extensions_mut().get::<Seen>().cloned();
        if let Some(seen) = &seen {
            seen.operation(cx.s3_op().name());
        }
        let Some(credentials) = cx.credentials() else {
            return Err(S3Error::with_message(
                S3ErrorCode::AccessDenied,
                "anonymous requests are not allowed: sign the request with an access key",
            ));
        };
        let token = session_token(cx)?;
        let now = self.env.clock.now();
        let (_, principal) = self
            .keyring
            .lookup(&credentials.access_key, token.as_deref(), now)
            .map_err(lookup_failed)?;
        if let Some(seen) = &seen {
            seen.principal(&principal);
        }
        cx.extensions_mut().insert(principal);
        // Only now a byte of the body is worth anything; what nobody serves needs none of it.
        let Some(operation) = operations::find(cx.s3_op().name()) else {
            let why = format!("{} is not implemented", cx.s3_op().name());
            return Err(S3Error::with_message(S3ErrorCode::NotImplemented, why));
        };
        match operation.body {
            BodyKind::Document(limit) => self.hold_document(cx, limit).await,
            BodyKind::Nothing | BodyKind::Stream => Ok(()),
        }
    }
}

impl Gate {
    /// Takes the share of a document that is about to be read; it is given back with the request.
    async fn hold_document(&self, cx: &mut S3AccessContext<'_>, limit: usize) -> S3Result<()> {
        let extensions = cx.extensions_mut();
        let peer = peer_of(extensions);
        let empty = extensions
            .get::<BodyWatch>()
            .is_some_and(BodyWatch::complete);
        let tag_count = extensions.get::<TagCount>().cloned().unwrap_or_default();
        // In chunks with signatures between them, the document is the smaller part.
        let declared = |name| cx.headers().get(name)?.to_str().ok()?.parse::<u64>().ok();
        let length = declared("content-length");
        let bytes = match declared("x-amz-decoded-content-length").or(length) {
            Some(bytes) => bytes,
            None if empty => 0,
            None => return Err(S3ErrorCode::MissingContentLength.into()),
        };
        if bytes > limit as u64 {
            let why = format!("the body of this operation has at most {limit} bytes");
            return Err(S3Error::with_message(
                S3ErrorCode::MaxMessageLengthExceeded,
                why,
            ));
        }
        tag_count.begin();
        // What is said of the decoded length is found out late. An empty element takes four bytes and has
        // one tag.
        let most = match empty {
            true => 0,
            false => length.unwrap_or(u64::MAX).clamp(bytes, DOCUMENT_MAX as u64),
        };
        let tags = (most / 4).min(XML_TAGS as u64);
        let weight = most + tags * XML_TAG_BYTES as u64;
        let held = self.bodies.hold(peer, weight, BODY_PATIENCE).await;
        let held = held.map_err(slow_down)?;
        cx.extensions_mut().insert(Arc::new(held));
        Ok(())
    }
}

/// The session token, from the place that belongs to the kind of signature. Both places are covered
/// by the signature. A token in both places must be the same.
fn session_token(cx: &S3AccessContext<'_>) -> S3Result<Option<String>> {
    let mut tokens: Vec<String> = Vec::new();
    for value in cx.headers().get_all("x-amz-security-token") {
        tokens.push(value.to_str().map_err(|_| malformed_token())?.to_owned());
    }
    for pair in cx.uri().query().unwrap_or_default().split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        if name.eq_ignore_ascii_case("x-amz-security-token") {
            let value = percent_encoding::percent_decode_str(value).decode_utf8();
            tokens.push(value.map_err(|_| malformed_token())?.into_owned());
        }
    }
    tokens.dedup();
    if tokens.len() > 1 {
        Err(malformed_token())
    } else {
        Ok(tokens.pop())
    }
}

fn malformed_token() -> S3Error {
    lookup_failed(LookupError::InvalidToken)
}
