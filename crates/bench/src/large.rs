//! A table with a long history and one with many columns, and clients that load them again and again.

use crate::commits::reason;
use crate::load::{Outcome, Worker};
use crate::tables::Tables;
use crate::{BenchError, at};
use floeberg_client::{ColumnType, CreateTableBody, IcebergClient};
use std::sync::Arc;

/// Tables that are loaded beside the writers.
#[derive(Clone, Debug)]
pub struct LoadedTables {
    /// Snapshots of the first one.
    pub snapshots: u64,
    /// Columns of the second one.
    pub columns: usize,
    /// Clients that load both in turns.
    pub loaders: usize,
}

/// The table with many columns.
const WIDE: &str = "wide";

/// The tables of a run.
pub(crate) struct LargeTables {
    pub(crate) tables: Tables,
}

impl LargeTables {
    pub(crate) async fn create(
        client: IcebergClient,
        config: &LoadedTables,
    ) -> Result<Arc<Self>, BenchError> {
        let large = Self {
            tables: Tables::create(client, 1).await?,
        };
        match large.fill(config).await {
            Ok(()) => Ok(Arc::new(large)),
            Err(error) => {
                // As for other tables: the first error is what matters.
                let _ = large.tables.remove().await;
                Err(error)
            }
        }
    }

    async fn fill(&self, config: &LoadedTables) -> Result<(), BenchError> {
        let names: Vec<String> = (0..config.columns).map(|n| format!("c{n:05}")).collect();
        let columns: Vec<_> = names.iter().map(|n| (&**n, ColumnType::String)).collect();
        let body = CreateTableBody {
            name: WIDE,
            columns: &columns,
            format_version: 2,
        };
        let namespace = [self.tables.namespace()];
        let created = self.tables.client().create_table(&namespace, &body);
        created.await.map_err(at("create a wide table"))?;
        for number in 1..=config.snapshots {
            let appended = self.tables.append(&self.tables.all[0]).await;
            appended.map_err(|source| BenchError::History { number, source })?;
        }
        Ok(())
    }
}

/// Loads both tables in turns, and reads each answer to its end.
pub(crate) struct Loader {
    large: Arc<LargeTables>,
    turn: usize,
}

impl Loader {
    pub(crate) fn new(large: &Arc<LargeTables>, turn: usize) -> Self {
        Self {
            large: large.clone(),
            turn,
        }
    }
}

impl Worker for Loader {
    async fn step(&mut self) -> Outcome {
        let tables = &self.large.tables;
        let names = [&*tables.all[0].name, WIDE];
        let name = names[self.turn % names.len()];
        self.turn += 1;
        let namespace = [tables.namespace()];
        match tables.client().drain_table(&namespace, name).await {
            Ok(_) => Outcome::Done,
            Err(error) => Outcome::Failed(reason(&error)),
        }
    }
}
