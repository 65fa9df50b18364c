//! The tables of a run: making them, following their heads, removing them.

use crate::{BenchError, at};
use floeberg_client::{
    AppendCommit, ClientError, ColumnType, CreateTableBody, IcebergClient, LoadedTable,
    transaction_body,
};
use futures::stream::{StreamExt, TryStreamExt};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

const COLUMNS: &[(&str, ColumnType)] = &[
    ("id", ColumnType::Long),
    ("name", ColumnType::String),
    ("amount", ColumnType::Double),
    ("at", ColumnType::Timestamp),
];
/// Tables made or dropped at the same time.
const PARALLEL: usize = 32;
const ROWS_PER_COMMIT: u64 = 1000;

/// What becomes of the tables and objects that a run made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Afterwards {
    /// They are removed.
    Remove,
    /// They stay: removing them would take as long as making them.
    Leave,
}

impl Afterwards {
    pub(crate) async fn of_tables(self, tables: &Tables) -> Result<(), BenchError> {
        match self {
            Self::Remove => tables.remove().await,
            Self::Leave => Ok(()),
        }
    }
}

/// Where the next commit of a table starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) snapshot: Option<i64>,
    pub(crate) sequence: i64,
}

/// One table of a run.
pub(crate) struct Table {
    pub(crate) name: String,
    uuid: String,
    location: String,
    state: Mutex<State>,
}

struct State {
    head: Head,
    /// Snapshot ids.
    ids: StdRng,
}

/// A commit being made: what it is, and the head it leads to.
pub(crate) struct Draft {
    pub(crate) head: Head,
    parent: Option<i64>,
    manifest_list: String,
}

impl Table {
    fn from_loaded(name: String, loaded: &LoadedTable) -> Result<Self, BenchError> {
        let text = |field: &'static str| {
            let value = loaded.metadata.get(field).and_then(Value::as_str);
            value.map(str::to_owned).ok_or(BenchError::Metadata {
                table: name.clone(),
                field,
            })
        };
        Ok(Self {
            uuid: text("table-uuid")?,
            location: text("location")?,
            state: Mutex::new(State {
                head: head_of(&loaded.metadata),
                ids: StdRng::from_os_rng(),
            }),
            name,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A poisoned lock still holds a whole state: it is replaced in one step.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Follows a commit of ours, unless another writer is already further.
    pub(crate) fn advance(&self, to: Head) {
        let mut state = self.state();
        if to.sequence > state.head.sequence {
            state.head = to;
        }
    }

    /// The next append on top of the known head.
    pub(crate) fn draft(&self) -> Draft {
        let mut state = self.state();
        let Head { snapshot, sequence } = state.head;
        let id = state.ids.random_range(1..i64::MAX);
        drop(state);
        Draft {
            head: Head {
                snapshot: Some(id),
                sequence: sequence + 1,
            },
            parent: snapshot,
            // Servers take the location as it is; nobody reads the file.
            manifest_list: format!("{}/metadata/snap-{id}-1-bench.avro", self.location),
        }
    }

    pub(crate) fn commit<'a>(&'a self, draft: &'a Draft) -> AppendCommit<'a> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let millis = now.map_or(0, |since| since.as_millis());
        AppendCommit {
            table_uuid: Some(&self.uuid),
            branch: "main",
            parent: draft.parent,
            snapshot_id: draft.head.snapshot.unwrap_or_default(),
            sequence_number: draft.head.sequence,
            timestamp_ms: i64::try_from(millis).unwrap_or(i64::MAX),
            manifest_list: &draft.manifest_list,
            schema_id: 0,
            added_records: ROWS_PER_COMMIT,
            total_records: ROWS_PER_COMMIT * draft.head.sequence.unsigned_abs(),
        }
    }
}

fn head_of(metadata: &Value) -> Head {
    let snapshot = metadata.get("current-snapshot-id").and_then(Value::as_i64);
    Head {
        // Old writers say -1 for none.
        snapshot: snapshot.filter(|id| *id >= 0),
        sequence: metadata
            .get("last-sequence-number")
            .and_then(Value::as_i64)
            .unwrap_or(0),
    }
}

/// The namespace of a run and its tables.
pub(crate) struct Tables {
    client: IcebergClient,
    namespace: String,
    pub(crate) all: Vec<Table>,
}

impl Tables {
    /// Makes a namespace of a fresh name with `count` empty tables.
    pub(crate) async fn create(client: IcebergClient, count: usize) -> Result<Self, BenchError> {
        let namespace = format!("bench_{:08x}", StdRng::from_os_rng().random::<u32>());
        client
            .create_namespace(&[&namespace])
            .await
            .map_err(at("create the namespace"))?;
        let mut tables = Self {
            client,
            namespace,
            all: Vec::with_capacity(count),
        };
        match tables.create_all(count).await {
            Ok(all) => {
                tables.all = all;
                Ok(tables)
            }
            Err(error) => {
                // The first error is what matters; leftovers are in a namespace of our own.
                let _ = tables.remove().await;
                Err(error)
            }
        }
    }

