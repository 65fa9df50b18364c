//! Appends to several tables at once, by several writers; some are made to fail.

use super::commits::load;
use crate::blobs::Ending;
use crate::chain::Change;
use crate::outcome::Outcome;
use crate::world::{SHARED, Session, Table, append, manifest_list, snapshot_id};
use anyhow::{bail, ensure};
use bytes::Bytes;
use floeberg_client::transaction_body;
use rand::Rng;
use rand::seq::{IndexedRandom as _, SliceRandom as _};

/// Whether a transaction asserts what the client knows, or something false for one table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Assertion {
    Honest,
    FalseForTheLast,
}

pub(super) async fn transact(mut session: Session) -> anyhow::Result<()> {
    let mut tables: Vec<(usize, Table)> = SHARED.map(|i| (i, session.table(i))).collect();
    while !session.is_over() {
        let count = session.rng.random_range(2..=tables.len());
        tables.shuffle(&mut session.rng);
        let assertion = *[
            Assertion::Honest,
            Assertion::Honest,
            Assertion::FalseForTheLast,
        ]
        .choose(&mut session.rng)
        .expect("not empty");
        match commit(&mut session, &mut tables[..count], assertion).await? {
            Ending::Done => {
                ensure!(
                    assertion == Assertion::Honest,
                    "{}: a false assertion was accepted",
                    session.name
                );
            }
            Ending::Refused => {
                for (index, table) in &mut tables {
                    if !load(&session, *index, table).await? {
                        return Ok(());
                    }
                }
            }
            Ending::Unknown => break,
        }
    }
    Ok(())
}

async fn commit(
    session: &mut Session,
    tables: &mut [(usize, Table)],
    assertion: Assertion,
) -> anyhow::Result<Ending> {
    let mut changes: Vec<Change> = Vec::new();
    for (index, table) in tables.iter() {
        let snapshot = snapshot_id(&mut session.rng);
        changes.push(Change {
            table: *index,
            snapshot,
            parent: table.head,
        });
    }
    if assertion == Assertion::FalseForTheLast {
        // No snapshot of any table has this id.
        changes.last_mut().expect("at least two").parent = Some(0);
    }
    let body = render(&session.namespace(), tables, &changes);
    let world = session.world.clone();
    let number = world
        .ledger()
        .begin(changes.clone(), body.clone(), world.history.now());
    let result = session.clients.iceberg.commit_transaction(body).await;
    let outcome = Outcome::of(result.map(|_| ()));
    world.ledger().end(number, &outcome, world.history.now());
    let what: Vec<_> = changes
        .iter()
        .map(|c| (c.table, c.snapshot, c.parent))
        .collect();
    let ending = session.note("transaction", &what, &outcome)?;
    match (ending, &outcome) {
        (Ending::Done, _) => {
            world.tally().transactions += 1;
            for ((_, table), change) in tables.iter_mut().zip(&changes) {
                (table.head, table.sequence) = (Some(change.snapshot), table.sequence + 1);
            }
        }
        (_, Outcome::Refused { status, code }) if *status != 409 => {
            bail!("{}: {status} {code} is no conflict", session.name)
        }
        (Ending::Refused, _) => world.tally().transaction_conflicts += 1,
        (Ending::Unknown, _) => {}
    }
    Ok(ending)
}

fn render(namespace: &str, tables: &[(usize, Table)], changes: &[Change]) -> Bytes {
    let lists: Vec<String> = tables
        .iter()
        .zip(changes)
        .map(|((_, table), change)| manifest_list(&table.location, change.snapshot))
        .collect();
    let parts: Vec<_> = tables
        .iter()
        .zip(changes)
        .zip(&lists)
        .map(|(((_, table), change), list)| {
            let next = table.sequence + 1;
            (
                table.name.as_str(),
                append(change.parent, change.snapshot, next, list),
            )
        })
        .collect();
    transaction_body(&[namespace], &parts).into()
}
