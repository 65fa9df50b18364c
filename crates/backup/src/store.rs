//! Where backups are kept: a directory, or a prefix of a bucket of any S3 service.

use crate::retry::patiently;
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_client::{ClientError, Credentials, S3Client};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Why a place for backups failed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A directory.
    #[error("`{path}` cannot be used")]
    Disk {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// An S3 service.
    #[error("the bucket of backups failed at `{key}`")]
    S3 {
        /// The object.
        key: String,
        /// Why.
        #[source]
        source: ClientError,
    },
}

/// A place for the files of one backup.
#[async_trait]
pub trait Store: Send + Sync {
    /// Keeps a file durably, in place of an earlier one.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError>;

    /// A file, if it is there.
    ///
    /// # Errors
    /// See [`StoreError`].
    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError>;
}

/// A directory of this machine.
#[derive(Clone, Debug)]
pub struct DirStore(PathBuf);

impl DirStore {
    /// Below `dir`, which is created when something is put.
    #[must_use]
    pub fn new(dir: &Path) -> Self {
        Self(dir.to_owned())
    }
}

fn sync_dir(dir: &Path) -> io::Result<()> {
    std::fs::File::open(dir)?.sync_all()
}

/// A new directory is durable only once the one above it is synced.
fn make_dir(dir: &Path) -> io::Result<()> {
    let new: Vec<&Path> = dir.ancestors().take_while(|dir| !dir.is_dir()).collect();
    if new.is_empty() {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    let mut above = new.iter().filter_map(|dir| dir.parent());
    above.try_for_each(sync_dir)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make_dir(dir)?;
    let new = path.with_extension("new");
    let mut file = std::fs::File::create(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)?;
    sync_dir(dir)
}

async fn blocking<T: Send + 'static>(
    path: PathBuf,
    work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    let at = path.clone();
    let done = tokio::task::spawn_blocking(move || work(&std::path::absolute(at)?)).await;
    let done = done.unwrap_or_else(|error| Err(io::Error::other(error)));
    done.map_err(|source| StoreError::Disk { path, source })
}

#[async_trait]
impl Store for DirStore {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        blocking(self.0.join(path), move |path| write(path, &bytes)).await
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let read = |path: &Path| match std::fs::read(path) {
            Ok(bytes) => Ok(Some(Bytes::from(bytes))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        blocking(self.0.join(path), read).await
    }
}

/// A prefix of a bucket.
#[derive(Clone, Debug)]
pub struct S3Store {
    client: S3Client,
    bucket: String,
    prefix: String,
}

impl S3Store {
    /// Below `prefix` of a bucket that exists, at the service `uri`.
    ///
    /// # Errors
    /// The client does not speak to such an address.
    pub fn new(
        uri: &str,
        credentials: Credentials,
        region: &str,
        bucket: &str,
        prefix: &str,
    ) -> Result<Self, ClientError> {
        let prefix = prefix.trim_matches('/');
        Ok(Self {
            client: S3Client::new(uri, credentials, region)?,
            bucket: bucket.to_owned(),
            prefix: match prefix {
                "" => String::new(),
                prefix => format!("{prefix}/"),
            },
        })
    }
}

#[async_trait]
impl Store for S3Store {
    async fn put(&self, path: &str, bytes: Bytes) -> Result<(), StoreError> {
        let key = format!("{}{path}", self.prefix);
        let put = || self.client.put_object(&self.bucket, &key, bytes.clone());
        let put = patiently(put).await.map(drop);
        put.map_err(|source| StoreError::S3 { key, source })
    }

    async fn get(&self, path: &str) -> Result<Option<Bytes>, StoreError> {
        let key = format!("{}{path}", self.prefix);
        match patiently(|| self.client.get_object(&self.bucket, &key)).await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ClientError::Service(error)) if error.code == "NoSuchKey" => Ok(None),
            Err(source) => Err(StoreError::S3 { key, source }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_file_is_kept_in_place_of_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let store = DirStore::new(&dir.path().join("not/yet/there"));
        assert_eq!(store.get("rows/0/1").await.unwrap(), None);
        for bytes in ["first", "second"] {
            store.put("rows/0/1", bytes.into()).await.unwrap();
            let found = store.get("rows/0/1").await.unwrap();
            assert_eq!(found.as_deref(), Some(bytes.as_bytes()));
        }
        let beside = std::fs::read_dir(dir.path().join("not/yet/there/rows/0"));
        assert_eq!(beside.unwrap().count(), 1);
        let in_the_way = store.put("rows/0/1/2", "x".into()).await.unwrap_err();
        assert!(
            in_the_way.to_string().contains("rows/0/1/2"),
            "{in_the_way}"
        );
    }
}
