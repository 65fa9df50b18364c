//! A running cluster changes its authority, and lets a machine that lost its disk in as a new node.

use anyhow::{Context as _, ensure};
use floeberg_test_e2e::connect::{Clients, create_buckets};
use floeberg_test_e2e::convoy::Convoy;
use floeberg_test_e2e::process::binary;
use floeberg_test_e2e::world::create_table;
use http::Method;
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(60);

async fn until(
    fleet: &Convoy,
    what: &str,
    reached: impl Fn(&Value) -> bool,
) -> anyhow::Result<Value> {
    let begin = Instant::now();
    loop {
        let status = fleet.admin(0, Method::GET, "/cluster", None).await;
        match status {
            Ok(status) if reached(&status) => return Ok(status),
            status => ensure!(begin.elapsed() < LIMIT, "no {what}: {status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authority_changes_and_a_wiped_machine_is_a_new_node() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Convoy::start(&binary()?, dir.path(), 3).await?;
    create_buckets(&fleet.endpoints(0)).await?;
    let clients = Clients::connect(&fleet.endpoints(1)).await?;
    clients.iceberg.create_namespace(&["n"]).await?;
    let trust =
        |fleet: &Convoy, node| fs::read_to_string(fleet.data_dir(node).join("pki/trust.pem"));
    let before = trust(&fleet, 0)?;

    let asked = fleet.admin(1, Method::POST, "/cluster/authority", Some(json!({})));
    ensure!(asked.await? == json!({"number": 1}), "another number");
    until(&fleet, "new authority", |s| {
        s["rotation"]["phase"] == "done"
    })
    .await?;
    let after = trust(&fleet, 0)?;
    ensure!(
        after != before && after.matches("BEGIN").count() == 1,
        "{after}"
    );
    for node in 1..3 {
        ensure!(trust(&fleet, node)? == after, "node {node} trusts another");
    }
    create_table(&clients, "n", "with-open-connections").await?;

    // Everybody comes back with what is on disk; no connection is older than the change then.
    for node in 0..3 {
        fleet.stop(node).await?;
        fleet.restart(node).await?;
    }
    let clients = Clients::connect(&fleet.endpoints(2)).await?;
    create_table(&clients, "n", "with-new-connections").await?;

    without_its_log(&mut fleet, dir.path()).await?;
    without_anything(&mut fleet).await?;
    let clients = Clients::connect(&fleet.endpoints(2)).await?;
    clients
        .iceberg
        .load_table(&["n"], "with-new-connections")
        .await?;
    Ok(())
}

async fn without_its_log(fleet: &mut Convoy, dir: &Path) -> anyhow::Result<()> {
    // A log that is not there is not a new log.
    fleet.stop(2).await?;
    let (log, aside) = (fleet.data_dir(2).join("raft"), dir.join("aside"));
    fs::rename(&log, &aside)?;
    let refused = fleet.refused(2).await?;
    ensure!(refused.contains("is not the directory"), "{refused}");
    fs::remove_dir_all(&log).ok();
    fs::rename(&aside, &log)?;
    fleet.restart(2).await?;
    Ok(())
}

async fn without_anything(fleet: &mut Convoy) -> anyhow::Result<()> {
    // A machine that lost everything is nobody, and then a new node.
    fleet.stop(2).await?;
    fs::remove_dir_all(fleet.data_dir(2))?;
    let refused = fleet.refused(2).await?;
    ensure!(refused.contains("belongs to no cluster"), "{refused}");
    fleet.join(2).await?;
    fleet.restart(2).await?;
    let body = Some(json!({"with": 4}));
    fleet
        .admin(0, Method::POST, "/cluster/members/3/replace", body)
        .await?;
    let status = until(fleet, "replacement", |status| {
        let members = status["members"].as_array();
        let state = |id: u64| {
            let mut found = members.into_iter().flatten();
            found.find(|m| m["node"] == id).map(|m| m["state"].clone())
        };
        state(3) == Some("gone".into()) && state(4) == Some("active".into())
    });
    let status = status.await?;
    let groups = status["groups"].as_array().context("no groups")?;
    for group in groups {
        ensure!(group["voters"] == json!([1, 2, 4]), "{group}");
    }
    Ok(())
}
