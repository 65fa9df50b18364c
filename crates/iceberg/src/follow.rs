//! A table after parts of it have changed elsewhere, without reading all of it again.

use crate::error::ParseError;
use crate::json::RawObject;
use crate::metadata::TableMetadata;
use crate::parse::{read_core, read_format_version};
use crate::section::{PartChange, Section};

impl TableMetadata {
    /// The table after some of its parts have changed, at the cost of what changed: what
    /// [`Self::from_parts`] makes of all parts then, as long as they were those of a table. What
    /// binds parts together is not checked again.
    pub fn with_changes(&self, changes: &[PartChange]) -> Result<Self, ParseError> {
        let mut table = self.clone();
        // A key may go from one ordinal to another.
        for change in changes {
            let (section, ordinal) = change.place();
            table.remove_part(section, ordinal);
        }
        let mut core = None;
        for change in changes {
            match change {
                PartChange::Put {
                    section: Section::Core,
                    json,
                    ..
                } => core = Some(RawObject::parse(&format!("{{{json}}}"))?),
                PartChange::Put {
                    section,
                    ordinal,
                    json,
                } => table.read_part(*section, *ordinal, json.clone())?,
                PartChange::Remove { .. } => {}
            }
        }
        if let Some(core) = core {
            table.core.format_version = read_format_version(&core)?;
            table.core = read_core(&core, &table)?;
        }
        table.check_current()?;
        table.refresh();
        Ok(table)
    }

    fn remove_part(&mut self, section: Section, ordinal: u64) {
        match section {
            // These are made from the others.
            Section::Core | Section::Legacy => {}
            Section::Properties => self.properties.remove_at(ordinal),
            Section::Schemas => self.schemas.remove_at(ordinal),
            Section::PartitionSpecs => self.specs.remove_at(ordinal),
            Section::SortOrders => self.sort_orders.remove_at(ordinal),
            Section::Snapshots => self.snapshots.remove_at(ordinal),
            Section::Refs => self.refs.remove_at(ordinal),
            Section::SnapshotLog => self.snapshot_log.remove(ordinal),
            Section::MetadataLog => drop(self.metadata_log.remove(ordinal)),
            Section::Statistics => self.statistics.remove_at(ordinal),
            Section::PartitionStatistics => self.partition_statistics.remove_at(ordinal),
            Section::EncryptionKeys => self.encryption_keys.remove_at(ordinal),
            Section::Extras => self.extras.remove_at(ordinal),
        }
    }
}
