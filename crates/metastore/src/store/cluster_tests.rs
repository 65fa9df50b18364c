//! Several fronts over a network that fails: every acknowledged commit is there exactly once, and
//! nothing that was refused is.

use super::*;
use crate::testing::cluster::{Cluster, Mischief, NODES, counters, cx_within};
use crate::testing::{CLUSTER, GROUP, add, create, cx, key};
use crate::{Comparison, compare_marks};
use floeberg_env::UnsyncedData;
use floeberg_types::NodeId;
use futures::future::join_all;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn any_node_commits_and_every_node_reads_it() {
    let cluster = Cluster::start(1).await;
    for (n, node) in NODES.into_iter().enumerate() {
        let store = cluster.store(node);
        let done = store.transact(&cx(), |txn| add(txn, "a", 1)).await.unwrap();
        assert_eq!(done.value, n as i64 + 1);
        // Applied here when it returns, and seen everywhere by a read.
        assert_eq!(value_here(store, "a"), Some(done.value));
        for reader in NODES {
            assert_eq!(cluster.read(reader, "a").await, Some(done.value));
        }
    }
    for node in NODES {
        let refused = cluster.store(node);
        let refused = refused.transact(&cx(), |txn| create(txn, "a", 9)).await;
        assert!(matches!(refused, Err(TransactError::Refused(Some(3)))));
    }
    cluster.converge().await;
    let store = cluster.store(cluster.follower().await);
    assert_eq!(store.in_flight_rows(), 0);
    assert_eq!(store.outcomes_awaited(), 0);
}

fn value_here(store: &Store, name: &str) -> Option<i64> {
    crate::testing::value(&store.local(), name).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_hot_row_makes_progress_from_three_fronts() {
    let cluster = Cluster::start(2).await;
    let worker = |store: Store| async move {
        for _ in 0..10 {
            store
                .transact(&cx(), |txn| add(txn, "hot", 1))
                .await
                .unwrap();
        }
        Instant::now()
    };
    let begun = Instant::now();
    let stores = cluster.stores();
    let ends = join_all((0..60).map(|n| worker(stores[n % 3].clone()))).await;
    for node in NODES {
        assert_eq!(cluster.read(node, "hot").await, Some(600));
    }
    let last = ends.iter().max().unwrap().duration_since(begun);
    assert!(last < Duration::from_secs(30), "took {last:?}");
    cluster.converge().await;
}

/// Workers on the leader that never pause must not keep another node's commit out.
#[tokio::test(start_paused = true)]
async fn a_front_is_not_starved_by_a_leader_that_is_always_busy() {
    let cluster = Cluster::start(3).await;
    let leader = cluster.leader().await;
    let front = cluster.follower().await;
    let busy: Vec<_> = (0..8)
        .map(|_| {
            let store = cluster.store(leader).clone();
            tokio::spawn(async move {
                loop {
                    store
                        .transact(&cx(), |txn| add(txn, "hot", 1))
                        .await
                        .unwrap();
                }
            })
        })
        .collect();
    for n in 1..=10 {
        let begun = Instant::now();
        let both = |txn: &mut Txn<'_>| {
            add(txn, "hot", 1)?;
            add(txn, "mine", 1)
        };
        let store = cluster.store(front);
        let done = store.transact(&cx(), both).await.unwrap();
        assert_eq!(done.value, n);
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(2), "commit {n} took {took:?}");
    }
    busy.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test(start_paused = true)]
async fn a_commit_whose_every_answer_is_lost_is_resolved_from_the_log() {
    let cluster = Cluster::start(4).await;
    *cluster.mischief.lock() = Mischief {
        answers_lost: 1000,
        repeated: 1000,
        ..Mischief::default()
    };
    let front = cluster.store(cluster.follower().await).clone();
    let one = |n: usize| {
        let front = front.clone();
        async move {
            let name = format!("own/{n}");
            front
                .transact(&cx(), |txn| add(txn, &name, 1))
                .await
                .unwrap();
        }
    };
    join_all((0..50).map(one)).await;
    // Every copy of every message has arrived by then.
    tokio::time::sleep(Duration::from_secs(20)).await;
    cluster.converge().await;
    let found = counters(&front.local(), "own/");
    assert_eq!(found.len(), 50);
    assert!(found.values().all(|count| *count == 1), "{found:?}");
}