    async fn create_all(&self, count: usize) -> Result<Vec<Table>, BenchError> {
        futures::stream::iter(0..count)
            .map(|i| self.create_one(format!("t{i:05}")))
            .buffered(PARALLEL)
            .try_collect()
            .await
    }

    async fn create_one(&self, name: String) -> Result<Table, BenchError> {
        let body = CreateTableBody {
            name: &name,
            columns: COLUMNS,
            format_version: 2,
        };
        let loaded = self
            .client
            .create_table(&[&self.namespace], &body)
            .await
            .map_err(at("create a table"))?;
        Table::from_loaded(name, &loaded)
    }

    pub(crate) fn client(&self) -> &IcebergClient {
        &self.client
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Appends a snapshot by a transaction, whose answer is empty; nobody else commits to the table.
    pub(crate) async fn append(&self, table: &Table) -> Result<(), ClientError> {
        let draft = table.draft();
        let changes = [(table.name.as_str(), table.commit(&draft))];
        let body = transaction_body(&[self.namespace()], &changes);
        self.client.commit_transaction(body).await?;
        table.advance(draft.head);
        Ok(())
    }

    /// Reads the head again after a conflict or an unknown outcome.
    pub(crate) async fn reload(&self, table: &Table) -> Result<(), ClientError> {
        let namespace = [self.namespace.as_str()];
        let loaded = self.client.load_table(&namespace, &table.name).await?;
        table.advance(head_of(&loaded.metadata));
        Ok(())
    }

    /// Drops every table of the namespace and the namespace.
    pub(crate) async fn remove(&self) -> Result<(), BenchError> {
        let namespace = [self.namespace.as_str()];
        let names = self.client.list_tables(&namespace).await;
        futures::stream::iter(names.map_err(at("list the tables"))?)
            .map(|name| async move {
                let namespace = [self.namespace.as_str()];
                self.client.purge_table(&namespace, &name).await
            })
            .buffer_unordered(PARALLEL)
            .try_collect::<()>()
            .await
            .map_err(at("drop a table"))?;
        self.client
            .drop_namespace(&namespace)
            .await
            .map_err(at("drop the namespace"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Table {
        let metadata = json!({
            "table-uuid": "u", "location": "s3://b/t", "last-sequence-number": 4,
            "current-snapshot-id": 77
        });
        let loaded = LoadedTable {
            metadata_location: None,
            metadata,
            config: Default::default(),
        };
        Table::from_loaded("t".into(), &loaded).expect("complete metadata")
    }

    #[test]
    fn commits_follow_each_other() {
        let table = table();
        let draft = table.draft();
        let commit = table.commit(&draft);
        assert_eq!((commit.parent, commit.sequence_number), (Some(77), 5));
        assert!(commit.manifest_list.starts_with("s3://b/t/metadata/snap-"));
        let snapshot = commit.snapshot_id;
        table.advance(draft.head);
        assert_eq!(table.commit(&table.draft()).parent, Some(snapshot));
    }

    #[test]
    fn an_older_head_does_not_win() {
        let table = table();
        let later = Head {
            snapshot: Some(1),
            sequence: 9,
        };
        table.advance(later);
        table.advance(Head {
            snapshot: Some(2),
            sequence: 9,
        });
        assert_eq!(table.state().head, later);
    }

    #[test]
    fn no_snapshot_has_two_spellings() {
        for metadata in [json!({}), json!({"current-snapshot-id": -1})] {
            let head = head_of(&metadata);
            assert_eq!((head.snapshot, head.sequence), (None, 0));
        }
    }
}
