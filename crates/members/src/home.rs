//! What a node keeps in its data directory about its membership: who it is, and nothing that could
//! be made twice.

use floeberg_env::{Disk, OpenMode, Rng, replace_file};
use floeberg_pki::PkiError;
use floeberg_types::{ClusterId, NodeId};
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Version of the identity file.
const FORMAT: u32 = 1;
const FILE: &str = "identity.json";
/// How often a node was started here, as a decimal number.
const STARTS: &str = "starts";
/// What init and join make before the identity, what a start makes that finds none, and what file
/// systems make themselves.
const BEFORE: [&str; 4] = [CERTIFICATES, "identity.draft", "LOCK", ROOT];
const ROOT: &str = "lost+found";
/// Where members have their certificates.
pub(crate) const CERTIFICATES: &str = "pki";
/// Longer than any file that is kept here.
const LENGTH_MAX: u64 = 64 * 1024;

/// The cluster and the member of it that a data directory belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The cluster; drawn at random when it is founded.
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
pub enum HomeError {
    /// A file is there but is not one of ours.
    #[error(
        "`{path}` is damaged: {reason}; restore it from a backup or use another data directory"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A later version wrote it.
    #[error("`{path}` has format {format}, this binary knows {FORMAT}: use a newer floeberg")]
    TooNew {
        /// The file.
        path: PathBuf,
        /// The format it has.
        format: u32,
    },
    /// The directory belongs to a node already.
    #[error(
        "`{path}` belongs to node {} of cluster {}: start it with what made it (`floeberg server` or \
         `floeberg dev`), or use an empty data directory",
        identity.node, identity.cluster
    )]
    Taken {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        identity: Identity,
    },
    /// The directory belongs to nobody yet.
    #[error(
        "`{path}` belongs to no cluster yet: run `floeberg cluster init` for the first node, \
         `floeberg cluster join` for every other"
    )]
    Vacant {
        /// The directory.
        path: PathBuf,
    },
    /// A single node's directory, for a member of a cluster.
    #[error(
        "`{path}` has no certificates of a cluster: either `floeberg dev` made it, and a single node never \
         becomes a member (copy what it has into a cluster with `floeberg backup`), or they were lost, and \
         the machine joins as a new node with empty directories"
    )]
    Single {
        /// The directory.
        path: PathBuf,
    },
    /// A member's directory, for a single node.
    #[error("`{path}` is that of a member of a cluster: start it with `floeberg server`")]
    Member {
        /// The directory.
        path: PathBuf,
    },
    /// The authority that is to follow is not the one that the cluster has agreed on.
    #[error("the next authority cannot be used: {reason}")]
    Successor {
        /// Why.
        reason: &'static str,
    },
    /// Something else is in the directory.
    #[error(
        "`{path}` is not empty: `{name}` is in it, perhaps of another node. Use an empty directory, or \
         remove what is in this one if nothing of it is needed"
    )]
    Occupied {
        /// The directory.
        path: PathBuf,
        /// The first thing that does not belong there.
        name: String,
    },
    /// Keys or certificates.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The disk refused.
    #[error("cannot read or write `{path}`")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Which start of a node a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    count: u32,
    /// Above those of all starts that were kept, and no other process has it, not even one that uses a copy
    /// of the directory: the count is in the upper 32 bits, the lower ones are random.
    pub number: u64,
}

/// A data directory, as far as membership is concerned.
#[derive(Clone)]
pub struct Home {
    dir: PathBuf,
    /// The directories of the log and of object data, if they are known.
    stores: Vec<PathBuf>,
    disk: Arc<dyn Disk>,
}

