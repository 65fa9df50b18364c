//! Retention over a running catalog.

use super::lab::*;
use crate::janitor::{self, Deletion, Janitor, JanitorConfig, Retention, Times};
use crate::keys::SeriesId;
use crate::versions::{self, StoredPart};
use crate::*;
use bytes::Bytes;
use floeberg_metastore::{RawRow, Rows, StoreError, keys::events};
use floeberg_types::{GroupId, TableId};
use std::cell::Cell;
use std::collections::BTreeMap;

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
async fn answers_under_keys_expire_in_bounded_batches() {
    let lab = Lab::with_namespace().await;
    let create = async |id: u8, name: &str| {
        let (cx, request) = (once(id, id), new_table(name));
        let created = lab.catalog.create_table(&allowed(), &cx, &request).await;
        created.map(|head| head.info().id)
    };
    let first = create(1, "a").await.unwrap();
    create(2, "b").await.unwrap();
    lab.control.jump_clock(HOUR_MS / 4);
    create(3, "c").await.unwrap();
    let retention = Retention {
        answers_per_sweep: 1,
        ..Retention::default()
    };
    let mut janitor = janitor(&lab, retention);
    assert_eq!(janitor.sweep().await.unwrap(), 0);
    assert_eq!(create(1, "a").await.unwrap(), first);
    lab.control.jump_clock(HOUR_MS / 2);
    // Expired, and not yet swept: the key is free, and what is under it now stays.
    create(1, "d").await.unwrap();
    assert_eq!(janitor.sweep().await.unwrap(), 2);
    assert_eq!(janitor.sweep().await.unwrap(), 0);
    assert!(create(2, "b").await.is_err(), "forgotten");
    lab.control.jump_clock(HOUR_MS);
    assert_eq!(janitor.sweep().await.unwrap(), 2);
    assert_eq!(janitor.sweep().await.unwrap(), 2);
    assert_eq!(janitor.sweep().await.unwrap(), 0);
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

/// Rows that become others after some reads, as they do on a node that goes on applying.
struct Moving<'a> {
    before: &'a Frozen,
    after: &'a Frozen,
    reads_before: Cell<usize>,
}

/// The rows of one moment.
#[derive(Clone)]
struct Frozen(BTreeMap<Bytes, RawRow>);

impl Frozen {
    fn of(lab: &Lab) -> Self {
        let rows = lab.store.local();
        let rows = (0x10..=0x1a).flat_map(|tag| rows.scan_prefix(&[tag], None, usize::MAX));
        Self(rows.flatten().collect())
    }

    /// The parts of versions of a table.
    fn documents(&self, table: TableId, oldest: u64, newest: u64) -> Vec<Vec<StoredPart>> {
        let parts =
            |version| versions::parts::<Outage>(self, SeriesId::first_of(table), version).unwrap();
        (oldest..=newest).map(parts).collect()
    }
}

impl Rows for Frozen {
    fn get_raw(&self, key: &[u8]) -> Result<Option<RawRow>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan_prefix(
        &self,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, RawRow)>, StoreError> {
        let from = Bytes::copy_from_slice(start_after.unwrap_or(prefix));
        let rows = self.0.range(from..);
        let rows = rows.filter(|(key, _)| Some(&key[..]) != start_after);
        let rows = rows.take_while(|(key, _)| key.starts_with(prefix));
        let rows = rows.map(|(key, row)| (key.clone(), row.clone()));
        Ok(rows.take(limit).collect())
    }
}

impl Moving<'_> {
    fn now(&self) -> &Frozen {
        match self.reads_before.get() {
            0 => self.after,
            left => {
                self.reads_before.set(left - 1);
                self.before
            }
        }
    }
}

impl Rows for Moving<'_> {
    fn get_raw(&self, key: &[u8]) -> Result<Option<RawRow>, StoreError> {
        self.now().get_raw(key)
    }

    fn scan_prefix(
        &self,
        prefix: &[u8],
        start_after: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(Bytes, RawRow)>, StoreError> {
        self.now().scan_prefix(prefix, start_after, limit)
    }
}

/// Plans while a commit is applied between any two of its reads: the new version loses nothing.
#[tokio::test]
async fn a_commit_that_lands_while_rows_are_looked_through_stays_whole() {
    let lab = Lab::with_namespace().await;
    let limit = set_property("t", "write.metadata.previous-versions-max", "3");
    lab.create("t").await.unwrap();
    let mut head = lab.commit(&limit).await.unwrap().head;
    for id in 1..=8 {
        let change = append("t", head.metadata(), id);
        head = lab.commit(&change).await.unwrap().head;
    }
    // Without this even what the newest commits wrote would be kept for being young.
    lab.control.jump_clock(HOUR_MS);
    let before = Frozen::of(&lab);
    let (table, seen) = (head.info().id, head.info().version);
    for id in 9..=10 {
        let change = append("t", head.metadata(), id);
        head = lab.commit(&change).await.unwrap().head;
    }
    let after = Frozen::of(&lab);
    let newest = head.info().version;
    let retention = Retention {
        collect_every: 1,
        ..Retention::default()
    };
    let mut planned = Vec::new();
    for reads in 0.. {
        let rows = Moving {
            before: &before,
            after: &after,
            reads_before: Cell::new(reads),
        };
        let now = lab.env.clock.now();
        let plan = janitor::plan(&rows, Times { now, present: now }, &retention, None).unwrap();
        let mut left = after.clone();
        for Deletion { key, commit } in &plan.deletions {
            if left.0.get(key).is_some_and(|row| row.commit_id == *commit) {
                left.0.remove(key);
            }
        }
        let kept = |rows: &Frozen| rows.documents(table, seen, newest);
        assert_eq!(kept(&left), kept(&after), "moved after {reads} reads");
        planned.push(plan.deletions.len());
        if rows.reads_before.get() > 0 {
            break;
        }
    }
    assert!(planned.len() > 8, "{planned:?}");
    assert!(planned.iter().all(|rows| *rows > 0), "{planned:?}");
}
