//! What the clients of a run know: every request they sent and what became of it.

use crate::blobs::{Blob, Blobs, Ending, Name};
use crate::chain::{Change, Commit, Fate, Read};
use crate::connect::{Clients, LAKE};
use crate::history::History;
use crate::names::Names;
use crate::outcome::Outcome;
use crate::table::Observed;
use anyhow::bail;
use bytes::Bytes;
use floeberg_client::{AppendCommit, ColumnType, CreateTableBody};
use rand::Rng;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Tables with one writer each come first, then the contended one, then those of transactions.
pub const SOLO: std::ops::Range<usize> = 0..4;
/// The table that several writers contend on.
pub const HOT: usize = 4;
/// The tables that transactions span.
pub const SHARED: std::ops::Range<usize> = 5..8;

/// A table of the current generation.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name in [`Ledger::namespace`].
    pub name: String,
    /// Its location.
    pub location: String,
    /// The head of `main` when it was last verified.
    pub head: Option<i64>,
    /// Its last sequence number then.
    pub sequence: i64,
}

/// Tables and commits of one generation; histories would grow without bound otherwise.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Namespace of the tables.
    pub namespace: String,
    /// The tables, in the order of their roles.
    pub tables: Vec<Table>,
    /// Every commit that was sent.
    pub commits: Vec<Commit>,
    /// The bodies of `commits`, for sending them again.
    pub bodies: Vec<Bytes>,
    /// Loads since the last verification.
    pub reads: Vec<Read>,
    /// Bytes of metadata files, by their location.
    pub files: BTreeMap<String, Bytes>,
    /// Commits that are sent again once more at the next verification.
    pub again: Vec<usize>,
}

/// A multipart upload that has not been acknowledged as complete.
#[derive(Clone, Debug)]
pub struct Upload {
    /// Bucket and key.
    pub name: Name,
    /// Its id.
    pub id: String,
    /// The parts it is to have.
    pub blob: Blob,
    /// ETags of the parts that are acknowledged.
    pub etags: Vec<Option<String>>,
}

/// How often what happened.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Acknowledged commits of one table.
    pub commits: u64,
    /// Refused ones.
    pub conflicts: u64,
    /// Acknowledged transactions.
    pub transactions: u64,
    /// Refused ones.
    pub transaction_conflicts: u64,
    /// Acknowledged object writes.
    pub objects: u64,
    /// Acknowledged object deletions.
    pub deletions: u64,
    /// Completed multipart uploads.
    pub uploads: u64,
    /// Acknowledged creations and drops of namespaces and tables.
    pub names: u64,
    /// Requests of unknown outcome, of all kinds.
    pub unknown: u64,
    /// Commits of unknown outcome that turned out to be applied.
    pub unknown_applied: u64,
    /// Commits that were sent again verbatim.
    pub repeated: u64,
    /// Objects that were read back and compared.
    pub objects_read: u64,
    /// Metadata files that were read back and compared.
    pub files_read: u64,
}

/// Everything that is known.
#[derive(Debug)]
pub struct World {
    /// The record on disk.
    pub history: History,
    ledger: Mutex<Ledger>,
    blobs: Mutex<Blobs>,
    names: Mutex<Names>,
    uploads: Mutex<Vec<Upload>>,
    tally: Mutex<Tally>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no holder panics")
}

impl World {
    /// Knows nothing yet.
    #[must_use]
    pub fn new(history: History) -> Self {
        Self {
            history,
            ledger: Mutex::default(),
            blobs: Mutex::default(),
            names: Mutex::default(),
            uploads: Mutex::default(),
            tally: Mutex::default(),
        }
    }

    /// Tables and commits.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        lock(&self.ledger)
    }

    /// Objects.
    pub fn blobs(&self) -> MutexGuard<'_, Blobs> {
        lock(&self.blobs)
    }

    /// Namespaces and short-lived tables.
    pub fn names(&self) -> MutexGuard<'_, Names> {
        lock(&self.names)
    }

    /// Open uploads.
    pub fn uploads(&self) -> MutexGuard<'_, Vec<Upload>> {
        lock(&self.uploads)
    }

    /// Counters.
    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        lock(&self.tally)
    }
}

impl Ledger {
    /// A commit is sent; its index.
    pub fn begin(&mut self, changes: Vec<Change>, body: Bytes, started: Duration) -> usize {
        self.commits.push(Commit {
            changes,
            fate: Fate::Unknown,
            started,
            ended: None,
        });
        self.bodies.push(body);
        self.commits.len() - 1
    }

