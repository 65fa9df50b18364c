//! What goes wrong: power, network, clocks.

use crate::cluster::Cluster;
use floeberg_types::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// How long a message takes when nothing is wrong.
pub(crate) const CALM: std::ops::Range<Duration> =
    Duration::from_micros(200)..Duration::from_millis(2);

/// Disturbs a cluster.
pub(crate) struct Nemesis {
    cluster: Arc<Cluster>,
}

impl Nemesis {
    pub(crate) fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: cluster.clone(),
        }
    }

    /// Goes on until it is dropped.
    pub(crate) async fn run(self) {
        loop {
            let pause = Duration::from_millis(100 + self.cluster.draw(900));
            tokio::time::sleep(pause).await;
            match self.cluster.members().len() {
                1 => self.disturb_one(),
                _ if self.cluster.draw(12) == 0 => self.depose().await,
                _ => self.disturb_many(),
            }
        }
    }

    /// A leader is cut off, and nothing else happens until the others have had the time to elect
    /// and to commit: only then can it show whether it still answers.
    async fn depose(&self) {
        let group = usize::try_from(self.cluster.draw(2)).unwrap_or(0);
        let leader = self.cluster.leader(group).unwrap_or_else(|| self.any());
        self.cluster.record.note("isolate leader", &[leader]);
        self.cluster.network.isolate(NodeId(leader));
        let pause = Duration::from_millis(1_500 + self.cluster.draw(2_000));
        tokio::time::sleep(pause).await;
    }

    /// Everything that was cut, slowed or switched off comes back.
    pub(crate) async fn heal(cluster: &Arc<Cluster>) {
        cluster.record.note("heal for good", &[]);
        cluster.network.heal();
        cluster.network.loss(0);
        cluster.network.delay(CALM);
        for node in cluster.down() {
            cluster.boot(node).await;
        }
    }

    fn any(&self) -> u64 {
        let members = self.cluster.members();
        let at = self.cluster.draw(members.len() as u64);
        members[usize::try_from(at).unwrap_or(0)]
    }

    fn disturb_one(&self) {
        match self.cluster.draw(4) {
            0..=2 => self.crash(&[1], 300),
            _ => self.jump(1),
        }
    }

    fn disturb_many(&self) {
        let (cluster, node) = (&self.cluster, self.any());
        match cluster.draw(16) {
            0..=3 => self.crash(&[node], 2_500),
            4 => self.crash(&cluster.members(), 500),
            5..=6 => {
                cluster.record.note("isolate", &[node]);
                cluster.network.isolate(NodeId(node));
            }
            7..=8 => self.cut_one_way(node),
            9 => self.split(),
            10 => self.bridge(node),
            11 => self.jump(node),
            12 => {
                let permille = u16::try_from(cluster.draw(60)).unwrap_or(0);
                cluster.record.note(format!("loss {permille}"), &[]);
                cluster.network.loss(permille);
            }
            13 => {
                let most = 1 + cluster.draw(60);
                cluster.record.note(format!("delay up to {most} ms"), &[]);
                cluster
                    .network
                    .delay(Duration::ZERO..Duration::from_millis(most));
            }
            _ => {
                cluster.record.note("heal", &[]);
                cluster.network.heal();
            }
        }
    }

    /// Cuts the power of some machines, for a while.
    fn crash(&self, nodes: &[u64], most_ms: u64) {
        for node in nodes {
            self.cluster.crash(*node);
        }
        for node in nodes {
            let (cluster, node) = (self.cluster.clone(), *node);
            let after = Duration::from_millis(1 + cluster.draw(most_ms));
            tokio::task::spawn_local(async move {
                tokio::time::sleep(after).await;
                cluster.boot(node).await;
            });
        }
    }

    fn jump(&self, node: u64) {
        let most: i64 = match self.cluster.draw(3) {
            0 => 3_600_000,
            1 => 5_000,
            _ => 600,
        };
        let span = u64::try_from(2 * most).unwrap_or(0);
        let by = i64::try_from(self.cluster.draw(span)).unwrap_or(0) - most;
        self.cluster
            .record
            .note(format!("clock jumps by {by} ms"), &[node]);
        self.cluster.jump_clock(node, by);
    }

    /// Nothing that `node` sends reaches the others, or nothing that they send reaches it.
    fn cut_one_way(&self, node: u64) {
        let deaf = self.cluster.draw(2) == 0;
        let what = if deaf { "deafen" } else { "mute" };
        self.cluster.record.note(what, &[node]);
        for other in self.cluster.members() {
            let (from, to) = if deaf { (other, node) } else { (node, other) };
            self.cut(from, to);
        }
    }

    fn split(&self) {
        let members = self.cluster.members();
        let side: Vec<bool> = members.iter().map(|_| self.cluster.draw(2) == 0).collect();
        let there = |at: usize| side[at];
        let left = members.iter().enumerate().filter(|(at, _)| there(*at));
        let left: Vec<u64> = left.map(|(_, node)| *node).collect();
        self.cluster.record.note("split", &left);
        for (at, one) in members.iter().enumerate() {
            for (other_at, other) in members.iter().enumerate() {
                if there(at) != there(other_at) {
                    self.cut(*one, *other);
                }
            }
        }
    }

    /// Two halves that reach each other only over `node`.
    fn bridge(&self, node: u64) {
        self.cluster.record.note("bridge", &[node]);
        let others: Vec<u64> = self.cluster.members();
        let others: Vec<u64> = others.into_iter().filter(|other| *other != node).collect();
        for (at, one) in others.iter().enumerate() {
            for (other_at, other) in others.iter().enumerate() {
                if at % 2 != other_at % 2 {
                    self.cut(*one, *other);
                }
            }
        }
    }

    fn cut(&self, from: u64, to: u64) {
        if from != to {
            self.cluster.network.cut(NodeId(from), NodeId(to));
        }
    }
}
