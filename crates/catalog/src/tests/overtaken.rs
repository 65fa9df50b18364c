//! Large commits and creates whose table moves on, or whose clock changes, before they are decided: nothing of
//! either is lost.

use super::drafts::{fill, lab, pieces_begun, run, unsettled, value_of};
use super::lab::*;
use super::pieces::cold;
use crate::*;

/// Small commits to the table come in between at every moment: nothing of either is lost.
#[tokio::test]
async fn a_large_change_builds_on_what_its_table_is_by_then() {
    for after in 0..40 {
        let lab = lab().await;
        let change = fill("t");
        let mut large = Box::pin(lab.commit(&change));
        let mut done = None;
        for _ in 0..after {
            if let std::task::Poll::Ready(answer) = futures::poll!(&mut large) {
                done = Some(answer);
                break;
            }
            tokio::task::yield_now().await;
        }
        lab.commit(&set_property("t", "small", "s")).await.unwrap();
        match done {
            Some(answer) => answer.unwrap(),
            None => large.await.unwrap(),
        };
        let metadata = cold(&lab, "t").await.unwrap();
        assert_eq!(
            value_of(&metadata, "small").as_deref(),
            Some("s"),
            "{after}"
        );
        assert!(value_of(&metadata, "filler-2").is_some(), "{after}");
        assert_eq!(lab.load("t").await.unwrap().info().version, 3, "{after}");
    }
}

/// Somebody commits to the table all the time: in the end the command holds all of it.
#[tokio::test]
async fn a_busy_table_does_not_keep_a_large_commit_from_being_decided() {
    let lab = lab().await;
    let change = fill("t");
    let mut large = Box::pin(lab.commit(&change));
    let mut small = 0;
    while futures::poll!(&mut large).is_pending() {
        if small % 4 == 0 {
            let value = small.to_string();
            lab.commit(&set_property("t", "small", &value))
                .await
                .unwrap();
        }
        small += 1;
        tokio::task::yield_now().await;
        assert!(small < 100_000, "it is never decided");
    }
    let metadata = cold(&lab, "t").await.unwrap();
    assert!(value_of(&metadata, "filler-2").is_some() && value_of(&metadata, "small").is_some());
    // What was written ahead for the first draft is of use for the last one.
    let head = lab.load("t").await.unwrap();
    assert_ne!(head.series(), keys::SeriesId::first_of(head.info().id));
    assert!(!unsettled(&lab) && pieces_begun(&lab) == 0);
    let change = append("t", &metadata, 1);
    let head = lab.commit(&change).await.unwrap().head;
    assert_eq!(cold(&lab, "t").await.unwrap(), *head.metadata());
}

/// The clock was ahead when a commit was drafted, and is right when it is decided.
#[tokio::test]
async fn no_draft_is_of_the_future() {
    const HOUR_MS: i64 = 3_600_000;
    for kind in ["commit", "create"] {
        let mut is_done = false;
        let mut after = 0;
        while !is_done {
            let lab = Lab::with_pieces(PieceSizes::default()).await;
            lab.create("t").await.unwrap();
            lab.control.jump_clock(HOUR_MS);
            let mut running = Box::pin(run(&lab, kind));
            for _ in 0..after {
                is_done = is_done || futures::poll!(&mut running).is_ready();
                if is_done {
                    break;
                }
                tokio::task::yield_now().await;
            }
            lab.control.jump_clock(-HOUR_MS);
            if !is_done {
                running.await.unwrap();
            }
            let name = if kind == "create" { "new" } else { "t" };
            let updated = cold(&lab, name).await.unwrap().last_updated_ms();
            assert!(updated <= lab.store.applied().log_time.0, "{kind} {after}");
            after += 1 + after / 4;
        }
        assert!(after > 3, "{kind}");
    }
}

/// One whose requirement no longer holds is refused, whatever was drafted before.
#[tokio::test]
async fn a_large_change_whose_requirement_fails_meanwhile_is_refused() {
    let mut refused = 0;
    for after in 0..40 {
        let lab = lab().await;
        let head = lab.load("t").await.unwrap();
        let mut change = append("t", head.metadata(), 1);
        change.updates.extend(fill("t").updates);
        let mut large = Box::pin(lab.commit(&change));
        for _ in 0..after {
            if futures::poll!(&mut large).is_ready() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let small = append("t", head.metadata(), 2);
        match lab.commit(&small).await {
            Ok(_) => {
                let error = large.await.unwrap_err();
                assert!(
                    matches!(error, CommitError::RequirementFailed(_)),
                    "{error}"
                );
                refused += 1;
            }
            Err(error) => {
                assert!(
                    matches!(error, CommitError::RequirementFailed(_)),
                    "{error}"
                );
                break;
            }
        }
        let metadata = cold(&lab, "t").await.unwrap();
        assert!(value_of(&metadata, "filler-2").is_none());
        // Not once it expires, but as soon as it is refused.
        while unsettled(&lab) {
            tokio::task::yield_now().await;
        }
    }
    assert!(refused > 3, "{refused}");
}
