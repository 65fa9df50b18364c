//! The seeds that every test run simulates.

use floeberg_test_sim::{Plan, simulate};

#[test]
fn two_hundred_seeds_keep_every_promise() {
    for seed in 0..200 {
        let report = simulate(Plan::small(seed));
        if let Some(violation) = report.violation {
            panic!(
                "seed {seed}: {violation}\n{}\nreplay: make sim SEED={seed}",
                report.trace
            );
        }
    }
}

#[test]
fn one_seed_gives_one_trace() {
    for seed in [1, 17, 4711] {
        let (first, second) = (simulate(Plan::small(seed)), simulate(Plan::small(seed)));
        assert!(
            first.trace.lines().count() > 20,
            "the run did nothing: {}",
            first.trace
        );
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}
