//! Large commits and creates: drafted apart from their decision and written ahead, seen whole or not at all,
//! and decided on what their tables are by then.

use super::lab::*;
use super::pieces::{cold, fragments, sweep};
use crate::commit::Size;
use crate::errors::TooManyDocuments;
use crate::pieces::{PIECES_LAST_MS, Place};
use crate::rows::PiecesRow;
use crate::*;
use floeberg_iceberg::{RawJson, TableMetadata, TableRequirement, TableUpdate};
use floeberg_metastore::Rows as _;
use floeberg_types::limits;
use tokio::time::Instant;

/// What is large enough to be drafted goes in pieces of a few rows.
const SIZES: PieceSizes = PieceSizes {
    above: 100 << 10,
    bytes: 64 << 10,
};

/// A change that adds 300 KiB of properties.
pub(crate) fn fill(name: &str) -> TableChange {
    let value = "v".repeat(100 << 10);
    let set = |n: usize| set_property(name, &format!("filler-{n}"), &value).updates;
    let change = TableChange {
        updates: (0..3).flat_map(set).collect(),
        ..set_property(name, "k", "v")
    };
    assert_eq!(Size::of(std::slice::from_ref(&change)), Size::Large);
    change
}

fn wide_schema() -> RawJson {
    let field = |id: usize| {
        let doc = "what it says ".repeat(8);
        format!(r#"{{"id":{id},"name":"c{id}","required":false,"type":"long","doc":"{doc}"}}"#)
    };
    let fields: Vec<String> = (1..=2500).map(field).collect();
    let fields = fields.join(",");
    RawJson::parse(&format!(r#"{{"type":"struct","fields":[{fields}]}}"#)).unwrap()
}

/// A create of 350 KiB as a commit.
fn created(name: &str) -> TableChange {
    let updates = vec![
        update(r#"{"action":"assign-uuid","uuid":"6f0c9a1e-3b1a-4a52-9d29-4f0b36d6a001"}"#),
        update(r#"{"action":"upgrade-format-version","format-version":2}"#),
        TableUpdate::AddSchema {
            schema: wide_schema(),
        },
        update(r#"{"action":"set-current-schema","schema-id":-1}"#),
        update(r#"{"action":"add-spec","spec":{"spec-id":0,"fields":[]}}"#),
        update(r#"{"action":"set-default-spec","spec-id":-1}"#),
        update(r#"{"action":"add-sort-order","sort-order":{"order-id":0,"fields":[]}}"#),
        update(r#"{"action":"set-default-sort-order","sort-order-id":-1}"#),
    ];
    TableChange {
        ident: ident(name),
        requirements: vec![TableRequirement::AssertCreate],
        updates,
    }
}

pub(crate) fn pieces_begun(lab: &Lab) -> usize {
    let rows = lab.store.local();
    let prefix = keys::all_pieces();
    rows.scan_prefix(&prefix, None, usize::MAX).unwrap().len()
}

/// Whether somebody may still publish a series.
pub(crate) fn unsettled(lab: &Lab) -> bool {
    let rows = lab.store.local();
    let pieces = rows.scan::<PiecesRow>(&keys::all_pieces(), None, usize::MAX);
    pieces.unwrap().iter().any(|(_, row)| !row.value.condemned)
}

pub(crate) fn value_of(metadata: &TableMetadata, name: &str) -> Option<String> {
    let property = metadata.properties().find(|(key, _)| *key == name);
    property.map(|(_, value)| value.to_string())
}

/// Sends a large request of a kind.
pub(crate) async fn run(lab: &Lab, kind: &str) -> Result<(), String> {
    let done = match kind {
        "commit" => lab.commit(&fill("t")).await.map(|_| ()),
        "transaction" => {
            let changes = [set_property("s", "k", "v"), fill("t"), created("new")];
            lab.transaction(&changes).await.map(|_| ())
        }
        "commit that creates" => lab.commit(&created("new")).await.map(|_| ()),
        "create" => {
            let request = CreateTable {
                schema: wide_schema(),
                ..new_table("new")
            };
            let done = lab.create_with(&request).await;
            return done.map(|_| ()).map_err(|error| error.to_string());
        }
        kind => panic!("{kind}"),
    };
    done.map_err(|error| error.to_string())
}

const KINDS: [&str; 4] = ["commit", "transaction", "commit that creates", "create"];

pub(crate) async fn lab() -> Lab {
    let lab = Lab::with_pieces(SIZES).await;
    lab.create("t").await.unwrap();
    lab.create("s").await.unwrap();
    lab
}

#[tokio::test]
async fn large_documents_go_in_pieces_and_read_as_they_were_made() {
    for kind in KINDS {
        let lab = lab().await;
        let mut running = Box::pin(run(&lab, kind));
        let mut begun = 0;
        loop {
            let done = futures::poll!(&mut running).is_ready();
            begun = begun.max(pieces_begun(&lab));
            if done {
                break;
            }
            tokio::task::yield_now().await;
        }
        drop(running);
        assert!(begun > 0, "{kind} went in one command");
        assert_eq!(pieces_begun(&lab), 0, "{kind}");
        for name in ["t", "s", "new"] {
            let warm = lab.load(name).await;
            match cold(&lab, name).await {
                Ok(metadata) => assert_eq!(warm.unwrap().metadata(), &metadata, "{kind}: {name}"),
                Err(_) => assert!(warm.is_err() && name == "new", "{kind}: {name}"),
            }
        }
        let change = append("t", lab.load("t").await.unwrap().metadata(), 1);
        let head = lab.commit(&change).await.unwrap().head;
        assert_eq!(cold(&lab, "t").await.unwrap(), *head.metadata(), "{kind}");
    }
}

/// The client goes, or the node loses power, at any moment: all of it is there, or nothing.
#[tokio::test]
async fn a_large_change_whose_client_goes_is_whole_or_not_there() {
    for kind in KINDS {
        let mut moments = 0;
        for round in 0.. {
            let mut lab = lab().await;
            let before = fragments(&lab);
            let mut running = Box::pin(run(&lab, kind));
            let mut is_done = false;
            for _ in 0..moments {
                is_done = futures::poll!(&mut running).is_ready();
                if is_done {
                    break;
                }
                tokio::task::yield_now().await;
            }
            drop(running);
            if round % 2 == 1 {
                lab.crash().await;
            }
            // What was begun is begun and given up, or expires, although nobody waits for it.
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let mut sweeps = 0;
            while sweeps == 0 || pieces_begun(&lab) > 0 {
                lab.control.jump_clock(PIECES_LAST_MS);
                sweep(&lab).await;
                sweeps += 1;
                assert!(sweeps < 100, "{kind} after {moments}");
            }
            let filled = value_of(&cold(&lab, "t").await.unwrap(), "filler-2").is_some();
            let new = cold(&lab, "new").await.is_ok();
            if filled || new {
                assert_eq!(filled, ["commit", "transaction"].contains(&kind));
                assert_eq!(new, kind != "commit", "{kind} after {moments}");
            } else {
                assert_eq!(fragments(&lab), before, "{kind} after {moments}");
            }
            assert!(filled || new || !is_done, "{kind}");
            if is_done {
                assert!(moments > 3, "{kind} after {moments}");
                break;
            }
            moments += 1 + moments / 8;
        }
    }
}

/// More documents than one request has places for go into the command.
#[tokio::test]
async fn a_transaction_with_many_large_documents_is_one_command() {
    let lab = lab().await;
    let mut changes = Vec::new();
    for n in 0..12 {
        let name = format!("large_{n}");
        lab.create(&name).await.unwrap();
        changes.push(fill(&name));
    }
    lab.transaction(&changes).await.unwrap();
    assert_eq!(pieces_begun(&lab), 0);
    for change in &changes {
        let metadata = cold(&lab, change.ident.name.as_str()).await.unwrap();
        assert!(value_of(&metadata, "filler-2").is_some());
    }
}

/// Nothing is written ahead for a request that one of its changes makes impossible.
#[tokio::test]
async fn a_transaction_that_is_refused_writes_nothing_ahead() {
    let lab = lab().await;
    let head = lab.load("s").await.unwrap();
    lab.commit(&append("s", head.metadata(), 1)).await.unwrap();
    let before = fragments(&lab);
    let changes = [fill("t"), append("s", head.metadata(), 2)];
    let refused = lab.transaction(&changes).await.unwrap_err();
    assert!(
        matches!(refused, CommitError::RequirementFailed(_)),
        "{refused}"
    );
    assert_eq!((fragments(&lab), pieces_begun(&lab)), (before, 0));
}

/// What waits for a place to write ahead has made nothing of its request yet: not even that its table does
/// not exist is known.
#[tokio::test]
async fn a_large_change_takes_its_place_before_it_is_drafted() {
    let lab = lab().await;
    let (may, may_create, patient) = (allowed(), allowed(), cx());
    let hasty = Cx {
        deadline: Some(Instant::now()),
        ..cx()
    };
    let commit = async |cx: &Cx, change: TableChange| {
        let (lake, catalog) = (lake(), &lab.catalog);
        let committed = catalog.commit_table(&may, cx, &lake, change);
        committed.await.map(drop).unwrap_err().to_string()
    };
    let create = async |cx: &Cx| {
        let request = CreateTable {
            schema: wide_schema(),
            ..new_table("t")
        };
        let created = lab.catalog.create_table(&may_create, cx, &request);
        created.await.map(drop).unwrap_err().to_string()
    };
    let mut place = Place::default();
    let metadata = cold(&lab, "s").await.unwrap();
    let held = lab.catalog.write_ahead(&patient, &mut place, &metadata);
    held.await.unwrap();
    let full = TooManyDocuments { limit: 2 }.to_string();
    assert_eq!(commit(&hasty, fill("nowhere")).await, full);
    assert_eq!(create(&hasty).await, full);
    let small = commit(&patient, set_property("nowhere", "k", "v")).await;
    assert!(small.contains("nowhere"), "{small}");
    drop(place);
    let large = commit(&patient, fill("nowhere")).await;
    assert!(large.contains("nowhere"), "{large}");
    assert!(create(&patient).await.contains("exists"));
}

/// A retry under the request's key gets the answer, and writes nothing.
#[tokio::test]
async fn a_large_change_that_comes_again_is_answered_from_its_record() {
    let lab = lab().await;
    let (change, cx) = (fill("t"), once(1, 1));
    let commit = async || {
        let (may, lake) = (allowed(), lake());
        let committed = lab.catalog.commit_table(&may, &cx, &lake, change.clone());
        committed.await.unwrap()
    };
    assert_eq!(commit().await.outcome, CommitOutcome::Committed);
    // Somebody undoes a part of it.
    lab.commit(&set_property("t", "filler-0", "gone"))
        .await
        .unwrap();
    let before = fragments(&lab);
    assert_eq!(commit().await.outcome, CommitOutcome::Replayed);
    assert_eq!(fragments(&lab), before);
}

/// A staged create too, also if a table has come of it since.
#[tokio::test]
async fn a_large_staged_create_that_comes_again_is_answered_from_its_record() {
    let lab = lab().await;
    let request = CreateTable {
        schema: wide_schema(),
        ..new_table("new")
    };
    let (may, cx) = (allowed(), once(1, 1));
    let stage = async || lab.catalog.stage_table(&may, &cx, &request).await.unwrap();
    let staged = stage().await;
    let mut change = created("new");
    change.updates.push(TableUpdate::SetLocation {
        location: staged.metadata.location().into(),
    });
    lab.commit(&change).await.unwrap();
    assert_eq!(stage().await.metadata, staged.metadata);
}

/// A change with more snapshots than it is recognised by is still recognised.
#[tokio::test]
async fn a_commit_of_many_snapshots_is_recognised() {
    let lab = lab().await;
    let head = lab.load("t").await.unwrap();
    let change = TableChange {
        updates: (1..=300).map(|id| add_root(head.metadata(), id)).collect(),
        ..set_property("t", "k", "v")
    };
    assert_eq!(
        lab.commit(&change).await.unwrap().outcome,
        CommitOutcome::Committed
    );
    assert_eq!(
        lab.commit(&change).await.unwrap().outcome,
        CommitOutcome::Replayed
    );
    let rows = lab.store.local();
    let seen = keys::seen_orders(head.info().id);
    assert_eq!(
        rows.scan_prefix(&seen, None, usize::MAX).unwrap().len(),
        100
    );
}

/// A commit may change more than one command takes.
#[tokio::test]
async fn a_commit_larger_than_a_command_is_taken() {
    let lab = Lab::with_pieces(PieceSizes::default()).await;
    lab.create("t").await.unwrap();
    let value = "v".repeat(limits::PROPERTY_VALUE_BYTES - 16);
    let set = |n: usize| set_property("t", &format!("k{n}"), &value).updates;
    let change = TableChange {
        updates: (0..6).flat_map(set).collect(),
        ..set_property("t", "k", "v")
    };
    let head = lab.commit(&change).await.unwrap().head;
    assert!(head.metadata().rendered_len() > limits::COMMAND_BYTES as u64);
    assert_eq!(cold(&lab, "t").await.unwrap(), *head.metadata());
}

/// A document that a small change hardly touches is not written anew.
#[test]
fn a_large_document_is_written_ahead_for_a_large_change_only() {
    let sizes = PieceSizes::default();
    let level = floeberg_state::FEATURE_LEVEL_PIECES;
    let (mib, suits) = (1 << 20, |weight, document| {
        sizes.suits(level, weight, document)
    });
    assert!(!suits(mib, 2 << 20), "one command takes it");
    assert!(suits(mib + 1, 8 << 20));
    assert!(!suits(mib + 1, 32 << 20));
    assert!(suits((4 << 20) + 1, 64 << 20));
    assert!(
        !sizes.suits(level - 1, 8 << 20, 8 << 20),
        "nobody knows pieces"
    );
}
