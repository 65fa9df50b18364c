//! Random transactions with power losses in between, against what was acknowledged.

use crate::testing::{CLUSTER, GROUP, Medium, Node, counter, cx, key, value};
use crate::{Digest, ReadView, Row, Rows, Store, StoreError, Txn, UsageRow};
use bytes::Bytes;
use floeberg_env::{Env, Rng, UnsyncedData};
use floeberg_kv::{Kv, MemKv, MemKvStore};
use floeberg_proto::floeberg::raft::v1::{Entry, entry::Payload};
use floeberg_raftlog::{LogStore, MemLog, MemLogStore};
use floeberg_state::{Applied, Identity, LogPos, Run};
use parking_lot::Mutex;
use proptest::prelude::*;
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

const ACCOUNTS: u8 = 4;

/// Moves money between two accounts and leaves a receipt.
#[derive(Debug, Clone, Copy)]
struct Transfer {
    from: u8,
    to: u8,
    amount: i64,
}

/// Transfers started together, how many turns they get, and how the process ends then.
#[derive(Debug, Clone)]
struct Era {
    transfers: Vec<Transfer>,
    turns: u32,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Shutdown,
    PowerLoss,
    TornPowerLoss,
}

fn eras() -> impl Strategy<Value = Vec<Era>> {
    let transfer = (0..ACCOUNTS, 0..ACCOUNTS, 1i64..50).prop_map(|(from, to, amount)| Transfer {
        from,
        to,
        amount,
    });
    let fate = prop_oneof![
        Just(Fate::Shutdown),
        Just(Fate::PowerLoss),
        Just(Fate::TornPowerLoss)
    ];
    let era = (proptest::collection::vec(transfer, 1..20), 0u32..400, fate);
    let era = era.prop_map(|(transfers, turns, fate)| Era {
        transfers,
        turns,
        fate,
    });
    proptest::collection::vec(era, 1..5)
}

fn account(n: u8) -> String {
    format!("account/{n}")
}

fn receipt(n: u64) -> String {
    format!("receipt/{n:08}")
}

/// Both balances and the receipt change together or not at all.
fn transfer(txn: &mut Txn<'_>, number: u64, order: Transfer) -> Result<(), StoreError> {
    let from = value(txn, &account(order.from))?.unwrap_or(0);
    txn.put(key(&account(order.from)), &counter(from - order.amount));
    let to = value(txn, &account(order.to))?.unwrap_or(0);
    txn.put(key(&account(order.to)), &counter(to + order.amount));
    let paper = UsageRow {
        objects: i64::from(order.from),
        tables: i64::from(order.to),
        bytes: order.amount,
        ..UsageRow::default()
    };
    txn.put(key(&receipt(number)), &paper);
    Ok(())
}

/// Starts every transfer of an era as a task; `acknowledged` collects those that were answered.
fn begin(store: &Store, era: &Era, next: &mut u64, acknowledged: &Arc<Mutex<BTreeSet<u64>>>) {
    for order in &era.transfers {
        let (number, order) = (*next, *order);
        *next += 1;
        let (store, acknowledged) = (store.clone(), Arc::clone(acknowledged));
        tokio::spawn(async move {
            let done = store
                .transact(&cx(), |txn| transfer(txn, number, order))
                .await;
            if done.is_ok() {
                acknowledged.lock().insert(number);
            }
        });
    }
}

/// Every acknowledged receipt is there, and the balances are exactly those of the receipts.
fn check(view: &ReadView, acknowledged: &BTreeSet<u64>) {
    let receipts: Vec<(Bytes, Row<UsageRow>)> =
        view.scan(&key("receipt/"), None, usize::MAX).unwrap();
    let names: BTreeSet<Bytes> = receipts.iter().map(|(key, _)| key.clone()).collect();
    for number in acknowledged {
        assert!(
            names.contains(&key(&receipt(*number))),
            "acknowledged {number} is lost"
        );
    }
    let mut balances = BTreeMap::new();
    for (_, paper) in &receipts {
        *balances.entry(paper.objects).or_insert(0) -= paper.bytes;
        *balances.entry(paper.tables).or_insert(0) += paper.bytes;
    }
    for n in 0..ACCOUNTS {
        let balance = value(view, &account(n)).unwrap();
        assert_eq!(
            balance.unwrap_or(0),
            balances.get(&i64::from(n)).copied().unwrap_or(0)
        );
    }
}

