//! The machines and the network between them.

use crate::clock::MachineClock;
use crate::door::{ACCESS_KEY, Door, REGION, SECRET_KEY};
use crate::life::Life;
use crate::machine::{DATA, Image, Machine, VOLUME};
use crate::planted::Bug;
use crate::record::Record;
use bytes::Bytes;
use floeberg_auth::RootKey;
use floeberg_env::{Env, Rng, SeededRng, Tasks};
use floeberg_members::{Applicant, FeatureLevels, Home, found};
use floeberg_metastore::Store;
use floeberg_node::{
    ClientLimits, ClusterPart, Elections, FatalHook, MemberConfig, Node, NodeConfig, PeerNetwork,
    Stores,
};
use floeberg_rpc::CallError;
use floeberg_rpc::memory::MemNetwork;
use floeberg_types::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// Small segments, so that a run fills and reclaims several.
const SEGMENT_BYTES: u64 = 1 << 20;
const ACCOUNT: &str = "000000000000";
/// How long somebody who wants to join goes on asking.
const KNOCKS: u32 = 200;

/// Everything that is simulated below the nodes.
pub(crate) struct Cluster {
    pub(crate) seed: u64,
    pub(crate) network: MemNetwork,
    pub(crate) record: Record,
    pub(crate) started: Instant,
    /// What goes wrong and when.
    pub(crate) faults: SeededRng,
    machines: Mutex<BTreeMap<u64, Machine>>,
    alone: bool,
    bug: Option<Bug>,
    armed: Arc<AtomicBool>,
    /// What comes with every machine.
    binary: FeatureLevels,
}

/// The binary before this one: it knows the first feature level only.
const OLDER: FeatureLevels = FeatureLevels { low: 1, high: 1 };
/// This binary, or one that still knows what the older one does.
const NEWER: FeatureLevels = FeatureLevels {
    low: 1,
    high: FeatureLevels::OF_THIS_BINARY.high,
};

fn address(node: u64) -> String {
    format!("node-{node}:7000")
}

fn node_of(address: &str) -> Option<NodeId> {
    let number = address.strip_prefix("node-")?.strip_suffix(":7000")?;
    number.parse().ok().map(NodeId)
}

impl Cluster {
    /// No machine yet. `alone`: a single node that never has peers.
    pub(crate) fn new(seed: u64, record: Record, alone: bool, bug: Option<Bug>) -> Arc<Self> {
        let (mut env, _) = Env::simulated(seed);
        env.tasks = Tasks::simulated();
        let network = MemNetwork::new(&env, seed ^ 0x6e65_7477);
        let armed = Arc::new(AtomicBool::new(false));
        if let Some(meddler) = bug.and_then(|bug| bug.meddler(seed, &armed)) {
            network.meddle(meddler);
        }
        Arc::new(Self {
            seed,
            network,
            record,
            started: Instant::now(),
            faults: SeededRng::new(seed ^ 0x5eed_fa17),
            machines: Mutex::default(),
            alone,
            bug,
            armed,
            binary: if seed.is_multiple_of(2) { OLDER } else { NEWER },
        })
    }

    pub(crate) fn draw(&self, below: u64) -> u64 {
        let rng: &dyn Rng = &self.faults;
        rng.below(below)
    }

    /// The nodes that are up, ascending.
    pub(crate) fn doors(&self) -> Vec<(u64, Arc<Door>)> {
        let machines = self.machines.lock();
        let up = machines.iter().filter_map(|(id, machine)| {
            let door = machine.door.clone().filter(|_| !machine.retired)?;
            Some((*id, door))
        });
        up.collect()
    }

    pub(crate) fn door(&self, node: u64) -> Option<Arc<Door>> {
        self.machines.lock().get(&node)?.door.clone()
    }

    /// Members that were not taken out and that count, up or down.
    pub(crate) fn members(&self) -> Vec<u64> {
        let machines = self.machines.lock();
        let counts = |machine: &Machine| !machine.retired && !machine.put_back;
        let members = machines.iter().filter(|(_, machine)| counts(machine));
        members.map(|(id, _)| *id).collect()
    }

    /// Who says of itself that it leads a group: the first of them.
    pub(crate) fn leader(&self, group: usize) -> Option<u64> {
        let mut doors = self.doors().into_iter();
        let led = doors.find(|(_, door)| {
            let (_, store) = &door.node.groups()[group];
            store.leadership().borrow().ready
        });
        led.map(|(node, _)| node)
    }

    /// The members that are up, ascending.
    pub(crate) fn members_up(&self) -> Vec<(u64, Arc<Door>)> {
        let members = self.members();
        let mut doors = self.doors();
        doors.retain(|(node, _)| members.contains(node));
        doors
    }

    /// Machines that were put back to an older image, if they are up.
    pub(crate) fn put_back_up(&self) -> Vec<(u64, Arc<Door>)> {
        let members = self.members();
        let mut doors = self.doors();
        doors.retain(|(node, _)| !members.contains(node));
        doors
    }

