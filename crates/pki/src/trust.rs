//! The authorities that a cluster trusts.

use crate::certificate::Certificate;
use crate::{PkiError, files};
use floeberg_env::Disk;
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::path::Path;

/// The file of a bundle.
const FILE: &str = "trust.pem";

/// SHA-256 of an authority's public key info: the same for every certificate of one key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// That of the key in a certificate.
    ///
    /// # Errors
    /// If it is no certificate.
    pub fn of(certificate: &[u8]) -> Result<Self, PkiError> {
        let certificate = Certificate::read(certificate)?;
        Ok(Self(Sha256::digest(certificate.key_info).into()))
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

/// The authorities whose certificates are accepted, newest first; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    authorities: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// Trust in one authority.
    ///
    /// # Errors
    /// If the certificate is not one of an authority.
    pub fn new(authority: &[u8]) -> Result<Self, PkiError> {
        let bundle = Self {
            authorities: Vec::new(),
        };
        bundle.with(authority)
    }

    /// Trust in one more, which becomes the newest. The first step of a rotation.
    ///
    /// # Errors
    /// If the certificate is not one of an authority.
    pub fn with(&self, authority: &[u8]) -> Result<Self, PkiError> {
        if !Certificate::read(authority)?.is_authority {
            return Err(PkiError::unusable(
                "the certificate",
                "it is not one of an authority",
            ));
        }
        let mut authorities = vec![CertificateDer::from(authority).into_owned()];
        let others = self.authorities.iter();
        authorities.extend(others.filter(|a| a.as_ref() != authority).cloned());
        Ok(Self { authorities })
    }

    /// Trust without one authority. The last step of a rotation, once no node needs it.
    ///
    /// # Errors
    /// If nothing would be left.
    pub fn without(&self, fingerprint: Fingerprint) -> Result<Self, PkiError> {
        let mut authorities = Vec::new();
        for authority in &self.authorities {
            if Fingerprint::of(authority)? != fingerprint {
                authorities.push(authority.clone());
            }
        }
        if authorities.is_empty() {
            let reason = "it is the only one that is trusted; add its successor first";
            return Err(PkiError::unusable(
                "the bundle without this authority",
                reason,
            ));
        }
        Ok(Self { authorities })
    }

    /// The certificates, newest first.
    #[must_use]
    pub fn authorities(&self) -> &[CertificateDer<'static>] {
        &self.authorities
    }

    /// Their fingerprints in the same order.
    ///
    /// # Errors
    /// Never for a bundle that was made by this type.
    pub fn fingerprints(&self) -> Result<Vec<Fingerprint>, PkiError> {
        self.authorities
            .iter()
            .map(|a| Fingerprint::of(a))
            .collect()
    }

    /// The certificates as PEM, newest first.
    #[must_use]
    pub fn to_pem(&self) -> String {
        self.authorities
            .iter()
            .map(|a| crate::credentials::pem("CERTIFICATE", a))
            .collect()
    }

    /// Reads what [`TrustBundle::to_pem`] wrote.
    ///
    /// # Errors
    /// If a certificate is damaged, is not one of an authority, or there is none.
    pub fn from_pem(text: &[u8]) -> Result<Self, PkiError> {
        let unusable = |reason: &dyn fmt::Display| PkiError::unusable("the trust bundle", reason);
        let mut found = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(text) {
            found.push(certificate.map_err(|e| unusable(&e))?);
        }
        let mut bundle = Self {
            authorities: Vec::new(),
        };
        for certificate in found.iter().rev() {
            bundle = bundle.with(certificate)?;
        }
        if bundle.authorities.is_empty() {
            return Err(unusable(&"it holds no certificate"));
        }
        Ok(bundle)
    }

    /// Writes the bundle below `dir`.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), PkiError> {
        files::write_secret(disk, &dir.join(FILE), self.to_pem().as_bytes())
    }

    /// Reads the bundle below `dir`; `None` if there is none.
    ///
    /// # Errors
    /// If the file is damaged or the disk refuses.
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, PkiError> {
        let text = files::read_if_there(disk, &dir.join(FILE))?;
        text.map(|text| Self::from_pem(&text)).transpose()
    }

    pub(crate) fn roots(&self) -> Result<RootCertStore, PkiError> {
        let mut roots = RootCertStore::empty();
        for authority in &self.authorities {
            let added = roots.add(authority.clone());
            added.map_err(|e| PkiError::unusable("the authority's certificate", e))?;
        }
        Ok(roots)
    }
}
