//! One simulated run: incarnations of the node with clients, ended by crashes.

use crate::client::{Client, Draws as _};
use crate::door::Door;
use crate::oracle::Oracle;
use crate::trace::Trace;
use crate::world::World;
use floeberg_env::SeededRng;
use floeberg_node::{Node, Stores};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, RngSeed};

/// How big a run is.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Decides everything.
    pub seed: u64,
    /// How often the node is started; all but the last end in a crash.
    pub incarnations: u32,
    /// Concurrent clients.
    pub clients: u32,
    /// The longest an incarnation lives, in simulated time.
    pub life: Duration,
}

impl Plan {
    /// The size used by the test run.
    #[must_use]
    pub const fn small(seed: u64) -> Self {
        Self {
            seed,
            incarnations: 4,
            clients: 4,
            life: Duration::from_millis(250),
        }
    }
}

/// What a run did and found.
#[derive(Debug)]
pub struct Report {
    /// Every operation with its simulated time and answer.
    pub trace: String,
    /// The first broken promise, if any.
    pub violation: Option<String>,
    /// Simulated time.
    pub simulated: Duration,
}

/// Runs `plan`.
///
/// # Panics
/// If the node cannot start or answers a request with 500: both are bugs.
#[must_use]
pub fn simulate(plan: Plan) -> Report {
    let mut world = World::new(plan.seed);
    let oracle = Arc::new(Mutex::new(Oracle::default()));
    let trace = Trace::default();
    let mut violation = None;
    for number in 0..plan.incarnations {
        let runtime = Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .rng_seed(RngSeed::from_bytes(
                &(plan.seed ^ u64::from(number)).to_be_bytes(),
            ))
            .build()
            .expect("a current-thread runtime needs nothing from the system");
        let last = number + 1 == plan.incarnations;
        let life = Life { number, last, plan };
        let (elapsed, found) = runtime.block_on(life.run(&world, &oracle, &trace));
        // Dropping the runtime drops every task of the node where it stands: the process is gone.
        drop(runtime);
        world.elapsed = elapsed;
        trace.line(elapsed, "crash");
        world.crash();
        if found.is_some() {
            violation = found;
            break;
        }
    }
    Report {
        trace: trace.take(),
        violation,
        simulated: world.elapsed,
    }
}

/// One incarnation of the node.
struct Life {
    number: u32,
    last: bool,
    plan: Plan,
}

impl Life {
    async fn run(
        &self,
        world: &World,
        oracle: &Arc<Mutex<Oracle>>,
        trace: &Trace,
    ) -> (Duration, Option<String>) {
        let env = world.env();
        let clock = env.clock.clone();
        let config = World::config();
        let started = Node::start(config, env.clone(), Stores::Memory(world.stores())).await;
        let node = started.expect("the node starts on whatever a crash left");
        let door = Arc::new(Door::new(
            node,
            World::ACCESS_KEY,
            World::SECRET_KEY,
            "us-east-1",
        ));
        let client = |name: String, seed: u64| Client {
            rng: SeededRng::new(seed),
            door: door.clone(),
            clock: clock.clone(),
            oracle: oracle.clone(),
            trace: trace.clone(),
            name,
        };
        let checker = client("checker".into(), 0);
        checker.prepare().await;
        if let Err(violation) = checker.verify().await {
            return (clock.monotonic(), Some(violation));
        }
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..self.plan.clients {
            let stream = (self.plan.seed << 8) ^ (u64::from(self.number) << 4) ^ u64::from(n);
            let mut one = client(format!("c{n}"), stream);
            tasks.spawn(async move {
                loop {
                    one.step().await;
                }
            });
        }
        let millis = u64::try_from(self.plan.life.as_millis()).unwrap_or(u64::MAX);
        let life = SeededRng::new(self.plan.seed ^ (u64::from(self.number) << 32)).below_of(millis);
        let ended = tokio::time::timeout(Duration::from_millis(life), tasks.join_next()).await;
        if let Ok(Some(Err(failed))) = ended {
            return (
                clock.monotonic(),
                Some(format!("a client failed: {failed}")),
            );
        }
        if self.last {
            tasks.shutdown().await;
            if let Err(violation) = checker.verify().await {
                return (clock.monotonic(), Some(violation));
            }
        }
        (clock.monotonic(), None)
    }
}
