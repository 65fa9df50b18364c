//! Looks at what can go wrong with a node that still runs, and keeps its alarms.

use crate::divergence::Divergences;
use crate::group_stores::GroupStores;
use crate::removal::Removal;
use floeberg_consensus::Standing;
use floeberg_env::{ByteBudget, Env};
use floeberg_http::Room;
use floeberg_kv::Damage;
use floeberg_members::{AlarmKind, Alarms};
use floeberg_metastore::Store;
use floeberg_shards::Shards;
use floeberg_telemetry::NodeMetrics;
use floeberg_types::{GroupId, TimestampMs};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(1);

/// How long a leader may take to confirm a read.
const READ_PATIENCE: Duration = Duration::from_secs(1);

/// How long an entry may wait for its majority, and a group for a leader that confirms a read. Longer than any election.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A certificate that runs out sooner should have been renewed.
const CERTIFICATE_MS: i64 = 14 * DAY_MS;

/// Of one that is short-lived, this part of its time is soon enough.
const CERTIFICATE_SHARE: i64 = 4;

/// More than clocks of a healthy cluster differ, and than log time is ahead of them.
const LOG_AHEAD_MS: i64 = 2_000;

/// A budget of which less than this part is left refuses whoever needs much.
const CROWDED_SHARE: u64 = 20;

const DAY_MS: i64 = 24 * 3_600_000;

/// When a certificate runs out; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Expiry(Arc<Mutex<Option<Ends>>>);

#[derive(Clone, Copy)]
struct Ends {
    at: TimestampMs,
    /// How long before that it should have been renewed.
    notice_ms: i64,
}

impl Expiry {
    pub(crate) fn set(&self, at: TimestampMs) {
        let notice_ms = CERTIFICATE_MS;
        *self.0.lock() = Some(Ends { at, notice_ms });
    }

    /// Of a certificate that lives as long as others like.
    pub(crate) fn set_validity(&self, validity: Option<(TimestampMs, TimestampMs)>) {
        *self.0.lock() = validity.map(|(from, at)| Ends {
            at,
            notice_ms: CERTIFICATE_MS.min(at.since_ms(from) / CERTIFICATE_SHARE),
        });
    }

    /// The days that are left, if it should have been renewed.
    fn days_left(&self, now: TimestampMs) -> Option<i64> {
        let ends = (*self.0.lock())?;
        let left_ms = ends.at.since_ms(now);
        (left_ms < ends.notice_ms).then(|| left_ms.div_euclid(DAY_MS))
    }
}

/// What a node knows of its own troubles; clones share everything.
#[derive(Clone)]
pub(crate) struct Concerns {
    pub(crate) divergences: Divergences,
    pub(crate) removal: Removal,
    pub(crate) expiry: Expiry,
    /// Of the certificate that clients see.
    pub(crate) port_expiry: Expiry,
    pub(crate) alarms: Alarms,
}

impl Concerns {
    pub(crate) fn new(metrics: &NodeMetrics) -> Self {
        Self {
            divergences: Divergences::default(),
            removal: Removal::default(),
            expiry: Expiry::default(),
            port_expiry: Expiry::default(),
            alarms: Alarms::new(metrics),
        }
    }
}

