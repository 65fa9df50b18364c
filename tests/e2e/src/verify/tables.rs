//! Tables, their commits and their metadata files.

use super::Extent;
use crate::chain::{self, Change, Fate};
use crate::outcome::Outcome;
use crate::table::{Observed, bucket_and_key};
use crate::world::Session;
use anyhow::{Context as _, bail, ensure};
use rand::Rng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};
use std::collections::BTreeSet;

/// A table of an earlier generation, as it was left.
#[derive(Clone, Debug)]
pub struct Retired {
    namespace: String,
    name: String,
    observed: Observed,
}

pub(super) async fn verify(session: &mut Session, extent: Extent) -> anyhow::Result<()> {
    let before = observe(session).await?;
    let due = settle(session, &before)?;
    let applied = repeat(session, &before, due).await?;
    let after = observe(session).await?;
    for (index, (before, after)) in before.iter().zip(&after).enumerate() {
        ensure!(
            applied.contains(&index) || before == after,
            "table {index} changed although nothing was committed:\n{}\n{}",
            before.text,
            after.text
        );
    }
    {
        let mut ledger = session.world.ledger();
        let ledger = &mut *ledger;
        chain::check(&after, &ledger.commits, &[])?;
        for (table, observed) in ledger.tables.iter_mut().zip(&after) {
            (table.head, table.sequence) = (observed.head, observed.last_sequence);
        }
    }
    files(session, &after, extent).await
}

async fn observe(session: &Session) -> anyhow::Result<Vec<Observed>> {
    let (namespace, names): (String, Vec<String>) = {
        let ledger = session.world.ledger();
        (
            ledger.namespace.clone(),
            ledger.tables.iter().map(|t| t.name.clone()).collect(),
        )
    };
    let mut observed = Vec::new();
    for name in &names {
        let loaded = session
            .clients
            .iceberg
            .load_table(&[&namespace], name)
            .await;
        let loaded = loaded.with_context(|| format!("load of {namespace}.{name}"))?;
        observed.push(Observed::of(&loaded)?);
    }
    Ok(observed)
}

/// Checks what is there, and fixes what unknown commits turned out to be. Returns the commits to
/// send again now.
fn settle(session: &mut Session, tables: &[Observed]) -> anyhow::Result<Vec<usize>> {
    let world = session.world.clone();
    let now = world.history.now();
    let mut ledger = world.ledger();
    chain::check(tables, &ledger.commits, &ledger.reads)?;
    ledger.reads.clear();
    let there = chain::unknown_but_there(tables, &ledger.commits);
    let mut due = std::mem::take(&mut ledger.again);
    for index in 0..ledger.commits.len() {
        if ledger.commits[index].fate != Fate::Unknown {
            continue;
        }
        let applied = there.contains(&index);
        let commit = &mut ledger.commits[index];
        (commit.fate, commit.ended) = if applied {
            (Fate::Present, Some(now))
        } else {
            (Fate::Absent, None)
        };
        let changes: Vec<_> = commit
            .changes
            .iter()
            .map(|c| (c.table, c.snapshot))
            .collect();
        let found = serde_json::json!({"applied": applied, "changes": changes});
        world.history.record(&session.name, "settled", found);
        world.tally().unknown_applied += u64::from(applied);
        // An applied one is sent now, and once more when others lie on top of it. An absent one is
        // sent now, or only later to see that it stays absent by itself.
        if applied || session.rng.random() {
            due.push(index);
        }
        if applied || due.last() != Some(&index) {
            ledger.again.push(index);
        }
    }
    let known = ledger
        .commits
        .iter()
        .enumerate()
        .filter(|(_, c)| c.fate == Fate::Present);
    due.extend(
        known
            .map(|(index, _)| index)
            .choose_multiple(&mut session.rng, 2),
    );
    Ok(due)
}

