//! A snapshot that is being received.
//!
//! Files are staged under names made of their content, so a transfer that starts again, even of a
//! newer copy, continues with what is there. Nothing of it is visible to the state machine before
//! every file has its checksum and is durable.

use super::SnapshotData;
use super::files::{self, FileInfo};
use super::send::crc32c;
use super::staging::Staging;
use crate::machine::Applied;
use crate::raft::{Raft, Vote};
use crate::wire::{self, Formatted, WireError};
use crate::{apply, codec};
use bytes::Bytes;
use floeberg_env::{OpenMode, Tasks};
use floeberg_proto::floeberg::rpc::v1 as pb;
use prost::Message;
use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use tokio::sync::Mutex;

/// Why a call about a snapshot was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReceiveError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("no such transfer here: offer the snapshot again")]
    UnknownTransfer,
    #[error("{0}: offer the snapshot again")]
    OutOfStep(&'static str),
    #[error("the group has stopped")]
    Stopped,
    #[error("the snapshot cannot be staged: {0}")]
    Disk(#[from] io::Error),
}

/// The offer being received.
struct Transfer {
    id: Bytes,
    applied: Applied,
    files: Vec<FileInfo>,
    held: Vec<u64>,
}

/// The receiving side of a group.
pub(crate) struct Incoming {
    staging: Staging,
    tasks: Tasks,
    transfer: Mutex<Option<Transfer>>,
}

fn file_info(file: pb::SnapshotFile) -> Option<FileInfo> {
    let blake3 = <[u8; 32]>::try_from(&file.blake3[..]).ok()?;
    Some(FileInfo {
        name: file.name,
        bytes: file.bytes,
        blake3,
    })
}

fn read_offer(request: pb::SnapshotBeginRequest) -> Result<Transfer, WireError> {
    let what = pb::SnapshotBeginRequest::WHAT;
    let last = request.last.as_ref().map(codec::log_id_from_pb);
    let files: Option<Vec<_>> = request.files.into_iter().map(file_info).collect();
    let files = files.filter(|files| files::names_are_sound(files));
    let files = files.ok_or(WireError::Nonsense {
        what,
        reason: "its files have no sound names or checksums",
    })?;
    let applied = Applied {
        last: last.as_ref().map(codec::entry_id),
        membership: request.membership.map(|m| m.encode_to_vec().into()),
    };
    Ok(Transfer {
        id: request.transfer,
        applied,
        held: vec![0; files.len()],
        files,
    })
}

/// What is staged of each file; the rest of the directory goes. Blocks on the disk.
fn take_stock(staging: &Staging, files: &[FileInfo]) -> io::Result<Vec<u64>> {
    let dir = staging.incoming();
    staging.disk.create_dir_all(&dir)?;
    let wanted: BTreeSet<String> = files.iter().map(FileInfo::staged_name).collect();
    for name in staging.disk.list(&dir)? {
        if !wanted.contains(&name) {
            staging.disk.remove_file(&dir.join(name))?;
        }
    }
    let mut held = Vec::new();
    for file in files {
        let path = dir.join(file.staged_name());
        // An empty file is complete once it exists.
        let staged = staging.disk.open(&path, OpenMode::Create)?;
        if staged.len()? > file.bytes {
            staged.set_len(0)?;
        }
        held.push(staged.len()?);
    }
    Ok(held)
}

/// Verifies every file, makes it durable and moves it to where the state machine takes it from.
/// Blocks on the disk.
fn complete(staging: &Staging, files: &[FileInfo]) -> Result<PathBuf, ReceiveError> {
    let (dir, ready) = (staging.incoming(), staging.ready());
    staging.remove(&ready)?;
    for info in files {
        let path = dir.join(info.staged_name());
        let file = staging.disk.open(&path, OpenMode::ReadWrite)?;
        if files::measure(&*file)? != (info.bytes, info.blake3) {
            // Nothing of it can be trusted: it is sent again.
            staging.disk.remove_file(&path)?;
            return Err(ReceiveError::OutOfStep("a file has another checksum"));
        }
        file.sync_data()?;
    }
    staging.disk.create_dir_all(&ready)?;
    for info in files {
        let path = dir.join(info.staged_name());
        staging.disk.rename(&path, &ready.join(&info.name))?;
    }
    staging.disk.sync_dir(&ready)?;
    staging.remove(&dir)?;
    staging.sync()?;
    Ok(ready)
}

impl Incoming {
    pub(crate) fn new(staging: Staging, tasks: Tasks) -> Self {
        Self {
            staging,
            tasks,
            transfer: Mutex::default(),
        }
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Staging) -> T + Send + 'static,
    ) -> Result<T, ReceiveError> {
        let staging = self.staging.clone();
        let work = move || work(&staging);
        let done = self.tasks.spawn_blocking("snapshot-receive", work).await;
        Ok(done.map_err(io::Error::other)?)
    }

    /// The vote of the group if it is higher than that of the sender.
    async fn higher_vote(raft: &Raft, vote: Vote) -> Result<Option<Vote>, ReceiveError> {
        let own = raft.with_raft_state(|state| *state.vote_ref()).await;
        let own = own.map_err(|_| ReceiveError::Stopped)?;
        Ok((own > vote).then_some(own))
    }

    /// Takes an offer, and says what is here of it already.
    pub(crate) async fn begin(&self, raft: &Raft, body: Bytes) -> Result<Bytes, ReceiveError> {
        use pb::snapshot_begin_response::Answer;
        let request: pb::SnapshotBeginRequest = wire::read(body)?;
        let vote = wire::vote(pb::SnapshotBeginRequest::WHAT, request.vote.as_ref())?;
        let mut offered = read_offer(request)?;
        let last = offered.applied.last.map(|id| codec::log_id(&id));
        // The library would panic.
        if last.is_some_and(|last| last.leader_id > vote.leader_id) {
            let what = pb::SnapshotBeginRequest::WHAT;
            let reason = "it is newer than its sender's term";
            return Err(WireError::Nonsense { what, reason }.into());
        }
        let applied = raft.with_raft_state(|state| state.local_committed().copied());
        let applied = applied.await.map_err(|_| ReceiveError::Stopped)?;
        let answer = match Self::higher_vote(raft, vote).await? {
            Some(own) => Answer::HigherVote(codec::vote_to_pb(&own)),
            None if last <= applied => Answer::NotNeeded(pb::SnapshotNotNeeded {}),
            None => {
                let mut transfer = self.transfer.lock().await;
                let files = offered.files.clone();
                let held = self.blocking(move |staging| take_stock(staging, &files));
                offered.held = held.await??;
                let bytes = offered.held.clone();
                *transfer = Some(offered);
                Answer::Held(pb::SnapshotHeld { bytes })
            }
        };
        Ok(wire::write(&pb::SnapshotBeginResponse {
            format: wire::FORMAT,
            answer: Some(answer),
        }))
    }

    /// Stages a piece.
    pub(crate) async fn chunk(&self, body: Bytes) -> Result<Bytes, ReceiveError> {
        let request: pb::SnapshotChunkRequest = wire::read(body)?;
        let mut transfer = self.transfer.lock().await;
        let transfer = transfer.as_mut().filter(|t| t.id == request.transfer);
        let transfer = transfer.ok_or(ReceiveError::UnknownTransfer)?;
        let number = usize::try_from(request.file).unwrap_or(usize::MAX);
        let (Some(file), Some(held)) = (transfer.files.get(number), transfer.held.get_mut(number))
        else {
            return Err(ReceiveError::OutOfStep("the snapshot has no such file"));
        };
        let end = request.offset.saturating_add(request.data.len() as u64);
        if request.offset != *held || end > file.bytes {
            return Err(ReceiveError::OutOfStep("the piece is not the next one"));
        }
        if crc32c(&request.data) != request.crc32c {
            return Err(ReceiveError::OutOfStep("the piece was damaged on its way"));
        }
        let path = self.staging.incoming().join(file.staged_name());
        let writing = self.blocking(move |staging| {
            let file = staging.disk.open(&path, OpenMode::Create)?;
            file.write_at(&request.data, request.offset)
        });
        writing.await??;
        *held = end;
        Ok(wire::write(&pb::SnapshotChunkResponse {
            format: wire::FORMAT,
        }))
    }

    /// Lets the snapshot take the place of the state.
    pub(crate) async fn install(&self, raft: &Raft, body: Bytes) -> Result<Bytes, ReceiveError> {
        let request: pb::SnapshotInstallRequest = wire::read(body)?;
        let what = pb::SnapshotInstallRequest::WHAT;
        let vote = wire::vote(what, request.vote.as_ref())?;
        let mut transfer = self.transfer.lock().await;
        if transfer.as_ref().is_none_or(|t| t.id != request.transfer) {
            return Err(ReceiveError::UnknownTransfer);
        }
        // Whatever comes of it, this transfer is over.
        let Some(Transfer { applied, files, .. }) = transfer.take() else {
            return Err(ReceiveError::UnknownTransfer);
        };
        let ready = self.blocking(move |staging| complete(staging, &files));
        let dir = ready.await??;
        let received = SnapshotData::Received {
            dir,
            applied: applied.clone(),
        };
        let snapshot = apply::snapshot_of(&applied, received)?;
        let installed = raft.install_full_snapshot(vote, snapshot).await;
        let installed = installed.map_err(|_| ReceiveError::Stopped)?;
        // It has been taken, or is not needed.
        self.blocking(|staging| staging.remove(&staging.ready()))
            .await??;
        Ok(wire::write(&pb::SnapshotInstallResponse {
            format: wire::FORMAT,
            vote: Some(codec::vote_to_pb(&installed.vote)),
        }))
    }
}
