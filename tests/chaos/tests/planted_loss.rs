//! The harness is not blind as a whole: a real node that comes back with data of a moment ago is
//! found out.

use anyhow::ensure;
use floeberg_client::{ColumnType, CreateTableBody};
use floeberg_test_chaos::check::{Violation, check};
use floeberg_test_chaos::connect::Clients;
use floeberg_test_chaos::history::History;
use floeberg_test_chaos::launch::Fleet;
use floeberg_test_chaos::record::Recorder;
use floeberg_test_chaos::workload::{self, Stage, TABLES, Table};
use floeberg_test_chaos::{sandbox, verify};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    let status = Command::new("cp").arg("-a").args([from, to]).status()?;
    ensure!(status.success(), "cp: {status}");
    Ok(())
}

async fn stage(node: &Clients) -> anyhow::Result<Stage> {
    node.iceberg.create_namespace(&["g1"]).await?;
    let mut tables = Vec::new();
    for index in 0..TABLES {
        let name = format!("t{index}");
        let body = CreateTableBody {
            name: &name,
            columns: &[("id", ColumnType::Long)],
            format_version: 2,
        };
        let loaded = node.iceberg.create_table(&["g1"], &body).await?;
        let location = loaded.metadata["location"]
            .as_str()
            .expect("a location")
            .to_owned();
        tables.push(Table { name, location });
    }
    Ok(Stage {
        number: 1,
        space: "g1".to_owned(),
        tables,
    })
}

async fn forget() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::start(&sandbox::floeberg()?, dir.path(), 1).await?;
    fleet.address(1).create_buckets().await?;
    let nodes = [fleet.address(1).connect().await?];
    let stage = Arc::new(stage(&nodes[0]).await?);
    let record = Arc::new(Recorder::create(&dir.path().join("history.jsonl"))?);
    let (data, earlier) = (fleet.data_dir(1), dir.path().join("earlier"));
    for life in 0..2 {
        let load = workload::start(&record, &stage, &nodes, life);
        tokio::time::sleep(Duration::from_secs(1)).await;
        fleet.kill(1).await?;
        load.stop().await?;
        if life == 0 {
            copy(&data, &earlier)?;
        } else {
            std::fs::remove_dir_all(&data)?;
            copy(&earlier, &data)?;
        }
        fleet.restart(1)?;
        fleet.ready(1).await?;
        if life == 0 {
            // So far the node has kept everything, and the checkers agree.
            verify::tables(&record, &stage, &nodes).await?;
            let lines = record.take_round();
            let found = check(&History::of(&lines)?);
            ensure!(found.violations.is_empty(), "{found:?}");
        }
    }
    verify::tables(&record, &stage, &nodes).await?;
    let lines = record.take_round();
    let found = check(&History::of(&lines)?).violations;
    let is_lost = |v: &Violation| matches!(v, Violation::Lost { .. });
    ensure!(found.iter().any(is_lost), "not found out: {found:?}");
    Ok(())
}

#[test]
fn a_node_that_forgot_its_latest_answers_is_found_out() -> anyhow::Result<()> {
    if !sandbox::is_inside() {
        return match sandbox::is_possible() {
            Ok(()) => sandbox::run_test("a_node_that_forgot_its_latest_answers_is_found_out"),
            Err(reason) => sandbox::skip(&reason),
        };
    }
    tokio::runtime::Runtime::new()?.block_on(forget())
}
