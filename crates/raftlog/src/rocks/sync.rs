//! Group commit: one thread syncs once for everything that was written meanwhile.

use crate::{Done, LogError};
use floeberg_env::Clock;
use floeberg_telemetry::RaftLogMetrics;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::sync::Arc;
use std::time::Duration;

/// How long the log must be quiet before the journal settles.
const QUIET: Duration = Duration::from_millis(50);

/// Work that waits for the next sync.
pub(super) enum Task {
    /// Tell the caller; `records` changes belong to the call.
    Complete { done: Done, records: usize },
    /// Free the disk space of a key range that the sync has deleted.
    Trim { from: Vec<u8>, to: Vec<u8> },
}

/// What the thread does to the disk.
pub(super) trait Journal {
    /// Makes everything written so far durable.
    fn sync(&mut self) -> Result<(), LogError>;
    /// Called when the log falls quiet and before it closes.
    fn settle(&mut self) -> Result<(), LogError>;
    /// Frees the disk space of a deleted key range.
    fn trim(&mut self, from: &[u8], to: &[u8]);
    /// Called once, before any caller hears of the failure: nothing may be accepted any more.
    fn stop(&mut self, error: &LogError);
}

/// Tasks in the order of their writes. Its length is bounded by the callers, who each wait for
/// their completion.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    wake: Condvar,
}

#[derive(Default)]
struct State {
    tasks: Vec<Task>,
    closed: bool,
}

enum Next {
    Batch(Vec<Task>),
    Quiet,
    Closed,
}

impl Queue {
    pub(super) fn push(&self, task: Task) {
        self.state.lock().tasks.push(task);
        self.wake.notify_one();
    }

    /// Ends the thread once the tasks pushed so far are done.
    pub(super) fn close(&self) {
        self.state.lock().closed = true;
        self.wake.notify_one();
    }

    /// Waits for tasks; a quiet log is reported once, if the thread still has to settle.
    ///
    /// Threads that are ready to run go first: what they write shares the sync. Where a core is idle
    /// nobody waits for them.
    fn next(&self, unsettled: bool) -> Next {
        let mut state = self.state.lock();
        while state.tasks.is_empty() {
            if state.closed {
                return Next::Closed;
            }
            if unsettled {
                let wait = self.wake.wait_for(&mut state, QUIET);
                if wait.timed_out() && state.tasks.is_empty() && !state.closed {
                    return Next::Quiet;
                }
            } else {
                self.wake.wait(&mut state);
            }
        }
        MutexGuard::unlocked(&mut state, std::thread::yield_now);
        Next::Batch(std::mem::take(&mut state.tasks))
    }
}

/// The thread's loop; returns when the queue is closed and drained.
pub(super) fn run(
    queue: &Queue,
    journal: &mut dyn Journal,
    metrics: &RaftLogMetrics,
    clock: &dyn Clock,
) {
    let mut stopped: Option<Arc<str>> = None;
    let mut unsettled = false;
    loop {
        let batch = match queue.next(unsettled) {
            Next::Batch(batch) => batch,
            Next::Quiet | Next::Closed if stopped.is_none() && unsettled => {
                unsettled = false;
                if let Err(error) = journal.settle() {
                    journal.stop(&error);
                    stopped = Some(error.to_string().into());
                }
                continue;
            }
            Next::Quiet => continue,
            Next::Closed => return,
        };
        // A failed sync is never tried again: the kernel may have dropped what it could not write.
        let outcome = match &stopped {
            Some(cause) => Err(LogError::stopped(cause)),
            None => synced(&batch, journal, metrics, clock),
        };
        unsettled = stopped.is_none();
        if let Err(error) = &outcome
            && stopped.is_none()
        {
            journal.stop(error);
            stopped = Some(error.to_string().into());
            unsettled = false;
        }
        complete(batch, journal, &outcome);
    }
}

