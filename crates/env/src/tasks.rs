//! Background work: async tasks, blocking work and threads.

use std::future::Future;
use std::io;
use tokio::task::JoinHandle;
use tracing::Instrument;

/// How blocking work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocking {
    /// On tokio's blocking pool.
    Pool,
    /// Inline in a task, so that the simulator's one thread decides the order.
    Inline,
}

/// Starts background work. All methods but [`Tasks::spawn_thread`] need a tokio runtime.
#[derive(Clone, Debug)]
pub struct Tasks {
    blocking: Blocking,
}

impl Tasks {
    pub(crate) fn real() -> Self {
        Self {
            blocking: Blocking::Pool,
        }
    }

    /// Tasks of a simulation: blocking work runs inline and there are no threads.
    #[must_use]
    pub fn simulated() -> Self {
        Self {
            blocking: Blocking::Inline,
        }
    }

    /// Runs `future` as a task; `name` is on its log lines.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(future.instrument(tracing::debug_span!("task", name)))
    }

    /// Runs `work`, which may block, without holding up other tasks.
    pub fn spawn_blocking<F, T>(&self, name: &'static str, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.blocking {
            Blocking::Pool => tokio::task::spawn_blocking(move || {
                tracing::debug_span!("blocking", name).in_scope(work)
            }),
            Blocking::Inline => self.spawn(name, async move { work() }),
        }
    }

    /// Starts a thread of its own.
    ///
    /// # Errors
    /// `Unsupported` in the simulator, which has one thread; else what the system answers.
    pub fn spawn_thread<F>(
        &self,
        name: &'static str,
        work: F,
    ) -> io::Result<std::thread::JoinHandle<()>>
    where
        F: FnOnce() + Send + 'static,
    {
        match self.blocking {
            Blocking::Pool => std::thread::Builder::new().name(name.into()).spawn(work),
            Blocking::Inline => Err(io::Error::from(io::ErrorKind::Unsupported)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_kinds_return_the_result() {
        for tasks in [Tasks::real(), Tasks::simulated()] {
            assert_eq!(
                tasks.spawn("add", async { 1 + 1 }).await.expect("joined"),
                2
            );
            assert_eq!(
                tasks.spawn_blocking("add", || 2 + 2).await.expect("joined"),
                4
            );
        }
    }

    #[test]
    fn the_simulator_has_no_threads() {
        let refused = Tasks::simulated()
            .spawn_thread("t", || ())
            .expect_err("refused");
        assert_eq!(refused.kind(), io::ErrorKind::Unsupported);
        Tasks::real()
            .spawn_thread("t", || ())
            .expect("started")
            .join()
            .expect("joined");
    }
}
