//! A metadata file that a client wrote, read and checked as far as no table is needed for that.

use super::{RegisterTableError, UpdateMetadataLocationError};
use crate::buckets::BucketInfo;
use crate::errors::{
    InvalidLocation, InvalidMetadata, InvalidProperty, LocationRule, NoSuchMetadataFile, Outage,
};
use crate::location::{self, Path};
use crate::publish::{self, Content, Parts};
use crate::{Catalog, admit};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_iceberg::{MAX_CLOCK_SKEW_MS, TableMetadata};
use floeberg_types::{BucketId, BucketName, TimestampMs};
use std::io::Read as _;

/// Largest metadata document taken over, unpacked.
const METADATA_FILE_MAX: u64 = floeberg_types::limits::METADATA_FILE_BYTES as u64;

/// Reads metadata files that clients wrote as objects.
#[async_trait]
pub trait MetadataReader: Send + Sync + 'static {
    /// The bytes of an object of at most `limit` bytes.
    async fn read(
        &self,
        bucket: BucketId,
        key: &str,
        limit: u64,
    ) -> Result<Bytes, ReadMetadataError>;
}

/// Why a metadata file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadMetadataError {
    /// There is no such object.
    #[error("the object does not exist")]
    NotFound,
    /// It has more bytes than asked for.
    #[error("the object has {len} bytes")]
    TooLarge {
        /// Its length.
        len: u64,
    },
    /// The objects could not be reached.
    #[error(transparent)]
    Outage(#[from] Outage),
}

/// A metadata file that passed every check that needs no table.
pub(super) struct File {
    pub(super) location: String,
    pub(super) key: String,
    pub(super) metadata: TableMetadata,
    /// The location it gives its table.
    pub(super) path: Path,
    /// Whether it may be compared within a decision.
    pub(super) is_small: bool,
}

pub(super) enum FileError {
    Location(InvalidLocation),
    Property(InvalidProperty),
    Missing(NoSuchMetadataFile),
    Invalid(InvalidMetadata),
    Outage(Outage),
}

macro_rules! from_file_error {
    ($($error:ident),*) => {$(
        impl From<FileError> for $error {
            fn from(error: FileError) -> Self {
                match error {
                    FileError::Location(e) => e.into(),
                    FileError::Property(e) => e.into(),
                    FileError::Missing(e) => e.into(),
                    FileError::Invalid(e) => e.into(),
                    FileError::Outage(e) => e.into(),
                }
            }
        }
    )*};
}

from_file_error!(RegisterTableError, UpdateMetadataLocationError);

impl File {
    pub(super) fn invalid(&self, detail: String) -> InvalidMetadata {
        InvalidMetadata {
            location: self.location.clone(),
            detail,
        }
    }

    /// A document from the future would make every later snapshot run backwards.
    pub(super) fn check_time(&self, now: TimestampMs) -> Result<(), InvalidMetadata> {
        let updated = self.metadata.last_updated_ms();
        if updated > now.plus_ms(MAX_CLOCK_SKEW_MS).0 {
            let detail = format!("last-updated-ms {updated} is after the server's time {now}");
            return Err(self.invalid(detail));
        }
        Ok(())
    }

    pub(super) fn content<'a>(&'a self, parts: Parts<'a>) -> Content<'a> {
        Content {
            metadata: &self.metadata,
            parts,
            external_key: Some(&self.key),
            seen: 0,
        }
    }
}

/// The key of a metadata file, by its URI.
pub(super) fn file_path(bucket: &BucketName, uri: &str) -> Result<Path, InvalidLocation> {
    let path = location::parse(bucket, uri)?;
    let name = path.as_str();
    if !name.ends_with(".metadata.json") && !name.ends_with(".metadata.json.gz") {
        let rule = LocationRule::MetadataSuffix;
        return Err(InvalidLocation {
            location: uri.to_owned(),
            rule,
        });
    }
    Ok(path)
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    let limit = METADATA_FILE_MAX + 1;
    let mut reader = flate2::read::GzDecoder::new(packed).take(limit);
    reader
        .read_to_end(&mut out)
        .map_err(|e| format!("not a gzip file: {e}"))?;
    if out.len() as u64 == limit {
        return Err(format!("it unpacks to more than {METADATA_FILE_MAX} bytes"));
    }
    Ok(out)
}

fn parse(bytes: Bytes, is_packed: bool) -> Result<TableMetadata, String> {
    let document = match is_packed {
        true => Bytes::from(unpack(&bytes)?),
        false => bytes,
    };
    admit::document(&document)
}

impl Catalog {
    pub(super) async fn read_file(
        &self,
        bucket: &BucketInfo,
        uri: &str,
    ) -> Result<File, FileError> {
        let path = file_path(&bucket.name, uri).map_err(FileError::Location)?;
        let invalid = |detail| {
            FileError::Invalid(InvalidMetadata {
                location: uri.to_owned(),
                detail,
            })
        };
        let bytes = self
            .file_bytes(bucket.id, path.as_str())
            .await
            .map_err(|e| match e {
                ReadMetadataError::NotFound => FileError::Missing(NoSuchMetadataFile {
                    location: uri.to_owned(),
                }),
                ReadMetadataError::TooLarge { len } => {
                    invalid(format!("it has {len} bytes, more than {METADATA_FILE_MAX}"))
                }
                ReadMetadataError::Outage(outage) => FileError::Outage(outage),
            })?;
        let is_packed = path.as_str().ends_with(".gz");
        let parsed = self.step(move || parse(bytes, is_packed)).await;
        let metadata = parsed.map_err(FileError::Outage)?.map_err(invalid)?;
        location::check_properties(&bucket.name, &metadata).map_err(FileError::Property)?;
        let table_path = publish::path_of(&bucket.name, &metadata).map_err(FileError::Location)?;
        Ok(File {
            location: uri.to_owned(),
            key: path.as_str().to_owned(),
            is_small: self.is_small(&metadata),
            metadata,
            path: table_path,
        })
    }

    /// The bytes of a metadata file: rendered, if it is one of the catalog's own.
    async fn file_bytes(&self, bucket: BucketId, key: &str) -> Result<Bytes, ReadMetadataError> {
        match self.metadata_file(bucket, key).await? {
            Some(own) => Ok(self.render_metadata_file(&own).await?),
            None => self.inner.files.read(bucket, key, METADATA_FILE_MAX).await,
        }
    }
}
