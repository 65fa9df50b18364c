//! Signature Version 4 in the `Authorization` header, as the catalog port demands it.
//!
//! Checking has two halves so that a request which cannot succeed is turned away before its body
//! is read: [`Presented::parse`] checks form, scope and clock, [`Presented::verify`] the signature.
//! The last line of the canonical request is always the hash of the body that arrived, never a
//! header's word for it.

mod canonical;
mod error;
mod keys;

pub use error::SignatureError;
pub(crate) use keys::SigningKeys;

use crate::keyring::{Keyring, SecretKey};
use crate::{LookupError, Principal};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floeberg_types::{Region, TimestampMs};
use s3s_sigv4::{AmzDate, AuthorizationV4};
use subtle::ConstantTimeEq;

/// How far a request's date may be from the server's clock.
pub const SKEW_MAX_MS: i64 = 15 * 60 * 1000;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";
const CONTENT_SHA256: &str = "x-amz-content-sha256";

/// A request as it arrived, before anything in it was decoded.
#[derive(Clone, Copy, Debug)]
pub struct SignedRequest<'a> {
    /// The HTTP method.
    pub method: &'a str,
    /// The path as it stood in the request line.
    pub raw_path: &'a str,
    /// The query as it stood in the request line, without `?`; empty if there was none.
    pub raw_query: &'a str,
    /// Header names in lower case and values, in arrival order, `host` included (for HTTP/2 the
    /// `:authority`).
    pub headers: &'a [(&'a str, &'a str)],
}

/// Which regions a credential scope may name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RegionRule {
    /// The cluster's region only.
    Exactly(Region),
    /// Any region.
    Any,
}

/// Which credential scopes are accepted.
#[derive(Clone, Debug)]
pub struct ScopeRules {
    /// Regions.
    pub region: RegionRule,
    /// Service names.
    pub services: &'static [&'static str],
}

impl ScopeRules {
    /// The services that clients of the catalog port sign for: S3 Tables, Iceberg's default, a
    /// `signing-name` of `s3` or `glue`, and OSS Tables.
    pub const CATALOG_SERVICES: &'static [&'static str] =
        &["s3tables", "execute-api", "s3", "glue", "osstables"];
}

/// Verifies a request with the whole body at hand; `body_sha256` is our own hash of it.
///
/// # Errors
/// Says what is wrong with the signature.
pub fn verify(
    request: &SignedRequest<'_>,
    body_sha256: &[u8; 32],
    now: TimestampMs,
    rules: &ScopeRules,
    keys: &Keyring,
) -> Result<Principal, SignatureError> {
    Presented::parse(request, now, rules)?.verify(body_sha256, now, keys)
}

/// A signature whose form, scope and clock are in order.
#[derive(Debug)]
pub struct Presented<'a> {
    request: SignedRequest<'a>,
    authorization: AuthorizationV4<'a>,
    date: AmzDate,
    signed_headers: Vec<(&'a str, &'a str)>,
    query: Vec<(String, String)>,
    payload: PayloadClaim<'a>,
    session_token: Option<&'a str>,
}

/// What `x-amz-content-sha256` says of the body.
#[derive(Clone, Copy, Debug)]
enum PayloadClaim<'a> {
    Absent,
    Hash(&'a str),
}

impl<'a> Presented<'a> {
    /// Checks everything that does not need the body or a key.
    ///
    /// # Errors
    /// Says what is malformed, missing, not accepted or out of date.
    pub fn parse(
        request: &SignedRequest<'a>,
        now: TimestampMs,
        rules: &ScopeRules,
    ) -> Result<Self, SignatureError> {
        let text = only(request, "authorization")?.ok_or(SignatureError::Missing)?;
        if canonical::is_presigned(request.raw_query) {
            return Err(SignatureError::Presigned);
        }
        if !text.starts_with(ALGORITHM) {
            return Err(SignatureError::Algorithm);
        }
        let authorization = AuthorizationV4::parse(text).map_err(|_| SignatureError::Malformed)?;
        if authorization.algorithm != ALGORITHM {
            return Err(SignatureError::Algorithm);
        }
        check_scope(&authorization, rules)?;
        let date = check_date(request, &authorization, now)?;
        let signed_headers = signed_headers(request, &authorization.signed_headers)?;
        let query = canonical::query(request.raw_query).ok_or(SignatureError::UndecodableQuery)?;
        Ok(Self {
            request: *request,
            date,
            signed_headers,
            query,
            payload: payload_claim(request)?,
            session_token: only(request, "x-amz-security-token")?,
            authorization,
        })
    }

