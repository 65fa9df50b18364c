//! The checksum kinds of the S3 protocol (`x-amz-checksum-*`).

use base64::prelude::{BASE64_STANDARD, Engine};
use bytes::Bytes;
use std::fmt;
use std::str::FromStr;

/// An algorithm of the S3 API's flexible checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChecksumAlgorithm {
    /// CRC-32 (ISO-HDLC), 4 bytes.
    Crc32,
    /// CRC-32C (Castagnoli), 4 bytes.
    Crc32c,
    /// CRC-64/NVME, 8 bytes; what is computed when a client names none.
    Crc64Nvme,
    /// SHA-1, 20 bytes.
    Sha1,
    /// SHA-256, 32 bytes.
    Sha256,
}

impl ChecksumAlgorithm {
    /// Every algorithm, in the order of their stored ids.
    pub const ALL: [Self; 5] = [
        Self::Crc32,
        Self::Crc32c,
        Self::Crc64Nvme,
        Self::Sha1,
        Self::Sha256,
    ];

    /// The name in `x-amz-checksum-algorithm`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Crc32 => "CRC32",
            Self::Crc32c => "CRC32C",
            Self::Crc64Nvme => "CRC64NVME",
            Self::Sha1 => "SHA1",
            Self::Sha256 => "SHA256",
        }
    }

    /// Length of a value in bytes.
    #[must_use]
    pub const fn len(self) -> usize {
        match self {
            Self::Crc32 | Self::Crc32c => 4,
            Self::Crc64Nvme => 8,
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    /// Never true: no algorithm has empty values.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Stored id; append-only.
    #[must_use]
    pub const fn id(self) -> u32 {
        match self {
            Self::Crc32 => 1,
            Self::Crc32c => 2,
            Self::Crc64Nvme => 3,
            Self::Sha1 => 4,
            Self::Sha256 => 5,
        }
    }

    /// The algorithm with a stored id.
    #[must_use]
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.id() == id)
    }
}

impl fmt::Display for ChecksumAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ChecksumAlgorithm {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL
            .into_iter()
            .find(|a| a.as_str().eq_ignore_ascii_case(text))
            .ok_or(())
    }
}

/// Over what a multipart object's checksum was computed (`x-amz-checksum-type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumKind {
    /// Over the whole object's bytes.
    FullObject,
    /// Over the concatenated checksums of the parts.
    Composite,
}

/// A checksum value of the right length for its algorithm.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Checksum {
    algorithm: ChecksumAlgorithm,
    value: Bytes,
}

impl Checksum {
    /// `None` if the value has the wrong length.
    #[must_use]
    pub fn new(algorithm: ChecksumAlgorithm, value: impl Into<Bytes>) -> Option<Self> {
        let value = value.into();
        (value.len() == algorithm.len()).then_some(Self { algorithm, value })
    }

    /// Decodes the base64 form of the S3 headers; `None` if it is malformed.
    #[must_use]
    pub fn from_base64(algorithm: ChecksumAlgorithm, text: &str) -> Option<Self> {
        Self::new(algorithm, BASE64_STANDARD.decode(text).ok()?)
    }

    /// The algorithm.
    #[must_use]
    pub const fn algorithm(&self) -> ChecksumAlgorithm {
        self.algorithm
    }

    /// The raw value, big-endian for the CRCs.
    #[must_use]
    pub const fn value(&self) -> &Bytes {
        &self.value
    }

    /// The form of the S3 headers.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64_STANDARD.encode(&self.value)
    }
}

impl fmt::Debug for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.to_base64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_round_trip() {
        for algorithm in ChecksumAlgorithm::ALL {
            assert_eq!(ChecksumAlgorithm::from_id(algorithm.id()), Some(algorithm));
            assert_eq!(algorithm.as_str().to_lowercase().parse(), Ok(algorithm));
            let value = Checksum::new(algorithm, vec![9; algorithm.len()]).unwrap();
            assert_eq!(
                Checksum::from_base64(algorithm, &value.to_base64()),
                Some(value)
            );
            assert_eq!(Checksum::new(algorithm, vec![9; algorithm.len() + 1]), None);
        }
    }
}
