//! Which kind of credentials a request presents, checked in two halves around the body.

use crate::Refusal;
use crate::body::Hashing;
use floeberg_auth::sigv4::{Presented, ScopeRules, SignatureError, SignedRequest};
use floeberg_auth::{Keyring, Principal};
use floeberg_types::TimestampMs;
use http::header::{AUTHORIZATION, HOST};
use http::request::Parts;

/// The headers of a request as the signature check wants them.
pub(crate) struct HeaderTexts(Vec<(String, String)>);

impl HeaderTexts {
    /// `None` if a header is not text; nobody can have signed it.
    pub(crate) fn of(parts: &Parts) -> Option<Self> {
        let mut texts = Vec::with_capacity(parts.headers.len() + 1);
        for (name, value) in &parts.headers {
            let value = std::str::from_utf8(value.as_bytes()).ok()?;
            texts.push((name.as_str().to_owned(), value.to_owned()));
        }
        if !parts.headers.contains_key(HOST) {
            // HTTP/2 carries the host as `:authority`, and clients sign it as `host`.
            let authority = parts.uri.authority()?;
            texts.push(("host".to_owned(), authority.as_str().to_owned()));
        }
        Some(Self(texts))
    }

    pub(crate) fn as_pairs(&self) -> Vec<(&str, &str)> {
        let pairs = self.0.iter();
        pairs.map(|(n, v)| (n.as_str(), v.as_str())).collect()
    }
}

/// Credentials that passed every check which needs no body.
pub(crate) enum Credentials<'a> {
    /// Verified already; the body must have the hash that the signature covers, if it covers one.
    Verified(Principal, Option<[u8; 32]>),
    /// A signature of known credentials that can be compared only with the body at hand.
    Signature(Box<Presented<'a>>),
}

impl<'a> Credentials<'a> {
    /// Reads the `Authorization` header. `Original-Authorization`, to which Iceberg clients move a
    /// bearer header that they replace by a signature, is never looked at.
    pub(crate) fn read(
        parts: &'a Parts,
        headers: Option<&'a [(&'a str, &'a str)]>,
        now: TimestampMs,
        rules: &ScopeRules,
        keys: &Keyring,
    ) -> Result<Self, Refusal> {
        let mut given = parts.headers.get_all(AUTHORIZATION).iter();
        let Some(first) = given.next() else {
            return Err(Refusal::NoCredentials);
        };
        if given.next().is_some() {
            let header = "authorization";
            return Err(Refusal::Signature(SignatureError::Repeated { header }));
        }
        if let Some(token) = first.to_str().ok().and_then(bearer) {
            return keys
                .verify_bearer(token, now)
                .map(|principal| Self::Verified(principal, None))
                .map_err(Refusal::Bearer);
        }
        let headers = headers.ok_or(Refusal::Signature(SignatureError::Malformed))?;
        let request = SignedRequest {
            method: parts.method.as_str(),
            raw_path: parts.uri.path(),
            raw_query: parts.uri.query().unwrap_or(""),
            headers,
        };
        Self::signed(&request, now, rules, keys).map_err(Refusal::Signature)
    }

    fn signed(
        request: &SignedRequest<'a>,
        now: TimestampMs,
        rules: &ScopeRules,
        keys: &Keyring,
    ) -> Result<Self, SignatureError> {
        let presented = Presented::parse(request, now, rules)?;
        presented.known(now, keys)?;
        Ok(match presented.claimed_sha256()? {
            Some(hash) => Self::Verified(presented.verify(&hash, now, keys)?, Some(hash)),
            None => Self::Signature(Box::new(presented)),
        })
    }

    /// Whether [`Self::finish`] wants the hash of the body.
    pub(crate) fn hashing(&self) -> Hashing {
        match self {
            Self::Verified(_, None) => Hashing::Nothing,
            Self::Verified(_, Some(_)) | Self::Signature(_) => Hashing::Sha256,
        }
    }

    /// Finishes the check with the hash of the body at hand.
    pub(crate) fn finish(
        self,
        sha256: Option<[u8; 32]>,
        now: TimestampMs,
        keys: &Keyring,
    ) -> Result<Principal, Refusal> {
        let checked = match self {
            Self::Verified(principal, claim) if claim.is_none() || claim == sha256 => Ok(principal),
            Self::Verified(..) => Err(SignatureError::BodyHash),
            Self::Signature(presented) => match sha256 {
                Some(hash) => presented.verify(&hash, now, keys),
                None => Err(SignatureError::BodyHash),
            },
        };
        checked.map_err(Refusal::Signature)
    }
}

/// Whether the request presents a token, so that its headers need not be put in signing form.
pub(crate) fn is_bearer(parts: &Parts) -> bool {
    let header = parts.headers.get(AUTHORIZATION);
    header.and_then(|h| bearer(h.to_str().ok()?)).is_some()
}

/// The token of a `Bearer` header; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
