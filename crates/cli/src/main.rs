//! The `floeberg` command: starts nodes, talks to running ones, measures them.

mod backup;
mod banner;
mod bench;
mod cluster;
mod config;
mod dev;
mod keys;
mod output;
mod resources;
mod server;
mod target;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Gives pages back that a burst of requests took (decision 0011). RocksDB keeps the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// From this size on the system's allocator maps a block of RocksDB's by itself, and unmaps it when it is freed.
/// Left to itself it raises the size to that of the largest block freed so far, and keeps hundreds of MiB of
/// freed write buffers in its arenas (decision 0011).
const MAPPED_BYTES: libc::c_int = 1 << 20;

#[allow(unsafe_code, reason = "the C library has no safe way to say it")]
fn map_large_blocks() {
    // SAFETY: it only sets a number, and no other thread runs yet.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES);
    }
}

/// A lakehouse storage cluster in one binary: Iceberg REST catalog, S3 Tables API and S3.
#[derive(Parser)]
#[command(name = "floeberg", version, about, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a single node on this machine; creates what is missing
    Dev(dev::DevArguments),
    /// Run a node of a cluster, prepared by `cluster init` or `cluster join`
    Server(server::ServerArguments),
    /// Check a configuration file, or print one with every key
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Make a cluster, let nodes join, remove and replace them
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Copy a cluster, check the copy, put it into a new cluster
    #[command(subcommand)]
    Backup(backup::BackupCommand),
    /// Create, list, show and delete table buckets
    #[command(subcommand)]
    Bucket(resources::BucketCommand),
    /// Create, list and delete namespaces of a table bucket
    #[command(subcommand)]
    Namespace(resources::NamespaceCommand),
    /// List, show, rename and delete tables
    #[command(subcommand)]
    Table(resources::TableCommand),
    /// Measure a running catalog
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

fn main() -> ExitCode {
    map_large_blocks();
    let arguments = Arguments::parse();
    match run(arguments.command) {
        Ok(code) => code,
        Err(error) => {
            output::print_error(&error);
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let done = match command {
            Command::Cluster(command) => return cluster::run(command).await,
            Command::Dev(arguments) => dev::run(arguments).await,
            Command::Server(arguments) => server::run(arguments).await,
            Command::Config(command) => config::run(&command),
            Command::Backup(command) => backup::run(command).await,
            Command::Bucket(command) => resources::bucket(command).await,
            Command::Namespace(command) => resources::namespace(command).await,
            Command::Table(command) => resources::table(command).await,
            Command::Bench(command) => bench::run(command).await,
        };
        done.map(|()| ExitCode::SUCCESS)
    })
}
