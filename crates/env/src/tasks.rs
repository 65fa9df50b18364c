//! Background work: async tasks, blocking work and threads.

use crate::Rng;
use crate::pace::{Crossing, Pace};
use parking_lot::Mutex;
use std::fmt;
use std::future::Future;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinError, JoinHandle};
use tracing::Instrument;

/// How blocking work runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blocking {
    /// On tokio's blocking pool.
    Pool,
    /// Inline in a task, so that the simulator's one thread decides the order.
    Inline,
}

/// Starts background work on one runtime: that of [`Threads`](crate::Threads), else whichever runs the
/// caller. All methods but [`Tasks::spawn_thread`] need one.
#[derive(Clone, Debug)]
pub struct Tasks {
    blocking: Blocking,
    /// `None`: the caller's runtime.
    on: Option<Handle>,
    end: Option<TaskEnd>,
    /// What a simulation takes for waits between threads and for blocking work.
    pace: Pace,
    /// For work whose size clients decide; clones share them.
    places: Arc<Semaphore>,
    /// For such work over many rows.
    places_behind: Arc<Semaphore>,
    /// Where that runs: on threads that stand behind all others, if there are any.
    behind: Option<Handle>,
}

/// One core stays free of such work, so that whoever has little to do gets it done.
fn places() -> usize {
    let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
    cores.saturating_sub(1).max(1)
}

/// Ends all tasks of a simulated process, as its death would.
#[derive(Clone, Default)]
pub struct TaskEnd {
    running: Arc<Mutex<Running>>,
}

#[derive(Default)]
struct Running {
    ended: bool,
    tasks: Vec<AbortHandle>,
    /// Finished tasks are forgotten when there are this many.
    sweep_at: usize,
}

impl TaskEnd {
    /// No task goes on, and none that is started later begins.
    pub fn end(&self) {
        let tasks = {
            let mut running = self.running.lock();
            running.ended = true;
            std::mem::take(&mut running.tasks)
        };
        for task in tasks {
            task.abort();
        }
    }

    fn track(&self, task: AbortHandle) {
        let mut running = self.running.lock();
        if running.ended {
            drop(running);
            task.abort();
            return;
        }
        running.tasks.push(task);
        if running.tasks.len() > running.sweep_at {
            running.tasks.retain(|task| !task.is_finished());
            running.sweep_at = running.tasks.len() * 2 + 64;
        }
    }
}

impl fmt::Debug for TaskEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.running.lock().ended;
        f.debug_struct("TaskEnd").field("ended", &ended).finish()
    }
}

impl Tasks {
    fn new(blocking: Blocking, places: usize) -> Self {
        Self {
            blocking,
            on: None,
            end: None,
            pace: Pace::default(),
            places: Arc::new(Semaphore::new(places)),
            places_behind: Arc::new(Semaphore::new(places)),
            behind: None,
        }
    }

    pub(crate) fn real() -> Self {
        Self::new(Blocking::Pool, places())
    }

    pub(crate) fn on(runtime: Handle) -> Self {
        Self {
            on: Some(runtime),
            ..Self::real()
        }
    }

    /// The same, and what may wait runs on the threads of `behind`.
    pub(crate) fn with_behind(self, behind: Handle) -> Self {
        Self {
            behind: Some(behind),
            ..self
        }
    }

    /// Tasks for requests that compute much and that nothing waits for but their client: they run where
    /// [`Self::step_behind`] does.
    #[must_use]
    pub fn behind(&self) -> Self {
        Self {
            on: self.behind.clone().or_else(|| self.on.clone()),
            ..self.clone()
        }
    }

    /// Tasks of a simulation: blocking work runs inline and there are no threads.
    #[must_use]
    pub fn simulated() -> Self {
        Self::new(Blocking::Inline, 1)
    }

    /// The same, and `end` ends them all.
    #[must_use]
    pub fn simulated_until(end: &TaskEnd) -> Self {
        Self {
            end: Some(end.clone()),
            ..Self::simulated()
        }
    }

    /// The same with waits that `rng` draws where a machine has them: until blocking work begins and
    /// until its result is seen, and at every [`Tasks::crossing`].
    #[must_use]
    pub fn paced(self, rng: Arc<dyn Rng>) -> Self {
        Self {
            pace: Pace::drawn(rng),
            ..self
        }
    }

    /// What passes until these tasks see what others have left for them: nothing that anybody would
    /// have to wait for on a machine, and a drawn time in a simulation.
    pub fn crossing(&self) -> Crossing {
        self.pace.crossing()
    }

    /// Lets the threads go first that are ready to run, so that what they are about to leave for the
    /// caller is found together. Returns at once where a core is idle, and does nothing in a
    /// simulation, where [`Tasks::crossing`] does the same.
    pub fn yield_thread(&self) {
        if self.blocking == Blocking::Pool {
            std::thread::yield_now();
        }
    }

