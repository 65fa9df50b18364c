//! Updates of schemas, partition specs and sort orders: reuse of equal ones, ids, checks.

use std::sync::Arc;

use super::Builder;
use crate::error::InvalidUpdate;
use crate::json::RawJson;
use crate::partition::{FieldIds, LAST_UNPARTITIONED_ID, PartitionSpec, ReusableIds};
use crate::schema::Schema;
use crate::section::Section;
use crate::sort::SortOrder;

/// The id by which a client names what it added last.
const LAST_ADDED: i32 = -1;

impl Builder<'_> {
    pub(crate) fn add_schema(&mut self, raw: &RawJson) -> Result<(), InvalidUpdate> {
        let (schema, fields) = Schema::read(raw)?;
        fields.validate(self.table.core.format_version)?;
        if let Some(existing) = self.known.equal_schema(&self.table, &schema)? {
            self.last_added_schema = Some(existing);
            return Ok(());
        }
        let last_id = self.table.schemas.last_key();
        let next_id = last_id.map_or(0, |last| last.saturating_add(1));
        let next_id = next_id.max(self.table.core.current_schema_id);
        let schema = schema.with_id(next_id)?;
        self.remember_fields(&schema, fields);
        let core = &mut self.table.core;
        core.last_column_id = core.last_column_id.max(schema.highest_field_id);
        let schema = Arc::new(schema);
        let ordinal = self.table.schemas.upsert(schema.clone());
        self.known.schema_added(&self.table, &schema, ordinal);
        self.touch(Section::Schemas, Some(ordinal));
        self.last_added_schema = Some(next_id);
        Ok(())
    }

    pub(crate) fn set_current_schema(&mut self, schema_id: i32) -> Result<(), InvalidUpdate> {
        let schema_id = match schema_id {
            LAST_ADDED => self.last_added_schema.ok_or(InvalidUpdate::NoSchemaAdded)?,
            schema_id => schema_id,
        };
        if !self.table.schemas.contains(&schema_id) {
            return Err(InvalidUpdate::UnknownSchema { schema_id });
        }
        self.table.core.current_schema_id = schema_id;
        Ok(())
    }

    pub(super) fn remove_schemas(&mut self, schema_ids: &[i32]) -> Result<(), InvalidUpdate> {
        if schema_ids.contains(&self.table.core.current_schema_id) {
            return Err(InvalidUpdate::RemoveCurrentSchema);
        }
        for schema_id in schema_ids {
            let Some(schema) = self.table.schemas.get(schema_id).cloned() else {
                continue;
            };
            let removed = self.table.schemas.remove(schema_id);
            if let Some(ordinal) = removed {
                self.known.schema_removed(&schema, ordinal);
            }
            self.touch(Section::Schemas, removed);
        }
        Ok(())
    }

    pub(crate) fn add_spec(&mut self, raw: &RawJson) -> Result<(), InvalidUpdate> {
        let fields = self.current_fields()?;
        let last_id = self.table.specs.last_key();
        let next_id = last_id.map_or(0, |last| last.saturating_add(1));
        // v1 readers find partition fields by position, so its ids count from 1000 in each spec.
        let none = ReusableIds::default();
        let ids = match self.table.core.format_version {
            1 => FieldIds {
                known: &none,
                last: LAST_UNPARTITIONED_ID,
            },
            _ => FieldIds {
                known: self.known.reusable_ids(&self.table),
                last: self.table.core.last_partition_id,
            },
        };
        let spec = PartitionSpec::complete(raw, next_id, ids)?;
        if let Some(existing) = self.known.equal_spec(&self.table, &spec) {
            self.last_added_spec = Some(existing);
            return Ok(());
        }
        spec.validate(&fields, self.table.core.format_version)?;
        let core = &mut self.table.core;
        core.last_partition_id = core.last_partition_id.max(spec.last_field_id());
        let spec = Arc::new(spec);
        let ordinal = self.table.specs.upsert(spec.clone());
        self.known.spec_added(&self.table, &spec, ordinal);
        self.touch(Section::PartitionSpecs, Some(ordinal));
        self.last_added_spec = Some(next_id);
        Ok(())
    }

    pub(crate) fn set_default_spec(&mut self, spec_id: i32) -> Result<(), InvalidUpdate> {
        let spec_id = match spec_id {
            LAST_ADDED => self.last_added_spec.ok_or(InvalidUpdate::NoSpecAdded)?,
            spec_id => spec_id,
        };
        if !self.table.specs.contains(&spec_id) {
            return Err(InvalidUpdate::UnknownSpec { spec_id });
        }
        self.table.core.default_spec_id = spec_id;
        Ok(())
    }

    pub(super) fn remove_specs(&mut self, spec_ids: &[i32]) -> Result<(), InvalidUpdate> {
        if spec_ids.contains(&self.table.core.default_spec_id) {
            return Err(InvalidUpdate::RemoveDefaultSpec);
        }
        for spec_id in spec_ids {
            let Some(spec) = self.table.specs.get(spec_id).cloned() else {
                continue;
            };
            let removed = self.table.specs.remove(spec_id);
            if let Some(ordinal) = removed {
                self.known.spec_removed(&spec, ordinal);
            }
            self.touch(Section::PartitionSpecs, removed);
        }
        Ok(())
    }

    pub(crate) fn add_sort_order(&mut self, raw: &RawJson) -> Result<(), InvalidUpdate> {
        let fields = self.current_fields()?;
        let order = SortOrder::parse_new(raw)?;
        // Id 0 belongs to the unsorted order; sorted ones start at 1.
        if let Some(existing) = self.known.equal_order(&self.table, &order) {
            self.last_added_order = Some(existing);
            return Ok(());
        }
        let next_id = match (order.is_sorted(), self.table.sort_orders.last_key()) {
            (false, _) => 0,
            (true, None) => 1,
            (true, Some(last)) => last.saturating_add(1).max(1),
        };
        order.validate(&fields, self.table.core.format_version)?;
        let order = order.with_id(next_id)?;
        let order = Arc::new(order);
        let ordinal = self.table.sort_orders.upsert(order.clone());
        self.known.order_added(&self.table, &order, ordinal);
        self.touch(Section::SortOrders, Some(ordinal));
        self.last_added_order = Some(next_id);
        Ok(())
    }

    pub(crate) fn set_default_sort_order(&mut self, order_id: i32) -> Result<(), InvalidUpdate> {
        let order_id = match order_id {
            LAST_ADDED => self
                .last_added_order
                .ok_or(InvalidUpdate::NoSortOrderAdded)?,
            order_id => order_id,
        };
        if !self.table.sort_orders.contains(&order_id) {
            return Err(InvalidUpdate::UnknownSortOrder { order_id });
        }
        self.table.core.default_sort_order_id = order_id;
        Ok(())
    }
}
