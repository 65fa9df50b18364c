//! What the tests share: rows on a one-node group in memory, and groups, data and an authority that
//! do as they are told.

use crate::keeper::Turn;
use crate::plan::{GroupView, Rules};
use crate::*;
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_consensus::{CommandBudget, Footing, GroupHooks, NoPeers, Standing};
use floeberg_env::{Attendance, Env, Peer, Reserve};
use floeberg_kv::{MemKv, MemKvStore};
use floeberg_metastore::{Cx, Store, StoreConfig, StoreParts};
use floeberg_raftlog::{MemLog, MemLogStore};
use floeberg_rpc::Peers;
use floeberg_telemetry::{ConsensusMetrics, MetastoreMetrics, NodeMetrics};
use floeberg_types::{ClusterId, GroupId, NodeId, RequestId, TimestampMs};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;

const CLUSTER: ClusterId = ClusterId::from_bytes([0xc1; 16]);
const ME: NodeId = NodeId(1);

pub(crate) fn announcement(node: u64) -> Announcement {
    Announcement {
        node: NodeId(node),
        address: format!("n{node}:7000"),
        labels: [("zone".to_owned(), format!("z{node}"))].into(),
        features: FeatureLevels { low: 1, high: 1 },
        version: "0.1.0".to_owned(),
        start: 1,
        settings: BTreeMap::new(),
    }
}

struct State {
    leaders: BTreeMap<GroupId, Option<NodeId>>,
    voters: BTreeMap<GroupId, BTreeSet<NodeId>>,
    learners: BTreeMap<GroupId, BTreeSet<NodeId>>,
    up: BTreeSet<NodeId>,
    levels: BTreeMap<GroupId, u32>,
    refusals: u32,
}

/// Groups that change at once, as this node sees them.
pub(crate) struct TestGroups {
    state: Mutex<State>,
    changed: Notify,
}

const GROUPS: [GroupId; 2] = [GroupId::CATALOG, GroupId::OBJECTS];

impl TestGroups {
    fn new() -> Self {
        let per_group = |nodes: &[NodeId]| -> BTreeMap<_, BTreeSet<_>> {
            let nodes: BTreeSet<_> = nodes.iter().copied().collect();
            GROUPS.iter().map(|group| (*group, nodes.clone())).collect()
        };
        let state = State {
            leaders: GROUPS.iter().map(|group| (*group, Some(ME))).collect(),
            voters: per_group(&[ME]),
            learners: per_group(&[]),
            up: [ME].into(),
            levels: BTreeMap::new(),
            refusals: 0,
        };
        Self {
            state: Mutex::new(state),
            changed: Notify::new(),
        }
    }

    pub(crate) fn up(&self, node: NodeId) {
        self.state.lock().up.insert(node);
    }

    pub(crate) fn down(&self, node: NodeId) {
        self.state.lock().up.remove(&node);
    }

    pub(crate) fn voters(&self, group: GroupId) -> BTreeSet<NodeId> {
        self.state.lock().voters[&group].clone()
    }

    pub(crate) fn learners(&self, group: GroupId) -> BTreeSet<NodeId> {
        self.state.lock().learners[&group].clone()
    }

    pub(crate) fn leader(&self, group: GroupId) -> NodeId {
        self.state.lock().leaders[&group].expect("there is a leader")
    }

    pub(crate) fn transfer(&self, group: GroupId, to: NodeId) {
        self.state.lock().leaders.insert(group, Some(to));
    }

    pub(crate) fn lose_leaders(&self) {
        let mut state = self.state.lock();
        state.leaders.values_mut().for_each(|leader| *leader = None);
    }

    /// The next `count` changes are refused.
    pub(crate) fn refuse_next(&self, count: u32) {
        self.state.lock().refusals = count;
    }

    pub(crate) async fn until(&self, reached: impl Fn(&Self) -> bool) {
        loop {
            let changed = self.changed.notified();
            if reached(self) {
                return;
            }
            changed.await;
        }
    }

    fn change(
        &self,
        group: GroupId,
        change: impl FnOnce(&mut BTreeSet<NodeId>, &mut BTreeSet<NodeId>),
    ) -> Result<(), GroupsError> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.refusals > 0 {
            state.refusals -= 1;
            let reason = "not now".to_owned();
            return Err(GroupsError::Refused { group, reason });
        }
        assert_eq!(
            state.leaders[&group],
            Some(ME),
            "only the leader changes a group"
        );
        let voters = state.voters.get_mut(&group).expect("a group");
        let learners = state.learners.get_mut(&group).expect("a group");
        change(voters, learners);
        self.changed.notify_waiters();
        Ok(())
    }
}

