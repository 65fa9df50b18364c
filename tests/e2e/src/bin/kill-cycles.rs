//! `kill-cycles`: kills a node under load and verifies what it kept, as often as asked.

use clap::Parser;
use floeberg_test_e2e::kill_cycles::{Plan, kill_cycles, random_seed};
use std::path::PathBuf;
use std::process::ExitCode;

/// Kills a node under load, restarts it and verifies that every answer was kept.
#[derive(Parser)]
struct Arguments {
    /// The binary under test
    #[arg(long)]
    floeberg: PathBuf,
    /// Kills under load
    #[arg(long, default_value_t = 200)]
    cycles: u32,
    /// Repeats the choices of an earlier run
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(random_seed);
    let plan = Plan {
        binary: arguments.floeberg,
        cycles: arguments.cycles,
        seed,
    };
    println!("kill cycles: seed {seed}");
    match kill_cycles(&plan).await {
        Ok(report) => {
            println!("kill cycles: {report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("kill cycles FAILED with seed {seed}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
