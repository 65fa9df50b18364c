//! A bounded cache of table heads.
//!
//! A cached head is found by the commit id of its row, never by name or version, so an entry cannot
//! be stale: another commit id is another head.

use super::TableHead;
use super::ahead::Ahead;
use floeberg_state::Command;
use floeberg_types::limits::DOCUMENT_COPIES;
use floeberg_types::{CommitId, TableId};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Heads of one table kept at once: those of proposals in flight and those that readers still see.
const HEADS_PER_TABLE: usize = 64;

/// Memory of a head beside its metadata, roughly.
const HEAD_OVERHEAD: u64 = 4096;

/// A table whose metadata is not in memory.
pub(crate) struct ColdHead {
    pub table: TableId,
}

/// The heads that decisions and loads work on. Bounded by bytes; the table used longest ago goes
/// first.
pub(crate) struct HeadCache {
    budget: u64,
    tables: Mutex<Tables>,
    ahead: Ahead,
}

#[derive(Default)]
struct Tables {
    entries: HashMap<TableId, Entry>,
    by_use: BTreeMap<u64, TableId>,
    uses: u64,
    weight: u64,
}

struct Entry {
    heads: VecDeque<(CommitId, Arc<TableHead>)>,
    used: u64,
    weight: u64,
}

/// The newest document, which is there as text, taken apart and rendered, and a little for each head: heads
/// of one table share most of their metadata.
fn weigh(heads: &VecDeque<(CommitId, Arc<TableHead>)>) -> u64 {
    let document = heads
        .iter()
        .map(|(_, head)| head.metadata.rendered_len())
        .max()
        .unwrap_or(0);
    DOCUMENT_COPIES as u64 * document + HEAD_OVERHEAD * heads.len() as u64
}

impl HeadCache {
    pub(crate) fn new(budget: u64) -> Self {
        Self {
            budget,
            tables: Mutex::default(),
            ahead: Ahead::default(),
        }
    }

    /// The head of a table as a given commit left it.
    pub(crate) fn get(&self, table: TableId, commit: CommitId) -> Option<Arc<TableHead>> {
        let mut tables = self.tables.lock();
        let entry = tables.entries.get(&table)?;
        let (_, head) = entry.heads.iter().rev().find(|(id, _)| *id == commit)?;
        let head = head.clone();
        tables.touch(table);
        Some(head)
    }

    /// Keeps a head under the commit that made it, and those that other nodes' commits made of it.
    pub(crate) fn insert(&self, table: TableId, commit: CommitId, head: Arc<TableHead>) {
        self.keep(table, commit, head.clone());
        self.advance(table, commit, head);
    }

    /// A command of another node is on its way: what it makes of heads that are here, or will be.
    pub(crate) fn launched(&self, commit: CommitId, command: &Command) {
        for (table, base) in self.ahead.note(commit, command) {
            // Noted first: who keeps the base at this moment finds it.
            if let Some(head) = self.get(table, base) {
                self.advance(table, base, head);
            }
        }
    }

    fn advance(&self, table: TableId, mut commit: CommitId, mut head: Arc<TableHead>) {
        while let Some((next, made)) = self.ahead.after(table, commit, &head) {
            (commit, head) = (next, Arc::new(made));
            self.keep(table, commit, head.clone());
        }
    }

    fn keep(&self, table: TableId, commit: CommitId, head: Arc<TableHead>) {
        let mut tables = self.tables.lock();
        let entry = tables.entries.entry(table).or_insert_with(|| Entry {
            heads: VecDeque::new(),
            used: 0,
            weight: 0,
        });
        if entry.heads.iter().any(|(id, _)| *id == commit) {
            return;
        }
        if let Some((_, older)) = entry.heads.back() {
            older.supersede();
        }
        entry.heads.push_back((commit, head));
        if entry.heads.len() > HEADS_PER_TABLE {
            entry.heads.pop_front();
        }
        let (old, new) = (entry.weight, weigh(&entry.heads));
        entry.weight = new;
        tables.weight = tables.weight - old + new;
        tables.touch(table);
        tables.evict(self.budget);
    }
}

impl Tables {
    fn touch(&mut self, table: TableId) {
        self.uses += 1;
        let Some(entry) = self.entries.get_mut(&table) else {
            return;
        };
        self.by_use.remove(&entry.used);
        entry.used = self.uses;
        self.by_use.insert(self.uses, table);
    }

