//! Sections of a metadata document: their stable numbers and the fixed text around their parts.

use std::sync::Arc;

/// A group of parts of a table metadata document.
///
/// The numbers are part of stored row keys and of the rendered order: never change or reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Section {
    /// The scalar members, as one part.
    Core = 1,
    /// v1 only: the current schema and the default spec's fields again, for old readers.
    Legacy = 2,
    /// One part per property, in the order they were first set.
    Properties = 3,
    /// One part per schema.
    Schemas = 4,
    /// One part per partition spec.
    PartitionSpecs = 5,
    /// One part per sort order.
    SortOrders = 6,
    /// One part per snapshot.
    Snapshots = 7,
    /// One part per branch or tag.
    Refs = 8,
    /// One part per snapshot-log entry.
    SnapshotLog = 9,
    /// One part per metadata-log entry.
    MetadataLog = 10,
    /// One part per statistics file.
    Statistics = 11,
    /// One part per partition statistics file.
    PartitionStatistics = 12,
    /// One part per encryption key.
    EncryptionKeys = 13,
    /// One part per top-level member this model does not know.
    Extras = 14,
}

/// Whether a section without parts leaves a trace in the document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WhenEmpty {
    Written,
    Omitted,
}

/// The fixed text around the parts of one section.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Glue {
    pub before: &'static str,
    pub after: &'static str,
    pub when_empty: WhenEmpty,
}

/// The text after the last section.
pub(crate) const END: &str = "}";

impl Section {
    /// Every section in rendered order.
    pub const ALL: [Section; 14] = [
        Section::Core,
        Section::Legacy,
        Section::Properties,
        Section::Schemas,
        Section::PartitionSpecs,
        Section::SortOrders,
        Section::Snapshots,
        Section::Refs,
        Section::SnapshotLog,
        Section::MetadataLog,
        Section::Statistics,
        Section::PartitionStatistics,
        Section::EncryptionKeys,
        Section::Extras,
    ];

    /// The stable number of the section.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// The section with a stable number.
    pub fn from_id(id: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|section| section.id() == id)
    }

    pub(crate) fn glue(self) -> Glue {
        use WhenEmpty::{Omitted, Written};
        let (before, after, when_empty) = match self {
            Section::Core => ("{", "", Written),
            Section::Legacy => (",", "", Omitted),
            Section::Properties => (",\"properties\":{", "}", Written),
            Section::Schemas => (",\"schemas\":[", "]", Written),
            Section::PartitionSpecs => (",\"partition-specs\":[", "]", Written),
            Section::SortOrders => (",\"sort-orders\":[", "]", Written),
            Section::Snapshots => (",\"snapshots\":[", "]", Written),
            Section::Refs => (",\"refs\":{", "}", Written),
            Section::SnapshotLog => (",\"snapshot-log\":[", "]", Written),
            Section::MetadataLog => (",\"metadata-log\":[", "]", Written),
            Section::Statistics => (",\"statistics\":[", "]", Written),
            Section::PartitionStatistics => (",\"partition-statistics\":[", "]", Written),
            Section::EncryptionKeys => (",\"encryption-keys\":[", "]", Omitted),
            Section::Extras => (",", "", Omitted),
        };
        Glue {
            before,
            after,
            when_empty,
        }
    }

    /// Bytes the section takes in the document with `count` parts of `bytes` bytes in total.
    pub(crate) fn rendered_len(self, count: u64, bytes: u64) -> u64 {
        let glue = self.glue();
        if count == 0 && glue.when_empty == WhenEmpty::Omitted {
            return 0;
        }
        let fixed = (glue.before.len() + glue.after.len()) as u64;
        fixed + bytes + count.saturating_sub(1)
    }
}

/// One fragment of a document: rendering joins them in (section, ordinal) order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    pub section: Section,
    pub ordinal: u64,
    /// The bytes that appear in the document: a JSON value, or `"name":value` members.
    pub json: Arc<str>,
}

/// How one part of a document differs from its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PartChange {
    /// The part is new or its text changed.
    Put {
        section: Section,
        ordinal: u64,
        json: Arc<str>,
    },
    /// The part is gone.
    Remove { section: Section, ordinal: u64 },
}

