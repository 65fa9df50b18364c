//! Copies of the state: what they say they hold, and whose they are.

use super::*;
use crate::config::FlushPolicy;
use crate::testing::{CLUSTER, GROUP, counter, key, value};
use crate::{MARK_EVERY, ReadView};
use floeberg_env::{Disk, MemDisk};
use floeberg_kv::{MemKv, MemKvStore};
use floeberg_state::{COMMAND_FORMAT, Command, RowChange, RowOp};
use floeberg_types::{ClusterId, GroupId};
use prost::Message as _;

const OURS: Identity = Identity {
    cluster: CLUSTER,
    group: GROUP,
};

fn machine(identity: Identity, disk: &Arc<dyn Disk>) -> GroupMachine {
    let store = MemKvStore::with_copies_on(Arc::clone(disk));
    let kv: Arc<dyn Kv> = Arc::new(MemKv::open(&store));
    GroupMachine {
        identity,
        kv: Arc::clone(&kv),
        applied: Applied::default(),
        shared: Arc::new(AppliedState {
            newest: Newest::new(Moment::take(&kv, identity).unwrap()),
            marks: Mutex::default(),
        }),
        flusher: Arc::new(Flusher::new(kv, FlushPolicy::default())),
        outcomes: Arc::default(),
    }
}

/// Applies a command that puts a counter.
fn put(machine: &mut GroupMachine, index: u64, name: &str, count: i64) {
    let Identity { cluster, group } = machine.identity;
    let op = Some(RowChange::Put(counter(count).encode_to_vec().into()));
    let command = Command {
        format: COMMAND_FORMAT,
        feature_level: 1,
        cluster_id: Bytes::copy_from_slice(cluster.as_bytes()),
        group: group.0,
        request_id: Bytes::from(vec![1; 16]),
        commit_id: Bytes::copy_from_slice(&u128::from(index).to_be_bytes()),
        ops: vec![RowOp { key: key(name), op }],
        ..Command::default()
    };
    let id = EntryId {
        term: 1,
        node: NodeId(1),
        index,
    };
    let payload = Payload::Command(command.encode_to_vec().into());
    machine.apply(vec![CommittedEntry { id, payload }]).unwrap();
}

fn found(machine: &GroupMachine, name: &str) -> Option<i64> {
    value(&ReadView::new(machine.shared.newest.get()), name).unwrap()
}

#[test]
fn a_copy_holds_one_moment_and_replaces_everything() {
    let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
    let (mut from, mut to) = (machine(OURS, &disk), machine(OURS, &disk));
    put(&mut from, 0, "a", 1);
    put(&mut from, 1, "b", 2);
    let dir = Path::new("/copy");
    let copied = from.copier()(dir).unwrap();
    put(&mut from, 2, "a", 3);
    assert_eq!(copied.last.map(|last| last.index), Some(1));

    put(&mut to, MARK_EVERY, "gone", 1);
    assert!(to.shared.marks.lock().at(MARK_EVERY).is_some());
    assert_eq!(to.install(dir).unwrap(), copied);
    assert_eq!(to.applied(), copied);
    assert_eq!(to.shared.newest.get().applied.clone(), to.applied);
    let rows = ["a", "b", "gone"].map(|name| found(&to, name));
    assert_eq!(rows, [Some(1), Some(2), None]);
    assert!(to.shared.marks.lock().all().is_empty());
    // The log goes on behind the copy, and both come to the same digest.
    put(&mut to, 2, "a", 3);
    assert_eq!(to.applied.digest, from.applied.digest);
}

#[test]
fn a_copy_of_another_group_or_cluster_is_refused() {
    let group = Identity {
        group: GroupId(GROUP.0 + 1),
        ..OURS
    };
    let cluster = Identity {
        cluster: ClusterId::from_bytes([2; 16]),
        ..OURS
    };
    for (n, other) in [group, cluster].into_iter().enumerate() {
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::new());
        let (mut from, mut to) = (machine(other, &disk), machine(OURS, &disk));
        put(&mut from, 5, "a", 1);
        put(&mut to, 0, "a", 7);
        let dir = Path::new("/copy");
        from.copier()(dir).unwrap();
        let refused = to.install(dir).unwrap_err();
        let InstallError::Failed { source } = refused;
        assert!(
            source.to_string().contains("expected group"),
            "{n}: {source}"
        );
        assert_eq!(found(&to, "a"), Some(7));
        let last = to.applied().last.map(|last| last.index);
        assert_eq!(last, Some(0));
    }
}
