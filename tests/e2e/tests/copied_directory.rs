//! Two processes with one identity: a node's data directory is copied, and the copy is started as well.

use floeberg_test_e2e::fleet::Fleet;
use floeberg_test_e2e::process::{binary, copy_dir};
use std::fs;

/// Of a node and its copy only one is listened to; the other says why and does not serve.
#[tokio::test]
async fn of_a_node_and_its_copy_only_one_is_listened_to() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 3).await?;
    fleet.stop(3).await?;
    let (own, aside) = (fleet.data(3)?, dir.path().join("aside"));
    copy_dir(&own, &aside)?;
    // The original goes on: two starts ahead of the copy.
    for _ in 0..2 {
        fleet.start(3)?;
        fleet.ready(3).await?;
        fleet.stop(3).await?;
    }
    // Somebody puts the copy back, and starts it in place of the original.
    let newer = dir.path().join("newer");
    fs::rename(&own, &newer)?;
    fs::rename(&aside, &own)?;
    fleet.start(3)?;
    fleet.logs(3, "this node takes no part").await?;
    fleet.kill(3).await?;
    // With the right directory it is a member again.
    fs::remove_dir_all(&own)?;
    fs::rename(&newer, &own)?;
    fleet.start(3)?;
    fleet.ready(3).await?;
    fleet.voters(1, &[1, 2, 3]).await?;
    for node in 1..=3 {
        fleet.stop(node).await?;
    }
    Ok(())
}

/// The cluster calls a node where its latest start is, and not what that left behind.
#[tokio::test]
async fn a_node_that_has_moved_is_called_where_it_is_now() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 3).await?;
    fleet.stop(3).await?;
    let moved = fleet.duplicate(3)?;
    fleet.restart(moved).await?;
    fleet.stop(moved).await?;
    fleet.restart(moved).await?;
    // What it left behind is started as well, and is not called in its place.
    fleet.start(3)?;
    fleet.logs(3, "this node takes no part").await?;
    fleet.voters(1, &[1, 2, 3]).await?;
    fleet.ready(moved).await?;
    fleet.kill(3).await?;
    for node in [1, 2, moved] {
        fleet.stop(node).await?;
    }
    Ok(())
}
