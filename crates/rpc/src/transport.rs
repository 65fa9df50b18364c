//! The real transport: one stream per peer and lane, opened on demand.

use crate::driver::Driver;
use crate::line::Line;
use crate::wire::{self, MAX_BODY};
use crate::{CallError, Lane, Request, Station, Transport, memory};
use async_trait::async_trait;
use bytes::Bytes;
use floeberg_types::NodeId;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Calls peers over the network. Streams end when it is dropped or stopped.
pub struct NetTransport {
    station: Arc<Station>,
    lines: Mutex<BTreeMap<(NodeId, Lane), Route>>,
    stop: CancellationToken,
    drivers: TaskTracker,
}

/// A line and the address book's word that it still leads somewhere.
#[derive(Clone)]
struct Route {
    line: Arc<Line>,
    stale: CancellationToken,
}

impl NetTransport {
    /// A transport of `station` that has no stream yet.
    #[must_use]
    pub fn new(station: Station) -> Self {
        Self {
            station: Arc::new(station),
            lines: Mutex::new(BTreeMap::new()),
            stop: CancellationToken::new(),
            drivers: TaskTracker::new(),
        }
    }

    /// Closes every stream and waits until that is done. Calls on their way are lost, later ones
    /// are not sent.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.drivers.close();
        self.drivers.wait().await;
    }

    fn line(&self, to: NodeId, lane: Lane) -> Result<Arc<Line>, CallError> {
        let mut lines = self.lines.lock();
        // Under the lock: `stop` cancels first, so a line made here is closed by its driver.
        if self.stop.is_cancelled() {
            return Err(CallError::not_sent("this node stops"));
        }
        if let Some(route) = lines.get(&(to, lane))
            && !route.stale.is_cancelled()
        {
            return Ok(route.line.clone());
        }
        let Some(way) = self.station.peers.way(to) else {
            lines.remove(&(to, lane));
            return Err(CallError::not_sent(memory::unknown(to)));
        };
        let line = Arc::new(Line::new(self.station.settings));
        let driver = Driver {
            station: self.station.clone(),
            to,
            address: way.address,
            lane,
            line: line.clone(),
            stale: way.stale.clone(),
            stop: self.stop.clone(),
        };
        let task = self.drivers.track_future(driver.drive());
        self.station.tasks(lane.crew()).spawn("rpc.stream", task);
        let route = Route {
            line: line.clone(),
            stale: way.stale,
        };
        lines.insert((to, lane), route);
        Ok(line)
    }
}

#[async_trait]
impl Transport for NetTransport {
    async fn call(
        &self,
        to: NodeId,
        request: Request,
        patience: Duration,
    ) -> Result<Bytes, CallError> {
        if request.body.len() > MAX_BODY {
            return Err(CallError::not_sent(wire::too_large(request.body.len())));
        }
        let line = self.line(to, request.method.lane())?;
        let mut ticket = line.ask(request)?;
        match tokio::time::timeout(patience, &mut ticket.answer).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(CallError::lost("the answer went missing")),
            Err(_) => line.give_up(ticket, patience),
        }
    }
}

impl Drop for NetTransport {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl fmt::Debug for NetTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetTransport")
            .field("local", &self.station.local)
            .field("lines", &self.lines.lock().keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
