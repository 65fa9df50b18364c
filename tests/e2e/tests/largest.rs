//! The largest requests that are permitted, in the form that fits a test run.

use floeberg_test_e2e::largest::{Fate, Large, Plan, run};
use floeberg_test_e2e::process::binary;
use std::time::Duration;

/// Resident memory of a node, in MiB: caches, counted bodies and documents, each within its bound.
const PEAK_MIB: u64 = 1024;

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_requests_hold_up_nobody_while_a_node_joins() -> anyhow::Result<()> {
    let plan = Plan {
        binary: binary()?,
        rounds: 1,
        per_second: 20.0,
        alone: Duration::from_secs(2),
    };
    let report = run(&plan).await?;
    println!("{report}");
    let sent = |wanted: (&str, &str, Fate)| {
        let same = |r: &&Large| (r.kind, r.through, r.fate) == wanted;
        report.requests.iter().filter(same).count()
    };
    for through in ["leader", "follower"] {
        for kind in ["commit", "register", "transaction"] {
            for fate in [Fate::Accepted, Fate::Refused] {
                let sent = sent((kind, through, fate));
                assert_eq!(sent, plan.rounds, "{kind} {through} {fate:?}: {report}");
            }
        }
        assert!(report.with[through].count > 0, "{report}");
    }
    for (node, peak) in &report.peak_mib {
        assert!(*peak <= PEAK_MIB, "node {node}: {report}");
    }
    Ok(())
}
