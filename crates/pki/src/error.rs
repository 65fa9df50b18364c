//! What can be wrong with certificates and their files.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Why a key, a certificate or a file of them cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// It is not what it should be.
    #[error("{what} cannot be used: {reason}")]
    Unusable {
        /// The key, certificate or request.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The disk refused.
    #[error("cannot read or write `{path}`: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl PkiError {
    pub(crate) fn unusable(what: impl Into<String>, reason: impl fmt::Display) -> Self {
        Self::Unusable {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}