#[async_trait]
impl Groups for TestGroups {
    fn all(&self) -> Vec<GroupId> {
        GROUPS.to_vec()
    }

    fn led(&self) -> Vec<GroupId> {
        let state = self.state.lock();
        let led = state
            .leaders
            .iter()
            .filter(|(_, leader)| **leader == Some(ME));
        led.map(|(group, _)| *group).collect()
    }

    async fn view(&self, group: GroupId) -> Result<GroupView, GroupsError> {
        let state = self.state.lock();
        let leader = state.leaders[&group].ok_or(GroupsError::NoLeader { group })?;
        Ok(GroupView {
            group,
            leader,
            term: 1,
            voters: state.voters[&group].clone(),
            learners: state.learners[&group].clone(),
            changing: false,
            reachable: state.up.clone(),
            behind: state.up.iter().map(|node| (*node, 0)).collect(),
        })
    }

    async fn add_learner(&self, group: GroupId, node: NodeId, _: &str) -> Result<(), GroupsError> {
        self.change(group, |_, learners| {
            learners.insert(node);
        })
    }

    async fn set_voters(&self, group: GroupId, to: BTreeSet<NodeId>) -> Result<(), GroupsError> {
        self.change(group, |voters, learners| {
            learners.extend(voters.difference(&to).copied());
            learners.retain(|node| !to.contains(node));
            *voters = to;
        })
    }

    async fn remove_learner(&self, group: GroupId, node: NodeId) -> Result<(), GroupsError> {
        self.change(group, |_, learners| {
            learners.remove(&node);
        })
    }

    fn feature_level(&self, group: GroupId) -> u32 {
        self.state.lock().levels.get(&group).copied().unwrap_or(1)
    }

    async fn raise_feature_level(
        &self,
        group: GroupId,
        level: u32,
        _: &Cx,
    ) -> Result<(), GroupsError> {
        self.state.lock().levels.insert(group, level);
        Ok(())
    }

    async fn transfer_leader(&self, group: GroupId, to: NodeId) -> Result<(), GroupsError> {
        self.transfer(group, to);
        Ok(())
    }
}

/// Data that remembers what it was told.
#[derive(Default)]
pub(crate) struct TestData {
    told: Mutex<BTreeMap<NodeId, Vec<&'static str>>>,
    owed: Mutex<BTreeMap<NodeId, Option<u64>>>,
}

impl TestData {
    fn tell(&self, node: NodeId, what: &'static str) {
        let mut told = self.told.lock();
        let told = told.entry(node).or_default();
        // A new leader says everything again; that must change nothing.
        if told.last() != Some(&what) {
            told.push(what);
        }
    }

    pub(crate) fn told(&self, node: NodeId) -> Vec<&'static str> {
        self.told.lock().get(&node).cloned().unwrap_or_default()
    }

    pub(crate) fn owe(&self, node: NodeId, shards: Option<u64>) {
        self.owed.lock().insert(node, shards);
    }
}

#[async_trait]
impl DataHome for TestData {
    async fn admit(&self, member: &Member) -> Result<(), GroupsError> {
        self.tell(member.id, "admit");
        Ok(())
    }

    async fn drain(&self, node: NodeId) -> Result<(), GroupsError> {
        self.tell(node, "drain");
        Ok(())
    }

    async fn declare_dead(&self, node: NodeId) -> Result<(), GroupsError> {
        self.tell(node, "dead");
        Ok(())
    }

    async fn owed(&self, node: NodeId) -> Option<u64> {
        self.owed.lock().get(&node).copied().flatten()
    }
}

/// An authority whose token is "good" and whose certificates say what they are.
struct TestAuthority;

#[async_trait]
impl Authority for TestAuthority {
    async fn token(&self, ttl: Duration) -> Result<String, String> {
        Ok(format!("good for {} s", ttl.as_secs()))
    }

    async fn check_token(&self, token: &str, _: TimestampMs) -> Result<(), TokenRefused> {
        let reason = "it is not good".to_owned();
        (token == "good")
            .then_some(())
            .ok_or(TokenRefused { reason })
    }

    async fn check_request(&self, request: &Bytes) -> Result<(), String> {
        (!request.is_empty())
            .then_some(())
            .ok_or_else(|| "it is empty".to_owned())
    }

    async fn prepare_next(&self) -> Result<Bytes, String> {
        Err("this authority stays".to_owned())
    }

