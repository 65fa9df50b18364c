//! The operations of this protocol, and which method and path name them.

use crate::backup::Ask;
use floeberg_auth::{Action as _, Effect, action};
use floeberg_http::{BodySize, NotRouted, Route, Routed};
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

/// Every path with what it names and what may be sent to it.
const TABLE: &[(Kind, &str, &str, BodySize)] = &[
    (
        Kind::Public(Public::Landing),
        "landing",
        "/",
        BodySize::Nothing,
    ),
    (
        Kind::Public(Public::Health),
        "healthz",
        "/healthz",
        BodySize::Nothing,
    ),
    (
        Kind::Public(Public::Ready),
        "readyz",
        "/readyz",
        BodySize::Nothing,
    ),
    (
        Kind::Public(Public::ReadsReady),
        "readyz-reads",
        "/readyz/reads",
        BodySize::Nothing,
    ),
    (
        Kind::Public(Public::Metrics),
        "metrics",
        "/metrics",
        BodySize::Nothing,
    ),
    (Kind::Status, "status", "/admin/v1/status", BodySize::Small),
    (
        Kind::Cluster,
        "cluster-status",
        "/admin/v1/cluster",
        BodySize::Small,
    ),
    (
        Kind::Token,
        "cluster-token",
        "/admin/v1/cluster/token",
        BodySize::Small,
    ),
    (
        Kind::TransferLeader,
        "cluster-leader",
        "/admin/v1/cluster/leader",
        BodySize::Small,
    ),
    (
        Kind::RotateAuthority,
        "cluster-authority",
        "/admin/v1/cluster/authority",
        BodySize::Small,
    ),
    (
        Kind::Remove,
        "cluster-remove",
        "/admin/v1/cluster/members/{node}/remove",
        BodySize::Small,
    ),
    (
        Kind::Replace,
        "cluster-replace",
        "/admin/v1/cluster/members/{node}/replace",
        BodySize::Small,
    ),
    (
        Kind::BackupBegin,
        "backup-begin",
        "/admin/v1/backup",
        BodySize::Small,
    ),
    (
        Kind::BackupPage,
        "backup-page",
        "/admin/v1/backup/pages/{backup}/{group}/{number}",
        BodySize::Small,
    ),
    (
        Kind::BackupChunk,
        "backup-chunk",
        "/admin/v1/backup/chunks/{chunk}/{len}",
        BodySize::Small,
    ),
];

/// An operation without what its path says.
#[derive(Clone, Copy)]
enum Kind {
    Public(Public),
    Status,
    Cluster,
    Token,
    TransferLeader,
    RotateAuthority,
    Remove,
    Replace,
    BackupBegin,
    BackupPage,
    BackupChunk,
}

impl Kind {
    /// What it does to the room on the disk.
    fn effect(self) -> Effect {
        match self {
            Self::Public(_) | Self::BackupPage | Self::BackupChunk => Effect::Reads,
            Self::Status | Self::Cluster => action::GetClusterStatus::EFFECT,
            Self::Token => action::CreateJoinToken::EFFECT,
            Self::TransferLeader => action::TransferLeader::EFFECT,
            Self::RotateAuthority => action::RotateAuthority::EFFECT,
            Self::Remove => action::RemoveMember::EFFECT,
            Self::Replace => action::ReplaceMember::EFFECT,
            Self::BackupBegin => action::CreateBackup::EFFECT,
        }
    }

    /// Whether it changes something, which is asked for with another method.
    fn writes(self) -> bool {
        match self {
            Self::Public(_)
            | Self::Status
            | Self::Cluster
            | Self::BackupPage
            | Self::BackupChunk => false,
            Self::Token
            | Self::TransferLeader
            | Self::RotateAuthority
            | Self::Remove
            | Self::Replace
            | Self::BackupBegin => true,
        }
    }

    /// The operation, with the parts of the path that vary, in their order.
    fn protected(self, varying: &[&str]) -> Option<Protected> {
        let part = |i: usize| varying.get(i).map(|part| (*part).to_owned());
        Some(match self {
            Self::Public(_) => return None,
            Self::Status => Protected::Status,
            Self::Cluster => Protected::Cluster,
            Self::Token => Protected::Token,
            Self::TransferLeader => Protected::TransferLeader,
            Self::RotateAuthority => Protected::RotateAuthority,
            Self::Remove => Protected::Remove { node: part(0)? },
            Self::Replace => Protected::Replace { node: part(0)? },
            Self::BackupBegin => Protected::Backup(Ask::Begin),
            Self::BackupPage => Protected::Backup(Ask::Page {
                backup: part(0)?,
                group: part(1)?,
                number: part(2)?,
            }),
            Self::BackupChunk => Protected::Backup(Ask::Chunk {
                chunk: part(0)?,
                len: part(1)?,
            }),
        })
    }
}

/// The parts of decoded segments that vary in a pattern, if they fit it.
fn fit<'a>(pattern: &str, segments: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut varying = Vec::new();
    let mut given = segments.iter();
    for part in pattern.split('/').skip(1) {
        let text = *given.next()?;
        if part.starts_with('{') {
            varying.push(text);
        } else if part != text {
            return None;
        }
    }
    given.next().is_none().then_some(varying)
}

/// Method, path pattern and size of body of everything that is routed, for whoever tries them all.
pub fn routes() -> impl Iterator<Item = (&'static str, &'static str, BodySize)> {
    TABLE.iter().map(|(kind, _, path, body)| {
        let method = if kind.writes() { "POST" } else { "GET" };
        (method, *path, *body)
    })
}

pub(crate) fn route(
    method: &Method,
    segments: &[&str],
) -> Result<Routed<Public, Protected>, NotRouted> {
    let mut fitting = TABLE
        .iter()
        .filter_map(|entry| Some((entry, fit(entry.2, segments)?)));
    let Some(((kind, name, _, body), varying)) = fitting.next() else {
        return Err(NotRouted::Unknown);
    };
    match (kind.writes(), method) {
        (true, &Method::POST) | (false, &Method::GET | &Method::HEAD) => {}
        (true, _) => return Err(NotRouted::Method("POST")),
        (false, _) => return Err(NotRouted::Method("GET, HEAD")),
    }
    let (body, effect) = (*body, kind.effect());
    if let Kind::Public(operation) = *kind {
        return Ok(Routed::Public(Route {
            operation,
            name,
            body,
            effect,
        }));
    }
    let operation = kind.protected(&varying).ok_or(NotRouted::Unknown)?;
    Ok(Routed::Protected(Route {
        operation,
        name,
        body,
        effect,
    }))
}
