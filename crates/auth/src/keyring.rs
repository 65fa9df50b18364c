//! The keys of a cluster: the root pair, and what is derived from it.

use crate::seal::{self, SealKey};
use crate::sigv4::SigningKeys;
use crate::{Principal, PrincipalKind};
use floeberg_types::{AccountId, ClusterId, TimestampMs};
use sha2::{Digest as _, Sha256};
use std::fmt;
use subtle::ConstantTimeEq;

/// A secret access key. Its `Debug` form hides it.
#[derive(Clone)]
pub struct SecretKey(String);

impl SecretKey {
    /// Wraps a secret.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    /// The secret itself: for signatures and for the one answer that hands it out.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretKey(hidden)")
    }
}

impl PartialEq for SecretKey {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_bytes().ct_eq(other.0.as_bytes()).into()
    }
}

impl Eq for SecretKey {}

/// Why a root key pair cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RootKeyError {
    /// The access key id breaks a rule.
    #[error("the root access key must have 3 to 128 letters, digits, `-`, `_` or `.`")]
    AccessKey,
    /// The secret is too short to resist guessing.
    #[error("the root secret key must have at least 8 characters")]
    SecretTooShort,
}

/// The root key pair of a cluster.
#[derive(Clone, Debug)]
pub struct RootKey {
    access_key: String,
    secret: SecretKey,
}

impl RootKey {
    /// Checks a pair from the configuration.
    ///
    /// # Errors
    /// When the access key id could not stand in a credential scope or the secret is too short.
    pub fn new(access_key: &str, secret: &str) -> Result<Self, RootKeyError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let reserved = Keyring::is_reserved_id(access_key);
        if !(3..=128).contains(&access_key.len()) || !access_key.bytes().all(legal) || reserved {
            return Err(RootKeyError::AccessKey);
        }
        if secret.len() < 8 {
            return Err(RootKeyError::SecretTooShort);
        }
        Ok(Self {
            access_key: access_key.to_owned(),
            secret: SecretKey::new(secret),
        })
    }

    /// The access key id.
    #[must_use]
    pub fn access_key(&self) -> &str {
        &self.access_key
    }

    /// Tells this pair from others, all but one in 65,536: 16 bits, so that whoever reads it cannot confirm
    /// a guess at the secret.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let mut hash = Sha256::new();
        hash.update("floeberg root key pair\0");
        hash.update(&self.access_key);
        hash.update("\0");
        hash.update(self.secret.expose());
        hex::encode(&hash.finalize()[..2])
    }

    /// The secret.
    #[must_use]
    pub const fn secret(&self) -> &SecretKey {
        &self.secret
    }
}

/// Why an access key does not lead to a principal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// No such access key id.
    #[error("the access key id does not exist")]
    UnknownKey,
    /// The session token is missing, forged, or belongs to other credentials.
    #[error("the session token is not valid for this access key id")]
    InvalidToken,
    /// The temporary credentials are void.
    #[error("the temporary credentials have expired")]
    ExpiredToken,
}

/// The client id or secret given to the OAuth endpoint is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client id or client secret is not valid")]
pub struct ClientError;

/// All keys of a cluster. One per node, shared by its listeners.
pub struct Keyring {
    root: RootKey,
    account: AccountId,
    bearer_key: SealKey,
    vend_key: SealKey,
    signing: SigningKeys,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keyring({})", self.root.access_key)
    }
}

impl Keyring {
    /// Derives the sealing keys from the root secret and the cluster id.
    #[must_use]
    pub fn new(root: RootKey, account: AccountId, cluster: ClusterId) -> Self {
        let derive = |purpose: &[u8]| {
            let secret = root.secret.expose().as_bytes();
            seal::mac(secret, &[b"floeberg", purpose, cluster.as_bytes()])
        };
        Self {
            bearer_key: derive(b"bearer tokens, format 1"),
            vend_key: derive(b"vended credentials, format 1"),
            signing: SigningKeys::default(),
            root,
            account,
        }
    }

    /// The secret that signs for `access_key`, before any session token is looked at. For temporary
    /// credentials it exists for every well-formed id; [`Self::lookup`] must still accept the token.
    #[must_use]
    pub fn secret_for(&self, access_key: &str) -> Option<SecretKey> {
        if Self::is_vended_id(access_key) {
            return Some(self.vended_secret(access_key));
        }
        let root = self.root.access_key.as_bytes();
        bool::from(root.ct_eq(access_key.as_bytes())).then(|| self.root.secret.clone())
    }

