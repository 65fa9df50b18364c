//! Bugs that can be planted below and between the nodes, to show that the simulator finds them.
//!
//! None is in the product: each is a faulty disk, store, or peer.

use crate::clock::MachineClock;
use crate::machine::Machine;
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_env::{Clock as _, Rng, SeededRng};
use floeberg_metastore::keys;
use floeberg_node::Node;
use floeberg_proto::floeberg::rpc::v1 as rpc;
use floeberg_proto::floeberg::state::v1::{Command, RowOp, row_op};
use floeberg_rpc::memory::Meddler;
use floeberg_rpc::{CallError, Method, Request, Transport};
use floeberg_types::{NodeId, limits};
use futures::FutureExt as _;
use parking_lot::Mutex;
use prost::Message as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// First byte of the keys under which the catalog remembers the requests it has applied.
const SEEN: u8 = 0x18;

/// First bytes of the keys of table heads, of fragments of documents and of series that are written ahead. In
/// those of the first two an id follows: of the table, and of the series, which is the table's for its first.
const HEAD: u8 = 0x13;
const FRAGMENT: u8 = 0x14;
const PIECES: u8 = 0x1e;
/// Bytes of an id.
const ID: usize = 16;

/// A planted bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The log reports syncs that did not happen.
    SkippedFsync,
    /// A node that decides for another leader does not say what it read, so nobody compares.
    CasNotChecked,
    /// A leader takes entries for stored on a follower once they are sent.
    AnsweredBeforeQuorum,
    /// A leader takes itself for confirmed by followers that do not answer, and goes on to answer
    /// loads and 409 when others lead.
    StaleLeader,
    /// Followers do not keep the rows by which a request that is sent again is recognised.
    ReplayRowLost,
    /// A decision whose answer is in doubt is sent again as a new command, as it was.
    DeltaResubmitted,
    /// Nobody tells a node what it is known to have acknowledged.
    RolledBackLetIn,
    /// The log loses votes that it has synced.
    LostVote,
    /// The catalog's rows are read as they were some writes ago, although they say that they have
    /// come as far as the read index.
    StaleSnapshot,
    /// A request that is given up keeps the room that it had for its command.
    BudgetLeaked,
    /// A node that decides for another leader sends commands above the limit.
    LimitNotChecked,
    /// Nobody tells a node what its volume is known to have acknowledged, and a node whose volume is
    /// put back loses what it has kept of that itself.
    VolumeLetIn,
    /// To a node that is cut off from the catalog its rows do not age: they are read however old they are.
    StaleCatalog,
    /// A node that decides for another leader writes pieces of a document where those of a table are that is
    /// there, so that they are seen before they are published.
    PiecesShown,
    /// The same node publishes pieces without saying what it read, so nobody compares.
    PiecesNotCompared,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::SkippedFsync,
        Self::CasNotChecked,
        Self::AnsweredBeforeQuorum,
        Self::StaleLeader,
        Self::ReplayRowLost,
        Self::DeltaResubmitted,
        Self::RolledBackLetIn,
        Self::LostVote,
        Self::StaleSnapshot,
        Self::BudgetLeaked,
        Self::LimitNotChecked,
        Self::VolumeLetIn,
        Self::StaleCatalog,
        Self::PiecesShown,
        Self::PiecesNotCompared,
    ];

    /// What it does to a machine.
    pub(crate) fn spoil(self, node: u64, machine: &Machine) {
        match self {
            Self::SkippedFsync => machine.log.lie_about_syncs(),
            Self::LostVote => machine.log.lose_votes(),
            Self::StaleSnapshot => machine.catalog.age_snapshots(&keys::applied()),
            Self::ReplayRowLost if node > 1 => machine.catalog.lose_rows(&[SEEN]),
            _ => {}
        }
    }

    /// What it does to a node whose client gives up, once it is armed.
    pub(crate) fn given_up(self, node: &Node) {
        if self == Self::BudgetLeaked {
            for (_, store) in node.groups() {
                std::mem::forget(store.group().reserve(1).now_or_never());
            }
        }
    }

    /// What it does to a machine whose volume alone was put back.
    pub(crate) fn volume_put_back(self, machine: &Machine) {
        if self == Self::VolumeLetIn {
            machine.forget_witnessed();
        }
    }

    /// What it does to a machine that is cut off from the catalog, or no longer is. How old rows are is
    /// told by monotonic time alone.
    pub(crate) fn cut_off(self, machine: &Machine, is_cut: bool) {
        if self == Self::StaleCatalog {
            machine.clock.stop(is_cut);
        }
    }

    /// What it does to calls, once it is `armed`.
    pub(crate) fn meddler(self, seed: u64, armed: &Arc<AtomicBool>) -> Option<Arc<dyn Meddler>> {
        match self {
            Self::SkippedFsync
            | Self::ReplayRowLost
            | Self::LostVote
            | Self::StaleSnapshot
            | Self::BudgetLeaked
            | Self::StaleCatalog => None,
            bug => Some(Arc::new(Faulty {
                bug,
                armed: armed.clone(),
                rng: SeededRng::new(seed ^ 0x6d65_6464),
                clock: MachineClock::new(Instant::now()),
                table: Mutex::default(),
            })),
        }
    }
}

