//! A node becomes a member: one row and one certificate for one certificate request, however often
//! it is asked for.

use super::{Announcement, Members, new_row};
use crate::desk::{JoinReply, JoinRequest};
use crate::error::ChangeError;
use crate::keys;
use crate::model::{Departure, Member, MemberState};
use crate::plan::{GroupView, Refused};
use crate::rows::{self, ClusterRow, MemberRow};
use bytes::Bytes;
use floeberg_metastore::{Rows as _, Txn};
use floeberg_types::NodeId;
use std::collections::BTreeMap;

/// Longest address that is stored: a host name and a port.
const ADDRESS_MAX: usize = 260;
const LABELS_MAX: usize = 16;
const LABEL_MAX: usize = 63;

pub(super) async fn join(
    members: &Members,
    request: &JoinRequest,
) -> Result<JoinReply, ChangeError> {
    let parts = &members.parts;
    parts
        .authority
        .check_token(&request.token, members.now())
        .await?;
    check(request)?;
    let csr = &request.certificate_request;
    let usable = parts.authority.check_request(csr).await;
    usable.map_err(ChangeError::Uncertifiable)?;
    let hash = Bytes::copy_from_slice(blake3::hash(csr).as_bytes());
    let views = members.views().await?;
    let cx = members.own_cx();
    let done = parts
        .store
        .transact(&cx, |txn| enter(txn, request, &hash, &views));
    let node = done.await?.value;
    let certified = parts.authority.certify(csr, node, &request.address).await;
    let certified = certified.map_err(ChangeError::Uncertifiable)?;
    let roster = members.roster().await?;
    let present = |m: &&Member| m.state != MemberState::Gone && m.id != node;
    tracing::info!(%node, address = %request.address, "a node has joined");
    Ok(JoinReply {
        node,
        cluster: parts.cluster,
        chain: certified.chain,
        authorities: certified.authorities,
        secrets: certified.secrets,
        peers: roster
            .values()
            .filter(present)
            .map(|m| (m.id, m.address.clone()))
            .collect(),
    })
}

fn check(request: &JoinRequest) -> Result<(), Refused> {
    let malformed = |reason: &str| Refused::Malformed {
        reason: reason.to_owned(),
    };
    let address = &request.address;
    if address.len() > ADDRESS_MAX || !address.contains(':') {
        return Err(malformed(
            "the address is not host:port; set peer.advertise",
        ));
    }
    let long = |text: &String| text.len() > LABEL_MAX;
    let labels = &request.labels;
    if labels.len() > LABELS_MAX || labels.iter().any(|(k, v)| long(k) || long(v)) {
        return Err(malformed("the labels are too many or too long"));
    }
    Ok(())
}

/// The row of the request: the one it already has, or a new one with the next id.
fn enter(
    txn: &mut Txn<'_>,
    request: &JoinRequest,
    hash: &Bytes,
    views: &[GroupView],
) -> Result<NodeId, ChangeError> {
    let found = txn.get::<ClusterRow>(&keys::cluster())?;
    // Before the first node has announced itself there is nothing to join.
    let mut cluster = found.ok_or(ChangeError::Unavailable)?.value;
    let known: Vec<MemberRow> = rows::member_rows(txn)?;
    if let Some(row) = known.iter().find(|row| row.csr_hash == *hash) {
        let member = rows::member_from_row(row)?;
        let node = member.id;
        return match member.state {
            MemberState::Gone => Err(Refused::Gone { node }.into()),
            _ => Ok(node),
        };
    }
    if let Some(refused) = super::differs(&cluster, &request.account, &request.region) {
        return Err(refused.into());
    }
    let (level, features) = (cluster.feature_level, request.features);
    if !features.include(level) {
        return Err(Refused::Features { level, features }.into());
    }
    let mut ghosts = Vec::new();
    for row in known.iter().filter(|row| row.address == request.address) {
        let member = rows::member_from_row(row)?;
        // A machine that lost its disk comes back under its old address; its old self is silent.
        let answers = views.iter().any(|v| v.reachable.contains(&member.id));
        if member.state != MemberState::Gone && answers {
            return Err(Refused::AddressTaken {
                node: member.id,
                address: member.address,
            }
            .into());
        }
        if never_came_up(&member, views) {
            ghosts.push(row.clone());
        }
    }
    let node = NodeId(cluster.next_node_id);
    cluster.next_node_id += 1;
    let me = Announcement {
        node,
        address: request.address.clone(),
        labels: request.labels.clone(),
        features,
        version: request.version.clone(),
        start: 0,
        settings: BTreeMap::new(),
    };
    let row = new_row(&me, MemberState::Joining, txn.now(), hash.clone());
    txn.put(keys::cluster(), &cluster);
    txn.put(keys::member(node), &row);
    for mut ghost in ghosts {
        ghost.replaced_by = node.0;
        for state in [MemberState::Leaving(Departure::Dead), MemberState::Gone] {
            rows::set_state(&mut ghost, state, txn.now());
        }
        txn.put(keys::member(NodeId(ghost.node_id)), &ghost);
    }
    Ok(node)
}

/// Whether a member is only left of a join that did not get to its end. As no group knows it, it
/// has no vote and has acknowledged nothing.
fn never_came_up(member: &Member, views: &[GroupView]) -> bool {
    let known = |v: &GroupView| v.includes(member.id) || v.reachable.contains(&member.id);
    member.state == MemberState::Joining && !views.iter().any(known)
}
