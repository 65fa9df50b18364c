//! Finds the root key pair: in the environment, or in the file that the configuration names.

use floeberg_auth::{RootKey, RootKeyError};
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// Environment variable of the access key id.
pub const ACCESS_KEY: &str = "FLOEBERG_ROOT_ACCESS_KEY";
/// Environment variable of the secret key.
pub const SECRET_KEY: &str = "FLOEBERG_ROOT_SECRET_KEY";

/// Why there is no usable root key pair.
#[derive(Debug, thiserror::Error)]
pub enum RootKeyProblem {
    /// Nobody has set one.
    #[error(
        "there are no root keys: set {ACCESS_KEY} and {SECRET_KEY}, or name a file with both in \
         keys.file"
    )]
    Missing,
    /// One half is missing.
    #[error("{set} is set and {missing} is not: set both or neither")]
    Half {
        /// The variable that is set.
        set: &'static str,
        /// The one that is not.
        missing: &'static str,
    },
    /// The file cannot be read.
    #[error("keys.file = \"{path}\": it cannot be read; check the path and its owner")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Everybody may read the file.
    #[error("keys.file = \"{path}\": everybody may read it; run `chmod o-rwx` on it")]
    Open {
        /// The file.
        path: PathBuf,
    },
    /// The pair breaks a rule.
    #[error("the root keys in {place} are not usable")]
    Invalid {
        /// Where they stand.
        place: String,
        /// Why.
        #[source]
        source: RootKeyError,
    },
}

/// The root key pair: from `variable` (the environment) if it is there, else from `file`.
///
/// # Errors
/// There is none, or it is not usable.
pub fn root_key(
    variable: impl Fn(&str) -> Option<String>,
    file: Option<&Path>,
) -> Result<RootKey, RootKeyProblem> {
    match (variable(ACCESS_KEY), variable(SECRET_KEY)) {
        (Some(access), Some(secret)) => {
            RootKey::new(&access, &secret).map_err(|source| RootKeyProblem::Invalid {
                place: "the environment".to_owned(),
                source,
            })
        }
        (Some(_), None) => Err(RootKeyProblem::Half {
            set: ACCESS_KEY,
            missing: SECRET_KEY,
        }),
        (None, Some(_)) => Err(RootKeyProblem::Half {
            set: SECRET_KEY,
            missing: ACCESS_KEY,
        }),
        (None, None) => from_file(file.ok_or(RootKeyProblem::Missing)?),
    }
}

/// Groups may read it: orchestrators hand secrets to a group.
fn from_file(path: &Path) -> Result<RootKey, RootKeyProblem> {
    let unreadable = |source| RootKeyProblem::Unreadable {
        path: path.to_owned(),
        source,
    };
    let mode = fs::metadata(path).map_err(unreadable)?.permissions().mode();
    if mode & 0o007 != 0 {
        return Err(RootKeyProblem::Open {
            path: path.to_owned(),
        });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let mut lines = text.lines().map(str::trim);
    let (access, secret) = (lines.next().unwrap_or(""), lines.next().unwrap_or(""));
    RootKey::new(access, secret).map_err(|source| RootKeyProblem::Invalid {
        place: format!("{} (access key and secret, a line each)", path.display()),
        source,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: fn(&str) -> Option<String> = |_| None;

    #[test]
    fn the_environment_goes_before_the_file_and_half_a_pair_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root-keys");
        fs::write(&path, "FILEKEY\nsecret-in-file\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let found = root_key(NONE, Some(&path)).unwrap();
        assert_eq!(found.access_key(), "FILEKEY");
        let both = |name: &str| Some(format!("{name}-value"));
        let found = root_key(both, Some(&path)).unwrap();
        assert_eq!(found.access_key(), "FLOEBERG_ROOT_ACCESS_KEY-value");
        let half = |name: &str| (name == SECRET_KEY).then(|| "long-enough".to_owned());
        let error = root_key(half, Some(&path)).unwrap_err();
        assert!(error.to_string().contains("set both"), "{error}");
        assert!(matches!(root_key(NONE, None), Err(RootKeyProblem::Missing)));
    }

    #[test]
    fn a_file_that_everybody_reads_or_that_holds_no_pair_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root-keys");
        fs::write(&path, "ONLYONE\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
        let open = root_key(NONE, Some(&path));
        assert!(matches!(open, Err(RootKeyProblem::Open { .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let invalid = root_key(NONE, Some(&path));
        assert!(matches!(invalid, Err(RootKeyProblem::Invalid { .. })));
        let absent = root_key(NONE, Some(&dir.path().join("absent")));
        assert!(matches!(absent, Err(RootKeyProblem::Unreadable { .. })));
    }
}
