//! Calls to other nodes.

use super::seconds;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

/// What a call to another node is counted under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// What is asked for.
    pub method: &'static str,
    /// `answered`, `refused`, `not-sent` or `lost`.
    pub outcome: &'static str,
}

/// The label of a call's latency.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MethodLabels {
    method: &'static str,
}

/// Calls to other nodes: consensus, snapshots and shards alike.
#[derive(Clone, Debug)]
pub struct RpcMetrics {
    calls: Family<CallLabels, Counter>,
    bytes: Family<MethodLabels, Counter>,
    latency: Family<MethodLabels, Histogram, fn() -> Histogram>,
}

impl RpcMetrics {
    /// Counts one finished call, whose body had `bytes` and which took `seconds`.
    pub fn record(&self, labels: CallLabels, bytes: usize, seconds: f64) {
        let method = MethodLabels {
            method: labels.method,
        };
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.bytes.get_or_create(&method).inc_by(bytes);
        self.latency.get_or_create(&method).observe(seconds);
        self.calls.get_or_create(&labels).inc();
    }

    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "rpc_calls",
            "Calls to other nodes by method and outcome",
            self.calls.clone(),
        );
        registry.register(
            "rpc_call_bytes",
            "Bytes of the calls' bodies",
            self.bytes.clone(),
        );
        registry.register(
            "rpc_call_seconds",
            "Latency of a call by method",
            self.latency.clone(),
        );
    }
}

impl Default for RpcMetrics {
    fn default() -> Self {
        Self {
            calls: Family::default(),
            bytes: Family::default(),
            latency: Family::new_with_constructor(seconds as fn() -> Histogram),
        }
    }
}
