//! Another client, which commits to tables of its own at a fixed rate.

use super::report::Latency;
use crate::connect::Clients;
use crate::table::Observed;
use crate::world::{append, create_table, manifest_list};
use anyhow::{Context as _, ensure};
use futures::future::try_join_all;
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

/// Tables among which a client takes turns: a commit that is due does not wait for the one before, unless
/// that takes longer than a turn of all tables.
const TABLES: u32 = 20;

/// A client of one node.
pub(super) struct Bystander {
    tables: Vec<Table>,
}

/// A table of such a client.
struct Table {
    clients: Clients,
    namespace: &'static str,
    name: String,
    location: String,
    /// Acknowledged commits; they are numbered from 1, and so are their snapshots.
    done: i64,
}

impl Bystander {
    pub(super) async fn settle(
        clients: Clients,
        namespace: &'static str,
        prefix: &str,
    ) -> anyhow::Result<Self> {
        let mut tables = Vec::new();
        for number in 0..TABLES {
            let name = format!("{prefix}_{number}");
            let made = create_table(&clients, namespace, &name).await?;
            tables.push(Table {
                clients: clients.clone(),
                namespace,
                name,
                location: Observed::of(&made)?.location,
                done: 0,
            });
        }
        Ok(Self { tables })
    }

    /// Commits at a fixed rate: what is late counts from when it was due, so that a node that stands still
    /// cannot hide what it holds up.
    pub(super) async fn keep_committing(
        mut self,
        per_second: f64,
        until: Until,
    ) -> anyhow::Result<(Self, Vec<Sample>)> {
        let began = Instant::now();
        let turns = self.tables.iter_mut().zip(0..).map(|(table, first)| {
            let dues = (first..).step_by(TABLES as usize);
            let due = move |number: u32| Duration::from_secs_f64(f64::from(number) / per_second);
            table.keep_committing(dues.map(move |number| began + due(number)), until.clone())
        });
        let samples = try_join_all(turns).await?.concat();
        Ok((self, samples))
    }

    /// Its tables have exactly the commits that were acknowledged, seen by somebody.
    pub(super) async fn check(&self, through: &Clients) -> anyhow::Result<()> {
        for table in &self.tables {
            table.check(through).await?;
        }
        Ok(())
    }
}

impl Table {
    async fn keep_committing(
        &mut self,
        dues: impl Iterator<Item = Instant>,
        until: Until,
    ) -> anyhow::Result<Vec<Sample>> {
        let mut samples = Vec::new();
        for due in dues {
            sleep_until(due).await;
            if until.borrow().is_some_and(|end| due >= end) {
                break;
            }
            let number = self.done + 1;
            let committed = self.commit(number).await;
            committed.with_context(|| format!("commit {number} of {}", self.name))?;
            self.done = number;
            let took = due.elapsed();
            samples.push(Sample { due, took });
        }
        Ok(samples)
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
        let (namespace, table) = ([self.namespace], &self.name);
        let iceberg = &self.clients.iceberg;
        iceberg
            .update_table(&namespace, table, body.to_string())
            .await?;
        Ok(())
    }

    async fn check(&self, through: &Clients) -> anyhow::Result<()> {
        let namespace = [self.namespace];
        let loaded = through.iceberg.load_table(&namespace, &self.name);
        let seen = Observed::of(&loaded.await?)?;
        let ids: Vec<i64> = seen.snapshots.iter().map(|snapshot| snapshot.id).collect();
        let kept: Vec<i64> = (1.max(self.done + 1 - KEPT)..=self.done).collect();
        ensure!(
            seen.last_sequence == self.done && ids == kept,
            "{} has {} commits with snapshots {ids:?}, but {} were acknowledged",
            self.name,
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
