//! Every metric family: name, unit, help text and the handles that crates update.

mod calls;
mod groups;
mod machine;

pub use calls::{CallLabels, RpcMetrics};
use groups::GroupFamilies;
pub use groups::{ConsensusMetrics, MetastoreMetrics};
pub use machine::MachineMetrics;
use parking_lot::Mutex;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::fmt::Write as _;
use std::sync::Arc;

/// Latency buckets from 50 microseconds to 13 seconds, doubling.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 19))
}

/// Size buckets from 1 to 4096, doubling.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 13))
}

/// The Raft log of a node, all groups together.
#[derive(Clone, Debug)]
pub struct RaftLogMetrics {
    /// Syncs of the log to disk.
    pub fsyncs: Counter,
    /// Records made durable by one sync.
    pub batch_records: Histogram,
    /// Duration of one sync.
    pub fsync_seconds: Histogram,
}

/// Table commits as clients see them.
#[derive(Clone, Debug)]
pub struct CatalogMetrics {
    /// Commits that made a new table version.
    pub commits: Counter,
    /// Commits refused with 409.
    pub conflicts: Counter,
    /// Commits recognised as already applied.
    pub replays: Counter,
    /// From the request's arrival in the catalog to its applied commit.
    pub commit_seconds: Histogram,
}

/// The object data plane.
#[derive(Clone, Debug, Default)]
pub struct ObjectsMetrics {
    /// Object bytes received.
    pub bytes_in: Counter,
    /// Object bytes sent.
    pub bytes_out: Counter,
    /// Deletes below a table location, kept as requests.
    pub delete_requests: Counter,
    /// Chunks given back to the volumes.
    pub reclaimed_chunks: Counter,
    /// Chunks that lack a copy, as the leader of the object index found at its last look.
    pub owed_chunks: Gauge,
}

/// The volume engine of one disk.
#[derive(Clone, Debug)]
pub struct VolumeMetrics {
    /// Syncs of segments to disk.
    pub fsyncs: Counter,
    /// Chunks made durable by one sync.
    pub batch_chunks: Histogram,
    /// Duration of one sync.
    pub fsync_seconds: Histogram,
    /// Payload bytes written.
    pub bytes_written: Counter,
    /// Payload bytes read.
    pub bytes_read: Counter,
    /// Blocks whose checksum did not match.
    pub corrupt_blocks: Counter,
    /// Requests for space that a full disk refused.
    pub refused_for_room: Counter,
    /// Segments on disk.
    pub segments: Gauge,
    /// Payload bytes that live chunks hold.
    pub live_bytes: Gauge,
    /// Payload bytes that dead chunks hold.
    pub dead_bytes: Gauge,
}

/// What a request is counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HttpLabels {
    /// `iceberg`, `s3tables`, `s3` or `admin`.
    pub api: &'static str,
    /// The operation's name in its protocol, or `unknown`.
    pub operation: &'static str,
    /// HTTP status code.
    pub status: u16,
}

/// The label of a latency histogram.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OperationLabels {
    /// `iceberg`, `s3tables`, `s3` or `admin`.
    pub api: &'static str,
    /// The operation's name in its protocol, or `unknown`.
    pub operation: &'static str,
}

/// The label of what belongs to a port.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PortLabels {
    port: &'static str,
}

/// The label of an alarm.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AlarmLabels {
    kind: &'static str,
}

/// Requests on the client ports.
#[derive(Clone, Debug)]
pub struct HttpMetrics {
    connections: Family<PortLabels, Gauge>,
    requests: Family<HttpLabels, Counter>,
    latency: Family<OperationLabels, Histogram, fn() -> Histogram>,
}

impl HttpMetrics {
    /// Open connections of a port.
    #[must_use]
    pub fn connections(&self, port: &'static str) -> Gauge {
        self.connections.get_or_create_owned(&PortLabels { port })
    }

