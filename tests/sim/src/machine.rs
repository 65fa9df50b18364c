//! The machine under a node: what survives when the node's process, or the power, is gone.

use crate::clock::MachineClock;
use crate::door::Door;
use crate::life::Life;
use floeberg_env::{Disk, DiskImage, Env, MemDisk, Rng, SeededRng, Tasks, UnsyncedData};
use floeberg_kv::{KvImage, MemKvStore};
use floeberg_members::FeatureLevels;
use floeberg_node::{FatalHook, MemoryStores, PieceSizes};
use floeberg_raftlog::{LogImage, MemLogStore};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The data directory of a machine.
pub(crate) const DATA: &str = "/data";
/// Where the volume of a machine is.
pub(crate) const VOLUME: &str = "/data/volume";
/// Where a node keeps what it knows that others, and its own volume, have acknowledged.
const WITNESSED: &str = "/data/witness";

/// Documents of some KiB are large here, and written in several pieces.
const PIECES: PieceSizes = PieceSizes {
    above: 2 << 10,
    bytes: 1 << 10,
};

/// One machine with its disk, its clock and, at times, a node on it.
pub(crate) struct Machine {
    pub(crate) disk: MemDisk,
    pub(crate) clock: MachineClock,
    pub(crate) log: MemLogStore,
    pub(crate) catalog: MemKvStore,
    objects: MemKvStore,
    volume_index: MemKvStore,
    seed: u64,
    lives: u64,
    /// The process, from its start on.
    pub(crate) life: Option<Life>,
    /// The way into the node, once it has started.
    pub(crate) door: Option<Arc<Door>>,
    /// Taken out of the cluster for good.
    pub(crate) retired: bool,
    /// Put back to an older image of itself: it must never take part again.
    pub(crate) put_back: bool,
    /// What the binary on it can work at.
    pub(crate) features: FeatureLevels,
}

/// Everything durable of a machine at one moment.
pub(crate) struct Image {
    disk: DiskImage,
    log: LogImage,
    rows: [KvImage; 3],
}

impl Machine {
    pub(crate) fn new(seed: u64, started: Instant, features: FeatureLevels) -> Self {
        let disk = MemDisk::new();
        let rows = || MemKvStore::with_copies_on(Arc::new(disk.clone()));
        // Syncs take up to 4 ms, so that crashes fall between a write and its sync.
        let sync_takes = Duration::from_micros(100)..=Duration::from_millis(4);
        Self {
            log: MemLogStore::with_sync_time(sync_takes),
            catalog: rows(),
            objects: rows(),
            volume_index: rows(),
            clock: MachineClock::new(started),
            disk,
            seed,
            lives: 0,
            life: None,
            door: None,
            retired: false,
            put_back: false,
            features,
        }
    }

    /// The environment of the next process.
    pub(crate) fn begin(&mut self) -> (Life, Env) {
        let life = Life::default();
        self.lives += 1;
        // A stream for each life: what is left of an earlier one must not shift its draws.
        let stream = self.seed ^ (self.lives << 20);
        let rng = SeededRng::new(stream);
        // Two sets of threads that wait for each other.
        let tasks = |threads: u64| {
            let pace = SeededRng::new(stream ^ (threads << 40));
            Tasks::simulated_until(&life.tasks).paced(Arc::new(pace))
        };
        let env = Env {
            clock: Arc::new(self.clock.clone()),
            rng: Arc::new(rng),
            disk: life.mount(&self.disk),
            tasks: tasks(1),
            consensus: tasks(2),
            reception: tasks(3),
        };
        self.life = Some(life.clone());
        (life, env)
    }

    pub(crate) fn stores(&self, on_fatal: FatalHook) -> MemoryStores {
        MemoryStores {
            log: self.log.clone(),
            catalog: self.catalog.clone(),
            objects: self.objects.clone(),
            volume_index: self.volume_index.clone(),
            pieces: PIECES,
            on_fatal,
        }
    }

    fn rows(&self) -> [&MemKvStore; 3] {
        [&self.catalog, &self.objects, &self.volume_index]
    }

    pub(crate) fn image(&self) -> Image {
        Image {
            disk: self.disk.image(),
            log: self.log.image(),
            rows: self.rows().map(MemKvStore::image),
        }
    }

    /// The machine, which has no process, is what it was when `image` was made.
    pub(crate) fn restore(&mut self, image: &Image) {
        self.disk.put_back(&image.disk);
        self.log.put_back(&image.log);
        for (rows, image) in self.rows().into_iter().zip(&image.rows) {
            rows.put_back(image);
        }
        self.put_back = true;
    }

    /// The volume alone is what it was when `image` was made.
    pub(crate) fn restore_volume(&self, image: &Image) {
        let put_back = self.disk.put_back_below(Path::new(VOLUME), &image.disk);
        put_back.expect("the volume was there when the image was made");
        let [.., index] = &image.rows;
        self.volume_index.put_back(index);
    }

    /// What the machine, which has no process, had witnessed is gone.
    pub(crate) fn forget_witnessed(&self) {
        let disk: &dyn Disk = &self.disk;
        let removed = disk.remove_file(Path::new(WITNESSED));
        removed.expect("marks were exchanged before the volume was put back");
        let synced = disk.sync_dir(Path::new(DATA));
        synced.expect("the data directory is there");
    }

    /// Power loss: whatever was not synced is lost, or torn. Returns the dead node.
    pub(crate) fn crash(&mut self, faults: &dyn Rng) -> Option<Arc<Door>> {
        self.life.take()?.end();
        let fate = if faults.below(2) == 0 {
            UnsyncedData::Lost
        } else {
            UnsyncedData::Torn
        };
        self.log.crash(faults, fate);
        self.catalog.crash();
        self.objects.crash();
        self.volume_index.crash();
        self.disk.crash(faults, fate);
        self.door.take()
    }
}
