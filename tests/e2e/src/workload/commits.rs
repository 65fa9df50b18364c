//! Appends to one table: by its only writer, and by several that contend.

use crate::blobs::{Ending, Name};
use crate::chain::{Change, Read};
use crate::content::Content;
use crate::outcome::Outcome;
use crate::table::{Observed, bucket_and_key};
use crate::world::{HOT, Session, Table, append, manifest_list, snapshot_id};
use anyhow::{bail, ensure};
use bytes::Bytes;
use floeberg_client::LoadedTable;
use rand::Rng;
use serde_json::Value;

/// The only writer of a table: nothing may ever be refused.
pub(super) async fn alone(mut session: Session, index: usize) -> anyhow::Result<()> {
    let mut table = session.table(index);
    while !session.is_over() {
        let snapshot = snapshot_id(&mut session.rng);
        let list = manifest_list(&table.location, snapshot);
        if session.rng.random_ratio(1, 4) && put_list(&mut session, &list).await? != Ending::Done {
            break;
        }
        match commit(&session, index, &mut table, snapshot).await? {
            Outcome::Done(answer) => {
                if session.rng.random_ratio(1, 8) {
                    keep_file(&session, &answer).await?;
                }
            }
            Outcome::Refused { status, code } => {
                bail!(
                    "{}: the only writer was refused: {status} {code}",
                    session.name
                )
            }
            Outcome::Unknown { .. } => break,
        }
    }
    Ok(())
}

/// One of several writers: after a refusal it loads the table and builds on its head.
pub(super) async fn contending(mut session: Session) -> anyhow::Result<()> {
    let mut table = session.table(HOT);
    while !session.is_over() {
        let snapshot = snapshot_id(&mut session.rng);
        match commit(&session, HOT, &mut table, snapshot).await? {
            Outcome::Done(_) if session.rng.random_ratio(3, 4) => {}
            Outcome::Unknown { .. } => break,
            Outcome::Done(_) | Outcome::Refused { status: 409, .. } => {
                if !load(&session, HOT, &mut table).await? {
                    break;
                }
            }
            Outcome::Refused { status, code } => {
                bail!("{}: {status} {code} is no conflict", session.name)
            }
        }
    }
    Ok(())
}

/// Appends a snapshot to what the client knows of the table, and learns from the answer.
async fn commit(
    session: &Session,
    index: usize,
    table: &mut Table,
    snapshot: i64,
) -> anyhow::Result<Outcome<Bytes>> {
    let namespace = session.namespace();
    let list = manifest_list(&table.location, snapshot);
    let body: Bytes = append(table.head, snapshot, table.sequence + 1, &list)
        .render()
        .into();
    let change = Change {
        table: index,
        snapshot,
        parent: table.head,
    };
    let world = &session.world;
    let number = world
        .ledger()
        .begin(vec![change], body.clone(), world.history.now());
    let result = session
        .clients
        .iceberg
        .update_table(&[&namespace], &table.name, body)
        .await;
    let outcome = Outcome::of(result.map(|reply| reply.body));
    world.ledger().end(number, &outcome, world.history.now());
    let what = serde_json::json!({"table": table.name, "snapshot": snapshot, "parent": table.head});
    match session.note("commit", &what, &outcome)? {
        Ending::Done => {
            world.tally().commits += 1;
            (table.head, table.sequence) = (Some(snapshot), table.sequence + 1);
        }
        Ending::Refused => world.tally().conflicts += 1,
        Ending::Unknown => {}
    }
    Ok(outcome)
}

/// Loads a table and records what was seen; false once the node is gone.
pub(super) async fn load(
    session: &Session,
    index: usize,
    table: &mut Table,
) -> anyhow::Result<bool> {
    let namespace = session.namespace();
    let history = &session.world.history;
    let started = history.now();
    let loaded = match session
        .clients
        .iceberg
        .load_table(&[&namespace], &table.name)
        .await
    {
        Ok(loaded) => loaded,
        Err(_) if session.is_over() => return Ok(false),
        Err(error) => bail!("{}: load of {}: {error}", session.name, table.name),
    };
    let observed = Observed::of(&loaded)?;
    (table.head, table.sequence) = (observed.head, observed.last_sequence);
    let read = Read {
        table: index,
        head: observed.head,
        started,
        ended: history.now(),
    };
    history.record(
        &session.name,
        "load",
        serde_json::json!({"table": table.name, "head": read.head}),
    );
    session.world.ledger().reads.push(read);
    Ok(true)
}

/// Writes a manifest list, as an engine does before it commits.
async fn put_list(session: &mut Session, location: &str) -> anyhow::Result<Ending> {
    let (bucket, key) = bucket_and_key(location)?;
    let name: Name = (bucket.to_owned(), key.to_owned());
    let len = session.rng.random_range(1..40 * 1024);
    let content = Content::of_len(&mut session.rng, len);
    session.world.blobs().begin(&name, Some(vec![content]));
    let put = session
        .clients
        .s3
        .put_object(bucket, key, content.bytes())
        .await;
    let outcome = Outcome::of(put);
    let ending = session.note("put", &name, &outcome)?;
    session.world.blobs().end(&name, ending);
    ensure!(
        ending != Ending::Refused,
        "{}: PUT of {key}: {outcome:?}",
        session.name
    );
    Ok(ending)
}

/// Reads the metadata file that a commit was answered with: it must say what the answer says.
async fn keep_file(session: &Session, answer: &Bytes) -> anyhow::Result<()> {
    let loaded: LoadedTable = serde_json::from_slice(answer)?;
    let observed = Observed::of(&loaded)?;
    let (bucket, key) = bucket_and_key(&observed.metadata_location)?;
    let file = match session.clients.s3.get_object(bucket, key).await {
        Ok(file) => file,
        Err(_) if session.is_over() => return Ok(()),
        Err(error) => bail!("{}: GET of {key}: {error}", session.name),
    };
    let parsed: Value = serde_json::from_slice(&file)?;
    ensure!(
        parsed == loaded.metadata,
        "{key} differs from the answer of its commit"
    );
    session
        .world
        .ledger()
        .files
        .insert(observed.metadata_location, file);
    Ok(())
}
