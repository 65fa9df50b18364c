//! What the large requests need before they are measured: tables, and metadata files as objects.

use super::documents::Files;
use crate::connect::Clients;
use crate::table::{Observed, bucket_and_key};
use crate::world::create_table;
use anyhow::Context as _;
use bytes::Bytes;
use floeberg_types::limits;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

/// The namespace of everything.
pub(super) const NAMESPACE: &str = "n";
/// Tables made or looked at at the same time.
pub(super) const PARALLEL: usize = 16;

/// One of the tables of the largest transaction.
pub(super) struct Crowd {
    pub(super) name: String,
    pub(super) location: String,
}

/// A metadata file of the largest length.
pub(super) struct Registrable {
    /// The table it is to become.
    pub(super) table: String,
    pub(super) location: String,
    pub(super) uri: String,
}

/// The metadata files of a run.
pub(super) struct Written {
    pub(super) largest: Vec<Registrable>,
    /// URI of the one that is a byte longer.
    pub(super) longer: String,
}

/// Makes the tables of the largest transaction, and one more.
pub(super) async fn crowd(clients: &Clients) -> anyhow::Result<Vec<Crowd>> {
    let made = stream::iter(0..=limits::TRANSACTION_TABLES).map(|n| async move {
        let name = format!("crowd_{n:04}");
        let made = Observed::of(&create_table(clients, NAMESPACE, &name).await?)?;
        let location = made.location;
        anyhow::Ok(Crowd { name, location })
    });
    made.buffered(PARALLEL).try_collect().await
}

/// Writes `count` metadata files of the largest length, and one that is a byte longer. Files are only
/// written below a table, so each gets one, which is dropped again: registering the file brings it back.
pub(super) async fn files(clients: &Clients, count: usize) -> anyhow::Result<Written> {
    let mut tables = Vec::new();
    for number in 0..count {
        // Names of one length, so that locations have one.
        let name = format!("registered_{number:03}");
        let made = Observed::of(&create_table(clients, NAMESPACE, &name).await?)?;
        tables.push((name, made));
    }
    let (_, first) = tables.first().context("no file is wanted")?;
    let file = Files::of(first, limits::METADATA_FILE_BYTES + 1)?.file(first)?;
    let longer = write(clients, &first.location, "longer", file).await?;
    let files = Files::of(first, limits::METADATA_FILE_BYTES)?;
    let mut largest = Vec::new();
    for (table, made) in &tables {
        let uri = write(clients, &made.location, "largest", files.file(made)?).await?;
        clients.iceberg.drop_table(&[NAMESPACE], table).await?;
        largest.push(Registrable {
            table: table.clone(),
            location: made.location.clone(),
            uri,
        });
    }
    Ok(Written { largest, longer })
}

async fn write(
    clients: &Clients,
    location: &str,
    name: &str,
    file: Bytes,
) -> anyhow::Result<String> {
    let uri = format!("{location}/metadata/{name}.metadata.json");
    let (bucket, key) = bucket_and_key(&uri)?;
    clients.s3.put_object(bucket, key, file).await?;
    Ok(uri)
}