/// A leader whose followers answer too late lets its lease run out: it proposes nothing until they have
/// answered, and leads on. No later term tells a front that its command was taken and will never be in
/// the log.
#[tokio::test(start_paused = true)]
async fn a_command_that_was_taken_but_not_proposed_is_decided_again() {
    let cluster = Cluster::start(17).await;
    let leader = cluster.store(cluster.leader().await);
    let front = cluster.store(cluster.follower().await);
    front.transact(&cx(), |txn| add(txn, "a", 1)).await.unwrap();
    let term = leader.group().status().term;
    let lease = cluster.config.raft.election_timeout_max / 2;
    cluster.mischief.lock().late = Some(lease * 3 / 2);
    let (first, second) = (cx(), cx());
    let slow = leader.transact(&first, |txn| add(txn, "b", 1));
    let refused = async {
        tokio::time::sleep(lease * 5 / 4).await;
        let begun = Instant::now();
        let commit = front.transact(&second, |txn| add(txn, "a", 1));
        let healing = async {
            tokio::time::sleep(lease / 8).await;
            cluster.mischief.lock().late = None;
        };
        let (done, ()) = tokio::join!(commit, healing);
        assert_eq!(done.unwrap().value, 2);
        begun.elapsed()
    };
    let (slow, took) = tokio::join!(slow, refused);
    slow.unwrap();
    assert!(took > crate::front::TAKEN, "it was in the log at once");
    assert!(took < Duration::from_secs(3), "took {took:?}");
    let after = leader.group().status().term;
    assert_eq!(after, term, "a change of leaders would have told");
}

#[tokio::test(start_paused = true)]
async fn a_front_without_a_majority_refuses_nothing_and_acknowledges_nothing() {
    let cluster = Cluster::start(5).await;
    let front = cluster.follower().await;
    cluster.network.isolate(front);
    let elsewhere = NODES.into_iter().find(|node| *node != front).unwrap();
    let done = cluster.store(elsewhere);
    done.transact(&cx(), |txn| create(txn, "a", 1))
        .await
        .unwrap();
    let alone = cluster.store(front);
    let answer = alone
        .transact(&cx_within(Duration::from_secs(3)), |txn| {
            crate::testing::value(txn, "a").map_err(|_| ())
        })
        .await;
    assert!(matches!(answer, Err(TransactError::Unavailable)));
    let brief = cx_within(Duration::from_secs(3));
    let wrote = alone.transact(&brief, |txn| add(txn, "b", 1)).await;
    assert!(matches!(
        wrote,
        Err(TransactError::Unavailable | TransactError::Indefinite)
    ));
    assert_eq!(alone.read(|_| ()).await, Err(Unavailable));
    cluster.network.heal();
    let refused = alone.transact(&cx(), |txn| create(txn, "a", 2)).await;
    assert!(matches!(refused, Err(TransactError::Refused(Some(1)))));
}

/// A leader that loses its majority with commands in flight learns what became of them.
#[tokio::test(start_paused = true)]
async fn a_deposed_leader_resolves_its_own_commands() {
    let cluster = Cluster::start(6).await;
    let leader = cluster.leader().await;
    cluster.network.isolate(leader);
    let store = cluster.store(leader).clone();
    let write = |n: usize| {
        let store = store.clone();
        async move {
            let name = format!("own/{n}");
            store.transact(&cx(), |txn| add(txn, &name, 1)).await
        }
    };
    let writes = tokio::spawn(join_all((0..20).map(write)));
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert!(!writes.is_finished(), "answered without a majority");
    cluster.network.heal();
    for done in writes.await.unwrap() {
        done.unwrap();
    }
    cluster.converge().await;
    let found = counters(&store.local(), "own/");
    assert_eq!(found.len(), 20);
    assert!(found.values().all(|count| *count == 1), "{found:?}");
}

