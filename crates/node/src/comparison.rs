//! Compares what this node has with what the others know that it has acknowledged: before it takes part,
//! and every few seconds after. Decision 0008 (docs/decisions) says why that is enough.

use crate::group_stores::GroupStores;
use crate::network::Papers;
use crate::removal::{Cause, Removal};
use crate::room::OwnRoom;
use crate::volume_marks::VolumeMarks;
use floeberg_consensus::{
    AckMark, Barred, Forgot, SKEW_MAX_MS, Standing, certainly_ahead, median_ms,
};
use floeberg_env::Env;
use floeberg_members::{AlarmKind, Alarms, ask_marks, barring, lift, said_of_marks};
use floeberg_members::{Barring, Home, RemovedMark, Said, Space, Start};
use floeberg_members::{Telling, Witnesses, gone_members};
use floeberg_rpc::{Asking, Peers, Refusal, RefusalCode, Routes, Transport};
use floeberg_shards::FullNodes;
use floeberg_telemetry::NodeMetrics;
use floeberg_types::{GroupId, NodeId};
use floeberg_volume::{Volume, VolumeMark};
use futures::future::{join_all, select_all};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Pause between two exchanges of marks: what a node has forgotten that is younger may stay unnoticed if
/// whoever saw it is gone.
const EVERY: Duration = Duration::from_secs(2);

/// Pause between two rounds of a node that waits to take part.
const AGAIN: Duration = Duration::from_millis(250);

/// How long a peer may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Rounds in which nobody takes this node for a member and somebody says that it is none, before that is
/// taken for true.
const REMOVED_ROUNDS: u32 = 3;

/// What is said to whoever calls a node that has not been compared yet.
pub(crate) const NOT_COMPARED: &str =
    "this node has not been compared with the others since it started";

/// A node with others has to be compared with them first.
pub(crate) fn first_standing(papers: Option<&Papers>, metrics: &NodeMetrics) -> Standing {
    let standing = match papers {
        Some(_) => Standing::asking(),
        None => Standing::cleared(),
    };
    metrics.takes_part.set(i64::from(standing.is_cleared()));
    standing
}

/// The comparison of one node.
pub(crate) struct Comparison {
    pub(crate) me: NodeId,
    pub(crate) start: Start,
    pub(crate) stores: GroupStores,
    pub(crate) peers: Arc<Peers>,
    /// The way for marks, which is open before this node takes part.
    pub(crate) asker: Arc<dyn Transport>,
    pub(crate) asking: Asking,
    pub(crate) routes: Routes,
    pub(crate) witnesses: Arc<Witnesses>,
    pub(crate) volume: VolumeMarks,
    pub(crate) chunks: Volume,
    pub(crate) room: OwnRoom,
    /// Whose volumes are full.
    pub(crate) full: FullNodes,
    pub(crate) standing: Standing,
    pub(crate) removal: Removal,
    pub(crate) alarms: Alarms,
    pub(crate) home: Home,
    pub(crate) env: Env,
    pub(crate) metrics: NodeMetrics,
}

/// What a round of questions came to.
type Round = BTreeMap<NodeId, Said>;

impl Comparison {
    /// Runs until it is dropped.
    pub(crate) async fn run(self) {
        self.look_again();
        self.ask_until_decided().await;
        let mut told = false;
        loop {
            if let Some(why) = self.standing.barred().filter(|_| !told) {
                told = true;
                self.barred(&why).await;
            }
            let news = self.news();
            tokio::select! {
                biased;
                _ = self.standing.until_barred(), if !told => continue,
                () = news => {}
                () = tokio::time::sleep(EVERY) => {}
            }
            self.round().await;
            self.full
                .are(self.witnesses.full_of_chunks(self.env.clock.now()));
            self.keep().await;
        }
    }

    /// A change of leaders is when acknowledgements matter most. Groups that have stopped have no news.
    async fn news(&self) {
        let changes = self.stores.each().map(|(_, store)| {
            let mut leader = store.group().leader_watch();
            Box::pin(async move {
                leader.mark_unchanged();
                if leader.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            })
        });
        select_all(changes).await;
    }

    /// A node that had lost something may have got a newer disk back.
    fn look_again(&self) {
        let found = match barring(&self.home) {
            Ok(Some(Barring::Forgot(forgot))) => forgot,
            Ok(Some(Barring::Removed(mark))) => {
                return self.standing.bar(Barred::Held(removed_text(&mark)));
            }
            Ok(None) => return,
            Err(error) => return self.standing.bar(Barred::Held(error.to_string())),
        };
        let Some(here) = self.own().remove(&found.group) else {
            return;
        };
        if here < found.known {
            return self.standing.bar(Barred::Forgot(Forgot { here, ..found }));
        }
        match lift(&self.home) {
            Ok(()) => tracing::info!(group = %found.group, "what this node had lost is back"),
            Err(error) => self.standing.bar(Barred::Held(error.to_string())),
        }
    }