    /// The secret and principal behind an access key id and its session token.
    ///
    /// # Errors
    /// When the key is unknown or the token does not fit it or has expired.
    pub fn lookup(
        &self,
        access_key: &str,
        session_token: Option<&str>,
        now: TimestampMs,
    ) -> Result<(SecretKey, Principal), LookupError> {
        let secret = self.secret_for(access_key).ok_or(LookupError::UnknownKey)?;
        let token = session_token.filter(|token| !token.is_empty());
        let principal = match (Self::is_vended_id(access_key), token) {
            (true, token) => self.vended_principal(access_key, token.unwrap_or(""), now)?,
            (false, None) => self.root_principal(),
            (false, Some(_)) => return Err(LookupError::InvalidToken),
        };
        Ok((secret, principal))
    }

    /// Checks the client id and secret of an OAuth client, in time that does not depend on where
    /// they differ.
    ///
    /// # Errors
    /// When either is wrong.
    pub fn check_client(&self, id: &str, secret: &str) -> Result<Principal, ClientError> {
        let same_id = self.root.access_key.as_bytes().ct_eq(id.as_bytes());
        let same_secret = self
            .root
            .secret
            .expose()
            .as_bytes()
            .ct_eq(secret.as_bytes());
        if bool::from(same_id & same_secret) {
            Ok(self.root_principal())
        } else {
            Err(ClientError)
        }
    }

    /// The principal of the root key pair.
    #[must_use]
    pub fn root_principal(&self) -> Principal {
        Principal {
            id: self.root.access_key.as_str().into(),
            account: self.account.clone(),
            kind: PrincipalKind::Root,
        }
    }

    /// The account that owns the cluster.
    #[must_use]
    pub const fn account(&self) -> &AccountId {
        &self.account
    }

    pub(crate) fn root_access_key(&self) -> &str {
        &self.root.access_key
    }

    pub(crate) const fn bearer_key(&self) -> &SealKey {
        &self.bearer_key
    }

    pub(crate) const fn vend_key(&self) -> &SealKey {
        &self.vend_key
    }

    pub(crate) const fn signing(&self) -> &SigningKeys {
        &self.signing
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn keyring(secret: &str) -> Keyring {
        // Padded so that short texts in tests still pass the length rule.
        let root = RootKey::new("AKIAEXAMPLE", &format!("{secret}-padding")).unwrap();
        let account = "000000000000".parse().unwrap();
        Keyring::new(root, account, ClusterId::from_bytes([7; 16]))
    }

    #[test]
    fn the_root_pair_is_checked() {
        assert!(RootKey::new("AKIA", "12345678").is_ok());
        let slash = RootKey::new("AK/IA", "12345678").unwrap_err();
        assert_eq!(slash, RootKeyError::AccessKey);
        let reserved = RootKey::new("ASIAFLBXYZ", "12345678").unwrap_err();
        assert_eq!(reserved, RootKeyError::AccessKey);
        let short = RootKey::new("AKIA", "1234567").unwrap_err();
        assert_eq!(short, RootKeyError::SecretTooShort);
    }

    #[test]
    fn lookups_find_root_and_nobody_else() {
        let keys = keyring("secret");
        let now = TimestampMs(0);
        let (secret, principal) = keys.lookup("AKIAEXAMPLE", Some(""), now).unwrap();
        assert_eq!(secret.expose(), "secret-padding");
        assert_eq!(principal.kind, PrincipalKind::Root);
        let unknown = keys.lookup("AKIAOTHER", None, now).unwrap_err();
        assert_eq!(unknown, LookupError::UnknownKey);
        let token = keys.lookup("AKIAEXAMPLE", Some("token"), now).unwrap_err();
        assert_eq!(token, LookupError::InvalidToken);
    }

    #[test]
    fn clients_need_both_id_and_secret() {
        let keys = keyring("secret");
        assert!(keys.check_client("AKIAEXAMPLE", "secret-padding").is_ok());
        assert_eq!(keys.check_client("AKIAEXAMPLE", "secret"), Err(ClientError));
        assert_eq!(
            keys.check_client("other", "secret-padding"),
            Err(ClientError)
        );
        assert_eq!(keys.check_client("", ""), Err(ClientError));
    }

    #[test]
    fn debug_output_hides_secrets() {
        assert!(!format!("{:?}", keyring("visible")).contains("visible"));
    }
}
