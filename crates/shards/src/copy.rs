//! One copy of a chunk on its way to one node.

use crate::error::CopyError;
use crate::local::LocalWrite;
use crate::remote::Remote;
use crate::wire::{Fault, Piece, WriteHead};
use floeberg_types::NodeId;
use floeberg_volume::Volume;
use tokio::sync::{mpsc, oneshot};

/// Where the pieces of a copy go.
pub(crate) enum Destination {
    Local {
        volume: Volume,
        head: WriteHead,
        write: Option<Box<LocalWrite>>,
    },
    Remote {
        remote: Remote,
        to: NodeId,
        head: WriteHead,
    },
}

impl Destination {
    pub(crate) fn local(volume: Volume, head: WriteHead) -> Self {
        Self::Local {
            volume,
            head,
            write: None,
        }
    }

    /// Stores the next piece; after the one with an end the copy is durable.
    pub(crate) async fn write(&mut self, piece: &Piece) -> Result<(), CopyError> {
        match self {
            Self::Local {
                volume,
                head,
                write,
            } => {
                let mut open = match write.take() {
                    Some(open) => open,
                    None if piece.sequence == 0 => {
                        let (chunk, announced) = (head.shard.chunk, head.announced);
                        Box::new(LocalWrite::begin(volume.clone(), chunk, announced).await?)
                    }
                    None => return Err(Fault::NoSuchWrite.into()),
                };
                open.append(piece).await?;
                match piece.end {
                    Some(end) => open.finish(end).await?,
                    None => *write = Some(open),
                }
                Ok(())
            }
            Self::Remote { remote, to, head } => {
                let durable = remote.write(*to, head, piece).await?;
                if durable == piece.end.is_some() {
                    Ok(())
                } else {
                    Err(CopyError::failed("it answered out of turn"))
                }
            }
        }
    }

    /// Drops what was written so far.
    pub(crate) async fn abandon(self) {
        if let Self::Remote { remote, to, head } = self {
            remote.abandon(to, &head).await;
        }
    }
}

/// Stores the pieces of `queue`. A queue that ends without an end, or a word from `stop`, gives the
/// copy up and frees its pieces at once.
pub(crate) async fn run(
    mut destination: Destination,
    queue: mpsc::Receiver<Piece>,
    stop: oneshot::Receiver<()>,
) -> Result<(), CopyError> {
    let stopped = async {
        if stop.await.is_err() {
            // Nobody is left who could stop it.
            std::future::pending::<()>().await;
        }
    };
    let outcome = tokio::select! {
        outcome = store(&mut destination, queue) => outcome,
        () = stopped => Err(CopyError::GivenUp),
    };
    if outcome == Err(CopyError::GivenUp) {
        destination.abandon().await;
    }
    outcome
}

async fn store(
    destination: &mut Destination,
    mut queue: mpsc::Receiver<Piece>,
) -> Result<(), CopyError> {
    while let Some(piece) = queue.recv().await {
        destination.write(&piece).await?;
        if piece.end.is_some() {
            return Ok(());
        }
    }
    Err(CopyError::GivenUp)
}
