//! The simulator's hand on a simulated environment: crashes and clock jumps.

use crate::{MemDisk, Rng, SimClock, UnsyncedData};
use std::fmt;
use std::sync::Arc;

/// Injects faults into the environment it was made with.
#[derive(Clone)]
pub struct SimControl {
    disk: MemDisk,
    clock: Arc<SimClock>,
    faults: Arc<dyn Rng>,
}

impl SimControl {
    pub(crate) fn new(disk: MemDisk, clock: Arc<SimClock>, faults: Arc<dyn Rng>) -> Self {
        Self {
            disk,
            clock,
            faults,
        }
    }

    /// The disk, for faults other than a crash.
    #[must_use]
    pub fn disk(&self) -> &MemDisk {
        &self.disk
    }

    /// Power loss: open files stop working and unsynced data meets its `fate`.
    pub fn crash_disk(&self, fate: UnsyncedData) {
        self.disk.crash(self.faults.as_ref(), fate);
    }

    /// Steps wall time by `delta_ms`, forwards or backwards.
    pub fn jump_clock(&self, delta_ms: i64) {
        self.clock.jump(delta_ms);
    }

    /// The random stream of the faults, for stores that crash together with the disk.
    #[must_use]
    pub fn faults(&self) -> &Arc<dyn Rng> {
        &self.faults
    }
}

impl fmt::Debug for SimControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimControl")
            .field("clock", &self.clock)
            .finish_non_exhaustive()
    }
}
