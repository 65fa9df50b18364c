//! A metadata file that a client wrote, read and checked as far as no table is needed for that.

use super::weigh::{self, Measured};
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
use floeberg_env::{Held, Peer, SHARE_PATIENCE};
use floeberg_iceberg::{MAX_CLOCK_SKEW_MS, TableMetadata};
use floeberg_metastore::Cx;
use floeberg_types::{BucketId, BucketName, TimestampMs};
use std::io::Read as _;
use std::pin::Pin;

/// Largest metadata document taken over, unpacked.
const METADATA_FILE_MAX: u64 = floeberg_types::limits::METADATA_FILE_BYTES as u64;

/// Reads metadata files that clients wrote as objects.
#[async_trait]
pub trait MetadataReader: Send + Sync + 'static {
    /// Finds an object, of which nothing is read yet.
    async fn find(&self, bucket: BucketId, key: &str) -> Result<FoundFile, ReadMetadataError>;
}

/// A metadata file that is there.
pub struct FoundFile {
    /// How many bytes it has.
    pub len: u64,
    /// Reads them; whoever does so has made room for them.
    pub bytes: Pin<Box<dyn Future<Output = Result<Bytes, Outage>> + Send>>,
}

/// Why a metadata file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadMetadataError {
    /// There is no such object.
    #[error("the object does not exist")]
    NotFound,
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
    /// Room for all of this, for as long as anybody works on it.
    pub(super) _held: Held,
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

fn unpack(packed: &[u8], bytes: usize) -> Result<Vec<u8>, String> {
    // Exactly what was measured: room that doubles would take more than is held.
    let mut out = Vec::with_capacity(bytes);
    let mut reader = flate2::read::GzDecoder::new(packed).take(bytes as u64);
    reader
        .read_to_end(&mut out)
        .map_err(|e| format!("not a gzip file: {e}"))?;
    Ok(out)
}

fn parse(file: Bytes, is_packed: bool, measured: Measured) -> Result<TableMetadata, String> {
    let document = match is_packed {
        true => Bytes::from(unpack(&file, measured.bytes)?),
        false => file,
    };
    admit::document(&document)
}

/// A file that was read, and room for what becomes of it.
struct Read {
    bytes: Bytes,
    measured: Measured,
    held: Held,
}

impl Catalog {
    pub(super) async fn read_file(
        &self,
        cx: &Cx,
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
        let found = self.found_file(cx.caller, bucket.id, path.as_str()).await;
        let found = found.map_err(|e| match e {
            ReadMetadataError::NotFound => FileError::Missing(NoSuchMetadataFile {
                location: uri.to_owned(),
            }),
            ReadMetadataError::Outage(outage) => FileError::Outage(outage),
        })?;
        if found.len > METADATA_FILE_MAX {
            let len = found.len;
            return Err(invalid(format!(
                "it has {len} bytes, more than {METADATA_FILE_MAX}; expire snapshots or remove old schemas first"
            )));
        }
        let is_packed = path.as_str().ends_with(".gz");
        let read = self.measured(cx, found, is_packed).await;
        let Read {
            bytes,
            measured,
            held,
        } = read.map_err(FileError::Outage)?.map_err(invalid)?;
        // The room goes with the work, which ends after whoever waited for it may have left.
        let work = move || (parse(bytes, is_packed, measured), held);
        let (parsed, held) = self.step(work).await.map_err(FileError::Outage)?;
        let metadata = parsed.map_err(invalid)?;
        location::check_properties(&bucket.name, &metadata).map_err(FileError::Property)?;
        let table_path = publish::path_of(&bucket.name, &metadata).map_err(FileError::Location)?;
        Ok(File {
            location: uri.to_owned(),
            key: path.as_str().to_owned(),
            is_small: self.is_small(&metadata),
            metadata,
            path: table_path,
            _held: held,
        })
    }

    /// Reads a file once there is room for it, and makes room for what becomes of it.
    async fn measured(
        &self,
        cx: &Cx,
        found: FoundFile,
        is_packed: bool,
    ) -> Result<Result<Read, String>, Outage> {
        let expected = weigh::expected(found.len);
        let held = self
            .inner
            .files_held
            .hold(cx.caller, expected, SHARE_PATIENCE);
        let held = held.await?;
        let bytes = found.bytes.await?;
        let work = move || (Measured::of(&bytes, is_packed), bytes, held);
        let (measured, bytes, mut held) = self.step(work).await?;
        let measured = match measured {
            Ok(measured) => measured,
            Err(detail) => return Ok(Err(detail)),
        };
        held.resize(measured.weight(), SHARE_PATIENCE).await?;
        Ok(Ok(Read {
            bytes,
            measured,
            held,
        }))
    }

    /// A metadata file, of which nothing is read yet: rendered, if it is one of the catalog's own.
    async fn found_file(
        &self,
        caller: Peer,
        bucket: BucketId,
        key: &str,
    ) -> Result<FoundFile, ReadMetadataError> {
        let Some(own) = self.metadata_file(bucket, key).await? else {
            return self.inner.files.find(bucket, key).await;
        };
        let catalog = self.clone();
        Ok(FoundFile {
            len: own.entry.len,
            bytes: Box::pin(async move { catalog.render_metadata_file(caller, &own).await }),
        })
    }
}
