//! What looks after the rows, the chunks and the node itself while it runs.

use crate::refill::Refill;
use crate::vigil::Vigil;
use crate::volume_marks::VolumeMarks;
use floeberg_catalog::Catalog;
use floeberg_catalog::janitor::{Janitor, JanitorConfig};
use floeberg_consensus::Standing;
use floeberg_env::Env;
use floeberg_members::Alarms;
use floeberg_objects::Objects;
use floeberg_telemetry::NodeMetrics;
use floeberg_types::AccountId;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// What is looked after.
pub(crate) struct Tended<'a> {
    pub(crate) env: &'a Env,
    pub(crate) catalog: &'a Catalog,
    pub(crate) objects: &'a Arc<Objects>,
    pub(crate) account: &'a AccountId,
    pub(crate) marks: Option<&'a VolumeMarks>,
    pub(crate) standing: &'a Standing,
    pub(crate) alarms: &'a Alarms,
    pub(crate) metrics: &'a NodeMetrics,
}

impl Tended<'_> {
    /// Starts the tasks.
    pub(crate) fn start(&self, vigil: Vigil) -> Vec<JoinHandle<()>> {
        let (tasks, objects) = (&self.env.tasks, self.objects);
        let config = JanitorConfig::new(self.account.clone());
        let janitor = Janitor::new(self.catalog.clone(), config);
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
                alarms: self.alarms.clone(),
                missing: self.metrics.machine.missing_chunks.clone(),
                env: self.env.clone(),
            };
            running.push(tasks.spawn("refill", refill.run()));
        }
        running
    }
}