    async fn certify(
        &self,
        request: &Bytes,
        node: NodeId,
        address: &str,
    ) -> Result<Certified, String> {
        let name = String::from_utf8_lossy(request);
        let text = format!("certificate of {node} for {name} at {address}");
        Ok(Certified {
            chain: vec![text.into()],
            authorities: "authorities".to_owned(),
            secrets: MemberSecrets {
                authority: "secret".to_owned(),
                join_key: [1; 32],
            },
        })
    }
}

pub(crate) struct Lab {
    pub members: Members,
    pub groups: Arc<TestGroups>,
    pub data: Arc<TestData>,
    pub peers: Arc<Peers>,
}

async fn open(env: &Env) -> Store {
    let hooks = GroupHooks {
        on_fatal: Arc::new(|_, cause| panic!("{cause}")),
        metrics: ConsensusMetrics::default(),
    };
    let parts = StoreParts {
        budget: CommandBudget::default(),
        room: Reserve::default(),
        kv: Arc::new(MemKv::open(&MemKvStore::new())),
        log: Arc::new(MemLog::open(&MemLogStore::new(), env)),
        transport: Arc::new(NoPeers),
        snapshots: "/snapshots".into(),
        footing: Footing::alone(),
        hooks,
        metrics: MetastoreMetrics::default(),
    };
    let config = StoreConfig::new(CLUSTER, GroupId::CATALOG, ME);
    Store::open(&config, env, parts).await.unwrap()
}

impl Lab {
    pub(crate) fn placing(&self) -> Placing {
        let parts = &self.members.parts;
        Placing::new(
            parts.store.clone(),
            parts.account.clone(),
            parts.env.clone(),
        )
    }

    /// A cluster whose first node has not announced itself.
    pub(crate) async fn new() -> Self {
        let (env, _) = Env::simulated(7);
        let groups = Arc::new(TestGroups::new());
        let data = Arc::new(TestData::default());
        let members = Members::new(MembersParts {
            cluster: CLUSTER,
            me: ME,
            account: "000000000000".parse().unwrap(),
            region: "us-east-1".parse().unwrap(),
            store: open(&env).await,
            groups: groups.clone(),
            data: data.clone(),
            authority: Arc::new(TestAuthority),
            env,
            witnesses: Arc::new(Witnesses::none([GroupId::CATALOG].into_iter())),
            standing: Standing::cleared(),
            alarms: Alarms::new(&NodeMetrics::new()),
            rules: Rules::default(),
        });
        Self {
            members,
            groups,
            data,
            peers: Arc::new(Peers::new()),
        }
    }

    pub(crate) async fn founded() -> Self {
        let lab = Self::new().await;
        lab.members.announce(&announcement(1)).await.unwrap();
        lab
    }

    /// A cluster of `count` active members.
    pub(crate) async fn of(count: u64) -> Self {
        let lab = Self::founded().await;
        for node in 2..=count {
            lab.join(&format!("n{node}")).await;
        }
        lab.settle().await;
        lab
    }

    /// A node joins and starts.
    pub(crate) async fn join(&self, name: &str) -> NodeId {
        let me = announcement(0);
        let request = JoinRequest {
            token: "good".to_owned(),
            certificate_request: Bytes::copy_from_slice(name.as_bytes()),
            address: format!("{name}:7000"),
            labels: me.labels,
            features: me.features,
            version: me.version,
            account: String::new(),
            region: String::new(),
        };
        let node = self.members.join(&request).await.unwrap().node;
        self.groups.up(node);
        node
    }

    pub(crate) fn keeper(&self) -> Keeper {
        let config = KeeperConfig::default();
        Keeper::new(self.members.clone(), ME, self.peers.clone(), config)
    }

    /// Lets this node's keeper work until nothing is left to do.
    pub(crate) async fn settle(&self) {
        let mut keeper = self.keeper();
        for _ in 0..200 {
            if keeper.turn().await.unwrap() == Turn::Quiet {
                return;
            }
        }
        panic!("the keeper finds no end");
    }

    pub(crate) fn cx(&self) -> Cx {
        Cx {
            request_id: RequestId::from_bytes([7; 16]),
            account: "000000000000".parse().unwrap(),
            principal: "root".into(),
            deadline: None,
            attendance: Attendance::default(),
            caller: Peer::INSIDE,
            idempotency: None,
        }
    }

    pub(crate) fn cluster(&self) -> ClusterId {
        CLUSTER
    }
}
