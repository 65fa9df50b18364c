//! A node whose volume alone was put back to an older copy takes part, says what it misses, serves every object
//! meanwhile, and has all its copies again in the end.

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use floeberg_client::{Auth, Endpoint, Request};
use floeberg_env::Env;
use floeberg_members::{Home, Witnesses};
use floeberg_test_e2e::connect::{Clients, FILES, create_buckets};
use floeberg_test_e2e::fleet::{Fleet, LIMIT, has_alarm};
use floeberg_test_e2e::process::{binary, copy_dir};
use floeberg_types::{GroupId, NodeId};
use http::Method;
use serde_json::Value;
use std::fs;
use std::ops::Range;
use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// The node whose volume is put back.
const NODE: u64 = 2;

fn body(number: usize) -> Bytes {
    let byte = u8::try_from(number % 251).unwrap_or_default();
    vec![byte; 100_000 + number].into()
}

async fn put(fleet: &Fleet, through: u64, objects: Range<usize>) -> anyhow::Result<()> {
    let clients = Clients::connect(&fleet.endpoints(through)?).await?;
    for number in objects {
        let key = format!("o{number}");
        clients.s3.put_object(FILES, &key, body(number)).await?;
    }
    Ok(())
}

async fn all_are_there(fleet: &Fleet, through: u64, objects: Range<usize>) -> anyhow::Result<()> {
    let clients = Clients::connect(&fleet.endpoints(through)?).await?;
    for number in objects {
        let key = format!("o{number}");
        let got = clients.s3.get_object(FILES, &key).await?;
        ensure!(got == body(number), "{key} through node {through}");
    }
    Ok(())
}

async fn page(fleet: &Fleet, node: u64, path: &str) -> anyhow::Result<String> {
    let probe = Endpoint::new(&fleet.endpoints(node)?.s3tables_uri, Auth::None)?;
    let reply = probe.send(&Request::new(Method::GET, path.into())).await?;
    Ok(String::from_utf8_lossy(&reply.body).into_owned())
}

/// The number that `node` has kept of what the volume of [`NODE`] has acknowledged.
fn kept(fleet: &Fleet, node: u64) -> anyhow::Result<u64> {
    let home = Home::new(&fleet.data(node)?, Env::real().disk);
    let groups = [GroupId::CATALOG, GroupId::OBJECTS];
    let mark = Witnesses::load(&home, groups.into_iter())?.volume(NodeId(NODE));
    Ok(mark.map_or(0, |mark| mark.sequence()))
}

fn misses(status: &Value) -> bool {
    has_alarm(status, NODE, "copies-lost")
}

#[tokio::test]
async fn a_volume_that_was_put_back_gets_its_copies_back() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 3).await?;
    create_buckets(&fleet.endpoints(1)?).await?;
    put(&fleet, 1, 0..10).await?;
    fleet.stop(NODE).await?;
    let (own, older) = (fleet.data(NODE)?.join("volume"), dir.path().join("older"));
    copy_dir(&own, &older)?;
    let before = kept(&fleet, 1)?.max(kept(&fleet, 3)?);
    fleet.restart(NODE).await?;
    fleet.voters(1, &[1, 2, 3]).await?;
    put(&fleet, 1, 10..30).await?;
    let begin = Instant::now();
    for other in [1, 3] {
        while kept(&fleet, other)? <= before {
            ensure!(begin.elapsed() < LIMIT, "node {other} does not hear of it");
            tokio::time::sleep(POLL).await;
        }
    }
    fleet.stop(NODE).await?;
    fs::remove_dir_all(&own)?;
    copy_dir(&older, &own)?;

    fleet.restart(NODE).await?;
    fleet
        .logs(NODE, "lacks something that it had acknowledged")
        .await?;
    fleet.until(1, "the loss is shown", misses).await?;
    let ready = page(&fleet, NODE, "/readyz").await?;
    ensure!(ready.contains("copies-lost"), "{ready}");
    // It serves, and takes what is written meanwhile.
    all_are_there(&fleet, NODE, 0..30).await?;
    put(&fleet, NODE, 30..35).await?;
    // A kill before all is back makes nobody forget it.
    fleet.kill(NODE).await?;
    fleet.restart(NODE).await?;
    fleet.until(3, "the loss is shown again", misses).await?;
    // Another node may not have heard of the loss yet, and say that there is none.
    fleet
        .until(NODE, "everything is back", |s| !misses(s))
        .await?;

    // Another start finds nothing, and reads everything from its own disk.
    fleet.stop(NODE).await?;
    fleet.restart(NODE).await?;
    fleet.voters(1, &[1, 2, 3]).await?;
    all_are_there(&fleet, NODE, 0..35).await?;
    let metrics = page(&fleet, NODE, "/metrics").await?;
    let reads = metrics.lines().find(|line| line.contains("shard-read"));
    ensure!(reads.is_none(), "it asked others: {reads:?}");
    let status = fleet.status(NODE).await?;
    ensure!(!misses(&status), "{status}");
    for gone in [1, 3] {
        fleet.kill(gone).await?;
        let all = all_are_there(&fleet, NODE, 0..35).await;
        all.with_context(|| format!("without node {gone}"))?;
        fleet.restart(gone).await?;
    }
    for node in 1..=3 {
        fleet.stop(node).await?;
    }
    Ok(())
}