/// What bounds the memory of requests, by name.
pub(crate) type Budgets = Vec<(&'static str, ByteBudget)>;

/// The looks at one node.
pub(crate) struct Vigil {
    pub(crate) stores: GroupStores,
    pub(crate) shards: Shards,
    pub(crate) room: Room,
    pub(crate) standing: Standing,
    pub(crate) concerns: Concerns,
    pub(crate) metrics: NodeMetrics,
    /// Reads of the rows of each group that met damage.
    pub(crate) damage: [Damage; 2],
    pub(crate) budgets: Budgets,
    /// What is kept where.
    pub(crate) dirs: [(&'static str, PathBuf); 3],
    pub(crate) env: Env,
}

/// What a group has waited for, and since when.
#[derive(Default)]
struct Waits {
    /// The entry that is to be applied next, on its leader.
    entry: BTreeMap<GroupId, (u64, Instant)>,
    /// Since when no leader has confirmed a read.
    leader: BTreeMap<GroupId, Instant>,
    /// Memory that is taken.
    memory: BTreeMap<&'static str, Instant>,
}

impl Vigil {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        let mut waits = Waits::default();
        loop {
            tokio::time::sleep(EVERY).await;
            // A leader that lost its majority, or died, is known as the leader until somebody asks it.
            let each = self.stores.each();
            let confirmed = each.map(|(group, store)| async move {
                let read = timeout(READ_PATIENCE, store.group().read_index());
                (group, matches!(read.await, Ok(Ok(_))))
            });
            for (group, is_led) in futures::future::join_all(confirmed).await {
                waits.note_leader(group, is_led);
            }
            self.look(&mut waits);
            self.measure_disks();
            self.measure_memory(&mut waits);
        }
    }

    fn measure_memory(&self, waits: &mut Waits) {
        let machine = &self.metrics.machine;
        let mut crowded = Vec::new();
        for (name, budget) in &self.budgets {
            let (total, held) = (budget.shares().total, budget.held());
            machine.budget(name, total, held);
            crowded.extend(waits.crowded(name, total, held));
        }
        self.set(AlarmKind::Crowded, crowded);
        for (seen_by, expiry) in [
            ("nodes", &self.concerns.expiry),
            ("clients", &self.concerns.port_expiry),
        ] {
            if let Some(ends) = *expiry.0.lock() {
                machine.certificate(seen_by, ends.at.0.div_euclid(1000));
            }
        }
    }

    fn measure_disks(&self) {
        for (holds, dir) in &self.dirs {
            if let Ok(space) = self.env.disk.space(dir) {
                self.metrics.machine.disk(holds, space.total, space.free);
            }
        }
    }

    fn set(&self, kind: AlarmKind, texts: Vec<String>) {
        let text = (!texts.is_empty()).then(|| texts.join("; "));
        self.concerns.alarms.set(kind, text, self.env.clock.now());
    }

    fn look(&self, waits: &mut Waits) {
        let each = self.stores.each().into_iter();
        let stalled = each.filter_map(|(group, store)| waits.stalled(group, store));
        self.set(AlarmKind::Stalled, stalled.collect());
        let barred = self.standing.barred().map(|why| why.to_string());
        // Whoever takes no part is told nothing: that says nothing of the group.
        if barred.is_some() || self.concerns.removal.notice().is_some() {
            waits.leader.clear();
        }
        self.set(AlarmKind::NoLeader, waits.leaderless());
        self.set(AlarmKind::TakesNoPart, barred.into_iter().collect());
        let each = self.stores.each().into_iter();
        let diverged = each.filter_map(|(group, _)| {
            let nodes = self.concerns.divergences.of(group);
            let said = format!("rows of group {group} differ from those of nodes {nodes:?}");
            (!nodes.is_empty()).then_some(said)
        });
        self.set(AlarmKind::Diverged, diverged.collect());
        self.set(AlarmKind::Damaged, self.damaged());
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
        let owed = Some(self.metrics.objects.owed_chunks.get()).filter(|owed| *owed > 0);
        let owed = owed.map(|chunks| {
            format!(
                "{chunks} chunks lack a copy: see whether a member is down or full; they are copied by \
                 themselves once there is a place"
            )
        });
        self.set(AlarmKind::CopiesOwed, owed.into_iter().collect());
        self.set(AlarmKind::Certificate, self.certificates());
        let each = self.stores.each().into_iter();
        let log_time = each.map(|(_, store)| store.applied().log_time).max();
        let ahead = log_time.and_then(|log_time| log_ahead(log_time, self.env.clock.now()));
        self.set(AlarmKind::LogTime, ahead.into_iter().collect());
    }

    /// Damage does not heal by itself: what was met once is said until the node is started again.
    fn damaged(&self) -> Vec<String> {
        let each = self.stores.each().into_iter().zip(&self.damage);
        let damaged = each.filter(|(_, damage)| damage.met() > 0);
        damaged
            .map(|((group, _), damage)| {
                format!(
                    "rows of group {group} on this node are damaged ({} reads failed): its disk returns other bytes \
                     than were written; replace the node (`floeberg cluster replace`), the others have the rows",
                    damage.met()
                )
            })
            .collect()
    }

    fn certificates(&self) -> Vec<String> {
        let (now, concerns) = (self.env.clock.now(), &self.concerns);
        let own = concerns.expiry.days_left(now).map(|days| {
            format!(
                "the certificate for the node-to-node port runs out in {days} days and was not renewed by \
                 itself: the log says why"
            )
        });
        let port = concerns.port_expiry.days_left(now).map(|days| {
            format!(
                "the certificate that clients see runs out in {days} days: put a new one into the files that \
                 `tls` names; they are looked at every few seconds"
            )
        });
        own.into_iter().chain(port).collect()
    }
}

/// What is said of a log whose time is ahead of this node's clock. It never falls: every change is stamped with that time
/// until the clocks have passed it.
fn log_ahead(log_time: TimestampMs, now: TimestampMs) -> Option<String> {
    let ahead_ms = log_time.since_ms(now);
    (ahead_ms > LOG_AHEAD_MS).then(|| {
        format!(
            "the log's time is {} s ahead of this node's clock: the clock of a leader ran ahead, or this one is \
             behind; until the clocks have passed it, changes carry that time, and what expires does so that much early: \
             see to the time synchronisation of all nodes",
            ahead_ms / 1000
        )
    })
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

    fn crowded(&mut self, name: &'static str, total: u64, held: u64) -> Option<String> {
        if held < total - total / CROWDED_SHARE {
            self.memory.remove(name);
            return None;
        }
        let since = self.memory.entry(name).or_insert_with(Instant::now);
        let waited = since.elapsed();
        (waited >= PATIENCE).then(|| {
            format!(
                "the memory for {name} of requests has been taken for {} s ({} of {} MiB): whoever needs some is told to \
                 come again; look for clients that send slowly or do not read their answers, or let more nodes join",
                waited.as_secs(),
                held >> 20,
                total >> 20
            )
        })
    }

    fn note_leader(&mut self, group: GroupId, is_led: bool) {
        match is_led {
            true => drop(self.leader.remove(&group)),
            false => drop(self.leader.entry(group).or_insert_with(Instant::now)),
        }
    }

    fn leaderless(&self) -> Vec<String> {
        let waited = self.leader.iter();
        let waited = waited.map(|(group, since)| (group, since.elapsed()));
        let long = waited.filter(|(_, waited)| *waited >= PATIENCE);
        long.map(|(group, waited)| {
            format!(
                "group {group} has had no leader that a majority follows for {} s, as far as this node knows: a \
                 majority of its voters has to run and reach each other; look at who does not answer in \
                 `floeberg cluster status`",
                waited.as_secs()
            )
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn memory_that_is_taken_for_long_is_told_of_until_some_is_free() {
        let mut waits = Waits::default();
        assert_eq!(waits.crowded("bodies", 1000, 950), None);
        tokio::time::advance(PATIENCE / 2).await;
        assert_eq!(waits.crowded("bodies", 1000, 949), None, "some was free");
        assert_eq!(waits.crowded("bodies", 1000, 1000), None);
        tokio::time::advance(PATIENCE).await;
        assert_eq!(waits.crowded("answers", 1000, 1000), None, "another one");
        let told = waits.crowded("bodies", 1000, 1000).unwrap();
        assert!(told.contains("bodies") && told.contains("10 s"), "{told}");
        assert_eq!(waits.crowded("bodies", 1000, 0), None);
    }

    #[test]
    fn a_log_ahead_of_the_clock_is_told_of() {
        let at = TimestampMs;
        assert_eq!(log_ahead(at(1_000_000), at(998_000)), None);
        assert_eq!(log_ahead(at(1_000_000), at(2_000_000)), None);
        let told = log_ahead(at(1_000_000), at(400_000)).unwrap();
        assert!(told.contains("600 s ahead"), "{told}");
    }

    #[test]
    fn a_certificate_is_told_of_in_time_and_a_short_lived_one_not_for_ever() {
        let day = |days: i64| TimestampMs(days * DAY_MS);
        let expiry = Expiry::default();
        assert_eq!(expiry.days_left(day(0)), None);
        expiry.set_validity(Some((day(0), day(90))));
        assert_eq!(expiry.days_left(day(76)), None);
        assert_eq!(expiry.days_left(day(77)), Some(13));
        assert_eq!(expiry.days_left(day(91)), Some(-1));
        expiry.set_validity(Some((day(0), day(8))));
        assert_eq!(expiry.days_left(day(6)), None);
        assert_eq!(expiry.days_left(day(7)), Some(1));
        expiry.set(day(20));
        assert_eq!(expiry.days_left(day(7)), Some(13));
    }
}
