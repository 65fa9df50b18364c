//! What a commit's new schemas, specs, orders and refs are compared with, found by what they say.
//!
//! A commit may add thousands of them to a table that has thousands: each is looked up, and nothing
//! is walked once for each of them. The indexes are made when the first update needs them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Builder;
use crate::error::InvalidUpdate;
use crate::metadata::TableMetadata;
use crate::partition::{PartitionField, PartitionSpec, ReusableIds};
use crate::schema::{Fields, Schema, SchemaError};
use crate::sort::{SortField, SortOrder};

/// The ordinals of a section's parts by their content; the first one stands for all equal ones.
#[derive(Debug, Default)]
struct ByContent<K: Ord>(BTreeMap<K, BTreeSet<u64>>);

impl<K: Ord> ByContent<K> {
    fn add(&mut self, content: K, ordinal: u64) {
        self.0.entry(content).or_default().insert(ordinal);
    }

    fn remove(&mut self, content: &K, ordinal: u64) {
        if let Some(ordinals) = self.0.get_mut(content) {
            ordinals.remove(&ordinal);
        }
    }

    fn of(&self, content: &K) -> impl Iterator<Item = u64> {
        self.0.get(content).into_iter().flatten().copied()
    }
}

/// What makes two specs compatible.
type SpecContent = Vec<(Vec<i32>, Arc<str>, Arc<str>)>;

fn spec_content(spec: &PartitionSpec) -> SpecContent {
    let part = |field: &PartitionField| {
        let PartitionField {
            source_ids,
            name,
            transform,
            ..
        } = field.clone();
        (source_ids, name, transform)
    };
    spec.fields.iter().map(part).collect()
}

#[derive(Default)]
struct Specs {
    by_content: ByContent<SpecContent>,
    ids: ReusableIds,
}

/// The fields of one schema, by the text they were read from.
struct ReadFields {
    json: Arc<str>,
    fields: Arc<Fields>,
}

/// The indexes of one commit.
#[derive(Default)]
pub(super) struct Known {
    schemas: Option<ByContent<u64>>,
    specs: Option<Specs>,
    orders: Option<ByContent<Vec<SortField>>>,
    /// Names of refs by the snapshot they point at.
    refs: Option<BTreeMap<i64, BTreeSet<Arc<str>>>>,
    fields: Option<ReadFields>,
}

impl Known {
    fn schemas(&mut self, table: &TableMetadata) -> &mut ByContent<u64> {
        self.schemas.get_or_insert_with(|| {
            let mut index = ByContent::default();
            for (ordinal, schema) in table.schemas.sequence().iter() {
                index.add(schema.fingerprint(), ordinal);
            }
            index
        })
    }

    fn specs(&mut self, table: &TableMetadata) -> &mut Specs {
        self.specs.get_or_insert_with(|| {
            let mut index = Specs::default();
            for (ordinal, spec) in table.specs.sequence().iter() {
                index.by_content.add(spec_content(spec), ordinal);
                index.ids.add(spec);
            }
            index
        })
    }

    fn orders(&mut self, table: &TableMetadata) -> &mut ByContent<Vec<SortField>> {
        self.orders.get_or_insert_with(|| {
            let mut index = ByContent::default();
            for (ordinal, order) in table.sort_orders.sequence().iter() {
                index.add(order.fields.clone(), ordinal);
            }
            index
        })
    }

    fn refs(&mut self, table: &TableMetadata) -> &mut BTreeMap<i64, BTreeSet<Arc<str>>> {
        self.refs.get_or_insert_with(|| {
            let mut index = BTreeMap::<i64, BTreeSet<Arc<str>>>::new();
            for reference in table.refs.iter() {
                let names = index.entry(reference.snapshot_id).or_default();
                names.insert(reference.name.clone());
            }
            index
        })
    }

    /// A schema with the same columns, if the table has one.
    pub(super) fn equal_schema(
        &mut self,
        table: &TableMetadata,
        schema: &Schema,
    ) -> Result<Option<i32>, SchemaError> {
        // Equal fingerprints of different schemas are possible, if hardly ever met.
        for ordinal in self.schemas(table).of(&schema.fingerprint()) {
            if let Some(existing) = table.schemas.sequence().get(ordinal)
                && existing.same_as(schema)?
            {
                return Ok(Some(existing.schema_id));
            }
        }
        Ok(None)
    }

    pub(super) fn schema_added(&mut self, table: &TableMetadata, schema: &Schema, ordinal: u64) {
        self.schemas(table).add(schema.fingerprint(), ordinal);
    }

    pub(super) fn schema_removed(&mut self, schema: &Schema, ordinal: u64) {
        if let Some(schemas) = &mut self.schemas {
            schemas.remove(&schema.fingerprint(), ordinal);
        }
    }

    /// The field ids that new specs use again.
    pub(super) fn reusable_ids(&mut self, table: &TableMetadata) -> &ReusableIds {
        &self.specs(table).ids
    }

