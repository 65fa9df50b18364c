//! The operations of this protocol, and which method and path name them.

use crate::backup::Ask;
use floeberg_http::{NotRouted, Routed};
use http::Method;

/// Answered to anybody.
#[derive(Clone, Copy, Debug)]
pub enum Public {
    Landing,
    Health,
    Ready,
    ReadsReady,
    Metrics,
}

/// Answered to verified principals.
#[derive(Clone, Debug)]
pub enum Protected {
    Status,
    Cluster,
    Token,
    Remove { node: String },
    Replace { node: String },
    TransferLeader,
    RotateAuthority,
    Backup(Ask),
}

pub(crate) fn route(
    method: &Method,
    segments: &[&str],
) -> Result<Routed<Public, Protected>, NotRouted> {
    use Routed::{Protected as P, Public as O};
    let member = |node: &&str| (*node).to_owned();
    let (found, writes) = match segments {
        [""] => (O(Public::Landing, "landing"), false),
        ["healthz"] => (O(Public::Health, "healthz"), false),
        ["readyz"] => (O(Public::Ready, "readyz"), false),
        ["readyz", "reads"] => (O(Public::ReadsReady, "readyz-reads"), false),
        ["metrics"] => (O(Public::Metrics, "metrics"), false),
        ["admin", "v1", "status"] => (P(Protected::Status, "status"), false),
        ["admin", "v1", "cluster"] => (P(Protected::Cluster, "cluster-status"), false),
        ["admin", "v1", "cluster", "token"] => (P(Protected::Token, "cluster-token"), true),
        ["admin", "v1", "cluster", "leader"] => {
            (P(Protected::TransferLeader, "cluster-leader"), true)
        }
        ["admin", "v1", "cluster", "authority"] => {
            (P(Protected::RotateAuthority, "cluster-authority"), true)
        }
        ["admin", "v1", "cluster", "members", node, "remove"] => {
            let node = member(node);
            (P(Protected::Remove { node }, "cluster-remove"), true)
        }
        ["admin", "v1", "cluster", "members", node, "replace"] => {
            let node = member(node);
            (P(Protected::Replace { node }, "cluster-replace"), true)
        }
        ["admin", "v1", "backup"] => (P(Protected::Backup(Ask::Begin), "backup-begin"), true),
        ["admin", "v1", "backup", "pages", backup, group, number] => {
            let [backup, group, number] = [backup, group, number].map(|part| (*part).to_owned());
            let ask = Ask::Page {
                backup,
                group,
                number,
            };
            (P(Protected::Backup(ask), "backup-page"), false)
        }
        ["admin", "v1", "backup", "chunks", chunk, len] => {
            let [chunk, len] = [chunk, len].map(|part| (*part).to_owned());
            (
                P(Protected::Backup(Ask::Chunk { chunk, len }), "backup-chunk"),
                false,
            )
        }
        _ => return Err(NotRouted::Unknown),
    };
    match (writes, method) {
        (true, &Method::POST) | (false, &Method::GET | &Method::HEAD) => Ok(found),
        (true, _) => Err(NotRouted::Method("POST")),
        (false, _) => Err(NotRouted::Method("GET, HEAD")),
    }
}
