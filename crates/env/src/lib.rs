//! The seam to clock, randomness, tasks and disk, with a simulated twin.
//!
//! Nothing that decides reads the ambient clock, random source or disk: it takes an [`Env`].
//! [`Env::real`] is the machine; [`Env::simulated`] is a seeded twin whose clock follows tokio's
//! (pausable) time and whose disk lives in memory and forgets unsynced data on a crash.
//! To sleep, use `tokio::time`, which the simulator pauses.

mod attended;
mod clock;
mod disk;
mod mem_disk;
mod pace;
mod peer;
mod real_disk;
mod replace;
mod reserve;
mod rng;
mod share;
mod sim;
mod tasks;
pub mod testing;
mod threads;

use std::fmt;
use std::sync::Arc;

pub use attended::Attendance;
pub use clock::{Clock, RealClock, SimClock};
pub use disk::{Disk, DiskFile, DiskSpace, OpenMode};
pub use mem_disk::{DiskImage, MemDisk, UnsyncedData};
pub use pace::Crossing;
pub use peer::{Network, Peer};
pub use real_disk::RealDisk;
pub use replace::replace_file;
pub use reserve::Reserve;
pub use rng::{OsRng, Rng, SeededRng};
pub use share::{ByteBudget, Exhausted, Held, SHARE_PATIENCE, SHARE_WAITERS_MAX, Shares};
pub use sim::SimControl;
pub use tasks::{TaskEnd, Tasks};
pub use threads::{NodeThreads, Threads};

/// Everything a component may ask of the machine it runs on.
#[derive(Clone)]
pub struct Env {
    /// Wall and monotonic time.
    pub clock: Arc<dyn Clock>,
    /// Random bytes.
    pub rng: Arc<dyn Rng>,
    /// Files and directories.
    pub disk: Arc<dyn Disk>,
    /// Work whose size clients decide: requests, decisions, what looks after rows and chunks.
    pub tasks: Tasks,
    /// Consensus: what must go on whatever clients do. Nothing here takes longer than one entry of
    /// the log does.
    pub consensus: Tasks,
    /// The reception of the client ports, which answers health whatever keeps the others busy.
    pub reception: Tasks,
}

impl Env {
    /// The machine itself; everything runs on the runtime of whoever asks for it.
    #[must_use]
    pub fn real() -> Self {
        let tasks = Tasks::real();
        Self {
            clock: Arc::new(RealClock::start()),
            rng: Arc::new(OsRng),
            disk: Arc::new(RealDisk),
            consensus: tasks.clone(),
            reception: tasks.clone(),
            tasks,
        }
    }

    /// The same with each kind of work on its threads, whoever starts it.
    #[must_use]
    pub fn with_threads(self, threads: &NodeThreads) -> Self {
        Self {
            tasks: threads.of_requests(),
            consensus: threads.consensus.tasks(),
            reception: threads.reception.tasks(),
            ..self
        }
    }

    /// A deterministic twin: the same `seed` and the same schedule give the same run.
    #[must_use]
    pub fn simulated(seed: u64) -> (Self, SimControl) {
        let clock = Arc::new(SimClock::start());
        let disk = MemDisk::new();
        let env = Self {
            clock: clock.clone(),
            rng: Arc::new(SeededRng::new(seed)),
            disk: Arc::new(disk.clone()),
            tasks: Tasks::simulated(),
            consensus: Tasks::simulated(),
            reception: Tasks::simulated(),
        };
        // The faults draw from their own stream, so that a crash does not shift the node's draws.
        let faults = Arc::new(SeededRng::new(seed ^ 0x5eed_fa17));
        (env, SimControl::new(disk, clock, faults))
    }
}

impl fmt::Debug for Env {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Env")
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}
