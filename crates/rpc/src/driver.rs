//! Keeps the stream of one line open: dials on demand, reads answers, pauses after failures.

use crate::line::Line;
use crate::wire::{self, Kind};
use crate::{CallError, Lane, RefusalCode, Settings, Station, dial};
use floeberg_env::Rng;
use floeberg_types::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// A stream that lived this long was no failure, so the next one is dialled without a pause.
const LIVED: Duration = Duration::from_secs(1);

pub(crate) struct Driver {
    pub(crate) station: Arc<Station>,
    pub(crate) to: NodeId,
    pub(crate) address: String,
    pub(crate) lane: Lane,
    pub(crate) line: Arc<Line>,
    /// The peer was removed or has another address.
    pub(crate) stale: CancellationToken,
    /// This node stops.
    pub(crate) stop: CancellationToken,
}

/// Grows with every failure in a row.
struct Pause {
    next: Duration,
    settings: Settings,
}

impl Driver {
    pub(crate) async fn drive(self) {
        let reason = tokio::select! {
            biased;
            () = self.stop.cancelled() => "this node stops".to_owned(),
            () = self.stale.cancelled() => format!("node {} was removed or moved", self.to),
            () = self.keep_open() => unreachable!("a stream is kept open until somebody ends it"),
        };
        self.line.close(&reason);
    }

    async fn keep_open(&self) {
        let mut pause = Pause::new(self.station.settings);
        let mut told = None;
        loop {
            self.line.wanted().await;
            match self.open().await {
                Ok(opened) => {
                    if told.take().is_some() {
                        tracing::info!(node = %self.to, lane = ?self.lane, "the peer is back");
                    }
                    let since = Instant::now();
                    self.line.opened();
                    let reason = self.listen(opened).await;
                    tracing::debug!(node = %self.to, lane = ?self.lane, reason, "a stream ended");
                    self.line.broken(&reason);
                    if since.elapsed() >= LIVED {
                        pause = Pause::new(self.station.settings);
                    }
                }
                Err(error) => {
                    self.tell(&error, &mut told);
                    self.line.unreachable(&error);
                }
            }
            tokio::time::sleep(pause.take(self.station.env.rng.as_ref())).await;
        }
    }

    async fn open(&self) -> Result<dial::Opened, CallError> {
        let patience = self.station.settings.connect_patience;
        let open = dial::open(&self.station, self.to, &self.address, self.lane, &self.line);
        match tokio::time::timeout(patience, open).await {
            Ok(opened) => opened,
            Err(_) => Err(CallError::not_sent(format!(
                "no stream to {} within {} ms",
                self.address,
                patience.as_millis()
            ))),
        }
    }

    /// Logs the first failure of its kind in a row: a peer that is down must not fill the log.
    fn tell(&self, error: &CallError, told: &mut Option<Option<RefusalCode>>) {
        let kind = match error {
            CallError::Refused(refusal) => Some(refusal.code),
            CallError::NotSent { .. } | CallError::Lost { .. } => None,
        };
        if *told == Some(kind) {
            return;
        }
        *told = Some(kind);
        let (node, lane) = (self.to, self.lane);
        match kind {
            Some(_) => tracing::warn!(%node, ?lane, "the peer refuses this node: {error}"),
            None => tracing::info!(%node, ?lane, "the peer cannot be reached: {error}"),
        }
    }

    /// Hands answers to their callers until the stream ends.
    async fn listen(&self, mut opened: dial::Opened) -> String {
        loop {
            match opened.answers.message().await {
                Ok(Some(frame)) => match frame.kind {
                    Some(Kind::Answer(answer)) => {
                        let (id, result) = wire::read_answer(answer);
                        self.line.answered(id, result);
                    }
                    Some(Kind::Goodbye(refusal)) => return refusal.message,
                    // A frame of a later version; whoever sends one knows that we may not know it.
                    Some(Kind::Hello(_) | Kind::Call(_)) | None => {}
                },
                Ok(None) => return "the peer closed the stream".to_owned(),
                Err(status) => return format!("the connection broke: {}", status.message()),
            }
        }
    }
}

impl Pause {
    fn new(settings: Settings) -> Self {
        Self {
            next: settings.first_pause,
            settings,
        }
    }

    /// Half of it is drawn, so that nodes which failed together do not return together.
    fn take(&mut self, rng: &dyn Rng) -> Duration {
        let half = self.next / 2;
        let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX);
        self.next = (self.next * 2).min(self.settings.longest_pause);
        half + Duration::from_micros(rng.below(spread))
    }
}
