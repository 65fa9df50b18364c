//! A node whose rows differ from the others' stops itself, and the others go on.

use anyhow::{Context as _, ensure};
use floeberg_client::AppendCommit;
use floeberg_kv::{Batch, Kv as _, KvRead as _, RocksKv, RocksKvConfig};
use floeberg_test_e2e::connect::{Clients, create_buckets};
use floeberg_test_e2e::fleet::{Fleet, LIMIT};
use floeberg_test_e2e::process::binary;
use floeberg_test_e2e::table::Observed;
use floeberg_test_e2e::world::{append, create_table, manifest_list};
use std::path::Path;
use std::time::Instant;

/// Tag of the rows that every commit of a table reads and replaces (docs/formats/catalog-rows.md).
const HEAD: u8 = 0x13;
/// A row begins with a format byte and the id of the command that wrote it.
const COMMIT_ID: std::ops::Range<usize> = 1..17;
/// Digests are compared at every such log entry.
const MARK_EVERY: i64 = 1024;

/// Changes a bit in the head row of one table, as a fault in memory would.
fn plant(state: &Path) -> anyhow::Result<()> {
    let kv = RocksKv::open(state, &RocksKvConfig::default())?;
    let row = kv.scan(&[HEAD], Some(&[HEAD + 1])).next();
    let (key, value) = row.context("there is a table")??;
    let mut value = value.to_vec();
    value[COMMIT_ID.start] ^= 1;
    let mut batch = Batch::default();
    batch.put(key, value);
    kv.write(batch)?;
    Ok(kv.flush()?)
}

/// Commits snapshots `from..` one after the other until `enough`.
async fn commit_until(
    fleet: &Fleet,
    from: i64,
    enough: impl Fn(i64) -> bool,
) -> anyhow::Result<i64> {
    let clients = Clients::connect(&fleet.endpoints(1)?).await?;
    let table = Observed::of(&clients.iceberg.load_table(&["n"], "t").await?)?;
    let (begin, mut next) = (Instant::now(), from);
    let mut head = table.head;
    while !enough(next) {
        ensure!(begin.elapsed() < LIMIT, "{next} commits are not enough");
        let list = manifest_list(&table.location, next);
        let commit: AppendCommit<'_> = append(head, next, next, &list);
        clients
            .iceberg
            .update_table(&["n"], "t", commit.render())
            .await?;
        head = Some(next);
        next += 1;
    }
    Ok(next)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_diverged_node_stops_and_does_not_start_again() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 3).await?;
    create_buckets(&fleet.endpoints(1)?).await?;
    let clients = Clients::connect(&fleet.endpoints(1)?).await?;
    clients.iceberg.create_namespace(&["n"]).await?;
    create_table(&clients, "n", "t").await?;
    let next = commit_until(&fleet, 1, |next| next > 3).await?;
    fleet.stop(3).await?;
    plant(&fleet.data(3)?.join("state/0"))?;
    fleet.start(3)?;
    fleet.ready(3).await?;

    let marked = next + MARK_EVERY;
    let next = commit_until(&fleet, next, |next| next > marked).await?;
    let status = fleet.ended(3).await?;
    let log = fleet.log(3)?;
    ensure!(!status.success(), "it stopped in peace: {log}");
    ensure!(
        log.contains("this node has diverged from the majority"),
        "{log}"
    );

    fleet.start(3)?;
    let status = fleet.ended(3).await?;
    let log = fleet.log(3)?;
    ensure!(
        status.code() == Some(1) && log.contains("wipe it and rejoin"),
        "{status} {log}"
    );

    // The others go on, and a new node takes its place.
    let next = commit_until(&fleet, next, |n| n > next + 3).await?;
    let new = fleet.join(1).await?;
    fleet
        .ask(1, &["replace", "3", "--with", &new.to_string()])
        .await?;
    fleet.voters(1, &[1, 2, new]).await?;
    let clients = Clients::connect(&fleet.endpoints(new)?).await?;
    let table = Observed::of(&clients.iceberg.load_table(&["n"], "t").await?)?;
    ensure!(table.head == Some(next - 1), "{:?}", table.head);
    Ok(())
}
