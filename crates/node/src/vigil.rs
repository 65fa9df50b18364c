//! Looks at what can go wrong with a node that still runs, and keeps its alarms.

use crate::divergence::Divergences;
use crate::group_stores::GroupStores;
use crate::removal::Removal;
use floeberg_consensus::Standing;
use floeberg_env::Env;
use floeberg_http::Room;
use floeberg_members::{AlarmKind, Alarms};
use floeberg_metastore::Store;
use floeberg_shards::Shards;
use floeberg_telemetry::{Gauge, NodeMetrics};
use floeberg_types::{GroupId, TimestampMs};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// How long an entry may wait for its majority, and a group for a leader. Longer than any election.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A certificate that runs out sooner should have been renewed.
const CERTIFICATE_MS: i64 = 14 * 24 * 3_600_000;

/// When a certificate runs out, in ms since 1970; 0: there is none. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Expiry(Arc<AtomicI64>);

impl Expiry {
    pub(crate) fn set(&self, at: TimestampMs) {
        self.0.store(at.0, Ordering::Relaxed);
    }

    fn get(&self) -> Option<TimestampMs> {
        let at = self.0.load(Ordering::Relaxed);
        (at != 0).then_some(TimestampMs(at))
    }
}

/// What a node knows of its own troubles; clones share everything.
#[derive(Clone)]
pub(crate) struct Concerns {
    pub(crate) divergences: Divergences,
    pub(crate) removal: Removal,
    pub(crate) expiry: Expiry,
    pub(crate) alarms: Alarms,
}

impl Concerns {
    pub(crate) fn new(metrics: &NodeMetrics) -> Self {
        Self {
            divergences: Divergences::default(),
            removal: Removal::default(),
            expiry: Expiry::default(),
            alarms: Alarms::new(metrics),
        }
    }
}

/// The looks at one node.
pub(crate) struct Vigil {
    pub(crate) stores: GroupStores,
    pub(crate) shards: Shards,
    pub(crate) room: Room,
    pub(crate) standing: Standing,
    pub(crate) concerns: Concerns,
    pub(crate) owed_chunks: Gauge,
    pub(crate) env: Env,
}

/// What a group has waited for, and since when.
#[derive(Default)]
struct Waits {
    /// The entry that is to be applied next, on its leader.
    entry: BTreeMap<GroupId, (u64, Instant)>,
    leader: BTreeMap<GroupId, Instant>,
}

impl Vigil {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut waits = Waits::default();
        loop {
            tokio::time::sleep(EVERY).await;
            self.look(&mut waits);
        }
    }

    fn set(&self, kind: AlarmKind, texts: Vec<String>) {
        let text = (!texts.is_empty()).then(|| texts.join("; "));
        self.concerns.alarms.set(kind, text, self.env.clock.now());
    }

    fn look(&self, waits: &mut Waits) {
        let (mut stalled, mut leaderless) = (Vec::new(), Vec::new());
        for (group, store) in self.stores.each() {
            stalled.extend(waits.stalled(group, store));
            leaderless.extend(waits.leaderless(group, store));
        }
        self.set(AlarmKind::Stalled, stalled);
        self.set(AlarmKind::NoLeader, leaderless);
        let barred = self.standing.barred().map(|why| why.to_string());
        self.set(AlarmKind::TakesNoPart, barred.into_iter().collect());
        let each = self.stores.each().into_iter();
        let diverged = each.filter_map(|(group, _)| {
            let nodes = self.concerns.divergences.of(group);
            let said = format!("rows of group {group} differ from those of nodes {nodes:?}");
            (!nodes.is_empty()).then_some(said)
        });
        self.set(AlarmKind::Diverged, diverged.collect());
        let volume = self
            .shards
            .local()
            .check_room()
            .err()
            .map(|e| e.to_string());
        let rows = self.room.check().err().map(|e| e.to_string());
        self.set(
            AlarmKind::DiskFull,
            volume.into_iter().chain(rows).collect(),
        );
        let owed = Some(self.owed_chunks.get()).filter(|owed| *owed > 0);
        let owed = owed.map(|chunks| {
            format!(
                "{chunks} chunks lack a copy: see whether a member is down or full; they are copied by \
                 themselves once there is a place"
            )
        });
        self.set(AlarmKind::CopiesOwed, owed.into_iter().collect());
        self.set(
            AlarmKind::Certificate,
            self.certificate().into_iter().collect(),
        );
    }

    fn certificate(&self) -> Option<String> {
        let left_ms = self.concerns.expiry.get()?.since_ms(self.env.clock.now());
        (left_ms < CERTIFICATE_MS).then(|| {
            let days = left_ms.div_euclid(24 * 3_600_000);
            format!(
                "the certificate for the node-to-node port runs out in {days} days and was not renewed by \
                 itself: the log says why"
            )
        })
    }
}

impl Waits {
    fn stalled(&mut self, group: GroupId, store: &Store) -> Option<String> {
        let status = store.group().status();
        let applied = status.applied.map_or(0, |id| id.index + 1);
        let end = status.last_index.map_or(0, |index| index + 1);
        let leads = store.leadership().borrow().is_leader;
        if !leads || applied >= end {
            self.entry.remove(&group);
            return None;
        }
        let now = Instant::now();
        let (entry, since) = self.entry.entry(group).or_insert((applied, now));
        if *entry != applied {
            (*entry, *since) = (applied, now);
        }
        let waited = since.elapsed();
        (waited >= PATIENCE).then(|| {
            format!(
                "entry {applied} of group {group} has not been committed for {} s: a majority of the voters \
                 does not store it; look at who does not answer in `floeberg cluster status`, or hand the \
                 group over (`floeberg cluster transfer-leader`)",
                waited.as_secs()
            )
        })
    }

    fn leaderless(&mut self, group: GroupId, store: &Store) -> Option<String> {
        if store.group().leader().is_some() {
            self.leader.remove(&group);
            return None;
        }
        let since = self.leader.entry(group).or_insert_with(Instant::now);
        let waited = since.elapsed();
        (waited >= PATIENCE).then(|| {
            format!(
                "group {group} has had no leader for {} s as far as this node knows: a majority of its \
                 voters has to run and reach each other",
                waited.as_secs()
            )
        })
    }
}
