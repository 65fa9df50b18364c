//! The checks are not blind: each planted bug is found within a few seeds, and the same seeds pass
//! without it.

use floeberg_test_sim::{Bug, Plan, simulate};

/// Runs seeds until the bug is found; then the same without it.
fn is_found(bug: Bug, nodes: u64, within: u64) {
    for seed in 1000..1000 + within {
        let plan = Plan::of(seed, nodes);
        if let Some(violation) = simulate(plan.with(bug)).violation {
            println!("{bug:?} with {nodes} nodes: seed {seed}: {violation}");
            let sound = simulate(plan);
            assert_eq!(sound.violation, None, "seed {seed} without the bug");
            return;
        }
    }
    panic!("{bug:?} is not found in {within} seeds");
}

/// The same for a bug that only some runs can show, beginning with seed `first`: one of them breaks a
/// promise in whose text `sign` is, so that it is found for what it does.
fn is_found_as(bug: Bug, (first, within): (u64, u64), sign: &str) {
    for seed in first..first + within {
        let plan = Plan::of(seed, 3);
        let violations = simulate(plan.with(bug)).violations;
        println!("{bug:?}: seed {seed}: {violations:?}");
        if violations.iter().any(|text| text.contains(sign)) {
            let sound = simulate(plan);
            assert_eq!(sound.violation, None, "seed {seed} without the bug");
            return;
        }
    }
    panic!("{bug:?} is not found in {within} seeds");
}

#[test]
fn a_skipped_fsync_of_a_single_node_is_found() {
    is_found(Bug::SkippedFsync, 1, 10);
}

#[test]
fn a_skipped_fsync_in_a_cluster_is_found() {
    is_found(Bug::SkippedFsync, 3, 20);
}

#[test]
fn a_comparison_that_is_left_out_is_found() {
    is_found(Bug::CasNotChecked, 3, 10);
}

#[test]
fn an_answer_before_a_majority_has_the_entry_is_found() {
    is_found(Bug::AnsweredBeforeQuorum, 3, 20);
}

#[test]
fn a_stale_leader_that_answers_is_found() {
    is_found(Bug::StaleLeader, 3, 30);
}

#[test]
fn a_replay_row_that_is_lost_on_failover_is_found() {
    is_found(Bug::ReplayRowLost, 3, 20);
}

#[test]
fn a_node_that_was_put_back_and_is_let_in_is_found() {
    is_found(Bug::RolledBackLetIn, 3, 40);
}

#[test]
fn a_lost_vote_is_found() {
    is_found(Bug::LostVote, 3, 20);
}

#[test]
fn a_decision_that_is_sent_again_as_new_is_found() {
    is_found(Bug::DeltaResubmitted, 3, 10);
}

#[test]
fn room_that_is_kept_for_nobody_is_found() {
    is_found(Bug::BudgetLeaked, 3, 10);
}

#[test]
fn a_command_above_the_limit_from_another_node_is_found() {
    is_found(Bug::LimitNotChecked, 3, 10);
}

#[test]
fn rows_that_are_older_than_they_say_are_found() {
    is_found(Bug::StaleSnapshot, 1, 10);
    is_found(Bug::StaleSnapshot, 3, 10);
}

#[test]
fn a_volume_that_was_put_back_and_is_trusted_is_found() {
    is_found_as(Bug::VolumeLetIn, (1010, 10), "copies and does not know it");
}

#[test]
fn rows_of_the_catalog_that_are_too_old_are_found() {
    is_found_as(
        Bug::StaleCatalog,
        (1020, 10),
        "of a bucket that was deleted",
    );
}

#[test]
fn pieces_that_are_seen_before_they_are_published_are_found() {
    is_found(Bug::PiecesShown, 3, 10);
}

#[test]
fn pieces_that_are_published_without_a_comparison_are_found() {
    is_found_as(Bug::PiecesNotCompared, (1000, 30), "were both published");
}