#[tokio::test(start_paused = true)]
async fn a_fast_clock_of_a_front_does_not_carry_log_time_away() {
    let cluster = Cluster::start(7).await;
    let front = cluster.follower().await;
    cluster.control(front).jump_clock(3_600_000);
    let leader = cluster.leader().await;
    for _ in 0..3 {
        let store = cluster.store(front);
        store.transact(&cx(), |txn| add(txn, "a", 1)).await.unwrap();
    }
    let log_time = cluster.store(front).applied().log_time;
    let store = cluster.store(leader);
    let done = store.transact(&cx(), |txn| add(txn, "a", 1)).await.unwrap();
    assert!(done.log_time.since_ms(log_time) < 10_000);
    assert!(log_time.since_ms(done.log_time) <= 0, "log time fell");
}

#[tokio::test(start_paused = true)]
async fn a_node_that_fell_behind_takes_a_snapshot_and_goes_on() {
    let mut config = StoreConfig::new(CLUSTER, GROUP, NodeId(1));
    config.raft.log_entries_kept = 20;
    config.raft.checkpoint_entries = 50;
    let cluster = Cluster::start_with(8, config).await;
    let lagging = cluster.follower().await;
    cluster.network.isolate(lagging);
    let leader = cluster.leader_among(lagging).await;
    for n in 0..1500 {
        let name = format!("row/{}", n % 100);
        let store = cluster.store(leader);
        store
            .transact(&cx(), |txn| add(txn, &name, 1))
            .await
            .unwrap();
    }
    cluster.network.heal();
    assert_eq!(cluster.read(lagging, "row/7").await, Some(15));
    let store = cluster.store(lagging);
    store
        .transact(&cx(), |txn| add(txn, "row/7", 1))
        .await
        .unwrap();
    cluster.converge().await;
    let found = counters(&store.local(), "row/");
    assert_eq!(found, counters(&cluster.store(leader).local(), "row/"));
    assert_eq!(store.digest_at(MARK), None, "it skipped the mark");
    assert!(cluster.store(leader).digest_at(MARK).is_some());
}

const MARK: u64 = crate::MARK_EVERY;

#[tokio::test(start_paused = true)]
async fn nodes_agree_on_the_digest_at_every_mark() {
    let cluster = Cluster::start(9).await;
    let stores = cluster.stores();
    let write = |n: usize| {
        let store = stores[n % 3].clone();
        async move {
            let name = format!("row/{n}");
            store
                .transact(&cx(), |txn| add(txn, &name, 1))
                .await
                .unwrap();
        }
    };
    for chunk in 0..11 {
        join_all((0..100).map(|n| write(chunk * 100 + n))).await;
    }
    cluster.converge().await;
    let digests: Vec<_> = stores.iter().map(|store| store.digest_at(MARK)).collect();
    assert!(digests[0].is_some());
    assert!(digests.iter().all(|digest| *digest == digests[0]));
    let compared = compare_marks(&stores[0].digest_marks(), &stores[1].digest_marks());
    assert_eq!(compared, Comparison::Equal { index: MARK });
}

/// What a random run does to the cluster between two bursts of requests.
#[derive(Debug, Clone, Copy)]
enum Trouble {
    Nothing,
    KillLeader(Fate),
    KillFollower(Fate),
    IsolateLeader,
    CutFrontFromLeader,
    CutLeaderFromFront,
    LoseCalls,
    StepDown,
}

#[derive(Debug, Clone, Copy)]
enum Fate {
    Lost,
    Torn,
}

impl From<Fate> for UnsyncedData {
    fn from(fate: Fate) -> Self {
        match fate {
            Fate::Lost => Self::Lost,
            Fate::Torn => Self::Torn,
        }
    }
}

fn trouble() -> impl Strategy<Value = Trouble> {
    let fate = || prop_oneof![Just(Fate::Lost), Just(Fate::Torn)];
    prop_oneof![
        1 => Just(Trouble::Nothing),
        3 => fate().prop_map(Trouble::KillLeader),
        1 => fate().prop_map(Trouble::KillFollower),
        2 => Just(Trouble::IsolateLeader),
        1 => Just(Trouble::CutFrontFromLeader),
        1 => Just(Trouble::CutLeaderFromFront),
        2 => Just(Trouble::LoseCalls),
        1 => Just(Trouble::StepDown),
    ]
}

