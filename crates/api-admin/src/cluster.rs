//! The administration of the cluster: who belongs to it, and who leads.

use crate::route::Protected;
use crate::{AdminState, Failure, Handled};
use floeberg_auth::{Principal, action};
use floeberg_http::{Call, json};
use floeberg_members::plan::Waiting;
use floeberg_members::{
    Alarm, ChangeError, ClusterStatus, Departure, Disagreement, GroupView, GroupsError, Member,
    Members, Refused, Rotation,
};
use floeberg_metastore::Cx;
use floeberg_types::{GroupId, NodeId};
use http::StatusCode;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json as value};
use std::fmt::Display;
use std::time::Duration;

/// Longest life of a join token, in seconds.
const TTL_MAX: u64 = 24 * 3600;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct TokenRequest {
    ttl_seconds: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct RemoveRequest {
    #[serde(default)]
    dead: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct ReplaceRequest {
    with: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct LeaderRequest {
    to: u64,
    group: Option<u32>,
}

fn failure(status: StatusCode, kind: &'static str, message: impl Display) -> Failure {
    Failure {
        status,
        kind,
        message: message.to_string(),
    }
}

fn bad_request(message: impl Display) -> Failure {
    failure(StatusCode::BAD_REQUEST, "BadRequestException", message)
}

fn no_such_member(message: impl Display) -> Failure {
    failure(StatusCode::NOT_FOUND, "NoSuchMemberException", message)
}

fn conflict(message: impl Display) -> Failure {
    failure(StatusCode::CONFLICT, "MembershipConflictException", message)
}

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        use ChangeError as E;
        match &error {
            E::Refused(Refused::Unknown { .. } | Refused::NoGroup { .. }) => no_such_member(error),
            E::Refused(Refused::Malformed { .. })
            | E::Uncertifiable(_)
            | E::Token(_)
            | E::TooLarge(_) => bad_request(error),
            E::Refused(_) | E::Groups(GroupsError::Refused { .. }) => conflict(error),
            E::Unavailable | E::Crowded(_) | E::Groups(GroupsError::NoLeader { .. }) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                failure(status, "ServiceUnavailableException", error)
            }
            E::Indefinite | E::Groups(GroupsError::Unknown { .. }) => failure(
                StatusCode::GATEWAY_TIMEOUT,
                "OutcomeUnknownException",
                error,
            ),
            E::Storage(_) | E::Damaged(_) => {
                tracing::error!(%error, "the members cannot be read");
                let message = "the members cannot be read; the server's log has the details";
                let status = StatusCode::INTERNAL_SERVER_ERROR;
                failure(status, "InternalServerError", message)
            }
        }
    }
}

fn read<T: DeserializeOwned>(call: &Call) -> Result<T, Failure> {
    serde_json::from_slice(&call.body)
        .map_err(|error| bad_request(format!("malformed request body: {error}")))
}

fn node_of(text: &str) -> Result<NodeId, Failure> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number
        .map(NodeId)
        .ok_or_else(|| no_such_member(format!("there is no member {text}")))
}

fn cx(call: &Call, principal: &Principal) -> Cx {
    Cx {
        request_id: call.request_id,
        account: principal.account.clone(),
        principal: principal.id.clone(),
        deadline: Some(call.deadline),
        attendance: call.attendance.clone(),
        caller: call.peer,
        idempotency: None,
    }
}

impl AdminState {
    /// Everything below `/admin/v1/cluster`.
    pub(crate) async fn administer(
        &self,
        asked: Protected,
        call: &Call,
        who: &Principal,
    ) -> Handled {
        match asked {
            Protected::Status => self.status(who),
            Protected::Backup(ask) => self.back_up(ask, who).await,
            Protected::Cluster => {
                self.allow::<action::GetClusterStatus>(who)?;
                let status = self.members()?.status().await?;
                let own = (self.probes.status)();
                let mut body = status_body(&status, own.node, &own.groups);
                body["rotation"] = rotation_body(self.members()?.rotation()?.as_ref());
                Ok(json(StatusCode::OK, &body))
            }
            Protected::Token => {
                self.allow::<action::CreateJoinToken>(who)?;
                self.token(call).await
            }
            Protected::Remove { node } => {
                self.allow::<action::RemoveMember>(who)?;
                let request: RemoveRequest = read(call)?;
                let departure = match request.dead {
                    true => Departure::Dead,
                    false => Departure::Drained,
                };
                let (members, node) = (self.members()?, node_of(&node)?);
                let member = members.remove(&cx(call, who), node, departure).await?;
                Ok(accepted(&member))
            }
            Protected::Replace { node } => {
                self.allow::<action::ReplaceMember>(who)?;
                let request: ReplaceRequest = read(call)?;
                let (members, old) = (self.members()?, node_of(&node)?);
                let new = NodeId(request.with);
                let member = members.replace(&cx(call, who), old, new).await?;
                Ok(accepted(&member))
            }
            Protected::TransferLeader => {
                self.allow::<action::TransferLeader>(who)?;
                let request: LeaderRequest = read(call)?;
                let (group, to) = (request.group.map(GroupId), NodeId(request.to));
                let groups = self.members()?.transfer_leader(group, to).await?;
                let groups: Vec<u32> = groups.iter().map(|group| group.0).collect();
                let body = value!({"groups": groups, "leader": to.0});
                Ok(json(StatusCode::OK, &body))
            }
            Protected::RotateAuthority => {
                self.allow::<action::RotateAuthority>(who)?;
                let number = self.members()?.rotate_authority(&cx(call, who)).await?;
                Ok(json(StatusCode::ACCEPTED, &value!({"number": number})))
            }
        }
    }

