//! What a node says of its binary, its machine, its memory, its certificates and its disks.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabels {
    version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DiskLabels {
    /// What is kept there: `log`, `rows` or `volume`.
    holds: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BudgetLabels {
    budget: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CertificateLabels {
    /// Who sees it: `nodes` or `clients`.
    seen_by: &'static str,
}

/// The binary, the clock, memory, certificates and the disks.
#[derive(Clone, Debug, Default)]
pub struct MachineMetrics {
    /// When the process started, in seconds since 1970.
    pub started: Gauge,
    /// By how many milliseconds the clock is behind the median of the voters', if that is certain.
    pub clock_behind_ms: Gauge,
    /// Chunks that the volume has lost and that are not back yet.
    pub missing_chunks: Gauge,
    build: Family<BuildLabels, Gauge>,
    disk_bytes: Family<DiskLabels, Gauge>,
    disk_free_bytes: Family<DiskLabels, Gauge>,
    budget_bytes: Family<BudgetLabels, Gauge>,
    budget_held_bytes: Family<BudgetLabels, Gauge>,
    certificate_ends: Family<CertificateLabels, Gauge>,
}

fn gauge(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl MachineMetrics {
    /// Says which binary runs.
    pub fn version(&self, version: &str) {
        let version = version.to_owned();
        let build = self.build.get_or_create_owned(&BuildLabels { version });
        build.set(1);
    }

    /// Says how large the file system is that `holds` something, and how much of it is free.
    pub fn disk(&self, holds: &'static str, total: u64, free: u64) {
        let labels = DiskLabels { holds };
        self.disk_bytes.get_or_create(&labels).set(gauge(total));
        self.disk_free_bytes.get_or_create(&labels).set(gauge(free));
    }

    /// Says how many bytes of memory a budget has, and how many are held.
    pub fn budget(&self, budget: &'static str, total: u64, held: u64) {
        let labels = BudgetLabels { budget };
        self.budget_bytes.get_or_create(&labels).set(gauge(total));
        self.budget_held_bytes
            .get_or_create(&labels)
            .set(gauge(held));
    }

    /// Says when a certificate ends, in seconds since 1970.
    pub fn certificate(&self, seen_by: &'static str, ends: i64) {
        let labels = CertificateLabels { seen_by };
        self.certificate_ends.get_or_create(&labels).set(ends);
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("build_info", "The version that runs", self.build.clone());
        registry.register(
            "start_time_seconds",
            "When the process started, since 1970",
            self.started.clone(),
        );
        registry.register(
            "clock_behind_milliseconds",
            "By how much the clock is behind the others'",
            self.clock_behind_ms.clone(),
        );
        registry.register(
            "volume_missing_chunks",
            "Chunks that the volume has lost and that are not back yet",
            self.missing_chunks.clone(),
        );
        registry.register(
            "disk_bytes",
            "Size of the file system",
            self.disk_bytes.clone(),
        );
        registry.register(
            "disk_free_bytes",
            "Free bytes of the file system",
            self.disk_free_bytes.clone(),
        );
        registry.register(
            "memory_budget_bytes",
            "Memory that requests of a kind may take together",
            self.budget_bytes.clone(),
        );
        registry.register(
            "memory_budget_held_bytes",
            "Memory of it that is taken",
            self.budget_held_bytes.clone(),
        );
        registry.register(
            "certificate_end_time_seconds",
            "When a certificate runs out, since 1970",
            self.certificate_ends.clone(),
        );
    }
}
