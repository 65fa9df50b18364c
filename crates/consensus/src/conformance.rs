//! The consensus library's own storage suite, over both logs.

use crate::apply::Machine;
use crate::log::GroupLog;
use crate::machine::StateMachine as _;
use crate::mark::Acks;
use crate::raft::{Runtime, TypeConfig};
use crate::testing::{Durable, GROUP, Medium, Snapshots, TestMachine};
use crate::transfer::outgoing::Outgoing;
use crate::transfer::staging::Staging;
use floeberg_env::Env;
use floeberg_raftlog::MemLogStore;
use floeberg_telemetry::{ConsensusMetrics, RaftLogMetrics};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

/// Which log the suite runs over.
enum Fresh {
    Rocks,
    Mem,
}

impl StoreBuilder<TypeConfig, GroupLog, Machine, (Medium, Snapshots)> for Fresh {
    async fn build(
        &self,
    ) -> Result<((Medium, Snapshots), GroupLog, Machine), StorageError<TypeConfig>> {
        let medium = match self {
            Self::Rocks => Medium::Rocks(tempfile::tempdir().unwrap()),
            Self::Mem => Medium::Mem(MemLogStore::new()),
        };
        let env = Env::real();
        let log = GroupLog::new(
            GROUP,
            medium.open(&env, &RaftLogMetrics::default()),
            Acks::default(),
            64 << 20,
        );
        let snapshots = Snapshots::new();
        let staging = Staging::open(env.disk.clone(), snapshots.dir.path()).unwrap();
        let machine = TestMachine::open(&Durable::default(), &env);
        let outgoing = Outgoing::new(machine.copier(), staging, &env, None);
        let metrics = ConsensusMetrics::default();
        let machine = Machine::new(Box::new(machine), &log, outgoing, metrics);
        Ok(((medium, snapshots), log, machine))
    }
}

#[tokio::test]
async fn the_library_accepts_the_rocksdb_log() {
    Runtime::scope(7, Suite::test_all(Fresh::Rocks))
        .await
        .unwrap();
}

#[tokio::test]
async fn the_library_accepts_the_in_memory_log() {
    Runtime::scope(7, Suite::test_all(Fresh::Mem))
        .await
        .unwrap();
}
