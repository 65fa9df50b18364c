//! Commits to one table and to several at once, and loads.

use super::{Asked, Session, Stage, TABLES};
use crate::connect::Clients;
use crate::history::{Answer, Call, Change, Snapshot, digest};
use bytes::Bytes;
use floeberg_client::{AppendCommit, ClientError, LoadedTable, transaction_body};
use rand::Rng;
use rand::seq::SliceRandom as _;
use std::time::{SystemTime, UNIX_EPOCH};

/// A table as one load showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The head of `main`.
    pub head: Option<i64>,
    /// `last-sequence-number`.
    pub sequence: i64,
    /// All snapshots, by sequence number.
    pub snapshots: Vec<Snapshot>,
}

/// What a writer knows of a table.
#[derive(Clone, Debug)]
struct Known {
    index: usize,
    head: Option<i64>,
    sequence: i64,
}

/// Loads a table through a node.
pub(crate) async fn look(node: Clients, stage: &Stage, index: usize) -> Result<View, ClientError> {
    let name = stage.tables[index].name.as_str();
    let loaded = node.iceberg.load_table(&[&stage.space], name).await?;
    view(&loaded).ok_or_else(|| ClientError::Answer {
        operation: "loadTable",
        cause: "a snapshot without id or sequence number".to_owned(),
    })
}

fn view(loaded: &LoadedTable) -> Option<View> {
    let metadata = &loaded.metadata;
    let list = metadata["snapshots"]
        .as_array()
        .map_or(&[][..], Vec::as_slice);
    let snapshot = |value: &serde_json::Value| {
        Some(Snapshot {
            id: value["snapshot-id"].as_i64()?,
            parent: value["parent-snapshot-id"].as_i64(),
            sequence: value["sequence-number"].as_i64()?,
        })
    };
    let mut snapshots: Vec<Snapshot> = list.iter().map(snapshot).collect::<Option<_>>()?;
    snapshots.sort_by_key(|snapshot| snapshot.sequence);
    Some(View {
        head: metadata["refs"]["main"]["snapshot-id"].as_i64(),
        sequence: metadata["last-sequence-number"].as_i64()?,
        snapshots,
    })
}

impl View {
    /// The answer in the history.
    pub fn answer(&self) -> Answer {
        Answer::Table {
            head: self.head,
            length: self.snapshots.len(),
            digest: digest(self.snapshots.iter().map(|s| s.id)),
        }
    }
}

/// Writes to its tables, to some of them at a time if there are several.
pub(super) async fn write(mut session: Session, tables: Vec<usize>) {
    let mut known: Vec<Known> = tables
        .into_iter()
        .map(|index| Known {
            index,
            head: None,
            sequence: 0,
        })
        .collect();
    while !session.is_over() {
        let count = match known.len() {
            1 => 1,
            all => session.rng.random_range(1..=all),
        };
        known.shuffle(&mut session.rng);
        let changes = changes(&mut session, &known[..count]);
        let body = render(&session.stage, &known[..count], &changes);
        match commit(&mut session, &known[..count], changes, body).await {
            Asked::Done(ids) => {
                for (table, id) in known.iter_mut().zip(ids) {
                    (table.head, table.sequence) = (Some(id), table.sequence + 1);
                }
            }
            // Whatever the reason, the tables say what is true now.
            Asked::Refused(_) | Asked::Unknown => refresh(&mut session, &mut known).await,
        }
    }
}

/// New snapshots; now and then a transaction asserts for its last table what can never be true.
fn changes(session: &mut Session, tables: &[Known]) -> Vec<Change> {
    let mut changes: Vec<Change> = tables
        .iter()
        .map(|known| Change {
            table: session.stage.table(known.index),
            parent: known.head,
            snapshot: session.rng.random_range(1..i64::MAX),
        })
        .collect();
    if changes.len() > 1
        && session.rng.random_ratio(1, 5)
        && let Some(last) = changes.last_mut()
    {
        last.parent = Some(0);
    }
    changes
}

fn render(stage: &Stage, tables: &[Known], changes: &[Change]) -> Bytes {
    let lists: Vec<String> = tables
        .iter()
        .zip(changes)
        .map(|(known, change)| {
            let location = &stage.tables[known.index].location;
            format!("{location}/metadata/snap-{}.avro", change.snapshot)
        })
        .collect();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let timestamp_ms = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
    let append = |at: usize| AppendCommit {
        table_uuid: None,
        branch: "main",
        parent: changes[at].parent,
        snapshot_id: changes[at].snapshot,
        sequence_number: tables[at].sequence + 1,
        timestamp_ms,
        manifest_list: &lists[at],
        schema_id: 0,
        added_records: 1,
        total_records: u64::try_from(tables[at].sequence).unwrap_or(0) + 1,
    };
    if let [_] = tables {
        return append(0).render().into();
    }
    let parts: Vec<(&str, AppendCommit<'_>)> = tables
        .iter()
        .enumerate()
        .map(|(at, known)| (stage.tables[known.index].name.as_str(), append(at)))
        .collect();
    transaction_body(&[&stage.space], &parts).into()
}

/// Sends a commit; if the reply is lost, mostly sends the very same again through other nodes.
async fn commit(
    session: &mut Session,
    tables: &[Known],
    changes: Vec<Change>,
    body: Bytes,
) -> Asked<Vec<i64>> {
    let ids: Vec<i64> = changes.iter().map(|change| change.snapshot).collect();
    loop {
        let (node, stage) = (session.node(), session.stage.clone());
        let call = Call::Commit {
            changes: changes.clone(),
        };
        let body = body.clone();
        let request = async {
            match tables {
                [one] => {
                    let name = &stage.tables[one.index].name;
                    node.iceberg.update_table(&[&stage.space], name, body).await
                }
                _ => node.iceberg.commit_transaction(body).await,
            }
        };
        match session.ask(call, request, |_| Answer::Done).await {
            Asked::Done(_) => return Asked::Done(ids),
            Asked::Unknown if !session.is_over() && session.rng.random_ratio(3, 4) => {}
            Asked::Refused(503 | 429) if !session.is_over() => {}
            Asked::Refused(status) => return Asked::Refused(status),
            Asked::Unknown => return Asked::Unknown,
        }
    }
}

/// Loads the tables until all have been seen.
async fn refresh(session: &mut Session, known: &mut [Known]) {
    for table in known {
        while !session.is_over() {
            if let Some(view) = load(session, table.index).await {
                (table.head, table.sequence) = (view.head, view.sequence);
                break;
            }
        }
    }
}

async fn load(session: &mut Session, index: usize) -> Option<View> {
    let (node, stage) = (session.node(), session.stage.clone());
    let call = Call::Load {
        table: stage.table(index),
    };
    let request = look(node, &stage, index);
    match session.ask(call, request, View::answer).await {
        Asked::Done(view) => Some(view),
        _ => None,
    }
}

/// Loads tables by chance, each time through the next node.
pub(super) async fn read(mut session: Session) {
    while !session.is_over() {
        let index = session.rng.random_range(0..TABLES);
        load(&mut session, index).await;
        session.at = (session.at + 1) % session.nodes.len();
    }
}
