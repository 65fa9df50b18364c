//! Frames: how calls, answers and the handshake look on the wire (docs/formats/node-to-node.md).

use crate::callee::Outcome;
use crate::{CallError, Lane, LocalNode, Method, Refusal, RefusalCode, Request, STRANGER};
use bytes::Bytes;
use floeberg_proto::floeberg::rpc::v1 as proto;
use floeberg_types::{ClusterId, GroupId, NodeId, limits};

pub(crate) use proto::Frame;
pub(crate) use proto::frame::Kind;

/// The largest body of a call or an answer.
pub const MAX_BODY: usize = limits::RPC_BODY_BYTES;

/// The largest frame: a body and room for what surrounds it.
pub(crate) const MAX_FRAME: usize = limits::RPC_FRAME_BYTES;

/// Version of the protocol that this build speaks.
const FORMAT: u32 = 1;

/// Longer messages of refusals are cut, so that they always fit into a frame.
const MAX_MESSAGE: usize = limits::RPC_REASON_BYTES;

pub(crate) fn too_large(length: usize) -> String {
    format!("the body has {length} bytes and at most {MAX_BODY} can be sent")
}

/// Who the peer of a connection has proven to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// A certificate of this node.
    Certificate(ClusterId, NodeId),
    /// TLS without a certificate.
    Nothing,
    /// No TLS: what it says is taken for true.
    NotAsked,
}

pub(crate) fn frame(kind: Kind) -> Frame {
    Frame { kind: Some(kind) }
}

pub(crate) fn hello(local: &LocalNode, to: NodeId, lane: Lane) -> Frame {
    frame(Kind::Hello(proto::Hello {
        format: FORMAT,
        cluster_id: Bytes::copy_from_slice(local.cluster.as_bytes()),
        node_id: local.node.0,
        to_node_id: to.0,
        lane: lane_number(lane),
        feature_level_low: local.features.low,
        feature_level_high: local.features.high,
        start: local.start,
        address: local.address.clone(),
        asking: false,
    }))
}

/// Who says hello, if it may; checked the same way on both sides.
pub(crate) fn check_hello(
    hello: &proto::Hello,
    local: &LocalNode,
    proof: Proof,
) -> Result<(NodeId, Lane), Refusal> {
    if hello.format != FORMAT {
        let message = format!(
            "node {} speaks format {} of the node protocol and node {} format {FORMAT}: \
             run the same version of floeberg on both",
            hello.node_id, hello.format, local.node
        );
        return Err(Refusal::new(RefusalCode::NotServing, message));
    }
    let from = NodeId(hello.node_id);
    let cluster = ClusterId::from_slice(&hello.cluster_id);
    if cluster != Some(local.cluster) {
        let message = match cluster {
            Some(cluster) => format!(
                "node {from} belongs to cluster {cluster}, node {} to cluster {}: \
                 correct the address that leads to the wrong cluster",
                local.node, local.cluster
            ),
            None => format!("node {from} names no cluster"),
        };
        return Err(Refusal::new(RefusalCode::WrongCluster, message));
    }
    check_nodes(hello, local, proof)?;
    let lane = lane_of(hello.lane).ok_or_else(|| {
        let message = format!("lane {} is not known to this version", hello.lane);
        Refusal::new(RefusalCode::Malformed, message)
    })?;
    Ok((from, lane))
}

fn check_nodes(hello: &proto::Hello, local: &LocalNode, proof: Proof) -> Result<(), Refusal> {
    let from = NodeId(hello.node_id);
    let wrong = |message| Err(Refusal::new(RefusalCode::WrongNode, message));
    if from == STRANGER {
        return wrong("a node without an id spoke; ids begin at 1".to_owned());
    }
    if hello.to_node_id != local.node.0 {
        return wrong(format!(
            "node {} was meant and this is node {}: correct the address of node {}",
            hello.to_node_id, local.node, hello.to_node_id
        ));
    }
    match proof {
        Proof::NotAsked => {}
        Proof::Certificate(cluster, node) if (cluster, node) == (local.cluster, from) => {}
        Proof::Certificate(cluster, node) => {
            return wrong(format!(
                "the certificate belongs to node {node} of cluster {cluster}, but node {from} \
                 spoke: give each node its own certificate"
            ));
        }
        Proof::Nothing => {
            let message = format!("node {from} showed no certificate");
            return Err(Refusal::new(RefusalCode::Unauthorised, message));
        }
    }
    let (ours, low) = (local.features, hello.feature_level_low);
    if low > ours.high || hello.feature_level_high < ours.low {
        let message = format!(
            "node {from} works at feature levels {low} to {}, node {} at {} to {}: \
             upgrade the older one step by step",
            hello.feature_level_high, local.node, ours.low, ours.high
        );
        return Err(Refusal::new(RefusalCode::NotServing, message));
    }
    Ok(())
}