    /// A commit has ended.
    pub fn end<T>(&mut self, index: usize, outcome: &Outcome<T>, ended: Duration) {
        let commit = &mut self.commits[index];
        match outcome {
            Outcome::Done(_) => {
                commit.fate = Fate::Present;
                commit.ended = commit.ended.or(Some(ended));
            }
            Outcome::Refused { .. } => commit.fate = Fate::Absent,
            Outcome::Unknown { .. } => commit.fate = Fate::Unknown,
        }
    }
}

/// One client in one cycle.
pub struct Session {
    /// Its name in the history.
    pub name: String,
    /// The cycle.
    pub cycle: u32,
    /// What all clients know.
    pub world: Arc<World>,
    /// Connections.
    pub clients: Clients,
    /// Its choices.
    pub rng: StdRng,
    /// Set before the node is disturbed; errors without a cause are failures until then.
    pub disturbed: Arc<AtomicBool>,
}

impl Session {
    /// Whether the node is being stopped or killed, so that the client should end too.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.disturbed.load(Ordering::SeqCst)
    }

    /// Records how a request ended, and how its result is to be understood.
    ///
    /// # Errors
    /// If the outcome is unknown although nothing has disturbed the node.
    pub fn note<T>(
        &self,
        event: &str,
        what: &impl serde::Serialize,
        outcome: &Outcome<T>,
    ) -> anyhow::Result<Ending> {
        let details = serde_json::json!({"what": what, "outcome": outcome.forget()});
        self.world.history.record(&self.name, event, details);
        match outcome {
            Outcome::Done(_) => Ok(Ending::Done),
            Outcome::Refused { .. } => Ok(Ending::Refused),
            Outcome::Unknown { cause } if !self.is_over() => {
                bail!(
                    "{} {event}: outcome unknown without a disturbance: {cause}",
                    self.name
                )
            }
            Outcome::Unknown { .. } => {
                self.world.tally().unknown += 1;
                Ok(Ending::Unknown)
            }
        }
    }

    /// A table as the client knows it.
    #[must_use]
    pub fn table(&self, index: usize) -> Table {
        self.world.ledger().tables[index].clone()
    }

    /// Namespace of the current generation.
    #[must_use]
    pub fn namespace(&self) -> String {
        self.world.ledger().namespace.clone()
    }
}

/// Milliseconds since 1970, for snapshots.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A snapshot id that no one has used.
pub fn snapshot_id(rng: &mut StdRng) -> i64 {
    rng.random_range(1..i64::MAX)
}

/// Where a snapshot's manifest list is.
#[must_use]
pub fn manifest_list(location: &str, snapshot: i64) -> String {
    format!("{location}/metadata/snap-{snapshot}.avro")
}

/// An append of `snapshot` on top of `parent`, to be rendered.
#[must_use]
pub fn append<'a>(
    parent: Option<i64>,
    snapshot: i64,
    sequence: i64,
    manifest_list: &'a str,
) -> AppendCommit<'a> {
    AppendCommit {
        table_uuid: None,
        branch: "main",
        parent,
        snapshot_id: snapshot,
        sequence_number: sequence,
        timestamp_ms: now_ms(),
        manifest_list,
        schema_id: 0,
        added_records: 1,
        total_records: u64::try_from(sequence).unwrap_or(0),
    }
}

/// Creates a table of two columns.
///
/// # Errors
/// As the call.
pub async fn create_table(
    clients: &Clients,
    namespace: &str,
    name: &str,
) -> Result<floeberg_client::LoadedTable, floeberg_client::ClientError> {
    let columns = [("id", ColumnType::Long), ("note", ColumnType::String)];
    let body = CreateTableBody {
        name,
        columns: &columns,
        format_version: 2,
    };
    clients.iceberg.create_table(&[namespace], &body).await
}

/// Makes the namespace and tables of a new generation, while nothing disturbs the node.
///
/// # Errors
/// If a call fails.
pub async fn new_generation(world: &World, clients: &Clients, number: u32) -> anyhow::Result<()> {
    let namespace = format!("g{number}");
    clients.iceberg.create_namespace(&[&namespace]).await?;
    let mut tables = Vec::new();
    for index in 0..SHARED.end {
        let name = format!("t{index}");
        let observed = Observed::of(&create_table(clients, &namespace, &name).await?)?;
        anyhow::ensure!(
            observed.location.starts_with(&format!("s3://{LAKE}/")),
            "table {name} is at {}",
            observed.location
        );
        tables.push(Table {
            name,
            location: observed.location,
            head: None,
            sequence: 0,
        });
    }
    *world.ledger() = Ledger {
        namespace,
        tables,
        ..Ledger::default()
    };
    Ok(())
}
