//! Twenty kills under load: nothing acknowledged is lost, nothing refused appears.

use floeberg_test_e2e::kill_cycles::{Plan, kill_cycles, random_seed};
use floeberg_test_e2e::process::binary;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_kill_9() -> anyhow::Result<()> {
    let seed = match std::env::var("FLOEBERG_SEED") {
        Ok(text) => text.parse()?,
        Err(_) => random_seed(),
    };
    println!("seed {seed} (set FLOEBERG_SEED to repeat)");
    let report = kill_cycles(&Plan {
        binary: binary()?,
        cycles: 20,
        seed,
    })
    .await?;
    println!("{report}");
    // A run in which nothing happened would prove nothing.
    let tally = &report.tally;
    for (what, count) in [
        ("commits", tally.commits),
        ("transactions", tally.transactions),
        ("objects", tally.objects),
        ("names", tally.names),
        ("unknown outcomes", tally.unknown),
        ("metadata files read", tally.files_read),
    ] {
        anyhow::ensure!(count > 0, "no {what}: {report}");
    }
    Ok(())
}
