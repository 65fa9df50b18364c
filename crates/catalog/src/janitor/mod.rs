//! Retention: removes rows that nothing names any more, in small commands.
//!
//! What may go is planned by a pure function over the rows ([`plan`]); each deletion names the row
//! it was planned for and is dropped if the row has changed since.

mod kept;
mod pieces;
mod plan;

pub use plan::{Collected, Deletion, Plan, Retention, Times, plan};

use crate::errors::Outage;
use crate::rows::CollectedRow;
use crate::{Catalog, keys};
use bytes::Bytes;
use floeberg_env::{Attendance, Peer};
use floeberg_metastore::{Cx, Rows as _, Txn};
use floeberg_types::{AccountId, RequestId, TableId};
use std::sync::Arc;
use std::time::Duration;

/// Rows removed by one command: the commits behind it wait for its evaluation.
const DELETIONS_PER_COMMAND: usize = 256;

/// How often and by which rules the janitor works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JanitorConfig {
    /// Time between two sweeps.
    pub interval: Duration,
    /// What is kept, and for how long.
    pub retention: Retention,
    /// The account its commands are booked on.
    pub account: AccountId,
}

impl JanitorConfig {
    /// The defaults.
    #[must_use]
    pub fn new(account: AccountId) -> Self {
        let interval = Duration::from_secs(10);
        let retention = Retention::default();
        Self {
            interval,
            retention,
            account,
        }
    }
}

/// Sweeps a catalog, part by part.
pub struct Janitor {
    catalog: Catalog,
    config: JanitorConfig,
    cursor: Option<TableId>,
}

impl Janitor {
    /// A janitor that has not looked at anything yet.
    #[must_use]
    pub fn new(catalog: Catalog, config: JanitorConfig) -> Self {
        Self {
            catalog,
            config,
            cursor: None,
        }
    }

    /// Sweeps for ever, while this node leads. Failures are left for the next sweep. A sweep that
    /// had its hands full is followed by the next one at once: answers come as fast as commits do.
    pub async fn run(mut self) {
        let mut is_behind = false;
        loop {
            if !is_behind {
                tokio::time::sleep(self.config.interval).await;
            }
            is_behind = false;
            if !self.catalog.inner.store.leadership().borrow().is_leader {
                continue;
            }
            match self.sweep().await {
                Ok(0) => {}
                Ok(removed) => {
                    is_behind = removed >= self.config.retention.answers_per_sweep;
                    tracing::debug!(removed, "rows past their retention removed");
                }
                Err(error) => tracing::warn!(%error, "retention sweep failed"),
            }
        }
    }

    /// Plans over the next part of the catalog and carries the plan out. Returns how many rows were
    /// removed.
    ///
    /// # Errors
    /// Only outages; what is not removed will be planned again.
    pub async fn sweep(&mut self) -> Result<usize, Outage> {
        let inner = &self.catalog.inner;
        let times = Times {
            now: self.catalog.now(),
            present: self.catalog.present(),
        };
        let (view, cursor) = (inner.store.local(), self.cursor);
        let retention = self.config.retention.clone();
        let planned = move || plan(&view, times, &retention, cursor);
        let plan = self.catalog.step_behind(planned).await??;
        self.cursor = plan.cursor;
        if !plan.condemned.is_empty() {
            self.condemn(&plan.condemned).await?;
        }
        let mut removed = 0;
        for deletions in plan.deletions.chunks(DELETIONS_PER_COMMAND) {
            removed += self.remove(deletions).await?;
        }
        if !plan.collected.is_empty() {
            self.note(&plan.collected).await?;
        }
        Ok(removed)
    }

    async fn condemn(&self, keys: &[Bytes]) -> Result<(), Outage> {
        let cx = self.cx();
        let condemn = |txn: &mut Txn<'_>| {
            let mut keys = keys.iter();
            keys.try_for_each(|key| crate::pieces::condemn(txn, key))
        };
        self.catalog.transact(&cx, condemn).await
    }

    async fn note(&self, collected: &[Collected]) -> Result<(), Outage> {
        let cx = self.cx();
        self.catalog
            .transact(&cx, |txn| {
                for done in collected {
                    let row = CollectedRow {
                        version: done.version,
                        again_at_ms: done.again_at.map_or(0, |at| at.0),
                    };
                    txn.put(keys::collected(done.table), &row);
                }
                Ok(())
            })
            .await
    }

    async fn remove(&self, deletions: &[Deletion]) -> Result<usize, Outage> {
        let cx = self.cx();
        self.catalog
            .transact(&cx, |txn| {
                let mut removed = 0;
                for Deletion { key, commit } in deletions {
                    if txn
                        .get_raw(key)?
                        .is_some_and(|row| row.commit_id == *commit)
                    {
                        txn.delete(key.clone());
                        removed += 1;
                    }
                }
                Ok::<_, Outage>(removed)
            })
            .await
    }

    fn cx(&self) -> Cx {
        Cx {
            request_id: RequestId::from_bytes(self.catalog.inner.env.rng.id128()),
            account: self.config.account.clone(),
            principal: Arc::from("janitor"),
            deadline: None,
            attendance: Attendance::default(),
            caller: Peer::INSIDE,
            idempotency: None,
        }
    }
}
