//! The largest requests that are permitted, in the form that fits a test run.

use floeberg_test_e2e::largest::{Fate, Plan, run};
use floeberg_test_e2e::process::binary;
use std::time::Duration;

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
    for through in ["leader", "follower"] {
        for kind in ["commit", "register", "transaction"] {
            for fate in [Fate::Accepted, Fate::Refused] {
                let sent = report.requests.iter();
                let sent = sent.filter(|r| (r.kind, r.through, r.fate) == (kind, through, fate));
                assert_eq!(sent.count(), plan.rounds, "{kind} {through} {fate:?}");
            }
        }
        assert!(report.with[through].count > 0, "{report}");
    }
    Ok(())
}