    fn members(&self) -> Result<&Members, Failure> {
        let alone = "this node belongs to no cluster: it was started with `floeberg dev`";
        self.members.as_ref().ok_or_else(|| conflict(alone))
    }

    async fn token(&self, call: &Call) -> Handled {
        let request: TokenRequest = read(call)?;
        let seconds = request.ttl_seconds;
        if seconds == 0 || seconds > TTL_MAX {
            return Err(bad_request("ttl-seconds must be from 1 to 86400"));
        }
        let token = self.members()?.token(Duration::from_secs(seconds)).await?;
        let life_ms = i64::try_from(seconds * 1000).unwrap_or(i64::MAX);
        let body = value!({"token": token, "expires-at-ms": call.arrived.plus_ms(life_ms).0});
        Ok(json(StatusCode::OK, &body))
    }
}

fn accepted(member: &Member) -> floeberg_http::Answer {
    json(
        StatusCode::ACCEPTED,
        &value!({"member": member_body(member)}),
    )
}

fn member_body(member: &Member) -> Value {
    value!({
        "node": member.id.0,
        "address": member.address,
        "labels": member.labels,
        "state": member.state.word(),
        "replaced-by": member.replaced_by.map(|node| node.0),
        "joined-at-ms": member.joined_at.0,
        "changed-at-ms": member.changed_at.0,
        "features": {"low": member.features.low, "high": member.features.high},
        "version": member.version,
    })
}

fn numbers<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> Vec<u64> {
    nodes.into_iter().map(|node| node.0).collect()
}

fn group_body(group: GroupId, view: &Result<GroupView, GroupsError>) -> Value {
    let view = match view {
        Ok(view) => view,
        Err(error) => {
            return value!({
                "group": group.0, "error": error.to_string(), "leader": null, "term": null,
                "voters": [], "learners": [], "changing": false, "progress": [],
            });
        }
    };
    let mut nodes = view.reachable.clone();
    nodes.extend(view.voters.iter().chain(&view.learners));
    let progress = nodes.iter().map(|node| {
        value!({
            "node": node.0,
            "reachable": view.reachable.contains(node),
            "behind": view.behind.get(node),
        })
    });
    value!({
        "group": group.0,
        "error": null,
        "leader": view.leader.0,
        "term": view.term,
        "voters": numbers(&view.voters),
        "learners": numbers(&view.learners),
        "changing": view.changing,
        "progress": progress.collect::<Vec<_>>(),
    })
}

fn waiting_body((group, waiting): &(GroupId, Waiting)) -> Value {
    value!({"group": group.0, "reason": waiting.word(), "text": waiting.to_string()})
}

fn rotation_body(rotation: Option<&Rotation>) -> Value {
    let Some(rotation) = rotation else {
        return Value::Null;
    };
    value!({
        "number": rotation.number,
        "phase": rotation.phase.word(),
        "next": rotation.next.to_string(),
        "waiting-for": numbers(&rotation.waiting_for),
    })
}

fn disagreement_body(found: &Disagreement) -> Value {
    let values = found.values.iter();
    let values = values.map(|(has, nodes)| value!({"value": has, "nodes": numbers(nodes)}));
    value!({"setting": found.setting, "values": values.collect::<Vec<_>>()})
}

fn alarm_body(node: NodeId, alarm: &Alarm) -> Value {
    value!({
        "node": node.0,
        "kind": alarm.kind.word(),
        "severity": alarm.kind.severity().word(),
        "text": alarm.text,
        "since-ms": alarm.since.0,
    })
}

fn status_body(status: &ClusterStatus, node: u64, local: &[impl Serialize]) -> Value {
    let members = status.members.iter().map(member_body);
    let groups = status.groups.iter().map(|(id, view)| group_body(*id, view));
    value!({
        "cluster": status.cluster.to_string(),
        "node": node,
        "feature-level": status.feature_level,
        "members": members.collect::<Vec<_>>(),
        "groups": groups.collect::<Vec<_>>(),
        "waiting": status.waiting.iter().map(waiting_body).collect::<Vec<_>>(),
        "disagreements": status.disagreements.iter().map(disagreement_body).collect::<Vec<_>>(),
        "alarms": status.alarms.iter().map(|(node, alarm)| alarm_body(*node, alarm)).collect::<Vec<_>>(),
        "taking-no-part": status.taking_no_part.iter().map(|(node, why)| value!({"node": node.0, "text": why})).collect::<Vec<_>>(),
        "local": local,
    })
}
