//! Commits per second: many writers, many tables, one catalog.

use crate::load::{Bound, Outcome, Pace, Worker, drive};
use crate::report::LoadReport;
use crate::scrape::{Sample, ServerCounters};
use crate::tables::{Afterwards, Draft, Table, Tables};
use crate::{BenchError, at};
use floeberg_client::{AppendCommit, ClientError, IcebergClient, IcebergConfig, transaction_body};
use http::StatusCode;
use serde::Serialize;
use std::fmt;
use std::sync::Arc;

/// Which call commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CommitMode {
    /// `updateTable`, one table; the answer carries the whole metadata.
    UpdateTable,
    /// `commitTransaction` over several tables; the answer is empty.
    Transaction {
        /// Tables per transaction.
        tables: usize,
    },
}

/// One run.
#[derive(Clone, Debug)]
pub struct CommitsConfig {
    /// The catalog under load.
    pub catalog: IcebergConfig,
    /// Tables.
    pub tables: usize,
    /// Concurrent writers. Up to the number of tables each has its own tables and never conflicts;
    /// beyond it they share.
    pub writers: usize,
    /// Which call commits.
    pub mode: CommitMode,
    /// Closed or open loop.
    pub pace: Pace,
    /// When to end.
    pub bound: Bound,
    /// Full address of a Floeberg metrics page, to report commits per fsync.
    pub metrics_uri: Option<String>,
    /// What becomes of the tables.
    pub afterwards: Afterwards,
}

/// What a run measured.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CommitsReport {
    /// `update-table` or `transaction`.
    pub mode: &'static str,
    /// Tables.
    pub tables: usize,
    /// Writers.
    pub writers: usize,
    /// Tables per commit.
    pub tables_per_commit: usize,
    /// Table versions made per second.
    pub table_commits_per_second: f64,
    /// The load.
    #[serde(flatten)]
    pub load: LoadReport,
    /// The server's own count.
    pub server: Option<ServerCounters>,
}

impl fmt::Display for CommitsReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} commits, {} tables, {} writers, {} tables per commit",
            self.mode, self.tables, self.writers, self.tables_per_commit
        )?;
        write!(f, "{}", self.load)?;
        if self.tables_per_commit > 1 {
            let rate = self.table_commits_per_second;
            write!(f, "\n{:<12} {rate:.1} table versions/s", "tables")?;
        }
        if let Some(server) = &self.server {
            write!(f, "\n{:<12} {server}", "server")?;
        }
        Ok(())
    }
}

/// One writer and the tables it takes in turn.
pub(crate) struct Writer {
    tables: Arc<Tables>,
    mine: Vec<usize>,
    next: usize,
    mode: CommitMode,
}

impl Writer {
    /// Commits to one of `mine` at a time.
    pub(crate) fn of_one(tables: &Arc<Tables>, mine: Vec<usize>) -> Self {
        Self {
            tables: tables.clone(),
            mine,
            next: 0,
            mode: CommitMode::UpdateTable,
        }
    }

    fn take(&mut self) -> usize {
        let index = self.mine[self.next % self.mine.len()];
        self.next += 1;
        index
    }

