//! A node whose configuration does not fit its cluster. With another region it says so and ends, before
//! anybody gets an ARN from it that is good nowhere else; what harms less is in the status.

use anyhow::ensure;
use floeberg_test_e2e::fleet::Fleet;
use floeberg_test_e2e::process::binary;
use serde_json::{Value, json};

#[tokio::test]
async fn a_node_that_is_set_up_for_another_region_ends() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 2).await?;
    fleet.stop(2).await?;
    fleet.configure(2, "[cluster]\nregion = \"eu-west-1\"")?;
    let refused = fleet.turned_away(2).await?;
    ensure!(
        refused.contains("cluster.region is `eu-west-1` here and `us-east-1` in the cluster"),
        "{refused}"
    );
    fleet.configure(2, "")?;
    fleet.restart(2).await?;
    fleet.stop(2).await?;
    fleet.stop(1).await
}

#[tokio::test]
async fn the_status_says_what_nodes_do_not_have_alike() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 2).await?;
    fleet.stop(2).await?;
    fleet.configure(2, "[consensus]\nheartbeat = \"90ms\"")?;
    fleet.restart(2).await?;
    let differs = |status: &Value| {
        let found = &status["disagreements"][0];
        found["setting"] == "consensus" && found["values"][1]["nodes"] == json!([2])
    };
    fleet.until(1, "times differ", differs).await?;
    fleet.logs(2, "not every node is configured alike").await?;
    let shown = fleet.ask(2, &["status"]).await?;
    ensure!(shown.contains("NOT ALIKE: consensus"), "{shown}");
    fleet.stop(2).await?;
    fleet.configure(2, "")?;
    fleet.restart(2).await?;
    let alike = |status: &Value| status["disagreements"] == json!([]);
    fleet.until(1, "all is alike", alike).await?;
    fleet.stop(2).await?;
    fleet.stop(1).await
}
