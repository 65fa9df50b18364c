//! Commits: what they change, what they refuse, what they recognise.

use super::lab::*;
use crate::*;
use floeberg_iceberg::{StaleCommit, TableMetadata, TableRequirement, UpdateError};
use futures::future::join_all;
use std::collections::BTreeSet;

fn snapshots(metadata: &TableMetadata) -> BTreeSet<i64> {
    metadata.snapshots().map(|s| s.snapshot_id).collect()
}

#[tokio::test]
async fn a_commit_makes_the_next_version() {
    let lab = Lab::with_namespace().await;
    let created = lab.create("t").await.unwrap();
    let change = append("t", created.metadata(), 1);
    let done = lab.commit(&change).await.unwrap();
    assert_eq!(done.outcome, CommitOutcome::Committed);
    let loaded = lab.load("t").await.unwrap();
    assert_eq!(loaded.info().version, 2);
    assert_eq!(loaded.metadata(), done.head.metadata());
    assert_eq!(loaded.metadata().current_snapshot().unwrap().snapshot_id, 1);
    assert_eq!(loaded.metadata_location(), done.head.metadata_location());
    assert_ne!(
        loaded.etag(SnapshotsMode::All),
        created.etag(SnapshotsMode::All)
    );
    assert_ne!(
        loaded.etag(SnapshotsMode::All),
        loaded.etag(SnapshotsMode::Refs)
    );
    let log: Vec<_> = loaded
        .metadata()
        .metadata_log()
        .map(|e| e.metadata_file.to_string())
        .collect();
    assert_eq!(log, [created.metadata_location()]);
    let file = lab.file(loaded.metadata_location()).await.unwrap();
    assert_eq!(file, loaded.rendered(SnapshotsMode::All));
    assert_eq!(TableMetadata::parse(&file).unwrap(), *loaded.metadata());
    assert_eq!(lab.metrics.commits.get(), 1);

    let cold = lab
        .forgetful()
        .load_table(&allowed(), &cx(), &lake(), &ident("t"))
        .await
        .unwrap();
    assert_eq!(cold.rendered(SnapshotsMode::All), file);
}

