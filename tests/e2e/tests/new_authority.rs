//! A running cluster changes its authority, and lets a machine that lost its disk in as a new node.

use anyhow::ensure;
use floeberg_test_e2e::connect::{Clients, create_buckets};
use floeberg_test_e2e::fleet::{Fleet, state_of};
use floeberg_test_e2e::process::binary;
use floeberg_test_e2e::world::create_table;
use std::fs;
use std::path::Path;

/// Who takes the place of the node that lost everything.
const LAST: u64 = 4;

fn trust(fleet: &Fleet, node: u64) -> anyhow::Result<String> {
    Ok(fs::read_to_string(fleet.data(node)?.join("pki/trust.pem"))?)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_changes_and_a_wiped_machine_is_a_new_node() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 3).await?;
    create_buckets(&fleet.endpoints(1)?).await?;
    let clients = Clients::connect(&fleet.endpoints(2)?).await?;
    clients.iceberg.create_namespace(&["n"]).await?;
    let before = trust(&fleet, 1)?;

    fleet.ask(2, &["rotate-ca"]).await?;
    fleet
        .until(1, "new authority", |s| s["rotation"]["phase"] == "done")
        .await?;
    let after = trust(&fleet, 1)?;
    ensure!(
        after != before && after.matches("BEGIN").count() == 1,
        "{after}"
    );
    for node in 2..=3 {
        ensure!(trust(&fleet, node)? == after, "node {node} trusts another");
    }
    create_table(&clients, "n", "with-open-connections").await?;

    // Everybody comes back with what is on disk; no connection is older than the change then.
    for node in 1..=3 {
        fleet.stop(node).await?;
        fleet.restart(node).await?;
    }
    let clients = Clients::connect(&fleet.endpoints(3)?).await?;
    create_table(&clients, "n", "with-new-connections").await?;

    without_its_log(&mut fleet, dir.path()).await?;
    without_anything(&mut fleet).await?;
    let clients = Clients::connect(&fleet.endpoints(LAST)?).await?;
    clients
        .iceberg
        .load_table(&["n"], "with-new-connections")
        .await?;
    Ok(())
}

async fn without_its_log(fleet: &mut Fleet, dir: &Path) -> anyhow::Result<()> {
    // A log that is not there is not a new log.
    fleet.stop(3).await?;
    let (log, aside) = (fleet.data(3)?.join("raft"), dir.join("aside"));
    fs::rename(&log, &aside)?;
    let refused = fleet.turned_away(3).await?;
    ensure!(refused.contains("is not the directory"), "{refused}");
    fs::remove_dir_all(&log).ok();
    fs::rename(&aside, &log)?;
    fleet.restart(3).await
}

async fn without_anything(fleet: &mut Fleet) -> anyhow::Result<()> {
    // A machine that lost everything is nobody, and then a new node.
    fleet.stop(3).await?;
    fs::remove_dir_all(fleet.data(3)?)?;
    let refused = fleet.turned_away(3).await?;
    ensure!(refused.contains("belongs to no cluster"), "{refused}");
    ensure!(fleet.rejoin(3, 1).await? == LAST, "another id");
    fleet.ask(1, &["replace", "3", "--with", "4"]).await?;
    fleet.voters(1, &[1, 2, LAST]).await?;
    let gone = |status: &serde_json::Value| state_of(status, 3) == "gone";
    fleet.until(1, "node 3 is gone", gone).await?;
    Ok(())
}