    /// A spec that is the same but for its ids, if the table has one.
    pub(super) fn equal_spec(
        &mut self,
        table: &TableMetadata,
        spec: &PartitionSpec,
    ) -> Option<i32> {
        let ordinal = self
            .specs(table)
            .by_content
            .of(&spec_content(spec))
            .next()?;
        let existing = table.specs.sequence().get(ordinal);
        existing.map(|spec| spec.spec_id)
    }

    pub(super) fn spec_added(&mut self, table: &TableMetadata, spec: &PartitionSpec, ordinal: u64) {
        let specs = self.specs(table);
        specs.by_content.add(spec_content(spec), ordinal);
        specs.ids.add(spec);
    }

    pub(super) fn spec_removed(&mut self, spec: &PartitionSpec, ordinal: u64) {
        if let Some(specs) = &mut self.specs {
            specs.by_content.remove(&spec_content(spec), ordinal);
            specs.ids.remove(spec);
        }
    }

    /// An order of the same fields, if the table has one.
    pub(super) fn equal_order(&mut self, table: &TableMetadata, order: &SortOrder) -> Option<i32> {
        let ordinal = self.orders(table).of(&order.fields).next()?;
        let existing = table.sort_orders.sequence().get(ordinal);
        existing.map(|order| order.order_id)
    }

    pub(super) fn order_added(&mut self, table: &TableMetadata, order: &SortOrder, ordinal: u64) {
        self.orders(table).add(order.fields.clone(), ordinal);
    }

    /// The refs that point at a snapshot.
    pub(super) fn refs_at(&mut self, table: &TableMetadata, snapshot_id: i64) -> Vec<Arc<str>> {
        let names = self.refs(table).get(&snapshot_id);
        names.into_iter().flatten().cloned().collect()
    }

    /// A ref points elsewhere than before; `None` where there is no ref.
    pub(super) fn ref_moved(&mut self, name: &Arc<str>, from: Option<i64>, to: Option<i64>) {
        let Some(refs) = &mut self.refs else { return };
        if let Some(names) = from.and_then(|from| refs.get_mut(&from)) {
            names.remove(name);
        }
        if let Some(to) = to {
            refs.entry(to).or_default().insert(name.clone());
        }
    }
}

impl Builder<'_> {
    /// Keeps what a new schema was read into, for the specs and orders that follow it.
    pub(super) fn remember_fields(&mut self, schema: &Schema, fields: Fields) {
        self.known.fields = Some(ReadFields {
            json: schema.json().clone(),
            fields: Arc::new(fields),
        });
    }

    /// The fields of the current schema, read once for all updates that need them.
    pub(super) fn current_fields(&mut self) -> Result<Arc<Fields>, InvalidUpdate> {
        let schema_id = self.table.core.current_schema_id;
        let schema = self.table.schemas.get(&schema_id);
        let schema = schema.ok_or(InvalidUpdate::Incomplete { what: "schema" })?;
        if let Some(read) = &self.known.fields
            && Arc::ptr_eq(&read.json, schema.json())
        {
            return Ok(read.fields.clone());
        }
        let fields = Arc::new(schema.fields()?);
        self.known.fields = Some(ReadFields {
            json: schema.json().clone(),
            fields: fields.clone(),
        });
        Ok(fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::cmp::Ordering;

    /// Content that counts how often it is compared.
    struct Counted<'a>(usize, &'a Cell<usize>);

    impl PartialEq for Counted<'_> {
        fn eq(&self, other: &Self) -> bool {
            self.cmp(other) == Ordering::Equal
        }
    }

    impl Eq for Counted<'_> {}

    impl PartialOrd for Counted<'_> {
        fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
            Some(self.cmp(other))
        }
    }

    impl Ord for Counted<'_> {
        fn cmp(&self, other: &Self) -> Ordering {
            self.1.set(self.1.get() + 1);
            self.0.cmp(&other.0)
        }
    }

    /// Comparisons of `count` contents that are looked up, added, and removed again.
    fn comparisons(count: usize) -> usize {
        let compared = Cell::new(0);
        let mut index = ByContent(BTreeMap::new());
        for n in 0..count {
            let content = Counted(n * 7919 % count, &compared);
            assert_eq!(index.of(&content).next(), None);
            index.add(content, n as u64);
        }
        for n in 0..count {
            index.remove(&Counted(n * 7919 % count, &compared), n as u64);
        }
        compared.get()
    }

    #[test]
    fn twice_as_many_are_compared_little_more_than_twice_as_often() {
        let (once, twice) = (comparisons(4_000), comparisons(8_000));
        assert!(twice < once * 5 / 2, "{once}, then {twice}");
        // A walk over what is there would be eight million.
        assert!(once < 500_000, "{once}");
    }

    #[test]
    fn the_first_of_equal_parts_stands_for_all() {
        let mut index = ByContent::default();
        for ordinal in [4, 2, 9] {
            index.add("x", ordinal);
        }
        assert_eq!(index.of(&"x").next(), Some(2));
        index.remove(&"x", 2);
        assert_eq!(index.of(&"x").next(), Some(4));
        assert_eq!(index.of(&"y").next(), None);
    }
}
