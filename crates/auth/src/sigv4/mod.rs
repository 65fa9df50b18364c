//! Signature Version 4 in the `Authorization` header, as the catalog port demands it.
//!
//! Checking has two halves so that a request which cannot succeed is turned away before its body
//! is read: [`Presented::parse`] checks form, scope and clock, [`Presented::verify`] the signature.
//! The last line of the canonical request is always the hash of the body that arrived, never a
//! header's word for it.

mod bounds;
mod canonical;
mod error;
mod keys;

pub use bounds::{check_authorization, check_presigned, check_query};
pub use error::SignatureError;
pub(crate) use keys::SigningKeys;

use crate::keyring::Keyring;
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
        bounds::check_length("the Authorization header", text)?;
        check_query(request.raw_query)?;
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
        bounds::check_credential(&authorization.credential)?;
        bounds::check_signed_headers(&authorization.signed_headers)?;
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

    /// The hash that the client claims its body to have, if it says so: with it, the signature can be
    /// verified before a byte of the body was read. The body must then have that hash.
    ///
    /// # Errors
    /// When the claim is not a hash; no body can fit it.
    pub fn claimed_sha256(&self) -> Result<Option<[u8; 32]>, SignatureError> {
        let PayloadClaim::Hash(claim) = self.payload else {
            return Ok(None);
        };
        let decoded = match claim.len() {
            64 => hex::decode(claim).ok(),
            44 => STANDARD.decode(claim).ok(),
            _ => None,
        };
        let hash = decoded.and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        hash.map(Some).ok_or(SignatureError::BodyHash)
    }

    /// Whether the credentials are such that a signature of theirs can be valid: known, and not
    /// expired. Costs no hash of the request.
    ///
    /// # Errors
    /// When the access key id is unknown or its session token is void.
    pub fn known(&self, now: TimestampMs, keys: &Keyring) -> Result<(), SignatureError> {
        self.lookup(now, keys).map(|_| ())
    }

    fn lookup(&self, now: TimestampMs, keys: &Keyring) -> Result<Principal, SignatureError> {
        let access_key = self.authorization.credential.access_key_id;
        match keys.lookup(access_key, self.session_token, now) {
            Ok((_, principal)) => Ok(principal),
            Err(LookupError::UnknownKey) => Err(SignatureError::Mismatch),
            Err(LookupError::InvalidToken) => Err(SignatureError::SessionToken),
            Err(LookupError::ExpiredToken) => Err(SignatureError::ExpiredSession),
        }
    }

    /// Compares the signature with the one we compute over the body that arrived.
    ///
    /// # Errors
    /// When the body is not the declared one, the signature differs, the access key id is unknown
    /// (the same answer), or a session token is void.
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
        let secret = keys
            .secret_for(access_key)
            .ok_or(SignatureError::Mismatch)?;
        let scope = &self.authorization.credential;
        let key = keys.signing().get(scope, &secret, &self.date);
        if !self.signature_matches(&key, &last_lines) {
            return Err(SignatureError::Mismatch);
        }
        keys.signing().keep(scope, &secret, key);
        self.lookup(now, keys)
    }

    fn signature_matches(&self, key: &[u8; 32], last_lines: &[&str]) -> bool {
        let scope = &self.authorization.credential;
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
                let wanted = s3s_sigv4::calculate_signature_with_key(&to_sign, key);
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

/// The signed headers, sorted by name, values of one name in arrival order. The names were checked:
/// they are few, and each stands once.
fn signed_headers<'a>(
    request: &SignedRequest<'a>,
    names: &[&str],
) -> Result<Vec<(&'a str, &'a str)>, SignatureError> {
    let mut sorted = names.to_vec();
    sorted.sort_unstable();
    let is_signed = |name: &str| sorted.binary_search(&name).is_ok();
    if !is_signed("host") {
        return Err(SignatureError::Unsigned {
            header: "host".to_owned(),
        });
    }
    for (name, _) in request.headers {
        if name.starts_with("x-amz-") && *name != CONTENT_SHA256 && !is_signed(name) {
            return Err(SignatureError::Unsigned {
                header: (*name).to_owned(),
            });
        }
    }
    let signed = request.headers.iter().filter(|(name, _)| is_signed(name));
    let mut signed: Vec<_> = signed.copied().collect();
    signed.sort_by_key(|(name, _)| *name);
    for name in sorted {
        if signed
            .binary_search_by_key(&name, |(present, _)| *present)
            .is_err()
        {
            return Err(SignatureError::Absent {
                header: name.to_owned(),
            });
        }
    }
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
