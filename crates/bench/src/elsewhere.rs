//! Clients that would run on other machines: their work must not take the processors of what is measured.

use crate::BenchError;
use std::future::Future;
use tokio::runtime::{Builder, Runtime};

/// Threads that stand behind all others of this machine (`nice` 10).
pub(crate) struct Elsewhere(Option<Runtime>);

impl Elsewhere {
    pub(crate) fn start() -> Result<Self, BenchError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("elsewhere")
            .on_thread_start(|| {
                // Of this thread alone; without it there is only more noise.
                let _ = rustix::process::nice(10);
            })
            .enable_all()
            .build();
        let runtime = runtime.map_err(|error| BenchError::Worker {
            detail: error.to_string(),
        })?;
        Ok(Self(Some(runtime)))
    }

    /// Runs clients there.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        clients: impl Future<Output = Result<T, BenchError>> + Send + 'static,
    ) -> Result<T, BenchError> {
        let runtime = self.0.as_ref().expect("only dropping takes it");
        let ended = runtime.spawn(clients).await;
        ended.map_err(|error| BenchError::Worker {
            detail: error.to_string(),
        })?
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Where tasks run, nobody may wait for threads.
            runtime.shutdown_background();
        }
    }
}