impl Home {
    /// The data directory `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: &Path, disk: Arc<dyn Disk>) -> Self {
        Self {
            dir: dir.to_owned(),
            stores: Vec::new(),
            disk,
        }
    }

    /// With the directories of the log and of object data, which may be elsewhere.
    #[must_use]
    pub fn with_stores(self, stores: Vec<PathBuf>) -> Self {
        Self { stores, ..self }
    }

    /// Who the directory belongs to; `None` if nobody.
    ///
    /// # Errors
    /// The file is damaged, from a later version, or the disk refuses.
    pub fn identity(&self) -> Result<Option<Identity>, HomeError> {
        let path = self.dir.join(FILE);
        let bytes = self.read(&path)?;
        bytes.map(|bytes| parse(&path, &bytes)).transpose()
    }

    /// Who the directory of a member belongs to.
    ///
    /// # Errors
    /// As [`Self::identity`], nobody, or a single node.
    pub fn member(&self) -> Result<Identity, HomeError> {
        let identity = self.occupant()?;
        if !self.has_certificates() {
            let path = self.dir.clone();
            return Err(HomeError::Single { path });
        }
        Ok(identity)
    }

    /// Who the directory of a single node belongs to; `None` if nobody.
    ///
    /// # Errors
    /// As [`Self::identity`], or a member.
    pub fn single(&self) -> Result<Option<Identity>, HomeError> {
        let identity = self.identity()?;
        if identity.is_some() && self.has_certificates() {
            let path = self.dir.clone();
            return Err(HomeError::Member { path });
        }
        Ok(identity)
    }

    fn has_certificates(&self) -> bool {
        self.disk.exists(&self.dir.join(CERTIFICATES))
    }

    /// Who the directory belongs to.
    ///
    /// # Errors
    /// As [`Self::identity`], or nobody.
    pub fn occupant(&self) -> Result<Identity, HomeError> {
        let path = self.dir.clone();
        self.identity()?.ok_or(HomeError::Vacant { path })
    }

    /// Numbers a start of the node. It counts once it is [kept](Self::keep_start): an older copy of the
    /// directory that is turned away must not come to have the latest start.
    ///
    /// # Errors
    /// The file is damaged, or the disk refuses.
    pub fn next_start(&self, rng: &dyn Rng) -> Result<Start, HomeError> {
        let path = self.dir.join(STARTS);
        let before = match self.read(&path)? {
            None => 0,
            Some(bytes) => {
                let number = std::str::from_utf8(&bytes).ok().map(str::trim);
                let number = number.and_then(|text| text.parse::<u32>().ok());
                number.ok_or(HomeError::Damaged {
                    path,
                    reason: "it is not a number",
                })?
            }
        };
        let count = before.saturating_add(1);
        let number = (u64::from(count) << 32) | rng.below(1 << 32);
        Ok(Start { count, number })
    }

    /// Makes a start count, durably.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn keep_start(&self, start: Start) -> Result<(), HomeError> {
        self.write(STARTS, format!("{}\n", start.count).as_bytes())
    }

    /// Fails if the directory belongs to somebody.
    ///
    /// # Errors
    /// As [`Self::identity`], or somebody has it.
    pub fn vacant(&self) -> Result<(), HomeError> {
        let path = self.dir.clone();
        match self.identity()? {
            Some(identity) => Err(HomeError::Taken { path, identity }),
            None => Ok(()),
        }
    }

    /// Fails if the directory belongs to somebody, or if anything else is in it or in those of the
    /// stores: a new node must not start on the log or the data of another. What an init or a join
    /// leaves that was cut short is no obstacle.
    ///
    /// # Errors
    /// As [`Self::vacant`], or a directory is not empty.
    pub fn empty(&self) -> Result<(), HomeError> {
        self.vacant()?;
        // A disk for a store may be mounted below, and is looked at itself.
        let leads_to_store = |name: &str| {
            let path = self.dir.join(name);
            self.stores.iter().any(|store| store.starts_with(&path))
        };
        self.only(&self.dir, |name| {
            BEFORE.contains(&name) || leads_to_store(name)
        })?;
        for store in self.stores.iter().filter(|store| **store != self.dir) {
            self.only(store, |name| name == ROOT)?;
        }
        Ok(())
    }

    fn only(&self, dir: &Path, fine: impl Fn(&str) -> bool) -> Result<(), HomeError> {
        if !self.disk.exists(dir) {
            return Ok(());
        }
        let names = self.disk.list(dir).map_err(|source| HomeError::Io {
            path: dir.to_owned(),
            source,
        })?;
        match names.into_iter().find(|name| !fine(name)) {
            Some(name) => Err(HomeError::Occupied {
                path: dir.to_owned(),
                name,
            }),
            None => Ok(()),
        }
    }

    /// Gives the directory to a node, durably. This is the last thing that init and join do: until
    /// then they may be repeated.
    ///
    /// # Errors
    /// Somebody has it, or the disk refuses.
    pub fn take(&self, identity: Identity) -> Result<(), HomeError> {
        self.vacant()?;
        let stored = Stored {
            format: FORMAT,
            cluster_id: identity.cluster.to_string(),
            node_id: identity.node.0,
        };
        let text = serde_json::to_vec_pretty(&stored).expect("three plain fields always serialise");
        self.write(FILE, &text)
    }

    /// Makes the directory; one that exists is fine.
    pub(crate) fn prepare(&self) -> Result<(), HomeError> {
        self.disk
            .create_dir_all(&self.dir)
            .map_err(|source| HomeError::Io {
                path: self.dir.clone(),
                source,
            })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn read(&self, path: &Path) -> Result<Option<Vec<u8>>, HomeError> {
        if !self.disk.exists(path) {
            return Ok(None);
        }
        let failed = |source| HomeError::Io {
            path: path.to_owned(),
            source,
        };
        let file = self.disk.open(path, OpenMode::Read).map_err(failed)?;
        let length = file.len().map_err(failed)?;
        if length > LENGTH_MAX {
            return Err(HomeError::Damaged {
                path: path.to_owned(),
                reason: "it is too long",
            });
        }
        let mut bytes = vec![0; usize::try_from(length).unwrap_or_default()];
        let read = file.read_at(&mut bytes, 0).map_err(failed)?;
        bytes.truncate(read);
        Ok(Some(bytes))
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<(), HomeError> {
        self.replace(&self.dir, name, bytes, OpenMode::CreateNew)
    }

    /// As [`Self::write`], in a directory below, and only the owner may read the file.
    pub(crate) fn write_secret(
        &self,
        below: &str,
        name: &str,
        bytes: &[u8],
    ) -> Result<(), HomeError> {
        self.replace(&self.dir.join(below), name, bytes, OpenMode::CreateSecret)
    }

    fn replace(
        &self,
        dir: &Path,
        name: &str,
        bytes: &[u8],
        mode: OpenMode,
    ) -> Result<(), HomeError> {
        let path = dir.join(name);
        let replaced = replace_file(&*self.disk, &path, bytes, mode);
        replaced.map_err(|source| HomeError::Io { path, source })
    }

    pub(crate) fn remove(&self, name: &str) -> Result<(), HomeError> {
        let path = self.dir.join(name);
        let gone = || {
            if self.disk.exists(&path) {
                self.disk.remove_file(&path)?;
            }
            self.disk.sync_dir(&self.dir)
        };
        gone().map_err(|source| HomeError::Io {
            path: path.clone(),
            source,
        })
    }
}

fn parse(path: &Path, bytes: &[u8]) -> Result<Identity, HomeError> {
    let damaged = |reason| HomeError::Damaged {
        path: path.to_owned(),
        reason,
    };
    let stored: Stored =
        serde_json::from_slice(bytes).map_err(|_| damaged("it is not the expected JSON"))?;
    if stored.format > FORMAT {
        return Err(HomeError::TooNew {
            path: path.to_owned(),
            format: stored.format,
        });
    }
    let cluster = stored.cluster_id.parse();
    let cluster = cluster.map_err(|_| damaged("bad cluster id"))?;
    if stored.node_id == 0 {
        return Err(damaged("node id 0"));
    }
    Ok(Identity {
        cluster,
        node: NodeId(stored.node_id),
    })
}

#[cfg(test)]
mod tests;
