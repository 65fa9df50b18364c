//! Simulates many seeds, or replays one and prints its trace.

use clap::Parser;
use floeberg_test_sim::{Bug, Members, Plan, simulate};
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
    /// How many nodes; without it the mix of the tests
    #[arg(long)]
    nodes: Option<u64>,
    /// Let members come and go in every cluster, not only in a third of them
    #[arg(long)]
    changes: bool,
    /// Plant a bug, for example `SkippedFsync`
    #[arg(long, value_parser = bug)]
    bug: Option<Bug>,
    /// Print the nodes' log lines too, for example `debug` or `floeberg_consensus=trace`
    #[arg(long)]
    log: Option<String>,
}

impl Arguments {
    fn plan(&self, seed: u64) -> Plan {
        let plan = match self.nodes {
            Some(nodes) => Plan::of(seed, nodes),
            None => Plan::small(seed),
        };
        let members = match self.changes {
            true if plan.nodes > 1 => Members::Changing,
            _ => plan.members,
        };
        Plan {
            bug: self.bug,
            members,
            ..plan
        }
    }
}

fn bug(name: &str) -> Result<Bug, String> {
    let found = Bug::ALL.into_iter().find(|bug| format!("{bug:?}") == name);
    found.ok_or_else(|| format!("one of {:?}", Bug::ALL))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if let Some(filter) = &arguments.log {
        floeberg_telemetry::init_logs(floeberg_telemetry::LogFormat::Text, filter);
    }
    if let Some(seed) = arguments.seed {
        let report = simulate(arguments.plan(seed));
        print!("{}", report.trace);
        if simulate(arguments.plan(seed)).trace != report.trace {
            eprintln!("seed {seed}: two runs gave different traces");
            return ExitCode::FAILURE;
        }
        return verdict(seed, report.violation.as_deref());
    }
    let begun = Instant::now();
    let mut simulated = 0.0;
    for seed in arguments.first..arguments.first + arguments.seeds {
        let report = simulate(arguments.plan(seed));
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
            // With the options of this run: another number of nodes is another run.
            let options = std::env::args().skip(1).collect::<Vec<_>>().join(" ");
            eprintln!("seed {seed}: {violation}\nreplay it with: simulate {options} --seed {seed}");
            ExitCode::FAILURE
        }
    }
}
