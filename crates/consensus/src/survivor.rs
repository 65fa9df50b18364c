//! Giving up a lost majority: this node becomes the only voter of a group, whatever its log says of
//! the others.
//!
//! What is forced is one more entry at the end of the log: a membership of this node alone, under a
//! term that this node has never voted in. Everything before it, committed or not, is kept and
//! becomes committed once this node leads. Doing it again adds one more such entry and changes
//! nothing else, so a crash at any point is followed by another attempt.

use crate::codec;
use crate::raft::{Entry, LeaderId, LogId, Membership, Payload, Vote};
use crate::start::GroupStartError;
use floeberg_raftlog::{LogRecord, LogStore};
use floeberg_types::{GroupId, NodeId};
use openraft::impls::BasicNode;
use openraft::vote::RaftLeaderId as _;
use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::io;
use tokio::sync::oneshot;

type Failure = Box<dyn Error + Send + Sync>;

/// The last entry of the log, purged ones included.
fn last_entry(log: &dyn LogStore, group: GroupId) -> Result<Option<LogId>, Failure> {
    let state = log.state(group)?;
    if let Some(last) = state.last {
        return Ok(Some(codec::decode_entry(last.bytes)?.log_id));
    }
    let purged = state.purged.map(|(_, bytes)| codec::decode_log_id(bytes));
    Ok(purged.transpose()?)
}

/// Waits for one durable write that `write` begins.
async fn synced(write: impl FnOnce(floeberg_raftlog::Done)) -> Result<(), Failure> {
    let (done, synced) = oneshot::channel();
    write(Box::new(move |result| {
        // Nobody waits any more if the start was given up.
        let _ = done.send(result);
    }));
    let closed = |_| io::Error::other("the log closed before the write was durable");
    Ok(synced.await.map_err(closed)??)
}

/// Makes `node` the only voter of the group; durable when it returns.
pub(crate) async fn force(
    log: &dyn LogStore,
    group: GroupId,
    node: NodeId,
    address: &str,
) -> Result<(), GroupStartError> {
    let failed = |source| GroupStartError::Recovery { group, source };
    let last = last_entry(log, group).map_err(failed)?;
    let last = last.ok_or(GroupStartError::NothingToGoOnFrom { group })?;
    append(log, group, node, address, last)
        .await
        .map_err(failed)
}

async fn append(
    log: &dyn LogStore,
    group: GroupId,
    node: NodeId,
    address: &str,
    last: LogId,
) -> Result<(), Failure> {
    let vote = log.read_vote(group)?.map(codec::decode_vote).transpose()?;
    let voted = vote.map_or(0, |vote| vote.leader_id.term);
    let term = voted.max(last.leader_id.term) + 1;
    let leader_id = LeaderId::new(term, node.0);
    // The vote first: nobody else can be granted the term that the entry is written under.
    let vote = codec::encode_vote(&Vote {
        leader_id,
        committed: false,
    });
    synced(|done| log.save_vote(group, vote, done)).await?;
    let members = BTreeMap::from([(node.0, BasicNode::new(address))]);
    let alone = Membership::new(vec![BTreeSet::from([node.0])], members)?;
    let log_id = LogId::new(leader_id, last.index + 1);
    let bytes = codec::encode_entry(&Entry {
        log_id,
        payload: Payload::Membership(alone),
    });
    let index = log_id.index;
    let records = vec![LogRecord { index, bytes }];
    synced(|done| log.append(group, records, done)).await
}