    /// Counts one finished request that took `seconds`.
    pub fn record(&self, labels: HttpLabels, seconds: f64) {
        let operation = OperationLabels {
            api: labels.api,
            operation: labels.operation,
        };
        self.latency.get_or_create(&operation).observe(seconds);
        self.requests.get_or_create(&labels).inc();
    }
}

/// All metrics of one node, with the registry that renders them.
#[derive(Clone, Debug)]
pub struct NodeMetrics {
    /// The shared Raft log.
    pub raft_log: RaftLogMetrics,
    /// The catalog group.
    pub catalog_group: ConsensusMetrics,
    /// The first object group.
    pub objects_group: ConsensusMetrics,
    /// Transactions of the catalog group.
    pub catalog_store: MetastoreMetrics,
    /// Transactions of the first object group.
    pub objects_store: MetastoreMetrics,
    /// Table commits.
    pub catalog: CatalogMetrics,
    /// Object data plane.
    pub objects: ObjectsMetrics,
    /// The volume.
    pub volume: VolumeMetrics,
    /// Calls to other nodes.
    pub rpc: RpcMetrics,
    /// Requests.
    pub http: HttpMetrics,
    /// 1 while the node takes part in its cluster, 0 before and when it is barred.
    pub takes_part: Gauge,
    /// The binary, the clock and the disks.
    pub machine: MachineMetrics,
    alarms: Family<AlarmLabels, Gauge>,
    registry: Arc<Mutex<Registry>>,
}

impl Default for NodeMetrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Default for RaftLogMetrics {
    fn default() -> Self {
        Self {
            fsyncs: Counter::default(),
            batch_records: sizes(),
            fsync_seconds: seconds(),
        }
    }
}

impl Default for CatalogMetrics {
    fn default() -> Self {
        Self {
            commits: Counter::default(),
            conflicts: Counter::default(),
            replays: Counter::default(),
            commit_seconds: seconds(),
        }
    }
}

impl Default for VolumeMetrics {
    fn default() -> Self {
        Self {
            fsyncs: Counter::default(),
            batch_chunks: sizes(),
            fsync_seconds: seconds(),
            bytes_written: Counter::default(),
            bytes_read: Counter::default(),
            corrupt_blocks: Counter::default(),
            refused_for_room: Counter::default(),
            segments: Gauge::default(),
            live_bytes: Gauge::default(),
            dead_bytes: Gauge::default(),
        }
    }
}

impl Default for HttpMetrics {
    fn default() -> Self {
        Self {
            connections: Family::default(),
            requests: Family::default(),
            latency: Family::new_with_constructor(seconds as fn() -> Histogram),
        }
    }
}

impl NodeMetrics {
    /// Whether the node has an alarm of a kind.
    #[must_use]
    pub fn alarm(&self, kind: &'static str) -> Gauge {
        self.alarms.get_or_create_owned(&AlarmLabels { kind })
    }

    /// Registers every family under the prefix `floeberg_`.
    #[must_use]
    pub fn new() -> Self {
        let groups = GroupFamilies::default();
        let (catalog_group, catalog_store) = groups.of("0");
        let (objects_group, objects_store) = groups.of("1");
        let metrics = Self {
            raft_log: RaftLogMetrics::default(),
            catalog_group,
            objects_group,
            catalog_store,
            objects_store,
            catalog: CatalogMetrics::default(),
            objects: ObjectsMetrics::default(),
            volume: VolumeMetrics::default(),
            rpc: RpcMetrics::default(),
            http: HttpMetrics::default(),
            takes_part: Gauge::default(),
            machine: MachineMetrics::default(),
            alarms: Family::default(),
            registry: Arc::new(Mutex::new(Registry::with_prefix("floeberg"))),
        };
        let mut registry = metrics.registry.lock();
        metrics.register_log(&mut registry);
        groups.register(&mut registry);
        metrics.register_volume(&mut registry);
        metrics.rpc.register(&mut registry);
        metrics.register_services(&mut registry);
        metrics.machine.register(&mut registry);
        registry.register(
            "takes_part",
            "1 while the node takes part in its cluster",
            metrics.takes_part.clone(),
        );
        registry.register(
            "alarm",
            "1 while the node has an alarm of the kind",
            metrics.alarms.clone(),
        );
        drop(registry);
        metrics
    }

