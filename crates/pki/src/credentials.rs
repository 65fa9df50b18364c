//! What a node proves its identity with: a private key and the certificate made for it.

use crate::certificate::Certificate;
use crate::{PkiError, files, identity, request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use floeberg_env::Disk;
use floeberg_types::{ClusterId, NodeId, TimestampMs};
use rcgen::KeyPair;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

/// The file of a node's key and certificate.
const FILE: &str = "node.pem";

/// A node's private key (P-256), which never leaves the node.
pub struct NodeKey {
    pair: KeyPair,
}

impl NodeKey {
    /// Draws a new key.
    ///
    /// # Errors
    /// If the system has no randomness.
    pub fn generate() -> Result<Self, PkiError> {
        let pair = KeyPair::generate().map_err(|e| PkiError::unusable("the new key", e))?;
        Ok(Self { pair })
    }

    /// A request to be signed by the authority. It proves that its sender has the key, and says
    /// nothing about who that is.
    ///
    /// # Errors
    /// If signing fails.
    pub fn request(&self) -> Result<Vec<u8>, PkiError> {
        request::write(&self.pair)
    }

    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, PkiError> {
        let unusable = |e: &dyn fmt::Display| PkiError::unusable("the private key", e);
        let der = PrivatePkcs8KeyDer::from_pem_slice(text).map_err(|e| unusable(&e))?;
        let pair = KeyPair::try_from(&der).map_err(|e| unusable(&e))?;
        Ok(Self { pair })
    }

    pub(crate) fn into_pair(self) -> KeyPair {
        self.pair
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

/// A key with its certificate and those that lead to the authority.
#[derive(Debug)]
pub struct Credentials {
    key: NodeKey,
    chain: Vec<CertificateDer<'static>>,
    identity: (ClusterId, NodeId),
    valid: (TimestampMs, TimestampMs),
}

impl Credentials {
    /// Joins a key and what the authority answered to its request.
    ///
    /// # Errors
    /// If they do not belong together, or the certificate is not one of a node.
    pub fn new(key: NodeKey, chain: Vec<CertificateDer<'static>>) -> Result<Self, PkiError> {
        let leaf = chain
            .first()
            .ok_or_else(|| PkiError::unusable("the node's certificate", "there is none"))?;
        let leaf = Certificate::read(leaf)?;
        let credentials = Self {
            key,
            chain,
            identity: identity::identity_of(&leaf)?,
            valid: (leaf.valid_from, leaf.valid_until),
        };
        credentials.certified()?;
        Ok(credentials)
    }

    /// Whose they are.
    #[must_use]
    pub const fn identity(&self) -> (ClusterId, NodeId) {
        self.identity
    }

    /// Whether the certificate was made by this authority.
    #[must_use]
    pub fn is_signed_by(&self, authority: &[u8]) -> bool {
        self.chain
            .get(1)
            .is_some_and(|next| next.as_ref() == authority)
    }

    /// When the certificate ends.
    #[must_use]
    pub const fn expires(&self) -> TimestampMs {
        self.valid.1
    }

    /// When to ask for the next certificate: after two thirds of its time.
    #[must_use]
    pub const fn renew_at(&self) -> TimestampMs {
        let (from, until) = self.valid;
        from.plus_ms(until.since_ms(from) / 3 * 2)
    }

    pub(crate) fn certified(&self) -> Result<Arc<CertifiedKey>, PkiError> {
        let key = PrivatePkcs8KeyDer::from(self.key.pair.serialize_der());
        certify(self.chain.clone(), key.into())
    }

    /// Writes key and certificates below `dir`, in one file so that they always match.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), PkiError> {
        let mut text = self.key.pair.serialize_pem();
        for certificate in &self.chain {
            text.push_str(&pem("CERTIFICATE", certificate));
        }
        files::write_secret(disk, &dir.join(FILE), text.as_bytes())
    }

    /// Reads the credentials below `dir`; `None` if there are none.
    ///
    /// # Errors
    /// If the file is damaged or the disk refuses.
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, PkiError> {
        let Some(text) = files::read_if_there(disk, &dir.join(FILE))? else {
            return Ok(None);
        };
        let chain = certificates(&text)?;
        Self::new(NodeKey::from_pem(&text)?, chain).map(Some)
    }
}

/// Every certificate of a PEM text.
pub(crate) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    CertificateDer::pem_slice_iter(text)
        .collect::<Result<_, _>>()
        .map_err(|e| PkiError::unusable("the certificate", e))
}

/// What rustls signs with; fails unless key and certificate belong together.
pub(crate) fn certify(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> Result<Arc<CertifiedKey>, PkiError> {
    let provider = ring::default_provider();
    let certified = CertifiedKey::from_der(chain, key, &provider)
        .map_err(|e| PkiError::unusable("the key and its certificate", e))?;
    Ok(Arc::new(certified))
}

/// One PEM block.
pub(crate) fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = more;
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}
