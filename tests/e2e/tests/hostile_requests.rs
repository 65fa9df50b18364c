//! Hostile requests to every route, in the form that fits a test run.

use floeberg_test_e2e::hostile::{Length, Plan, run};
use floeberg_test_e2e::kill_cycles::random_seed;
use floeberg_test_e2e::process::binary;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_client_sends_stops_or_starves_the_node() -> anyhow::Result<()> {
    let seed = random_seed();
    println!("hostile requests: seed {seed}");
    let plan = Plan {
        binary: binary()?,
        length: Length::Short,
        seed,
    };
    println!("{}", run(&plan).await?);
    Ok(())
}
