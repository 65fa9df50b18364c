//! The root key pair of a development node: from the environment, or drawn once and kept in the
//! data directory with mode 0600.

use anyhow::{Context as _, bail};
use floeberg_env::{Env, OpenMode, replace_file};
use floeberg_node::RootKey;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Environment variable of the access key id.
pub const ACCESS_KEY: &str = "FLOEBERG_ROOT_ACCESS_KEY";
/// Environment variable of the secret key.
pub const SECRET_KEY: &str = "FLOEBERG_ROOT_SECRET_KEY";
const FILE: &str = "root-keys";
const LETTERS: &[u8; 32] = b"ABCDEFGHJKLMNPQRSTUVWXYZ23456789";

/// The key pair of the node in `data_dir`.
pub fn load_or_create(data_dir: &Path, env: &Env) -> anyhow::Result<RootKey> {
    match (std::env::var(ACCESS_KEY), std::env::var(SECRET_KEY)) {
        (Ok(access), Ok(secret)) => Ok(RootKey::new(&access, &secret)?),
        (Err(_), Err(_)) => stored(data_dir, env),
        _ => bail!("set both {ACCESS_KEY} and {SECRET_KEY}, or neither"),
    }
}

fn stored(data_dir: &Path, env: &Env) -> anyhow::Result<RootKey> {
    let path = data_dir.join(FILE);
    if path.exists() {
        let text = fs::read_to_string(&path)
            .with_context(|| format!("cannot read the root keys in {}", path.display()))?;
        let mut lines = text.lines();
        let (access, secret) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
        let mode = fs::metadata(&path)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            bail!(
                "{} is readable by others: run `chmod 600` on it",
                path.display()
            );
        }
        return RootKey::new(access, secret).with_context(|| {
            format!(
                "{} must hold the access key and the secret, a line each",
                path.display()
            )
        });
    }
    let keys = RootKey::new(&draw(env, 20), &draw(env, 40))?;
    let text = format!("{}\n{}\n", keys.access_key(), keys.secret().expose());
    replace_file(&*env.disk, &path, text.as_bytes(), OpenMode::CreateSecret)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(keys)
}

/// `length` random letters; 32 letters divide 256, so each is equally likely.
fn draw(env: &Env, length: usize) -> String {
    let mut bytes = vec![0; length];
    env.rng.fill(&mut bytes);
    bytes
        .iter()
        .map(|b| char::from(LETTERS[usize::from(*b) % LETTERS.len()]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_drawn_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let env = Env::real();
        let first = stored(dir.path(), &env).unwrap();
        assert_eq!(stored(dir.path(), &env).unwrap().secret(), first.secret());
        let path = dir.path().join(FILE);
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(stored(dir.path(), &env).is_err());
    }
}
