//! What listings of a large namespace, walks over a large bucket and loads of large tables do to commits beside them.

use crate::commits::{Writer, reason, shares};
use crate::large::{LargeTables, LoadedTables, Loader};
use crate::load::{Bound, Outcome, Pace, Worker, drive};
use crate::report::LoadReport;
use crate::tables::{Afterwards, Tables};
use crate::walks::{Bucket, WalkedObjects, Walker};
use crate::{BenchError, at, unless};
use floeberg_client::{IcebergClient, IcebergConfig};
use floeberg_env::Threads;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

fn lost(error: impl fmt::Display) -> BenchError {
    BenchError::Worker {
        detail: error.to_string(),
    }
}

/// Drives clients that would run on other machines: they must not take the processors of what is measured.
async fn on(
    elsewhere: &Threads,
    clients: impl Future<Output = Result<LoadReport, BenchError>> + Send + 'static,
) -> Result<LoadReport, BenchError> {
    let ended = elsewhere.tasks().spawn("elsewhere", clients).await;
    ended.map_err(lost)?
}

/// Tables that the writers commit to, in a namespace of their own.
const WRITTEN: usize = 64;

/// The part of the greatest rate at which the writers commit while they are measured.
const SHARE: f64 = 0.3;

/// One run.
#[derive(Clone, Debug)]
pub struct ListingsConfig {
    /// The catalog under load.
    pub catalog: IcebergConfig,
    /// Tables in the namespace that is listed.
    pub tables: usize,
    /// Clients that list it in one answer, again and again.
    pub whole: usize,
    /// Clients that walk it page by page, again and again.
    pub paged: usize,
    /// Concurrent writers.
    pub writers: usize,
    /// Commits per second; 30 % of what the writers reach alone if not given.
    pub per_second: Option<f64>,
    /// How long each part takes.
    pub time: Duration,
    /// A bucket that is walked too, after the namespace.
    pub objects: Option<WalkedObjects>,
    /// Large tables that are loaded too, after that.
    pub large: Option<LoadedTables>,
    /// What becomes of what was made.
    pub afterwards: Afterwards,
}

/// Commits beside something else.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BesideReport {
    /// What the others do.
    pub what: String,
    /// Commits meanwhile.
    pub beside: LoadReport,
    /// The others.
    pub others: LoadReport,
    /// How much longer the median commit takes than alone.
    pub p50_ratio: f64,
    /// The same of the 99th percentile.
    pub p99_ratio: f64,
}

/// What a run measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ListingsReport {
    /// Tables in the namespace that is listed.
    pub tables: usize,
    /// Commits per second that were offered.
    pub offered_per_second: f64,
    /// Commits without any listing.
    pub alone: LoadReport,
    /// Commits beside the listings.
    pub beside: LoadReport,
    /// Listings in one answer.
    pub whole: LoadReport,
    /// Walks over all pages.
    pub paged: LoadReport,
    /// How much longer the median commit takes beside the listings.
    pub p50_ratio: f64,
    /// The same of the 99th percentile.
    pub p99_ratio: f64,
    /// The same beside walks over a bucket.
    pub walks: Option<BesideReport>,
    /// The same beside loads of large tables.
    pub loads: Option<BesideReport>,
}

impl fmt::Display for BesideReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, beside, .. } = self;
        writeln!(
            f,
            "commits beside {what}\n{beside}\n{what}\n{}",
            self.others
        )?;
        write_ratio(f, self.p50_ratio, self.p99_ratio)
    }
}

fn write_ratio(f: &mut fmt::Formatter<'_>, p50: f64, p99: f64) -> fmt::Result {
    write!(f, "{:<12} p50 {p50:.2}  p99 {p99:.2}", "ratio")
}

impl fmt::Display for ListingsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tables, rate) = (self.tables, self.offered_per_second);
        writeln!(
            f,
            "listings of {tables} tables, {rate:.0} commits/s offered"
        )?;
        writeln!(f, "commits alone\n{}", self.alone)?;
        writeln!(f, "commits beside the listings\n{}", self.beside)?;
        writeln!(f, "listings in one answer\n{}", self.whole)?;
        writeln!(f, "walks over pages\n{}", self.paged)?;
        write_ratio(f, self.p50_ratio, self.p99_ratio)?;
        for other in self.walks.iter().chain(&self.loads) {
            write!(f, "\n{other}")?;
        }
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum Way {
    Whole,
    Paged,
}

struct Lister {
    listed: Arc<Tables>,
    way: Way,
}

impl Worker for Lister {
    async fn step(&mut self) -> Outcome {
        let (client, namespace) = (self.listed.client(), [self.listed.namespace()]);
        let names = match self.way {
            Way::Whole => client.list_tables_at_once(&namespace).await,
            Way::Paged => client.list_tables(&namespace).await,
        };
        match names {
            Ok(names) if names.len() == self.listed.all.len() => Outcome::Done,
            Ok(names) => Outcome::Failed(format!("{} tables listed", names.len())),
            Err(error) => Outcome::Failed(reason(&error)),
        }
    }
}

fn ratio(beside: f64, alone: f64) -> f64 {
    if alone > 0.0 { beside / alone } else { 0.0 }
}

