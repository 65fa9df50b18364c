//! The one call of a node that is not a member yet. It comes in without a certificate, reaches
//! [`Method::Join`] and nothing else, and is answered as the call of a [`STRANGER`].

use crate::codec::FrameCodec;
use crate::dial;
use crate::wire::{self, Frame, Kind};
use crate::{CallError, Lane, Method, Request, Settings};
use bytes::Bytes;
use floeberg_types::GroupId;
use std::sync::Arc;
use std::time::Duration;
use tokio_rustls::rustls::ClientConfig;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;

#[cfg(doc)]
use crate::STRANGER;

pub(crate) const JOIN: &str = "/floeberg.rpc.v1.Door/Join";

/// A stranger's request needs no more; a larger one is not read.
pub(crate) const MAX_KNOCK: usize = 64 * 1024;

/// How a stranger knows the cluster.
#[derive(Clone, Debug)]
pub enum Doorway {
    /// By TLS that believes the authority of a join token and nobody else
    /// (`floeberg_pki::join_config`).
    Pinned(Arc<ClientConfig>),
    /// Not at all. Works on loopback addresses only.
    PlainLoopback,
}

/// Asks the node at `address` with the body of [`Method::Join`], and waits at most `patience`.
///
/// # Errors
/// See [`CallError`].
pub async fn knock(
    address: &str,
    doorway: Doorway,
    body: Bytes,
    patience: Duration,
) -> Result<Bytes, CallError> {
    let deadline = tokio::time::Instant::now() + patience;
    let settings = Settings::default();
    let connect = async {
        let link = match doorway {
            Doorway::Pinned(config) => dial::secured(address, config, settings).await?.0,
            Doorway::PlainLoopback => dial::plain(address, settings).await?,
        };
        let cut = link.about().cut.clone().drop_guard();
        let channel = dial::channel(link, Lane::Votes, settings).await?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(wire::MAX_FRAME);
        grpc.ready()
            .await
            .map_err(|e| CallError::not_sent(format!("the connection failed: {e}")))?;
        Ok::<_, CallError>((grpc, cut))
    };
    let (mut grpc, _cut) = tokio::time::timeout_at(deadline, connect)
        .await
        .map_err(|_| CallError::not_sent(format!("no connection to {address} in time")))??;
    let request = Request {
        method: Method::Join,
        group: GroupId::CATALOG,
        body,
    };
    let request = tonic::Request::new(wire::call(0, request));
    let asked = grpc.unary(request, PathAndQuery::from_static(JOIN), FrameCodec);
    let answer: Frame = match tokio::time::timeout_at(deadline, asked).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => {
            let reason = format!("{address} failed: {}", status.message());
            return Err(CallError::lost(reason));
        }
        Err(_) => return Err(crate::memory::late(patience)),
    };
    match answer.kind {
        Some(Kind::Answer(answer)) => wire::read_answer(answer).1,
        _ => Err(CallError::lost(format!("{address} did not answer"))),
    }
}
