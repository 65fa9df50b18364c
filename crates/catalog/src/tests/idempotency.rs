//! Requests that come again under their idempotency key.

use super::lab::*;
use super::pieces::sweep;
use crate::*;
use floeberg_metastore::Cx;
use floeberg_types::TableId;
use futures::future::join_all;
use std::collections::BTreeSet;

const MINUTE_MS: i64 = 60_000;

async fn create(lab: &Lab, cx: &Cx, name: &str) -> Result<TableId, CreateTableError> {
    let request = new_table(name);
    let created = lab.catalog.create_table(&allowed(), cx, &request).await;
    created.map(|head| head.info().id)
}

async fn stage(lab: &Lab, cx: &Cx) -> StagedTable {
    let request = new_table("s");
    let staged = lab.catalog.stage_table(&allowed(), cx, &request).await;
    staged.unwrap()
}

async fn commit(lab: &Lab, cx: &Cx, change: &TableChange) -> Result<CommittedTable, CommitError> {
    lab.catalog
        .commit_table(&allowed(), cx, &lake(), change.clone())
        .await
}

async fn drop(lab: &Lab, cx: &Cx, name: &str) -> Result<(), DropTableError> {
    let request = DropTable {
        bucket: lake(),
        ident: ident(name),
        purge: Purge::Keep,
        version_token: None,
    };
    lab.catalog.drop_table(&allowed(), cx, &request).await
}

async fn rename(lab: &Lab, cx: &Cx, from: &str, to: &str) -> Result<TableInfo, RenameTableError> {
    let request = RenameTable {
        bucket: lake(),
        from: ident(from),
        to: ident(to),
        version_token: None,
    };
    lab.catalog.rename_table(&allowed(), cx, &request).await
}

fn refusal(code: u16) -> Refusal {
    Refusal {
        code,
        kind: "AlreadyExistsException".to_owned(),
        message: "there is one".to_owned(),
    }
}