    /// Calls `f`, which opens sockets or timers, so that they belong to these tasks' runtime.
    pub fn within<T>(&self, f: impl FnOnce() -> T) -> T {
        let _entered = self.on.as_ref().map(Handle::enter);
        f()
    }

    /// Whether the caller runs where these tasks do.
    #[must_use]
    pub fn are_here(&self) -> bool {
        let here = || Handle::try_current().ok().map(|here| here.id());
        self.on.as_ref().is_none_or(|on| here() == Some(on.id()))
    }

    /// The same as [`Self::spawn`], outside of what its starter belongs to in the log.
    pub fn spawn_apart<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.start(future.instrument(tracing::debug_span!(parent: None, "task", name)))
    }

    /// Runs `future` as a task; `name` is on its log lines.
    pub fn spawn<F>(&self, name: &'static str, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.start(future.instrument(tracing::debug_span!("task", name)))
    }

    fn start<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let task = match &self.on {
            Some(runtime) => runtime.spawn(future),
            None => tokio::spawn(future),
        };
        if let Some(end) = &self.end {
            end.track(task.abort_handle());
        }
        task
    }

    /// Runs `work`, which may block, without holding up other tasks.
    pub fn spawn_blocking<F, T>(&self, name: &'static str, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        match self.blocking {
            Blocking::Pool => {
                let work = move || tracing::debug_span!("blocking", name).in_scope(work);
                match &self.on {
                    Some(runtime) => runtime.spawn_blocking(work),
                    None => tokio::task::spawn_blocking(work),
                }
            }
            Blocking::Inline => {
                let (before, after) = (self.crossing(), self.crossing());
                self.spawn(name, async move {
                    before.await;
                    let done = work();
                    after.await;
                    done
                })
            }
        }
    }

    /// Runs one bounded step of work whose size clients decide (rows of a listing, a document to
    /// render or to parse), on a thread that may block. All of a process' such steps share a few
    /// places in the order in which they came, so whoever has many takes turns with the others.
    ///
    /// # Errors
    /// The step panicked, or the process is ending.
    ///
    /// # Cancel safety
    /// A step that has begun goes on to its end and keeps its place until then.
    pub async fn step<F, T>(&self, name: &'static str, work: F) -> Result<T, JoinError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let place = place.expect("nobody closes the places");
        self.spawn_blocking(name, move || {
            let done = work();
            drop(place);
            done
        })
        .await
    }

    /// The same for work over many rows (listings, what looks after them), which has places of its own. On a
    /// node its threads stand behind all others: where no core is idle, a commit and what it has to render do
    /// not wait for a listing.
    ///
    /// # Errors
    /// As [`Self::step`].
    ///
    /// # Cancel safety
    /// As [`Self::step`].
    pub async fn step_behind<F, T>(&self, name: &'static str, work: F) -> Result<T, JoinError>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let behind = Self {
            places: Arc::clone(&self.places_behind),
            ..self.behind()
        };
        behind.step(name, work).await
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
            assert_eq!(tasks.step("add", || 3 + 3).await.expect("joined"), 6);
            let panics = tasks.step("panics", || panic!("as the test wants")).await;
            assert!(panics.is_err_and(|error: JoinError| error.is_panic()));
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_steps_run_at_once_than_there_are_places() {
        let tasks = Tasks::real();
        let (now, most) = (Arc::new(Mutex::new(0_usize)), Arc::new(Mutex::new(0_usize)));
        let steps = (0..200).map(|_| {
            let (tasks, now, most) = (tasks.clone(), now.clone(), most.clone());
            tokio::spawn(async move {
                let step = move || {
                    let running = {
                        let mut now = now.lock();
                        *now += 1;
                        *now
                    };
                    let mut most = most.lock();
                    *most = running.max(*most);
                    drop(most);
                    std::thread::yield_now();
                    *now.lock() -= 1;
                };
                tasks.step("count", step).await.expect("joined");
            })
        });
        for step in steps.collect::<Vec<_>>() {
            step.await.expect("joined");
        }
        assert!((1..=places()).contains(&*most.lock()));
        assert_eq!(*now.lock(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_end_ends_every_task_and_lets_none_begin() {
        let end = TaskEnd::default();
        let tasks = Tasks::simulated_until(&end);
        let before = tasks.spawn("waits", std::future::pending::<()>());
        for _ in 0..1000 {
            tasks.spawn("ends", async {}).await.expect("joined");
        }
        assert!(end.running.lock().tasks.len() < 200, "ended ones are kept");
        end.end();
        let after = tasks.spawn_blocking("late", || ());
        assert!(before.await.expect_err("ended").is_cancelled());
        assert!(after.await.expect_err("ended").is_cancelled());
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
