//! Reads what we need of a certificate. Signatures are never checked here: that is rustls's part.

use crate::PkiError;
use floeberg_types::TimestampMs;
use yasna::models::ObjectIdentifier;
use yasna::tags::{TAG_GENERALIZEDTIME, TAG_UTCTIME};
use yasna::{ASN1Error, ASN1ErrorKind, ASN1Result, BERReader, BERReaderSeq, Tag};

const COMMON_NAME: &[u64] = &[2, 5, 4, 3];
const ALTERNATIVE_NAMES: &[u64] = &[2, 5, 29, 17];
const BASIC_CONSTRAINTS: &[u64] = &[2, 5, 29, 19];

/// The tag of a URI among alternative names.
const URI: u64 = 6;

/// The parts of a certificate that we look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    pub(crate) valid_from: TimestampMs,
    pub(crate) valid_until: TimestampMs,
    /// The public key with its algorithm, as it stands in the certificate.
    pub(crate) key_info: Vec<u8>,
    pub(crate) common_name: Option<String>,
    pub(crate) uris: Vec<String>,
    pub(crate) is_authority: bool,
}

impl Certificate {
    pub(crate) fn read(der: &[u8]) -> Result<Self, PkiError> {
        yasna::parse_der(der, |certificate| {
            certificate.read_sequence(|parts| {
                let read = parts.next().read_sequence(read_body)?;
                // The signature and its algorithm.
                parts.next().read_der()?;
                parts.next().read_der()?;
                Ok(read)
            })
        })
        .map_err(|e| PkiError::unusable("the certificate", e))
    }
}

fn read_body(body: &mut BERReaderSeq<'_, '_>) -> ASN1Result<Certificate> {
    body.read_optional(|version| version.read_tagged(Tag::context(0), |v| v.read_u8()))?;
    // Serial number, algorithm and issuer.
    for _ in 0..3 {
        body.next().read_der()?;
    }
    let (valid_from, valid_until) = body
        .next()
        .read_sequence(|times| Ok((read_time(times.next())?, read_time(times.next())?)))?;
    let mut certificate = Certificate {
        valid_from,
        valid_until,
        common_name: read_common_name(body.next())?,
        key_info: body.next().read_der()?,
        uris: Vec::new(),
        is_authority: false,
    };
    body.read_optional(|extensions| {
        extensions.read_tagged(Tag::context(3), |extensions| {
            extensions.read_sequence_of(|extension| read_extension(extension, &mut certificate))
        })
    })?;
    Ok(certificate)
}

fn read_time(time: BERReader<'_, '_>) -> ASN1Result<TimestampMs> {
    let tag = time.lookahead_tag()?;
    let at = if tag == TAG_UTCTIME {
        *time.read_utctime()?.datetime()
    } else if tag == TAG_GENERALIZEDTIME {
        *time.read_generalized_time()?.datetime()
    } else {
        return Err(ASN1Error::new(ASN1ErrorKind::Invalid));
    };
    Ok(TimestampMs(at.unix_timestamp().saturating_mul(1000)))
}

fn read_common_name(subject: BERReader<'_, '_>) -> ASN1Result<Option<String>> {
    let mut found = None;
    subject.read_sequence_of(|names| {
        names.read_set_of(|name| {
            name.read_sequence(|pair| {
                let kind = pair.next().read_oid()?;
                let value = pair.next().read_der()?;
                if kind == ObjectIdentifier::from_slice(COMMON_NAME) {
                    // Names of another string type are not ours.
                    found = yasna::parse_der(&value, |text| text.read_utf8string()).ok();
                }
                Ok(())
            })
        })
    })?;
    Ok(found)
}

fn read_extension(extension: BERReader<'_, '_>, into: &mut Certificate) -> ASN1Result<()> {
    extension.read_sequence(|parts| {
        let kind = parts.next().read_oid()?;
        parts.read_default(false, |critical| critical.read_bool())?;
        let value = parts.next().read_bytes()?;
        if kind == ObjectIdentifier::from_slice(ALTERNATIVE_NAMES) {
            into.uris = yasna::parse_der(&value, read_uris)?;
        } else if kind == ObjectIdentifier::from_slice(BASIC_CONSTRAINTS) {
            into.is_authority = yasna::parse_der(&value, |constraints| {
                constraints.read_sequence(|parts| {
                    let authority = parts.read_default(false, |is| is.read_bool())?;
                    parts.read_optional(|path_length| path_length.read_u8())?;
                    Ok(authority)
                })
            })?;
        }
        Ok(())
    })
}

fn read_uris(names: BERReader<'_, '_>) -> ASN1Result<Vec<String>> {
    let mut uris = Vec::new();
    names.read_sequence_of(|name| {
        if name.lookahead_tag()? == Tag::context(URI) {
            let uri = name.read_tagged_implicit(Tag::context(URI), |uri| uri.read_ia5_string())?;
            uris.push(uri);
        } else {
            name.read_der()?;
        }
        Ok(())
    })?;
    Ok(uris)
}
