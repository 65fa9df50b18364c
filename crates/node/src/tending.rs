//! What looks after the rows, the chunks and the node itself while it runs.

use crate::node::Ground;
use crate::refill::Refill;
use crate::vigil::Vigil;
use floeberg_catalog::Catalog;
use floeberg_catalog::janitor::{Janitor, JanitorConfig};
use floeberg_env::Env;
use floeberg_members::Alarms;
use floeberg_objects::Objects;
use floeberg_telemetry::NodeMetrics;
use floeberg_types::TimestampMs;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// The metrics of a process that starts, and when it does.
pub(crate) fn begin(env: &Env) -> (NodeMetrics, TimestampMs) {
    let (metrics, started) = (NodeMetrics::new(), env.clock.now());
    metrics.machine.version(env!("CARGO_PKG_VERSION"));
    metrics.machine.started.set(started.0 / 1000);
    (metrics, started)
}

impl Ground<'_> {
    /// Starts the tasks.
    pub(crate) fn tend(
        &self,
        catalog: &Catalog,
        objects: &Arc<Objects>,
        alarms: &Alarms,
        vigil: Vigil,
    ) -> Vec<JoinHandle<()>> {
        let tasks = &self.env.tasks;
        let config = JanitorConfig::new(self.config.account.clone());
        let janitor = Janitor::new(catalog.clone(), config);
        let mut running = vec![
            tasks.spawn("reclaimer", objects.clone().run_reclaimer()),
            tasks.spawn("repairs", objects.clone().run_repairs()),
            tasks.spawn("janitor", janitor.run()),
            tasks.spawn("vigil", vigil.run()),
        ];
        if let Some(marks) = self.marks {
            let refill = Refill {
                marks: marks.clone(),
                objects: objects.clone(),
                standing: self.standing.clone(),
                alarms: alarms.clone(),
                missing: self.metrics.machine.missing_chunks.clone(),
                env: self.env.clone(),
            };
            running.push(tasks.spawn("refill", refill.run()));
        }
        running
    }
}
