//! Checks a whole backup without a cluster.

use crate::read::{Backup, ReadError};
use crate::store::StoreError;
use floeberg_types::{ChunkId, GroupId};
use futures::StreamExt as _;
use std::collections::BTreeMap;

/// Files read at a time.
const PARALLEL: usize = 4;

/// Something that is wrong with a backup, in words.
pub type Fault = String;

/// What was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Files whose checksums were compared.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Rows that were read.
    pub rows: u64,
    /// Everything that is wrong; nothing, if the backup is whole.
    pub faults: Vec<Fault>,
}

/// Reads every file of a backup, compares it with its checksum, and looks that every chunk a row
/// names is there with the length the row says.
///
/// # Errors
/// The place cannot be read. What is wrong with the backup itself is among the faults.
pub async fn verify(backup: &Backup) -> Result<Verified, StoreError> {
    let mut seen = Verified::default();
    let paths: Vec<String> = backup.paths().map(str::to_owned).collect();
    let read = |path: String| async move { backup.file(&path).await.map(|bytes| bytes.len()) };
    let mut reads = futures::stream::iter(paths.into_iter().map(read)).buffered(PARALLEL);
    while let Some(read) = reads.next().await {
        match read {
            Ok(len) => {
                seen.files += 1;
                seen.bytes += len as u64;
            }
            Err(ReadError::Store(error)) => return Err(error),
            Err(error) => seen.faults.push(error.to_string()),
        }
    }
    let chunks: BTreeMap<ChunkId, u64> = backup.chunks().collect();
    for part in &backup.manifest().groups {
        rows(
            backup,
            GroupId(part.point.group),
            part.pages,
            part.rows,
            &chunks,
            &mut seen,
        )
        .await?;
    }
    Ok(seen)
}

async fn rows(
    backup: &Backup,
    group: GroupId,
    pages: u64,
    expected: u64,
    chunks: &BTreeMap<ChunkId, u64>,
    seen: &mut Verified,
) -> Result<(), StoreError> {
    let mut found = 0;
    for number in 0..pages {
        let page = match backup.page(group, number).await {
            Ok(page) => page,
            Err(ReadError::Store(error)) => return Err(error),
            // Its checksum has complained already, unless it was never listed.
            Err(error) => {
                let fault = error.to_string();
                if !seen.faults.contains(&fault) {
                    seen.faults.push(fault);
                }
                return Ok(());
            }
        };
        found += page.rows.len() as u64;
        for used in page.rows.iter().flat_map(|row| &row.chunks) {
            if chunks.get(&used.chunk) != Some(&used.len) {
                seen.faults.push(format!(
                    "chunk {} of {} bytes is named by a row of group {group} and not in the backup",
                    used.chunk, used.len
                ));
            }
        }
    }
    seen.rows += found;
    if found != expected {
        seen.faults.push(format!(
            "group {group} has {found} rows instead of {expected}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Lake, made};
    use crate::{CreateError, DirStore, create};
    use std::sync::Arc;

    async fn faults(dir: &std::path::Path) -> Vec<Fault> {
        let backup = Backup::open(Arc::new(DirStore::new(dir))).await.unwrap();
        verify(&backup).await.unwrap().faults
    }

    fn some_file(dir: &std::path::Path, below: &str) -> std::path::PathBuf {
        let mut path = dir.join(below);
        while path.is_dir() {
            path = std::fs::read_dir(&path)
                .unwrap()
                .next()
                .unwrap()
                .unwrap()
                .path();
        }
        path
    }

    #[tokio::test]
    async fn a_whole_backup_has_no_faults() {
        let dir = tempfile::tempdir().unwrap();
        let made = made(dir.path()).await;
        let backup = Backup::open(Arc::new(DirStore::new(dir.path())))
            .await
            .unwrap();
        let seen = verify(&backup).await.unwrap();
        assert_eq!(seen.faults, Vec::<Fault>::new());
        assert_eq!(
            (seen.files, seen.bytes),
            (made.manifest.files, made.manifest.bytes)
        );
        assert_eq!(
            seen.rows,
            made.manifest.groups.iter().map(|g| g.rows).sum::<u64>()
        );
        let again = create(&Lake::new(), &DirStore::new(dir.path())).await;
        assert!(matches!(again, Err(CreateError::Taken)));
    }

    #[tokio::test]
    async fn a_flipped_bit_and_a_missing_file_are_found_wherever_they_are() {
        for below in ["chunks", "rows"] {
            let dir = tempfile::tempdir().unwrap();
            made(dir.path()).await;
            let file = some_file(dir.path(), below);
            let mut bytes = std::fs::read(&file).unwrap();
            bytes[0] ^= 1;
            std::fs::write(&file, &bytes).unwrap();
            let found = faults(dir.path()).await;
            assert!(
                found.iter().any(|f| f.contains("another checksum")),
                "{found:?}"
            );
            bytes.pop();
            std::fs::write(&file, bytes).unwrap();
            let found = faults(dir.path()).await;
            assert!(
                found.iter().any(|f| f.contains("bytes instead of")),
                "{found:?}"
            );
            std::fs::remove_file(&file).unwrap();
            let found = faults(dir.path()).await;
            assert!(found.iter().any(|f| f.contains("is missing")), "{found:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        made(dir.path()).await;
        let list = dir.path().join("files.list");
        let text = std::fs::read_to_string(&list).unwrap();
        std::fs::write(&list, text.replacen('a', "b", 1)).unwrap();
        let store = Arc::new(DirStore::new(dir.path()));
        assert!(Backup::open(store.clone()).await.is_err());
        std::fs::remove_file(dir.path().join(crate::MANIFEST)).unwrap();
        assert!(matches!(Backup::open(store).await, Err(ReadError::None)));
    }

    #[tokio::test]
    async fn a_copy_that_failed_is_no_backup_and_may_be_made_again() {
        let dir = tempfile::tempdir().unwrap();
        let mut lake = Lake::new();
        lake.lose_a_chunk();
        let failed = create(&lake, &DirStore::new(dir.path())).await;
        assert!(matches!(failed, Err(CreateError::Source(_))), "{failed:?}");
        let store = Arc::new(DirStore::new(dir.path()));
        assert!(matches!(Backup::open(store).await, Err(ReadError::None)));
        made(dir.path()).await;
        assert!(faults(dir.path()).await.is_empty());
    }
}
