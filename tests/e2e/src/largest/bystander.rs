//! Another client, which commits to a table of its own at a fixed rate.

use super::report::Latency;
use crate::connect::Clients;
use crate::table::Observed;
use crate::world::{append, create_table, manifest_list};
use anyhow::{Context as _, ensure};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Snapshots that its table keeps, so that every commit is as large as the one before.
const KEPT: i64 = 50;

/// When a run of commits is over; not known yet if `None`.
pub(super) type Until = watch::Receiver<Option<Instant>>;

/// One commit: when it was due, and how long after that it was acknowledged.
#[derive(Clone, Copy)]
pub(super) struct Sample {
    pub(super) due: Instant,
    pub(super) took: Duration,
}

/// A client of one node.
pub(super) struct Bystander {
    clients: Clients,
    namespace: &'static str,
    table: String,
    location: String,
    /// Acknowledged commits; they are numbered from 1, and so are their snapshots.
    done: i64,
}

impl Bystander {
    pub(super) async fn settle(
        clients: Clients,
        namespace: &'static str,
        table: String,
    ) -> anyhow::Result<Self> {
        let made = Observed::of(&create_table(&clients, namespace, &table).await?)?;
        Ok(Self {
            clients,
            namespace,
            table,
            location: made.location,
            done: 0,
        })
    }

    /// Commits at a fixed rate, one after the other: what is late counts from when it was due, so that a
    /// node that stands still cannot hide what it holds up.
    pub(super) async fn keep_committing(
        mut self,
        per_second: f64,
        until: Until,
    ) -> anyhow::Result<(Self, Vec<Sample>)> {
        let began = Instant::now();
        let mut samples = Vec::new();
        for number in 0u32.. {
            let due = began + Duration::from_secs_f64(f64::from(number) / per_second);
            sleep_until(due).await;
            if until.borrow().is_some_and(|end| due >= end) {
                break;
            }
            let number = self.done + 1;
            let committed = self.commit(number).await;
            committed.with_context(|| format!("commit {number} of {}", self.table))?;
            self.done = number;
            let took = due.elapsed();
            samples.push(Sample { due, took });
        }
        Ok((self, samples))
    }

    /// Appends a snapshot and lets the oldest go.
    async fn commit(&self, number: i64) -> anyhow::Result<()> {
        let list = manifest_list(&self.location, number);
        let parent = (number > 1).then_some(number - 1);
        let mut body: Value =
            serde_json::from_str(&append(parent, number, number, &list).render())?;
        if number > KEPT {
            let expire = json!({"action": "remove-snapshots", "snapshot-ids": [number - KEPT]});
            let updates = body["updates"].as_array_mut();
            updates.context("an append has no updates")?.push(expire);
        }
        let (namespace, table) = ([self.namespace], &self.table);
        let iceberg = &self.clients.iceberg;
        iceberg
            .update_table(&namespace, table, body.to_string())
            .await?;
        Ok(())
    }

    /// Its table has exactly the commits that were acknowledged, seen by somebody.
    pub(super) async fn check(&self, through: &Clients) -> anyhow::Result<()> {
        let namespace = [self.namespace];
        let loaded = through.iceberg.load_table(&namespace, &self.table);
        let seen = Observed::of(&loaded.await?)?;
        let ids: Vec<i64> = seen.snapshots.iter().map(|snapshot| snapshot.id).collect();
        let kept: Vec<i64> = (1.max(self.done + 1 - KEPT)..=self.done).collect();
        ensure!(
            seen.last_sequence == self.done && ids == kept,
            "{} has {} commits with snapshots {ids:?}, but {} were acknowledged",
            self.table,
            seen.last_sequence,
            self.done
        );
        Ok(())
    }
}

/// Percentiles of commits that were due between two moments.
pub(super) fn latency(samples: &[Sample], from: Instant, to: Instant) -> Latency {
    let within = samples.iter().filter(|s| s.due >= from && s.due < to);
    Latency::of(within.map(|sample| sample.took).collect())
}
