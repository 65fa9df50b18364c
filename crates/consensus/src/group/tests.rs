//! A group from the outside: order, restart, crash, lost terms, reads, checkpoints, failure.

use super::*;
use crate::ProposeError;
use crate::testing::{BOMB, Durable, GROUP, Medium, NODE, Node, POISON, append_command};
use crate::transfer::SnapshotData;
use bytes::Bytes;
use floeberg_env::{Rng, SeededRng, UnsyncedData};
use floeberg_raftlog::MemLogStore;
use floeberg_telemetry::RaftLogMetrics;
use futures::future::join_all;

fn command(i: usize) -> Bytes {
    Bytes::from(format!("command {i}"))
}

fn commands(range: std::ops::Range<usize>) -> Vec<Bytes> {
    range.map(command).collect()
}

async fn submit(node: &Node, term: Term, command: Bytes) -> Pending {
    let command = SizedCommand::new(command).unwrap();
    let permit = node.group.reserve(command.bytes().len()).await;
    node.group.submit(Arc::new(permit), term, command)
}

async fn submit_all(node: &Node, term: Term, range: std::ops::Range<usize>) -> Vec<Pending> {
    let mut pending = Vec::new();
    for i in range {
        pending.push(submit(node, term, command(i)).await);
    }
    pending
}

#[tokio::test]
async fn commands_apply_in_submission_order_and_survive_a_restart() {
    for medium in Medium::both() {
        let durable = Durable::default();
        let node = Node::start(&medium, &durable).await;
        let first = node.ready().await;
        let pending = submit_all(&node, first, 0..300).await;
        for (i, response) in join_all(pending).await.into_iter().enumerate() {
            assert_eq!(response.unwrap(), Bytes::from((i + 1).to_string()));
        }
        assert_eq!(node.commands(), commands(0..300));
        node.stop().await;

        // Nothing was checkpointed: the state comes back from the log alone.
        assert_eq!(durable.0.lock().commands.len(), 0);
        let node = Node::start(&medium, &durable).await;
        let second = node.ready().await;
        assert!(second > first, "a restart leads a new term");
        assert_eq!(node.commands(), commands(0..300));
        join_all(submit_all(&node, second, 300..310).await).await;
        assert_eq!(node.commands(), commands(0..310));
        assert!(node.fatal.lock().is_empty());
        node.stop().await;
    }
}

#[tokio::test]
async fn a_command_of_a_term_that_does_not_lead_is_never_proposed() {
    for medium in Medium::both() {
        let durable = Durable::default();
        let node = Node::start(&medium, &durable).await;
        let lost = node.ready().await;
        node.stop().await;

        let node = Node::start(&medium, &durable).await;
        let term = node.ready().await;
        let stale = submit(&node, lost, command(0)).await;
        let early = submit(&node, term + 1, command(1)).await;
        let timely = submit(&node, term, command(2)).await;
        assert_eq!(stale.await, Err(ProposeError::NotProposed));
        assert_eq!(early.await, Err(ProposeError::NotProposed));
        assert_eq!(timely.await.unwrap(), "1");
        node.stop().await;

        let node = Node::start(&medium, &durable).await;
        node.ready().await;
        assert_eq!(node.commands(), [command(2)], "not in the log either");
        node.stop().await;
    }
}