/// Sends commits again, byte for byte: 200 exactly if one is there or becomes so. Returns the
/// tables that this changed.
async fn repeat(
    session: &Session,
    tables: &[Observed],
    due: Vec<usize>,
) -> anyhow::Result<BTreeSet<usize>> {
    let mut heads: Vec<Option<i64>> = tables.iter().map(|table| table.head).collect();
    let mut changed = BTreeSet::new();
    for index in due {
        let (commit, body, namespace) = {
            let ledger = session.world.ledger();
            let commit = ledger.commits[index].clone();
            (
                commit,
                ledger.bodies[index].clone(),
                ledger.namespace.clone(),
            )
        };
        let result = match &commit.changes[..] {
            [only] => {
                let name = session.table(only.table).name;
                session
                    .clients
                    .iceberg
                    .update_table(&[&namespace], &name, body)
                    .await
            }
            _ => session.clients.iceberg.commit_transaction(body).await,
        };
        let outcome = Outcome::of(result.map(|_| ()));
        let what: Vec<_> = commit
            .changes
            .iter()
            .map(|c| (c.table, c.snapshot))
            .collect();
        session.note("repeat", &what, &outcome)?;
        session.world.tally().repeated += 1;
        let fits = commit
            .changes
            .iter()
            .all(|c: &Change| heads[c.table] == c.parent);
        match (&outcome, commit.fate) {
            (Outcome::Done(()), Fate::Present) => {}
            (Outcome::Done(()), _) if fits => {
                for change in &commit.changes {
                    heads[change.table] = Some(change.snapshot);
                    changed.insert(change.table);
                }
                let now = session.world.history.now();
                session.world.ledger().end(index, &outcome, now);
            }
            (Outcome::Refused { status: 409, .. }, Fate::Absent) if !fits => {}
            (outcome, fate) => bail!(
                "sent again, commit {what:?} ({fate:?}, parent is head: {fits}) got {outcome:?}"
            ),
        }
    }
    Ok(changed)
}

/// Reads metadata files again that were read before and that a table still names.
async fn files(session: &mut Session, tables: &[Observed], extent: Extent) -> anyhow::Result<()> {
    let named: BTreeSet<&String> = tables.iter().flat_map(|table| &table.named_files).collect();
    let mut kept: Vec<_> = {
        let mut ledger = session.world.ledger();
        ledger.files.retain(|location, _| named.contains(location));
        ledger
            .files
            .iter()
            .map(|(location, file)| (location.clone(), file.clone()))
            .collect()
    };
    if extent == Extent::Touched {
        kept = kept
            .choose_multiple(&mut session.rng, 12)
            .cloned()
            .collect();
    }
    for (location, file) in kept {
        let (bucket, key) = bucket_and_key(&location)?;
        let found = session.clients.s3.get_object(bucket, key).await;
        let found = found.with_context(|| format!("GET of {location}"))?;
        ensure!(found == file, "{location} is not what it was");
        session.world.tally().files_read += 1;
    }
    for table in tables {
        let (bucket, key) = bucket_and_key(&table.metadata_location)?;
        let head = session.clients.s3.head_object(bucket, key).await?;
        let file = session.clients.s3.get_object(bucket, key).await?;
        ensure!(
            head.size == file.len() as u64,
            "HEAD of {key} says {} bytes",
            head.size
        );
        let parsed: serde_json::Value = serde_json::from_slice(&file)?;
        let served = parsed.to_string();
        ensure!(served == table.text, "{key} differs from the loaded table");
        session
            .world
            .ledger()
            .files
            .insert(table.metadata_location.clone(), file);
    }
    Ok(())
}

pub(super) async fn retire(session: &Session) -> anyhow::Result<Vec<Retired>> {
    let observed = observe(session).await?;
    let ledger = session.world.ledger();
    let tables = ledger.tables.iter().zip(observed);
    Ok(tables
        .map(|(table, observed)| Retired {
            namespace: ledger.namespace.clone(),
            name: table.name.clone(),
            observed,
        })
        .collect())
}

pub(super) async fn unchanged(session: &Session, table: &Retired) -> anyhow::Result<()> {
    let (namespace, name) = (&table.namespace, &table.name);
    let loaded = session.clients.iceberg.load_table(&[namespace], name).await;
    let loaded = loaded.with_context(|| format!("load of {namespace}.{name}"))?;
    let observed = Observed::of(&loaded)?;
    ensure!(
        observed == table.observed,
        "{namespace}.{name} changed after its last commit"
    );
    Ok(())
}
