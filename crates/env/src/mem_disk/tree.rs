//! The directory tree of the in-memory disk, with live and durable names.

use super::content::Content;
use crate::{Rng, UnsyncedData};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path};
use std::sync::Arc;

/// A file's contents and the handle that holds its lock.
#[derive(Debug, Default)]
pub(super) struct FileNode {
    pub(super) content: Mutex<Content>,
    pub(super) locked_by: Mutex<Option<u64>>,
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    File(Arc<FileNode>),
    Dir(Arc<Mutex<Dir>>),
}

type Names = BTreeMap<String, Node>;

#[derive(Debug, Default)]
pub(super) struct Dir {
    pub(super) live: Names,
    durable: Names,
}

impl Dir {
    fn durable_copy(&self) -> Self {
        let copy = |node: &Node| match node {
            Node::File(file) => Node::File(Arc::new(FileNode {
                content: Mutex::new(file.content.lock().durable_copy()),
                locked_by: Mutex::default(),
            })),
            Node::Dir(dir) => Node::Dir(Arc::new(Mutex::new(dir.lock().durable_copy()))),
        };
        let names = self.durable.iter();
        let durable: Names = names
            .map(|(name, node)| (name.clone(), copy(node)))
            .collect();
        Self {
            live: durable.clone(),
            durable,
        }
    }
}

/// The root directory and path lookup below it.
#[derive(Debug, Default)]
pub(super) struct Tree {
    root: Arc<Mutex<Dir>>,
}

fn kind(kind: io::ErrorKind) -> io::Error {
    io::Error::from(kind)
}

fn names(path: &Path) -> io::Result<Vec<&str>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::RootDir | Component::CurDir => {}
            Component::Normal(name) => {
                names.push(
                    name.to_str()
                        .ok_or_else(|| kind(io::ErrorKind::InvalidInput))?,
                );
            }
            Component::ParentDir | Component::Prefix(_) => {
                return Err(kind(io::ErrorKind::InvalidInput));
            }
        }
    }
    Ok(names)
}

impl Tree {
    fn dir_of(&self, names: &[&str]) -> io::Result<Arc<Mutex<Dir>>> {
        let mut dir = self.root.clone();
        for name in names {
            let node = dir.lock().live.get(*name).cloned();
            dir = match node {
                Some(Node::Dir(next)) => next,
                Some(Node::File(_)) => return Err(kind(io::ErrorKind::NotADirectory)),
                None => return Err(kind(io::ErrorKind::NotFound)),
            };
        }
        Ok(dir)
    }

    pub(super) fn dir(&self, path: &Path) -> io::Result<Arc<Mutex<Dir>>> {
        self.dir_of(&names(path)?)
    }

    /// The directory that holds `path`, and the last name of `path`.
    pub(super) fn parent<'a>(&self, path: &'a Path) -> io::Result<(Arc<Mutex<Dir>>, &'a str)> {
        let names = names(path)?;
        let (last, parents) = names
            .split_last()
            .ok_or_else(|| kind(io::ErrorKind::InvalidInput))?;
        Ok((self.dir_of(parents)?, last))
    }

    pub(super) fn find(&self, path: &Path) -> io::Result<Node> {
        if names(path)?.is_empty() {
            return Ok(Node::Dir(self.root.clone()));
        }
        let (dir, name) = self.parent(path)?;
        let node = dir.lock().live.get(name).cloned();
        node.ok_or_else(|| kind(io::ErrorKind::NotFound))
    }

    pub(super) fn put_back_below(&self, path: &Path, image: &Self) -> io::Result<()> {
        let before = image.dir(path)?.lock().durable_copy();
        *self.dir(path)?.lock() = before;
        Ok(())
    }

    pub(super) fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut dir = self.root.clone();
        for name in names(path)? {
            let node = dir
                .lock()
                .live
                .entry(name.into())
                .or_insert_with(new_dir)
                .clone();
            dir = match node {
                Node::Dir(next) => next,
                Node::File(_) => return Err(kind(io::ErrorKind::AlreadyExists)),
            };
        }
        Ok(())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (source, name) = self.parent(from)?;
        let (target, new_name) = self.parent(to)?;
        if names(to)?.starts_with(&names(from)?) {
            return if from == to {
                Ok(())
            } else {
                Err(kind(io::ErrorKind::InvalidInput))
            };
        }
        let node = self.find(from)?;
        match (&node, target.lock().live.get(new_name)) {
            (_, None) | (Node::File(_), Some(Node::File(_))) => {}
            (Node::File(_), Some(Node::Dir(_))) => return Err(kind(io::ErrorKind::IsADirectory)),
            (Node::Dir(_), Some(Node::File(_))) => return Err(kind(io::ErrorKind::NotADirectory)),
            (Node::Dir(_), Some(Node::Dir(existing))) => {
                if !existing.lock().live.is_empty() {
                    return Err(kind(io::ErrorKind::DirectoryNotEmpty));
                }
            }
        }
        source.lock().live.remove(name);
        target.lock().live.insert(new_name.into(), node);
        Ok(())
    }

    pub(super) fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let dir = self.dir(path)?;
        let mut dir = dir.lock();
        dir.durable = dir.live.clone();
        Ok(())
    }

    /// Bytes of all files that have a name.
    pub(super) fn used_bytes(&self) -> u64 {
        fn sum(dir: &Mutex<Dir>) -> u64 {
            let nodes: Vec<Node> = dir.lock().live.values().cloned().collect();
            nodes.iter().fold(0, |total, node| {
                total
                    + match node {
                        Node::File(file) => file.content.lock().len(),
                        Node::Dir(dir) => sum(dir),
                    }
            })
        }
        sum(&self.root)
    }

    /// A tree of its own with what is durable in this one.
    pub(super) fn durable(&self) -> Self {
        let root = Arc::new(Mutex::new(self.root.lock().durable_copy()));
        Self { root }
    }

    /// Forgets what was not synced. One draw decides for all unsynced names, so that a rename
    /// between directories is never half done, as on a journaling file system.
    pub(super) fn crash(&self, rng: &dyn Rng, fate: UnsyncedData) {
        let names_survive = fate == UnsyncedData::Torn && rng.below(2) == 0;
        crash_dir(&self.root, names_survive, rng, fate);
    }
}

fn new_dir() -> Node {
    Node::Dir(Arc::default())
}

fn crash_dir(dir: &Mutex<Dir>, names_survive: bool, rng: &dyn Rng, fate: UnsyncedData) {
    let nodes: Vec<Node> = {
        let mut dir = dir.lock();
        if names_survive {
            dir.durable = dir.live.clone();
        } else {
            dir.live = dir.durable.clone();
        }
        dir.live.values().cloned().collect()
    };
    for node in nodes {
        match node {
            Node::File(file) => {
                file.content.lock().crash(rng, fate);
                *file.locked_by.lock() = None;
            }
            Node::Dir(dir) => crash_dir(&dir, names_survive, rng, fate),
        }
    }
}