    /// What this node has acknowledged, group by group.
    fn own(&self) -> BTreeMap<GroupId, AckMark> {
        let marks = self
            .stores
            .each()
            .map(|(group, store)| (group, store.group().mark()));
        marks.into_iter().collect()
    }

    async fn ask_until_decided(&self) {
        let mut answered = BTreeSet::new();
        let mut removed_rounds = 0;
        loop {
            if self.standing.barred().is_some() || self.standing.is_cleared() {
                return self.removal.wait_for(None);
            }
            if self.missing(&answered).is_empty() && self.take_part().await {
                return self.removal.wait_for(None);
            }
            let round = self.round().await;
            let counts = |said: &Said| matches!(said, Said::Known { .. } | Said::NoMarks);
            let now: BTreeSet<NodeId> = round
                .iter()
                .filter(|(_, said)| counts(said))
                .map(|(node, _)| *node)
                .collect();
            let said_by: Vec<NodeId> = of(&round, |said| *said == Said::Removed).collect();
            removed_rounds = match now.is_empty() && !said_by.is_empty() {
                true => removed_rounds + 1,
                false => 0,
            };
            answered.extend(now);
            if removed_rounds >= REMOVED_ROUNDS {
                self.removed(said_by).await;
                continue;
            }
            let missing = self.missing(&answered);
            if !missing.is_empty() {
                self.removal.wait_for(Some(waiting_text(&missing, &round)));
                tokio::time::sleep(AGAIN).await;
            }
        }
    }

    /// The voters of whom more have to answer before a majority of every group has, this node included.
    fn missing(&self, answered: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
        let groups = self.stores.each().into_iter();
        let sets = groups.flat_map(|(_, store)| store.group().electorates());
        let short = sets.filter_map(|voters| {
            let here = |node: &&NodeId| **node == self.me || answered.contains(node);
            let with = voters.iter().filter(here).count();
            (with * 2 <= voters.len()).then(|| {
                let silent = voters.into_iter().filter(|node| !answered.contains(node));
                silent.filter(|node| *node != self.me).collect::<Vec<_>>()
            })
        });
        short.flatten().collect()
    }

    /// The start counts, and from then on this node serves and calls the others. Whether it took place.
    async fn take_part(&self) -> bool {
        let (home, start, volume) = (self.home.clone(), self.start, self.volume.clone());
        // What the volume lacks comes first: from now on it is written to.
        let keeping = move || {
            volume.keep()?;
            home.keep_start(start)
        };
        match self.env.tasks.spawn_blocking("keep-start", keeping).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::error!(%error, "this start cannot be counted, so the node takes no part yet");
                tokio::time::sleep(EVERY).await;
                return false;
            }
            Err(_) => return false,
        }
        self.asking.end();
        self.routes.release();
        self.standing.clear();
        self.metrics.takes_part.set(1);
        true
    }

    /// Asks everybody in the address book, says what is here, and compares.
    async fn round(&self) -> Round {
        let barred = self.standing.barred();
        let (own, alarms) = (self.own(), self.alarms.all());
        let telling = Telling {
            own: &own,
            volume: None,
            barred: barred.as_ref(),
            alarms: &alarms,
            space: self.space(),
        };
        let others = self.peers.all().into_iter().map(|(node, _)| node);
        let asked = others.filter(|node| *node != self.me).map(|node| {
            let asked = self.env.clock.monotonic();
            let volume = self.told_of_volume(node);
            let request = ask_marks(Telling { volume, ..telling });
            async move {
                let said = said_of_marks(self.asker.call(node, request, PATIENCE).await);
                let ahead = self.ahead(&said, asked);
                (node, said, ahead)
            }
        });
        let answers = join_all(asked).await;
        let ahead = answers
            .iter()
            .filter_map(|(node, _, ahead)| Some((*node, (*ahead)?)));
        self.look_at_clock(&ahead.collect());
        let round: Round = answers
            .into_iter()
            .map(|(node, said, _)| (node, said))
            .collect();
        for (node, said) in &round {
            let Said::Known { marks, volume, .. } = said else {
                continue;
            };
            self.volume.hear(*node, *volume);
            for (group, store) in self.stores.each() {
                if let Some(known) = marks.get(&group) {
                    store.group().compare(*node, *known);
                }
            }
        }
        round
    }

    /// What is said of the volume: nothing before it was compared.
    fn told_of_volume(&self, node: NodeId) -> Option<VolumeMark> {
        let compared = self.standing.is_cleared();
        compared.then(|| self.volume.told_to(node)).flatten()
    }

    fn space(&self) -> Space {
        Space {
            commands: self.room.check().is_ok(),
            chunks: self.chunks.check_room().is_ok() && self.room.check().is_ok(),
        }
    }

    /// By how much the clock of whoever was asked at `asked` is ahead of this one's, at least.
    fn ahead(&self, said: &Said, asked: Duration) -> Option<i64> {
        let Said::Known { clock_ms, .. } = said else {
            return None;
        };
        let took = self.env.clock.monotonic().saturating_sub(asked).as_millis();
        let half = i64::try_from(took / 2).ok()?;
        let known = *clock_ms != 0;
        known.then(|| certainly_ahead(*clock_ms, self.env.clock.now().0, half))
    }

    /// A clock that is off the median of the voters': log time is stamped by leaders, and signed requests are
    /// refused by clocks.
    fn look_at_clock(&self, ahead: &BTreeMap<NodeId, i64>) {
        let voters = self.stores.catalog.group().electorates();
        let count = voters.first().map_or(1, BTreeSet::len);
        let Some(median) = median_ms(count, ahead) else {
            return;
        };
        self.metrics.machine.clock_behind_ms.set(median);
        let off = median.abs() > SKEW_MAX_MS;
        let text = off.then(|| {
            let way = if median > 0 { "behind" } else { "ahead of" };
            format!(
                "the clock of this node is {} s {way} the others': see to its time synchronisation; it does \
                 not keep the lead, and refuses signed requests if it is off by more than 15 minutes",
                median.abs() / 1000
            )
        });
        self.alarms
            .set(AlarmKind::Clock, text, self.env.clock.now());
    }

    /// Makes durable what was heard, without the nodes that are gone for good.
    async fn keep(&self) {
        match gone_members(&self.stores.catalog) {
            Ok(gone) => self.witnesses.dismiss(&gone.into_iter().collect()),
            Err(error) => tracing::debug!(%error, "members that are gone are not forgotten yet"),
        }
        // The node is a witness of its own volume: that may be on another disk.
        self.witnesses
            .hear_volume(self.me, self.told_of_volume(self.me));
        let (witnesses, home) = (self.witnesses.clone(), self.home.clone());
        let volume = self.volume.clone();
        let keeping = move || {
            volume.keep()?;
            witnesses.keep(&home)
        };
        match self.env.tasks.spawn_blocking("keep-marks", keeping).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::error!(%error, "what others have acknowledged is not kept"),
        }
    }

    async fn removed(&self, said_by: Vec<NodeId>) {
        let mark = RemovedMark {
            said_by,
            found_at: self.env.clock.now(),
        };
        self.removal
            .keep_removed(&self.home, &self.env, mark, &self.standing)
            .await;
    }

    /// Keeps it, says it, and closes the doors.
    async fn barred(&self, why: &Barred) {
        let text = match why {
            Barred::Forgot(_) => format!("{why}. {}", advice(self.me)),
            Barred::Held(text) => text.clone(),
        };
        self.metrics.takes_part.set(0);
        self.routes
            .hold(Refusal::new(RefusalCode::Forgot, why.to_string()));
        self.removal.bar(text.clone());
        tracing::error!(node = %self.me, "this node takes no part: {text}");
        let Barred::Forgot(forgot) = *why else { return };
        let (home, now) = (self.home.clone(), self.env.clock.now());
        let keeping = move || Barring::Forgot(forgot).keep(&home, now);
        match self.env.tasks.spawn_blocking("keep-forgot", keeping).await {
            Ok(Ok(())) | Err(_) => {}
            Ok(Err(error)) => tracing::error!(%error, "that it takes no part is not kept"),
        }
    }
}