#[tokio::test]
async fn refusals_say_why_and_change_nothing() {
    let lab = Lab::with_namespace().await;
    let created = lab.create("t").await.unwrap();
    let base = created.metadata();
    lab.commit(&append("t", base, 1)).await.unwrap();
    let before = lab.rows();

    let conflict = lab.commit(&append("t", base, 2)).await.unwrap_err();
    assert!(
        matches!(conflict, CommitError::RequirementFailed(_)),
        "{conflict}"
    );
    let mut stale = append("t", base, 3);
    stale.requirements.clear();
    let mut second = add_snapshot(lab.load("t").await.unwrap().metadata(), 3);
    std::mem::swap(&mut stale.updates[0], &mut second);
    let text = serde_json::to_string(&stale.updates[0]).unwrap();
    stale.updates[0] = update(&text.replace(r#""sequence-number":2"#, r#""sequence-number":1"#));
    let stale = lab.commit(&stale).await.unwrap_err();
    let CommitError::Update(UpdateError::Stale(StaleCommit::SequenceNumber { .. })) = stale else {
        panic!("{stale}");
    };
    let mut invalid = set_property("t", "a", "b");
    invalid.updates = vec![update(r#"{"action":"set-current-schema","schema-id":9}"#)];
    let invalid = lab.commit(&invalid).await.unwrap_err();
    assert!(
        matches!(invalid, CommitError::Update(UpdateError::Invalid(_))),
        "{invalid}"
    );
    let missing = lab
        .commit(&set_property("nope", "a", "b"))
        .await
        .unwrap_err();
    assert_eq!(missing.to_string(), "Table does not exist: ns.nope");
    let mut elsewhere = set_property("t", "a", "b");
    elsewhere.ident.namespace = ns(&["nope"]);
    assert!(matches!(
        lab.commit(&elsewhere).await,
        Err(CommitError::NoSuchTable(_))
    ));
    let mut future = append("t", lab.load("t").await.unwrap().metadata(), 4);
    let text = serde_json::to_string(&future.updates[0]).unwrap();
    let at = text.find("\"timestamp-ms\":").unwrap() + 15;
    future.updates[0] = update(&format!("{}9{}", &text[..at], &text[at..]));
    let future = lab.commit(&future).await.unwrap_err();
    assert!(
        matches!(future, CommitError::Update(UpdateError::Invalid(_))),
        "{future}"
    );
    assert_eq!(lab.rows(), before);
    assert_eq!(
        (lab.metrics.commits.get(), lab.metrics.conflicts.get()),
        (1, 2)
    );
}

#[tokio::test]
async fn an_ineffective_commit_makes_no_version() {
    let lab = Lab::with_namespace().await;
    lab.create("t").await.unwrap();
    lab.commit(&set_property("t", "a", "1")).await.unwrap();
    let before = lab.rows();
    let again = lab.commit(&set_property("t", "a", "1")).await.unwrap();
    assert_eq!(again.outcome, CommitOutcome::Unchanged);
    assert_eq!(again.head.info().version, 2);
    assert_eq!(lab.rows(), before);
}

#[tokio::test]
async fn a_repeated_request_is_recognised() {
    let lab = Lab::with_namespace().await;
    let created = lab.create("t").await.unwrap();
    let change = append("t", created.metadata(), 1);
    let first = lab.commit(&change).await.unwrap();
    lab.commit(&append("t", first.head.metadata(), 2))
        .await
        .unwrap();
    let before = lab.rows();
    let again = lab.commit(&change).await.unwrap();
    assert_eq!(again.outcome, CommitOutcome::Replayed);
    assert_eq!(again.head.info().version, 3, "as the table is now");
    assert_eq!(lab.rows(), before);
    assert_eq!(lab.metrics.replays.get(), 1);

    // The same snapshot id with anything else different is another request.
    let mut other = change.clone();
    other
        .updates
        .push(update(r#"{"action":"set-properties","updates":{"a":"b"}}"#));
    let other = lab.commit(&other).await.unwrap_err();
    assert!(
        matches!(other, CommitError::RequirementFailed(_)),
        "{other}"
    );
}

#[tokio::test]
async fn a_repeated_request_is_recognised_after_rollback_and_expiry() {
    let lab = Lab::with_namespace().await;
    let created = lab.create("t").await.unwrap();
    let change = append("t", created.metadata(), 1);
    lab.commit(&change).await.unwrap();
    let mut expire = set_property("t", "a", "b");
    expire.updates = vec![update(
        r#"{"action":"remove-snapshots","snapshot-ids":[1]}"#,
    )];
    let expired = lab.commit(&expire).await.unwrap();
    assert!(expired.head.metadata().current_snapshot().is_none());
    // Its requirement holds again, so applying it once more would be possible, and wrong.
    let again = lab.commit(&change).await.unwrap();
    assert_eq!(again.outcome, CommitOutcome::Replayed);
    assert_eq!(lab.load("t").await.unwrap().metadata().snapshot_count(), 0);
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing() {
    let lab = Lab::with_namespace().await;
    let a = lab.create("a").await.unwrap();
    let b = lab.create("b").await.unwrap();
    lab.commit(&append("b", b.metadata(), 9)).await.unwrap();
    let before = lab.rows();
    let stale = [append("a", a.metadata(), 1), append("b", b.metadata(), 2)];
    let refused = lab.transaction(&stale).await.unwrap_err();
    assert!(
        matches!(refused, CommitError::RequirementFailed(_)),
        "{refused}"
    );
    assert_eq!(lab.rows(), before);
    let missing = [append("a", a.metadata(), 1), set_property("nope", "x", "y")];
    assert!(matches!(
        lab.transaction(&missing).await,
        Err(CommitError::NoSuchTable(_))
    ));
    let twice = [append("a", a.metadata(), 1), set_property("a", "x", "y")];
    assert!(matches!(
        lab.transaction(&twice).await,
        Err(CommitError::DuplicateTable(_))
    ));
    assert_eq!(lab.rows(), before);

    let b = lab.load("b").await.unwrap();
    let good = [
        append("a", a.metadata(), 1),
        append("b", b.metadata(), 2),
        creation("c", None),
    ];
    let done = lab.transaction(&good).await.unwrap();
    assert_eq!(done.len(), 3);
    assert!(done.iter().all(|t| t.outcome == CommitOutcome::Committed));
    assert_eq!(
        snapshots(lab.load("a").await.unwrap().metadata()),
        BTreeSet::from([1])
    );
    assert_eq!(
        snapshots(lab.load("b").await.unwrap().metadata()),
        BTreeSet::from([2, 9])
    );
    assert_eq!(lab.load("c").await.unwrap().info().version, 1);

    // All its changes are recognised, also the one that adds no snapshot.
    let again = lab.transaction(&good).await.unwrap();
    assert!(again.iter().all(|t| t.outcome == CommitOutcome::Replayed));
    let part = lab.transaction(&good[..1]).await.unwrap_err();
    assert!(
        matches!(part, CommitError::RequirementFailed(_)),
        "another request: {part}"
    );
}

/// What a client sends to create a table by a commit, optionally where it was staged.
pub(super) fn creation(name: &str, location: Option<&str>) -> TableChange {
    let schema = r#"{"type":"struct","schema-id":0,"fields":[{"id":1,"name":"x","required":false,"type":"long"}]}"#;
    let mut updates = vec![
        update(r#"{"action":"assign-uuid","uuid":"6f0c9a1e-3b1a-4a52-9d29-4f0b36d6a001"}"#),
        update(r#"{"action":"upgrade-format-version","format-version":2}"#),
        update(&format!(r#"{{"action":"add-schema","schema":{schema}}}"#)),
        update(r#"{"action":"set-current-schema","schema-id":-1}"#),
        update(r#"{"action":"add-spec","spec":{"spec-id":0,"fields":[]}}"#),
        update(r#"{"action":"set-default-spec","spec-id":-1}"#),
        update(r#"{"action":"add-sort-order","sort-order":{"order-id":0,"fields":[]}}"#),
        update(r#"{"action":"set-default-sort-order","sort-order-id":-1}"#),
    ];
    if let Some(location) = location {
        updates.push(update(&format!(
            r#"{{"action":"set-location","location":"{location}"}}"#
        )));
    }
    TableChange {
        ident: ident(name),
        requirements: vec![TableRequirement::AssertCreate],
        updates,
    }
}

#[tokio::test]
async fn a_staged_table_appears_with_its_commit_only() {
    let lab = Lab::with_namespace().await;
    let staged = lab
        .catalog
        .stage_table(&allowed(), &cx(), &new_table("t"))
        .await
        .unwrap();
    assert!(matches!(
        lab.load("t").await,
        Err(LoadTableError::NoSuchTable(_))
    ));
    let location = staged.metadata.location().to_owned();
    let key = format!(
        "{}/data/a.parquet",
        location.strip_prefix("s3://lake/").unwrap()
    );
    let bucket = lab.bucket_id().await;
    assert_eq!(
        lab.catalog.locate(bucket, &key).await.unwrap(),
        FileLocation::Staged
    );
    let taken = CreateTable {
        location: Some(location.clone()),
        ..new_table("other")
    };
    let taken = lab.create_with(&taken).await.unwrap_err();
    assert!(
        matches!(taken, CreateTableError::InvalidLocation(_)),
        "{taken}"
    );

    let mut change = creation("t", Some(&location));
    change.updates.push(add_snapshot(&staged.metadata, 5));
    change.updates.push(update(
        r#"{"action":"set-snapshot-ref","ref-name":"main","type":"branch","snapshot-id":5}"#,
    ));
    let done = lab.commit(&change).await.unwrap();
    assert_eq!(done.head.info().id, staged.id);
    assert_eq!(done.head.metadata().location(), location);
    assert_eq!(
        lab.catalog.locate(bucket, &key).await.unwrap(),
        FileLocation::Live
    );
    let again = lab.commit(&change).await.unwrap();
    assert_eq!(
        again.outcome,
        CommitOutcome::Replayed,
        "create with rows, sent twice"
    );
    let second = lab.commit(&creation("t", None)).await.unwrap_err();
    assert_eq!(
        second.to_string(),
        "Requirement failed: table already exists"
    );

    let mut mixed = creation("u", None);
    mixed
        .requirements
        .push(TableRequirement::AssertCurrentSchemaId {
            current_schema_id: 0,
        });
    assert!(matches!(
        lab.commit(&mixed).await,
        Err(CommitError::InvalidCreate(_))
    ));
    let mut nowhere = creation("u", None);
    nowhere.ident.namespace = ns(&["nope"]);
    assert!(matches!(
        lab.commit(&nowhere).await,
        Err(CommitError::NoSuchNamespace(_))
    ));
    let stolen = creation("u", Some(&location));
    assert!(matches!(
        lab.commit(&stolen).await,
        Err(CommitError::InvalidLocation(_))
    ));
    let overlapping = [
        creation("u", Some("s3://lake/custom/x/y")),
        creation("v", Some("s3://lake/custom/x")),
    ];
    let overlapping = lab.transaction(&overlapping).await;
    assert!(matches!(overlapping, Err(CommitError::InvalidLocation(_))));
}

/// Every acknowledged append is in the table exactly once, in one line of ancestors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn concurrent_committers_linearize() {
    let lab = Arc::new(Lab::with_namespace().await);
    lab.create("t").await.unwrap();
    let writers = (0..8i64).map(|writer| {
        let lab = Arc::clone(&lab);
        tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            let mut next = writer * 1000 + 1;
            while acknowledged.len() < 12 {
                let base = lab.load("t").await.unwrap();
                let change = append("t", base.metadata(), next);
                match lab.commit(&change).await {
                    Ok(done) => {
                        assert_eq!(done.outcome, CommitOutcome::Committed);
                        acknowledged.push(next);
                    }
                    Err(CommitError::RequirementFailed(_)) => {}
                    Err(e) => panic!("{e}"),
                }
                next += 1;
            }
            acknowledged
        })
    });
    let mut acknowledged = BTreeSet::new();
    for writer in join_all(writers).await {
        acknowledged.extend(writer.unwrap());
    }
    let table = lab.load("t").await.unwrap();
    let metadata = table.metadata();
    assert_eq!(snapshots(metadata), acknowledged);
    let mut line = BTreeSet::new();
    let mut at = metadata.current_snapshot();
    while let Some(snapshot) = at {
        line.insert(snapshot.snapshot_id);
        at = snapshot
            .parent_snapshot_id
            .and_then(|id| metadata.snapshot(id));
    }
    assert_eq!(line, acknowledged, "each is an ancestor of the newest");
    assert_eq!(table.info().version, 1 + acknowledged.len() as u64);
    let cold = lab
        .forgetful()
        .load_table(&allowed(), &cx(), &lake(), &ident("t"))
        .await
        .unwrap();
    assert_eq!(cold.metadata(), metadata);
}

/// The next commit builds on the head in memory; without it, on the rows. Both must agree.
#[tokio::test]
async fn a_catalog_without_memory_decides_the_same() {
    let lab = Lab::with_namespace().await;
    let cold = lab.forgetful();
    for name in ["a", "b"] {
        lab.create(name).await.unwrap();
    }
    for round in 1..=3 {
        let a = lab.load("a").await.unwrap();
        let b = lab.load("b").await.unwrap();
        let changes = [
            append("a", a.metadata(), round),
            append("b", b.metadata(), round),
        ];
        let done = cold
            .commit_transaction(&allowed(), &cx(), &lake(), changes.to_vec())
            .await
            .unwrap();
        for (name, table) in ["a", "b"].into_iter().zip(done) {
            assert_eq!(
                lab.load(name).await.unwrap().metadata(),
                table.head.metadata()
            );
        }
    }
}

#[tokio::test]
async fn old_versions_render_byte_for_byte_also_after_a_drop() {
    let lab = Lab::with_namespace().await;
    let mut head = lab.create("t").await.unwrap();
    let mut files = Vec::new();
    for id in 1..=20 {
        files.push((
            head.metadata_location().to_owned(),
            head.rendered(SnapshotsMode::All),
        ));
        let change = match id % 5 {
            0 => {
                let mut change = set_property("t", "a", "b");
                let text = format!(
                    r#"{{"action":"remove-snapshots","snapshot-ids":[{}]}}"#,
                    id - 4
                );
                change.updates = vec![update(&text)];
                change
            }
            3 => set_property("t", &format!("p{}", id % 2), &format!("{id} \\u00e9 \\\"")),
            _ => append("t", head.metadata(), id),
        };
        head = lab.commit(&change).await.unwrap().head;
    }
    let check = async |lab: &Lab| {
        for (file, bytes) in &files {
            assert_eq!(lab.file(file).await.as_ref(), Some(bytes), "{file}");
        }
    };
    check(&lab).await;
    let refs = head.rendered(SnapshotsMode::Refs);
    assert!(refs.len() < head.rendered(SnapshotsMode::All).len());
    lab.drop("t").await.unwrap();
    check(&lab).await;
    lab.create("t").await.unwrap();
    check(&lab).await;
}

/// The cost of a commit in rows does not depend on the history of the table.
#[tokio::test]
async fn a_commit_writes_the_same_rows_at_any_size() {
    let lab = Lab::with_namespace().await;
    lab.create("t").await.unwrap();
    lab.commit(&set_property(
        "t",
        "write.metadata.previous-versions-max",
        "1",
    ))
    .await
    .unwrap();
    let mut base = lab.load("t").await.unwrap();
    let mut next = 1;
    let mut written = Vec::new();
    for size in [10, 100, 10_000] {
        while base.metadata().snapshot_count() < size {
            let wanted = (size - base.metadata().snapshot_count()).min(500);
            let mut change = set_property("t", "size", &format!("{size}"));
            for _ in 0..wanted {
                change.updates.push(add_root(base.metadata(), next));
                next += 1;
            }
            base = lab.commit(&change).await.unwrap().head;
        }
        // The second append of two has a parent and a metadata log of the same length everywhere.
        for _ in 0..2 {
            let before = lab.rows();
            base = lab
                .commit(&append("t", base.metadata(), next))
                .await
                .unwrap()
                .head;
            next += 1;
            let after = lab.rows();
            written.push(after.difference(&before).count());
        }
    }
    let last: Vec<usize> = written.chunks(2).map(|pair| pair[1]).collect();
    assert_eq!(last, [last[0]; 3], "{written:?}");
    assert!(last[0] <= 12, "{written:?}");
}
