//! Who this data directory belongs to: cluster id and node id, written once, checked ever after.

use floeberg_env::{Env, OpenMode};
use floeberg_types::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Version of the identity file.
const FORMAT: u32 = 1;
const FILE: &str = "identity.json";

/// The cluster and the member of it that a data directory holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; drawn at random when the directory is first used.
    pub cluster: ClusterId,
    /// The member; 1 for the first node of a cluster.
    pub node: NodeId,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    cluster_id: String,
    node_id: u64,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The file is there but is not one of ours.
    #[error(
        "`{path}` is damaged: {reason}; restore it from a backup or use another data directory"
    )]
    Damaged {
        /// The identity file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A later version wrote it.
    #[error("`{path}` has format {format}, this binary knows {FORMAT}: use a newer floeberg")]
    TooNew {
        /// The identity file.
        path: PathBuf,
        /// The format it has.
        format: u32,
    },
    /// The disk refused.
    #[error("cannot read or write `{path}`")]
    Io {
        /// The identity file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads the identity of `data_dir`, drawing a new one if the directory was never used.
///
/// # Errors
/// If the file is damaged, from a later version, or the disk refuses.
pub fn load_or_create(data_dir: &Path, env: &Env) -> Result<Identity, IdentityError> {
    let path = data_dir.join(FILE);
    let failed = |source| IdentityError::Io {
        path: path.clone(),
        source,
    };
    if env.disk.exists(&path) {
        let file = env.disk.open(&path, OpenMode::Read).map_err(failed)?;
        let length = usize::try_from(file.len().map_err(failed)?).unwrap_or(usize::MAX);
        let mut bytes = vec![0; length.min(4096)];
        let read = file.read_at(&mut bytes, 0).map_err(failed)?;
        return parse(&path, &bytes[..read]);
    }
    let identity = Identity {
        cluster: ClusterId::from_bytes(env.rng.id128()),
        node: NodeId(1),
    };
    let stored = Stored {
        format: FORMAT,
        cluster_id: identity.cluster.to_string(),
        node_id: identity.node.0,
    };
    let text = serde_json::to_vec_pretty(&stored).expect("three plain fields always serialise");
    write_durably(data_dir, &path, &text, env).map_err(failed)?;
    Ok(identity)
}

/// Writes beside the final name first, so that a crash leaves either no file or a whole one.
fn write_durably(dir: &Path, path: &Path, text: &[u8], env: &Env) -> io::Result<()> {
    let draft = path.with_extension("draft");
    if env.disk.exists(&draft) {
        env.disk.remove_file(&draft)?;
    }
    let file = env.disk.open(&draft, OpenMode::CreateNew)?;
    file.write_at(text, 0)?;
    file.sync_data()?;
    env.disk.rename(&draft, path)?;
    env.disk.sync_dir(dir)
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Identity, IdentityError> {
    let damaged = |reason| IdentityError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let stored: Stored =
        serde_json::from_slice(bytes).map_err(|_| damaged("it is not the expected JSON"))?;
    if stored.format > FORMAT {
        return Err(IdentityError::TooNew {
            path: path.to_owned(),
            format: stored.format,
        });
    }
    let cluster = stored
        .cluster_id
        .parse()
        .map_err(|_| damaged("bad cluster id"))?;
    Ok(Identity {
        cluster,
        node: NodeId(stored.node_id),
    })
}
