//! The calls of other nodes: joining, and asking for the address book.

use crate::error::ChangeError;
use crate::members::Members;
use crate::model::FeatureLevels;
use crate::ports::MemberSecrets;
use crate::rows;
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{Handler, Method, Refusal, RefusalCode, Request};
use floeberg_types::{ClusterId, NodeId};
use prost::Message as _;
use std::collections::BTreeMap;

/// Layout of the messages.
const FORMAT: u32 = 1;

/// What a node says that wants to join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinRequest {
    /// As it was printed.
    pub token: String,
    /// PKCS #10, DER. Kept by the node until it has its answer: the same request gets the same id.
    pub certificate_request: Bytes,
    /// Host and port where the others will reach it.
    pub address: String,
    /// What fails together with it.
    pub labels: BTreeMap<String, String>,
    /// What its binary can work at.
    pub features: FeatureLevels,
    /// The version of its binary.
    pub version: String,
    /// The account that it is set to; empty: not said.
    pub account: String,
    /// The region that it is set to; empty: not said.
    pub region: String,
}

/// What it gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinReply {
    /// Its id.
    pub node: NodeId,
    /// The cluster.
    pub cluster: ClusterId,
    /// Its certificates, DER, its own first.
    pub chain: Vec<Bytes>,
    /// Certificates that peers are checked against, PEM.
    pub authorities: String,
    /// Where the other members are.
    pub peers: Vec<(NodeId, String)>,
    /// What it keeps to itself.
    pub secrets: MemberSecrets,
}

/// An answer that is not a [`JoinReply`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer to the join request cannot be read: {reason}; is the member's floeberg newer?")]
pub struct UnreadableReply {
    /// What is wrong with it.
    pub reason: String,
}

impl JoinRequest {
    /// The body of the call.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let message = pb::JoinRequest {
            format: FORMAT,
            token: self.token.clone(),
            certificate_request: self.certificate_request.clone(),
            address: self.address.clone(),
            labels: self.labels.clone(),
            features: Some(rows::features_to_row(self.features)),
            version: self.version.clone(),
            account: self.account.clone(),
            region: self.region.clone(),
        };
        message.encode_to_vec().into()
    }

    fn decode(body: Bytes) -> Result<Self, String> {
        let message = pb::JoinRequest::decode(body).map_err(|e| e.to_string())?;
        if message.format != FORMAT {
            return Err(format!("format {} is not known here", message.format));
        }
        Ok(Self {
            token: message.token,
            certificate_request: message.certificate_request,
            address: message.address,
            labels: message.labels,
            features: rows::features_from_row(message.features),
            version: message.version,
            account: message.account,
            region: message.region,
        })
    }
}

impl JoinReply {
    fn encode(&self) -> Bytes {
        let message = pb::JoinReply {
            format: FORMAT,
            node_id: self.node.0,
            cluster_id: Bytes::copy_from_slice(self.cluster.as_bytes()),
            certificate_chain: self.chain.clone(),
            authorities: self.authorities.clone(),
            peers: self
                .peers
                .iter()
                .map(|(node, address)| pb::Peer {
                    node_id: node.0,
                    address: address.clone(),
                })
                .collect(),
            secrets: Some(pb::MemberSecrets {
                authority: self.secrets.authority.clone(),
                join_key: Bytes::copy_from_slice(&self.secrets.join_key),
            }),
        };
        message.encode_to_vec().into()
    }

    /// Reads the answer of the call.
    ///
    /// # Errors
    /// It is something else.
    pub fn decode(body: Bytes) -> Result<Self, UnreadableReply> {
        let unreadable = |reason: String| UnreadableReply { reason };
        let message = pb::JoinReply::decode(body).map_err(|e| unreadable(e.to_string()))?;
        if message.format != FORMAT {
            return Err(unreadable(format!("format {}", message.format)));
        }
        let cluster = ClusterId::from_slice(&message.cluster_id);
        if message.node_id == 0 {
            return Err(unreadable("node id 0".to_owned()));
        }
        let secrets = message.secrets.unwrap_or_default();
        Ok(Self {
            node: NodeId(message.node_id),
            cluster: cluster.ok_or_else(|| unreadable("bad cluster id".to_owned()))?,
            chain: message.certificate_chain,
            authorities: message.authorities,
            peers: message
                .peers
                .into_iter()
                .map(|peer| (NodeId(peer.node_id), peer.address))
                .collect(),
            secrets: MemberSecrets {
                join_key: (&secrets.join_key[..])
                    .try_into()
                    .map_err(|_| unreadable("bad join key".to_owned()))?,
                authority: secrets.authority,
            },
        })
    }
}

