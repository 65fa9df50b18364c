//! The seeds that every test run simulates.

use floeberg_test_sim::{Plan, simulate};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

const SEEDS: u64 = 300;
/// A simulation has one thread; this many run at a time.
const THREADS: usize = 2;

fn keeps_its_promises(plan: Plan) {
    let report = simulate(plan);
    if let Some(violation) = report.violation {
        let seed = plan.seed;
        panic!(
            "seed {seed}: {violation}\n{}\nreplay: make sim SEED={seed}",
            report.trace
        );
    }
}

#[test]
fn three_hundred_seeds_keep_every_promise() {
    let next = AtomicU64::new(0);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= SEEDS {
                return;
            }
            keeps_its_promises(Plan::small(seed));
        }
    };
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(work);
        }
    });
}

#[test]
fn one_seed_gives_one_trace() {
    for (seed, nodes) in [(4711, 1), (17, 3), (31, 3), (5, 5)] {
        let plan = Plan::of(seed, nodes);
        let (first, second) = (simulate(plan), simulate(plan));
        assert!(first.requests > 50, "the run did nothing: {}", first.trace);
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}