/// One life and death of a node: how many commands were acknowledged, and how many came back.
async fn crash_once(seed: u64) -> (usize, usize) {
    const WAVE: usize = 40;
    let rng = SeededRng::new(seed);
    let rng: &dyn Rng = &rng;
    let store = MemLogStore::new();
    let medium = Medium::Mem(store.clone());
    let durable = Durable::default();
    let node = Node::start(&medium, &durable).await;
    let term = node.ready().await;
    for response in join_all(submit_all(&node, term, 0..WAVE).await).await {
        response.unwrap();
    }
    let second_wave = submit_all(&node, term, WAVE..2 * WAVE).await;
    for _ in 0..rng.below(30) {
        tokio::task::yield_now().await;
    }
    store.crash(rng, UnsyncedData::Torn);
    node.stop().await;
    let outcomes = join_all(second_wave).await;
    let acknowledged = WAVE + outcomes.iter().filter(|outcome| outcome.is_ok()).count();

    let node = Node::start(&medium, &durable).await;
    node.ready().await;
    let survived = node.commands();
    assert!(
        survived.len() >= acknowledged,
        "seed {seed}: an acknowledged command is gone"
    );
    assert_eq!(
        survived,
        commands(0..survived.len()),
        "seed {seed}: not a prefix"
    );
    node.stop().await;
    (acknowledged, survived.len())
}

#[tokio::test]
async fn a_crash_before_the_sync_takes_only_what_was_not_acknowledged() {
    let mut survivors = Vec::new();
    for seed in 0..30 {
        survivors.push(crash_once(seed).await.1);
    }
    assert!(
        survivors.iter().any(|n| *n < 80),
        "no crash ever lost anything: {survivors:?}"
    );
}

#[tokio::test]
async fn a_read_barrier_covers_every_write_acknowledged_before_it() {
    for medium in Medium::both() {
        let node = Node::start(&medium, &Durable::default()).await;
        let term = node.ready().await;
        for i in 0..20 {
            submit(&node, term, command(i)).await.await.unwrap();
            let written = node.live.lock().applied.last.unwrap().index;
            let point = node.group.read_barrier().await.unwrap();
            assert!(point.index >= written);
            assert_eq!((point.term, point.leader), (term, NODE));
        }
        node.stop().await;
    }
}

#[tokio::test]
async fn waiting_readers_share_a_round() {
    let [_, medium] = Medium::both();
    let node = Node::start(&medium, &Durable::default()).await;
    node.ready().await;
    let before = node.metrics.read_barriers.get();
    let barriers = join_all((0..100).map(|_| node.group.read_barrier())).await;
    assert!(barriers.iter().all(Result::is_ok));
    let rounds = node.metrics.read_barriers.get() - before;
    assert!((1..10).contains(&rounds), "{rounds} rounds for 100 readers");
    node.stop().await;
}

#[tokio::test]
async fn concurrent_proposers_share_syncs() {
    const PROPOSERS: usize = 64;
    const EACH: usize = 20;
    let [medium, _] = Medium::both();
    let node = Node::start(&medium, &Durable::default()).await;
    let term = node.ready().await;
    let before = node.log_metrics.fsyncs.get();
    join_all((0..PROPOSERS).map(async |p| {
        for i in 0..EACH {
            submit(&node, term, command(p * EACH + i))
                .await
                .await
                .unwrap();
        }
    }))
    .await;
    let proposals = (PROPOSERS * EACH) as u64;
    let syncs = node.log_metrics.fsyncs.get() - before;
    assert!(
        (1..proposals / 4).contains(&syncs),
        "{syncs} syncs for {proposals} proposals"
    );
    assert_eq!(node.metrics.proposals.get(), proposals);
    let largest = node.live.lock().batches.iter().copied().max();
    assert!(
        largest.is_some_and(|n| n > 8),
        "applied at most {largest:?} at once"
    );
    node.stop().await;
}

