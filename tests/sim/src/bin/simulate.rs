//! Simulates many seeds, or replays one and prints its trace.

use clap::Parser;
use floeberg_test_sim::{Plan, simulate};
use std::process::ExitCode;
use std::time::Instant;

/// Deterministic simulation of the node.
#[derive(Parser)]
struct Arguments {
    /// How many seeds to run
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first of them
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// Run this one twice, compare the traces and print it
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(seed) = arguments.seed {
        let report = simulate(Plan::small(seed));
        print!("{}", report.trace);
        if simulate(Plan::small(seed)).trace != report.trace {
            eprintln!("seed {seed}: two runs gave different traces");
            return ExitCode::FAILURE;
        }
        return verdict(seed, report.violation.as_deref());
    }
    let begun = Instant::now();
    let mut simulated = 0.0;
    for seed in arguments.first..arguments.first + arguments.seeds {
        let report = simulate(Plan::small(seed));
        simulated += report.simulated.as_secs_f64();
        if report.violation.is_some() {
            print!("{}", report.trace);
            return verdict(seed, report.violation.as_deref());
        }
    }
    println!(
        "{} seeds from {}, {simulated:.0} simulated seconds in {:.0}: no promise broken",
        arguments.seeds,
        arguments.first,
        begun.elapsed().as_secs_f64()
    );
    ExitCode::SUCCESS
}

fn verdict(seed: u64, violation: Option<&str>) -> ExitCode {
    match violation {
        None => ExitCode::SUCCESS,
        Some(violation) => {
            eprintln!("seed {seed}: {violation}\nreplay it with: make sim SEED={seed}");
            ExitCode::FAILURE
        }
    }
}