/// Applies the log from its first entry, entry by entry, and returns rows and digest at `last`.
fn replay(log: &dyn LogStore, last: u64) -> (BTreeMap<Bytes, Bytes>, Digest) {
    let identity = Identity {
        cluster: CLUSTER,
        group: GROUP,
    };
    let mut rows = BTreeMap::new();
    let mut applied = Applied::default();
    for record in log.read(GROUP, 0, last + 1, usize::MAX).unwrap() {
        let entry = Entry::decode(record.bytes).unwrap();
        let at = LogPos {
            term: entry.term,
            node: entry.node,
            index: entry.index,
        };
        let mut run = Run::new(&rows, identity, applied.clone());
        match entry.payload.unwrap() {
            Payload::Command(command) => drop(run.command(at, &command).unwrap()),
            Payload::Blank(_) => run.blank(at).unwrap(),
            // The digest covers what the state machine was given, which the stored row repeats.
            Payload::Membership(_) => run.membership(at, membership(log, at)).unwrap(),
        }
        let (batch, now) = run.finish();
        for (key, change) in batch {
            match change {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        applied = now;
    }
    assert_eq!(applied.last.map(|at| at.index), Some(last));
    (rows, applied.digest)
}

/// The bytes that consensus hands over for the membership entry at `at`.
fn membership(log: &dyn LogStore, at: LogPos) -> Bytes {
    use floeberg_proto::floeberg::raft::v1::{LogId, StoredMembership};
    let record = log
        .read(GROUP, at.index, at.index + 1, usize::MAX)
        .unwrap()
        .remove(0);
    let Some(Payload::Membership(membership)) = Entry::decode(record.bytes).unwrap().payload else {
        unreachable!("the caller saw a membership here")
    };
    let log_id = LogId {
        term: at.term,
        node: at.node,
        index: at.index,
    };
    let stored = StoredMembership {
        format: 1,
        log_id: Some(log_id),
        membership: Some(membership),
    };
    stored.encode_to_vec().into()
}

/// All rows of a state.
fn dump(kv: &dyn Kv) -> BTreeMap<Bytes, Bytes> {
    kv.scan(&[], None).map(Result::unwrap).collect()
}

/// What outlives the processes of one life.
struct World {
    env: Env,
    faults: Arc<dyn Rng>,
    medium: Medium,
    acknowledged: Arc<Mutex<BTreeSet<u64>>>,
    next: u64,
}

impl World {
    /// One process: recovers, works, and ends as the era says.
    async fn live(&mut self, era: &Era) {
        let node = Node::start(&self.env, &self.medium).await;
        node.store
            .read(|view| check(view, &self.acknowledged.lock()))
            .await
            .unwrap();
        begin(&node.store, era, &mut self.next, &self.acknowledged);
        for _ in 0..era.turns {
            tokio::task::yield_now().await;
        }
        match era.fate {
            Fate::Shutdown => node.store.shutdown().await.unwrap(),
            Fate::PowerLoss => self.medium.crash(&*self.faults, UnsyncedData::Lost),
            Fate::TornPowerLoss => self.medium.crash(&*self.faults, UnsyncedData::Torn),
        }
    }

    /// The last process: everything acknowledged is there; returns what it has applied.
    async fn judge(&self) -> Applied {
        let node = Node::start(&self.env, &self.medium).await;
        node.store
            .read(|view| check(view, &self.acknowledged.lock()))
            .await
            .unwrap();
        node.store.shutdown().await.unwrap();
        node.store.applied()
    }
}

/// Runs one process; whatever it leaves behind dies with its runtime.
fn process<T>(life: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(life)
}

fn live_through(eras: &[Era], seed: u64) {
    let (env, control) = Env::simulated(seed);
    let sync = Duration::ZERO..=Duration::from_micros(200);
    let (kv, log) = (MemKvStore::new(), MemLogStore::with_sync_time(sync));
    let mut world = World {
        env: env.clone(),
        faults: Arc::clone(control.faults()),
        medium: Medium::Mem(kv.clone(), log.clone()),
        acknowledged: Arc::default(),
        next: 0,
    };
    for era in eras {
        process(world.live(era));
    }
    let reached = process(world.judge());
    process(async {
        let log = MemLog::open(&log, &env);
        let (rows, digest) = replay(&log, reached.last.unwrap().index);
        assert_eq!(
            digest, reached.digest,
            "replaying the log gives another digest"
        );
        assert_eq!(rows, dump(&MemKv::open(&kv)));
    });
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 64,
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    })]

    #[test]
    fn acknowledged_transactions_survive_whole(eras in eras(), seed in any::<u64>()) {
        live_through(&eras, seed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rocksdb_store_comes_back_with_everything_acknowledged() {
    let (env, medium) = (Env::real(), Medium::rocks());
    let acknowledged = Arc::<Mutex<BTreeSet<u64>>>::default();
    let mut digests = Vec::new();
    for round in 0..3u64 {
        let node = Node::start(&env, &medium).await;
        node.store
            .read(|view| check(view, &acknowledged.lock()))
            .await
            .unwrap();
        let orders = (0..60).map(|n| {
            let number = round * 60 + n;
            let order = Transfer {
                from: (n % 4) as u8,
                to: (n % 3) as u8,
                amount: 1,
            };
            let (store, acknowledged) = (node.store.clone(), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                store
                    .transact(&cx(), |txn| transfer(txn, number, order))
                    .await
                    .unwrap();
                acknowledged.lock().insert(number);
            })
        });
        for order in orders.collect::<Vec<_>>() {
            order.await.unwrap();
        }
        digests.push(node.store.digest());
        node.store.shutdown().await.unwrap();
        assert!(node.is_healthy());
        drop(node);
        medium.closed().await;
    }
    assert_eq!(acknowledged.lock().len(), 180);
    digests.dedup();
    assert_eq!(digests.len(), 3);
}
