//! The Raft groups of the cluster as `members` needs them: what is led here is done here, for the
//! rest the leader is asked.

use crate::group_stores::GroupStores;
use crate::status_wire::{self, Ask};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_consensus::{ChangeError, RaftGroup, Role};
use floeberg_members::{GroupView, Groups, GroupsError};
use floeberg_metastore::{Cx, Store, TransactError};
use floeberg_rpc::{CallError, Handler, Method, Peers, Refusal, RefusalCode, Request, Transport};
use floeberg_types::{GroupId, NodeId};
use futures::future::join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How long a member may take to show that it is there.
const ALIVE: Duration = Duration::from_millis(500);

/// How long the leader may take to say how its group is.
const VIEW: Duration = Duration::from_secs(2);

/// How long a change of leaders may take.
const TRANSFER: Duration = Duration::from_secs(15);

/// The groups of a node, and the way to the nodes that lead them.
#[derive(Clone)]
pub(crate) struct NodeGroups {
    me: NodeId,
    stores: GroupStores,
    peers: Arc<Peers>,
    transport: Arc<dyn Transport>,
    /// Cancelled when this node is about to stop.
    leaving: CancellationToken,
}

fn refused(group: GroupId, error: &ChangeError) -> GroupsError {
    match error {
        ChangeError::NotLeader { .. } | ChangeError::Stopped => GroupsError::NoLeader { group },
        ChangeError::Indefinite => GroupsError::Unknown { group },
        other => GroupsError::Refused {
            group,
            reason: other.to_string(),
        },
    }
}

impl NodeGroups {
    pub(crate) fn new(
        me: NodeId,
        stores: GroupStores,
        peers: Arc<Peers>,
        transport: Arc<dyn Transport>,
    ) -> Self {
        Self {
            me,
            stores,
            peers,
            transport,
            leaving: CancellationToken::new(),
        }
    }

