//! Changes the cluster's authority: the wish and its phases are rows, what a phase asks of a member
//! is done by that member alone, and confirmed by a row of its own.
//!
//! Nothing here has to be remembered: a member compares the row with the files in its data directory
//! and does what is missing, so a crash at any moment leaves the rest to the next look. The next
//! authority's key is in no row; members get it from each other, as they get it when they join.

use crate::error::ChangeError;
use crate::home::{Home, HomeError};
use crate::keys;
use crate::members::Members;
use crate::model::MemberState;
use crate::plan::{self, Refused, RotationPhase};
use crate::rows;
use crate::secrets::ClusterAuthority;
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_metastore::{Cx, Rows, Store};
use floeberg_pki::{Credentials, Fingerprint, TrustBundle};
use floeberg_proto::floeberg::members::v1 as pb;
use floeberg_rpc::{Handler, Method, Peers, Refusal, RefusalCode, Request, Transport};
use floeberg_types::{GroupId, NodeId};
use pb::{RotationRow, RotationStepRow};
use prost::Message as _;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Layout of the messages.
const FORMAT: u32 = 1;

/// More rows than nodes that a cluster ever had.
const ROWS_MAX: usize = 100_000;

/// Pause between two looks at the row.
const LOOK: Duration = Duration::from_secs(1);

/// How long one member may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A change of the authority, under way or over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotation {
    /// Counts them, from 1.
    pub number: u64,
    /// How far the cluster is.
    pub phase: RotationPhase,
    /// The next authority.
    pub next: Fingerprint,
    /// Members that have not done what the phase asks for.
    pub waiting_for: BTreeSet<NodeId>,
}

fn phase_of(phase: pb::RotationPhase) -> Option<RotationPhase> {
    match phase {
        pb::RotationPhase::Unspecified => None,
        pb::RotationPhase::Trust => Some(RotationPhase::Trust),
        pb::RotationPhase::Renew => Some(RotationPhase::Renew),
        pb::RotationPhase::Drop => Some(RotationPhase::Drop),
        pb::RotationPhase::Done => Some(RotationPhase::Done),
    }
}

fn phase_to_row(phase: RotationPhase) -> i32 {
    let phase = match phase {
        RotationPhase::Trust => pb::RotationPhase::Trust,
        RotationPhase::Renew => pb::RotationPhase::Renew,
        RotationPhase::Drop => pb::RotationPhase::Drop,
        RotationPhase::Done => pb::RotationPhase::Done,
    };
    phase.into()
}

/// The present rotation, or the last one.
fn read(rows: &impl Rows) -> Result<Option<(RotationRow, RotationPhase)>, ChangeError> {
    let Some(found) = rows.get::<RotationRow>(&keys::rotation())? else {
        return Ok(None);
    };
    let row = found.value;
    // A later version may have phases of its own; it does not run at this feature level.
    let phase = phase_of(row.phase()).ok_or(ChangeError::Unavailable)?;
    Ok(Some((row, phase)))
}

fn confirmed(rows: &impl Rows) -> Result<BTreeMap<NodeId, (u64, RotationPhase)>, ChangeError> {
    let found = rows.scan::<RotationStepRow>(&keys::rotation_steps(), None, ROWS_MAX)?;
    let steps = found.into_iter().filter_map(|(_, row)| {
        let step = row.value;
        let phase = phase_of(step.phase())?;
        Some((NodeId(step.node_id), (step.number, phase)))
    });
    Ok(steps.collect())
}

impl Members {
    /// Begins to change the cluster's authority. Answers once that is decided; the members do the
    /// rest. While nobody uses the next authority yet, another call puts a newer one in its place.
    ///
    /// # Errors
    /// Members use the next one of an earlier call already, or no majority can be reached.
    pub async fn rotate_authority(&self, cx: &Cx) -> Result<u64, ChangeError> {
        let prepared = self.parts.authority.prepare_next().await;
        let next = prepared.map_err(ChangeError::Uncertifiable)?;
        let done = self.parts.store.transact(cx, |txn| {
            let before = read(txn)?;
            if let Some((_, phase @ (RotationPhase::Renew | RotationPhase::Drop))) = &before {
                return Err(Refused::Rotating { phase: *phase }.into());
            }
            let number = before.map_or(0, |(row, _)| row.number) + 1;
            let now = txn.now().0;
            let row = RotationRow {
                number,
                phase: phase_to_row(RotationPhase::Trust),
                next: next.clone(),
                began_at_ms: now,
                changed_at_ms: now,
            };
            txn.put(keys::rotation(), &row);
            Ok::<_, ChangeError>(number)
        });
        Ok(done.await?.value)
    }

