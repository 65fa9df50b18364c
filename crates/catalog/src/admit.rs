//! What a request may hold and repeat, checked before anything is decided or queued.

use crate::commit::TableChange;
use crate::create::CreateTable;
use crate::errors::{CommitError, CreateTableError};
use floeberg_iceberg::{
    ApplyError, InvalidUpdate, TableMetadata, UpdateError, admit_create, admit_updates,
};
use floeberg_types::limits::{self, Exceeded, check};

impl From<Exceeded> for CommitError {
    fn from(exceeded: Exceeded) -> Self {
        Self::Update(UpdateError::Invalid(InvalidUpdate::Limit(exceeded)))
    }
}

impl From<Exceeded> for CreateTableError {
    fn from(exceeded: Exceeded) -> Self {
        Self::Invalid(UpdateError::Invalid(InvalidUpdate::Limit(exceeded)))
    }
}

impl From<ApplyError> for CommitError {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Update(error) => Self::Update(error),
            ApplyError::Stopped => Self::Outage(crate::Outage::Unavailable),
        }
    }
}

/// The tables, requirements and updates of a commit.
pub(crate) fn commit(changes: &[TableChange]) -> Result<(), Exceeded> {
    check(
        "tables of one transaction",
        changes.len(),
        limits::TRANSACTION_TABLES,
        "commit to them in several transactions",
    )?;
    check(
        "requirements of one request",
        changes.iter().map(|change| change.requirements.len()).sum(),
        limits::REQUIREMENTS,
        "send each once",
    )?;
    admit_updates(changes.iter().flat_map(|change| &change.updates))
}

/// What describes a new table.
pub(crate) fn create(request: &CreateTable) -> Result<(), Exceeded> {
    admit_create(
        &request.schema,
        request.partition_spec.as_ref(),
        request.sort_order.as_ref(),
        &request.properties,
    )
}

/// A metadata document that a client wrote.
pub(crate) fn document(text: &[u8]) -> Result<TableMetadata, String> {
    let metadata = TableMetadata::parse(text).map_err(|e| e.to_string())?;
    metadata.check_growth(None).map_err(|e| e.to_string())?;
    Ok(metadata)
}

/// The properties of a namespace, or changes of them. `removed` counts those that are to go.
pub(crate) fn namespace_properties<'a>(
    properties: impl Iterator<Item = (&'a String, &'a String)>,
    removed: usize,
) -> Result<(), Exceeded> {
    let (mut count, mut bytes) = (removed, 0);
    for (name, value) in properties {
        count += 1;
        bytes += name.len() + value.len();
        check(
            "bytes of the name of a property",
            name.len(),
            limits::PROPERTY_NAME_BYTES,
            "choose a shorter name",
        )?;
    }
    check(
        "properties of a namespace",
        count,
        limits::PROPERTIES,
        "remove some, or keep them in a table",
    )?;
    check(
        "bytes of the properties of a namespace",
        bytes,
        limits::NAMESPACE_PROPERTIES_BYTES,
        "remove some, or keep them in a table",
    )
}
