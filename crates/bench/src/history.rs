//! What a commit costs as a table's history grows: one table, ten to ten thousand snapshots.

use crate::report::{Latency, Tally};
use crate::scrape::Sample;
use crate::tables::{Table, Tables};
use crate::{BenchError, at};
use floeberg_client::{IcebergClient, IcebergConfig};
use serde::Serialize;
use std::fmt;
use tokio::time::Instant;

/// One run.
#[derive(Clone, Debug)]
pub struct HistoryConfig {
    /// The catalog under test.
    pub catalog: IcebergConfig,
    /// Numbers of snapshots at which to measure, for example 10, 1000, 10000.
    pub at: Vec<u64>,
    /// Calls measured at each point, per kind.
    pub samples: u64,
    /// A Floeberg metrics page, to report the time from request to apply as the server sees it.
    pub metrics_uri: Option<String>,
}

/// What calls cost at one length of the history.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HistoryPoint {
    /// Snapshots in the table when the measurement began.
    pub snapshots: u64,
    /// `commitTransaction`, whose answer is empty: the cost from decision to apply.
    pub transaction_ms: Latency,
    /// The server's own mean for these transactions, from arrival in the catalog to apply.
    pub request_to_apply_ms: Option<f64>,
    /// `updateTable`: the same and an answer with the whole metadata.
    pub update_table_ms: Latency,
    /// `loadTable`: the answer alone.
    pub load_table_ms: Latency,
    /// Bytes of an `updateTable` answer.
    pub answer_bytes: u64,
}

/// What a run measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HistoryReport {
    /// In order of growing history.
    pub points: Vec<HistoryPoint>,
}

impl fmt::Display for HistoryReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>10} {:>14} {:>12} {:>12} {:>12} {:>12} {:>12} {:>14}",
            "snapshots",
            "to apply, mean",
            "txn p50 ms",
            "txn p99",
            "update p50",
            "update p99",
            "load p50",
            "answer bytes"
        )?;
        for point in &self.points {
            write!(
                f,
                "\n{:>10} {:>14} {:>12.2} {:>12.2} {:>12.2} {:>12.2} {:>12.2} {:>14}",
                point.snapshots,
                point
                    .request_to_apply_ms
                    .map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2}")),
                point.transaction_ms.p50,
                point.transaction_ms.p99,
                point.update_table_ms.p50,
                point.update_table_ms.p99,
                point.load_table_ms.p50,
                point.answer_bytes
            )?;
        }
        Ok(())
    }
}

/// Grows one table and measures on the way.
///
/// # Errors
/// If any commit fails: nobody else writes to the table.
pub async fn run_history(config: &HistoryConfig) -> Result<HistoryReport, BenchError> {
    if config.samples == 0 {
        return Err(BenchError::Zero {
            setting: "the number of samples",
        });
    }
    let client = IcebergClient::connect(&config.catalog)
        .await
        .map_err(at("connect to the catalog"))?;
    let tables = Tables::create(client, 1).await?;
    let mut history = History {
        tables: &tables,
        table: &tables.all[0],
        snapshots: 0,
    };
    let measured = history.run(config).await;
    let removed = tables.remove().await;
    let report = measured?;
    removed?;
    Ok(report)
}

/// The server's counters now, if they are asked for.
async fn sample(config: &HistoryConfig) -> Result<Option<Sample>, BenchError> {
    match &config.metrics_uri {
        Some(uri) => Sample::read(uri).await.map(Some),
        None => Ok(None),
    }
}

struct History<'a> {
    tables: &'a Tables,
    table: &'a Table,
    snapshots: u64,
}

impl History<'_> {
    async fn run(&mut self, config: &HistoryConfig) -> Result<HistoryReport, BenchError> {
        let mut lengths = config.at.clone();
        lengths.sort_unstable();
        lengths.dedup();
        let mut points = Vec::with_capacity(lengths.len());
        for length in lengths {
            while self.snapshots < length {
                self.transact().await?;
            }
            points.push(self.measure(config).await?);
        }
        Ok(HistoryReport { points })
    }

    async fn measure(&mut self, config: &HistoryConfig) -> Result<HistoryPoint, BenchError> {
        let snapshots = self.snapshots;
        let mut transaction = Tally::new();
        let mut update = Tally::new();
        let mut load = Tally::new();
        let mut answer_bytes = 0;
        // By themselves: behind an answer of megabytes the client still parses and frees when the
        // next call starts, and that is not the cost of a commit.
        let before = sample(config).await?;
        for _ in 0..config.samples {
            let started = Instant::now();
            self.transact().await?;
            transaction.done(started.elapsed());
        }
        let after = sample(config).await?;
        // Interleaved, so that a slow moment of the machine hits both alike.
        for _ in 0..config.samples {
            let started = Instant::now();
            answer_bytes = self.update().await?;
            update.done(started.elapsed());
            let started = Instant::now();
            self.load().await?;
            load.done(started.elapsed());
        }
        Ok(HistoryPoint {
            snapshots,
            transaction_ms: transaction.latency(),
            request_to_apply_ms: before
                .zip(after)
                .and_then(|(before, after)| before.apply_ms(after)),
            update_table_ms: update.latency(),
            load_table_ms: load.latency(),
            answer_bytes,
        })
    }

    async fn transact(&mut self) -> Result<(), BenchError> {
        let number = self.snapshots + 1;
        let appended = self.tables.append(self.table).await;
        appended.map_err(|source| BenchError::History { number, source })?;
        self.snapshots = number;
        Ok(())
    }

    async fn update(&mut self) -> Result<u64, BenchError> {
        let draft = self.table.draft();
        let body = self.table.commit(&draft).render();
        let number = self.snapshots + 1;
        let client = self.tables.client();
        let namespace = [self.tables.namespace()];
        let sent = client
            .update_table(&namespace, &self.table.name, body)
            .await;
        let reply = sent.map_err(|source| BenchError::History { number, source })?;
        self.table.advance(draft.head);
        self.snapshots = number;
        Ok(reply.body.len() as u64)
    }

    async fn load(&self) -> Result<(), BenchError> {
        let namespace = [self.tables.namespace()];
        let client = self.tables.client();
        let loaded = client.load_table_raw(&namespace, &self.table.name).await;
        loaded.map(|_| ()).map_err(at("load the table"))
    }
}
