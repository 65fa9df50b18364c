//! The directory below which snapshots are made, received and swapped in.
//!
//! ```text
//! <snapshots>/
//!   installed     what the last installed snapshot has applied
//!   out-<n>/      copies for other nodes
//!   in/           files of a snapshot being received
//!   ready/        a complete one, until the state machine has taken it
//! ```
//!
//! Everything but `installed` is left over from an earlier life when a group starts.

use crate::codec;
use crate::machine::EntryId;
use bytes::Bytes;
use floeberg_env::{Disk, OpenMode};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const INSTALLED: &str = "installed";
const INSTALLED_NEW: &str = "installed.new";

/// The group's directory for snapshots; clones are the same one.
#[derive(Clone)]
pub(crate) struct Staging {
    pub(crate) disk: Arc<dyn Disk>,
    root: PathBuf,
}

/// A new directory is durable only once all its new parents are.
fn create_durably(disk: &dyn Disk, dir: &Path) -> io::Result<()> {
    let missing = |dir: &&Path| !dir.as_os_str().is_empty() && !disk.exists(dir);
    let new: Vec<&Path> = dir.ancestors().take_while(missing).collect();
    disk.create_dir_all(dir)?;
    let parents = new.into_iter().filter_map(Path::parent);
    for parent in parents.filter(|parent| !parent.as_os_str().is_empty()) {
        disk.sync_dir(parent)?;
    }
    Ok(())
}

impl Staging {
    /// Creates the directory, or removes what an earlier life left in it; blocks on the disk.
    pub(crate) fn open(disk: Arc<dyn Disk>, root: &Path) -> io::Result<Self> {
        create_durably(&*disk, root)?;
        for name in disk.list(root)? {
            let path = root.join(&name);
            match name.as_str() {
                INSTALLED => {}
                INSTALLED_NEW => disk.remove_file(&path)?,
                _ => disk.remove_dir_all(&path)?,
            }
        }
        disk.sync_dir(root)?;
        let root = root.to_owned();
        Ok(Self { disk, root })
    }

    pub(crate) fn outgoing(&self, number: u64) -> PathBuf {
        self.root.join(format!("out-{number}"))
    }

    pub(crate) fn incoming(&self) -> PathBuf {
        self.root.join("in")
    }

    pub(crate) fn ready(&self) -> PathBuf {
        self.root.join("ready")
    }

    /// Removes a directory that need not exist any more.
    pub(crate) fn remove(&self, dir: &Path) -> io::Result<()> {
        if self.disk.exists(dir) {
            self.disk.remove_dir_all(dir)?;
            self.disk.sync_dir(&self.root)?;
        }
        Ok(())
    }

    /// Makes the names in the directory durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.disk.sync_dir(&self.root)
    }

    /// Notes what a snapshot has applied, before it takes the place of the state.
    ///
    /// The log is purged only after the swap, and that purge need not be durable when the node
    /// dies: the state is then ahead of the log. This note is what tells that case from a log that
    /// lost entries.
    pub(crate) fn note_install(&self, applied: &EntryId) -> io::Result<()> {
        let new = self.root.join(INSTALLED_NEW);
        if self.disk.exists(&new) {
            self.disk.remove_file(&new)?;
        }
        let file = self.disk.open(&new, OpenMode::CreateNew)?;
        file.write_at(&codec::encode_log_id(&codec::log_id(applied)), 0)?;
        file.sync_data()?;
        self.disk.rename(&new, &self.root.join(INSTALLED))?;
        self.sync()
    }

    /// What the last installed snapshot had applied.
    pub(crate) fn installed(&self) -> io::Result<Option<EntryId>> {
        let path = self.root.join(INSTALLED);
        if !self.disk.exists(&path) {
            return Ok(None);
        }
        let file = self.disk.open(&path, OpenMode::Read)?;
        let bytes = super::files::read_chunk(&*file, 0)?;
        let id = codec::decode_log_id(Bytes::from(bytes))?;
        Ok(Some(codec::entry_id(&id)))
    }
}