/// What a request was told, for the judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Committed,
    Refused,
    Unavailable,
    Indefinite,
    /// The node died first.
    Nothing,
}

/// Each request adds one to its own counter and to one of two shared ones; every fifth creates a
/// row instead, which only one of those that share a name may.
async fn request(store: Store, n: usize) -> (usize, Told) {
    let own = format!("own/{n:06}");
    let shared = format!("shared/{}", n % 2);
    let cx = cx_within(Duration::from_secs(30));
    let decide = |txn: &mut Txn<'_>| {
        if n.is_multiple_of(5) {
            create(txn, &format!("once/{}", n / 20), 1).map_err(drop)?;
        }
        add(txn, &own, 1).map_err(drop)?;
        add(txn, &shared, 1).map_err(drop)
    };
    let told = match store.transact(&cx, decide).await {
        Ok(_) => Told::Committed,
        Err(TransactError::Refused(())) => Told::Refused,
        Err(TransactError::Unavailable) => Told::Unavailable,
        Err(TransactError::Indefinite) => Told::Indefinite,
        Err(TransactError::Crowded(_) | TransactError::TooLarge(_) | TransactError::Storage(_)) => {
            Told::Nothing
        }
    };
    (n, told)
}

async fn make(cluster: &mut Cluster, trouble: Trouble) {
    let leader = cluster.leader().await;
    let front = cluster.follower().await;
    match trouble {
        Trouble::Nothing => {}
        Trouble::KillLeader(fate) => cluster.kill(leader, fate.into()),
        Trouble::KillFollower(fate) => cluster.kill(front, fate.into()),
        Trouble::IsolateLeader => cluster.network.isolate(leader),
        Trouble::CutFrontFromLeader => cluster.network.cut(front, leader),
        Trouble::CutLeaderFromFront => cluster.network.cut(leader, front),
        Trouble::LoseCalls => cluster.network.loss(300),
        Trouble::StepDown => {
            let transferred = cluster.store(leader).group().transfer_leader(front).await;
            // It may be overtaken by an election; the requests are what counts.
            drop(transferred);
        }
    }
}

async fn mend(cluster: &mut Cluster) {
    cluster.network.heal();
    cluster.network.loss(0);
    for node in NODES {
        if !cluster.nodes.contains_key(&node) {
            cluster.boot(node).await;
        }
    }
}

async fn run(seed: u64, troubles: Vec<(Trouble, u64)>, mischief: Mischief) {
    let mut cluster = Cluster::start(seed).await;
    *cluster.mischief.lock() = mischief;
    let mut told = BTreeMap::new();
    let mut next = 0;
    for (trouble, after_ms) in troubles {
        let stores = cluster.stores();
        let requests: Vec<_> = (0..45)
            .map(|n| {
                let (store, n) = (stores[n % stores.len()].clone(), next + n);
                (n, tokio::spawn(request(store, n)))
            })
            .collect();
        drop(stores);
        next += requests.len();
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        make(&mut cluster, trouble).await;
        tokio::time::sleep(Duration::from_secs(4)).await;
        mend(&mut cluster).await;
        for (n, request) in requests {
            let end = request.await.map_or(Told::Nothing, |(_, told)| told);
            told.insert(n, end);
        }
    }
    // Copies of messages that are still on their way come to nothing.
    tokio::time::sleep(Duration::from_secs(10)).await;
    cluster.leader().await;
    let last = cluster.store(NODES[0]);
    last.transact(&cx(), |txn| add(txn, "last", 1))
        .await
        .unwrap();
    cluster.converge().await;
    judge(&last.local(), &told);
}