    /// What is durable on a machine now.
    pub(crate) fn image(&self, node: u64) -> Option<Image> {
        Some(self.machines.lock().get(&node)?.image())
    }

    /// Cuts the power of a machine and puts it back to an older image.
    pub(crate) fn put_back(&self, node: u64, image: &Image) {
        self.crash(node);
        if let Some(machine) = self.machines.lock().get_mut(&node) {
            self.record.note("put back to an older image", &[node]);
            machine.restore(image);
        }
    }

    /// The same for its volume alone: the node stays a member, and has to find out what is missing.
    pub(crate) fn put_volume_back(&self, node: u64, image: &Image) {
        self.crash(node);
        if let Some(machine) = self.machines.lock().get(&node) {
            self.record
                .note("volume put back to an older image", &[node]);
            machine.restore_volume(image);
            if let Some(bug) = self.bug {
                bug.volume_put_back(machine);
            }
        }
    }

    /// Members without a process.
    pub(crate) fn down(&self) -> Vec<u64> {
        let machines = self.machines.lock();
        let down = machines
            .iter()
            .filter(|(_, machine)| !machine.retired && machine.life.is_none());
        down.map(|(id, _)| *id).collect()
    }

    pub(crate) fn jump_clock(&self, node: u64, delta_ms: i64) {
        if let Some(machine) = self.machines.lock().get(&node) {
            machine.clock.jump(delta_ms);
        }
    }

    /// A clock that nothing disturbs, for clients.
    pub(crate) fn wall_clock(&self) -> MachineClock {
        MachineClock::new(self.started)
    }

    fn machine(&self, number: u64) -> Machine {
        Machine::new(
            self.seed.wrapping_mul(1009).wrapping_add(number),
            self.started,
            self.binary,
        )
    }

    /// Adds the first machine and starts its node.
    pub(crate) async fn found(self: &Arc<Self>) {
        let mut machine = self.machine(1);
        if !self.alone {
            let (life, env) = machine.begin();
            let home = Home::new(Path::new(DATA), env.disk.clone());
            found(&home, &address(1), &env).expect("an empty directory takes a cluster");
            machine.life = None;
            life.end();
        }
        self.install(1, machine);
        self.boot(1).await;
    }

    /// From now on the planted bug shows.
    pub(crate) fn arm(&self) {
        self.armed.store(true, Ordering::Relaxed);
        if let Some(bug) = self.bug {
            for (node, machine) in &*self.machines.lock() {
                bug.spoil(*node, machine);
            }
        }
    }

    /// A client goes without its answer.
    pub(crate) fn given_up(&self, door: &Door) {
        if let Some(bug) = self.bug
            && self.armed.load(Ordering::Relaxed)
        {
            bug.given_up(&door.node);
        }
    }

    /// Nothing passes between a node and the one that leads the catalog.
    pub(crate) fn cut_off(&self, node: u64, leader: u64) {
        self.record.note("cut off from the catalog", &[node]);
        self.network.cut(NodeId(node), NodeId(leader));
        self.network.cut(NodeId(leader), NodeId(node));
        self.age(node, true);
    }

    /// What [`Self::cut_off`] cut comes back.
    pub(crate) fn rejoin(&self, node: u64) {
        self.record.note("heal", &[node]);
        self.network.heal();
        self.age(node, false);
    }

    fn age(&self, node: u64, is_cut: bool) {
        if let Some(bug) = self.bug
            && let Some(machine) = self.machines.lock().get(&node)
        {
            bug.cut_off(machine, is_cut);
        }
    }

    fn install(&self, node: u64, machine: Machine) {
        if let Some(bug) = self.bug
            && self.armed.load(Ordering::Relaxed)
        {
            bug.spoil(node, &machine);
        }
        self.machines.lock().insert(node, machine);
    }

    /// A new machine asks the members to let it in, and starts. Returns its node.
    pub(crate) async fn join(self: &Arc<Self>, token: &str) -> Option<u64> {
        let number = 1 + self.machines.lock().len() as u64;
        let mut machine = self.machine(number);
        let (life, env) = machine.begin();
        let home = Home::new(Path::new(DATA), env.disk.clone());
        let members: Vec<String> = self.members().into_iter().map(address).collect();
        // The address is part of the request, before the id is known.
        let applicant = Applicant {
            home: &home,
            token,
            members: &members[..1],
            address: &address(number),
            labels: BTreeMap::new(),
            features: machine.features,
            version: "simulated",
            account: ACCOUNT,
            region: REGION,
        };
        let knock = async |_: &str, body: Bytes| self.knock(&members, body).await;
        let joined = applicant.join_by(&env, knock).await;
        machine.life = None;
        life.end();
        match joined {
            Ok(identity) => {
                let node = identity.node.0;
                self.install(node, machine);
                self.boot(node).await;
                Some(node)
            }
            Err(error) => {
                self.record.note(format!("not joined: {error}"), &[]);
                None
            }
        }
    }

