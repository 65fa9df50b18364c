//! What survives a crash: the in-memory stores, the disk, and the random streams.

use crate::clock::IncarnationClock;
use floeberg_auth::RootKey;
use floeberg_env::{Env, MemDisk, Rng, SeededRng, Tasks, UnsyncedData};
use floeberg_kv::MemKvStore;
use floeberg_node::{ClientLimits, ClusterPart, MemoryStores, NodeConfig};
use floeberg_raftlog::MemLogStore;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// Small segments, so that a run fills and reclaims several.
const SEGMENT_BYTES: u64 = 1 << 20;

/// The machine under the node.
pub(crate) struct World {
    stores: MemoryStores,
    disk: MemDisk,
    node_rng: Arc<SeededRng>,
    faults: Arc<SeededRng>,
    pub(crate) elapsed: Duration,
}

impl World {
    pub(crate) const ACCESS_KEY: &str = "SIMULATIONROOT";
    pub(crate) const SECRET_KEY: &str = "simulation-secret";

    pub(crate) fn new(seed: u64) -> Self {
        // Syncs take up to 4 ms, so that crashes fall between a write and its sync.
        let sync_takes = Duration::from_micros(100)..=Duration::from_millis(4);
        Self {
            stores: MemoryStores {
                log: MemLogStore::with_sync_time(sync_takes),
                catalog: MemKvStore::new(),
                objects: MemKvStore::new(),
                volume_index: MemKvStore::new(),
            },
            disk: MemDisk::new(),
            node_rng: Arc::new(SeededRng::new(seed)),
            faults: Arc::new(SeededRng::new(seed ^ 0x5eed_fa17)),
            elapsed: Duration::ZERO,
        }
    }

    /// The environment of the next incarnation. Call inside its runtime.
    pub(crate) fn env(&self) -> Env {
        Env {
            clock: Arc::new(IncarnationClock::starting_at(self.elapsed)),
            rng: self.node_rng.clone(),
            disk: Arc::new(self.disk.clone()),
            tasks: Tasks::simulated(),
        }
    }

    pub(crate) fn stores(&self) -> MemoryStores {
        self.stores.clone()
    }

    pub(crate) fn faults(&self) -> &dyn Rng {
        self.faults.as_ref()
    }

    /// Power loss: whatever was not synced is lost, or torn.
    pub(crate) fn crash(&self) {
        let fate = if self.faults().below(2) == 0 {
            UnsyncedData::Lost
        } else {
            UnsyncedData::Torn
        };
        self.stores.log.crash(self.faults.as_ref(), fate);
        self.stores.catalog.crash();
        self.stores.objects.crash();
        self.stores.volume_index.crash();
        self.disk.crash(self.faults.as_ref(), fate);
    }

    pub(crate) fn config() -> NodeConfig {
        NodeConfig {
            data_dir: PathBuf::from("/data"),
            account: "000000000000".parse().expect("twelve digits"),
            region: "us-east-1".parse().expect("a region"),
            root_key: RootKey::new(Self::ACCESS_KEY, Self::SECRET_KEY).expect("a legal pair"),
            s3_endpoint: "http://127.0.0.1:9000".into(),
            lakehouse_endpoint: "http://127.0.0.1:8181".into(),
            s3_domain: None,
            segment_bytes: SEGMENT_BYTES,
            limits: ClientLimits::default(),
            cluster: ClusterPart::Single,
        }
    }
}