    /// What is known here of the last change of the authority; needs no majority.
    ///
    /// # Errors
    /// The rows cannot be read.
    pub fn rotation(&self) -> Result<Option<Rotation>, ChangeError> {
        let local = self.parts.store.local();
        let Some((row, phase)) = read(&local)? else {
            return Ok(None);
        };
        let next = Fingerprint::of(&row.next).map_err(HomeError::from);
        let steps = confirmed(&local)?;
        let waiting_for = match phase {
            RotationPhase::Done => BTreeSet::new(),
            phase => plan::unconfirmed(&rows::all(&local)?, &steps, (row.number, phase)),
        };
        Ok(Some(Rotation {
            number: row.number,
            phase,
            next: next.map_err(|e| ChangeError::Uncertifiable(e.to_string()))?,
            waiting_for,
        }))
    }

    /// On the leader of group 0: the next phase, once every member is there.
    pub(crate) async fn advance_rotation(&self) -> Result<Option<RotationPhase>, ChangeError> {
        // Nothing under way is the rule: that needs no transaction.
        match read(&self.parts.store.local())? {
            None | Some((_, RotationPhase::Done)) => return Ok(None),
            Some(_) => {}
        }
        let cx = self.own_cx();
        let done = self.parts.store.transact(&cx, |txn| {
            // Who joins meanwhile changes this row, and the decision is made again with it.
            txn.get::<rows::ClusterRow>(&keys::cluster())?;
            let Some((mut row, phase)) = read(txn)? else {
                return Ok(None);
            };
            let (roster, steps) = (rows::all(txn)?, confirmed(txn)?);
            let next = plan::next_phase(&roster, &steps, (row.number, phase));
            if let Some(next) = next {
                row.phase = phase_to_row(next);
                row.changed_at_ms = txn.now().0;
                txn.put(keys::rotation(), &row);
            }
            Ok::<_, ChangeError>(next)
        });
        Ok(done.await?.value)
    }

    async fn confirm(
        &self,
        node: NodeId,
        number: u64,
        phase: RotationPhase,
    ) -> Result<(), ChangeError> {
        let cx = self.own_cx();
        let row = RotationStepRow {
            node_id: node.0,
            number,
            phase: phase_to_row(phase),
        };
        let done = self.parts.store.transact(&cx, |txn| {
            txn.put(keys::rotation_step(node), &row);
            Ok::<_, ChangeError>(())
        });
        done.await?;
        Ok(())
    }

    fn store(&self) -> &Store {
        &self.parts.store
    }
}

/// What a member shows and trusts from now on.
pub trait Shown: Send + Sync + 'static {
    /// Takes both over for the next connection.
    ///
    /// # Errors
    /// They cannot be used, in words.
    fn show(&self, credentials: &Credentials, trust: &TrustBundle) -> Result<(), String>;
}

/// One per member: does what the present phase asks of it.
pub struct Rotator {
    /// The members.
    pub members: Members,
    /// This member.
    pub me: NodeId,
    /// Where the others reach it.
    pub address: String,
    /// Its data directory.
    pub home: Home,
    /// The authority as it holds it.
    pub authority: Arc<ClusterAuthority>,
    /// The way to the others.
    pub transport: Arc<dyn Transport>,
    /// Who they are.
    pub peers: Arc<Peers>,
    /// Its connections.
    pub shown: Arc<dyn Shown>,
}

