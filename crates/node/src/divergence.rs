//! Compares the digests of what the nodes have applied, and stops this node if it is the one that is
//! wrong: nodes that applied the same log must have the same rows, and what a diverged node answers
//! or copies to others cannot be trusted.

use crate::group_stores::GroupStores;
use crate::status_wire::{self, Ask};
use floeberg_consensus::Role;
use floeberg_env::Env;
use floeberg_members::{Diverged, Home};
use floeberg_metastore::{Mark, Store};
use floeberg_rpc::{Peers, Transport};
use floeberg_telemetry::{Gauge, NodeMetrics};
use floeberg_types::{GroupId, NodeId};
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

mod judge;

use judge::{Verdict, judge};

/// Pause between two comparisons.
const EVERY: Duration = Duration::from_secs(5);

/// How long a peer may take to send its marks.
const PATIENCE: Duration = Duration::from_secs(2);

/// Nodes whose rows differ from this node's, by group; shared with the status.
#[derive(Clone, Default)]
pub(crate) struct Divergences(Arc<Mutex<BTreeMap<GroupId, Vec<NodeId>>>>);

impl Divergences {
    pub(crate) fn of(&self, group: GroupId) -> Vec<NodeId> {
        self.0.lock().get(&group).cloned().unwrap_or_default()
    }

    /// Whether that is news.
    fn set(&self, group: GroupId, nodes: &[NodeId]) -> bool {
        let known = self.0.lock().insert(group, nodes.to_vec());
        known.unwrap_or_default() != nodes
    }
}

/// The comparison of one node with its peers.
pub(crate) struct Watch {
    pub(crate) me: NodeId,
    pub(crate) stores: GroupStores,
    pub(crate) peers: Arc<Peers>,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) divergences: Divergences,
    pub(crate) metrics: NodeMetrics,
    pub(crate) home: Home,
    pub(crate) env: Env,
}

impl Watch {
    /// Runs until it is dropped, or ends the process.
    pub(crate) async fn run(self) {
        loop {
            tokio::time::sleep(EVERY).await;
            for (group, store) in self.stores.each() {
                self.look(group, store).await;
            }
        }
    }

    async fn look(&self, group: GroupId, store: &Store) {
        let own = store.digest_marks();
        if own.is_empty() {
            return;
        }
        let peers = self.peers.all().into_iter().map(|(node, _)| node);
        let asked = peers
            .filter(|node| *node != self.me)
            .map(|node| async move { Some((node, self.ask(group, node).await?)) });
        let answers = join_all(asked).await.into_iter().flatten();
        let marks = answers.chain([(self.me, own)]).collect();
        let members = store.group().members().members;
        let voters = members.iter().filter(|member| member.role == Role::Voter);
        let voters: BTreeSet<_> = voters.map(|member| member.node).collect();
        self.act(group, judge(self.me, &voters, &marks));
    }

    /// A silent peer, or one of another version, is asked again next time.
    async fn ask(&self, group: GroupId, node: NodeId) -> Option<Vec<Mark>> {
        let asked = Ask::Marks.request(group);
        let answer = self.transport.call(node, asked, PATIENCE).await.ok()?;
        match status_wire::decode_marks(answer) {
            Ok(marks) => Some(marks),
            Err(reason) => {
                tracing::warn!(%node, reason, "the digests of a peer cannot be read");
                None
            }
        }
    }

    fn gauge(&self, group: GroupId) -> &Gauge {
        match group {
            GroupId::CATALOG => &self.metrics.catalog_store.diverged,
            _ => &self.metrics.objects_store.diverged,
        }
    }

    fn raise(&self, group: GroupId, nodes: &[NodeId]) -> bool {
        self.gauge(group)
            .set(i64::try_from(nodes.len()).unwrap_or(i64::MAX));
        self.divergences.set(group, nodes)
    }

    fn act(&self, group: GroupId, verdict: Verdict) {
        match verdict {
            Verdict::Agreed => {
                if self.raise(group, &[]) {
                    tracing::info!(%group, "every digest agrees again");
                }
            }
            Verdict::OthersWrong { index, nodes } => {
                if self.raise(group, &nodes) {
                    tracing::error!(%group, index, ?nodes, "digest: other nodes have diverged from the majority");
                }
            }
            Verdict::Split { index, nodes } => {
                if self.raise(group, &nodes) {
                    tracing::error!(
                        %group, index, ?nodes,
                        "digest: nodes have diverged, and no majority says which: stop writing, and \
                         compare their rows"
                    );
                }
            }
            Verdict::Wrong {
                index,
                here,
                others,
            } => self.stop(&Diverged {
                group,
                index,
                here: format!("{here:?}"),
                others: format!("{others:?}"),
                found_at: self.env.clock.now(),
            }),
        }
    }

    fn stop(&self, found: &Diverged) {
        tracing::error!(
            group = %found.group,
            index = found.index,
            here = found.here,
            others = found.others,
            "digest: this node has diverged from the majority; aborting. Keep its directory for \
             analysis, then wipe it and let the machine join again"
        );
        if let Err(error) = found.mark(&self.home) {
            tracing::error!(%error, "the data directory could not be marked: do not start this node again");
        }
        std::process::abort();
    }
}