    fn register_log(&self, registry: &mut Registry) {
        let log = &self.raft_log;
        registry.register(
            "raft_log_fsyncs",
            "Syncs of the Raft log",
            log.fsyncs.clone(),
        );
        registry.register(
            "raft_log_batch_records",
            "Records per sync",
            log.batch_records.clone(),
        );
        registry.register(
            "raft_log_fsync_seconds",
            "Duration of a sync",
            log.fsync_seconds.clone(),
        );
    }

    fn register_volume(&self, registry: &mut Registry) {
        let volume = &self.volume;
        registry.register(
            "volume_fsyncs",
            "Syncs of volume segments",
            volume.fsyncs.clone(),
        );
        registry.register(
            "volume_batch_chunks",
            "Chunks per sync",
            volume.batch_chunks.clone(),
        );
        registry.register(
            "volume_fsync_seconds",
            "Duration of a sync",
            volume.fsync_seconds.clone(),
        );
        registry.register(
            "volume_bytes_written",
            "Payload bytes written",
            volume.bytes_written.clone(),
        );
        registry.register(
            "volume_bytes_read",
            "Payload bytes read",
            volume.bytes_read.clone(),
        );
        registry.register(
            "volume_corrupt_blocks",
            "Blocks with a wrong checksum",
            volume.corrupt_blocks.clone(),
        );
        registry.register(
            "volume_refused_for_room",
            "Requests for space refused on a full disk",
            volume.refused_for_room.clone(),
        );
        registry.register(
            "volume_segments",
            "Segments on disk",
            volume.segments.clone(),
        );
        registry.register(
            "volume_live_bytes",
            "Payload bytes of live chunks",
            volume.live_bytes.clone(),
        );
        registry.register(
            "volume_dead_bytes",
            "Payload bytes of dead chunks",
            volume.dead_bytes.clone(),
        );
    }

    fn register_services(&self, registry: &mut Registry) {
        registry.register(
            "objects_owed_chunks",
            "Chunks that lack a copy",
            self.objects.owed_chunks.clone(),
        );
        let catalog = &self.catalog;
        registry.register(
            "commits",
            "Table commits that made a version",
            catalog.commits.clone(),
        );
        registry.register(
            "commit_conflicts",
            "Table commits refused with 409",
            catalog.conflicts.clone(),
        );
        registry.register(
            "commit_replays",
            "Table commits found already applied",
            catalog.replays.clone(),
        );
        registry.register(
            "commit_seconds",
            "Latency of a table commit",
            catalog.commit_seconds.clone(),
        );
        let objects = &self.objects;
        registry.register(
            "object_bytes_in",
            "Object bytes received",
            objects.bytes_in.clone(),
        );
        registry.register(
            "object_bytes_out",
            "Object bytes sent",
            objects.bytes_out.clone(),
        );
        registry.register(
            "object_delete_requests",
            "Deletes kept as requests",
            objects.delete_requests.clone(),
        );
        registry.register(
            "object_reclaimed_chunks",
            "Chunks given back",
            objects.reclaimed_chunks.clone(),
        );
        registry.register(
            "http_connections",
            "Open connections by port",
            self.http.connections.clone(),
        );
        registry.register(
            "http_requests",
            "Requests by operation and status",
            self.http.requests.clone(),
        );
        registry.register(
            "http_request_seconds",
            "Latency by operation",
            self.http.latency.clone(),
        );
    }

    /// The OpenMetrics text of every family.
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = String::new();
        if text::encode(&mut out, &self.registry.lock()).is_err() {
            // Writing to a string cannot fail; a broken family must not take the page down.
            let _ = writeln!(out, "# a metric could not be encoded");
        }
        out
    }
}

#[cfg(test)]
mod tests;
