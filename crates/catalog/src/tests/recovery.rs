//! Nothing that was acknowledged is lost when the process and what it had not synced are gone.

use super::lab::*;
use crate::*;

#[tokio::test]
async fn a_crash_keeps_everything_acknowledged() {
    let mut lab = Lab::with_namespace().await;
    let mut head = lab.create("t").await.unwrap();
    let first = (
        head.metadata_location().to_owned(),
        head.rendered(SnapshotsMode::All),
    );
    let mut last = None;
    for id in 1..=5 {
        let change = append("t", head.metadata(), id);
        head = lab.commit(&change).await.unwrap().head;
        last = Some(change);
        if id % 2 == 0 {
            lab.crash().await;
        }
    }
    lab.create("dropped").await.unwrap();
    lab.drop("dropped").await.unwrap();
    lab.crash().await;
    let loaded = lab.load("t").await.unwrap();
    assert_eq!(loaded.metadata(), head.metadata());
    assert_eq!(loaded.info(), head.info());
    assert_eq!(
        loaded.etag(SnapshotsMode::All),
        head.etag(SnapshotsMode::All)
    );
    assert_eq!(lab.file(&first.0).await, Some(first.1));
    assert!(matches!(
        lab.load("dropped").await,
        Err(LoadTableError::NoSuchTable(_))
    ));
    let again = lab.commit(&last.unwrap()).await.unwrap();
    assert_eq!(
        again.outcome,
        CommitOutcome::Replayed,
        "also by a process that never saw it"
    );
    let next = lab
        .commit(&append("t", loaded.metadata(), 6))
        .await
        .unwrap();
    assert_eq!(next.head.info().version, head.info().version + 1);
}
