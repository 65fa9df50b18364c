//! The clients of a cycle: each works until the node is disturbed, and knows what it was answered.

mod commits;
mod names;
mod objects;
mod transactions;
mod uploads;

use crate::connect::Clients;
use crate::world::{SOLO, Session, World};
use anyhow::Context as _;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

pub(crate) use uploads::finish as finish_upload;

const HOT_WRITERS: usize = 3;
const TRANSACTORS: usize = 2;
const OBJECT_WRITERS: usize = 3;
const UPLOADERS: usize = 1;
const NAMERS: usize = 2;

/// Running clients.
pub struct Load {
    clients: JoinSet<anyhow::Result<()>>,
    disturbed: Arc<AtomicBool>,
}

/// Starts all clients of a cycle against one node.
#[must_use]
pub fn start(world: &Arc<World>, connections: &Clients, seed: u64, cycle: u32) -> Load {
    let disturbed = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    let mut number = 0;
    let mut session = |kind: &str, index: usize| {
        number += 1;
        // Odd multiplier, so that no two clients of a run share a sequence of choices.
        let own = seed ^ (u64::from(cycle) << 8 | number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Session {
            name: format!("{kind}-{index}"),
            cycle,
            world: world.clone(),
            clients: connections.clone(),
            rng: StdRng::seed_from_u64(own),
            disturbed: disturbed.clone(),
        }
    };
    for table in SOLO {
        clients.spawn(commits::alone(session("solo", table), table));
    }
    for index in 0..HOT_WRITERS {
        clients.spawn(commits::contending(session("hot", index)));
    }
    for index in 0..TRANSACTORS {
        clients.spawn(transactions::transact(session("transaction", index)));
    }
    for index in 0..OBJECT_WRITERS {
        clients.spawn(objects::write(session("object", index)));
    }
    for index in 0..UPLOADERS {
        clients.spawn(uploads::upload(session("upload", index)));
    }
    for index in 0..NAMERS {
        clients.spawn(names::create_and_drop(session("name", index)));
    }
    Load { clients, disturbed }
}

impl Load {
    /// Says that the node is about to be disturbed; call it before doing so.
    pub fn disturb(&self) {
        self.disturbed.store(true, Ordering::SeqCst);
    }

    /// Waits for a failure of a client; never returns while all work.
    ///
    /// # Errors
    /// The failure.
    pub async fn failure(&mut self) -> anyhow::Result<()> {
        while let Some(ended) = self.clients.join_next().await {
            ended.context("a client panicked")??;
        }
        Ok(())
    }
}
