//! The checksums of a body, computed while it streams, and those of a multipart object.

use crc_fast::{CrcAlgorithm, Digest as Crc};
use floeberg_types::{Checksum, ChecksumAlgorithm, ChecksumKind};
use md5::{Digest as _, Md5};
use sha1::Sha1;
use sha2::Sha256;

/// One running S3 checksum.
enum Hasher {
    Crc(Box<Crc>),
    Sha1(Box<Sha1>),
    Sha256(Box<Sha256>),
}

const fn crc(algorithm: ChecksumAlgorithm) -> Option<CrcAlgorithm> {
    match algorithm {
        ChecksumAlgorithm::Crc32 => Some(CrcAlgorithm::Crc32IsoHdlc),
        ChecksumAlgorithm::Crc32c => Some(CrcAlgorithm::Crc32Iscsi),
        ChecksumAlgorithm::Crc64Nvme => Some(CrcAlgorithm::Crc64Nvme),
        ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256 => None,
    }
}

/// The big-endian value of a CRC, as wide as the algorithm.
fn crc_checksum(algorithm: ChecksumAlgorithm, value: u64) -> Checksum {
    let bytes = value.to_be_bytes();
    Checksum::new(algorithm, bytes[8 - algorithm.len()..].to_vec())
        .expect("the tail of a 64-bit CRC has the algorithm's width")
}

fn crc_value(checksum: &Checksum) -> u64 {
    let tail = checksum.value();
    let mut bytes = [0; 8];
    bytes[8 - tail.len()..].copy_from_slice(tail);
    u64::from_be_bytes(bytes)
}

impl Hasher {
    fn new(algorithm: ChecksumAlgorithm) -> Self {
        match (crc(algorithm), algorithm) {
            (Some(crc), _) => Self::Crc(Box::new(Crc::new(crc))),
            (None, ChecksumAlgorithm::Sha1) => Self::Sha1(Box::default()),
            (None, _) => Self::Sha256(Box::default()),
        }
    }

    fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Crc(crc) => crc.update(bytes),
            Self::Sha1(sha) => sha.update(bytes),
            Self::Sha256(sha) => sha.update(bytes),
        }
    }

    fn finish(self, algorithm: ChecksumAlgorithm) -> Checksum {
        match self {
            Self::Crc(crc) => crc_checksum(algorithm, crc.finalize()),
            Self::Sha1(sha) => Checksum::new(algorithm, sha.finalize().to_vec())
                .expect("a SHA-1 has the algorithm's width"),
            Self::Sha256(sha) => Checksum::new(algorithm, sha.finalize().to_vec())
                .expect("a SHA-256 has the algorithm's width"),
        }
    }
}

/// Everything computed over a body: MD5 for the ETag, CRC-64/NVME for ourselves, and what was asked.
pub(crate) struct Digests {
    md5: Md5,
    crc64: Crc,
    asked: Vec<(ChecksumAlgorithm, Hasher)>,
}

/// The values of [`Digests`] once the body has ended.
#[derive(Clone, Debug)]
pub(crate) struct DigestValues {
    pub(crate) md5: [u8; 16],
    pub(crate) crc64: u64,
    asked: Vec<Checksum>,
}