    /// Asks one member after the other, with the same request, until one lets the node in.
    async fn knock(&self, members: &[String], body: Bytes) -> Result<Bytes, CallError> {
        let mut last = CallError::not_sent("nobody was asked");
        let asked = members.iter().cycle().filter_map(|a| node_of(a));
        for node in asked.take(KNOCKS as usize) {
            let call = self.network.knock(node, body.clone());
            match tokio::time::timeout(Duration::from_secs(5), call).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => last = error,
                Err(_) => last = CallError::lost("no answer"),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(last)
    }

    fn config(&self, node: u64, features: FeatureLevels) -> NodeConfig {
        let member = MemberConfig {
            address: address(node),
            labels: BTreeMap::new(),
            log_dir: PathBuf::from("/data/raft"),
            volume_dir: PathBuf::from(VOLUME),
            volume_bytes: None,
            snapshot_bytes_per_second: 100 << 20,
            elections: Elections {
                heartbeat: Duration::from_millis(100),
                min: Duration::from_millis(500),
                max: Duration::from_secs(1),
            },
            features,
            network: PeerNetwork::Memory(self.network.clone()),
        };
        NodeConfig {
            data_dir: PathBuf::from(DATA),
            account: ACCOUNT.parse().expect("twelve digits"),
            region: REGION.parse().expect("a region"),
            root_key: RootKey::new(ACCESS_KEY, SECRET_KEY).expect("a legal pair"),
            s3_endpoint: "http://127.0.0.1:9000".into(),
            lakehouse_endpoint: "http://127.0.0.1:8181".into(),
            s3_domain: None,
            segment_bytes: SEGMENT_BYTES,
            limits: ClientLimits::default(),
            cluster: match self.alone {
                true => ClusterPart::Single,
                false => ClusterPart::Member(Box::new(member)),
            },
        }
    }

    /// What the death of a living node's process is here: a broken promise.
    fn fatal(&self, node: u64, life: &Life) -> FatalHook {
        let (record, over) = (self.record.clone(), life.over.clone());
        FatalHook(Arc::new(move |group, cause| {
            if !over.is_cancelled() {
                record.broken(format!("group {group} of node {node} failed: {cause}"));
            }
        }))
    }

    /// Starts a node on what its last life left, unless it runs or is taken out.
    pub(crate) async fn boot(self: &Arc<Self>, node: u64) {
        let begun = {
            let mut machines = self.machines.lock();
            let machine = machines.get_mut(&node);
            let machine = machine.filter(|m| m.life.is_none() && !m.retired);
            machine.map(|machine| {
                let (life, env) = machine.begin();
                let stores = machine.stores(self.fatal(node, &life));
                (life, env, stores, self.config(node, machine.features))
            })
        };
        let Some((life, env, stores, config)) = begun else {
            return;
        };
        self.record.note("start", &[node]);
        let starting = Node::start(config, env, Stores::Memory(stores));
        let cluster = Arc::clone(self);
        // A machine goes on starting when who switched it on is told to stop.
        let start = tokio::task::spawn_local(async move {
            let started = tokio::select! {
                biased;
                () = life.over.cancelled() => return,
                started = starting => started,
            };
            match started {
                Ok(running) => {
                    let door = Arc::new(Door::new(running, life));
                    if let Some(machine) = cluster.machines.lock().get_mut(&node) {
                        machine.door = Some(door);
                    }
                }
                Err(error) => cluster.record.broken(format!(
                    "node {node} does not start on what was left: {error}"
                )),
            }
        });
        // Else the simulation is ending.
        if let Err(error) = start.await
            && let Ok(panic) = error.try_into_panic()
        {
            std::panic::resume_unwind(panic);
        }
    }

    /// The node's power is cut.
    pub(crate) fn crash(&self, node: u64) {
        if !self.alone {
            self.network.down(NodeId(node));
        }
        let dead = self.machines.lock().get_mut(&node).and_then(|machine| {
            machine.life.as_ref()?;
            self.record.note("crash", &[node]);
            machine.crash(&self.faults)
        });
        if let Some(door) = dead {
            bury(door);
        }
    }

    /// The node ends, and starts again as the newer binary.
    pub(crate) async fn upgrade(self: &Arc<Self>, node: u64) {
        if let Some(machine) = self.machines.lock().get_mut(&node) {
            machine.features = NEWER;
        }
        self.crash(node);
        self.boot(node).await;
    }

    /// Whether everything runs at the newest feature level: the cluster and each group.
    pub(crate) fn is_upgraded(&self) -> bool {
        let newest = |(_, store): (_, Store)| store.feature_level() == NEWER.high;
        let mut doors = self.doors().into_iter();
        doors.all(|(_, door)| door.node.groups().into_iter().all(newest))
    }

    /// The node is taken out for good.
    pub(crate) fn retire(&self, node: u64) {
        if let Some(machine) = self.machines.lock().get_mut(&node) {
            machine.retired = true;
        }
        self.crash(node);
    }
}

/// The consensus library's tasks end when they are told to; everything else of the node has ended.
fn bury(door: Arc<Door>) {
    tokio::spawn(async move {
        let _ = tokio::time::timeout(Duration::from_secs(5), door.node.shutdown()).await;
    });
}
