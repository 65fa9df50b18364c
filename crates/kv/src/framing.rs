//! The framing check of a database, before RocksDB reads it.

use crate::{EngineError, KvError};
use floeberg_env::{Disk, OpenMode};
use floeberg_framing::{ReadAt, first_damage};
use std::io;
use std::path::Path;

/// Checks the manifest that is current and any write-ahead log; a new database has neither.
pub(crate) fn check(disk: &dyn Disk, database: &Path) -> Result<(), KvError> {
    if !disk.exists(&database.join("CURRENT")) {
        return Ok(());
    }
    let open = |name: &str| -> io::Result<ReadAt> {
        let file = disk.open(&database.join(name), OpenMode::Read)?;
        Ok(Box::new(move |out, from| file.read_at(out, from)))
    };
    let found = disk
        .list(database)
        .and_then(|names| first_damage(&names, &open));
    match found {
        Ok(None) => Ok(()),
        Ok(Some(damage)) => {
            let file = database.join(damage.file);
            let detail = format!("`{}` is damaged at byte {}", file.display(), damage.offset);
            Err(KvError::Corrupt(EngineError { detail }))
        }
        Err(error) => Err(KvError::Engine(EngineError {
            detail: error.to_string(),
        })),
    }
}