/// A peer with a bug.
struct Faulty {
    bug: Bug,
    armed: Arc<AtomicBool>,
    rng: SeededRng,
    clock: MachineClock,
    /// The table that was changed last.
    table: Mutex<Option<[u8; ID]>>,
}

impl Faulty {
    fn draw(&self, below: u64) -> u64 {
        let rng: &dyn Rng = &self.rng;
        rng.below(below)
    }

    /// What a follower says that has stored all it was sent.
    fn appended(&self) -> Bytes {
        let said = rpc::AppendResponse {
            format: 1,
            outcome: Some(rpc::append_response::Outcome::Appended(rpc::Appended {})),
            clock_ms: self.clock.now().0,
            unreached_ms: 0,
        };
        said.encode_to_vec().into()
    }

    /// Writes pieces, which come without the head of a table, as fragments of the table that was changed last.
    fn show_pieces(&self, command: &mut Command) {
        let heads = command
            .ops
            .iter()
            .filter(|op| op.key.first() == Some(&HEAD));
        let mut table = self.table.lock();
        if let Some(head) = heads.last() {
            *table = head.key[1..].first_chunk().copied();
            return;
        }
        let Some(table) = *table else { return };
        for op in &mut command.ops {
            if op.key.first() == Some(&FRAGMENT) && op.key.len() > 1 + ID {
                op.key = [&[FRAGMENT], &table[..], &op.key[1 + ID..]].concat().into();
            }
        }
    }

    /// Sends a proposal once more, at times and a while later, as a new command that was decided on nothing.
    fn send_again(
        &self,
        way: Arc<dyn Transport>,
        to: NodeId,
        request: &Request,
        patience: Duration,
    ) {
        let again = changed(request, |command| {
            forget_reads(command);
            command.commit_id = self.new_id();
        });
        if let Some(again) = again.filter(|_| self.draw(4) == 0) {
            let after = Duration::from_millis(self.draw(200));
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                drop(way.call(to, again, patience).await);
            });
        }
    }

    fn new_id(&self) -> Bytes {
        let mut id = vec![0; 16];
        self.rng.fill(&mut id);
        id.into()
    }
}

/// The command of a proposal, changed.
fn changed(request: &Request, change: impl FnOnce(&mut Command)) -> Option<Request> {
    let mut message = rpc::Propose::decode(request.body.clone()).ok()?;
    let mut command = Command::decode(message.command).ok()?;
    change(&mut command);
    message.command = command.encode_to_vec().into();
    Some(Request {
        body: message.encode_to_vec().into(),
        ..request.clone()
    })
}

fn forget_reads(command: &mut Command) {
    command.reads.clear();
    command.ranges_empty.clear();
}

/// Whether a command takes a series from those that are written ahead.
fn publishes(command: &Command) -> bool {
    let takes = |op: &RowOp| {
        op.key.first() == Some(&PIECES) && matches!(op.op, Some(row_op::Op::Delete(_)))
    };
    command.ops.iter().any(takes)
}

