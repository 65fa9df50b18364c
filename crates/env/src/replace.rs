//! Replacing a small file durably.

use crate::{Disk, OpenMode};
use std::io;
use std::path::Path;

/// Writes `bytes` to `path` so that a crash leaves what was there before or all of it, and makes that
/// durable. Missing directories are made, durably too: a new one is there after a crash only once the
/// one above it is synced. `path` is absolute; `mode` is how a new file is made. Blocks.
///
/// # Errors
/// The disk refuses, or `path` is a root.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8], mode: OpenMode) -> io::Result<()> {
    let dir = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let missing = dir.ancestors().take_while(|dir| !disk.exists(dir));
    let missing: Vec<&Path> = missing.filter_map(Path::parent).collect();
    disk.create_dir_all(dir)?;
    missing
        .into_iter()
        .try_for_each(|above| disk.sync_dir(above))?;
    let draft = path.with_extension("draft");
    if disk.exists(&draft) {
        disk.remove_file(&draft)?;
    }
    let file = disk.open(&draft, mode)?;
    file.write_at(bytes, 0)?;
    file.sync_data()?;
    disk.rename(&draft, path)?;
    disk.sync_dir(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Env, UnsyncedData};

    #[test]
    fn what_was_written_survives_with_its_new_directories() {
        let (env, control) = Env::simulated(1);
        let path = Path::new("/data/below/name");
        for text in ["first", "the second, which is longer", "3"] {
            replace_file(
                env.disk.as_ref(),
                path,
                text.as_bytes(),
                OpenMode::CreateNew,
            )
            .unwrap();
            control.crash_disk(UnsyncedData::Lost);
            let file = env.disk.open(path, OpenMode::Read).unwrap();
            let mut read = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
            file.read_at(&mut read, 0).unwrap();
            assert_eq!(read, text.as_bytes());
        }
        let names = env.disk.list(Path::new("/data/below")).unwrap();
        assert_eq!(names, ["name"], "nothing is left beside it");
    }
}
