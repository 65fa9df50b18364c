//! Temporary S3 credentials for the files of one table, sealed so that no node keeps a list.
//!
//! The access key id is an HMAC of the scope and the secret is an HMAC of the access key id, both
//! under keys only the cluster has. So a signature can be checked before the session token is read
//! ([`Keyring::secret_for`]), and a token fits exactly one access key id.

use crate::keyring::{LookupError, SecretKey};
use crate::seal::{self, Fields, SealKey};
use crate::{Keyring, Principal, PrincipalKind, Scope, ScopeAccess};
use floeberg_types::limits::SESSION_TOKEN_BYTES;
use floeberg_types::{BucketName, TimestampMs};
use std::sync::Arc;
use subtle::ConstantTimeEq;

/// The longest that temporary credentials may live.
pub const VENDED_LIFETIME_MAX_MS: i64 = 3_600_000;

const TOKEN_PREFIX: &str = "FLBST1.";
const KEY_ID_PREFIX: &str = "ASIAFLB";
const FORMAT: u8 = 1;

/// Characters behind the prefix of an id: 128 bits.
const KEY_ID_RANDOM: usize = 26;
/// Base 32 (RFC 4648, section 6).
const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// Temporary credentials as a client receives them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VendedCredentials {
    /// `s3.access-key-id`.
    pub access_key: String,
    /// `s3.secret-access-key`.
    pub secret: SecretKey,
    /// `s3.session-token`.
    pub session_token: String,
    /// `s3.session-token-expires-at-ms`.
    pub expires: TimestampMs,
}

impl Keyring {
    /// Makes credentials for `scope`, whose expiry is cut to [`VENDED_LIFETIME_MAX_MS`] from `now`.
    #[must_use]
    pub fn vend(&self, mut scope: Scope, now: TimestampMs) -> VendedCredentials {
        scope.expires = scope.expires.min(now.plus_ms(VENDED_LIFETIME_MAX_MS));
        let payload = encode(&scope);
        let access_key = access_key(self.vend_key(), &payload);
        VendedCredentials {
            secret: derived_secret(self.vend_key(), &access_key),
            session_token: seal::seal(TOKEN_PREFIX, self.vend_key(), &payload),
            access_key,
            expires: scope.expires,
        }
    }

    /// Whether an access key id is kept for temporary credentials.
    pub(crate) fn is_reserved_id(access_key: &str) -> bool {
        access_key.starts_with(KEY_ID_PREFIX)
    }

    /// Whether an access key id has the form of temporary credentials. There is a secret for each
    /// one of them, so the form is exact: nothing is derived from a text of any other length.
    pub(crate) fn is_vended_id(access_key: &str) -> bool {
        let Some(rest) = access_key.strip_prefix(KEY_ID_PREFIX) else {
            return false;
        };
        rest.len() == KEY_ID_RANDOM && rest.bytes().all(|b| ALPHABET.contains(&b))
    }

    pub(crate) fn vended_secret(&self, access_key: &str) -> SecretKey {
        derived_secret(self.vend_key(), access_key)
    }

    pub(crate) fn vended_principal(
        &self,
        given_id: &str,
        session_token: &str,
        now: TimestampMs,
    ) -> Result<Principal, LookupError> {
        if session_token.len() > SESSION_TOKEN_BYTES {
            return Err(LookupError::InvalidToken);
        }
        let payload = seal::open(TOKEN_PREFIX, self.vend_key(), session_token)
            .ok_or(LookupError::InvalidToken)?;
        let wanted_id = access_key(self.vend_key(), &payload);
        if !bool::from(wanted_id.as_bytes().ct_eq(given_id.as_bytes())) {
            return Err(LookupError::InvalidToken);
        }
        let scope = decode(&payload).ok_or(LookupError::InvalidToken)?;
        if now >= scope.expires {
            return Err(LookupError::ExpiredToken);
        }
        Ok(Principal {
            id: wanted_id.into(),
            account: self.account().clone(),
            kind: PrincipalKind::Vended(Arc::new(scope)),
        })
    }
}

/// 26 characters of base 32, that is 128 bits, behind the prefix.
fn access_key(key: &SealKey, payload: &[u8]) -> String {
    let digest = seal::mac(key, &[b"access key id", payload]);
    let mut id = KEY_ID_PREFIX.to_owned();
    id.extend(
        digest[..KEY_ID_RANDOM]
            .iter()
            .map(|b| char::from(ALPHABET[usize::from(b & 31)])),
    );
    id
}