/// Makes the tables and objects, commits alone and beside listings and walks.
///
/// # Errors
/// If the catalog cannot be reached or prepared; failures of measured calls are counted instead.
pub async fn run_listings(config: &ListingsConfig) -> Result<ListingsReport, BenchError> {
    for (setting, value) in [
        ("the number of tables", config.tables),
        ("the number of writers", config.writers),
    ] {
        if value == 0 {
            return Err(BenchError::Zero { setting });
        }
    }
    let client = IcebergClient::connect(&config.catalog);
    let client = client.await.map_err(at("connect to the catalog"))?;
    let listed = Arc::new(Tables::create(client.clone(), config.tables).await?);
    let measured = match Tables::create(client, WRITTEN).await {
        Ok(written) => {
            let written = Arc::new(written);
            let measured = measure(config, &listed, &written).await;
            unless(measured, config.afterwards.of_tables(&written).await)
        }
        Err(error) => Err(error),
    };
    unless(measured, config.afterwards.of_tables(&listed).await)
}

fn writers(config: &ListingsConfig, written: &Arc<Tables>) -> Vec<Writer> {
    let shares = shares(WRITTEN, config.writers, 1).into_iter();
    shares.map(|mine| Writer::of_one(written, mine)).collect()
}

async fn measure(
    config: &ListingsConfig,
    listed: &Arc<Tables>,
    written: &Arc<Tables>,
) -> Result<ListingsReport, BenchError> {
    let bound = Bound::Time(config.time);
    let listers = |way, count| -> Vec<Lister> {
        let lister = |_| Lister {
            listed: listed.clone(),
            way,
        };
        (0..count).map(lister).collect()
    };
    let writers = || writers(config, written);
    let per_second = match config.per_second {
        Some(rate) => rate,
        None => drive(writers(), Pace::Closed, bound).await?.per_second * SHARE,
    };
    let pace = Pace::Open { per_second };
    let alone = drive(writers(), pace, bound).await?;
    let elsewhere = Threads::start_behind("elsewhere", 2).map_err(lost)?;
    let (beside, whole, paged) = tokio::try_join!(
        drive(writers(), pace, bound),
        on(
            &elsewhere,
            drive(listers(Way::Whole, config.whole), Pace::Closed, bound)
        ),
        on(
            &elsewhere,
            drive(listers(Way::Paged, config.paged), Pace::Closed, bound)
        ),
    )?;
    let than = Alone {
        pace,
        commits: &alone,
    };
    let walks = match &config.objects {
        Some(objects) => Some(walk(config, objects, written, &than).await?),
        None => None,
    };
    let loads = match &config.large {
        Some(large) => Some(load(config, large, written, &than).await?),
        None => None,
    };
    Ok(ListingsReport {
        tables: config.tables,
        offered_per_second: per_second,
        p50_ratio: ratio(beside.latency_ms.p50, alone.latency_ms.p50),
        p99_ratio: ratio(beside.latency_ms.p99, alone.latency_ms.p99),
        alone,
        beside,
        whole,
        paged,
        walks,
        loads,
    })
}

/// What commits beside others are compared with.
struct Alone<'a> {
    pace: Pace,
    commits: &'a LoadReport,
}

async fn walk(
    config: &ListingsConfig,
    objects: &WalkedObjects,
    written: &Arc<Tables>,
    alone: &Alone<'_>,
) -> Result<BesideReport, BenchError> {
    let bucket = Bucket::create(objects).await?;
    let walkers = (0..objects.walkers).map(|_| Walker::new(&bucket));
    let what = format!("pages of 1,000 keys of {} objects", objects.count);
    let report = beside(config, written, alone, what, walkers.collect()).await;
    let removed = match config.afterwards {
        Afterwards::Remove => bucket.remove(objects.count).await,
        Afterwards::Leave => Ok(()),
    };
    unless(report, removed)
}

async fn load(
    config: &ListingsConfig,
    sizes: &LoadedTables,
    written: &Arc<Tables>,
    alone: &Alone<'_>,
) -> Result<BesideReport, BenchError> {
    let client = written.client().clone();
    let large = LargeTables::create(client, sizes).await?;
    let loaders = (0..sizes.loaders).map(|number| Loader::new(&large, number));
    let LoadedTables {
        snapshots, columns, ..
    } = sizes;
    let what = format!("loads of tables of {snapshots} snapshots and {columns} columns");
    let report = beside(config, written, alone, what, loaders.collect()).await;
    unless(report, config.afterwards.of_tables(&large.tables).await)
}

async fn beside(
    config: &ListingsConfig,
    written: &Arc<Tables>,
    alone: &Alone<'_>,
    what: String,
    others: Vec<impl Worker>,
) -> Result<BesideReport, BenchError> {
    let bound = Bound::Time(config.time);
    let elsewhere = Threads::start_behind("elsewhere", 2).map_err(lost)?;
    let (beside, others) = tokio::try_join!(
        drive(writers(config, written), alone.pace, bound),
        on(&elsewhere, drive(others, Pace::Closed, bound)),
    )?;
    let (before, now) = (alone.commits.latency_ms, beside.latency_ms);
    Ok(BesideReport {
        what,
        p50_ratio: ratio(now.p50, before.p50),
        p99_ratio: ratio(now.p99, before.p99),
        beside,
        others,
    })
}
