//! Clients that work through different nodes until they are told to stop, and record what they
//! asked and what they were answered.

mod commits;
pub mod content;
mod names;
mod objects;

use crate::connect::Clients;
use crate::history::{Answer, Call};
use crate::record::Recorder;
use anyhow::Context as _;
use floeberg_client::ClientError;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;

pub(crate) use commits::{View, look};
pub(crate) use names::{SPACES, list};
pub(crate) use objects::fetch;

/// A client waits so long, then its request counts as unknown.
const PATIENCE: Duration = Duration::from_secs(5);
/// Between two requests of a client, in milliseconds; keeps histories small enough to be searched.
const THINK_MS: std::ops::Range<u64> = 8..25;
/// After a request that did not get through.
const BACKOFF_MS: std::ops::Range<u64> = 20..60;

/// Tables with one writer each.
const SOLO: std::ops::Range<usize> = 0..2;
/// The table that several writers contend on.
const HOT: usize = 2;
/// Tables that transactions span.
const SHARED: std::ops::Range<usize> = 3..6;
/// Tables of a round.
pub const TABLES: usize = SHARED.end;
const HOT_WRITERS: usize = 3;
const TRANSACTORS: usize = 3;
const READERS: usize = 2;
const OBJECT_CLIENTS: usize = 3;
const NAMERS: usize = 3;

/// A table of a round.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: String,
    /// Its location.
    pub location: String,
}

/// What a round works on; every round has names of its own.
#[derive(Clone, Debug)]
pub struct Stage {
    /// Number of the round.
    pub number: u32,
    /// Namespace of the tables.
    pub space: String,
    /// The tables.
    pub tables: Vec<Table>,
}

impl Stage {
    /// A table's name in the history.
    #[must_use]
    pub fn table(&self, index: usize) -> String {
        format!("{}.{}", self.space, self.tables[index].name)
    }

    /// The family of names that is raced on.
    #[must_use]
    pub fn family(&self) -> String {
        format!("f{}", self.number)
    }

    /// The key of an object.
    #[must_use]
    pub fn key(&self, rest: &str) -> String {
        format!("r{}/{rest}", self.number)
    }
}

/// How a request ended for a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked<T> {
    /// With success.
    Done(T),
    /// Refused with a status.
    Refused(u16),
    /// Without knowledge.
    Unknown,
}

/// One client.
pub struct Session {
    /// Its name in the history.
    pub name: String,
    /// The record.
    pub record: Arc<Recorder>,
    /// What it works on.
    pub stage: Arc<Stage>,
    /// Its choices.
    pub rng: StdRng,
    /// How long it waits for an answer.
    pub patience: Duration,
    nodes: Vec<Clients>,
    at: usize,
    stop: Arc<AtomicBool>,
}

impl Session {
    /// A client that asks `nodes[at]` first.
    #[must_use]
    pub fn new(
        name: String,
        record: &Arc<Recorder>,
        stage: &Arc<Stage>,
        nodes: &[Clients],
        at: usize,
        seed: u64,
    ) -> Self {
        Self {
            name,
            record: record.clone(),
            stage: stage.clone(),
            rng: StdRng::seed_from_u64(seed),
            patience: PATIENCE,
            nodes: nodes.to_vec(),
            at: at % nodes.len(),
            stop: Arc::default(),
        }
    }

    /// Whether it is time to end.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.stop.load(Ordering::SeqCst)
    }

    /// The node it asks now.
    #[must_use]
    pub fn node(&self) -> Clients {
        self.nodes[self.at].clone()
    }

    /// Sends a request and records both ends; goes on to another node if this one did not answer.
    pub async fn ask<T>(
        &mut self,
        call: Call,
        request: impl Future<Output = Result<T, ClientError>>,
        read: impl FnOnce(&T) -> Answer,
    ) -> Asked<T> {
        let op = self
            .record
            .invoke(&self.name, self.nodes[self.at].node, call);
        match tokio::time::timeout(self.patience, request).await {
            Ok(Ok(value)) => {
                self.record.ok(op, read(&value));
                self.pause(THINK_MS).await;
                Asked::Done(value)
            }
            // 503 is a promise too: it may be sent only if nothing was done.
            Ok(Err(ClientError::Service(error)))
                if error.status.is_client_error() || error.status.as_u16() == 503 =>
            {
                let status = error.status.as_u16();
                self.record.fail(op, status, &error.code);
                if matches!(status, 429 | 503) {
                    self.go_on().await;
                } else {
                    self.pause(THINK_MS).await;
                }
                Asked::Refused(status)
            }
            Ok(Err(error)) => {
                self.record.info(op, &error.to_string());
                self.go_on().await;
                Asked::Unknown
            }
            Err(_) => {
                self.record.info(op, "no answer in time");
                self.go_on().await;
                Asked::Unknown
            }
        }
    }

    async fn go_on(&mut self) {
        self.at = (self.at + 1) % self.nodes.len();
        self.pause(BACKOFF_MS).await;
    }

    async fn pause(&mut self, span: std::ops::Range<u64>) {
        let span = self.rng.random_range(span);
        tokio::time::sleep(Duration::from_millis(span)).await;
    }
}

/// Running clients.
pub struct Load {
    clients: JoinSet<()>,
    stop: Arc<AtomicBool>,
}

/// Starts all clients of a round.
#[must_use]
pub fn start(record: &Arc<Recorder>, stage: &Arc<Stage>, nodes: &[Clients], seed: u64) -> Load {
    let stop = Arc::new(AtomicBool::new(false));
    let mut clients = JoinSet::new();
    let mut number: usize = 0;
    let mut session = |kind: &str| {
        number += 1;
        // Odd multiplier, so that no two clients share a sequence of choices.
        let own = seed
            .wrapping_add(number as u64)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let name = format!("r{}-{kind}-{number}", stage.number);
        let mut session = Session::new(name, record, stage, nodes, number, own);
        session.stop = stop.clone();
        session
    };
    for table in SOLO {
        clients.spawn(commits::write(session("solo"), vec![table]));
    }
    for _ in 0..HOT_WRITERS {
        clients.spawn(commits::write(session("hot"), vec![HOT]));
    }
    for _ in 0..TRANSACTORS {
        clients.spawn(commits::write(session("transaction"), SHARED.collect()));
    }
    for _ in 0..READERS {
        clients.spawn(commits::read(session("reader")));
    }
    for _ in 0..OBJECT_CLIENTS {
        clients.spawn(objects::work(session("object")));
    }
    for _ in 0..NAMERS {
        clients.spawn(names::race(session("name")));
    }
    Load { clients, stop }
}

impl Load {
    /// Lets every client end its request, and waits for all.
    ///
    /// # Errors
    /// If one panicked.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::SeqCst);
        while let Some(ended) = self.clients.join_next().await {
            ended.context("a client panicked")?;
        }
        Ok(())
    }
}
