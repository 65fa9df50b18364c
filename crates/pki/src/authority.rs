//! The authority of a cluster: the key that makes certificates of nodes.

use crate::certificate::Certificate;
use crate::{Fingerprint, NodeKey, PkiError, Subject, files, request};
use floeberg_env::{Disk, Env};
use floeberg_types::{ClusterId, TimestampMs};
use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData as _, SanType, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;
use time::OffsetDateTime;

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long an authority made here is valid.
pub const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * DAY.as_secs());

/// How long a node's certificate is valid; renewed long before.
pub const NODE_LIFETIME: Duration = Duration::from_secs(90 * DAY.as_secs());

/// Certificates are valid from a little before now, for nodes whose clocks are behind.
const BACKDATED: Duration = Duration::from_secs(600);

/// The file of an authority and its key.
const FILE: &str = "authority.pem";

/// An authority with its private key (P-256).
pub struct Authority {
    certificate: CertificateDer<'static>,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// Makes a new authority: the first of a cluster, or the next one of a rotation.
    ///
    /// # Errors
    /// If the key or the certificate cannot be made.
    pub fn create(cluster: ClusterId, env: &Env) -> Result<Self, PkiError> {
        let failed = |e| PkiError::unusable("the new authority", e);
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = numbered(env, AUTHORITY_LIFETIME);
        // Two authorities of one cluster must not share a name, or neither can be told by it.
        let number = hex::encode(&env.rng.id128()[..4]);
        let name = format!("Floeberg cluster {cluster} authority {number}");
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?.into();
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// Its certificate, which every node must trust.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The fingerprint of its key.
    ///
    /// # Errors
    /// Never for an authority that was made by this type.
    pub fn fingerprint(&self) -> Result<Fingerprint, PkiError> {
        Fingerprint::of(&self.certificate)
    }

    /// Signs a request of [`NodeKey::request`]. Of the request only the key counts: who it is for
    /// is `subject`, which the caller has decided. Returns the node's certificate and this one.
    ///
    /// # Errors
    /// If the request is not signed by its own key, or the subject has an unusable name.
    pub fn sign(
        &self,
        request: &[u8],
        subject: &Subject,
        lifetime: Duration,
        env: &Env,
    ) -> Result<Vec<CertificateDer<'static>>, PkiError> {
        let key = request::read(request)?;
        let mut params = numbered(env, lifetime);
        let ends = Certificate::read(&self.certificate)?.valid_until;
        params.not_after = params.not_after.min(moment(ends));
        params.subject_alt_names = names(subject)?;
        let name = format!("Floeberg node {}", subject.node);
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let signed = params
            .signed_by(&key, &self.issuer)
            .map_err(|e| PkiError::unusable("the node's certificate", e))?;
        Ok(vec![signed.into(), self.certificate.clone()])
    }

    /// Certificate and private key as PEM: whoever has this text can make members.
    #[must_use]
    pub fn to_secret_pem(&self) -> String {
        let mut text = self.issuer.key().serialize_pem();
        text.push_str(&crate::credentials::pem("CERTIFICATE", &self.certificate));
        text
    }

    /// Reads what [`Authority::to_secret_pem`] wrote.
    ///
    /// # Errors
    /// If it is damaged, or key and certificate do not belong together.
    pub fn from_secret_pem(text: &[u8]) -> Result<Self, PkiError> {
        let unusable = |reason: &dyn fmt::Display| PkiError::unusable("the authority", reason);
        let certificate = CertificateDer::from_pem_slice(text).map_err(|e| unusable(&e))?;
        let key = NodeKey::from_pem(text)?.into_pair();
        let parsed = Certificate::read(&certificate)?;
        if !parsed.is_authority {
            return Err(unusable(&"its certificate is not one of an authority"));
        }
        if parsed.key_info != key.subject_public_key_info() {
            return Err(unusable(&"its key is not the one of its certificate"));
        }
        let name = parsed.common_name;
        let name = name.ok_or_else(|| unusable(&"its certificate has no name"))?;
        Ok(Self {
            certificate,
            issuer: Issuer::new(named(name), key),
        })
    }

    /// Writes the authority below `dir`.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn save(&self, disk: &dyn Disk, dir: &Path) -> Result<(), PkiError> {
        files::write_secret(disk, &dir.join(FILE), self.to_secret_pem().as_bytes())
    }

    /// Removes the authority below `dir`, if there is one.
    ///
    /// # Errors
    /// If the disk refuses.
    pub fn remove(disk: &dyn Disk, dir: &Path) -> Result<(), PkiError> {
        files::remove(disk, &dir.join(FILE))
    }

    /// Reads the authority below `dir`; `None` if there is none.
    ///
    /// # Errors
    /// If the file is damaged or the disk refuses.
    pub fn load(disk: &dyn Disk, dir: &Path) -> Result<Option<Self>, PkiError> {
        let text = files::read_if_there(disk, &dir.join(FILE))?;
        text.map(|text| Self::from_secret_pem(&text)).transpose()
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority")
            .field("fingerprint", &self.fingerprint().ok())
            .finish_non_exhaustive()
    }
}

/// The name alone, which is all that an issuer adds to what it signs.
fn named(common_name: String) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// What every certificate has: a time and a number of its own, but no name yet.
fn numbered(env: &Env, lifetime: Duration) -> CertificateParams {
    let now = env.clock.now();
    let mut serial = env.rng.id128();
    // Positive and of full length, as RFC 5280 wants it.
    serial[0] = serial[0] & 0x7f | 0x40;
    let mut params = CertificateParams::default();
    params.not_before = moment(now.plus_ms(-millis(BACKDATED)));
    params.not_after = moment(now.plus_ms(millis(lifetime)));
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params
}

fn millis(span: Duration) -> i64 {
    i64::try_from(span.as_millis()).unwrap_or(i64::MAX)
}

/// Whole seconds, which is all a certificate can say.
fn moment(at: TimestampMs) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(at.0.div_euclid(1000)).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

fn names(subject: &Subject) -> Result<Vec<SanType>, PkiError> {
    let unusable =
        |name: &str, e: rcgen::Error| PkiError::unusable(format!("the name `{name}`"), e);
    if subject.node.0 == 0 {
        return Err(PkiError::unusable("the node id 0", "ids begin at 1"));
    }
    let text = |name: &str| Ia5String::try_from(name).map_err(|e| unusable(name, e));
    let mut names = vec![SanType::URI(text(&subject.uri())?)];
    for name in &subject.names {
        names.push(match name.parse::<IpAddr>() {
            Ok(ip) => SanType::IpAddress(ip),
            Err(_) => SanType::DnsName(text(name)?),
        });
    }
    Ok(names)
}
