//! Counts the calls to other nodes, whoever makes them: consensus, snapshots, shards, membership; and holds
//! them back while this node takes no part.

use async_trait::async_trait;
use bytes::Bytes;
use floeberg_consensus::Standing;
use floeberg_rpc::{CallError, Request, Transport};
use floeberg_telemetry::{CallLabels, RpcMetrics};
use floeberg_types::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// A transport whose calls are counted.
pub(crate) struct Metered {
    pub(crate) way: Arc<dyn Transport>,
    pub(crate) metrics: RpcMetrics,
}

/// A transport that is open while this node takes part.
pub(crate) struct Gated {
    pub(crate) way: Arc<dyn Transport>,
    pub(crate) standing: Standing,
}

#[async_trait]
impl Transport for Gated {
    async fn call(
        &self,
        to: NodeId,
        request: Request,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        if !self.standing.is_cleared() {
            return Err(CallError::not_sent("this node takes no part at the moment"));
        }
        self.way.call(to, request, patience).await
    }
}

const fn outcome(answer: &Result<Bytes, CallError>) -> &'static str {
    match answer {
        Ok(_) => "answered",
        Err(CallError::Refused(_)) => "refused",
        Err(CallError::NotSent { .. }) => "not-sent",
        Err(CallError::Lost { .. }) => "lost",
    }
}

#[async_trait]
impl Transport for Metered {
    async fn call(
        &self,
        to: NodeId,
        request: Request,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        let (begun, method, bytes) = (Instant::now(), request.method.name(), request.body.len());
        let answer = self.way.call(to, request, patience).await;
        let outcome = outcome(&answer);
        let labels = CallLabels { method, outcome };
        self.metrics
            .record(labels, bytes, begun.elapsed().as_secs_f64());
        answer
    }
}
