//! Bearer tokens: what the OAuth endpoint issues and the catalog accepts for an hour.

use crate::seal::{self, Fields};
use crate::{Keyring, Principal};
use floeberg_types::TimestampMs;

/// How long a bearer token is accepted after it was issued.
pub const BEARER_LIFETIME_MS: i64 = 3_600_000;

/// How long after a client showed its secret its tokens may be exchanged for fresh ones. Jobs of
/// Iceberg's Java client exchange and never show the secret again, so it is long; it is finite so
/// that a stolen token does not last for ever.
pub const RENEWAL_LIFETIME_MS: i64 = 30 * 24 * 3_600_000;

const PREFIX: &str = "flb1.";
const FORMAT: u8 = 1;

/// A fresh bearer token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BearerToken {
    /// The text that goes behind `Authorization: Bearer`.
    pub token: String,
    /// The first moment at which it is void.
    pub expires: TimestampMs,
}

/// Why a bearer token was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BearerError {
    /// Not a token of this cluster.
    #[error("the bearer token is not valid")]
    Invalid,
    /// Once valid, now void.
    #[error("the bearer token has expired")]
    Expired,
}

struct Claims {
    subject: String,
    authenticated: TimestampMs,
    issued: TimestampMs,
}

impl Keyring {
    /// Issues a token for the root client, which has just shown its secret.
    #[must_use]
    pub fn issue_bearer(&self, now: TimestampMs) -> BearerToken {
        self.sign_bearer(&Claims {
            subject: self.root_access_key().to_owned(),
            authenticated: now,
            issued: now,
        })
    }

    /// Exchanges a valid token for a fresh one (RFC 8693).
    ///
    /// # Errors
    /// When the token is invalid, has expired, or its client showed its secret too long ago.
    pub fn renew_bearer(&self, token: &str, now: TimestampMs) -> Result<BearerToken, BearerError> {
        let claims = self.bearer_claims(token, now)?;
        if now.since_ms(claims.authenticated) >= RENEWAL_LIFETIME_MS {
            return Err(BearerError::Expired);
        }
        Ok(self.sign_bearer(&Claims {
            issued: now,
            ..claims
        }))
    }

    /// The principal that holds `token`.
    ///
    /// # Errors
    /// When the token is not of this cluster or void.
    pub fn verify_bearer(&self, token: &str, now: TimestampMs) -> Result<Principal, BearerError> {
        self.bearer_claims(token, now)
            .map(|_| self.root_principal())
    }

    fn sign_bearer(&self, claims: &Claims) -> BearerToken {
        let mut payload = vec![FORMAT];
        payload.extend_from_slice(&claims.authenticated.0.to_be_bytes());
        payload.extend_from_slice(&claims.issued.0.to_be_bytes());
        seal::put_text(&mut payload, &claims.subject).expect("access key ids are short");
        BearerToken {
            token: seal::seal(PREFIX, self.bearer_key(), &payload),
            expires: claims.issued.plus_ms(BEARER_LIFETIME_MS),
        }
    }

    fn bearer_claims(&self, token: &str, now: TimestampMs) -> Result<Claims, BearerError> {
        let payload = seal::open(PREFIX, self.bearer_key(), token).ok_or(BearerError::Invalid)?;
        let claims = parse(&payload).ok_or(BearerError::Invalid)?;
        if claims.subject != self.root_access_key() {
            return Err(BearerError::Invalid);
        }
        if now.since_ms(claims.issued) >= BEARER_LIFETIME_MS {
            return Err(BearerError::Expired);
        }
        Ok(claims)
    }
}

fn parse(payload: &[u8]) -> Option<Claims> {
    let mut fields = Fields(payload);
    if fields.byte()? != FORMAT {
        return None;
    }
    let (authenticated, issued) = (TimestampMs(fields.int()?), TimestampMs(fields.int()?));
    let subject = fields.text()?.to_owned();
    fields.0.is_empty().then_some(Claims {
        subject,
        authenticated,
        issued,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keyring::tests::keyring;

    const T0: TimestampMs = TimestampMs(1_800_000_000_000);

    #[test]
    fn a_token_is_good_for_an_hour() {
        let keys = keyring("secret");
        let issued = keys.issue_bearer(T0);
        assert_eq!(issued.expires, T0.plus_ms(3_600_000));
        let last = T0.plus_ms(3_599_999);
        assert_eq!(
            keys.verify_bearer(&issued.token, last),
            Ok(keys.root_principal())
        );
        let late = keys.verify_bearer(&issued.token, issued.expires);
        assert_eq!(late, Err(BearerError::Expired));
    }

    #[test]
    fn a_changed_root_secret_revokes_every_token() {
        let issued = keyring("secret").issue_bearer(T0);
        let other = keyring("changed").verify_bearer(&issued.token, T0);
        assert_eq!(other, Err(BearerError::Invalid));
    }

    #[test]
    fn renewal_ends_some_time_after_the_secret_was_shown() {
        let keys = keyring("secret");
        let (mut now, mut token) = (T0, keys.issue_bearer(T0).token);
        let mut renewals = 0;
        loop {
            now = now.plus_ms(3_000_000);
            match keys.renew_bearer(&token, now) {
                Ok(next) => token = next.token,
                Err(err) => {
                    assert_eq!(err, BearerError::Expired);
                    break;
                }
            }
            renewals += 1;
        }
        assert_eq!(renewals, RENEWAL_LIFETIME_MS / 3_000_000 - 1);
    }

    #[test]
    fn other_text_is_no_token() {
        let keys = keyring("secret");
        for text in ["", "None", "flb1.", "flb1.AAAA", "bearer"] {
            assert_eq!(keys.verify_bearer(text, T0), Err(BearerError::Invalid));
        }
    }
}
