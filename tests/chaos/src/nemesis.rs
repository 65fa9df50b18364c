//! What is done to the nodes: to whom, for how long, and how it is undone.

use crate::launch::Fleet;
use crate::record::Recorder;
use anyhow::Context as _;
use clap::ValueEnum;
use rand::Rng;
use rand::rngs::StdRng;
use rustix::process::Signal;
use serde::Serialize;
use std::time::Duration;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// `kill -9` of the leader, restart later.
    KillLeader,
    /// `kill -9` of a follower, restart later.
    KillFollower,
    /// `kill -9` of all nodes at once, restart at once.
    KillAll,
    /// SIGSTOP of the leader, SIGCONT later.
    PauseLeader,
    /// SIGSTOP of a follower, SIGCONT later.
    PauseFollower,
    /// The leader alone on one side; clients reach both sides.
    IsolateLeader,
    /// Nothing that the leader sends arrives, but it receives.
    CutFromLeader,
    /// Nothing arrives at the leader, but what it sends does.
    CutToLeader,
    /// Two halves that only one node between them sees both of.
    Bridge,
    /// A node and its disk are lost; a new node takes its place.
    Replace,
}

/// How long a fault lasts before it is healed, in milliseconds. Longer than an election.
const LASTS_MS: std::ops::Range<u64> = 2_500..5_000;

impl Fault {
    /// All that make sense for so many nodes.
    #[must_use]
    pub fn all(nodes: u8) -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|fault| nodes > 1 || matches!(fault, Self::KillAll | Self::PauseLeader))
            .collect()
    }

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// A fault that is in effect.
#[derive(Debug)]
pub struct Strike {
    fault: Fault,
    /// The nodes it hit.
    pub nodes: Vec<u8>,
    /// When, in the time of the record.
    pub at: u64,
    /// How long it is to last.
    pub lasts: Duration,
    /// Id that a node to be replaced had in the cluster.
    old: Option<u64>,
}

impl Strike {
    /// Strikes; the seed decides what is left open by the fault.
    ///
    /// # Errors
    /// If there is no leader to strike, or a step fails.
    pub async fn begin(
        fault: Fault,
        fleet: &mut Fleet,
        record: &Recorder,
        rng: &mut StdRng,
    ) -> anyhow::Result<Self> {
        // Drawn before anything that depends on time, so that a seed keeps its meaning.
        let (lasts, pick) = (rng.random_range(LASTS_MS), rng.random::<u8>());
        let leader = leader(fleet).await?;
        let others: Vec<u8> = (1..=fleet.nodes()).filter(|n| *n != leader).collect();
        let follower = others.get(usize::from(pick) % others.len().max(1)).copied();
        let nodes = match fault {
            Fault::KillFollower | Fault::PauseFollower => vec![follower.context("no follower")?],
            Fault::Replace => vec![if pick % 2 == 0 {
                leader
            } else {
                follower.unwrap_or(leader)
            }],
            Fault::KillAll => (1..=fleet.nodes()).collect(),
            _ => vec![leader],
        };
        let mut strike = Self {
            fault,
            nodes,
            at: 0,
            lasts: Duration::from_millis(lasts),
            old: None,
        };
        if fault == Fault::Replace {
            let status = fleet.address(strike.nodes[0]).status().await?;
            strike.old = Some(status.node);
        }
        strike.at = record.nemesis(&fault.name(), &strike.nodes);
        strike.strike(fleet, leader, &others).await?;
        Ok(strike)
    }

    async fn strike(&self, fleet: &mut Fleet, leader: u8, others: &[u8]) -> anyhow::Result<()> {
        match self.fault {
            Fault::KillLeader | Fault::KillFollower | Fault::KillAll | Fault::Replace => {
                for node in &self.nodes {
                    fleet.kill(*node).await?;
                }
            }
            Fault::PauseLeader | Fault::PauseFollower => {
                fleet.signal(self.nodes[0], Signal::STOP)?;
            }
            Fault::IsolateLeader => {
                let lab = fleet.lab().context("one node has no network")?;
                for other in others {
                    lab.part(leader, *other)?;
                }
            }
            Fault::CutFromLeader | Fault::CutToLeader => {
                let lab = fleet.lab().context("one node has no network")?;
                for other in others {
                    if self.fault == Fault::CutFromLeader {
                        lab.cut(leader, *other)?;
                    } else {
                        lab.cut(*other, leader)?;
                    }
                }
            }
            Fault::Bridge => {
                let lab = fleet.lab().context("one node has no network")?;
                // The leader is on one side; the first of the others sees both.
                let rest = &others[1..];
                let (near, far) = rest.split_at(rest.len().saturating_sub(1) / 2);
                for one in near.iter().chain([&leader]) {
                    for other in far {
                        lab.part(*one, *other)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Undoes it and waits until all nodes are ready; how long that took.
    ///
    /// # Errors
    /// If a node does not come back in time.
    pub async fn heal(&self, fleet: &mut Fleet, record: &Recorder) -> anyhow::Result<Duration> {
        record.nemesis("heal", &self.nodes);
        match self.fault {
            Fault::KillLeader | Fault::KillFollower | Fault::KillAll => {
                for node in &self.nodes {
                    fleet.restart(*node)?;
                }
            }
            Fault::PauseLeader | Fault::PauseFollower => {
                fleet.signal(self.nodes[0], Signal::CONT)?;
            }
            Fault::Replace => {
                let node = self.nodes[0];
                let through = if node == 1 { 2 } else { 1 };
                let old = self.old.context("the strike has asked for it")?;
                fleet.replace(node, through, old).await?;
            }
            Fault::IsolateLeader | Fault::CutFromLeader | Fault::CutToLeader | Fault::Bridge => {
                let lab = fleet.lab().context("one node has no network")?;
                lab.heal()?;
            }
        }
        let begin = std::time::Instant::now();
        for node in 1..=fleet.nodes() {
            fleet.ready(node).await?;
        }
        record.nemesis("ready", &[]);
        Ok(begin.elapsed())
    }

    /// Whether it is undone at once: a cluster that is wholly down has nothing to show meanwhile.
    #[must_use]
    pub fn is_brief(&self) -> bool {
        self.fault == Fault::KillAll
    }
}

/// Waits for a leader.
async fn leader(fleet: &Fleet) -> anyhow::Result<u8> {
    let search = async {
        loop {
            if let Some(leader) = fleet.leader().await {
                return leader;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), search).await;
    found.context("no node says that it leads")
}
