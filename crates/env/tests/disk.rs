//! The conformance suite on both disks.

use floeberg_env::testing::disk_suite;
use floeberg_env::{Disk, Env, MemDisk, RealDisk};
use std::path::Path;

#[test]
fn real_disk_conforms() {
    let dir = tempfile::tempdir().expect("temporary directory");
    disk_suite(&RealDisk, dir.path());
}

#[test]
fn memory_disk_conforms() {
    disk_suite(&MemDisk::new(), Path::new("/"));
}

#[test]
fn a_simulated_environment_carries_the_memory_disk() {
    let (env, control) = Env::simulated(1);
    env.disk
        .create_dir_all(Path::new("/data"))
        .expect("created");
    assert!(control.disk().exists(Path::new("/data")));
    control.crash_disk(floeberg_env::UnsyncedData::Lost);
    assert!(
        !env.disk.exists(Path::new("/data")),
        "the name was never synced"
    );
    let before = env.clock.now();
    control.jump_clock(60_000);
    assert!(env.clock.now().since_ms(before) >= 60_000);
}