    /// Cancelled when this node is about to stop.
    pub(crate) const fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }

    fn store(&self, group: GroupId) -> Result<&Store, GroupsError> {
        let mut stores = self.stores.each().into_iter();
        let found = stores.find(|(id, _)| *id == group);
        let (_, store) = found.ok_or(GroupsError::NoLeader { group })?;
        Ok(store)
    }

    fn group(&self, group: GroupId) -> Result<&RaftGroup, GroupsError> {
        self.store(group).map(Store::group)
    }

    fn leads(group: &RaftGroup) -> bool {
        group.leadership().borrow().ready
    }

    /// The members that answer now, this node included.
    async fn reachable(&self) -> BTreeSet<NodeId> {
        let others = self.peers.all().into_iter().map(|(node, _)| node);
        let asked = others
            .filter(|node| *node != self.me)
            .map(|node| async move {
                let request = Ask::Alive.request(GroupId::CATALOG);
                let answered = self.transport.call(node, request, ALIVE).await.is_ok();
                answered.then_some(node)
            });
        let answered = join_all(asked).await.into_iter().flatten();
        answered.chain([self.me]).collect()
    }

    /// A group that this node leads.
    async fn own_view(&self, group: &RaftGroup) -> GroupView {
        let reachable = self.reachable().await;
        let (members, status) = (group.members(), group.status());
        let of = |role: Role| {
            let nodes = members.members.iter().filter(move |m| m.role == role);
            nodes.map(|m| m.node).collect()
        };
        let next = |index: Option<u64>| index.map_or(0, |index| index + 1);
        let behind = members.members.iter().filter_map(|m| {
            m.matched?;
            Some((
                m.node,
                next(status.last_index).saturating_sub(next(m.matched)),
            ))
        });
        GroupView {
            group: group.group(),
            leader: self.me,
            term: status.term,
            voters: of(Role::Voter),
            learners: of(Role::Learner),
            changing: members.changing,
            reachable,
            behind: behind.collect(),
        }
    }

    async fn ask(
        &self,
        group: GroupId,
        ask: Ask,
        patience: Duration,
    ) -> Result<Bytes, GroupsError> {
        let leader = self.group(group)?.leader().map(|leader| leader.node);
        let leader = leader.filter(|leader| *leader != self.me);
        let leader = leader.ok_or(GroupsError::NoLeader { group })?;
        let called = self
            .transport
            .call(leader, ask.request(group), patience)
            .await;
        called.map_err(|error| match error {
            CallError::NotSent { .. } => GroupsError::NoLeader { group },
            CallError::Lost { .. } => GroupsError::Unknown { group },
            CallError::Refused(refusal) if refusal.code == RefusalCode::NotServing => {
                GroupsError::NoLeader { group }
            }
            CallError::Refused(refusal) => GroupsError::Refused {
                group,
                reason: refusal.message,
            },
        })
    }

    /// Hands every group that is led here to another voter, so that nobody waits for an election
    /// when this node stops. From the first step on nobody else hands one to this node.
    pub(crate) async fn hand_over(&self) {
        self.leaving.cancel();
        let all = self.stores.each().map(|(_, store)| store.group());
        let led = all.into_iter().filter(|group| Self::leads(group));
        let nobody = BTreeSet::new();
        join_all(led.map(|group| self.hand_over_one(group, &nobody))).await;
    }

    /// Hands every group that is led here to a voter that is none of `unfit`, if there is one that answers.
    /// Whether any was handed over.
    pub(crate) async fn give_way(&self, unfit: &BTreeSet<NodeId>) -> bool {
        let all = self.stores.each().map(|(_, store)| store.group());
        let led = all.into_iter().filter(|group| Self::leads(group));
        let handed = join_all(led.map(|group| self.hand_over_one(group, unfit))).await;
        handed.contains(&true)
    }

    /// Tries the voters that answer, the one that lacks least first. Whether one has taken it.
    async fn hand_over_one(&self, group: &RaftGroup, unfit: &BTreeSet<NodeId>) -> bool {
        let view = self.own_view(group).await;
        let fit = |node: &NodeId| {
            *node != self.me && view.reachable.contains(node) && !unfit.contains(node)
        };
        let mut heirs: Vec<NodeId> = view.voters.iter().copied().filter(fit).collect();
        heirs.sort_by_key(|node| view.lag(*node));
        for to in heirs {
            match group.transfer_leader(to).await {
                Ok(()) => return true,
                Err(error) => {
                    let group = group.group();
                    tracing::info!(%group, %to, %error, "the leadership was not handed over");
                }
            }
        }
        false
    }
}

#[async_trait]
impl Groups for NodeGroups {
    fn all(&self) -> Vec<GroupId> {
        self.stores.each().map(|(group, _)| group).to_vec()
    }

    fn led(&self) -> Vec<GroupId> {
        let all = self.stores.each().into_iter();
        let led = all.filter(|(_, store)| Self::leads(store.group()));
        led.map(|(id, _)| id).collect()
    }

    async fn view(&self, group: GroupId) -> Result<GroupView, GroupsError> {
        let here = self.group(group)?;
        if Self::leads(here) {
            return Ok(self.own_view(here).await);
        }
        // A look changes nothing: a lost answer is no different from no leader.
        let answer = self.ask(group, Ask::View, VIEW).await;
        let body = answer.map_err(|_| GroupsError::NoLeader { group })?;
        status_wire::decode_view(group, body)
            .map_err(|reason| GroupsError::Refused { group, reason })
    }

    async fn add_learner(
        &self,
        group: GroupId,
        node: NodeId,
        address: &str,
    ) -> Result<(), GroupsError> {
        let added = self.group(group)?.add_learner(node, address).await;
        added.map(|_| ()).map_err(|e| refused(group, &e))
    }

    async fn set_voters(
        &self,
        group: GroupId,
        voters: BTreeSet<NodeId>,
    ) -> Result<(), GroupsError> {
        let here = self.group(group)?;
        let members = here.members();
        let present = members.members.iter().filter(|m| m.role == Role::Voter);
        let present: BTreeSet<NodeId> = present.map(|m| m.node).collect();
        let added: Vec<NodeId> = voters.difference(&present).copied().collect();
        let gone: Vec<NodeId> = present.difference(&voters).copied().collect();
        let changed = match (&added[..], &gone[..]) {
            ([], []) => Ok(()),
            ([new], []) => here.promote(*new).await,
            ([], [old]) => here.demote(*old).await,
            ([new], [old]) => here.replace(*old, *new).await,
            _ => {
                let reason = "one voter changes at a time".to_owned();
                return Err(GroupsError::Refused { group, reason });
            }
        };
        changed.map_err(|e| refused(group, &e))
    }

