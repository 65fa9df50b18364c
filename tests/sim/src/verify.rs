//! What a run looks at once everything is healed: every table and object through every node, and
//! whether all nodes have the same state.

use crate::client::{Client, KEPT, OBJECTS};
use crate::cluster::Cluster;
use crate::record::short;
use crate::tables::TABLES;
use floeberg_consensus::Held;
use floeberg_metastore::{Comparison, compare_marks};
use floeberg_test_chaos::history::Final;
use std::sync::Arc;
use std::time::Duration;

/// A node that gives no answer for so long after all was healed is a failure.
const LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(100);

/// Reads everything back, through every node.
pub(crate) async fn read_back(cluster: &Arc<Cluster>, mut client: impl FnMut(u64) -> Client) {
    for node in cluster.members() {
        let mut client = client(node);
        for table in TABLES {
            let Some(view) = insist(&mut client, node, async |c| c.load(table).await).await else {
                let what = format!("node {node} does not show {table} although all is healed");
                return cluster.record.broken(what);
            };
            cluster.record.last(Final {
                node: short(node),
                table: table.to_owned(),
                head: view.head,
                snapshots: view.snapshots,
            });
        }
        for number in 0..OBJECTS + KEPT {
            let key = format!("o{number}");
            let got = insist(&mut client, node, async |c| c.get(&key).await.then_some(())).await;
            if got.is_none() {
                let what = format!("node {node} does not show {key} although all is healed");
                return cluster.record.broken(what);
            }
        }
        let read = async |c: &mut Client| c.read_document().await.then_some(());
        if insist(&mut client, node, read).await.is_none() {
            let what = format!("node {node} does not show the document although all is healed");
            return cluster.record.broken(what);
        }
        let rendered: Vec<String> = client.rendered.lock().keys().cloned().collect();
        for location in rendered {
            let got = async |c: &mut Client| c.compare_metadata(&location).await.then_some(());
            if insist(&mut client, node, got).await.is_none() {
                return cluster
                    .record
                    .broken(format!("node {node} does not show {location}"));
            }
        }
    }
}

async fn insist<T>(
    client: &mut Client,
    node: u64,
    mut ask: impl AsyncFnMut(&mut Client) -> Option<T>,
) -> Option<T> {
    let begun = tokio::time::Instant::now();
    while begun.elapsed() < LIMIT {
        client.home = node;
        if let Some(answer) = ask(client).await {
            return Some(answer);
        }
        tokio::time::sleep(PAUSE).await;
    }
    None
}

/// Nodes that have applied the same log have the same state, at every moment it can be compared.
pub(crate) fn compare(cluster: &Cluster) {
    let doors = cluster.doors();
    for (at, (one, first)) in doors.iter().enumerate() {
        for (other, second) in &doors[at + 1..] {
            for ((group, left), (_, right)) in
                first.node.groups().into_iter().zip(second.node.groups())
            {
                let (a, b) = (left.applied(), right.applied());
                let differ = a.last == b.last && a.digest != b.digest;
                let marks = compare_marks(&left.digest_marks(), &right.digest_marks());
                if differ || matches!(marks, Comparison::Diverged { .. }) {
                    let what = format!("group {group}: nodes {one} and {other} have diverged");
                    return cluster.record.broken(what);
                }
            }
        }
    }
}

/// A node takes part exactly if it has all that it acknowledged.
pub(crate) fn standing(cluster: &Cluster) {
    for (node, door) in cluster.put_back_up() {
        if door.node.takes_part() {
            let what = format!("node {node} takes part although it was put back to an older image");
            cluster.record.broken(what);
        }
    }
    for (node, door) in cluster.members_up() {
        if let Some(why) = door.node.barred() {
            let what = format!("node {node} has lost nothing and takes no part: {why}");
            cluster.record.broken(what);
        }
    }
}

/// Waits until no node holds room for a command any more: nobody asks for anything.
pub(crate) async fn drained(cluster: &Cluster) {
    let begun = tokio::time::Instant::now();
    for (node, door) in cluster.members_up() {
        for (group, store) in door.node.groups() {
            let held = || store.group().held();
            while held() != Held::default() {
                if begun.elapsed() > LIMIT {
                    let what = format!("node {node}, group {group}: {:?} for nobody", held());
                    return cluster.record.broken(what);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Waits until every node has applied the same, and compares.
pub(crate) async fn converge(cluster: &Cluster) {
    let begun = tokio::time::Instant::now();
    loop {
        compare(cluster);
        let doors = cluster.members_up();
        let positions = doors.iter().map(|(_, door)| {
            let groups = door.node.groups();
            groups.map(|(_, store)| store.applied().last)
        });
        let positions: Vec<_> = positions.collect();
        if positions.windows(2).all(|pair| pair[0] == pair[1]) {
            return;
        }
        if begun.elapsed() > LIMIT {
            let what = format!("the nodes do not come to the same position: {positions:?}");
            return cluster.record.broken(what);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Waits until every volume has what rows say, and its node knows it.
pub(crate) async fn volumes(cluster: &Cluster) {
    let begun = tokio::time::Instant::now();
    for (node, door) in cluster.members_up() {
        loop {
            let doubted = door.node.volume_marks().is_some_and(|m| m.are_missed());
            let missing = door.node.missing_copies().await;
            if !doubted && missing == Some(0) {
                break;
            }
            if begun.elapsed() > LIMIT {
                let what = format!("node {node} misses {missing:?} copies; doubted: {doubted}");
                return cluster.record.broken(what);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}