#[tokio::test]
async fn a_checkpoint_lets_the_log_be_purged_and_the_rest_be_replayed() {
    let config = GroupConfig {
        checkpoint_entries: 50,
        log_entries_kept: 10,
        ..GroupConfig::default()
    };
    for medium in Medium::both() {
        let durable = Durable::default();
        let env = Env::real();
        let node = Node::start_with(&medium, &durable, &config, &env).await;
        let term = node.ready().await;
        for response in join_all(submit_all(&node, term, 0..120).await).await {
            response.unwrap();
        }
        let wait = node.group.inner.raft.wait(None);
        let purged = wait.metrics(|m| m.purged.is_some(), "purged");
        purged.await.unwrap();
        join_all(submit_all(&node, term, 120..125).await).await;
        let covered = durable.0.lock().applied.last.unwrap().index;
        let (purged, _) = node.log.state(GROUP).unwrap().purged.unwrap();
        assert!(
            purged + 10 <= covered,
            "purged to {purged}, durable only to {covered}"
        );
        node.stop().await;

        let node = Node::start_with(&medium, &durable, &config, &env).await;
        node.ready().await;
        assert_eq!(node.commands(), commands(0..125));
        node.stop().await;
    }
}

#[tokio::test]
async fn a_failing_state_machine_stops_the_group_for_good() {
    for poison in [POISON, BOMB] {
        let [_, medium] = Medium::both();
        let node = Node::start(&medium, &Durable::default()).await;
        let term = node.ready().await;
        let poisoned = submit(&node, term, Bytes::from_static(poison)).await;
        assert_eq!(poisoned.await, Err(ProposeError::Indefinite));
        let mut leadership = node.group.leadership();
        while leadership.changed().await.is_ok() {}
        assert!(!leadership.borrow().is_leader);
        assert_eq!(node.fatal.lock().len(), 1);
        assert_eq!(
            node.group.read_barrier().await,
            Err(NoLeader { group: GROUP })
        );
        assert!(submit(&node, term, command(0)).await.await.is_err());
        node.stop().await;
    }
}

#[tokio::test]
async fn a_panic_of_the_library_stops_the_group_and_is_reported() {
    let [_, medium] = Medium::both();
    let node = Node::start(&medium, &Durable::default()).await;
    let term = node.ready().await;
    // A snapshot of a later term than its leader's contradicts the protocol.
    let last = EntryId {
        term: term + 9,
        node: NODE,
        index: 100,
    };
    let applied = crate::Applied {
        last: Some(last),
        membership: None,
    };
    let dir = std::path::PathBuf::from("nowhere");
    let received = SnapshotData::Received {
        dir,
        applied: applied.clone(),
    };
    let snapshot = crate::apply::snapshot_of(&applied, received).unwrap();
    let vote = openraft::Vote::new_committed(term + 1, 7);
    let installed = node.group.inner.raft.install_full_snapshot(vote, snapshot);
    assert!(installed.await.is_err());
    let mut leadership = node.group.leadership();
    while leadership.changed().await.is_ok() {}
    assert_eq!(*node.fatal.lock(), ["panicked"]);
    assert!(submit(&node, term, command(0)).await.await.is_err());
    node.stop().await;
}

#[tokio::test]
async fn a_failed_sync_leaves_the_outcome_open_and_stops_the_group() {
    let store = MemLogStore::new();
    let medium = Medium::Mem(store.clone());
    let node = Node::start(&medium, &Durable::default()).await;
    let term = node.ready().await;
    store.fail_next_sync();
    let lost = submit(&node, term, command(0)).await;
    assert_eq!(lost.await, Err(ProposeError::Indefinite));
    let mut leadership = node.group.leadership();
    while leadership.changed().await.is_ok() {}
    assert_eq!(node.fatal.lock().len(), 1);
    node.stop().await;
}

#[tokio::test]
async fn after_a_shutdown_nothing_is_proposed_or_reported() {
    for medium in Medium::both() {
        let node = Node::start(&medium, &Durable::default()).await;
        let term = node.ready().await;
        submit(&node, term, command(0)).await.await.unwrap();
        node.group.shutdown().await;
        node.group.shutdown().await;
        let late = submit(&node, term, command(1)).await;
        assert_eq!(late.await, Err(ProposeError::NotProposed));
        assert!(!node.group.leadership().borrow().is_leader);
        assert_eq!(
            node.group.read_barrier().await,
            Err(NoLeader { group: GROUP })
        );
        assert!(node.fatal.lock().is_empty());
    }
}