pub(crate) fn call(id: u64, request: Request) -> Frame {
    frame(Kind::Call(proto::Call {
        id,
        method: u32::from(request.method as u16),
        group: request.group.0,
        body: request.body,
    }))
}

pub(crate) fn read_call(call: proto::Call) -> Result<Request, Refusal> {
    let method = Method::ALL
        .into_iter()
        .find(|m| u32::from(*m as u16) == call.method);
    let Some(method) = method else {
        let message = format!("method {} is not known to this version", call.method);
        return Err(Refusal::new(RefusalCode::UnknownMethod, message));
    };
    Ok(Request {
        method,
        group: GroupId(call.group),
        body: call.body,
    })
}

pub(crate) fn answer(id: u64, outcome: Outcome) -> Frame {
    use proto::answer::Outcome as Wire;
    let outcome = match outcome {
        Outcome::Answer(body) => Wire::Body(body),
        Outcome::Refused(refusal) => Wire::Refusal(refusal_to_wire(refusal)),
        Outcome::Unknown(reason) => Wire::Unknown(reason),
    };
    frame(Kind::Answer(proto::Answer {
        id,
        outcome: Some(outcome),
    }))
}

pub(crate) fn read_answer(answer: proto::Answer) -> (u64, Result<Bytes, CallError>) {
    use proto::answer::Outcome as Wire;
    let result = match answer.outcome {
        Some(Wire::Body(body)) => Ok(body),
        Some(Wire::Refusal(refusal)) => Err(CallError::Refused(refusal_from_wire(refusal))),
        Some(Wire::Unknown(reason)) => Err(CallError::Lost { reason }),
        // A kind of answer that a later version invented: it says nothing that we can rely on.
        None => Err(CallError::lost("the peer's answer is of an unknown kind")),
    };
    (answer.id, result)
}

pub(crate) fn goodbye(refusal: Refusal) -> Frame {
    frame(Kind::Goodbye(refusal_to_wire(refusal)))
}

fn refusal_to_wire(mut refusal: Refusal) -> proto::Refusal {
    if refusal.message.len() > MAX_MESSAGE {
        let end = refusal.message.floor_char_boundary(MAX_MESSAGE);
        refusal.message.truncate(end);
    }
    let code = match refusal.code {
        RefusalCode::NotServing => proto::RefusalCode::NotServing,
        RefusalCode::WrongCluster => proto::RefusalCode::WrongCluster,
        RefusalCode::WrongNode => proto::RefusalCode::WrongNode,
        RefusalCode::Unauthorised => proto::RefusalCode::Unauthorised,
        RefusalCode::Malformed => proto::RefusalCode::Malformed,
        RefusalCode::UnknownMethod => proto::RefusalCode::UnknownMethod,
        RefusalCode::Busy => proto::RefusalCode::Busy,
        RefusalCode::Failed => proto::RefusalCode::Failed,
        RefusalCode::Removed => proto::RefusalCode::Removed,
        RefusalCode::Superseded => proto::RefusalCode::Superseded,
        RefusalCode::Forgot => proto::RefusalCode::Forgot,
    };
    proto::Refusal {
        code: code.into(),
        message: refusal.message,
    }
}

pub(crate) fn refusal_from_wire(refusal: proto::Refusal) -> Refusal {
    let code = match refusal.code() {
        proto::RefusalCode::NotServing => RefusalCode::NotServing,
        proto::RefusalCode::WrongCluster => RefusalCode::WrongCluster,
        proto::RefusalCode::WrongNode => RefusalCode::WrongNode,
        proto::RefusalCode::Unauthorised => RefusalCode::Unauthorised,
        proto::RefusalCode::Malformed => RefusalCode::Malformed,
        proto::RefusalCode::UnknownMethod => RefusalCode::UnknownMethod,
        proto::RefusalCode::Busy => RefusalCode::Busy,
        proto::RefusalCode::Removed => RefusalCode::Removed,
        proto::RefusalCode::Superseded => RefusalCode::Superseded,
        proto::RefusalCode::Forgot => RefusalCode::Forgot,
        // A reason of a later version is still a refusal.
        proto::RefusalCode::Failed | proto::RefusalCode::Unspecified => RefusalCode::Failed,
    };
    Refusal::new(code, refusal.message)
}

const fn lane_number(lane: Lane) -> u32 {
    match lane {
        Lane::Votes => 1,
        Lane::Log => 2,
        Lane::Proposals => 3,
        Lane::Bulk => 4,
    }
}

fn lane_of(number: u32) -> Option<Lane> {
    [Lane::Votes, Lane::Log, Lane::Proposals, Lane::Bulk]
        .into_iter()
        .find(|lane| lane_number(*lane) == number)
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
