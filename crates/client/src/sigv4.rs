//! AWS Signature Version 4 in the `Authorization` header.
//!
//! See "Create a signed AWS API request" in the AWS IAM User Guide.

use hmac::{Hmac, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use time::OffsetDateTime;
use time::macros::format_description;

/// Everything but RFC 3986 unreserved characters.
pub(crate) const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// As [`UNRESERVED`], but keeps the slashes of a path.
pub(crate) const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// Keys of an account or temporary keys with their session token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub access_key: String,
    /// Secret access key.
    pub secret_key: String,
    /// Present for temporary keys.
    pub session_token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("access_key", &self.access_key)
            .finish_non_exhaustive()
    }
}

/// For which region and service a signature holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// For example `us-east-1`.
    pub region: String,
    /// `s3`, `s3tables`, `glue` or `execute-api`.
    pub service: String,
}

/// What is signed of a request.
#[derive(Clone, Copy, Debug)]
pub struct Signable<'a> {
    /// Upper-case method.
    pub method: &'a str,
    /// Host and, unless it is the default, port.
    pub host: &'a str,
    /// Path as on the wire.
    pub path: &'a str,
    /// Query as on the wire, without the question mark.
    pub query: &'a str,
    /// Further headers to sign: lower-case names, trimmed values.
    pub headers: &'a [(&'a str, &'a str)],
    /// The whole body.
    pub body: &'a [u8],
}

/// Signs requests of one key and scope; keeps the signing key of the day.
pub struct Signer {
    credentials: Credentials,
    scope: Scope,
    key: Mutex<Option<(String, [u8; 32])>>,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer")
            .field("credentials", &self.credentials)
            .field("scope", &self.scope)
            .finish_non_exhaustive()
    }
}

impl Signer {
    /// A signer for one scope.
    #[must_use]
    pub fn new(credentials: Credentials, scope: Scope) -> Self {
        Self {
            credentials,
            scope,
            key: Mutex::new(None),
        }
    }

    /// The headers to add to the request, `authorization` last.
    #[must_use]
    pub fn sign(&self, request: &Signable<'_>, at: OffsetDateTime) -> Vec<(&'static str, String)> {
        let format = format_description!("[year][month][day]T[hour][minute][second]Z");
        let stamp = at
            .to_offset(time::UtcOffset::UTC)
            .format(&format)
            .expect("every field of a point in time can be formatted");
        let body_hash = hex::encode(Sha256::digest(request.body));
        let mut added = vec![("x-amz-date", stamp.clone())];
        // Only S3 demands the body hash as a header; the other services reject nothing without it.
        if self.scope.service == "s3" {
            added.push(("x-amz-content-sha256", body_hash.clone()));
        }
        if let Some(token) = &self.credentials.session_token {
            added.push(("x-amz-security-token", token.clone()));
        }
        let (canonical, signed) = self.canonical_request(request, &added, &body_hash);
        let date = &stamp[..8];
        let Scope { region, service } = &self.scope;
        let scope = format!("{date}/{region}/{service}/aws4_request");
        let hash = hex::encode(Sha256::digest(canonical.as_bytes()));
        let to_sign = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hash}");
        let signature = hex::encode(hmac(&self.signing_key(date), to_sign.as_bytes()));
        let access_key = &self.credentials.access_key;
        added.push((
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={signed}, \
                 Signature={signature}"
            ),
        ));
        added
    }

    /// The canonical request and the list of its headers.
    fn canonical_request(
        &self,
        request: &Signable<'_>,
        added: &[(&'static str, String)],
        body_hash: &str,
    ) -> (String, String) {
        let mut headers: Vec<(&str, &str)> = vec![("host", request.host)];
        headers.extend_from_slice(request.headers);
        headers.extend(added.iter().map(|(n, v)| (*n, v.as_str())));
        headers.sort_unstable();
        let mut out = String::with_capacity(512);
        out.push_str(request.method);
        out.push('\n');
        if self.scope.service == "s3" {
            out.push_str(request.path);
        } else {
            // Every service but S3 encodes the path that is on the wire once more.
            out.extend(utf8_percent_encode(request.path, PATH));
        }
        out.push('\n');
        out.push_str(&canonical_query(request.query));
        out.push('\n');
        let mut signed = String::new();
        for (name, value) in headers {
            let _ = writeln!(out, "{name}:{value}");
            if !signed.is_empty() {
                signed.push(';');
            }
            signed.push_str(name);
        }
        let _ = write!(out, "\n{signed}\n{body_hash}");
        (out, signed)
    }

    fn signing_key(&self, date: &str) -> [u8; 32] {
        // A poisoned lock still holds a usable key: it is replaced as a whole.
        let mut cached = self.key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((day, key)) = &*cached
            && day == date
        {
            return *key;
        }
        let secret = format!("AWS4{}", self.credentials.secret_key);
        let mut key = hmac(secret.as_bytes(), date.as_bytes());
        for part in [&self.scope.region, &self.scope.service, "aws4_request"] {
            key = hmac(&key, part.as_bytes());
        }
        *cached = Some((date.to_owned(), key));
        key
    }
}

/// Sorted by name and value; a parameter without a value gets an empty one.
fn canonical_query(query: &str) -> String {
    let mut pairs: Vec<(&str, &str)> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .collect();
    pairs.sort_unstable();
    let mut out = String::with_capacity(query.len() + 1);
    for (name, value) in pairs {
        if !out.is_empty() {
            out.push('&');
        }
        out.push_str(name);
        out.push('=');
        out.push_str(value);
    }
    out
}

fn hmac(key: &[u8], data: &[u8]) -> [u8; 32] {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(data);
    mac.finalize().into_bytes().into()
}

#[cfg(test)]
mod tests;
