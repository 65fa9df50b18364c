//! What every [`Transport`] must do, as a suite that any implementation can run.

mod broken;
mod served;

use crate::{CallError, Handler, Method, Refusal, RefusalCode, Request, Routes, Transport};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_types::{GroupId, NodeId};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};

/// More patience than any call of the suite should need.
pub const LONG: Duration = Duration::from_secs(30);

/// A network of nodes that the suite may start, stop and separate.
#[async_trait]
pub trait Fabric: Send + Sync {
    /// Starts `node`, or starts it again, and tells everyone where it is.
    async fn start(&self, node: NodeId, routes: Routes) -> Arc<dyn Transport>;
    /// Ends `node` at once.
    async fn stop(&self, node: NodeId);
    /// `at` removes `gone` from its address book.
    async fn remove(&self, at: NodeId, gone: NodeId);
}

/// Runs the whole suite.
///
/// # Panics
/// If the transport breaks its contract.
pub async fn transport_suite(fabric: &dyn Fabric) {
    served::answers(fabric).await;
    served::refusals(fabric).await;
    served::late_handlers(fabric).await;
    served::many_at_once(fabric).await;
    served::large_bodies(fabric).await;
    served::order_within_a_lane(fabric).await;
    served::lanes_do_not_wait_for_each_other(fabric).await;
    served::a_busy_callee(fabric).await;
    broken::never_sent(fabric).await;
    broken::lost_answers(fabric).await;
    broken::a_dropped_future(fabric).await;
    broken::a_restarted_peer(fabric).await;
    broken::a_removed_peer(fabric).await;
    broken::unsent_means_unseen(fabric).await;
}

/// A request with `body`, about the catalog.
pub(crate) fn request(method: Method, body: impl Into<Bytes>) -> Request {
    Request {
        method,
        group: GroupId::CATALOG,
        body: body.into(),
    }
}

/// Calls until the call succeeds; every failure before that must be one of a broken network.
///
/// # Panics
/// If the peer refuses, or never answers.
pub async fn until_answered(from: &dyn Transport, to: NodeId, method: Method) -> Bytes {
    for _ in 0..1000 {
        match from.call(to, request(method, "again"), LONG).await {
            Ok(answer) => return answer,
            Err(CallError::NotSent { .. } | CallError::Lost { .. }) => {
                tokio::task::yield_now().await;
            }
            Err(CallError::Refused(refusal)) => panic!("refused: {refusal:?}"),
        }
    }
    panic!("node {to} never answered");
}

/// Answers with the caller, the group and the body it got.
pub(crate) struct Echo;

#[async_trait]
impl Handler for Echo {
    async fn handle(&self, from: NodeId, request: Request) -> Result<Bytes, Refusal> {
        let mut answer = format!("{from}/{}/", request.group).into_bytes();
        answer.extend_from_slice(&request.body);
        Ok(answer.into())
    }
}

/// Refuses or fails as the body says.
pub(crate) struct Obey<F>(pub(crate) F);

#[async_trait]
impl<F> Handler for Obey<F>
where
    F: Fn(Bytes) -> Result<Bytes, Refusal> + Send + Sync + 'static,
{
    async fn handle(&self, _: NodeId, request: Request) -> Result<Bytes, Refusal> {
        (self.0)(request.body)
    }
}

/// Tells that a call has begun, then waits to be let go on.
pub(crate) struct Gate {
    begun: mpsc::UnboundedSender<Bytes>,
    go: Arc<Semaphore>,
    ended: Arc<Mutex<Vec<Bytes>>>,
}

/// The test's hand on a [`Gate`].
pub(crate) struct Keeper {
    pub(crate) begun: mpsc::UnboundedReceiver<Bytes>,
    pub(crate) go: Arc<Semaphore>,
    pub(crate) ended: Arc<Mutex<Vec<Bytes>>>,
}

pub(crate) fn gate() -> (Arc<Gate>, Keeper) {
    let (sender, begun) = mpsc::unbounded_channel();
    let go = Arc::new(Semaphore::new(0));
    let ended = Arc::new(Mutex::new(Vec::new()));
    let gate = Gate {
        begun: sender,
        go: go.clone(),
        ended: ended.clone(),
    };
    (Arc::new(gate), Keeper { begun, go, ended })
}

#[async_trait]
impl Handler for Gate {
    async fn handle(&self, _: NodeId, request: Request) -> Result<Bytes, Refusal> {
        // The keeper may have seen enough.
        let _ = self.begun.send(request.body.clone());
        let permit = self.go.acquire().await.expect("gates are never closed");
        permit.forget();
        self.ended.lock().push(request.body.clone());
        Ok(request.body)
    }
}

pub(crate) fn code_of(result: Result<Bytes, CallError>) -> Option<RefusalCode> {
    match result {
        Err(CallError::Refused(refusal)) => Some(refusal.code),
        _ => None,
    }
}
