//! The request for a certificate: a public key, and proof that the sender has the private one.

use crate::PkiError;
use crate::node_tls::provider;
use bytes::Bytes;
use floeberg_proto::floeberg::pki::v1 as proto;
use prost::Message as _;
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SignatureAlgorithm, SigningKey as _};
use rustls::SignatureScheme;

const FORMAT: u32 = 1;

/// Signed before the key, so that the signature can mean nothing else.
const PURPOSE: &[u8] = b"floeberg certificate request 1\n";

/// The key of a request whose signature was right.
pub(crate) struct RequestedKey(Bytes);

impl PublicKeyData for RequestedKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

pub(crate) fn write(key: &KeyPair) -> Result<Vec<u8>, PkiError> {
    let public_key = Bytes::copy_from_slice(key.public_key_raw());
    let signature = key
        .sign(&signed(&public_key))
        .map_err(|e| PkiError::unusable("the certificate request", e))?;
    let request = proto::CertificateRequest {
        format: FORMAT,
        public_key,
        signature: signature.into(),
    };
    Ok(request.encode_to_vec())
}

pub(crate) fn read(bytes: &[u8]) -> Result<RequestedKey, PkiError> {
    let unusable = |reason: &str| PkiError::unusable("the certificate request", reason);
    let request = proto::CertificateRequest::decode(bytes)
        .map_err(|_| unusable("it is not a request of this cluster's nodes"))?;
    if request.format != FORMAT {
        return Err(unusable(&format!(
            "it has format {}, this node knows {FORMAT}",
            request.format
        )));
    }
    let algorithms = provider().signature_verification_algorithms;
    let wanted = SignatureScheme::ECDSA_NISTP256_SHA256;
    let (_, algorithms) = algorithms
        .mapping
        .iter()
        .find(|(scheme, _)| *scheme == wanted)
        .expect("ring verifies ECDSA on P-256");
    // The first of the list is the one for keys on P-256 itself.
    algorithms[0]
        .verify_signature(
            &request.public_key,
            &signed(&request.public_key),
            &request.signature,
        )
        .map_err(|_| unusable("its signature is not by its own key"))?;
    Ok(RequestedKey(request.public_key))
}

fn signed(public_key: &[u8]) -> Vec<u8> {
    [PURPOSE, public_key].concat()
}