fn judge(view: &ReadView, told: &BTreeMap<usize, Told>) {
    let own = counters(view, "own/");
    let mut shared = [0; 2];
    let mut once = BTreeMap::new();
    for (n, told) in told {
        let count = own.get(&key(&format!("own/{n:06}"))).copied();
        match told {
            Told::Committed => assert_eq!(count, Some(1), "request {n} was acknowledged"),
            Told::Refused | Told::Unavailable => assert_eq!(count, None, "request {n}: {told:?}"),
            Told::Indefinite | Told::Nothing => {
                assert!(
                    count.is_none_or(|count| count == 1),
                    "request {n}: {count:?}"
                );
            }
        }
        if count.is_some() {
            shared[n % 2] += 1;
            if n.is_multiple_of(5) {
                *once.entry(n / 20).or_insert(0) += 1;
            }
        }
        if *told == Told::Refused {
            assert!(n.is_multiple_of(5), "request {n} had nothing to refuse");
        }
    }
    assert!(once.values().all(|creators| *creators == 1), "{once:?}");
    for (n, sum) in shared.into_iter().enumerate() {
        let found = crate::testing::value(view, &format!("shared/{n}")).unwrap();
        assert_eq!(found.unwrap_or(0), sum, "a sum of {n}");
    }
}

/// Runs one random history on a runtime of its own, with paused time.
fn history(seed: u64, troubles: Vec<(Trouble, u64)>, mischief: Mischief) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()
        .unwrap()
        .block_on(async {
            let all = tokio::time::timeout(TOO_LONG, run(seed, troubles, mischief));
            all.await.expect("the cluster hangs");
        });
}

/// Far beyond every deadline and election of a history.
const TOO_LONG: Duration = Duration::from_secs(1200);

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 40,
        max_shrink_iters: 30,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_fronts_are_told_is_true_whatever_happens(
        seed in any::<u64>(),
        troubles in proptest::collection::vec((trouble(), 0u64..60), 1..4),
        answers_lost in prop_oneof![Just(0u64), Just(200), Just(600)],
        repeated in prop_oneof![Just(0u64), Just(500)],
    ) {
        let mischief = Mischief { answers_lost, repeated, ..Mischief::default() };
        history(seed, troubles, mischief);
    }
}

/// A decision whose command has about `bytes` bytes.
fn write_bytes(txn: &mut Txn<'_>, bytes: usize) -> Result<(), ()> {
    txn.put_raw(key("large"), vec![7; bytes].into());
    Ok(())
}

/// An entry that no message can carry would stop the group: it must not come into being anywhere.
#[tokio::test(start_paused = true)]
async fn a_command_that_no_entry_takes_is_refused_on_every_node_and_nothing_stops() {
    let cluster = Cluster::start(11).await;
    let limit = floeberg_types::limits::COMMAND_BYTES;
    let around = 1024;
    for node in NODES {
        let store = cluster.store(node);
        let begun = Instant::now();
        let refused = store.transact(&cx(), |txn| write_bytes(txn, limit)).await;
        let Err(TransactError::TooLarge(large)) = refused else {
            panic!("{refused:?}");
        };
        assert_eq!(large.limit, limit as u64);
        assert!(large.bytes > large.limit);
        assert!(large.to_string().contains("smaller requests"), "{large}");
        assert_eq!(Instant::now(), begun, "waited for what cannot come");
        assert_eq!(store.in_flight_rows(), 0);
        assert_eq!(store.outcomes_awaited(), 0);
        // The largest that fits is committed, through every node.
        let largest = |txn: &mut Txn<'_>| write_bytes(txn, limit - around);
        store.transact(&cx(), largest).await.unwrap();
    }
    cluster.converge().await;
}

/// Nodes of another version may send what this one would not.
#[tokio::test(start_paused = true)]
async fn a_leader_refuses_a_command_that_another_node_should_not_have_sent() {
    use crate::wire::{Propose, Reason, Reply};
    use floeberg_rpc::{Method, Request};

    let cluster = Cluster::start(12).await;
    let store = cluster.store(cluster.leader().await);
    let limit = floeberg_types::limits::COMMAND_BYTES;
    let propose = Propose {
        term: store.leadership().borrow().term,
        command: vec![0; limit + 1].into(),
        earlier_misses: 0,
    };
    let request = Request {
        method: Method::Propose,
        group: GROUP,
        body: propose.encode(),
    };
    let from = cluster.follower().await;
    let reply = store.proposals().handle(from, request).await.unwrap();
    let Ok(Reply::Refused { reason, .. }) = Reply::decode(reply) else {
        panic!("it was taken");
    };
    assert!(matches!(reason, Reason::TooLarge(large) if large.bytes == limit as u64 + 1));
}
