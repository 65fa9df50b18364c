//! TLS of the client ports: a certificate from the operator's PEM files, read again when they
//! change.

use crate::certificate::Certificate;
use crate::credentials::{certificates, certify};
use crate::node_tls::{EnvTime, Shown, provider};
use crate::{PkiError, files};
use arc_swap::ArcSwap;
use floeberg_env::{Clock, Disk};
use floeberg_types::TimestampMs;
use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// What a look at the files found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// Nothing new.
    Unchanged,
    /// New connections see the new certificate.
    Replaced,
    /// The files cannot be used, and the log says why; the old certificate stays.
    Kept,
}

/// A server's certificate and key from two PEM files.
pub struct PortTls {
    certificate: PathBuf,
    key: PathBuf,
    disk: Arc<dyn Disk>,
    shown: Arc<Shown>,
    clock: Arc<dyn Clock>,
    /// What the last look found, so that a broken file is reported once.
    seen: Mutex<Seen>,
    config: Arc<ServerConfig>,
}

#[derive(Clone, PartialEq, Eq)]
enum Seen {
    Files([u8; 32]),
    Unreadable(String),
}

impl PortTls {
    /// Reads the files and makes a configuration for TLS 1.2 and 1.3 that asks clients for nothing.
    ///
    /// # Errors
    /// If the files cannot be read, or do not belong together.
    pub fn load(
        certificate: PathBuf,
        key: PathBuf,
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PkiError> {
        let (texts, digest) = read(&certificate, &key, disk.as_ref())?;
        let certified = parse(&texts)?;
        if has_ended(&certified, clock.as_ref()) {
            tracing::warn!(
                certificate = %certificate.display(),
                "the port's certificate has expired: clients refuse it until the file holds a new one"
            );
        }
        let shown = Arc::new(Shown(ArcSwap::new(certified)));
        let time = Arc::new(EnvTime(clock.clone()));
        let mut config = ServerConfig::builder_with_details(provider(), time)
            .with_protocol_versions(&[&TLS13, &TLS12])
            .map_err(|e| PkiError::unusable("the TLS configuration", e))?
            .with_no_client_auth()
            .with_cert_resolver(shown.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self {
            certificate,
            key,
            disk,
            shown,
            clock,
            seen: Mutex::new(Seen::Files(digest)),
            config: Arc::new(config),
        })
    }

    /// For accepting connections; follows reloads.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// From when to when the certificate that is shown is valid; `None` if its times cannot be read.
    #[must_use]
    pub fn validity(&self) -> Option<(TimestampMs, TimestampMs)> {
        let leaf = leaf(&self.shown.0.load())?;
        Some((leaf.valid_from, leaf.valid_until))
    }

    /// Looks at the files and takes them over if they have changed. Called every few seconds; a
    /// key written after its certificate is picked up by the next look.
    pub fn reload(&self) -> Reload {
        let look = read(&self.certificate, &self.key, self.disk.as_ref());
        let now = match &look {
            Ok((_, digest)) => Seen::Files(*digest),
            Err(e) => Seen::Unreadable(e.to_string()),
        };
        if std::mem::replace(&mut *self.seen.lock(), now.clone()) == now {
            return Reload::Unchanged;
        }
        let parsed = look.and_then(|(texts, _)| parse(&texts));
        match parsed.and_then(|certified| self.no_worse(certified)) {
            Ok(certified) => {
                self.shown.0.store(certified);
                tracing::info!(certificate = %self.certificate.display(), "the port's certificate is new");
                Reload::Replaced
            }
            Err(error) => {
                tracing::error!(
                    %error,
                    certificate = %self.certificate.display(),
                    key = %self.key.display(),
                    "the port keeps its old certificate: put a chain and its private key, both PEM, \
                     into the two files; they are looked at again in a moment"
                );
                Reload::Kept
            }
        }
    }
}

impl PortTls {
    /// A certificate that has expired does not take the place of one that has not.
    fn no_worse(&self, certified: Arc<CertifiedKey>) -> Result<Arc<CertifiedKey>, PkiError> {
        let clock = self.clock.as_ref();
        if has_ended(&certified, clock) && !has_ended(&self.shown.0.load(), clock) {
            let reason = "it has expired";
            return Err(PkiError::unusable("the port's certificate", reason));
        }
        Ok(certified)
    }
}

/// Whether the certificate has expired; one whose times we cannot read has not.
fn has_ended(certified: &CertifiedKey, clock: &dyn Clock) -> bool {
    leaf(certified).is_some_and(|leaf| leaf.valid_until < clock.now())
}

fn leaf(certified: &CertifiedKey) -> Option<Certificate> {
    Certificate::read(certified.cert.first()?).ok()
}

impl fmt::Debug for PortTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortTls")
            .field("certificate", &self.certificate)
            .field("key", &self.key)
            .finish_non_exhaustive()
    }
}

type Texts = (Vec<u8>, Vec<u8>);

fn read(
    certificate: &std::path::Path,
    key: &std::path::Path,
    disk: &dyn Disk,
) -> Result<(Texts, [u8; 32]), PkiError> {
    let texts = (files::read(disk, certificate)?, files::read(disk, key)?);
    let mut digest = Sha256::new();
    digest.update(Sha256::digest(&texts.0));
    digest.update(Sha256::digest(&texts.1));
    let digest = digest.finalize().into();
    Ok((texts, digest))
}

fn parse((certificate, key): &Texts) -> Result<Arc<CertifiedKey>, PkiError> {
    let chain = certificates(certificate)?;
    if chain.is_empty() {
        let reason = "the file holds no certificate in PEM";
        return Err(PkiError::unusable("the port's certificate", reason));
    }
    let key = PrivateKeyDer::from_pem_slice(key)
        .map_err(|e| PkiError::unusable("the port's private key", e))?;
    certify(chain, key)
}
