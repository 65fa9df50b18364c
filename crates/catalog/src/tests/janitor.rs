//! Retention over a running catalog.

use super::lab::*;
use crate::janitor::{Janitor, JanitorConfig, Retention};
use crate::*;
use floeberg_metastore::{Rows, keys::events};
use floeberg_types::GroupId;

const HOUR_MS: i64 = 3_600_000;

fn janitor(lab: &Lab, retention: Retention) -> Janitor {
    let mut config = JanitorConfig::new("000000000000".parse().unwrap());
    config.retention = retention;
    Janitor::new(lab.catalog.clone(), config)
}

#[tokio::test]
async fn staged_creates_expire() {
    let lab = Lab::with_namespace().await;
    let at = CreateTable {
        location: Some("s3://lake/x/t".to_owned()),
        ..new_table("t")
    };
    lab.catalog
        .stage_table(&allowed(), &cx(), &at)
        .await
        .unwrap();
    let mut janitor = janitor(&lab, Retention::default());
    assert_eq!(janitor.sweep().await.unwrap(), 0);
    let other = CreateTable {
        ident: ident("u"),
        ..at.clone()
    };
    assert!(lab.create_with(&other).await.is_err());
    lab.control.jump_clock(HOUR_MS);
    assert_eq!(janitor.sweep().await.unwrap(), 2);
    lab.create_with(&other).await.unwrap();
    assert_eq!(janitor.sweep().await.unwrap(), 0);
}

#[tokio::test]
async fn a_staged_create_that_was_committed_stays() {
    let lab = Lab::with_namespace().await;
    let staged = lab
        .catalog
        .stage_table(&allowed(), &cx(), &new_table("t"))
        .await
        .unwrap();
    let change = super::commits::creation("t", Some(staged.metadata.location()));
    lab.commit(&change).await.unwrap();
    lab.control.jump_clock(2 * HOUR_MS);
    assert_eq!(
        janitor(&lab, Retention::default()).sweep().await.unwrap(),
        0
    );
    lab.load("t").await.unwrap();
}

#[tokio::test]
async fn events_are_kept_for_their_time() {
    let lab = Lab::with_namespace().await;
    let events = || {
        let prefix = events(GroupId::CATALOG);
        lab.store
            .local()
            .scan_prefix(&prefix, None, 100)
            .unwrap()
            .len()
    };
    assert_eq!(events(), 2);
    lab.control.jump_clock(30 * 24 * HOUR_MS);
    lab.create("t").await.unwrap();
    assert_eq!(
        janitor(&lab, Retention::default()).sweep().await.unwrap(),
        2
    );
    assert_eq!(events(), 1);
}

#[tokio::test]
async fn seen_snapshots_are_forgotten_by_age_and_number() {
    let lab = Lab::with_namespace().await;
    let mut head = lab.create("t").await.unwrap();
    let mut changes = Vec::new();
    for id in 1..=6 {
        changes.push(append("t", head.metadata(), id));
        head = lab.commit(changes.last().unwrap()).await.unwrap().head;
    }
    let retention = Retention {
        seen_per_table: 4,
        ..Retention::default()
    };
    let mut janitor = janitor(&lab, retention);
    janitor.sweep().await.unwrap();
    for (n, change) in changes.iter().enumerate() {
        let known = matches!(
            lab.commit(change).await,
            Ok(CommittedTable {
                outcome: CommitOutcome::Replayed,
                ..
            })
        );
        assert_eq!(known, n >= 2, "snapshot {}", n + 1);
    }
    lab.control.jump_clock(7 * 24 * HOUR_MS);
    janitor.sweep().await.unwrap();
    assert!(lab.commit(&changes[5]).await.is_err());
}

#[tokio::test]
async fn versions_that_nothing_names_are_collected() {
    let lab = Lab::with_namespace().await;
    let mut head = lab.create("t").await.unwrap();
    let limit = set_property("t", "write.metadata.previous-versions-max", "3");
    head = match lab.commit(&limit).await {
        Ok(done) => done.head,
        Err(e) => panic!("{head:?}: {e}"),
    };
    let mut files = Vec::new();
    for id in 1..=40 {
        files.push((
            head.metadata_location().to_owned(),
            head.rendered(SnapshotsMode::All),
        ));
        let change = if id % 4 == 0 {
            let mut change = set_property("t", "a", "b");
            let text = format!(
                r#"{{"action":"remove-snapshots","snapshot-ids":[{}]}}"#,
                id - 2
            );
            change.updates = vec![update(&text)];
            change
        } else {
            append("t", head.metadata(), id)
        };
        head = lab.commit(&change).await.unwrap().head;
    }
    files.push((
        head.metadata_location().to_owned(),
        head.rendered(SnapshotsMode::All),
    ));
    let retention = Retention {
        collect_every: 10,
        rows_per_sweep: 50,
        ..Retention::default()
    };
    let mut janitor = janitor(&lab, retention);
    janitor.sweep().await.unwrap();
    for (file, bytes) in &files {
        assert_eq!(
            lab.file(file).await.as_ref(),
            Some(bytes),
            "still young: {file}"
        );
    }
    lab.control.jump_clock(HOUR_MS);
    let before = lab.rows().len();
    while janitor.sweep().await.unwrap() > 0 {}
    let named = files.len() - 4;
    for (n, (file, bytes)) in files.iter().enumerate() {
        let expected = (n >= named).then_some(bytes);
        assert_eq!(lab.file(file).await.as_ref(), expected, "file {n}");
    }
    assert!(
        lab.rows().len() < before / 2,
        "{} of {before} rows are left",
        lab.rows().len()
    );
    let cold = lab
        .forgetful()
        .load_table(&allowed(), &cx(), &lake(), &ident("t"))
        .await
        .unwrap();
    assert_eq!(cold.metadata(), head.metadata());
    lab.commit(&append("t", head.metadata(), 99)).await.unwrap();
}
