//! The `x-amz-checksum-*` fields of requests and answers.

use floeberg_objects::{StoredChecksum, TrailerReader};
use floeberg_types::{Checksum, ChecksumAlgorithm, ChecksumKind};
use http::HeaderMap;
use s3s::dto::{ChecksumAlgorithm as DtoAlgorithm, ChecksumType};
use s3s::{S3Error, S3ErrorCode, S3Result, TrailingHeaders};

fn invalid(why: impl Into<String>) -> S3Error {
    S3Error::with_message(S3ErrorCode::InvalidRequest, why.into())
}

/// The one checksum among the fields of a request.
pub(crate) fn one_of(fields: [(ChecksumAlgorithm, Option<&str>); 5]) -> S3Result<Option<Checksum>> {
    let mut found = None;
    for (algorithm, value) in fields {
        let Some(text) = value else { continue };
        let checksum = Checksum::from_base64(algorithm, text).ok_or_else(|| {
            invalid(format!("the value of x-amz-checksum-{algorithm} is malformed").to_lowercase())
        })?;
        if found.replace(checksum).is_some() {
            return Err(invalid("more than one x-amz-checksum header was sent"));
        }
    }
    Ok(found)
}

/// The checksum fields of an input, and a refusal of algorithms that are not offered.
macro_rules! sent_checksum {
    ($input:expr) => {{
        let input = &$input;
        let others = [
            input.checksum_md5.is_some(),
            input.checksum_sha512.is_some(),
            input.checksum_xxhash64.is_some(),
            input.checksum_xxhash3.is_some(),
            input.checksum_xxhash128.is_some(),
        ];
        if others.contains(&true) {
            Err($crate::checksums::unsupported())
        } else {
            $crate::checksums::one_of([
                (
                    floeberg_types::ChecksumAlgorithm::Crc32,
                    input.checksum_crc32.as_deref(),
                ),
                (
                    floeberg_types::ChecksumAlgorithm::Crc32c,
                    input.checksum_crc32c.as_deref(),
                ),
                (
                    floeberg_types::ChecksumAlgorithm::Crc64Nvme,
                    input.checksum_crc64nvme.as_deref(),
                ),
                (
                    floeberg_types::ChecksumAlgorithm::Sha1,
                    input.checksum_sha1.as_deref(),
                ),
                (
                    floeberg_types::ChecksumAlgorithm::Sha256,
                    input.checksum_sha256.as_deref(),
                ),
            ])
        }
    }};
}

/// Puts a checksum into the field of an output that belongs to its algorithm.
macro_rules! put_checksum {
    ($output:expr, $checksum:expr) => {{
        let checksum: &floeberg_types::Checksum = $checksum;
        let text = Some(checksum.to_base64());
        match checksum.algorithm() {
            floeberg_types::ChecksumAlgorithm::Crc32 => $output.checksum_crc32 = text,
            floeberg_types::ChecksumAlgorithm::Crc32c => $output.checksum_crc32c = text,
            floeberg_types::ChecksumAlgorithm::Crc64Nvme => $output.checksum_crc64nvme = text,
            floeberg_types::ChecksumAlgorithm::Sha1 => $output.checksum_sha1 = text,
            floeberg_types::ChecksumAlgorithm::Sha256 => $output.checksum_sha256 = text,
        }
    }};
}

pub(crate) use {put_checksum, sent_checksum};

pub(crate) fn unsupported() -> S3Error {
    S3Error::with_message(
        S3ErrorCode::NotImplemented,
        "offered checksums are CRC32, CRC32C, CRC64NVME, SHA1 and SHA256",
    )
}

pub(crate) fn algorithm(name: Option<&DtoAlgorithm>) -> S3Result<Option<ChecksumAlgorithm>> {
    name.map(|name| name.as_str().parse().map_err(|()| unsupported()))
        .transpose()
}

pub(crate) fn kind(name: Option<&ChecksumType>) -> S3Result<Option<ChecksumKind>> {
    match name.map(ChecksumType::as_str) {
        None => Ok(None),
        Some(ChecksumType::COMPOSITE) => Ok(Some(ChecksumKind::Composite)),
        Some(ChecksumType::FULL_OBJECT) => Ok(Some(ChecksumKind::FullObject)),
        Some(other) => Err(invalid(format!("`{other}` is not a checksum type"))),
    }
}

pub(crate) fn kind_dto(kind: ChecksumKind) -> ChecksumType {
    ChecksumType::from_static(match kind {
        ChecksumKind::Composite => ChecksumType::COMPOSITE,
        ChecksumKind::FullObject => ChecksumType::FULL_OBJECT,
    })
}

pub(crate) fn algorithm_dto(algorithm: ChecksumAlgorithm) -> DtoAlgorithm {
    DtoAlgorithm::from_static(algorithm.as_str())
}

/// The checksum that a request announces in its trailer (`x-amz-trailer`).
pub(crate) fn announced(
    headers: &HeaderMap,
    trailers: Option<&TrailingHeaders>,
) -> S3Result<Option<(ChecksumAlgorithm, TrailerReader)>> {
    let Some(names) = headers.get("x-amz-trailer") else {
        return Ok(None);
    };
    let names = names
        .to_str()
        .map_err(|_| invalid("x-amz-trailer is malformed"))?;
    let mut found = None;
    for name in names
        .split(',')
        .map(|name| name.trim().to_ascii_lowercase())
    {
        let Some(algorithm) = name.strip_prefix("x-amz-checksum-") else {
            continue;
        };
        let algorithm: ChecksumAlgorithm = algorithm.parse().map_err(|()| unsupported())?;
        let handle = trailers.cloned();
        let read: TrailerReader = Box::new(move || {
            handle?.read(|trailer| {
                trailer
                    .get(&name)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned)
            })?
        });
        if found.replace((algorithm, read)).is_some() {
            return Err(invalid("more than one checksum was announced as trailer"));
        }
    }
    Ok(found)
}

/// Composite values carry the number of parts, as S3 shows them.
pub(crate) fn shown(checksum: &StoredChecksum, parts: u32) -> (Option<String>, ChecksumKind) {
    let text = checksum.value.to_base64();
    let text = match checksum.kind {
        ChecksumKind::Composite => format!("{text}-{parts}"),
        ChecksumKind::FullObject => text,
    };
    (Some(text), checksum.kind)
}

/// Puts an object's checksum and its kind into an output.
macro_rules! put_stored_checksum {
    ($output:expr, $checksum:expr, $parts:expr) => {{
        let checksum: &floeberg_objects::StoredChecksum = $checksum;
        let (text, kind) = $crate::checksums::shown(checksum, $parts);
        match checksum.value.algorithm() {
            floeberg_types::ChecksumAlgorithm::Crc32 => $output.checksum_crc32 = text,
            floeberg_types::ChecksumAlgorithm::Crc32c => $output.checksum_crc32c = text,
            floeberg_types::ChecksumAlgorithm::Crc64Nvme => $output.checksum_crc64nvme = text,
            floeberg_types::ChecksumAlgorithm::Sha1 => $output.checksum_sha1 = text,
            floeberg_types::ChecksumAlgorithm::Sha256 => $output.checksum_sha256 = text,
        }
        $output.checksum_type = Some($crate::checksums::kind_dto(kind));
    }};
}

pub(crate) use put_stored_checksum;

/// A multipart checksum that a client repeats may carry the number of parts behind a hyphen.
pub(crate) fn without_parts(text: Option<&str>) -> Option<&str> {
    text.map(|text| text.split_once('-').map_or(text, |(value, _)| value))
}