impl Digests {
    /// Computes each algorithm once, however often it is asked for.
    pub(crate) fn new(algorithms: impl IntoIterator<Item = ChecksumAlgorithm>) -> Self {
        let mut asked: Vec<(ChecksumAlgorithm, Hasher)> = Vec::new();
        for algorithm in algorithms {
            let known = asked.iter().any(|(a, _)| *a == algorithm);
            if algorithm != ChecksumAlgorithm::Crc64Nvme && !known {
                asked.push((algorithm, Hasher::new(algorithm)));
            }
        }
        Self {
            md5: Md5::new(),
            crc64: Crc::new(CrcAlgorithm::Crc64Nvme),
            asked,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        self.md5.update(bytes);
        self.crc64.update(bytes);
        for (_, hasher) in &mut self.asked {
            hasher.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> DigestValues {
        DigestValues {
            md5: self.md5.finalize().into(),
            crc64: self.crc64.finalize(),
            asked: self.asked.into_iter().map(|(a, h)| h.finish(a)).collect(),
        }
    }
}

impl DigestValues {
    /// The value in an algorithm that was asked for; CRC-64/NVME always is.
    pub(crate) fn checksum(&self, algorithm: ChecksumAlgorithm) -> Option<Checksum> {
        if algorithm == ChecksumAlgorithm::Crc64Nvme {
            return Some(crc64_checksum(self.crc64));
        }
        self.asked
            .iter()
            .find(|c| c.algorithm() == algorithm)
            .cloned()
    }
}

/// A CRC-64/NVME in the form of the S3 headers.
pub(crate) fn crc64_checksum(value: u64) -> Checksum {
    crc_checksum(ChecksumAlgorithm::Crc64Nvme, value)
}

/// The ETag of an object put in one request.
pub(crate) fn plain_etag(md5: &[u8; 16]) -> String {
    hex::encode(md5)
}

/// The ETag of a multipart object: the MD5 of the parts' MD5s and their number.
pub(crate) fn multipart_etag<'a>(parts: impl ExactSizeIterator<Item = &'a [u8]>) -> String {
    let count = parts.len();
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    format!("{}-{count}", hex::encode(md5.finalize()))
}

/// What a multipart upload can ask for (S3 "Checking object integrity": the SHAs cannot be combined
/// over parts, and CRC-64/NVME is always over the whole object).
pub(crate) const fn supports(algorithm: ChecksumAlgorithm, kind: ChecksumKind) -> bool {
    match (algorithm, kind) {
        (ChecksumAlgorithm::Crc32 | ChecksumAlgorithm::Crc32c, _) => true,
        (ChecksumAlgorithm::Crc64Nvme, kind) => matches!(kind, ChecksumKind::FullObject),
        (ChecksumAlgorithm::Sha1 | ChecksumAlgorithm::Sha256, kind) => {
            matches!(kind, ChecksumKind::Composite)
        }
    }
}

/// The kind a multipart upload gets when it names an algorithm only.
pub(crate) const fn default_kind(algorithm: ChecksumAlgorithm) -> ChecksumKind {
    match algorithm {
        ChecksumAlgorithm::Crc64Nvme => ChecksumKind::FullObject,
        _ => ChecksumKind::Composite,
    }
}

/// The checksum over the parts' checksums.
pub(crate) fn composite<'a>(
    algorithm: ChecksumAlgorithm,
    parts: impl Iterator<Item = &'a Checksum>,
) -> Checksum {
    let mut hasher = Hasher::new(algorithm);
    for part in parts {
        hasher.update(part.value());
    }
    hasher.finish(algorithm)
}

/// The CRC of the whole object from those of its parts and their lengths; `None` for the SHAs.
pub(crate) fn full_object<'a>(
    algorithm: ChecksumAlgorithm,
    parts: impl Iterator<Item = (&'a Checksum, u64)>,
) -> Option<Checksum> {
    let crc = crc(algorithm)?;
    let mut total = crc_fast::checksum(crc, &[]);
    for (part, len) in parts {
        total = crc_fast::checksum_combine(crc, total, crc_value(part), len);
    }
    Some(crc_checksum(algorithm, total))
}

/// The CRC-64/NVME of concatenated runs.
pub(crate) fn combine_crc64(parts: impl Iterator<Item = (u64, u64)>) -> u64 {
    let mut total = crc_fast::checksum(CrcAlgorithm::Crc64Nvme, &[]);
    for (crc, len) in parts {
        total = crc_fast::checksum_combine(CrcAlgorithm::Crc64Nvme, total, crc, len);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn digest(bytes: &[u8]) -> DigestValues {
        let mut digests = Digests::new(ChecksumAlgorithm::ALL);
        digests.update(bytes);
        digests.finish()
    }

    /// Values of the CRC catalogue's check string and of common tools.
    #[test]
    fn check_values() {
        let values = digest(b"123456789");
        let hex_of = |a| hex::encode(values.checksum(a).unwrap().value());
        assert_eq!(hex_of(ChecksumAlgorithm::Crc32), "cbf43926");
        assert_eq!(hex_of(ChecksumAlgorithm::Crc32c), "e3069283");
        assert_eq!(hex_of(ChecksumAlgorithm::Crc64Nvme), "ae8b14860a799888");
        assert_eq!(
            hex_of(ChecksumAlgorithm::Sha1),
            "f7c3bc1d808e04732adf679965ccc34ca7ae3441"
        );
        assert_eq!(plain_etag(&values.md5), "25f9e794323b453885f5181f1b624d0b");
        assert_eq!(
            plain_etag(&digest(b"").md5),
            "d41d8cd98f00b204e9800998ecf8427e"
        );
    }

    /// The 1000 bytes `q` as pyarrow sends them in a part, with the trailer it computed.
    #[test]
    fn a_captured_trailer_value() {
        let values = digest(&[b'q'; 1000]);
        let crc64 = values.checksum(ChecksumAlgorithm::Crc64Nvme).unwrap();
        assert_eq!(crc64.to_base64(), "KeKB2VId1FU=");
    }

    proptest! {
        #[test]
        fn part_crcs_combine_to_the_crc_of_the_whole(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 0..6)
        ) {
            let whole = digest(&parts.concat());
            let each: Vec<_> = parts.iter().map(|p| (digest(p), p.len() as u64)).collect();
            for algorithm in [
                ChecksumAlgorithm::Crc32, ChecksumAlgorithm::Crc32c, ChecksumAlgorithm::Crc64Nvme,
            ] {
                let sums: Vec<_> =
                    each.iter().map(|(d, len)| (d.checksum(algorithm).unwrap(), *len)).collect();
                prop_assert_eq!(
                    full_object(algorithm, sums.iter().map(|(c, len)| (c, *len))),
                    whole.checksum(algorithm)
                );
            }
            prop_assert_eq!(combine_crc64(each.iter().map(|(d, l)| (d.crc64, *l))), whole.crc64);
        }
    }
}
