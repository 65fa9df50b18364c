//! `largest-requests`: what the largest requests do to other clients of three nodes while a fourth joins.

use clap::Parser;
use floeberg_test_e2e::largest::{Plan, run};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Sends the largest requests again and again and prints what others waited, as JSON.
#[derive(Parser)]
struct Arguments {
    /// The binary under test
    #[arg(long)]
    floeberg: PathBuf,
    /// How often each large request is sent through the leader and through a follower
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Commits per second that each other client offers
    #[arg(long, default_value_t = 50.0)]
    rate: f64,
    /// Seconds for which the other clients are measured alone
    #[arg(long, default_value_t = 15)]
    alone: u64,
    /// Print a table instead of JSON
    #[arg(long)]
    table: bool,
}

async fn print(arguments: Arguments) -> anyhow::Result<()> {
    let plan = Plan {
        binary: arguments.floeberg,
        rounds: arguments.rounds,
        per_second: arguments.rate,
        alone: Duration::from_secs(arguments.alone),
    };
    let report = run(&plan).await?;
    match arguments.table {
        true => println!("{report}"),
        false => println!("{}", serde_json::to_string(&report)?),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> ExitCode {
    match print(Arguments::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("largest requests FAILED: {error:#}");
            ExitCode::FAILURE
        }
    }
}
