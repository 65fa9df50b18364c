//! The framing check of the log's database, before RocksDB reads it.

use crate::{Corrupt, Damage, LogError};
use floeberg_env::{Disk, OpenMode};
use floeberg_framing::{ReadAt, first_damage};
use std::io;
use std::path::Path;

/// Checks every write-ahead log in `database`, and the manifest that is current.
pub(super) fn check(disk: &dyn Disk, database: &Path) -> Result<(), LogError> {
    let open = |name: &str| -> io::Result<ReadAt> {
        let file = disk.open(&database.join(name), OpenMode::Read)?;
        Ok(Box::new(move |out, from| file.read_at(out, from)))
    };
    let found = disk
        .list(database)
        .and_then(|names| first_damage(&names, &open))
        .map_err(|error| LogError::engine(&error))?;
    match found {
        None => Ok(()),
        Some(damage) => {
            let file = database.join(damage.file).display().to_string();
            let offset = damage.offset;
            Err(Corrupt::store(Damage::Journal { file, offset }).into())
        }
    }
}
