//! Join tokens: one line of text that lets a node ask to become a member, for a short time.
//!
//! Printed as `floeberg-join-` and the base64 (URL alphabet, no padding) of the message and the
//! first four bytes of its SHA-256, which tell a mistyped token from a forged one.

use crate::{Fingerprint, PkiError, TrustBundle};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use floeberg_env::{Env, Rng};
use floeberg_proto::floeberg::pki::v1 as proto;
use floeberg_types::{ClusterId, TimestampMs};
use hmac::{Hmac, Mac as _};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

const PREFIX: &str = "floeberg-join-";
const FORMAT: u32 = 1;
const CHECK: usize = 4;

/// What only members know and tokens are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinKey([u8; 32]);

/// A node's permission to ask for membership. Whoever has the text can use it.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    cluster: ClusterId,
    authorities: Vec<Fingerprint>,
    nonce: [u8; 16],
    expires: TimestampMs,
    mac: [u8; 32],
}

/// Why a token does not open the door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text is something else.
    #[error(
        "this is not a join token: it must begin with `{PREFIX}`; make one with `floeberg cluster token`"
    )]
    NotAToken,
    /// Characters are missing or wrong.
    #[error("the join token is incomplete or mistyped: copy it again as a whole")]
    Mistyped,
    /// A later version made it.
    #[error("the join token has format {0}, this binary knows {FORMAT}: use a newer floeberg")]
    TooNew(u32),
    /// It was made by another cluster.
    #[error(
        "the join token belongs to cluster {0}: make one on the cluster that the node shall join"
    )]
    WrongCluster(ClusterId),
    /// It was not made with this key.
    #[error("the join token was not made by this cluster, or before its join key was replaced")]
    Forged,
    /// Its time is over.
    #[error("the join token expired {0} s ago")]
    Expired(i64),
}

impl JoinKey {
    /// Draws a key.
    #[must_use]
    pub fn draw(rng: &dyn Rng) -> Self {
        let mut key = [0; 32];
        rng.fill(&mut key);
        Self(key)
    }

    /// A key from where members keep it.
    #[must_use]
    pub const fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// The key itself, to be kept where only members read.
    #[must_use]
    pub const fn secret_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Makes a token for `cluster` that ends after `lifetime`.
    ///
    /// # Errors
    /// If the bundle is damaged.
    pub fn issue(
        &self,
        cluster: ClusterId,
        trust: &TrustBundle,
        lifetime: Duration,
        env: &Env,
    ) -> Result<JoinToken, PkiError> {
        let lifetime = i64::try_from(lifetime.as_millis()).unwrap_or(i64::MAX);
        let mut token = JoinToken {
            cluster,
            authorities: trust.fingerprints()?,
            nonce: env.rng.id128(),
            expires: env.clock.now().plus_ms(lifetime),
            mac: [0; 32],
        };
        token.mac = self.mac(&token).finalize().into_bytes().into();
        Ok(token)
    }

    /// Whether this key made `token` for `cluster` and its time is not over. Whether it was used
    /// before is not known here: see [`JoinToken::nonce`].
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn verify(
        &self,
        token: &JoinToken,
        cluster: ClusterId,
        now: TimestampMs,
    ) -> Result<(), TokenError> {
        if token.cluster != cluster {
            return Err(TokenError::WrongCluster(token.cluster));
        }
        self.mac(token)
            .verify_slice(&token.mac)
            .map_err(|_| TokenError::Forged)?;
        let late = now.since_ms(token.expires);
        if late >= 0 {
            return Err(TokenError::Expired(late / 1000));
        }
        Ok(())
    }

    fn mac(&self, token: &JoinToken) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(&token.message(Bytes::new()).encode_to_vec());
        mac
    }
}

impl fmt::Debug for JoinKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinKey(..)")
    }
}

impl JoinToken {
    /// The cluster to join.
    #[must_use]
    pub const fn cluster(&self) -> ClusterId {
        self.cluster
    }

    /// The authorities whose certificates the joining node may believe.
    #[must_use]
    pub fn authorities(&self) -> &[Fingerprint] {
        &self.authorities
    }

    /// Tells one token from another; whoever wants tokens to work once remembers it.
    #[must_use]
    pub const fn nonce(&self) -> [u8; 16] {
        self.nonce
    }

    /// When it ends.
    #[must_use]
    pub const fn expires(&self) -> TimestampMs {
        self.expires
    }

    /// The text for the operator. A secret: it belongs neither in logs nor in errors.
    #[must_use]
    pub fn to_secret_text(&self) -> String {
        let mac = Bytes::copy_from_slice(&self.mac);
        let mut bytes = self.message(mac).encode_to_vec();
        let check = Sha256::digest(&bytes);
        bytes.extend_from_slice(&check[..CHECK]);
        format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    fn message(&self, mac: Bytes) -> proto::JoinToken {
        proto::JoinToken {
            format: FORMAT,
            cluster_id: Bytes::copy_from_slice(self.cluster.as_bytes()),
            authority_fingerprints: self
                .authorities
                .iter()
                .map(|f| Bytes::copy_from_slice(&f.0))
                .collect(),
            nonce: Bytes::copy_from_slice(&self.nonce),
            expires_ms: self.expires.0,
            mac,
        }
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    /// Reads the printed text; white space that copying adds is ignored.
    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text: String = text.split_whitespace().collect();
        let encoded = text.strip_prefix(PREFIX).ok_or(TokenError::NotAToken)?;
        let bytes = URL_SAFE_NO_PAD
            .decode(encoded)
            .map_err(|_| TokenError::Mistyped)?;
        let (message, check) = bytes
            .split_at_checked(bytes.len().saturating_sub(CHECK))
            .ok_or(TokenError::Mistyped)?;
        if Sha256::digest(message)[..CHECK] != *check {
            return Err(TokenError::Mistyped);
        }
        let message = proto::JoinToken::decode(message).map_err(|_| TokenError::Mistyped)?;
        if message.format != FORMAT {
            return Err(TokenError::TooNew(message.format));
        }
        let fingerprints = message.authority_fingerprints.iter();
        let authorities: Option<Vec<_>> = fingerprints
            .map(|f| f.as_ref().try_into().ok().map(Fingerprint))
            .collect();
        let token = || {
            Some(Self {
                cluster: ClusterId::from_slice(&message.cluster_id)?,
                authorities: authorities.filter(|all| !all.is_empty())?,
                nonce: message.nonce.as_ref().try_into().ok()?,
                expires: TimestampMs(message.expires_ms),
                mac: message.mac.as_ref().try_into().ok()?,
            })
        };
        token().ok_or(TokenError::Mistyped)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("cluster", &self.cluster)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}
