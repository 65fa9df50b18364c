//! The kill cycles are not blind: a node that comes back with data of a moment ago is found out.

use anyhow::ensure;
use floeberg_test_e2e::chain::Violation;
use floeberg_test_e2e::connect::{Clients, create_buckets};
use floeberg_test_e2e::history::History;
use floeberg_test_e2e::process::{Home, Node, binary, copy_dir};
use floeberg_test_e2e::verify::{Extent, everything};
use floeberg_test_e2e::workload;
use floeberg_test_e2e::world::{Session, World, new_generation};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

async fn load_and_kill(world: &Arc<World>, node: Node, cycle: u32) -> anyhow::Result<()> {
    let clients = Clients::connect(&node.endpoints).await?;
    let mut load = workload::start(world, &clients, 7, cycle);
    let before = world.tally().commits;
    // Until something has been acknowledged that can be missed.
    while world.tally().commits < before + 20 {
        tokio::select! {
            failure = load.failure() => {
                failure?;
                anyhow::bail!("all clients ended under load");
            }
            () = tokio::time::sleep(Duration::from_millis(10)) => {}
        }
    }
    load.disturb();
    node.kill().await?;
    load.failure().await
}

async fn verify(world: &Arc<World>, node: &Node) -> anyhow::Result<()> {
    let mut session = Session {
        name: "verifier".to_owned(),
        cycle: 1,
        world: world.clone(),
        clients: Clients::connect(&node.endpoints).await?,
        rng: StdRng::seed_from_u64(7),
        disturbed: Arc::default(),
    };
    everything(&mut session, Extent::All).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_forgot_its_latest_answers_is_found_out() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let world = Arc::new(World::new(History::create(
        &dir.path().join("history.jsonl"),
    )?));
    let mut home = Home::new(&binary()?, dir.path())?;
    let node = home.start().await?;
    create_buckets(&node.endpoints).await?;
    new_generation(&world, &Clients::connect(&node.endpoints).await?, 1).await?;
    load_and_kill(&world, node, 1).await?;

    let earlier = dir.path().join("earlier");
    copy_dir(&home.data_dir(), &earlier)?;
    let node = home.start().await?;
    verify(&world, &node).await?;
    load_and_kill(&world, node, 2).await?;

    fs::remove_dir_all(home.data_dir())?;
    fs::rename(&earlier, home.data_dir())?;
    let node = home.start().await?;
    let error = verify(&world, &node)
        .await
        .expect_err("acknowledged commits are gone");
    let violation = error.downcast_ref::<Violation>();
    ensure!(
        matches!(
            violation,
            Some(Violation::Lost { .. } | Violation::PhantomRead { .. })
        ),
        "{error:#}"
    );
    node.kill().await
}
