//! A node that is put back to an older copy of its disk takes no part, whoever leads and however often it
//! is started; and nodes that have lost nothing come back from any kill.

use anyhow::ensure;
use floeberg_client::{Auth, Endpoint, Request};
use floeberg_test_e2e::connect::{Clients, create_buckets};
use floeberg_test_e2e::fleet::{Fleet, LIMIT, leader_of};
use floeberg_test_e2e::lake;
use floeberg_test_e2e::process::{binary, copy_dir};
use http::Method;
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// What `/readyz` says until it holds `text`.
async fn readiness(fleet: &Fleet, node: u64, text: &str) -> anyhow::Result<()> {
    let probe = Endpoint::new(&fleet.endpoints(node)?.s3tables_uri, Auth::None)?;
    let request = Request::new(Method::GET, "/readyz".into());
    let begin = Instant::now();
    let mut said = String::new();
    while !said.contains(text) {
        ensure!(
            begin.elapsed() < LIMIT,
            "node {node} says {said}, not {text}:\n{}",
            fleet.log(node)?
        );
        tokio::time::sleep(POLL).await;
        said = format!("{:?}", probe.send(&request).await.err());
    }
    Ok(())
}

fn barred(status: &Value, node: u64) -> bool {
    let nodes = status["taking-no-part"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    nodes.iter().any(|entry| entry["node"] == node)
}

#[tokio::test]
async fn a_node_that_was_put_back_is_refused_at_every_start() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 3).await?;
    create_buckets(&fleet.endpoints(1)?).await?;
    fleet.stop(2).await?;
    let (own, older, newer) = (
        fleet.data(2)?,
        dir.path().join("older"),
        dir.path().join("newer"),
    );
    copy_dir(&own, &older)?;
    fleet.restart(2).await?;
    fleet.voters(1, &[1, 2, 3]).await?;
    let clients = Clients::connect(&fleet.endpoints(1)?).await?;
    lake::fill(&clients).await?;
    let before = lake::look(&clients).await?;
    fleet.stop(2).await?;
    fs::rename(&own, &newer)?;
    copy_dir(&older, &own)?;

    for _ in 0..2 {
        fleet.start(2)?;
        readiness(&fleet, 2, "has lost what it had acknowledged").await?;
        fleet.logs(2, "this node takes no part").await?;
        fleet
            .until(1, "node 2 is shown", |status| barred(status, 2))
            .await?;
        fleet.kill(2).await?;
    }
    // Another one leads: it must not take the node in either, nor be elected with its vote.
    let status = fleet.status(1).await?;
    let leader = leader_of(&status, 0).unwrap_or(1);
    let (gone, left) = if leader == 3 { (3, 1) } else { (1, 3) };
    fleet.kill(gone).await?;
    fleet.start(2)?;
    readiness(&fleet, 2, "has lost what it had acknowledged").await?;
    fleet
        .until(left, "node 2 is shown", |status| barred(status, 2))
        .await?;
    fleet.restart(gone).await?;
    let clients = Clients::connect(&fleet.endpoints(left)?).await?;
    ensure!(lake::look(&clients).await? == before, "something was lost");

    // The disk that was taken out is put back.
    fleet.kill(2).await?;
    fs::remove_dir_all(&own)?;
    fs::rename(&newer, &own)?;
    fleet.restart(2).await?;
    fleet
        .until(1, "node 2 is well", |status| !barred(status, 2))
        .await?;
    fleet.voters(1, &[1, 2, 3]).await?;
    for node in 1..=3 {
        fleet.stop(node).await?;
    }
    Ok(())
}

#[tokio::test]
async fn nodes_that_were_all_killed_come_back_with_a_majority_and_say_for_whom_they_wait()
-> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 5).await?;
    // Two of five are killed, and come back to three that run.
    for node in [4, 5] {
        fleet.kill(node).await?;
    }
    for node in [4, 5] {
        fleet.restart(node).await?;
    }
    for node in 1..=5 {
        fleet.kill(node).await?;
    }
    for node in [2, 5] {
        fleet.start(node)?;
    }
    for (node, other) in [(2, "5"), (5, "2")] {
        readiness(&fleet, node, "missing: node 1").await?;
        ensure!(
            !fleet
                .log(node)?
                .contains(&format!("missing: node {other} "))
        );
    }
    fleet.restart(3).await?;
    for node in [2, 5] {
        fleet.ready(node).await?;
    }
    for node in [1, 4] {
        fleet.restart(node).await?;
    }
    fleet.voters(1, &[1, 2, 3, 4, 5]).await?;
    for node in 1..=5 {
        fleet.stop(node).await?;
    }
    Ok(())
}