fn synced(
    batch: &[Task],
    journal: &mut dyn Journal,
    metrics: &RaftLogMetrics,
    clock: &dyn Clock,
) -> Result<(), LogError> {
    let started = clock.monotonic();
    journal.sync()?;
    let took = clock.monotonic().saturating_sub(started);
    let records: usize = batch
        .iter()
        .map(|task| match task {
            Task::Complete { records, .. } => *records,
            Task::Trim { .. } => 0,
        })
        .sum();
    metrics.fsyncs.inc();
    metrics.fsync_seconds.observe(took.as_secs_f64());
    metrics.batch_records.observe(records as f64);
    Ok(())
}

fn complete(batch: Vec<Task>, journal: &mut dyn Journal, outcome: &Result<(), LogError>) {
    for task in batch {
        match (task, outcome) {
            (Task::Complete { done, .. }, Ok(())) => done(Ok(())),
            (Task::Complete { done, .. }, Err(error)) => done(Err(error.clone().into_io())),
            (Task::Trim { from, to }, Ok(())) => journal.trim(&from, &to),
            (Task::Trim { .. }, Err(_)) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use floeberg_env::RealClock;
    use std::sync::mpsc;

    /// Fails the sync with the given number, counting from one.
    #[derive(Default)]
    struct Failing {
        at: u32,
        syncs: u32,
        stops: u32,
        trims: u32,
    }

    impl Journal for Failing {
        fn sync(&mut self) -> Result<(), LogError> {
            self.syncs += 1;
            if self.syncs == self.at {
                Err(LogError::engine(&"EIO"))
            } else {
                Ok(())
            }
        }
        fn settle(&mut self) -> Result<(), LogError> {
            Ok(())
        }
        fn trim(&mut self, _: &[u8], _: &[u8]) {
            self.trims += 1;
        }
        fn stop(&mut self, _: &LogError) {
            self.stops += 1;
        }
    }

    type Results = mpsc::Receiver<(u32, bool)>;

    /// A queue of `calls` closed behind them, and what their callbacks will say.
    fn closed_queue(calls: u32) -> (Queue, Results) {
        let (tell, results) = mpsc::channel();
        let queue = Queue::default();
        for n in 0..calls {
            let tell = tell.clone();
            let done: Done = Box::new(move |result| {
                tell.send((n, result.is_ok())).expect("the test listens");
            });
            queue.push(Task::Complete { done, records: 1 });
            queue.push(Task::Trim {
                from: vec![],
                to: vec![],
            });
        }
        queue.close();
        (queue, results)
    }

    #[test]
    fn one_sync_serves_all_that_waited_in_order() {
        let (queue, results) = closed_queue(5);
        let (mut journal, metrics) = (Failing::default(), RaftLogMetrics::default());
        run(&queue, &mut journal, &metrics, &RealClock::start());
        assert_eq!((journal.syncs, journal.stops, journal.trims), (1, 0, 5));
        assert_eq!(metrics.fsyncs.get(), 1);
        let expected: Vec<_> = (0..5).map(|n| (n, true)).collect();
        assert_eq!(results.try_iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn a_failed_sync_is_not_tried_again() {
        let mut journal = Failing {
            at: 1,
            ..Failing::default()
        };
        let metrics = RaftLogMetrics::default();
        let (queue, results) = closed_queue(3);
        let shared = Arc::new(queue);
        // The first callback queues another call, which must fail without a sync.
        let (tell, late) = mpsc::channel();
        let again = shared.clone();
        let done: Done = Box::new(move |_| {
            let done: Done = Box::new(move |result| {
                tell.send(result.is_err()).expect("the test listens");
            });
            again.push(Task::Complete { done, records: 1 });
        });
        shared.push(Task::Complete { done, records: 1 });
        run(&shared, &mut journal, &metrics, &RealClock::start());
        assert_eq!((journal.syncs, journal.stops, journal.trims), (1, 1, 0));
        assert_eq!(
            results.try_iter().collect::<Vec<_>>(),
            [(0, false), (1, false), (2, false)]
        );
        assert_eq!(late.try_iter().collect::<Vec<_>>(), [true]);
        assert_eq!(metrics.fsyncs.get(), 0);
    }
}
