//! A small lake whose every byte is compared: tables with the files they name, and plain objects.

use crate::connect::{Clients, FILES};
use crate::table::{Observed, bucket_and_key};
use crate::world::{append, create_table, manifest_list};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

/// Bucket, key and bytes.
type Named = (String, String, Bytes);

/// Longest part of the object that is uploaded in parts.
const PART: usize = 9 << 20;
/// Parts of it.
const PARTS: usize = 2;
/// Lengths of the objects that are put at once: none, inline, one chunk.
const OBJECTS: [usize; 3] = [0, 10, 1 << 20];

/// What a lake holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Lake {
    tables: Vec<Observed>,
    /// Metadata files and manifest lists of the tables, and plain objects.
    objects: Vec<Named>,
}

impl Lake {
    /// One line for each table and object, with a digest of every byte.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let digest = |bytes: &[u8]| hex::encode(Sha256::digest(bytes));
        let table = |t: &Observed| {
            let text = digest(t.text.as_bytes());
            format!("table {} {text}", t.metadata_location)
        };
        let object = |(bucket, key, bytes): &Named| {
            let (len, sum) = (bytes.len(), digest(bytes));
            format!("object s3://{bucket}/{key} {len} {sum}")
        };
        let objects = self.objects.iter().map(object);
        self.tables.iter().map(table).chain(objects).collect()
    }
}

/// Bytes that differ from place to place.
#[must_use]
pub fn body(len: usize) -> Bytes {
    (0..len).map(|i| (i * 31 % 251) as u8).collect()
}

/// Uploads a table's next manifest list and commits the snapshot that names it.
async fn commit(clients: &Clients, table: &str, made: &Observed, n: i64) -> anyhow::Result<()> {
    let list = manifest_list(&made.location, n);
    let (bucket, key) = bucket_and_key(&list)?;
    let bytes = body(60_000 + 10_000 * usize::try_from(n % 10)?);
    clients.s3.put_object(bucket, key, bytes).await?;
    let head = (n > 1).then_some(n - 1);
    let commit = append(head, n, n, &list).render();
    clients.iceberg.update_table(&["n"], table, commit).await?;
    Ok(())
}

/// Commits to the table `busy` until nobody listens any more; tells how many are acknowledged.
///
/// # Errors
/// As any call.
pub async fn keep_writing(clients: Clients, done: watch::Sender<i64>) -> anyhow::Result<()> {
    let made = Observed::of(&create_table(&clients, "n", "busy").await?)?;
    for n in 1.. {
        commit(&clients, "busy", &made, n).await?;
        if done.send(n).is_err() {
            break;
        }
    }
    Ok(())
}

/// Tables with files, objects small and large, and one that is there no more.
///
/// # Errors
/// As any call.
pub async fn fill(clients: &Clients) -> anyhow::Result<()> {
    clients.iceberg.create_namespace(&["n"]).await?;
    for (table, commits) in [("a", 3), ("b", 7), ("empty", 0)] {
        let made = Observed::of(&create_table(clients, "n", table).await?)?;
        for n in 1..=commits {
            commit(clients, table, &made, n).await?;
        }
    }
    for len in OBJECTS {
        let name = format!("object-{len}");
        clients.s3.put_object(FILES, &name, body(len)).await?;
    }
    let upload = clients.create_upload(FILES, "large").await?;
    let mut etags = Vec::new();
    for number in 1..=PARTS {
        let part = body(PART / number);
        let put = clients.upload_part((FILES, "large"), &upload, number, part);
        etags.push(put.await?);
    }
    clients
        .complete_upload((FILES, "large"), &upload, &etags)
        .await?;
    clients.s3.put_object(FILES, "gone", body(50_000)).await?;
    Ok(clients.s3.delete_object(FILES, "gone").await?)
}

/// A table with every file that it names; each can be read.
///
/// # Errors
/// As any call.
pub async fn look_at(clients: &Clients, name: &str) -> anyhow::Result<(Observed, Vec<Named>)> {
    let table = Observed::of(&clients.iceberg.load_table(&["n"], name).await?)?;
    let snapshots = table.snapshots.iter();
    let lists = snapshots.map(|s| manifest_list(&table.location, s.id));
    let mut files = Vec::new();
    for file in table.named_files.iter().cloned().chain(lists) {
        let (bucket, key) = bucket_and_key(&file)?;
        let bytes = clients.s3.get_object(bucket, key).await?;
        files.push((bucket.to_owned(), key.to_owned(), bytes));
    }
    Ok((table, files))
}

/// Everything that [`fill`] made and left.
///
/// # Errors
/// As any call.
pub async fn look(clients: &Clients) -> anyhow::Result<Lake> {
    let (mut tables, mut objects) = (Vec::new(), Vec::new());
    for name in ["a", "b", "empty"] {
        let (table, files) = look_at(clients, name).await?;
        objects.extend(files);
        tables.push(table);
    }
    let plain = OBJECTS.iter().map(|len| format!("object-{len}"));
    for name in plain.chain(["large".to_owned()]) {
        let bytes = clients.s3.get_object(FILES, &name).await?;
        objects.push((FILES.to_owned(), name, bytes));
    }
    Ok(Lake { tables, objects })
}

/// Writes to a lake that [`fill`] made: to an old table, a new one, and beside them.
///
/// # Errors
/// As any call.
pub async fn go_on(clients: &Clients, before: &Lake) -> anyhow::Result<()> {
    commit(clients, "a", &before.tables[0], 4).await?;
    let made = Observed::of(&create_table(clients, "n", "later").await?)?;
    commit(clients, "later", &made, 1).await?;
    clients.s3.put_object(FILES, "later", body(200_000)).await?;
    for name in ["a", "later"] {
        look_at(clients, name).await?;
    }
    Ok(())
}
