//! Usage counters: what is counted, and by how much a command moves it.

use crate::keys::{KeyWriter, tag};
use bytes::Bytes;
use floeberg_proto::floeberg::state::v1 as pb;
use floeberg_types::{BucketId, TableId};

/// What a usage row counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UsageKey {
    /// Everything in a bucket.
    Bucket(BucketId),
    /// One table.
    Table(TableId),
}

impl UsageKey {
    /// The key of its row.
    #[must_use]
    pub fn key(&self) -> Bytes {
        match self {
            Self::Bucket(id) => KeyWriter::new(tag::USAGE).u8(0).id(id.as_bytes()).finish(),
            Self::Table(id) => KeyWriter::new(tag::USAGE).u8(1).id(id.as_bytes()).finish(),
        }
    }
}

/// By how much a command moves the counters of one usage row.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UsageDelta {
    /// Objects.
    pub objects: i64,
    /// Object bytes.
    pub bytes: i64,
    /// Table commits.
    pub commits: i64,
    /// Tables.
    pub tables: i64,
}

impl UsageDelta {
    /// The delta as it stands in a command.
    #[must_use]
    pub fn into_message(self, key: UsageKey) -> pb::UsageDelta {
        pb::UsageDelta {
            key: key.key(),
            objects: self.objects,
            bytes: self.bytes,
            commits: self.commits,
            tables: self.tables,
        }
    }
}

/// Adds `delta` to `row`; counters saturate, because a wrong total must not stop a commit.
pub(crate) fn add(row: &mut pb::UsageRow, delta: &pb::UsageDelta) {
    row.objects = row.objects.saturating_add(delta.objects);
    row.bytes = row.bytes.saturating_add(delta.bytes);
    row.commits = row.commits.saturating_add(delta.commits);
    row.tables = row.tables.saturating_add(delta.tables);
}
