//! `chaos-rounds`: rounds of load, fault, healing and verification against real processes.

use anyhow::{Context as _, bail, ensure};
use clap::Parser;
use floeberg_test_chaos::nemesis::Fault;
use floeberg_test_chaos::run::{Plan, rounds};
use floeberg_test_chaos::sandbox;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::path::PathBuf;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

/// Runs rounds of load, fault, healing and verification. Needs root: it makes network namespaces,
/// which are gone when it ends.
#[derive(Parser)]
struct Arguments {
    /// The binary under test
    #[arg(long)]
    floeberg: PathBuf,
    /// Nodes: 1, or an odd number from 3 on
    #[arg(long, default_value_t = 3)]
    nodes: u8,
    /// Rounds of each kind of fault
    #[arg(long, default_value_t = 2)]
    rounds: u32,
    /// Only these kinds of faults
    #[arg(long, value_enum, value_delimiter = ',')]
    faults: Vec<Fault>,
    /// Repeats the choices of an earlier run
    #[arg(long)]
    seed: Option<u64>,
    /// Write the report as JSON to this file too
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if !sandbox::is_inside() {
        if let Err(reason) = sandbox::is_possible() {
            bail!("{reason}");
        }
        sandbox::enter()?;
    }
    let runtime = tokio::runtime::Runtime::new()?;
    runtime.block_on(run(arguments))
}

async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let nodes = arguments.nodes;
    ensure!(
        nodes == 1 || (nodes >= 3 && nodes % 2 == 1 && nodes < 100),
        "--nodes must be 1, or an odd number from 3 on"
    );
    let possible = Fault::all(nodes);
    let faults = if arguments.faults.is_empty() {
        possible
    } else {
        let odd = arguments.faults.iter().find(|f| !possible.contains(f));
        if let Some(fault) = odd {
            bail!("{} needs more than one node", fault.name());
        }
        arguments.faults
    };
    let binary = arguments.floeberg.canonicalize();
    let plan = Plan {
        binary: binary.with_context(|| format!("no binary at {}", arguments.floeberg.display()))?,
        nodes,
        rounds: arguments.rounds,
        faults,
        seed: arguments
            .seed
            .unwrap_or_else(|| StdRng::from_os_rng().random()),
    };
    println!("chaos rounds: {nodes} nodes, seed {}", plan.seed);
    // Process 1 of a namespace ignores signals that it has no handler for.
    let (mut interrupt, mut terminate) = (
        signal(SignalKind::interrupt())?,
        signal(SignalKind::terminate())?,
    );
    let report = tokio::select! {
        report = rounds(&plan) => report?,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = terminate.recv() => bail!("asked to stop"),
    };
    let json = serde_json::to_string_pretty(&report.json())?;
    if let Some(path) = &arguments.json {
        std::fs::write(path, &json)?;
    }
    println!("{json}");
    println!("{report}");
    Ok(if report.is_clean() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