#[tokio::test]
async fn unreadable_stored_bytes_stop_the_start() {
    for medium in Medium::both() {
        let env = Env::real();
        let log = medium.open(&env, &RaftLogMetrics::default());
        let (done, synced) = oneshot::channel();
        let bytes = Bytes::from_static(&[0xff]);
        log.save_vote(
            GROUP,
            bytes,
            Box::new(move |result| done.send(result).unwrap()),
        );
        synced.await.unwrap().unwrap();
        drop(log);
        let config = GroupConfig::default();
        let started = Node::try_start(&medium, &Durable::default(), &config, &env).await;
        assert!(matches!(
            started,
            Err(GroupStartError::Recovery { group: GROUP, .. })
        ));
    }
}

#[tokio::test]
async fn the_status_tells_how_far_the_group_is() {
    let [_, medium] = Medium::both();
    let node = Node::start(&medium, &Durable::default()).await;
    let term = node.ready().await;
    submit(&node, term, command(0)).await.await.unwrap();
    let status = node.group.status();
    assert_eq!((status.term, status.leader), (term, Some(NODE)));
    assert_eq!(status.applied.map(|id| id.index), status.last_index);
    assert_eq!((status.checkpoint, status.purged), (None, None));
    node.stop().await;
}

#[tokio::test]
async fn a_permit_is_held_until_the_outcome_even_if_nobody_waits() {
    let [_, medium] = Medium::both();
    let config = GroupConfig {
        in_flight_max: 1,
        ..GroupConfig::default()
    };
    let node = Node::start_with(&medium, &Durable::default(), &config, &Env::real()).await;
    let term = node.ready().await;
    let first = Arc::new(node.group.reserve(1).await);
    let mut second = Box::pin(node.group.reserve(1));
    assert!(futures::poll!(&mut second).is_pending());
    let sized = SizedCommand::new(command(0)).unwrap();
    drop(node.group.submit(first, term, sized));
    assert!(futures::poll!(&mut second).is_pending());
    let second = second.await;
    assert_eq!(node.commands(), [command(0)]);
    drop(second);
    node.stop().await;
}

#[tokio::test]
async fn a_seed_replays_exactly() {
    async fn run(seed: u64) -> (u64, Vec<usize>) {
        let (env, _control) = Env::simulated(seed);
        let medium = Medium::Mem(MemLogStore::with_sync_time(
            std::time::Duration::ZERO..=std::time::Duration::ZERO,
        ));
        let config = GroupConfig::default();
        let node = Node::start_with(&medium, &Durable::default(), &config, &env).await;
        let term = node.ready().await;
        for wave in 0..10 {
            join_all(submit_all(&node, term, wave * 10..wave * 10 + 10).await).await;
        }
        let batches = node.live.lock().batches.clone();
        node.stop().await;
        (term, batches)
    }
    assert_eq!(run(5).await, run(5).await);
}

/// Earlier versions had no limit: what they wrote is read, applied and snapshotted as before.
#[tokio::test]
async fn an_entry_above_the_limit_that_is_in_the_log_already_is_applied() {
    use floeberg_types::limits;

    for medium in Medium::both() {
        let durable = Durable::default();
        let node = Node::start(&medium, &durable).await;
        let term = node.ready().await;
        submit(&node, term, command(0)).await.await.unwrap();
        let last = node.group.status().last_index.unwrap();
        let log = node.log.clone();
        node.group.shutdown().await;
        let large = Bytes::from(vec![7; limits::COMMAND_BYTES + 1]);
        let id = EntryId {
            term,
            node: NODE,
            index: last + 1,
        };
        append_command(&*log, id, large.clone()).await;
        drop((log, node));

        let node = Node::start(&medium, &durable).await;
        node.ready().await;
        assert_eq!(node.commands(), [command(0), large]);
        node.stop().await;
    }
}