fn of(round: &Round, is: impl Fn(&Said) -> bool) -> impl Iterator<Item = NodeId> {
    round
        .iter()
        .filter(move |(_, said)| is(said))
        .map(|(node, _)| *node)
}

fn advice(me: NodeId) -> String {
    format!(
        "An older copy of a disk was put back, or a disk lost writes. If there is a newer copy, put it \
         back; otherwise stop this node, let a machine with empty directories join as a new one (`floeberg cluster \
         join`; this machine will do, once they are empty), and replace this node by it (`floeberg cluster replace \
         {me} --with N`, on another one)"
    )
}

/// What a node that was removed says at every start.
fn removed_text(mark: &RemovedMark) -> String {
    let by = mark
        .said_by
        .iter()
        .map(NodeId::to_string)
        .collect::<Vec<_>>();
    format!("{} (node {} said so)", Cause::Removed.text(), by.join(", "))
}

/// For whom a node waits, and what they say.
fn waiting_text(missing: &BTreeSet<NodeId>, round: &Round) -> String {
    let nodes = missing.iter().map(|node| match round.get(node) {
        Some(Said::Nothing(why)) => format!("node {node} ({why})"),
        Some(Said::Removed) => format!("node {node} (it takes this node for no member)"),
        _ => format!("node {node} (it was not asked yet)"),
    });
    let nodes = nodes.collect::<Vec<_>>().join("; ");
    format!(
        "a majority of the voters, to hear whether this node still has all that it acknowledged; missing: {nodes}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_says_for_whom_it_waits_and_why() {
        let missing = [2, 3, 4].map(NodeId).into();
        let round = BTreeMap::from([
            (NodeId(2), Said::Nothing("it is down".to_owned())),
            (NodeId(3), Said::Removed),
        ]);
        assert_eq!(
            waiting_text(&missing, &round),
            "a majority of the voters, to hear whether this node still has all that it acknowledged; missing: \
             node 2 (it is down); node 3 (it takes this node for no member); node 4 (it was not asked yet)"
        );
    }
}