impl Rotator {
    /// Runs until it is dropped.
    pub async fn run(self) {
        loop {
            if let Err(error) = self.turn().await {
                tracing::info!(%error, "the change of the authority goes on later");
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Looks once at the row, and does what is missing; whether something was.
    ///
    /// # Errors
    /// It could not be done; the next look tries again.
    pub async fn turn(&self) -> Result<bool, ChangeError> {
        let local = self.members.store().local();
        let Some((row, phase)) = read(&local)? else {
            return Ok(false);
        };
        let reached = confirmed(&local)?.get(&self.me).copied();
        let phase = phase.min(RotationPhase::Drop);
        if reached == Some((row.number, phase)) {
            return Ok(false);
        }
        let failed = |e: HomeError| ChangeError::Uncertifiable(e.to_string());
        let next = Fingerprint::of(&row.next).map_err(|e| failed(e.into()))?;
        if !self.authority.has(next) {
            let secret = self.fetch(next).await?;
            self.authority
                .keep_next(&self.home, &secret, next)
                .map_err(failed)?;
        }
        let (authority, home) = (self.authority.clone(), self.home.clone());
        let address = self.address.clone();
        let take_over = move || authority.take_over(&home, &address, next, phase);
        let tasks = &self.members.parts.env.tasks;
        let took = tasks.spawn_blocking("authority", take_over).await;
        let took = took.map_err(|_| ChangeError::Unavailable)?;
        let (credentials, trust) = took.map_err(failed)?;
        let shown = self.shown.show(&credentials, &trust);
        shown.map_err(ChangeError::Uncertifiable)?;
        self.members.confirm(self.me, row.number, phase).await?;
        tracing::info!(
            number = row.number,
            phase = phase.word(),
            "the change of the authority is done here"
        );
        Ok(true)
    }

    /// The next authority with its key, from whoever has it.
    async fn fetch(&self, next: Fingerprint) -> Result<String, ChangeError> {
        let message = pb::AuthorityRequest {
            format: FORMAT,
            fingerprint: Bytes::copy_from_slice(&next.0),
        };
        let request = Request {
            method: Method::Authority,
            group: GroupId::CATALOG,
            body: message.encode_to_vec().into(),
        };
        for (peer, _) in self.peers.all() {
            let asked = self.transport.call(peer, request.clone(), PATIENCE).await;
            let Ok(reply) = asked.map(pb::AuthorityReply::decode) else {
                continue;
            };
            match reply {
                Ok(reply) if reply.format == FORMAT && !reply.authority.is_empty() => {
                    return Ok(reply.authority);
                }
                Ok(_) | Err(_) => {}
            }
        }
        let text = "no member that answers has the next authority's key; run `floeberg cluster \
                    rotate-ca` again if the node it was made on is lost";
        Err(ChangeError::Uncertifiable(text.to_owned()))
    }
}

/// Answers [`Method::Authority`], to members only.
pub struct AuthorityDesk {
    /// The members.
    pub members: Members,
    /// The authority as this member holds it.
    pub authority: Arc<ClusterAuthority>,
}

impl AuthorityDesk {
    fn is_member(&self, node: NodeId) -> Result<bool, ChangeError> {
        let roster = self.members.local_roster()?;
        let member = roster.get(&node);
        Ok(member.is_some_and(|member| member.state != MemberState::Gone))
    }
}

#[async_trait]
impl Handler for AuthorityDesk {
    async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        let refuse = |code, text: &str| Refusal::new(code, text);
        let asked = pb::AuthorityRequest::decode(request.body);
        let asked = asked.map_err(|e| refuse(RefusalCode::Malformed, &e.to_string()))?;
        if asked.format != FORMAT {
            return Err(refuse(RefusalCode::Malformed, "an unknown format"));
        }
        let fingerprint = <[u8; 32]>::try_from(&asked.fingerprint[..]);
        let fingerprint = fingerprint
            .map_err(|_| refuse(RefusalCode::Malformed, "not a fingerprint"))
            .map(Fingerprint)?;
        let known = self.is_member(from);
        match known.map_err(|e| refuse(RefusalCode::Failed, &e.to_string()))? {
            true => {}
            false => return Err(refuse(RefusalCode::Unauthorised, "members only")),
        }
        let reply = pb::AuthorityReply {
            format: FORMAT,
            authority: self.authority.secret_of(fingerprint).unwrap_or_default(),
        };
        Ok(reply.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests;
