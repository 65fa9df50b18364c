//! What the use cases need of consensus, of the data and of the cluster's authority.

use crate::model::Member;
use crate::plan::GroupView;
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_metastore::Cx;
use floeberg_types::{GroupId, NodeId, TimestampMs};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// Consensus did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GroupsError {
    /// Nobody leads the group, or its leader cannot be asked.
    #[error("group {group} has no leader that can be reached; nothing was changed, try again")]
    NoLeader {
        /// The group.
        group: GroupId,
    },
    /// It may or may not have happened.
    #[error("whether group {group} did it is unknown; look at its members before trying again")]
    Unknown {
        /// The group.
        group: GroupId,
    },
    /// It refused.
    #[error("group {group} refused: {reason}")]
    Refused {
        /// The group.
        group: GroupId,
        /// Why.
        reason: String,
    },
}

/// The Raft groups of the cluster.
#[async_trait]
pub trait Groups: Send + Sync + 'static {
    /// Every group, ascending.
    fn all(&self) -> Vec<GroupId>;

    /// Those that this node leads at the moment.
    fn led(&self) -> Vec<GroupId>;

    /// A group as its leader sees it, wherever that is.
    async fn view(&self, group: GroupId) -> Result<GroupView, GroupsError>;

    /// On the leader: begins to send the log to `node`, without a vote. Does not wait for it.
    async fn add_learner(
        &self,
        group: GroupId,
        node: NodeId,
        address: &str,
    ) -> Result<(), GroupsError>;

    /// On the leader: one change through a joint configuration; who loses its vote stays as a
    /// learner. Answers once the change is committed.
    async fn set_voters(&self, group: GroupId, voters: BTreeSet<NodeId>)
    -> Result<(), GroupsError>;

    /// On the leader: stops to send the log to `node`, which has no vote.
    async fn remove_learner(&self, group: GroupId, node: NodeId) -> Result<(), GroupsError>;

    /// The feature level of a group's commands, as applied here.
    fn feature_level(&self, group: GroupId) -> u32;

    /// On the leader: every later command of the group needs `level`. A node that does not know it
    /// stops when it meets one, so all members do.
    async fn raise_feature_level(
        &self,
        group: GroupId,
        level: u32,
        cx: &Cx,
    ) -> Result<(), GroupsError>;

    /// From anywhere: the leader hands over to `to`. Answers once `to` leads.
    async fn transfer_leader(&self, group: GroupId, to: NodeId) -> Result<(), GroupsError>;
}

/// The data that members hold. Every call may be repeated.
#[async_trait]
pub trait DataHome: Send + Sync + 'static {
    /// `member` takes data from now on, by its labels.
    async fn admit(&self, member: &Member) -> Result<(), GroupsError>;

    /// `node` takes no more data; others copy what it has.
    async fn drain(&self, node: NodeId) -> Result<(), GroupsError>;

    /// `node` is lost with everything on it; others make up for it.
    async fn declare_dead(&self, node: NodeId) -> Result<(), GroupsError>;

    /// How many shards still have to be copied away from a draining node; `None`: not known yet.
    async fn owed(&self, node: NodeId) -> Option<u64>;
}

/// A token that does not let anybody in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the join token is refused: {reason}; make a new one with `floeberg cluster token`")]
pub struct TokenRefused {
    /// Why.
    pub reason: String,
}

/// What a node becomes a member with.
#[derive(Clone, PartialEq, Eq)]
pub struct Certified {
    /// The node's certificates, DER, its own first.
    pub chain: Vec<Bytes>,
    /// The authorities' certificates, PEM.
    pub authorities: String,
    /// What every member keeps to itself.
    pub secrets: MemberSecrets,
}

/// What every member keeps to itself, so that each can let others join.
#[derive(Clone, PartialEq, Eq)]
pub struct MemberSecrets {
    /// The authority's certificate and private key, PEM.
    pub authority: String,
    /// What join tokens are signed with.
    pub join_key: [u8; 32],
}

impl fmt::Debug for MemberSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MemberSecrets(..)")
    }
}

/// The cluster's certificate authority.
#[async_trait]
pub trait Authority: Send + Sync + 'static {
    /// A token that lets nodes join until `ttl` has passed.
    ///
    /// # Errors
    /// This node cannot make one, with the reason.
    async fn token(&self, ttl: Duration) -> Result<String, String>;

    /// Whether a token is one of this cluster and still good.
    ///
    /// # Errors
    /// It is not.
    async fn check_token(&self, token: &str, now: TimestampMs) -> Result<(), TokenRefused>;

    /// Whether a certificate request (PKCS #10, DER) could be signed.
    ///
    /// # Errors
    /// It could not, with the reason.
    async fn check_request(&self, request: &Bytes) -> Result<(), String>;

    /// Makes the authority that is to follow the present one, and keeps it durably without using it;
    /// its certificate, DER.
    ///
    /// # Errors
    /// It could not be made or kept, with the reason.
    async fn prepare_next(&self) -> Result<Bytes, String>;

    /// Signs a certificate request for `node`, which is reached at `address`.
    ///
    /// # Errors
    /// The request is not usable, with the reason.
    async fn certify(
        &self,
        request: &Bytes,
        node: NodeId,
        address: &str,
    ) -> Result<Certified, String>;
}
