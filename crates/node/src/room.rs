//! How much of a disk is kept for the log and the rows, and whether enough nodes have room for a change.

use crate::NodeConfig;
use crate::group_stores::GroupStores;
use floeberg_env::{Disk, DiskSpace, Env, Reserve};
use floeberg_http::{NoRoom, Room};
use floeberg_members::Witnesses;
use floeberg_types::NodeId;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

/// Changes stop at 98 % of the file system.
const SHARE: u64 = 50;

/// What the log and the rows may still have to write down for what is acknowledged: their write
/// buffers, and the log once more when it is replayed at a start.
const LEAST: u64 = 192 << 20;

/// Of a small disk, the reserve is at most this part.
const MOST_SHARE: u64 = 4;

/// Deletes may use all but this part of the reserve: a store that cannot write at all ends the process.
const LAST_SHARE: u64 = 8;

/// Bytes of a file system that changes may not take.
const fn reserve(total: u64) -> u64 {
    let share = total / SHARE;
    let least = if LEAST < total / MOST_SHARE {
        LEAST
    } else {
        total / MOST_SHARE
    };
    if share > least { share } else { least }
}

fn check(space: DiskSpace, reserve_bytes: u64) -> Result<(), NoRoom> {
    if space.free >= reserve_bytes {
        return Ok(());
    }
    Err(NoRoom::Here {
        free_bytes: space.free,
        reserve_bytes,
    })
}

/// The file systems that hold the log and the rows of this node.
#[derive(Clone)]
pub(crate) struct OwnRoom {
    dirs: Arc<[PathBuf]>,
    disk: Arc<dyn Disk>,
}

impl OwnRoom {
    pub(crate) fn new(config: &NodeConfig, env: &Env) -> Self {
        Self {
            dirs: [config.state_dir(), config.log_dir()].into(),
            disk: env.disk.clone(),
        }
    }

    /// One that cannot be asked is taken to have some: the write itself will tell.
    fn each(&self, check: impl Fn(DiskSpace) -> Result<(), NoRoom>) -> Result<(), NoRoom> {
        let mut spaces = self.dirs.iter().map(|dir| self.disk.space(dir));
        spaces.try_for_each(|space| space.map_or(Ok(()), &check))
    }

    /// Whether there is room for a change.
    pub(crate) fn check(&self) -> Result<(), NoRoom> {
        self.each(|space| check(space, reserve(space.total)))
    }

    /// Whether there is room for what frees some.
    fn check_last(&self) -> Result<(), NoRoom> {
        self.each(|space| check(space, reserve(space.total) / LAST_SHARE))
    }

    /// Room for what others send for the log: their deletes may be in it, so it is that of deletes.
    pub(crate) fn for_the_log(&self) -> Reserve {
        let room = self.clone();
        Reserve::new(move || room.check_last().map_err(|full| full.to_string()))
    }

    /// What chunks of others must leave free: the volume may be on the same file system.
    pub(crate) fn reserve(&self) -> Reserve {
        let room = self.clone();
        Reserve::new(move || room.check().map_err(|full| full.to_string()))
    }

    /// The room for changes, as long as this node is all that counts.
    pub(crate) fn alone(&self) -> Room {
        let (changes, deletes) = (self.clone(), self.clone());
        Room::new(move || changes.check(), move || deletes.check_last())
    }

    /// The room for changes that a majority of the voters of each group has to store.
    pub(crate) fn among(
        &self,
        stores: &GroupStores,
        witnesses: &Arc<Witnesses>,
        env: &Env,
    ) -> Room {
        let (changes, deletes) = (self.clone(), self.clone());
        let (stores, witnesses, env) = (stores.clone(), witnesses.clone(), env.clone());
        let others = move || {
            let full = witnesses.full(env.clock.now());
            match full.is_empty() {
                true => Ok(()),
                false => enough(&electorates(&stores), &full),
            }
        };
        Room::new(
            move || changes.check().and_then(|()| others()),
            move || deletes.check_last(),
        )
    }
}

fn electorates(stores: &GroupStores) -> Vec<BTreeSet<NodeId>> {
    let each = stores.each().into_iter();
    each.flat_map(|(_, store)| store.group().electorates())
        .collect()
}

/// Whether a majority of each set has room.
fn enough(sets: &[BTreeSet<NodeId>], full: &BTreeSet<NodeId>) -> Result<(), NoRoom> {
    for voters in sets {
        let without: Vec<NodeId> = voters.intersection(full).copied().collect();
        if (voters.len() - without.len()) * 2 <= voters.len() {
            let nodes: Vec<String> = without.iter().map(NodeId::to_string).collect();
            let nodes = nodes.join(", ");
            return Err(NoRoom::TooFew { nodes });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn small_disks_keep_a_quarter_and_large_ones_a_fiftieth() {
        assert_eq!(reserve(200 * MIB), 50 * MIB);
        assert_eq!(reserve(4096 * MIB), 192 * MIB);
        assert_eq!(reserve(100 * 1024 * MIB), 2048 * MIB);
    }

    #[test]
    fn changes_stop_when_the_reserve_is_touched() {
        let total = 4096 * MIB;
        let at = |free| check(DiskSpace { total, free }, reserve(total));
        assert_eq!(at(192 * MIB), Ok(()));
        let full = at(192 * MIB - 1).expect_err("the reserve is touched");
        assert!(full.to_string().contains("191 MiB are free"), "{full}");
    }

    #[test]
    fn a_majority_of_every_group_needs_room() {
        let set = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
        let of = |full: &[u64]| enough(&[set(&[1, 2, 3]), set(&[1, 2, 3, 4])], &set(full));
        assert_eq!(of(&[]), Ok(()));
        assert_eq!(of(&[4]), Ok(()));
        assert_eq!(of(&[3]), Ok(()));
        let refused = of(&[2, 4]).expect_err("half of the second group is not enough");
        assert!(refused.to_string().contains("nodes 2, 4"), "{refused}");
        assert!(of(&[1, 2]).is_err());
        assert_eq!(of(&[9]), Ok(()), "it has no vote");
    }
}
