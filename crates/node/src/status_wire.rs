//! The messages of [`Method::Status`] (docs/formats/node-to-node.md).

use bytes::Bytes;
use floeberg_members::GroupView;
use floeberg_metastore::{Digest, Mark};
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{Method, Request};
use floeberg_types::{GroupId, NodeId};
use prost::Message as _;

/// Layout of the messages.
const FORMAT: u32 = 1;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    Alive,
    View,
    Transfer { to: NodeId },
    Marks,
}

impl Ask {
    pub(crate) fn request(self, group: GroupId) -> Request {
        let (ask, to) = match self {
            Self::Alive => (pb::StatusAsk::Alive, 0),
            Self::View => (pb::StatusAsk::View, 0),
            Self::Transfer { to } => (pb::StatusAsk::Transfer, to.0),
            Self::Marks => (pb::StatusAsk::Marks, 0),
        };
        let message = pb::StatusRequest {
            format: FORMAT,
            ask: ask.into(),
            transfer_to: to,
        };
        Request {
            method: Method::Status,
            group,
            body: message.encode_to_vec().into(),
        }
    }

    pub(crate) fn decode(body: Bytes) -> Result<Self, String> {
        let message = pb::StatusRequest::decode(body).map_err(|e| e.to_string())?;
        if message.format != FORMAT {
            return Err(format!("format {} is not known here", message.format));
        }
        match message.ask() {
            pb::StatusAsk::Alive => Ok(Self::Alive),
            pb::StatusAsk::View => Ok(Self::View),
            pb::StatusAsk::Marks => Ok(Self::Marks),
            pb::StatusAsk::Transfer if message.transfer_to != 0 => Ok(Self::Transfer {
                to: NodeId(message.transfer_to),
            }),
            pb::StatusAsk::Transfer | pb::StatusAsk::Unspecified => {
                Err(format!("question {} is not known here", message.ask))
            }
        }
    }
}

pub(crate) fn encode_alive() -> Bytes {
    let message = pb::StatusReply {
        format: FORMAT,
        ..pb::StatusReply::default()
    };
    message.encode_to_vec().into()
}

pub(crate) fn encode_view(view: &GroupView) -> Bytes {
    let ids = |nodes: &std::collections::BTreeSet<NodeId>| nodes.iter().map(|n| n.0).collect();
    let view = pb::GroupView {
        leader: view.leader.0,
        term: view.term,
        voters: ids(&view.voters),
        learners: ids(&view.learners),
        changing: view.changing,
        reachable: ids(&view.reachable),
        behind: view.behind.iter().map(|(n, lag)| (n.0, *lag)).collect(),
    };
    let message = pb::StatusReply {
        format: FORMAT,
        view: Some(view),
        ..pb::StatusReply::default()
    };
    message.encode_to_vec().into()
}

pub(crate) fn decode_view(group: GroupId, body: Bytes) -> Result<GroupView, String> {
    let message = pb::StatusReply::decode(body).map_err(|e| e.to_string())?;
    if message.format != FORMAT {
        return Err(format!("format {} is not known here", message.format));
    }
    let view = message.view.ok_or("the answer has no view of the group")?;
    let nodes = |ids: Vec<u64>| ids.into_iter().map(NodeId).collect();
    Ok(GroupView {
        group,
        leader: NodeId(view.leader),
        term: view.term,
        voters: nodes(view.voters),
        learners: nodes(view.learners),
        changing: view.changing,
        reachable: nodes(view.reachable),
        behind: view
            .behind
            .into_iter()
            .map(|(n, lag)| (NodeId(n), lag))
            .collect(),
    })
}

pub(crate) fn encode_marks(marks: &[Mark]) -> Bytes {
    let mark = |mark: &Mark| pb::DigestMark {
        index: mark.index,
        digest: Bytes::copy_from_slice(&mark.digest.0),
    };
    let message = pb::StatusReply {
        format: FORMAT,
        marks: marks.iter().map(mark).collect(),
        ..pb::StatusReply::default()
    };
    message.encode_to_vec().into()
}

pub(crate) fn decode_marks(body: Bytes) -> Result<Vec<Mark>, String> {
    let message = pb::StatusReply::decode(body).map_err(|e| e.to_string())?;
    if message.format != FORMAT {
        return Err(format!("format {} is not known here", message.format));
    }
    let mark = |mark: pb::DigestMark| {
        let digest = mark.digest[..].try_into().map(Digest);
        digest.map(|digest| Mark {
            index: mark.index,
            digest,
        })
    };
    let marks: Result<_, _> = message.marks.into_iter().map(mark).collect();
    marks.map_err(|_: std::array::TryFromSliceError| "a digest has not 32 bytes".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn marks() -> Vec<Mark> {
        let digest = Digest([0xd1; 32]);
        vec![Mark {
            index: 1024,
            digest,
        }]
    }

    fn view() -> GroupView {
        GroupView {
            group: GroupId::CATALOG,
            leader: NodeId(2),
            term: 7,
            voters: [1, 2, 3].map(NodeId).into(),
            learners: [NodeId(4)].into(),
            changing: true,
            reachable: [NodeId(2), NodeId(3)].into(),
            behind: [(NodeId(3), 5)].into(),
        }
    }

    /// A changed expectation here is a changed protocol.
    #[test]
    fn golden_messages() {
        let asks = [
            Ask::Alive,
            Ask::View,
            Ask::Transfer { to: NodeId(3) },
            Ask::Marks,
        ];
        let mut text = String::new();
        for ask in asks {
            let body = ask.request(GroupId::CATALOG).body;
            assert_eq!(Ask::decode(body.clone()), Ok(ask));
            text += &format!("{}\n", hex::encode(body));
        }
        text += &format!(
            "{}\n{}\n{}\n",
            hex::encode(encode_alive()),
            hex::encode(encode_view(&view())),
            hex::encode(encode_marks(&marks()))
        );
        expect![[r#"
            08011001
            08011002
            080110031803
            08011004
            0801
            08011218080210071a030102032201042801320202033a0408031005
            08011a250880081220d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1d1
        "#]]
        .assert_eq(&text);
        assert_eq!(
            decode_view(GroupId::CATALOG, encode_view(&view())),
            Ok(view())
        );
        assert_eq!(decode_marks(encode_marks(&marks())), Ok(marks()));
        assert_eq!(decode_marks(encode_alive()), Ok(Vec::new()));
    }

    #[test]
    fn what_is_not_a_message_is_refused() {
        assert!(Ask::decode(Bytes::new()).is_err());
        assert!(decode_view(GroupId::CATALOG, encode_alive()).is_err());
    }
}
