//! What commands may take between their admission and their outcome: a number in each group, and bytes
//! in each group and on the node.
//!
//! Everything that is kept for a command counts as its encoded bytes: the queue to the log, the entry
//! that is not applied yet, the speculative rows, the call to a leader elsewhere. Who finds no room
//! waits in turn; what does not fit at the moment is never let past what came before it.

use floeberg_types::limits;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of commands that a node holds, shared by its groups; clones are the same budget.
#[derive(Clone, Debug)]
pub struct CommandBudget(Arc<Semaphore>);

impl Default for CommandBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(limits::COMMANDS_HELD_BYTES)))
    }
}

impl CommandBudget {
    #[cfg(test)]
    fn free_bytes(&self) -> usize {
        self.0.available_permits()
    }
}

/// What one group may hold of the budget: not all of it, or a group that stands still would stop the
/// others.
#[derive(Clone, Debug)]
pub(crate) struct Admission {
    commands: usize,
    slots: Arc<Semaphore>,
    share: Arc<Semaphore>,
    node: CommandBudget,
}

/// The right to have one command in flight, of some bytes; given back when it is dropped.
#[derive(Debug)]
pub struct Permit {
    room: Admission,
    _slot: OwnedSemaphorePermit,
    share: OwnedSemaphorePermit,
    node: OwnedSemaphorePermit,
}

/// What is in flight in a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Commands.
    pub commands: usize,
    /// Their bytes.
    pub bytes: usize,
}

/// There is no room for so many bytes now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoRoom;

/// What a semaphore can count; commands are far shorter.
fn count(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

impl Admission {
    pub(crate) fn new(commands: usize, node: CommandBudget) -> Self {
        Self {
            commands,
            slots: Arc::new(Semaphore::new(commands)),
            share: Arc::new(Semaphore::new(limits::GROUP_COMMANDS_HELD_BYTES)),
            node,
        }
    }

    /// Waits for room. Dropping the future gives back what it has got so far.
    pub(crate) async fn reserve(&self, bytes: usize) -> Permit {
        let open = "nobody closes the semaphores";
        let bytes = count(bytes.min(limits::COMMAND_BYTES));
        let slot = self.slots.clone().acquire_owned().await.expect(open);
        let share = self.share.clone().acquire_many_owned(bytes).await;
        let share = share.expect(open);
        let node = self.node.0.clone().acquire_many_owned(bytes).await;
        Permit {
            room: self.clone(),
            _slot: slot,
            share,
            node: node.expect(open),
        }
    }

    pub(crate) fn held(&self) -> Held {
        Held {
            commands: self.commands - self.slots.available_permits(),
            bytes: limits::GROUP_COMMANDS_HELD_BYTES - self.share.available_permits(),
        }
    }
}

impl Permit {
    /// Bytes that the command may have.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.share.num_permits()
    }

    /// Makes it a permit for a command of `bytes`, without waiting.
    ///
    /// # Errors
    /// There is no room for more at the moment, and the permit is as it was.
    pub fn resize(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let has = self.bytes();
        if bytes <= has {
            drop(self.share.split(has - bytes));
            drop(self.node.split(has - bytes));
            return Ok(());
        }
        let more = count(bytes - has);
        let share = self.room.share.clone().try_acquire_many_owned(more);
        let share = share.map_err(|_| NoRoom)?;
        let node = self.room.node.0.clone().try_acquire_many_owned(more);
        let node = node.map_err(|_| NoRoom)?;
        self.share.merge(share);
        self.node.merge(node);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
