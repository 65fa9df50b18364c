//! What the node says of itself to health checkers and administrators.

use crate::NodeConfig;
use crate::divergence::Divergences;
use crate::group_stores::GroupStores;
use crate::vigil::Concerns;
use floeberg_api_admin::{GroupRole, GroupStatus, NodeStatus, Probes, Readiness};
use floeberg_consensus::RaftGroup;
use floeberg_http::Room;
use floeberg_members::{AlarmKind, Alarms, Identity};
use floeberg_shards::Shards;
use floeberg_types::{GroupId, TimestampMs};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A health checker waits about as long.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the probes look at.
pub(crate) struct Parts<'a> {
    pub(crate) config: &'a NodeConfig,
    pub(crate) identity: Identity,
    pub(crate) stores: &'a GroupStores,
    pub(crate) shards: &'a Shards,
    pub(crate) started: TimestampMs,
    pub(crate) room: &'a Room,
    pub(crate) concerns: &'a Concerns,
    pub(crate) leaving: &'a CancellationToken,
}

pub(crate) fn new(parts: Parts<'_>) -> Probes {
    let groups: Vec<_> = parts
        .stores
        .each()
        .map(|(id, store)| (id, store.group().clone()))
        .into();
    let base = NodeStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        cluster: parts.identity.cluster.to_string(),
        node: parts.identity.node.0,
        region: parts.config.region.to_string(),
        account: parts.config.account.to_string(),
        started_at_ms: parts.started.0,
        groups: Vec::new(),
    };
    let (asked, shards, room) = (groups.clone(), parts.shards.clone(), parts.room.clone());
    let Concerns {
        divergences,
        removal,
        alarms,
        ..
    } = parts.concerns.clone();
    let leaving = parts.leaving.clone();
    Probes {
        readiness: Arc::new(move || {
            let (groups, shards, room) = (asked.clone(), shards.clone(), room.clone());
            let leaving = leaving
                .is_cancelled()
                .then(|| "a new start: this node is stopping".to_owned());
            let unwanted = removal.notice().map(|why| format!("a person: {why}"));
            let (waiting, alarms) = (removal.waiting(), alarms.clone());
            Box::pin(async move {
                if let Some(waiting_for) = unwanted.or(leaving).or(waiting) {
                    return Readiness::NotReady { waiting_for };
                }
                readiness(&groups, &shards, &room, &alarms).await
            })
        }),
        status: Arc::new(move || NodeStatus {
            groups: groups
                .iter()
                .map(|(id, group)| status(*id, group, &divergences))
                .collect(),
            ..base.clone()
        }),
    }
}

/// Ready is who knows a leader, and can read what it has acknowledged.
async fn readiness(
    groups: &[(GroupId, RaftGroup)],
    shards: &Shards,
    room: &Room,
    alarms: &Alarms,
) -> Readiness {
    let not_ready = |waiting_for| Readiness::NotReady { waiting_for };
    for (id, group) in groups {
        if group.leader().is_none() {
            return not_ready(format!("a leader of group {id}"));
        }
        let read = tokio::time::timeout(PATIENCE, group.read_barrier()).await;
        if !matches!(read, Ok(Ok(_))) {
            return not_ready(format!("a read of group {id} that its leader confirms"));
        }
    }
    if shards.map().takers() == 0 {
        return not_ready("a place for data: the placement map is empty".to_owned());
    }
    // Reads are confirmed while entries wait, so they go on.
    if let Some(stalled) = alarms.get(AlarmKind::Stalled) {
        return Readiness::ReadsOnly { why: stalled.text };
    }
    let full = shards.local().check_room().map_err(|full| full.to_string());
    let full = full.and_then(|()| room.check().map_err(|full| full.to_string()));
    match full {
        Ok(()) => Readiness::Ready {
            warnings: warnings(alarms),
        },
        Err(why) => Readiness::ReadsOnly { why },
    }
}

/// What is wrong and does not keep the node from working.
fn warnings(alarms: &Alarms) -> Vec<String> {
    let all = alarms.all().into_iter();
    let each = all.map(|alarm| format!("{}: {}", alarm.kind.word(), alarm.text));
    each.collect()
}

fn status(id: GroupId, group: &RaftGroup, divergences: &Divergences) -> GroupStatus {
    let (leadership, now) = (*group.leadership().borrow(), group.status());
    let applied = now
        .applied
        .filter(|applied| Some(applied.index) == now.last_index);
    // What is not applied is told apart by who wrote it: after a lost majority this is what matters.
    let mark = Some(group.mark())
        .filter(|mark| now.last_index.is_some() && mark.accepted == now.last_index);
    let last_term = applied.map(|applied| applied.term);
    GroupStatus {
        group: id.0,
        role: if leadership.is_leader {
            GroupRole::Leader
        } else {
            GroupRole::Follower
        },
        term: now.term,
        ready: if leadership.is_leader {
            leadership.ready
        } else {
            now.leader.is_some()
        },
        last_term: last_term.or(mark.map(|mark| mark.term)),
        last_index: now.last_index,
        applied: now.applied.map(|applied| applied.index),
        diverged: divergences.of(id).into_iter().map(|node| node.0).collect(),
    }
}
