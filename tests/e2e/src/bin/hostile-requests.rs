//! `hostile-requests`: attacks a node with everything that its route tables invite.

use clap::Parser;
use floeberg_test_e2e::hostile::{Length, Plan, run};
use floeberg_test_e2e::kill_cycles::random_seed;
use std::path::PathBuf;
use std::process::ExitCode;

/// Sends hostile requests to every route and watches the node and another client.
#[derive(Parser)]
struct Arguments {
    /// The binary under test
    #[arg(long)]
    floeberg: PathBuf,
    /// Only a choice of requests, as in the test run
    #[arg(long)]
    short: bool,
    /// Repeats the order of an earlier run
    #[arg(long)]
    seed: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let seed = arguments.seed.unwrap_or_else(random_seed);
    let length = match arguments.short {
        true => Length::Short,
        false => Length::Long,
    };
    let plan = Plan {
        binary: arguments.floeberg,
        length,
        seed,
    };
    println!("hostile requests: seed {seed}");
    match run(&plan).await {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hostile requests FAILED with seed {seed}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
