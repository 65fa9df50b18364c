//! Starting and stopping: a clean stop under load keeps every answer, and a second process or a
//! taken port is explained.

use anyhow::ensure;
use floeberg_test_e2e::connect::{Clients, create_buckets};
use floeberg_test_e2e::fleet::Fleet;
use floeberg_test_e2e::history::History;
use floeberg_test_e2e::kill_cycles::random_seed;
use floeberg_test_e2e::process::{Home, Node, binary};
use floeberg_test_e2e::verify::{Extent, everything};
use floeberg_test_e2e::workload;
use floeberg_test_e2e::world::{Session, World, new_generation};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rustix::process::Signal;
use std::sync::Arc;
use std::time::Duration;

async fn session(world: &Arc<World>, node: &Node, cycle: u32) -> anyhow::Result<Session> {
    Ok(Session {
        name: "verifier".to_owned(),
        cycle,
        world: world.clone(),
        clients: Clients::connect(&node.endpoints).await?,
        rng: StdRng::seed_from_u64(u64::from(cycle)),
        disturbed: Arc::default(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_ends_cleanly_and_keeps_every_answer() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let seed = random_seed();
    println!("seed {seed}");
    let world = Arc::new(World::new(History::create(
        &dir.path().join("history.jsonl"),
    )?));
    let mut home = Home::new(&binary()?, dir.path())?;
    let mut node = home.start().await?;
    println!("first start: {:?}", node.startup);
    create_buckets(&node.endpoints).await?;
    let clients = Clients::connect(&node.endpoints).await?;
    new_generation(&world, &clients, 1).await?;
    for cycle in 1..=3 {
        let clients = Clients::connect(&node.endpoints).await?;
        let mut load = workload::start(&world, &clients, seed, cycle);
        // The moment of the signal is arbitrary; this only lets the clients get going.
        let span = Duration::from_millis(200 + seed % 100);
        tokio::select! {
            failure = load.failure() => {
                failure?;
                anyhow::bail!("all clients ended under load");
            }
            () = tokio::time::sleep(span) => {}
        }
        load.disturb();
        node.stop().await?;
        load.failure().await?;
        node = home.start().await?;
        println!("start after a clean stop: {:?}", node.startup);
        let mut session = session(&world, &node, cycle).await?;
        everything(&mut session, Extent::All).await?;
    }
    let tally = world.tally().clone();
    ensure!(tally.commits > 0 && tally.objects > 0, "{tally:?}");
    node.stop().await
}

#[tokio::test]
async fn a_second_process_on_a_data_directory_is_refused() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut home = Home::new(&binary()?, dir.path())?;
    let node = home.start().await?;
    let second = home.start_refused().await?;
    ensure!(second.status.code() == Some(1), "{}", second.status);
    ensure!(
        second.stderr.contains("in use by another floeberg process"),
        "{}",
        second.stderr
    );
    node.stop().await
}

#[tokio::test]
async fn a_process_that_stands_still_keeps_nobody_waiting() -> anyhow::Result<()> {
    let dir = tempfile::tempdir()?;
    let mut fleet = Fleet::found(&binary()?, dir.path(), 1).await?;
    fleet.signal(1, Signal::STOP)?;
    let asked = fleet.refused(1, &["status"]).await;
    fleet.signal(1, Signal::CONT)?;
    let refused = asked?;
    ensure!(refused.contains("does not answer within 15 s"), "{refused}");
    fleet.status(1).await?;
    fleet.stop(1).await
}
