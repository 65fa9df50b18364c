//! The checkers are not blind: what a faultless cluster answers passes, whatever the interleaving,
//! and every planted bug is found.

mod simulated;

use floeberg_test_chaos::check::wgl::{Model, Timed, Verdict, search};
use floeberg_test_chaos::check::{Findings, Violation, check};
use floeberg_test_chaos::history::{
    Answer, Call, Change, Event, Final, History, Line, Snapshot, digest,
};
use proptest::prelude::*;
use simulated::{BUGS, Bug, Simulated};

const STEPS: usize = 900;

fn simulate(bug: Bug, seed: u64) -> Findings {
    let lines = Simulated::new(bug, seed).run(STEPS);
    check(&History::of(&lines).expect("a whole history"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_faultless_cluster_passes(seed: u64) {
        let found = simulate(Bug::None, seed);
        prop_assert_eq!(&found.violations, &[]);
        prop_assert_eq!(&found.undecided, &[] as &[String]);
        prop_assert!(found.tables == 3 && found.objects == 3 && found.families == 1);
    }
}

#[test]
fn every_planted_bug_is_found() {
    const SEEDS: u64 = 12;
    let mut blind = Vec::new();
    for bug in BUGS {
        let caught = (0..SEEDS).filter(|seed| !simulate(bug, *seed).violations.is_empty());
        let caught = caught.count();
        println!("{bug:?}: found in {caught} of {SEEDS} seeds");
        if caught * 2 < usize::try_from(SEEDS).unwrap() {
            blind.push((bug, caught));
        }
    }
    assert!(blind.is_empty(), "seldom found: {blind:?}");
}

/// Operations with their times, by hand.
#[derive(Default)]
struct Script(Vec<Line>);

impl Script {
    fn op(mut self, op: u64, start: u64, end: u64, call: Call, answer: Answer) -> Self {
        let client = format!("c{op}");
        let invoke = Event::Invoke {
            op,
            client,
            node: 1,
            call,
        };
        self.0.push(Line {
            at: start,
            event: invoke,
        });
        self.0.push(Line {
            at: end,
            event: Event::Ok { op, answer },
        });
        self
    }

    fn commit(
        self,
        op: u64,
        (start, end): (u64, u64),
        changes: &[(&str, Option<i64>, i64)],
    ) -> Self {
        let changes = changes.iter().map(|(table, parent, snapshot)| Change {
            table: (*table).to_owned(),
            parent: *parent,
            snapshot: *snapshot,
        });
        let call = Call::Commit {
            changes: changes.collect(),
        };
        self.op(op, start, end, call, Answer::Done)
    }

    fn load(self, op: u64, (start, end): (u64, u64), table: &str, saw: &[i64]) -> Self {
        let call = Call::Load {
            table: table.to_owned(),
        };
        let answer = Answer::Table {
            head: saw.last().copied(),
            length: saw.len(),
            digest: digest(saw.iter().copied()),
        };
        self.op(op, start, end, call, answer)
    }

    fn table(mut self, table: &str, chain: &[i64]) -> Self {
        let snapshot = |at: usize| Snapshot {
            id: chain[at],
            parent: at.checked_sub(1).map(|before| chain[before]),
            sequence: i64::try_from(at).expect("short") + 1,
        };
        let snapshots = (0..chain.len()).map(snapshot).collect();
        let last = Final {
            node: 1,
            table: table.to_owned(),
            head: chain.last().copied(),
            snapshots,
        };
        self.0.push(Line {
            at: 1_000,
            event: Event::Final(last),
        });
        self
    }

    fn violations(self) -> Vec<Violation> {
        check(&History::of(&self.0).expect("a whole history")).violations
    }
}

fn anomalies(violations: &[Violation]) -> Vec<&str> {
    let mut found = Vec::new();
    for violation in violations {
        if let Violation::Cycle { anomaly, .. } = violation {
            found.push(anomaly.as_str());
        }
    }
    found
}

#[test]
fn two_transactions_in_opposite_orders_are_a_cycle() {
    // Both span a and b and overlap in time, so that only the cycle gives them away.
    let found = Script::default()
        .commit(1, (0, 100), &[("a", None, 1), ("b", Some(20), 10)])
        .commit(2, (0, 100), &[("a", Some(1), 2), ("b", None, 20)])
        .table("a", &[1, 2])
        .table("b", &[20, 10])
        .violations();
    assert_eq!(anomalies(&found), ["G0"]);
}

#[test]
fn loads_that_see_two_transactions_in_opposite_orders_are_a_cycle() {
    // Load 3 saw a's commit, then load 4 missed b's; load 5 saw b's, then load 6 missed a's.
    let script = |sixth: &[i64]| {
        Script::default()
            .commit(1, (0, 100), &[("a", None, 1)])
            .commit(2, (0, 100), &[("b", None, 2)])
            .load(3, (10, 20), "a", &[1])
            .load(4, (30, 40), "b", &[])
            .load(5, (12, 22), "b", &[2])
            .load(6, (32, 42), "a", sixth)
            .table("a", &[1])
            .table("b", &[2])
            .violations()
    };
    // Each table alone is faultless only if nobody went back; the long fork shows across tables.
    assert!(!anomalies(&script(&[])).is_empty());
    let fork = Script::default()
        .commit(1, (0, 100), &[("a", None, 1)])
        .commit(2, (0, 100), &[("b", None, 2)])
        .load(3, (10, 20), "b", &[])
        .load(4, (30, 40), "a", &[1])
        .load(5, (50, 60), "b", &[2])
        .table("a", &[1])
        .table("b", &[2])
        .violations();
    assert_eq!(fork, []);
}

#[test]
fn a_transaction_seen_in_halves_is_a_cycle() {
    let found = Script::default()
        .commit(1, (0, 100), &[("a", None, 1), ("b", None, 2)])
        .load(3, (10, 20), "a", &[1])
        .load(4, (30, 40), "b", &[])
        .table("a", &[1])
        .table("b", &[2])
        .violations();
    assert_eq!(anomalies(&found), ["G-single-realtime"]);
}

#[test]
fn a_commit_before_one_that_was_acknowledged_earlier_is_found() {
    let found = Script::default()
        .commit(1, (0, 10), &[("a", Some(2), 1)])
        .commit(2, (20, 30), &[("a", None, 2)])
        .table("a", &[2, 1])
        .violations();
    let is_reordered = |v: &Violation| matches!(v, Violation::Reordered { .. });
    assert!(found.iter().any(is_reordered), "{found:?}");
    assert_eq!(anomalies(&found), ["G0-realtime"]);
}

#[test]
fn going_back_and_reading_the_future_are_found() {
    let back = Script::default()
        .commit(1, (0, 100), &[("a", None, 1)])
        .load(2, (10, 20), "a", &[1])
        .load(3, (30, 40), "a", &[])
        .table("a", &[1])
        .violations();
    let went_back = |v: &Violation| matches!(v, Violation::WentBack { .. });
    assert!(back.iter().any(went_back), "{back:?}");
    let early = Script::default()
        .load(2, (10, 20), "a", &[1])
        .commit(1, (30, 40), &[("a", None, 1)])
        .table("a", &[1])
        .violations();
    let future = |v: &Violation| matches!(v, Violation::ReadFromTheFuture { .. });
    assert!(early.iter().any(future), "{early:?}");
}

/// A register that a brute-force search can decide too.
struct Register;

#[derive(Clone, Debug)]
enum Access {
    Write(u8),
    Read(u8),
}

impl Model for Register {
    type State = u8;
    type Op = Access;

    fn initial(&self) -> u8 {
        0
    }

    fn step(&self, state: &u8, op: &Access) -> Option<u8> {
        match op {
            Access::Write(value) => Some(*value),
            Access::Read(value) => (value == state).then_some(*state),
        }
    }
}

/// Tries every order.
fn brute_force(ops: &[Timed<Access>], placed: u32, state: u8) -> bool {
    let left = |i: &usize| placed & (1 << i) == 0;
    let open: Vec<usize> = (0..ops.len()).filter(left).collect();
    if open.iter().all(|i| ops[*i].end == u64::MAX) {
        return true;
    }
    // Nothing may come before an operation that had ended when it was sent.
    let first_end = open.iter().map(|i| ops[*i].end).min().expect("not empty");
    open.iter().any(|i| {
        let op = &ops[*i];
        let after = Register.step(&state, &op.op);
        op.start <= first_end
            && after.is_some_and(|after| brute_force(ops, placed | (1 << i), after))
    })
}

fn access() -> impl Strategy<Value = Timed<Access>> {
    let op = prop_oneof![
        (1u8..4).prop_map(Access::Write),
        (0u8..4).prop_map(Access::Read)
    ];
    (op, 0u64..20, 1u64..12, 0u8..6).prop_map(|(op, start, length, unknown)| {
        let is_unknown = unknown == 0 && matches!(op, Access::Write(_));
        let end = if is_unknown { u64::MAX } else { start + length };
        Timed {
            number: 0,
            start,
            end,
            op,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_search_agrees_with_brute_force(ops in prop::collection::vec(access(), 0..8)) {
        let found = search(&Register, &ops) == Verdict::Linearizable;
        prop_assert_eq!(found, brute_force(&ops, 0, 0));
    }
}
