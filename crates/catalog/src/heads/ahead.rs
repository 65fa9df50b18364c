//! What commands of other nodes that are on their way make of table heads.
//!
//! Without it the leader would lack the head of every commit that another node decided, and could decide on
//! that table only once nothing is in flight there: never, if the table is busy.

use super::{TableHead, TableInfo};
use crate::errors::DamagedRow;
use crate::keys::{self, FragmentRole};
use crate::rows::{FragmentRow, TableHeadRow, stored};
use bytes::Bytes;
use floeberg_iceberg::PartChange;
use floeberg_state::{Command, RowChange};
use floeberg_types::{CommitId, TableId};
use parking_lot::Mutex;
use prost::Message as _;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// Changes kept whose base is not here (yet), the newest of all tables.
const CHANGES_MAX: usize = 256;

/// A command that changes more rows or tables is not followed: the evaluation lock is held.
const ROWS_MAX: usize = 256;
const TABLES_MAX: usize = 8;

/// Bytes of the rows of one change that is followed.
const BYTES_MAX: usize = 64 << 10;

/// A head and the commit that left it.
type Base = (TableId, CommitId);

/// How one command changes one table.
struct Change {
    commit: CommitId,
    head: Bytes,
    fragments: Vec<(Bytes, Bytes)>,
}

/// Changes by what they change.
#[derive(Default)]
pub(super) struct Ahead(Mutex<Changes>);

#[derive(Default)]
struct Changes {
    by_base: HashMap<Base, Change>,
    oldest_first: VecDeque<Base>,
}

impl Changes {
    fn push(&mut self, base: Base, change: Change) {
        if self.by_base.insert(base, change).is_none() {
            self.oldest_first.push_back(base);
        }
        while self.oldest_first.len() > CHANGES_MAX {
            if let Some(oldest) = self.oldest_first.pop_front() {
                self.by_base.remove(&oldest);
            }
        }
    }

    fn take(&mut self, base: Base) -> Option<Change> {
        // Its place in the queue is given up when it becomes the oldest.
        self.by_base.remove(&base)
    }
}

impl Ahead {
    /// Keeps what a command changes; the heads that it builds on.
    pub(super) fn note(&self, commit: CommitId, command: &Command) -> Vec<Base> {
        if command.ops.len() > ROWS_MAX {
            return Vec::new();
        }
        let heads: Vec<_> = heads_of(command).take(TABLES_MAX + 1).collect();
        if heads.len() > TABLES_MAX {
            return Vec::new();
        }
        let mut bases = Vec::new();
        for (table, head) in heads {
            let Some(base) = base_of(command, table) else {
                continue;
            };
            if let Some(change) = change_of(command, commit, head) {
                self.0.lock().push((table, base), change);
                bases.push((table, base));
            }
        }
        bases
    }

    /// What the command that builds on `head` makes of it, if there is one and it can be told.
    pub(super) fn after(
        &self,
        table: TableId,
        commit: CommitId,
        head: &TableHead,
    ) -> Option<(CommitId, TableHead)> {
        let change = self.0.lock().take((table, commit))?;
        // Whoever needs it reads it from its rows, and says what is wrong with them.
        let made = change.made_of(table, head).ok().flatten()?;
        Some((change.commit, made))
    }
}

/// The heads that a command writes.
fn heads_of(command: &Command) -> impl Iterator<Item = (TableId, &Bytes)> {
    command.ops.iter().filter_map(|row| match &row.op {
        Some(RowChange::Put(payload)) => Some((keys::head_table(&row.key).ok()?, payload)),
        Some(RowChange::Delete(_)) | None => None,
    })
}

/// The commit whose head a command has read.
fn base_of(command: &Command, table: TableId) -> Option<CommitId> {
    let key = keys::head(table);
    let read = command.reads.iter().find(|read| read.key == key)?;
    CommitId::from_slice(&read.commit_id)
}

fn change_of(command: &Command, commit: CommitId, head: &Bytes) -> Option<Change> {
    let fragments = || {
        command.ops.iter().filter_map(|row| match &row.op {
            Some(RowChange::Put(payload)) if keys::fragment_key(&row.key).is_ok() => {
                Some((&row.key, payload))
            }
            Some(_) | None => None,
        })
    };
    let bytes: usize = fragments().map(|(_, payload)| payload.len()).sum();
    if bytes + head.len() > BYTES_MAX {
        return None;
    }
    // What is kept as it came would keep the whole command.
    let copy = |bytes: &Bytes| Bytes::copy_from_slice(bytes);
    let fragments = fragments().map(|(key, payload)| (copy(key), copy(payload)));
    Some(Change {
        commit,
        head: copy(head),
        fragments: fragments.collect(),
    })
}

impl Change {
    /// The head after this change of `base`; none if it cannot be told from its rows alone.
    fn made_of(&self, table: TableId, base: &TableHead) -> Result<Option<TableHead>, DamagedRow> {
        let row = stored("table head", TableHeadRow::decode(self.head.clone()))?;
        let Some(current) = &row.current else {
            return Ok(None);
        };
        let info = TableInfo::of(table, self.commit, &row)?;
        if info.version == base.info().version {
            return Ok(Some(base.with_info(info)));
        }
        let series = crate::rows::series_of(table, current)?;
        if info.version != base.info().version + 1 || series != base.series() {
            return Ok(None);
        }
        let mut changes = Vec::new();
        let prefix = keys::fragments(series);
        for (key, payload) in &self.fragments {
            if !key.starts_with(&prefix) {
                continue;
            }
            match part_change(key, payload, info.version)? {
                Some(change) => changes.push(change),
                None => return Ok(None),
            }
        }
        let metadata = stored("fragment", base.metadata().with_changes(&changes))?;
        if metadata.rendered_len() != current.length {
            return Ok(None);
        }
        TableHead::new(info, current, metadata).map(Some)
    }
}

/// A fragment in one row that a version begins.
fn part_change(
    key: &[u8],
    payload: &Bytes,
    version: u64,
) -> Result<Option<PartChange>, DamagedRow> {
    let (part, role) = stored("fragment key", keys::fragment_key(key))?;
    let row = stored("fragment", FragmentRow::decode(payload.clone()))?;
    if role != FragmentRole::Begins || part.from != version || row.more > 0 {
        return Ok(None);
    }
    let (section, ordinal) = (part.section, part.ordinal);
    if row.removed {
        return Ok(Some(PartChange::Remove { section, ordinal }));
    }
    let json = stored("fragment", std::str::from_utf8(&row.json))?;
    Ok(Some(PartChange::Put {
        section,
        ordinal,
        json: Arc::from(json),
    }))
}
