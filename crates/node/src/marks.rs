//! Small files that say something about a directory: there whole or not at all, and durable.

use crate::StartError;
use floeberg_env::{Env, OpenMode, replace_file};
use std::io;
use std::path::Path;

/// Longer than any mark.
const LENGTH_MAX: usize = 256;

fn failed(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    let path = path.to_owned();
    move |source| StartError::DataDir { path, source }
}

/// What a mark says, if it is there. Blocks.
pub(crate) fn read(path: &Path, env: &Env) -> Result<Option<String>, StartError> {
    if !env.disk.exists(path) {
        return Ok(None);
    }
    let read = || {
        let file = env.disk.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; LENGTH_MAX];
        let length = file.read_at(&mut bytes, 0)?;
        bytes.truncate(length);
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().map(Some).map_err(failed(path))
}

/// Makes a mark in a directory, which is created if it is missing. Blocks.
pub(crate) fn write(dir: &Path, name: &str, text: &str, env: &Env) -> Result<(), StartError> {
    let write = || {
        let (disk, path) = (&env.disk, dir.join(name));
        replace_file(&**disk, &path, text.as_bytes(), OpenMode::CreateNew)?;
        // The directory may have been made by somebody who left that to others.
        dir.parent().map_or(Ok(()), |above| disk.sync_dir(above))
    };
    write().map_err(failed(dir))
}

/// Takes a mark away. Blocks.
pub(crate) fn remove(dir: &Path, name: &str, env: &Env) -> Result<(), StartError> {
    let remove = || {
        env.disk.remove_file(&dir.join(name))?;
        env.disk.sync_dir(dir)
    };
    remove().map_err(failed(dir))
}
