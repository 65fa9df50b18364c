//! Driving workers in a closed or an open loop, and collecting what they measured.

use crate::BenchError;
use crate::report::{LoadReport, Tally};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::time::Instant;

/// When the next operation starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As soon as the worker's previous one is answered.
    Closed,
    /// At a fixed rate over all workers, however slow the answers are. Latency counts from the
    /// intended start, so a stalled server cannot hide the requests it held up.
    Open {
        /// Operations per second.
        per_second: f64,
    },
}

/// When the load ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// After this time; operations under way are waited for.
    Time(Duration),
    /// After this many operations, failed ones included.
    Operations(u64),
}

/// How one operation ended.
pub(crate) enum Outcome {
    Done,
    /// Refused because something else came first.
    Conflict,
    /// Failed for the named reason.
    Failed(String),
}

/// Something that does one operation after another.
pub(crate) trait Worker: Send + 'static {
    fn step(&mut self) -> impl Future<Output = Outcome> + Send;
}

/// The operations that all workers share out among them.
struct Schedule {
    started: Instant,
    pace: Pace,
    bound: Bound,
    next: AtomicU64,
}

impl Schedule {
    /// The intended start of the next operation; `None` at the end.
    fn take(&self) -> Option<Instant> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let start = match self.pace {
            Pace::Closed => Instant::now(),
            Pace::Open { per_second } => {
                // Exact far beyond any run: an f64 counts to 2^53.
                #[expect(clippy::cast_precision_loss, reason = "operation counts are small")]
                let offset = number as f64 / per_second;
                self.started + Duration::from_secs_f64(offset)
            }
        };
        let over = match self.bound {
            Bound::Time(limit) => start >= self.started + limit,
            Bound::Operations(count) => number >= count,
        };
        (!over).then_some(start)
    }
}

/// Runs the workers to the end of the bound.
pub(crate) async fn drive<W: Worker>(
    workers: Vec<W>,
    pace: Pace,
    bound: Bound,
) -> Result<LoadReport, BenchError> {
    drive_from(Instant::now(), workers, pace, bound).await
}

async fn drive_from<W: Worker>(
    started: Instant,
    workers: Vec<W>,
    pace: Pace,
    bound: Bound,
) -> Result<LoadReport, BenchError> {
    if let Pace::Open { per_second } = pace
        && per_second <= 0.0
    {
        return Err(BenchError::Zero {
            setting: "the rate",
        });
    }
    let schedule = Arc::new(Schedule {
        started,
        pace,
        bound,
        next: AtomicU64::new(0),
    });
    let running: Vec<_> = workers
        .into_iter()
        .map(|worker| tokio::spawn(work(worker, schedule.clone())))
        .collect();
    let mut tally = Tally::new();
    for task in running {
        let part = task.await.map_err(|error| BenchError::Worker {
            detail: error.to_string(),
        })?;
        tally.merge(part);
    }
    Ok(tally.into_report(schedule.started.elapsed()))
}

async fn work<W: Worker>(mut worker: W, schedule: Arc<Schedule>) -> Tally {
    let mut tally = Tally::new();
    while let Some(start) = schedule.take() {
        tokio::time::sleep_until(start).await;
        match worker.step().await {
            Outcome::Done => tally.done(start.elapsed()),
            Outcome::Conflict => tally.conflicts += 1,
            Outcome::Failed(reason) => *tally.errors.entry(reason).or_default() += 1,
        }
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers at once; every fourth operation conflicts, every fourth fails.
    #[derive(Default)]
    struct Quick {
        done: u64,
    }

    impl Worker for Quick {
        async fn step(&mut self) -> Outcome {
            self.done += 1;
            match self.done % 4 {
                0 => Outcome::Conflict,
                1 => Outcome::Failed("broken".into()),
                _ => Outcome::Done,
            }
        }
    }

    #[tokio::test]
    async fn every_operation_is_counted_once() {
        let workers = vec![Quick::default(), Quick::default(), Quick::default()];
        let report = drive(workers, Pace::Closed, Bound::Operations(1200)).await;
        let report = report.expect("the load runs");
        let failed: u64 = report.errors.values().sum();
        assert_eq!(report.operations + report.conflicts + failed, 1200);
        assert_eq!(report.errors.keys().collect::<Vec<_>>(), ["broken"]);
        assert!(report.conflicts >= 299, "{report:?}");
    }

    #[tokio::test]
    async fn an_open_loop_counts_waiting_from_the_intended_start() {
        // As if the one worker had been held up for the first quarter of an hour.
        let lag = Duration::from_secs(900);
        let started = Instant::now()
            .checked_sub(lag)
            .expect("monotonic time began earlier");
        let pace = Pace::Open { per_second: 1.0 };
        let bound = Bound::Operations(100);
        let report = drive_from(started, vec![Quick::default()], pace, bound).await;
        let latency = report.expect("the load runs").latency_ms;
        // Capped at ten minutes, the longest latency that is told apart.
        assert!(latency.p50 > 590_000.0, "{latency:?}");
    }

    #[tokio::test]
    async fn an_open_loop_keeps_its_rate_and_ends_in_time() {
        let schedule = Schedule {
            started: Instant::now(),
            pace: Pace::Open { per_second: 200.0 },
            bound: Bound::Time(Duration::from_secs(1)),
            next: AtomicU64::new(0),
        };
        let starts: Vec<Instant> = std::iter::from_fn(|| schedule.take()).collect();
        assert_eq!(starts.len(), 200);
        let last = Duration::from_millis(995);
        assert_eq!(starts.last(), Some(&(schedule.started + last)));
    }

    #[tokio::test]
    async fn a_rate_of_zero_is_refused() {
        let pace = Pace::Open { per_second: 0.0 };
        let refused = drive(vec![Quick::default()], pace, Bound::Operations(1)).await;
        assert!(matches!(refused, Err(BenchError::Zero { .. })));
    }
}