fn key_used<T: std::fmt::Debug>(result: Result<T, CreateTableError>) -> KeyUsed {
    match result {
        Err(CreateTableError::Outage(Outage::KeyUsed(used))) => *used,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_success_is_told_again_and_done_once() {
    let lab = Lab::with_namespace().await;
    let catalog = &lab.catalog;
    let namespace = CreateNamespace {
        bucket: lake(),
        namespace: ns(&["new"]),
        properties: [("k".to_owned(), "v".to_owned())].into(),
    };
    let properties = UpdateProperties {
        bucket: lake(),
        namespace: ns(&["new"]),
        removals: ["k".to_owned(), "missing".to_owned()].into(),
        updates: [("l".to_owned(), "w".to_owned())].into(),
    };
    let mut rows = BTreeSet::new();
    for round in 0..2 {
        let made = catalog
            .create_namespace(&allowed(), &once(1, 1), &namespace)
            .await;
        assert_eq!(made.unwrap().properties, namespace.properties);
        let updated = catalog
            .update_namespace(&allowed(), &once(2, 2), &properties)
            .await
            .unwrap();
        assert_eq!(updated.removed, ["k"]);
        assert_eq!(updated.missing, ["missing"]);
        let id = create(&lab, &once(3, 3), "t").await.unwrap();
        let info = rename(&lab, &once(4, 4), "t", "u").await.unwrap();
        assert_eq!((info.id, info.ident), (id, ident("u")));
        let change = set_property("u", "k", "v");
        let committed = commit(&lab, &once(5, 5), &change).await.unwrap();
        assert_eq!(committed.head.info().version, 2);
        let staged = stage(&lab, &once(6, 6)).await;
        if round == 0 {
            rows = lab.rows();
        }
        let other = stage(&lab, &once(6, 6)).await;
        assert_eq!((other.id, other.metadata), (staged.id, staged.metadata));
        assert_eq!(lab.rows(), rows, "nothing is done again");
    }
    assert_eq!(lab.metrics.replays.get(), 1);
}

#[tokio::test]
async fn what_is_dropped_stays_dropped_and_is_told_again() {
    let lab = Lab::with_namespace().await;
    let id = create(&lab, &once(1, 1), "t").await.unwrap();
    drop(&lab, &once(2, 2), "t").await.unwrap();
    lab.create("t").await.unwrap();
    drop(&lab, &once(2, 2), "t").await.unwrap();
    let kept = lab.load("t").await.unwrap();
    assert_ne!(kept.info().id, id);
    assert_eq!(
        create(&lab, &once(1, 1), "t").await.unwrap(),
        id,
        "the table that this request made, not the one that has its name now"
    );
    lab.drop("t").await.unwrap();
    let namespace = ns(&["ns"]);
    for _ in 0..2 {
        lab.catalog
            .drop_namespace(&allowed(), &once(3, 3), &lake(), &namespace)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_registered_file_need_not_be_there_any_more() {
    let lab = Lab::with_namespace().await;
    let metadata = lab.create("t").await.unwrap();
    lab.drop("t").await.unwrap();
    let key = "files/v1.metadata.json";
    let body = metadata.rendered(SnapshotsMode::All);
    lab.objects.0.lock().insert(key.to_owned(), body);
    let request = RegisterTable {
        bucket: lake(),
        ident: ident("t"),
        metadata_location: format!("s3://lake/{key}"),
        overwrite: Overwrite::Refuse,
    };
    let register = async || {
        let done = lab
            .catalog
            .register_table(&allowed(), &once(1, 1), &request)
            .await;
        done.unwrap().info().id
    };
    let id = register().await;
    lab.objects.0.lock().clear();
    assert_eq!(register().await, id);
}

#[tokio::test]
async fn a_transaction_is_done_once() {
    let lab = Lab::with_namespace().await;
    lab.create("a").await.unwrap();
    lab.create("b").await.unwrap();
    let changes = [set_property("a", "k", "v"), set_property("b", "k", "v")];
    let commit = async || {
        lab.catalog
            .commit_transaction(&allowed(), &once(1, 1), &lake(), changes.to_vec())
            .await
    };
    commit().await.unwrap();
    let own = set_property("a", "k", "w");
    lab.commit(&own).await.unwrap();
    let again = commit().await.unwrap();
    let outcomes: Vec<_> = again.iter().map(|table| table.outcome).collect();
    assert_eq!(outcomes, [CommitOutcome::Replayed; 2]);
    let versions: Vec<_> = again.iter().map(|t| t.head.info().version).collect();
    assert_eq!(versions, [3, 2], "as the tables are now");
}

/// A commit that changes nothing is on record as well: what it asks for may not be so later.
#[tokio::test]
async fn a_commit_without_effect_has_its_answer() {
    let lab = Lab::with_namespace().await;
    lab.create("t").await.unwrap();
    let set = |value| set_property("t", "k", value);
    lab.commit(&set("v")).await.unwrap();
    for outcome in [CommitOutcome::Unchanged, CommitOutcome::Replayed] {
        let done = commit(&lab, &once(1, 1), &set("v")).await.unwrap();
        assert_eq!(done.outcome, outcome);
        lab.commit(&set("w")).await.unwrap();
    }
    let now = lab.load("t").await.unwrap();
    assert_eq!(now.metadata().property("k"), Some("w"));
}

#[tokio::test]
async fn a_key_is_for_one_request() {
    let lab = Lab::with_namespace().await;
    create(&lab, &once(1, 1), "t").await.unwrap();
    let other = create(&lab, &once(1, 2), "u").await;
    assert_eq!(key_used(other), KeyUsed::OtherRequest);
    assert!(lab.load("u").await.is_err());
    let refused = lab.catalog.refuse(&once(1, 2), &refusal(409)).await;
    assert!(matches!(
        refused,
        Err(Outage::KeyUsed(used)) if *used == KeyUsed::OtherRequest
    ));
}

#[tokio::test]
async fn a_refusal_is_final() {
    let lab = Lab::with_namespace().await;
    lab.create("t").await.unwrap();
    let cx = once(1, 1);
    let refused = create(&lab, &cx, "t").await;
    assert!(matches!(refused, Err(CreateTableError::Exists(_))));
    assert!(lab.catalog.refuse(&cx, &refusal(409)).await.unwrap());
    lab.drop("t").await.unwrap();
    let again = create(&lab, &cx, "t").await;
    assert_eq!(key_used(again), KeyUsed::Refused(refusal(409)));
    // A copy that was refused otherwise is told what is on record, too.
    let second = lab.catalog.refuse(&cx, &refusal(404)).await;
    assert!(matches!(
        second,
        Err(Outage::KeyUsed(used)) if *used == KeyUsed::Refused(refusal(409))
    ));
    create(&lab, &once(2, 1), "t").await.unwrap();
}

/// A copy of the request was refused, and before its refusal was on record another was done.
#[tokio::test]
async fn a_refusal_that_comes_too_late_does_not_stand() {
    let lab = Lab::with_namespace().await;
    create(&lab, &once(1, 1), "t").await.unwrap();
    assert!(
        !lab.catalog
            .refuse(&once(1, 1), &refusal(409))
            .await
            .unwrap()
    );
    create(&lab, &once(1, 1), "t").await.unwrap();
}

#[tokio::test]
async fn copies_in_flight_at_once_are_done_once() {
    let lab = Lab::with_namespace().await;
    let cx = once(1, 1);
    let copies = join_all((0..20).map(|_| create(&lab, &cx, "t"))).await;
    let ids: BTreeSet<_> = copies.into_iter().map(Result::unwrap).collect();
    assert_eq!(ids.len(), 1);
    let change = set_property("t", "k", "v");
    let cx = once(2, 2);
    let copies = join_all((0..20).map(|_| commit(&lab, &cx, &change))).await;
    let outcomes: Vec<_> = copies
        .into_iter()
        .map(|copy| copy.unwrap().outcome)
        .collect();
    let done = |outcome: &&CommitOutcome| **outcome == CommitOutcome::Committed;
    assert_eq!(outcomes.iter().filter(done).count(), 1);
    assert_eq!(lab.load("t").await.unwrap().info().version, 2);
}

#[tokio::test]
async fn a_key_is_honoured_for_its_lifetime() {
    let lab = Lab::with_namespace().await;
    let id = create(&lab, &once(1, 1), "t").await.unwrap();
    lab.control.jump_clock(IDEMPOTENCY_LIFETIME_MS);
    assert_eq!(create(&lab, &once(1, 1), "t").await.unwrap(), id);
    lab.control.jump_clock(5 * MINUTE_MS);
    let forgotten = create(&lab, &once(1, 1), "t").await;
    assert!(matches!(forgotten, Err(CreateTableError::Exists(_))));
}

/// One wrong clock makes the log's time leap, and that never falls again.
#[tokio::test]
async fn a_leap_of_the_logs_time_expires_no_answer() {
    let lab = Lab::with_namespace().await;
    let id = create(&lab, &once(1, 1), "t").await.unwrap();
    lab.control.jump_clock(10 * IDEMPOTENCY_LIFETIME_MS);
    lab.create("stamped_by_the_leap").await.unwrap();
    lab.control.jump_clock(-10 * IDEMPOTENCY_LIFETIME_MS);
    sweep(&lab).await;
    assert_eq!(create(&lab, &once(1, 1), "t").await.unwrap(), id);
    let later = create(&lab, &once(2, 2), "u").await.unwrap();
    assert_eq!(create(&lab, &once(2, 2), "u").await.unwrap(), later);
    // What is put on record after the leap does not stay for as long as that was.
    lab.control
        .jump_clock(IDEMPOTENCY_LIFETIME_MS + 5 * MINUTE_MS);
    sweep(&lab).await;
    let tags: BTreeSet<u8> = lab.rows().into_iter().map(|(key, _)| key[0]).collect();
    assert!(tags.iter().all(|tag| *tag < 0x1b), "{tags:?}");
}

#[tokio::test]
async fn answers_survive_a_crash() {
    let mut lab = Lab::with_namespace().await;
    let id = create(&lab, &once(1, 1), "t").await.unwrap();
    let before = rename(&lab, &once(2, 2), "t", "u").await.unwrap();
    lab.crash().await;
    assert_eq!(create(&lab, &once(1, 1), "t").await.unwrap(), id);
    let after = rename(&lab, &once(2, 2), "t", "u").await.unwrap();
    assert_eq!(after.ident, before.ident);
}

#[tokio::test]
async fn a_request_without_a_key_leaves_no_answer() {
    let lab = Lab::with_namespace().await;
    let head = lab.create("t").await.unwrap();
    lab.commit(&append("t", head.metadata(), 1)).await.unwrap();
    lab.catalog.refuse(&cx(), &refusal(409)).await.unwrap();
    let tags: BTreeSet<u8> = lab.rows().into_iter().map(|(key, _)| key[0]).collect();
    assert!(tags.iter().all(|tag| *tag < 0x1b), "{tags:?}");
}
