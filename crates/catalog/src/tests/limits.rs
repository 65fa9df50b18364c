//! Requests above a limit, decisions over many cold tables, and those that nobody waits for.

use super::lab::*;
use crate::commit::{Drafts, decide};
use crate::request::Request;
use crate::*;
use floeberg_env::Attendance;
use floeberg_iceberg::{InvalidUpdate, TableUpdate, UpdateError};
use floeberg_types::limits;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::time::Instant;

const DAY_MS: i64 = 86_400_000;

/// What asks for no draft.
fn impatient() -> Drafts {
    Drafts::of_the_last_time(PieceSizes::default())
}

async fn tables(lab: &Lab, count: usize) -> Vec<TableChange> {
    let mut changes = Vec::new();
    for n in 0..count {
        let name = format!("t{n}");
        lab.create(&name).await.unwrap();
        changes.push(set_property(&name, "k", "v"));
    }
    changes
}

#[tokio::test]
async fn a_transaction_over_cold_tables_is_evaluated_twice_however_many_they_are() {
    let lab = Lab::with_namespace().await;
    let changes = tables(&lab, 120).await;
    let request = Request::new(lake(), changes.into()).unwrap();
    let evaluations = AtomicUsize::new(0);
    // Nothing is in memory, and at most one table stays there.
    let catalog = lab.forgetful();
    let cx = cx();
    let done = catalog.transact_heads(&cx, |txn, heads| {
        evaluations.fetch_add(1, Ordering::Relaxed);
        // As if everything had moved on too often.
        decide(txn, &cx, heads, lab.env.clock.now(), &request, &impatient())
    });
    let Draftable::Done(done) = done.await.unwrap() else {
        panic!("left to be drafted");
    };
    assert_eq!(done.len(), 120);
    assert!(done.iter().all(|t| t.outcome == CommitOutcome::Committed));
    assert_eq!(evaluations.into_inner(), 2, "one finds all that is cold");
}

#[tokio::test]
async fn counts_above_a_limit_are_refused_before_anything_is_decided() {
    let lab = Lab::with_namespace().await;
    lab.create("t").await.unwrap();
    let before = lab.rows();
    let limit_of = |error: CommitError| match error {
        CommitError::Update(UpdateError::Invalid(InvalidUpdate::Limit(e))) => e.limit,
        other => panic!("{other}"),
    };
    let changes: Vec<TableChange> = (0..=limits::TRANSACTION_TABLES)
        .map(|n| set_property(&format!("t{n}"), "k", "v"))
        .collect();
    let refused = lab.transaction(&changes).await.unwrap_err();
    assert_eq!(limit_of(refused), limits::TRANSACTION_TABLES);

    let mut change = set_property("t", "k", "v");
    change.updates = vec![
        TableUpdate::RemoveSnapshotRef {
            ref_name: "r".into()
        };
        limits::UPDATES
    ];
    lab.commit(&change).await.unwrap();
    change.updates.push(change.updates[0].clone());
    let refused = lab.commit(&change).await.unwrap_err();
    assert_eq!(limit_of(refused), limits::UPDATES);
    assert_eq!(lab.rows(), before);
}

#[tokio::test]
async fn a_commit_that_no_entry_takes_is_refused_and_the_next_one_is_not() {
    let lab = Lab::with_namespace().await;
    lab.create("t").await.unwrap();
    let before = lab.rows();
    let value = "v".repeat(limits::PROPERTY_VALUE_BYTES - 16);
    let set = |n| set_property("t", &format!("k{n}"), &value).updates;
    let large = TableChange {
        updates: (0..5).flat_map(set).collect(),
        ..set_property("t", "k", "v")
    };
    let refused = lab.commit(&large).await.unwrap_err();
    let CommitError::Outage(Outage::TooLarge(too_large)) = refused else {
        panic!("{refused}");
    };
    assert_eq!(too_large.limit, limits::COMMAND_BYTES as u64);
    assert_eq!(lab.rows(), before);
    for n in 0..3 {
        let change = TableChange {
            updates: set(n),
            ..set_property("t", "k", "v")
        };
        lab.commit(&change).await.unwrap();
    }
}

#[tokio::test]
async fn a_namespace_has_few_properties_and_an_older_one_may_shrink() {
    let lab = Lab::with_namespace().await;
    let update = |updates: &[(&str, usize)]| UpdateProperties {
        bucket: lake(),
        namespace: ns(&["ns"]),
        removals: Default::default(),
        updates: updates
            .iter()
            .map(|(name, bytes)| ((*name).to_owned(), "v".repeat(*bytes)))
            .collect(),
    };
    let half = limits::NAMESPACE_PROPERTIES_BYTES / 2;
    let apply = |request: UpdateProperties| {
        let catalog = lab.catalog.clone();
        async move { catalog.update_namespace(&allowed(), &cx(), &request).await }
    };
    apply(update(&[("a", half)])).await.unwrap();
    let refused = apply(update(&[("b", half + 1)])).await.unwrap_err();
    assert!(
        matches!(refused, UpdateNamespaceError::Limit(_)),
        "{refused}"
    );
    apply(update(&[("a", half - 1), ("b", half - 1)]))
        .await
        .unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_nobody_waits_for_stops() {
    let lab = Lab::with_namespace().await;
    let changes = tables(&lab, 3).await;
    let late = Cx {
        deadline: Some(Instant::now()),
        ..cx()
    };
    let left = Cx {
        attendance: Attendance::of_nobody(),
        ..cx()
    };
    let request = Request::new(lake(), changes.into()).unwrap();
    let patient = cx();
    for over in [late, left] {
        let stopped = lab.store.transact(&patient, |txn| {
            let pinned = Default::default();
            let heads = Heads {
                cache: &lab.catalog.inner.heads,
                pinned: &pinned,
            };
            decide(
                txn,
                &over,
                &heads,
                lab.env.clock.now(),
                &request,
                &impatient(),
            )
            .map(|_| ())
        });
        let stopped = stopped.await.unwrap_err();
        assert!(
            matches!(
                stopped,
                TransactError::Refused(CommitError::Outage(Outage::Unavailable))
            ),
            "{stopped}"
        );
    }
}

#[tokio::test]
async fn a_table_touched_while_the_clock_was_ahead_is_appended_to_afterwards() {
    let lab = Lab::with_namespace().await;
    let created = lab.create("t").await.unwrap();
    let present = created.metadata().last_updated_ms();
    lab.control.jump_clock(DAY_MS);
    lab.commit(&set_property("t", "k", "v")).await.unwrap();
    lab.control.jump_clock(-DAY_MS);
    for id in 1..=2 {
        let head = lab.load("t").await.unwrap();
        assert!(head.metadata().last_updated_ms() >= present + DAY_MS);
        // A writer stamps its snapshot with the present.
        let text = serde_json::to_string(&append("t", head.metadata(), id).updates).unwrap();
        let ahead = format!("\"timestamp-ms\":{}", head.metadata().last_updated_ms());
        let text = text.replace(&ahead, &format!("\"timestamp-ms\":{}", present + id));
        let change = TableChange {
            updates: serde_json::from_str(&text).unwrap(),
            ..append("t", head.metadata(), id)
        };
        let done = lab.commit(&change).await.unwrap();
        let current = done.head.metadata().current_snapshot().unwrap();
        assert_eq!(current.timestamp_ms, present + id);
    }
}
