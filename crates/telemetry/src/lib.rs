//! Metric families and log output of a node.
//!
//! Crates receive their own small struct of handles and never see the registry, so a metric's
//! name, unit and meaning stand in one place. Nothing here is global: two nodes in one process have
//! two registries.

mod logs;
mod metrics;
pub mod testing;

pub use logs::{LogFormat, init_logs};
pub use metrics::{
    CallLabels, CatalogMetrics, ConsensusMetrics, HttpLabels, HttpMetrics, MachineMetrics,
    MetastoreMetrics, NodeMetrics, ObjectsMetrics, RaftLogMetrics, RpcMetrics, VolumeMetrics,
};
pub use prometheus_client::metrics::{counter::Counter, gauge::Gauge, histogram::Histogram};
