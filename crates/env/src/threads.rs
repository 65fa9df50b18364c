//! Threads that do one kind of work only, so that nothing else can keep them busy.

use crate::Tasks;
use std::fmt;
use std::io;
use std::num::NonZero;
use std::thread::available_parallelism;
use tokio::runtime::{Builder, Handle, Runtime};

/// A runtime of its own for the [`Tasks`] that are made from it. Dropping it ends them where they
/// wait, without waiting for them.
pub struct Threads(Option<Runtime>);

impl Threads {
    /// Starts `workers` threads, called `name` where the system shows threads.
    ///
    /// # Errors
    /// The system has no more threads or file descriptors.
    pub fn start(name: &'static str, workers: usize) -> io::Result<Self> {
        Self::build(Builder::new_multi_thread().worker_threads(workers), name)
    }

    /// The same with threads that run only what leaves others time enough (`nice` 10): where all cores are
    /// busy, they get a tenth of what others do.
    ///
    /// # Errors
    /// As [`Threads::start`].
    pub fn start_behind(name: &'static str, workers: usize) -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(workers).on_thread_start(|| {
            // Of this thread alone; one that cannot is as good as the others.
            let _ = rustix::process::nice(10);
        });
        Self::build(&mut builder, name)
    }

    fn build(builder: &mut Builder, name: &'static str) -> io::Result<Self> {
        let runtime = builder.thread_name(name).enable_all().build()?;
        Ok(Self(Some(runtime)))
    }

    fn handle(&self) -> Handle {
        let runtime = self.0.as_ref().expect("only dropping takes it");
        runtime.handle().clone()
    }

    /// Tasks that run on these threads, whoever starts them. They have places of their own.
    ///
    /// # Panics
    /// Never: the runtime is there until this is dropped.
    #[must_use]
    pub fn tasks(&self) -> Tasks {
        Tasks::on(self.handle())
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Where tasks run, nobody may wait for threads.
            runtime.shutdown_background();
        }
    }
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Threads").finish_non_exhaustive()
    }
}

/// The threads of a process that serves a node.
#[derive(Debug)]
pub struct NodeThreads {
    requests: Handle,
    pub(crate) consensus: Threads,
    pub(crate) reception: Threads,
    /// What may wait for everything else.
    behind: Threads,
}

impl NodeThreads {
    /// Starts them, beside the runtime that `requests` run on.
    ///
    /// # Errors
    /// As [`Threads::start`].
    pub fn start(requests: &Handle) -> io::Result<Self> {
        Ok(Self {
            requests: requests.clone(),
            consensus: Threads::start("consensus", consensus_workers())?,
            reception: Threads::start("reception", 1)?,
            behind: Threads::start_behind("behind", cores())?,
        })
    }
}

impl NodeThreads {
    pub(crate) fn of_requests(&self) -> Tasks {
        Tasks::on(self.requests.clone()).with_behind(self.behind.handle())
    }
}

/// One for each group that has something to do at the same time. On two cores the second one only takes
/// turns with the first: docs/performance.md has what it costs.
fn consensus_workers() -> usize {
    (cores() / 2).clamp(1, 2)
}

fn cores() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread::current;

    fn name() -> Option<String> {
        current().name().map(str::to_owned)
    }

    /// Work of requests that the reception or consensus starts would run there, and keep them busy.
    #[test]
    fn each_kind_of_work_runs_on_its_threads_whoever_starts_it() {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("requests")
            .build()
            .expect("a runtime");
        let threads = NodeThreads::start(runtime.handle()).expect("threads");
        let env = crate::Env::real().with_threads(&threads);
        let kinds = [
            ("requests", env.tasks),
            ("consensus", env.consensus),
            ("reception", env.reception),
        ];
        for (from, starter) in &kinds {
            for (of, tasks) in kinds.clone() {
                let asked = starter.spawn("asks", async move {
                    let task = tasks.spawn("task", async { name() }).await;
                    let work = tasks.spawn_blocking("work", name).await;
                    (task.expect("joined"), work.expect("joined"))
                });
                let (task, work) = runtime.block_on(asked).expect("joined");
                assert_eq!(task.as_deref(), Some(of), "a task from {from}");
                assert_eq!(work.as_deref(), Some(of), "work from {from}");
            }
        }
    }

    /// Work of any size must not take turns as an equal with what commits wait for.
    #[test]
    fn what_may_wait_stands_behind_everything_else() {
        let runtime = Builder::new_current_thread().build().expect("a runtime");
        let threads = NodeThreads::start(runtime.handle()).expect("threads");
        let env = crate::Env::real().with_threads(&threads);
        let niceness = || rustix::process::nice(0).expect("it may be asked");
        let own = niceness();
        let step = runtime.block_on(env.tasks.step_behind("step", move || (name(), niceness())));
        let (name, behind) = step.expect("joined");
        assert_eq!(
            (name.as_deref(), behind),
            (Some("behind"), (own + 10).min(19))
        );
        let near = runtime.block_on(env.tasks.step("near", niceness));
        assert_eq!(near.expect("joined"), own);
        for tasks in [&env.tasks, &env.consensus, &env.reception] {
            let work = runtime.block_on(tasks.spawn_blocking("work", niceness));
            assert_eq!(work.expect("joined"), own);
        }
    }

    #[tokio::test]
    async fn tasks_and_blocking_work_run_on_the_threads_they_were_made_for() {
        let threads = Threads::start("apart", 1).expect("threads");
        let tasks = threads.tasks();
        let apart = Some("apart".to_owned());
        assert_ne!(name(), apart);
        let task = tasks.spawn("task", async { name() });
        assert_eq!(task.await.expect("joined"), apart);
        let blocking = tasks.spawn_blocking("work", name);
        assert_eq!(blocking.await.expect("joined"), apart);
        assert_eq!(tasks.step("step", name).await.expect("joined"), apart);
        let opened = tasks.within(|| Handle::current().id());
        assert_ne!(opened, Handle::current().id());
        drop(threads);
        let late = tasks.spawn("late", std::future::pending::<()>());
        assert!(late.await.expect_err("nobody runs it").is_cancelled());
    }
}