fn derived_secret(key: &SealKey, access_key: &str) -> SecretKey {
    SecretKey::new(hex::encode(seal::mac(
        key,
        &[b"secret", access_key.as_bytes()],
    )))
}

fn encode(scope: &Scope) -> Vec<u8> {
    let access = match scope.access {
        ScopeAccess::Read => 0,
        ScopeAccess::ReadWrite => 1,
    };
    let mut payload = vec![FORMAT, access];
    payload.extend_from_slice(&scope.expires.0.to_be_bytes());
    for text in [scope.bucket.as_str(), &scope.prefix] {
        seal::put_text(&mut payload, text).expect("bucket names and key prefixes are short");
    }
    payload
}

fn decode(payload: &[u8]) -> Option<Scope> {
    let mut fields = Fields(payload);
    if fields.byte()? != FORMAT {
        return None;
    }
    let access = match fields.byte()? {
        0 => ScopeAccess::Read,
        1 => ScopeAccess::ReadWrite,
        _ => return None,
    };
    let expires = TimestampMs(fields.int()?);
    let bucket = BucketName::for_lookup(fields.text()?).ok()?;
    let prefix = fields.text()?.to_owned();
    fields.0.is_empty().then_some(Scope {
        bucket,
        prefix,
        access,
        expires,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::tests::keyring;

    const T0: TimestampMs = TimestampMs(1_800_000_000_000);

    fn scope(prefix: &str) -> Scope {
        Scope {
            bucket: BucketName::for_tables("lake").unwrap(),
            prefix: prefix.to_owned(),
            access: ScopeAccess::ReadWrite,
            expires: T0.plus_ms(900_000),
        }
    }

    #[test]
    fn vended_credentials_are_found_until_they_expire() {
        let keys = keyring("secret");
        let given = keys.vend(scope("ns/t-1"), T0);
        let secret = keys.secret_for(&given.access_key).unwrap();
        assert_eq!(secret, given.secret);
        let token = Some(given.session_token.as_str());
        let (_, principal) = keys.lookup(&given.access_key, token, T0).unwrap();
        assert_eq!(
            principal.kind,
            PrincipalKind::Vended(Arc::new(scope("ns/t-1")))
        );
        let late = keys.lookup(&given.access_key, token, given.expires);
        assert_eq!(late.unwrap_err(), LookupError::ExpiredToken);
    }

    #[test]
    fn a_token_fits_one_access_key_only() {
        let keys = keyring("secret");
        let (one, two) = (
            keys.vend(scope("ns/t-1"), T0),
            keys.vend(scope("ns/t-2"), T0),
        );
        assert_ne!(one.access_key, two.access_key);
        let crossed = keys.lookup(&one.access_key, Some(&two.session_token), T0);
        assert_eq!(crossed.unwrap_err(), LookupError::InvalidToken);
        let missing = keys.lookup(&one.access_key, None, T0);
        assert_eq!(missing.unwrap_err(), LookupError::InvalidToken);
        let elsewhere = keyring("changed").lookup(&one.access_key, Some(&one.session_token), T0);
        assert_eq!(elsewhere.unwrap_err(), LookupError::InvalidToken);
    }

    #[test]
    fn only_ids_of_the_exact_form_have_a_secret() {
        let keys = keyring("secret");
        let id = keys.vend(scope("ns/t-1"), T0).access_key;
        assert!(keys.secret_for(&id).is_some());
        let long = format!("{id}{}", "A".repeat(380_000));
        for other in [&id[..32], &format!("{id}A"), &id.to_lowercase(), &long] {
            assert_eq!(keys.secret_for(other), None);
            let found = keys.lookup(other, Some("FLBST1.x"), T0);
            assert_eq!(found.unwrap_err(), LookupError::UnknownKey);
        }
    }

    #[test]
    fn the_lifetime_is_cut_to_an_hour() {
        let mut wish = scope("ns/t-1");
        wish.expires = T0.plus_ms(i64::MAX / 2);
        let given = keyring("secret").vend(wish, T0);
        assert_eq!(given.expires, T0.plus_ms(VENDED_LIFETIME_MAX_MS));
    }
}
