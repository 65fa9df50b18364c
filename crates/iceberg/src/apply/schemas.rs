//! Updates of schemas, partition specs and sort orders: reuse of equal ones, ids, checks.

use std::sync::Arc;

use super::Builder;
use crate::error::InvalidUpdate;
use crate::json::RawJson;
use crate::partition::{FieldIds, LAST_UNPARTITIONED_ID, PartitionSpec};
use crate::schema::{Fields, Schema};
use crate::section::Section;
use crate::sort::SortOrder;

/// The id by which a client names what it added last.
const LAST_ADDED: i32 = -1;

impl Builder<'_> {
    fn current_fields(&self) -> Result<Fields, InvalidUpdate> {
        let schema_id = self.table.core.current_schema_id;
        match self.table.schemas.get(&schema_id) {
            Some(schema) => Ok(schema.fields()?),
            None => Err(InvalidUpdate::Incomplete { what: "schema" }),
        }
    }

    pub(crate) fn add_schema(&mut self, raw: &RawJson) -> Result<(), InvalidUpdate> {
        let schema = Schema::parse(raw)?;
        schema.validate(self.table.core.format_version)?;
        let mut next_id = self.table.core.current_schema_id;
        for existing in self.table.schemas.iter() {
            if existing.same_as(&schema)? {
                self.last_added_schema = Some(existing.schema_id);
                return Ok(());
            }
            next_id = next_id.max(existing.schema_id.saturating_add(1));
        }
        let schema = Schema::with_id(raw, next_id)?;
        let core = &mut self.table.core;
        core.last_column_id = core.last_column_id.max(schema.highest_field_id);
        let ordinal = self.table.schemas.upsert(Arc::new(schema));
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
            let removed = self.table.schemas.remove(schema_id);
            self.touch(Section::Schemas, removed);
        }
        Ok(())
    }

    pub(crate) fn add_spec(&mut self, raw: &RawJson) -> Result<(), InvalidUpdate> {
        let fields = self.current_fields()?;
        let known: Vec<Arc<PartitionSpec>> = self.table.specs.iter().cloned().collect();
        let next_id = known
            .iter()
            .map(|spec| spec.spec_id.saturating_add(1))
            .max()
            .unwrap_or(0);
        // v1 readers find partition fields by position, so its ids count from 1000 in each spec.
        let ids = match self.table.core.format_version {
            1 => FieldIds {
                known: &[],
                last: LAST_UNPARTITIONED_ID,
            },
            _ => FieldIds {
                known: &known,
                last: self.table.core.last_partition_id,
            },
        };
        let spec = PartitionSpec::complete(raw, next_id, ids)?;
        if let Some(existing) = known
            .iter()
            .find(|existing| existing.compatible_with(&spec))
        {
            self.last_added_spec = Some(existing.spec_id);
            return Ok(());
        }
        spec.validate(&fields, self.table.core.format_version)?;
        let core = &mut self.table.core;
        core.last_partition_id = core.last_partition_id.max(spec.last_field_id());
        let ordinal = self.table.specs.upsert(Arc::new(spec));
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
            let removed = self.table.specs.remove(spec_id);
            self.touch(Section::PartitionSpecs, removed);
        }
        Ok(())
    }

    pub(crate) fn add_sort_order(&mut self, raw: &RawJson) -> Result<(), InvalidUpdate> {
        let fields = self.current_fields()?;
        let order = SortOrder::parse_new(raw)?;
        // Id 0 belongs to the unsorted order; sorted ones start at 1.
        let mut next_id = i32::from(order.is_sorted());
        for existing in self.table.sort_orders.iter() {
            if existing.fields == order.fields {
                self.last_added_order = Some(existing.order_id);
                return Ok(());
            }
            if order.is_sorted() {
                next_id = next_id.max(existing.order_id.saturating_add(1));
            }
        }
        order.validate(&fields, self.table.core.format_version)?;
        let order = order.with_id(next_id)?;
        let ordinal = self.table.sort_orders.upsert(Arc::new(order));
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
