//! What a backup is made of: rows page by page, and chunks.

use crate::{AdminState, Failure, Handled};
use axum::body::Body;
use floeberg_auth::{Principal, action};
use floeberg_backup::{Source, SourceError};
use floeberg_http::{json, with_header};
use floeberg_types::{ChunkId, GroupId};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Response, StatusCode};
use std::sync::Arc;

/// What is asked for.
#[derive(Clone, Debug)]
pub enum Ask {
    Begin,
    Page {
        backup: String,
        group: String,
        number: String,
    },
    Chunk {
        chunk: String,
        len: String,
    },
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        let (status, kind) = match &error {
            SourceError::Unknown => (StatusCode::NOT_FOUND, "NoSuchBackupException"),
            SourceError::OutOfOrder { .. } => (StatusCode::CONFLICT, "PageOrderException"),
            SourceError::Chunk { .. } => (StatusCode::NOT_FOUND, "ChunkUnreadableException"),
            SourceError::Unavailable(_) => {
                let status = StatusCode::SERVICE_UNAVAILABLE;
                (status, "ServiceUnavailableException")
            }
            SourceError::Remote(_) | SourceError::Failed(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "InternalServerError")
            }
        };
        Self {
            status,
            kind,
            message: error.to_string(),
        }
    }
}

fn malformed(what: &str) -> Failure {
    Failure {
        status: StatusCode::BAD_REQUEST,
        kind: "BadRequestException",
        message: format!("the {what} cannot be read"),
    }
}

fn bytes(body: bytes::Bytes) -> Response<Body> {
    let answer = with_header(
        Response::new(Body::from(body)),
        CONTENT_TYPE,
        "application/octet-stream",
    );
    with_header(answer, CACHE_CONTROL, "no-store")
}

impl AdminState {
    /// Everything below `/admin/v1/backup`.
    pub(crate) async fn back_up(&self, ask: Ask, principal: &Principal) -> Handled {
        self.allow::<action::CreateBackup>(principal)?;
        let source: &Arc<dyn Source> = &self.backups;
        match ask {
            Ask::Begin => Ok(json(StatusCode::OK, &source.begin().await?)),
            Ask::Page {
                backup,
                group,
                number,
            } => {
                let group = group.parse().map(GroupId);
                let group = group.map_err(|_| malformed("number of the group"))?;
                let number = number.parse();
                let number = number.map_err(|_| malformed("number of the page"))?;
                Ok(bytes(source.page(&backup, group, number).await?))
            }
            Ask::Chunk { chunk, len } => {
                let id = hex::decode(chunk).ok();
                let chunk = id.and_then(|id| ChunkId::from_slice(&id));
                let chunk = chunk.ok_or_else(|| malformed("id of the chunk"))?;
                let len = len.parse().map_err(|_| malformed("length of the chunk"))?;
                Ok(bytes(source.chunk(chunk, len).await?))
            }
        }
    }
}