    async fn send(&self, drafts: &[(&Table, Draft)]) -> Result<(), ClientError> {
        let client = self.tables.client();
        let namespace = [self.tables.namespace()];
        match (self.mode, drafts) {
            (CommitMode::UpdateTable, [(table, draft)]) => {
                let body = table.commit(draft).render();
                client.update_table(&namespace, &table.name, body).await?;
            }
            _ => {
                let changes: Vec<(&str, AppendCommit<'_>)> = drafts
                    .iter()
                    .map(|(table, draft)| (table.name.as_str(), table.commit(draft)))
                    .collect();
                let body = transaction_body(&namespace, &changes);
                client.commit_transaction(body).await?;
            }
        }
        Ok(())
    }
}

impl Worker for Writer {
    async fn step(&mut self) -> Outcome {
        let count = match self.mode {
            CommitMode::UpdateTable => 1,
            CommitMode::Transaction { tables } => tables,
        };
        let picked: Vec<usize> = (0..count).map(|_| self.take()).collect();
        let tables = self.tables.clone();
        let drafts: Vec<(&Table, Draft)> = picked
            .iter()
            .map(|i| (&tables.all[*i], tables.all[*i].draft()))
            .collect();
        let error = match self.send(&drafts).await {
            Ok(()) => {
                for (table, draft) in drafts {
                    table.advance(draft.head);
                }
                return Outcome::Done;
            }
            Err(error) => error,
        };
        // Whatever happened, the catalog knows where the tables are now.
        for (table, _) in drafts {
            if let Err(lost) = tables.reload(table).await {
                return Outcome::Failed(format!("reload: {}", reason(&lost)));
            }
        }
        if error.status() == Some(StatusCode::CONFLICT) {
            Outcome::Conflict
        } else {
            Outcome::Failed(reason(&error))
        }
    }
}

/// A short name under which equal failures are counted.
pub(crate) fn reason(error: &ClientError) -> String {
    match error {
        ClientError::Service(error) => format!("{} {}", error.status.as_u16(), error.code),
        ClientError::Transport { cause, .. } => format!("transport: {cause}"),
        ClientError::Timeout { .. } => "timeout".into(),
        other => other.to_string(),
    }
}

/// Which tables each writer takes: disjoint shares while there are enough, shared ones beyond.
pub(crate) fn shares(tables: usize, writers: usize, per_commit: usize) -> Vec<Vec<usize>> {
    (0..writers)
        .map(|writer| {
            let mut mine: Vec<usize> = (writer % tables..tables).step_by(writers).collect();
            // A transaction needs different tables, so a small share borrows its neighbours'.
            let mut neighbour = writer;
            while mine.len() < per_commit.min(tables) {
                neighbour += 1;
                if !mine.contains(&(neighbour % tables)) {
                    mine.push(neighbour % tables);
                }
            }
            // A whole number of transactions, so that none wraps onto its own tables.
            let whole = mine.len() / per_commit * per_commit;
            mine.truncate(whole.max(per_commit.min(mine.len())));
            mine
        })
        .collect()
}

/// Makes the tables, runs the load, removes the tables unless they are to stay.
///
/// # Errors
/// If the catalog cannot be reached or prepared; failures of measured commits are counted instead.
pub async fn run_commits(config: &CommitsConfig) -> Result<CommitsReport, BenchError> {
    let per_commit = match config.mode {
        CommitMode::UpdateTable => 1,
        CommitMode::Transaction { tables } => tables.min(config.tables),
    };
    for (setting, value) in [
        ("the number of tables", config.tables),
        ("the number of writers", config.writers),
        ("the number of tables per transaction", per_commit),
    ] {
        if value == 0 {
            return Err(BenchError::Zero { setting });
        }
    }
    let client = IcebergClient::connect(&config.catalog)
        .await
        .map_err(at("connect to the catalog"))?;
    let tables = Arc::new(Tables::create(client, config.tables).await?);
    let measured = measure(config, per_commit, &tables).await;
    let removed = config.afterwards.of_tables(&tables).await;
    let report = measured?;
    removed?;
    Ok(report)
}

async fn measure(
    config: &CommitsConfig,
    per_commit: usize,
    tables: &Arc<Tables>,
) -> Result<CommitsReport, BenchError> {
    let mode = match config.mode {
        CommitMode::UpdateTable => CommitMode::UpdateTable,
        CommitMode::Transaction { .. } => CommitMode::Transaction { tables: per_commit },
    };
    let writers = shares(config.tables, config.writers, per_commit)
        .into_iter()
        .map(|mine| Writer {
            tables: tables.clone(),
            mine,
            next: 0,
            mode,
        })
        .collect();
    let before = match &config.metrics_uri {
        Some(uri) => Some((uri, Sample::read(uri).await?)),
        None => None,
    };
    let load = drive(writers, config.pace, config.bound).await?;
    let server = match before {
        Some((uri, before)) => Some(before.until(Sample::read(uri).await?)),
        None => None,
    };
    #[expect(clippy::cast_precision_loss, reason = "tables per commit are few")]
    let table_commits_per_second = load.per_second * per_commit as f64;
    Ok(CommitsReport {
        mode: match mode {
            CommitMode::UpdateTable => "update-table",
            CommitMode::Transaction { .. } => "transaction",
        },
        tables: config.tables,
        writers: config.writers,
        tables_per_commit: per_commit,
        table_commits_per_second,
        load,
        server,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn writers_have_tables_of_their_own_while_there_are_enough() {
        let shares = shares(10, 3, 1);
        let all: Vec<usize> = shares.iter().flatten().copied().collect();
        assert_eq!(all.len(), 10);
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 10);
    }

    #[test]
    fn every_writer_can_work() {
        for (tables, writers, per_commit) in [(1, 8, 1), (3, 8, 2), (7, 3, 5), (4, 2, 4), (5, 2, 2)]
        {
            for mine in shares(tables, writers, per_commit) {
                assert!(mine.len() >= per_commit, "{tables} {writers} {per_commit}");
                for transaction in mine.chunks(per_commit) {
                    let distinct: BTreeSet<_> = transaction.iter().collect();
                    assert_eq!(distinct.len(), per_commit, "{mine:?}");
                }
            }
        }
    }
}