fn too_large() -> RowOp {
    RowOp {
        key: Bytes::from_static(b"\xf0large"),
        op: Some(row_op::Op::Put(vec![0; limits::COMMAND_BYTES].into())),
    }
}

/// A call without what is known of the callee.
fn untold(request: Request) -> Request {
    let body = match request.method {
        Method::Append | Method::Heartbeat => {
            rpc::AppendRequest::decode(request.body.clone()).map(|mut call| {
                call.known = None;
                call.encode_to_vec()
            })
        }
        Method::Vote | Method::PreVote => {
            rpc::VoteRequest::decode(request.body.clone()).map(|mut call| {
                call.known = None;
                call.encode_to_vec()
            })
        }
        _ => return request,
    };
    Request {
        body: body.map_or(request.body, Bytes::from),
        ..request
    }
}

/// What is known of the caller, but nothing of its volume.
fn without_volume(answer: Bytes) -> Bytes {
    match rpc::MarksReply::decode(answer.clone()) {
        Ok(mut reply) => {
            reply.known_volume = None;
            reply.encode_to_vec().into()
        }
        Err(_) => answer,
    }
}

fn has_entries(request: &Request) -> bool {
    rpc::AppendRequest::decode(request.body.clone()).is_ok_and(|r| !r.entries.is_empty())
}

#[async_trait]
impl Meddler for Faulty {
    async fn call(
        &self,
        _from: NodeId,
        way: Arc<dyn Transport>,
        to: NodeId,
        request: Request,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        if !self.armed.load(Ordering::Relaxed) {
            return way.call(to, request, patience).await;
        }
        match (self.bug, request.method) {
            (Bug::CasNotChecked, Method::Propose) => {
                let blind = changed(&request, forget_reads).unwrap_or(request);
                way.call(to, blind, patience).await
            }
            (Bug::PiecesShown, Method::Propose) => {
                let shown = changed(&request, |command| self.show_pieces(command));
                way.call(to, shown.unwrap_or(request), patience).await
            }
            (Bug::PiecesNotCompared, Method::Propose) => {
                let mut is_publication = false;
                let blind = changed(&request, |command| {
                    if publishes(command) {
                        is_publication = true;
                        forget_reads(command);
                    }
                });
                if is_publication {
                    // On its way so long that somebody else publishes meanwhile.
                    tokio::time::sleep(Duration::from_millis(self.draw(400))).await;
                }
                way.call(to, blind.unwrap_or(request), patience).await
            }
            (Bug::LimitNotChecked, Method::Propose) if self.draw(4) == 0 => {
                let large = changed(&request, |command| command.ops.push(too_large()));
                way.call(to, large.unwrap_or(request), patience).await
            }
            (Bug::AnsweredBeforeQuorum, Method::Append) if has_entries(&request) => {
                tokio::spawn(async move { drop(way.call(to, request, patience).await) });
                Ok(self.appended())
            }
            (Bug::StaleLeader, Method::Heartbeat) => {
                let call = way.call(to, request, patience);
                match tokio::time::timeout(Duration::from_millis(20), call).await {
                    Ok(Ok(answer)) => Ok(answer),
                    Ok(Err(_)) | Err(_) => Ok(self.appended()),
                }
            }
            (Bug::RolledBackLetIn, Method::Marks) => {
                way.call(to, request, patience).await?;
                let silent = rpc::MarksReply {
                    format: 1,
                    known_volume: None,
                    known: Vec::new(),
                    clock_ms: 0,
                };
                Ok(silent.encode_to_vec().into())
            }
            (Bug::VolumeLetIn, Method::Marks) => {
                let answer = way.call(to, request, patience).await?;
                Ok(without_volume(answer))
            }
            (Bug::RolledBackLetIn, _) => way.call(to, untold(request), patience).await,
            (Bug::DeltaResubmitted, Method::Propose) => {
                let answer = way.call(to, request.clone(), patience).await;
                self.send_again(way, to, &request, patience);
                answer
            }
            _ => way.call(to, request, patience).await,
        }
    }
}
