//! TLS of a node that joins: it has no certificate yet, and knows the cluster by its token only.

use crate::node_tls::{ALPN, EnvTime, provider, refuse_tls12, verify_server};
use crate::{Fingerprint, JoinToken, PkiError, peer_identity};
use floeberg_env::Clock;
use floeberg_types::ClusterId;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use std::sync::Arc;

/// A configuration that trusts nobody but nodes of the token's cluster, with a certificate of an
/// authority whose fingerprint is in the token.
///
/// # Errors
/// If TLS cannot be set up.
pub fn join_config(
    token: &JoinToken,
    clock: Arc<dyn Clock>,
) -> Result<Arc<ClientConfig>, PkiError> {
    let pinned = Pinned {
        cluster: token.cluster(),
        authorities: token.authorities().to_vec(),
        provider: provider(),
    };
    let mut config = ClientConfig::builder_with_details(provider(), Arc::new(EnvTime(clock)))
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| PkiError::unusable("the TLS configuration", e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(pinned))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_sni = false;
    Ok(Arc::new(config))
}

#[derive(Debug)]
struct Pinned {
    cluster: ClusterId,
    authorities: Vec<Fingerprint>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    /// Nodes send their authority's certificate along, which the token tells from others.
    fn roots(&self, sent: &[CertificateDer<'_>]) -> Result<RootCertStore, Error> {
        let mut roots = RootCertStore::empty();
        for certificate in sent {
            let known = Fingerprint::of(certificate).is_ok_and(|f| self.authorities.contains(&f));
            if known {
                roots.add(certificate.clone().into_owned())?;
            }
        }
        if roots.is_empty() {
            return Err(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        }
        Ok(roots)
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.roots(intermediates)?;
        let verified = verify_server(end_entity, intermediates, &roots, &self.provider, now)?;
        match peer_identity(end_entity) {
            Ok((cluster, _)) if cluster == self.cluster => Ok(verified),
            _ => Err(Error::InvalidCertificate(CertificateError::NotValidForName)),
        }
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
