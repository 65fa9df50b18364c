//! Pushes a copy to one node.

use super::files::{FileInfo, read_chunk};
use super::outgoing::{Offer, Outgoing, SnapshotProgress};
use crate::codec;
use crate::raft::Vote;
use crate::wire::{self, Formatted, WireError};
use bytes::Bytes;
use crc_fast::{CrcAlgorithm, checksum};
use floeberg_env::OpenMode;
use floeberg_proto::floeberg::raft::v1 as stored;
use floeberg_proto::floeberg::rpc::v1 as pb;
use floeberg_rpc::{CallError, Method, Request, Transport};
use floeberg_types::{GroupId, NodeId};
use prost::Message;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long one piece may take.
const CHUNK_PATIENCE: Duration = Duration::from_secs(30);
/// How long the receiver may take to verify everything and swap it in.
const INSTALL_PATIENCE: Duration = Duration::from_secs(600);

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("this node's copy of its state: {0}")]
    Copy(#[from] io::Error),
}

/// The CRC-32C of a piece.
pub(crate) fn crc32c(data: &[u8]) -> u32 {
    u32::try_from(checksum(CrcAlgorithm::Crc32Iscsi, data)).expect("the checksum has 32 bits")
}

/// One transfer.
pub(crate) struct Push<'a> {
    pub(crate) group: GroupId,
    pub(crate) to: NodeId,
    pub(crate) transport: &'a Arc<dyn Transport>,
    pub(crate) outgoing: &'a Outgoing,
    pub(crate) vote: Vote,
    pub(crate) offer: &'a Arc<Offer>,
}

impl Push<'_> {
    /// Sends what the receiver lacks and lets it install; returns what it has promised now.
    pub(crate) async fn run(&self) -> Result<Vote, SendError> {
        use pb::snapshot_begin_response::Answer;
        let begun: pb::SnapshotBeginResponse = self
            .call(Method::SnapshotBegin, &self.begin()?, CHUNK_PATIENCE)
            .await?;
        let what = pb::SnapshotBeginResponse::WHAT;
        let held = match begun.answer {
            Some(Answer::Held(held)) if held.bytes.len() == self.offer.files.len() => held.bytes,
            Some(Answer::HigherVote(vote)) => return Ok(wire::vote(what, Some(&vote))?),
            Some(Answer::NotNeeded(_)) => return Ok(self.vote),
            Some(Answer::Held(_)) | None => {
                let field = "length for every file";
                return Err(WireError::Missing { what, field }.into());
            }
        };
        self.send_rest(&held).await?;
        let install = pb::SnapshotInstallRequest {
            format: wire::FORMAT,
            vote: Some(codec::vote_to_pb(&self.vote)),
            transfer: self.id(),
        };
        let installed: pb::SnapshotInstallResponse = self
            .call(Method::SnapshotInstall, &install, INSTALL_PATIENCE)
            .await?;
        let what = pb::SnapshotInstallResponse::WHAT;
        Ok(wire::vote(what, installed.vote.as_ref())?)
    }

    fn id(&self) -> Bytes {
        Bytes::copy_from_slice(&self.offer.id)
    }

    fn begin(&self) -> Result<pb::SnapshotBeginRequest, WireError> {
        let files = self.offer.files.iter().map(|file| pb::SnapshotFile {
            name: file.name.clone(),
            bytes: file.bytes,
            blake3: Bytes::copy_from_slice(&file.blake3),
        });
        let applied = &self.offer.applied;
        let membership = applied.membership.clone();
        let membership = membership.map(stored::StoredMembership::decode).transpose();
        let membership = membership.map_err(|source| WireError::Malformed {
            what: "membership of the copy",
            source,
        })?;
        Ok(pb::SnapshotBeginRequest {
            format: wire::FORMAT,
            vote: Some(codec::vote_to_pb(&self.vote)),
            transfer: self.id(),
            last: wire::log_id_out(applied.last.as_ref().map(codec::log_id).as_ref()),
            membership,
            files: files.collect(),
        })
    }

    async fn send_rest(&self, held: &[u64]) -> Result<(), SendError> {
        let total = self.offer.files.iter().map(|file| file.bytes).sum();
        let mut sent = held.iter().sum();
        self.outgoing
            .report(self.to, Some(SnapshotProgress { sent, total }));
        for (number, (file, held)) in self.offer.files.iter().zip(held).enumerate() {
            let mut offset = *held;
            while offset < file.bytes {
                let data = self.read(file, offset).await?;
                let length = data.len() as u64;
                self.outgoing.pace(length).await;
                let chunk = pb::SnapshotChunkRequest {
                    format: wire::FORMAT,
                    transfer: self.id(),
                    file: u32::try_from(number).expect("a copy has few files"),
                    offset,
                    crc32c: crc32c(&data),
                    data,
                };
                let _: pb::SnapshotChunkResponse = self
                    .call(Method::SnapshotChunk, &chunk, CHUNK_PATIENCE)
                    .await?;
                offset += length;
                sent += length;
                self.outgoing
                    .report(self.to, Some(SnapshotProgress { sent, total }));
            }
        }
        Ok(())
    }

    async fn read(&self, file: &FileInfo, offset: u64) -> Result<Bytes, SendError> {
        let path = self.offer.dir.join(&file.name);
        let disk = Arc::clone(&self.outgoing.staging().disk);
        let reading = move || read_chunk(&*disk.open(&path, OpenMode::Read)?, offset);
        let piece = self
            .outgoing
            .tasks()
            .spawn_blocking("snapshot-read", reading)
            .await
            .map_err(io::Error::other)??;
        if piece.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        Ok(piece.into())
    }

    async fn call<R: Formatted>(
        &self,
        method: Method,
        message: &impl Message,
        patience: Duration,
    ) -> Result<R, SendError> {
        let request = Request {
            method,
            group: self.group,
            body: wire::write(message),
        };
        let body = self.transport.call(self.to, request, patience).await?;
        Ok(wire::read(body)?)
    }
}