    /// The table just used stays, even if it alone is over the budget.
    fn evict(&mut self, budget: u64) {
        while self.weight > budget && self.entries.len() > 1 {
            let Some((_, table)) = self.by_use.pop_first() else {
                return;
            };
            if let Some(entry) = self.entries.remove(&table) {
                self.weight -= entry.weight;
            }
        }
    }
}

/// Heads that were read for one request.
pub(crate) type Pinned = HashMap<(TableId, CommitId), Arc<TableHead>>;

/// The heads a decision may use: those in the cache, and those read for this request, which must
/// not be lost to the cache's bound before the decision has seen them all.
pub(crate) struct Heads<'a> {
    pub cache: &'a HeadCache,
    pub pinned: &'a Pinned,
}

impl Heads<'_> {
    pub(crate) fn get(&self, table: TableId, commit: CommitId) -> Result<Arc<TableHead>, ColdHead> {
        self.cache
            .get(table, commit)
            .or_else(|| self.pinned.get(&(table, commit)).cloned())
            .ok_or(ColdHead { table })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::{SnapshotsMode, TableInfo};
    use crate::rows::{self, TableHeadRow, VersionRow};
    use floeberg_iceberg::{NewTable, RawJson, TableMetadata};

    fn head(n: u8) -> Arc<TableHead> {
        let metadata = TableMetadata::new_table(&NewTable {
            uuid: "6f0c9a1e-3b1a-4a52-9d29-4f0b36d6a001".into(),
            location: "s3://lake/t".into(),
            schema: RawJson::parse(r#"{"type":"struct","fields":[]}"#).unwrap(),
            partition_spec: None,
            sort_order: None,
            properties: Vec::new(),
            now_ms: 1,
        })
        .unwrap();
        let row = TableHeadRow {
            state: rows::TableState::Live.into(),
            bucket_id: rows::id_bytes(&[1; 16]),
            namespace_id: rows::id_bytes(&[2; 16]),
            bucket: "lake".to_owned(),
            levels: vec!["ns".to_owned()],
            name: "t".to_owned(),
            ..TableHeadRow::default()
        };
        let info = TableInfo::of(table(n), commit(n), &row).unwrap();
        let current = VersionRow {
            file_uuid: rows::id_bytes(&[3; 16]),
            ..VersionRow::default()
        };
        Arc::new(TableHead::new(info, &current, metadata).unwrap())
    }

    fn table(n: u8) -> TableId {
        TableId::from_bytes([n; 16])
    }

    fn commit(n: u8) -> CommitId {
        CommitId::from_bytes([n; 16])
    }

    #[test]
    fn the_table_used_longest_ago_is_evicted_first() {
        let weight = DOCUMENT_COPIES as u64 * head(0).metadata.rendered_len() + HEAD_OVERHEAD;
        let cache = HeadCache::new(2 * weight);
        cache.insert(table(1), commit(1), head(1));
        cache.insert(table(2), commit(2), head(2));
        assert!(cache.get(table(1), commit(1)).is_some());
        cache.insert(table(3), commit(3), head(3));
        assert!(cache.get(table(2), commit(2)).is_none());
        assert!(cache.get(table(1), commit(1)).is_some());
        assert!(cache.get(table(3), commit(3)).is_some());
    }

    #[test]
    fn a_head_over_the_budget_still_serves_its_reader() {
        let cache = HeadCache::new(0);
        cache.insert(table(1), commit(1), head(1));
        assert!(cache.get(table(1), commit(1)).is_some());
        cache.insert(table(2), commit(2), head(2));
        assert!(cache.get(table(1), commit(1)).is_none());
    }

    #[test]
    fn only_the_newest_head_keeps_its_document() {
        let cache = HeadCache::new(u64::MAX);
        let (old, new) = (head(1), head(1));
        cache.insert(table(1), commit(1), old.clone());
        let document = old.rendered(SnapshotsMode::All);
        assert_eq!(old.rendered(SnapshotsMode::All).as_ptr(), document.as_ptr());
        cache.insert(table(1), commit(2), new);
        assert_eq!(old.rendered(SnapshotsMode::All), document);
        assert!(old.rendered.lock().documents.iter().all(Option::is_none));
    }

    #[test]
    fn a_head_is_found_by_its_commit_only() {
        let cache = HeadCache::new(u64::MAX);
        for n in 0..=u8::try_from(HEADS_PER_TABLE).unwrap() {
            cache.insert(table(1), commit(n), head(1));
        }
        assert!(cache.get(table(1), commit(0)).is_none());
        assert!(cache.get(table(1), commit(1)).is_some());
        assert!(cache.get(table(1), commit(200)).is_none());
    }
}
