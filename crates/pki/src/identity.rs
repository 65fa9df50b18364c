//! Who a certificate says its owner is.

use crate::PkiError;
use crate::certificate::Certificate;
use floeberg_types::{ClusterId, NodeId};

/// The scheme of the URI that names a node.
const SCHEME: &str = "floeberg://";

/// Whom a certificate is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node; ids begin at 1.
    pub node: NodeId,
    /// Its DNS names and IP addresses, for clients that check them.
    pub names: Vec<String>,
}

impl Subject {
    pub(crate) fn uri(&self) -> String {
        format!("{SCHEME}{}/node/{}", self.cluster, self.node)
    }
}

/// The cluster and node that a certificate is for. Says nothing about who signed it.
///
/// # Errors
/// If it is no certificate, or not that of exactly one node.
pub fn peer_identity(certificate: &[u8]) -> Result<(ClusterId, NodeId), PkiError> {
    identity_of(&Certificate::read(certificate)?)
}

pub(crate) fn identity_of(certificate: &Certificate) -> Result<(ClusterId, NodeId), PkiError> {
    let unusable = |reason: &str| PkiError::unusable("the certificate of a node", reason);
    let [uri] = certificate.uris.as_slice() else {
        return Err(unusable(
            "it must hold exactly one URI, which names the node",
        ));
    };
    parse_uri(uri).ok_or_else(|| unusable(&format!("`{uri}` does not name a node")))
}

/// Accepts only what [`Subject::uri`] prints, so that one node has one name.
fn parse_uri(uri: &str) -> Option<(ClusterId, NodeId)> {
    let (cluster, node) = uri.strip_prefix(SCHEME)?.split_once("/node/")?;
    let subject = Subject {
        cluster: cluster.parse().ok()?,
        node: NodeId(node.parse().ok()?),
        names: Vec::new(),
    };
    (subject.uri() == uri && subject.node.0 != 0).then_some((subject.cluster, subject.node))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_printed_form_names_a_node() {
        let subject = Subject {
            cluster: ClusterId::from_bytes([0xab; 16]),
            node: NodeId(7),
            names: Vec::new(),
        };
        let uri = subject.uri();
        assert_eq!(parse_uri(&uri), Some((subject.cluster, subject.node)));
        for wrong in [
            uri.replace("/7", "/0"),
            uri.replace("/7", "/07"),
            uri.replace("/7", "/+7"),
            uri.replace("/7", "/7/"),
            uri.replace("ab", "AB"),
            uri.replace("floeberg", "https"),
            uri.replace("/node/", "/user/"),
        ] {
            assert_eq!(parse_uri(&wrong), None, "{wrong}");
        }
    }
}