    async fn remove_learner(&self, group: GroupId, node: NodeId) -> Result<(), GroupsError> {
        let removed = self.group(group)?.remove(node).await;
        removed.map_err(|e| refused(group, &e))
    }

    fn feature_level(&self, group: GroupId) -> u32 {
        self.store(group).map_or(0, Store::feature_level)
    }

    async fn raise_feature_level(
        &self,
        group: GroupId,
        level: u32,
        cx: &Cx,
    ) -> Result<(), GroupsError> {
        let raised = self.store(group)?.raise_feature_level(cx, level).await;
        raised.map_err(|error| match error {
            TransactError::Unavailable | TransactError::Crowded(_) => {
                GroupsError::NoLeader { group }
            }
            TransactError::Indefinite => GroupsError::Unknown { group },
            other @ (TransactError::Refused(_)
            | TransactError::TooLarge(_)
            | TransactError::Storage(_)) => {
                let reason = other.to_string();
                GroupsError::Refused { group, reason }
            }
        })
    }

    async fn transfer_leader(&self, group: GroupId, to: NodeId) -> Result<(), GroupsError> {
        let here = self.group(group)?;
        if Self::leads(here) {
            let handed = here.transfer_leader(to).await;
            return handed.map_err(|e| refused(group, &e));
        }
        self.ask(group, Ask::Transfer { to }, TRANSFER).await?;
        Ok(())
    }
}

/// Answers [`Method::Status`]: that this node is there, how a group is that it leads, the wish that
/// it hands one over, and the digests of what it has applied.
pub(crate) struct StatusDesk {
    pub(crate) groups: NodeGroups,
}

fn refusal(error: &GroupsError) -> Refusal {
    let code = match error {
        GroupsError::NoLeader { .. } => RefusalCode::NotServing,
        GroupsError::Unknown { .. } | GroupsError::Refused { .. } => RefusalCode::Failed,
    };
    let text = match error {
        GroupsError::Refused { reason, .. } => reason.clone(),
        other => other.to_string(),
    };
    Refusal::new(code, text)
}

#[async_trait]
impl Handler for StatusDesk {
    async fn handle(&self, _from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        if request.method != Method::Status {
            let text = format!("{:?} is not answered here", request.method);
            return Err(Refusal::new(RefusalCode::UnknownMethod, text));
        }
        let malformed = |reason| Refusal::new(RefusalCode::Malformed, reason);
        let ask = Ask::decode(request.body).map_err(malformed)?;
        let group = request.group;
        // Only the leader answers these two: asking on would go round in circles.
        if matches!(ask, Ask::View | Ask::Transfer { .. }) {
            let here = self.groups.group(group).map_err(|e| refusal(&e))?;
            if !NodeGroups::leads(here) {
                return Err(refusal(&GroupsError::NoLeader { group }));
            }
        }
        match ask {
            // Who is about to stop is no heir to anybody who stops as well.
            Ask::Alive if self.groups.leaving.is_cancelled() => Err(Refusal::new(
                RefusalCode::NotServing,
                "this node is stopping",
            )),
            Ask::Alive => Ok(status_wire::encode_alive()),
            Ask::Marks => {
                let store = self.groups.store(group).map_err(|e| refusal(&e))?;
                Ok(status_wire::encode_marks(&store.digest_marks()))
            }
            Ask::View => {
                let view = self.groups.view(group).await.map_err(|e| refusal(&e))?;
                Ok(status_wire::encode_view(&view))
            }
            Ask::Transfer { to } => {
                let handed = self.groups.transfer_leader(group, to).await;
                handed.map_err(|e| refusal(&e))?;
                Ok(status_wire::encode_alive())
            }
        }
    }
}
