//! `floeberg bench …`: measures a running catalog or S3 server, Floeberg's or another's.

use crate::output::print_json;
use crate::target::CatalogTarget;
use clap::{Args, Subcommand, ValueEnum};
use floeberg_bench::{
    Afterwards, Bound, CommitMode, CommitsConfig, HistoryConfig, ListingsConfig, LoadedTables,
    ObjectsConfig, Pace, WalkedObjects, run_commits, run_history, run_listings, run_objects,
};
use serde::Serialize;
use std::fmt::Display;
use std::io::Write as _;
use std::time::Duration;

#[derive(Subcommand)]
pub enum BenchCommand {
    /// Commits per second over many tables
    Commits(CommitsArguments),
    /// What a commit costs as a table's history grows
    History(HistoryArguments),
    /// What listings of a large namespace, walks over a large bucket and loads of large tables do to commits beside them
    Listings(ListingsArguments),
    /// Objects per second over S3
    Objects(ObjectsArguments),
}

#[derive(Clone, Copy, ValueEnum)]
enum Mode {
    /// One table per commit; the answer carries the whole metadata
    UpdateTable,
    /// Several tables per commit; the answer is empty
    Transaction,
}

#[derive(Args)]
pub struct CommitsArguments {
    #[command(flatten)]
    catalog: CatalogTarget,
    /// Tables to commit to
    #[arg(long, default_value_t = 500)]
    tables: usize,
    /// Concurrent committers
    #[arg(long, default_value_t = 64)]
    writers: usize,
    /// Which call commits
    #[arg(long, value_enum, default_value_t = Mode::UpdateTable)]
    mode: Mode,
    /// Tables per transaction
    #[arg(long, default_value_t = 1)]
    tables_per_commit: usize,
    /// Commits per second to offer (open loop); as fast as answers come if not given
    #[arg(long)]
    rate: Option<f64>,
    /// How long to commit, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many commits to make, instead of a time
    #[arg(long)]
    commits: Option<u64>,
    /// Floeberg metrics page, to report commits per fsync
    #[arg(long)]
    metrics: Option<String>,
    /// Leave the tables where they are
    #[arg(long)]
    keep: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct HistoryArguments {
    #[command(flatten)]
    catalog: CatalogTarget,
    /// Numbers of snapshots to measure at
    #[arg(long, value_delimiter = ',', default_value = "10,1000,10000")]
    at: Vec<u64>,
    /// Calls measured at each point
    #[arg(long, default_value_t = 200)]
    samples: u64,
    /// Floeberg metrics page, to report the time from request to apply
    #[arg(long)]
    metrics: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ListingsArguments {
    #[command(flatten)]
    catalog: CatalogTarget,
    /// Tables in the namespace that is listed
    #[arg(long, default_value_t = 5000)]
    tables: usize,
    /// Clients that list all of them in one answer
    #[arg(long, default_value_t = 8)]
    whole: usize,
    /// Clients that list them page by page
    #[arg(long, default_value_t = 8)]
    paged: usize,
    /// Concurrent committers
    #[arg(long, default_value_t = 16)]
    writers: usize,
    /// Commits per second to offer; 30 % of what the committers reach alone if not given
    #[arg(long)]
    rate: Option<f64>,
    /// How long each part takes, in seconds
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Objects in a bucket that is walked too; none if not given
    #[arg(long, default_value_t = 0)]
    objects: u64,
    /// Clients that walk the bucket page by page
    #[arg(long, default_value_t = 8)]
    walkers: usize,
    /// Address of the S3 server, with --objects
    #[arg(long, default_value = "http://127.0.0.1:9000")]
    s3_uri: String,
    /// Region of the signatures of S3
    #[arg(long, default_value = "us-east-1")]
    s3_region: String,
    /// Snapshots of a table that is loaded too, with one of as many columns as --columns; none if not given
    #[arg(long, default_value_t = 0)]
    snapshots: u64,
    /// Columns of the other table, with --snapshots
    #[arg(long, default_value_t = 10_000)]
    columns: usize,
    /// Clients that load both tables in turns
    #[arg(long, default_value_t = 8)]
    loaders: usize,
    /// Leave the tables and objects where they are
    #[arg(long)]
    keep: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub struct ObjectsArguments {
    /// Address of the S3 server
    #[arg(long, default_value = "http://127.0.0.1:9000")]
    uri: String,
    /// Region of the signatures
    #[arg(long, default_value = "us-east-1")]
    region: String,
    /// Bytes per object
    #[arg(long, default_value_t = 65_536)]
    bytes: usize,
    /// Concurrent clients
    #[arg(long, default_value_t = 16)]
    clients: usize,
    /// Seconds of uploads, then of downloads
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Runs a benchmark and prints its report.
pub async fn run(command: BenchCommand) -> anyhow::Result<()> {
    match command {
        BenchCommand::Commits(a) => {
            let config = CommitsConfig {
                catalog: a.catalog.config()?,
                tables: a.tables,
                writers: a.writers,
                mode: match a.mode {
                    Mode::UpdateTable => CommitMode::UpdateTable,
                    Mode::Transaction => CommitMode::Transaction {
                        tables: a.tables_per_commit,
                    },
                },
                pace: a
                    .rate
                    .map_or(Pace::Closed, |per_second| Pace::Open { per_second }),
                bound: a.commits.map_or(
                    Bound::Time(Duration::from_secs(a.seconds)),
                    Bound::Operations,
                ),
                metrics_uri: a.metrics,
                afterwards: afterwards(a.keep),
            };
            print_report(a.json, &run_commits(&config).await?)
        }
        BenchCommand::History(a) => {
            let config = HistoryConfig {
                catalog: a.catalog.config()?,
                at: a.at,
                samples: a.samples,
                metrics_uri: a.metrics,
            };
            print_report(a.json, &run_history(&config).await?)
        }
        BenchCommand::Listings(a) => {
            let json = a.json;
            print_report(json, &run_listings(&listings(a)?).await?)
        }
        BenchCommand::Objects(a) => {
            let config = ObjectsConfig {
                uri: a.uri,
                credentials: crate::target::credentials()?,
                region: a.region,
                object_bytes: a.bytes,
                clients: a.clients,
                bound: Bound::Time(Duration::from_secs(a.seconds)),
            };
            print_report(a.json, &run_objects(&config).await?)
        }
    }
}

fn listings(a: ListingsArguments) -> anyhow::Result<ListingsConfig> {
    let objects = match a.objects {
        0 => None,
        count => Some(WalkedObjects {
            uri: a.s3_uri,
            credentials: crate::target::credentials()?,
            region: a.s3_region,
            count,
            walkers: a.walkers,
        }),
    };
    Ok(ListingsConfig {
        catalog: a.catalog.config()?,
        tables: a.tables,
        whole: a.whole,
        paged: a.paged,
        writers: a.writers,
        per_second: a.rate,
        time: Duration::from_secs(a.seconds),
        objects,
        large: match a.snapshots {
            0 => None,
            snapshots => Some(LoadedTables {
                snapshots,
                columns: a.columns,
                loaders: a.loaders,
            }),
        },
        afterwards: afterwards(a.keep),
    })
}

fn afterwards(keep: bool) -> Afterwards {
    match keep {
        true => Afterwards::Leave,
        false => Afterwards::Remove,
    }
}

fn print_report<R: Serialize + Display>(json: bool, report: &R) -> anyhow::Result<()> {
    if json {
        return Ok(print_json(&serde_json::to_value(report)?)?);
    }
    Ok(writeln!(std::io::stdout().lock(), "{report}")?)
}