    /// Compares the signature with the one we compute over the body that arrived.
    ///
    /// # Errors
    /// When the body is not the declared one, the signature differs, the access key id is unknown
    /// (the same answer, found in the same time), or a session token is void.
    pub fn verify(
        &self,
        body_sha256: &[u8; 32],
        now: TimestampMs,
        keys: &Keyring,
    ) -> Result<Principal, SignatureError> {
        let hex_hash = hex::encode(body_sha256);
        let base64_hash = STANDARD.encode(body_sha256);
        let mut last_lines = vec![hex_hash.as_str()];
        match self.payload {
            PayloadClaim::Absent => {}
            PayloadClaim::Hash(claim) if claim.eq_ignore_ascii_case(&hex_hash) => {}
            // Iceberg's Java signer sends base64 and signs hex; unpatched clients sign the base64.
            PayloadClaim::Hash(claim) if claim == base64_hash => last_lines.push(&base64_hash),
            PayloadClaim::Hash(_) => return Err(SignatureError::BodyHash),
        }
        let access_key = self.authorization.credential.access_key_id;
        let found = keys.secret_for(access_key);
        let known = found.is_some();
        let secret = found.unwrap_or_else(|| SecretKey::new("no such access key"));
        if !self.signature_matches(&secret, &last_lines, keys) || !known {
            return Err(SignatureError::Mismatch);
        }
        let (_, principal) = keys
            .lookup(access_key, self.session_token, now)
            .map_err(|err| match err {
                LookupError::UnknownKey => SignatureError::Mismatch,
                LookupError::InvalidToken => SignatureError::SessionToken,
                LookupError::ExpiredToken => SignatureError::ExpiredSession,
            })?;
        Ok(principal)
    }

    fn signature_matches(&self, secret: &SecretKey, last_lines: &[&str], keys: &Keyring) -> bool {
        let scope = &self.authorization.credential;
        let key = keys.signing().get(scope, secret, &self.date);
        let mut given = [0u8; 32];
        if hex::decode_to_slice(self.authorization.signature, &mut given).is_err() {
            return false;
        }
        canonical::path_forms(self.request.raw_path, scope.aws_service)
            .iter()
            .flat_map(|form| last_lines.iter().map(move |line| (*form, *line)))
            .any(|(form, line)| {
                let text = canonical::request(self, form, line);
                let to_sign = s3s_sigv4::create_string_to_sign(
                    &text,
                    &self.date,
                    scope.aws_region,
                    scope.aws_service,
                );
                let wanted = s3s_sigv4::calculate_signature_with_key(&to_sign, &key);
                bool::from(wanted.ct_eq(&given))
            })
    }
}

/// The value of a header that must not be repeated.
fn only<'a>(
    request: &SignedRequest<'a>,
    name: &'static str,
) -> Result<Option<&'a str>, SignatureError> {
    let mut values = request.headers.iter().filter(|(n, _)| *n == name);
    let first = values.next().map(|(_, value)| *value);
    match values.next() {
        None => Ok(first),
        Some(_) => Err(SignatureError::Repeated { header: name }),
    }
}

fn check_scope(
    authorization: &AuthorizationV4<'_>,
    rules: &ScopeRules,
) -> Result<(), SignatureError> {
    let scope = &authorization.credential;
    if !rules.services.contains(&scope.aws_service) {
        return Err(SignatureError::Service {
            service: scope.aws_service.to_owned(),
        });
    }
    match &rules.region {
        RegionRule::Exactly(region) if region.as_str() != scope.aws_region => {
            Err(SignatureError::Region {
                given: scope.aws_region.to_owned(),
                wanted: region.clone(),
            })
        }
        RegionRule::Exactly(_) | RegionRule::Any => Ok(()),
    }
}

fn check_date(
    request: &SignedRequest<'_>,
    authorization: &AuthorizationV4<'_>,
    now: TimestampMs,
) -> Result<AmzDate, SignatureError> {
    let text = only(request, "x-amz-date")?.ok_or(SignatureError::Date)?;
    let date = AmzDate::parse(text.trim()).map_err(|_| SignatureError::Date)?;
    let time = date.to_time().ok_or(SignatureError::Date)?;
    if date.fmt_date().as_str() != authorization.credential.date {
        return Err(SignatureError::ScopeDate);
    }
    let skew = now.since_ms(TimestampMs(time.as_millisecond()));
    if !(-SKEW_MAX_MS..=SKEW_MAX_MS).contains(&skew) {
        return Err(SignatureError::Skew);
    }
    Ok(date)
}

/// The signed headers, sorted by name, values of one name in arrival order.
fn signed_headers<'a>(
    request: &SignedRequest<'a>,
    names: &[&str],
) -> Result<Vec<(&'a str, &'a str)>, SignatureError> {
    if !names.contains(&"host") {
        return Err(SignatureError::Unsigned {
            header: "host".to_owned(),
        });
    }
    for (name, _) in request.headers {
        if name.starts_with("x-amz-") && *name != CONTENT_SHA256 && !names.contains(name) {
            return Err(SignatureError::Unsigned {
                header: (*name).to_owned(),
            });
        }
    }
    for name in names {
        if !request.headers.iter().any(|(present, _)| present == name) {
            return Err(SignatureError::Absent {
                header: (*name).to_owned(),
            });
        }
    }
    let mut signed: Vec<_> = request
        .headers
        .iter()
        .filter(|(name, _)| names.contains(name))
        .copied()
        .collect();
    signed.sort_by_key(|(name, _)| *name);
    Ok(signed)
}

fn payload_claim<'a>(request: &SignedRequest<'a>) -> Result<PayloadClaim<'a>, SignatureError> {
    let Some(claim) = only(request, CONTENT_SHA256)?.map(str::trim) else {
        return Ok(PayloadClaim::Absent);
    };
    if claim == "UNSIGNED-PAYLOAD" {
        return Err(SignatureError::UnsignedPayload);
    }
    if claim.starts_with("STREAMING-") {
        return Err(SignatureError::StreamingPayload);
    }
    Ok(PayloadClaim::Hash(claim))
}
