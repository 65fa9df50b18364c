//! Reads on every node while the leadership moves and old leaders believe that they still lead.

use super::*;
use crate::testing::cluster::{Cluster, NODES, cx_within};
use crate::testing::{add, value};
use floeberg_types::NodeId;
use futures::future::join_all;
use std::cell::Cell;
use std::time::Duration;

/// What has been acknowledged to a writer or seen by a reader, on any node.
struct Known {
    value: Cell<i64>,
    is_over: Cell<bool>,
}

impl Known {
    fn learn(&self, value: i64) {
        self.value.set(self.value.get().max(value));
    }

    /// Reads on a node until all is over, in turns by a read and by a decision that writes nothing.
    async fn read_on(&self, store: &Store) -> usize {
        let mut reads = 0;
        while !self.is_over.get() {
            let before = self.value.get();
            let found = if reads % 2 == 0 {
                store.read(|view| value(view, "n")).await.ok()
            } else {
                let brief = cx_within(Duration::from_secs(3));
                let done = store.transact(&brief, |txn| value(txn, "n").map_err(drop));
                done.await.ok().map(|done| Ok(done.value))
            };
            if let Some(found) = found {
                let found = found.unwrap().unwrap_or(0);
                assert!(found >= before, "read {found} after {before} was known");
                self.learn(found);
                reads += 1;
            }
            tokio::time::sleep(Duration::from_millis(7)).await;
        }
        reads
    }
}

async fn commit(store: &Store, known: &Known) {
    let cx = cx_within(Duration::from_secs(5));
    match store.transact(&cx, |txn| add(txn, "n", 1)).await {
        Ok(done) => known.learn(done.value),
        Err(TransactError::Indefinite | TransactError::Unavailable) => {}
        Err(other) => panic!("{other:?}"),
    }
}

/// Takes the leader out of the cluster without its knowing: in both directions or in one.
fn depose(cluster: &Cluster, leader: NodeId, way: usize) {
    for other in NODES.into_iter().filter(|node| *node != leader) {
        if way != 1 {
            cluster.network.cut(leader, other);
        }
        if way != 2 {
            cluster.network.cut(other, leader);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_node_reads_less_than_was_acknowledged_or_seen_before() {
    for seed in 60..63 {
        let cluster = Cluster::start(seed).await;
        let delay = Duration::from_millis(1)..Duration::from_millis(12);
        cluster.network.delay(delay);
        let known = Known {
            value: Cell::new(0),
            is_over: Cell::new(false),
        };
        let writer = async {
            for round in 0..9 {
                for n in 0..6 {
                    commit(cluster.store(NODES[n % 3]), &known).await;
                }
                let leader = cluster.leader().await;
                depose(&cluster, leader, round % 3);
                let next = cluster.leader_among(leader).await;
                // What the old leader, which is asked all the while, must not hide.
                for _ in 0..3 {
                    commit(cluster.store(next), &known).await;
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
                cluster.network.heal();
            }
            known.is_over.set(true);
        };
        let stores = cluster.stores();
        let readers = join_all(stores.iter().map(|store| known.read_on(store)));
        let (reads, ()) = tokio::join!(readers, writer);
        assert!(known.value.get() > 60, "{}", known.value.get());
        assert!(reads.iter().all(|reads| *reads > 100), "{reads:?}");
    }
}
