//! TLS between nodes: both sides show certificates, and what is shown and trusted can change while
//! connections are served.

use crate::{Credentials, PkiError, TrustBundle};
use arc_swap::ArcSwap;
use floeberg_env::Clock;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::time_provider::TimeProvider;
use rustls::version::TLS13;
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerMisbehaved, RootCertStore,
    ServerConfig, SignatureScheme,
};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What nodes agree to speak over TLS.
pub(crate) const ALPN: &[u8] = b"h2";

/// A node's identity and trust as rustls configurations that follow replacements.
///
/// A replacement counts for the next connection; connections that are open stay as they are.
/// The server lets a caller in that shows no certificate, because a joining node has none: whoever
/// serves must look at [`crate::peer_identity`] before it obeys.
pub struct NodeTls {
    shown: Arc<Shown>,
    trusted: Arc<Trusted>,
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

impl NodeTls {
    /// Shows `credentials` and accepts certificates of the authorities in `trust`.
    ///
    /// # Errors
    /// If a certificate or key cannot be used.
    pub fn new(
        credentials: &Credentials,
        trust: &TrustBundle,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, PkiError> {
        let shown = Arc::new(Shown(ArcSwap::new(credentials.certified()?)));
        let trusted = Arc::new(Trusted {
            provider: provider(),
            anchors: ArcSwap::from_pointee(Anchors::new(trust)?),
        });
        let failed = |e| PkiError::unusable("the TLS configuration", e);
        let time = Arc::new(EnvTime(clock));
        let mut server = ServerConfig::builder_with_details(provider(), time.clone())
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .with_client_cert_verifier(trusted.clone())
            .with_cert_resolver(shown.clone());
        server.alpn_protocols = vec![ALPN.to_vec()];
        // A resumed session would skip the check of a certificate that is trusted no more.
        server.send_tls13_tickets = 0;
        let mut client = ClientConfig::builder_with_details(provider(), time)
            .with_protocol_versions(&[&TLS13])
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(trusted.clone())
            .with_client_cert_resolver(shown.clone());
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.resumption = Resumption::disabled();
        client.enable_sni = false;
        Ok(Self {
            shown,
            trusted,
            server: Arc::new(server),
            client: Arc::new(client),
        })
    }

    /// Shows `credentials` from the next connection on.
    ///
    /// # Errors
    /// If they cannot be used; the old ones stay.
    pub fn replace_credentials(&self, credentials: &Credentials) -> Result<(), PkiError> {
        self.shown.0.store(credentials.certified()?);
        Ok(())
    }

    /// Accepts certificates of the authorities in `trust`, and of no other, from the next
    /// connection on.
    ///
    /// # Errors
    /// If a certificate cannot be used; the old bundle stays.
    pub fn replace_trust(&self, trust: &TrustBundle) -> Result<(), PkiError> {
        self.trusted.anchors.store(Arc::new(Anchors::new(trust)?));
        Ok(())
    }

    /// For accepting connections.
    #[must_use]
    pub fn server_config(&self) -> Arc<ServerConfig> {
        self.server.clone()
    }

    /// For opening connections.
    #[must_use]
    pub fn client_config(&self) -> Arc<ClientConfig> {
        self.client.clone()
    }
}

impl fmt::Debug for NodeTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeTls").finish_non_exhaustive()
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Certificates are judged by the node's clock, which tests and the simulator set.
pub(crate) struct EnvTime(pub(crate) Arc<dyn Clock>);

impl fmt::Debug for EnvTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EnvTime")
    }
}

impl TimeProvider for EnvTime {
    fn current_time(&self) -> Option<UnixTime> {
        let ms = u64::try_from(self.0.now().0).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_millis(ms)))
    }
}

/// The certificate to show.
#[derive(Debug)]
pub(crate) struct Shown(pub(crate) ArcSwap<CertifiedKey>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// The authorities to believe.
#[derive(Debug)]
struct Trusted {
    provider: Arc<CryptoProvider>,
    anchors: ArcSwap<Anchors>,
}

#[derive(Debug)]
struct Anchors {
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Anchors {
    fn new(trust: &TrustBundle) -> Result<Self, PkiError> {
        let roots = Arc::new(trust.roots()?);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(|e| PkiError::unusable("the trust bundle", e))?;
        Ok(Self { roots, clients })
    }
}

/// Whether an authority among `roots` signed the certificate; whose it is, the caller checks.
pub(crate) fn verify_server(
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    provider: &CryptoProvider,
    now: UnixTime,
) -> Result<ServerCertVerified, Error> {
    let parsed = ParsedCertificate::try_from(certificate)?;
    let algorithms = provider.signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms)?;
    Ok(ServerCertVerified::assertion())
}

/// TLS 1.2 is never offered, so a peer that signs for it is broken or hostile.
pub(crate) fn refuse_tls12() -> Error {
    PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into()
}

impl ServerCertVerifier for Trusted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let anchors = self.anchors.load();
        verify_server(
            end_entity,
            intermediates,
            &anchors.roots,
            &self.provider,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

impl ClientCertVerifier for Trusted {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Every node has one certificate, so there is nothing to choose by a hint.
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let anchors = self.anchors.load();
        anchors
            .clients
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(refuse_tls12())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}