/// Answers [`Method::Join`], the one call that a stranger may make.
pub struct JoinDesk(pub Members);

fn refusal(error: &ChangeError) -> Refusal {
    let code = match error {
        ChangeError::Token(_) => RefusalCode::Unauthorised,
        ChangeError::Refused(_) | ChangeError::Uncertifiable(_) | ChangeError::TooLarge(_) => {
            RefusalCode::Malformed
        }
        ChangeError::Unavailable | ChangeError::Crowded(_) | ChangeError::Groups(_) => {
            RefusalCode::NotServing
        }
        ChangeError::Indefinite | ChangeError::Storage(_) | ChangeError::Damaged(_) => {
            RefusalCode::Failed
        }
    };
    Refusal {
        code,
        message: error.to_string(),
    }
}

fn unexpected(request: &Request) -> Refusal {
    Refusal {
        code: RefusalCode::UnknownMethod,
        message: format!("{:?} is not answered here", request.method),
    }
}

#[async_trait]
impl Handler for JoinDesk {
    async fn handle(&self, _stranger: NodeId, request: Request) -> Result<Bytes, Refusal> {
        if request.method != Method::Join {
            return Err(unexpected(&request));
        }
        let asked = JoinRequest::decode(request.body).map_err(|message| Refusal {
            code: RefusalCode::Malformed,
            message,
        })?;
        let reply = self.0.join(&asked).await;
        reply.map(|reply| reply.encode()).map_err(|e| refusal(&e))
    }
}

/// Answers [`Method::Members`] with the rows as applied here.
pub struct AddressDesk(pub Members);

#[async_trait]
impl Handler for AddressDesk {
    async fn handle(&self, _from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        if request.method != Method::Members {
            return Err(unexpected(&request));
        }
        let message = pb::MembersReply {
            format: FORMAT,
            members: self.0.local_rows().map_err(|e| refusal(&e))?,
            feature_level: self.0.local_level().map_err(|e| refusal(&e))?,
        };
        Ok(message.encode_to_vec().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    fn request() -> JoinRequest {
        JoinRequest {
            token: "t".to_owned(),
            certificate_request: Bytes::from_static(b"csr"),
            address: "n4:7000".to_owned(),
            labels: [("zone".to_owned(), "z".to_owned())].into(),
            features: FeatureLevels { low: 1, high: 2 },
            version: "0.1.0".to_owned(),
            account: String::new(),
            region: String::new(),
        }
    }

    fn reply() -> JoinReply {
        JoinReply {
            node: NodeId(4),
            cluster: ClusterId::from_bytes([0xc1; 16]),
            chain: vec![Bytes::from_static(b"cert"), Bytes::from_static(b"ca")],
            authorities: "ca".to_owned(),
            peers: vec![(NodeId(1), "n1:7000".to_owned())],
            secrets: MemberSecrets {
                authority: "key".to_owned(),
                join_key: [0x3e; 32],
            },
        }
    }

    /// A changed expectation here is a changed protocol: a node of this version must be able to
    /// join a cluster of another.
    #[test]
    fn golden_messages() {
        let text = format!(
            "{}\n{}\n",
            hex::encode(request().encode()),
            hex::encode(reply().encode())
        );
        expect![[r#"
            08011201741a0363737222076e343a373030302a090a047a6f6e6512017a3204080110023a05302e312e30
            080110041a10c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1220463657274220263612a026361320b080112076e313a373030303a270a036b657912203e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e3e
        "#]].assert_eq(&text);
        assert_eq!(JoinRequest::decode(request().encode()).unwrap(), request());
        assert_eq!(JoinReply::decode(reply().encode()).unwrap(), reply());
    }

    #[test]
    fn other_formats_and_missing_ids_are_refused() {
        let mut body = request().encode().to_vec();
        body[1] = 2;
        assert!(JoinRequest::decode(body.into()).is_err());
        assert!(JoinReply::decode(Bytes::new()).is_err());
        let nobody = JoinReply {
            node: NodeId(0),
            ..reply()
        };
        assert!(JoinReply::decode(nobody.encode()).is_err());
    }
}
