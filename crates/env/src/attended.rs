//! Work that somebody waits for, and that ends when nobody does any more.

use crate::Tasks;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::{AbortHandle, JoinError};

/// Whether somebody still waits: long work without a wait of its own asks between its steps. By
/// default somebody always does.
#[derive(Clone, Debug, Default)]
pub struct Attendance(Option<Arc<AtomicBool>>);

impl Attendance {
    /// Whether whoever asked for the work has gone.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let gone = self.0.as_ref();
        gone.is_some_and(|gone| gone.load(Ordering::Relaxed))
    }

    /// An attendance that is over already.
    #[must_use]
    pub fn of_nobody() -> Self {
        Self(Some(Arc::new(AtomicBool::new(true))))
    }
}

/// Ends the work with whoever holds this.
struct Waiting {
    gone: Arc<AtomicBool>,
    task: AbortHandle,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.gone.store(true, Ordering::Relaxed);
        self.task.abort();
    }
}

impl Tasks {
    /// Runs `work` as a task of its own and waits for it, so that who waits can be told to stop while
    /// the work computes. Dropped, it ends the work: at its next wait, or where it sees that nobody
    /// attends.
    ///
    /// # Errors
    /// The work panicked, or the process is ending.
    pub async fn attended<F>(
        &self,
        name: &'static str,
        work: impl FnOnce(Attendance) -> F,
    ) -> Result<F::Output, JoinError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let gone = Arc::new(AtomicBool::new(false));
        let task = self.spawn(name, work(Attendance(Some(Arc::clone(&gone)))));
        let _waiting = Waiting {
            gone,
            task: task.abort_handle(),
        };
        task.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::sync::mpsc::channel;
    use std::task::Poll;

    /// The work never waits, so only asking can end it.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn work_that_computes_learns_that_nobody_waits() {
        let (started, starts) = channel();
        let (ended, ends) = channel();
        let tasks = Tasks::real();
        let work = move |attendance: Attendance| async move {
            started.send(()).unwrap();
            while !attendance.is_over() {
                std::hint::spin_loop();
            }
            ended.send(()).unwrap();
        };
        let mut waiting = Box::pin(tasks.attended("spinning", work));
        let once = poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx).is_pending()));
        assert!(once.await);
        let started = tokio::task::spawn_blocking(move || starts.recv());
        started.await.unwrap().unwrap();
        drop(waiting);
        let ended = tokio::task::spawn_blocking(move || ends.recv());
        ended.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn what_the_work_returns_comes_back() {
        let tasks = Tasks::real();
        let done = tasks.attended("adding", |attendance| async move {
            assert!(!attendance.is_over());
            1 + 1
        });
        assert_eq!(done.await.unwrap(), 2);
        assert!(Attendance::of_nobody().is_over());
        assert!(!Attendance::default().is_over());
    }
}