impl PartChange {
    /// The part's section and ordinal.
    #[must_use]
    pub const fn place(&self) -> (Section, u64) {
        match self {
            Self::Put {
                section, ordinal, ..
            }
            | Self::Remove { section, ordinal } => (*section, *ordinal),
        }
    }
}

/// Parts given to [`Document`] out of (section, ordinal) order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("document part of section {section:?} with ordinal {ordinal} is out of order")]
pub struct PartOutOfOrder {
    pub section: Section,
    pub ordinal: u64,
}

/// Renders a document from stored parts without parsing them.
///
/// The bytes equal [`crate::TableMetadata::render`] of the table that has these parts.
#[derive(Debug, Default)]
pub struct Document {
    out: Vec<u8>,
    last: Option<(Section, u64)>,
}

impl Document {
    /// A document without parts.
    pub fn new() -> Self {
        Self::default()
    }

    /// Joins parts that come in ascending (section, ordinal) order.
    pub fn render<T: AsRef<[u8]>>(
        parts: impl IntoIterator<Item = (Section, u64, T)>,
    ) -> Result<Vec<u8>, PartOutOfOrder> {
        let mut document = Document::new();
        for (section, ordinal, json) in parts {
            document.push(section, ordinal, json.as_ref())?;
        }
        Ok(document.finish())
    }

    /// Adds the next part.
    pub fn push(
        &mut self,
        section: Section,
        ordinal: u64,
        json: &[u8],
    ) -> Result<(), PartOutOfOrder> {
        if self.last.is_some_and(|last| last >= (section, ordinal)) {
            return Err(PartOutOfOrder { section, ordinal });
        }
        match self.last {
            Some((open, _)) if open == section => self.out.push(b','),
            _ => {
                self.close_sections_before(Some(section));
                self.out.extend_from_slice(section.glue().before.as_bytes());
            }
        }
        self.out.extend_from_slice(json);
        self.last = Some((section, ordinal));
        Ok(())
    }

    /// The bytes rendered since the last call, for streaming.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Ends the document and returns the bytes not yet taken.
    pub fn finish(mut self) -> Vec<u8> {
        self.close_sections_before(None);
        self.out.extend_from_slice(END.as_bytes());
        self.out
    }

    /// Closes the open section and writes the empty ones up to `next` (or the end).
    fn close_sections_before(&mut self, next: Option<Section>) {
        let open = self.last.map(|(section, _)| section);
        if let Some(open) = open {
            self.out.extend_from_slice(open.glue().after.as_bytes());
        }
        for section in Section::ALL {
            let passed = open.is_some_and(|open| section <= open);
            let reached = next.is_some_and(|next| section >= next);
            if passed || reached || section.glue().when_empty == WhenEmpty::Omitted {
                continue;
            }
            self.out.extend_from_slice(section.glue().before.as_bytes());
            self.out.extend_from_slice(section.glue().after.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_stable() {
        let ids: Vec<u8> = Section::ALL.iter().map(|section| section.id()).collect();
        assert_eq!(ids, (1..=14).collect::<Vec<u8>>());
        for section in Section::ALL {
            assert_eq!(Section::from_id(section.id()), Some(section));
        }
        assert_eq!(Section::from_id(0), None);
        assert_eq!(Section::from_id(15), None);
    }

    #[test]
    fn an_unordered_part_is_refused() {
        let parts = [(Section::Core, 0, "\"a\":1"), (Section::Core, 0, "\"b\":1")];
        let error = Document::render(parts).unwrap_err();
        assert_eq!(
            error,
            PartOutOfOrder {
                section: Section::Core,
                ordinal: 0
            }
        );
    }

    #[test]
    fn streaming_gives_the_same_bytes() {
        let parts = [
            (Section::Core, 0, "\"format-version\":2"),
            (Section::Snapshots, 3, "{\"snapshot-id\":1}"),
            (Section::Snapshots, 9, "{\"snapshot-id\":2}"),
            (Section::Extras, 0, "\"x\":1"),
        ];
        let whole = Document::render(parts).unwrap();
        let mut document = Document::new();
        let mut pieces = Vec::new();
        for (section, ordinal, json) in parts {
            document.push(section, ordinal, json.as_bytes()).unwrap();
            pieces.extend(document.take());
        }
        pieces.extend(document.finish());
        assert_eq!(pieces, whole);
        serde_json::from_slice::<serde_json::Value>(&whole).unwrap();
    }
}
