//! After a restart: reads everything back and compares it with what is known, while nothing
//! disturbs the node.

mod objects;
mod tables;

use crate::names::{Name, State};
use crate::table::Observed;
use crate::world::Session;
use anyhow::{bail, ensure};
use rand::seq::IndexedRandom as _;
use std::collections::BTreeSet;

pub use tables::Retired;

/// How much is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extent {
    /// What was touched since the last time, and a sample of the rest.
    Touched,
    /// All that was ever written.
    All,
}

/// Checks tables, metadata files, objects, uploads and names; sends commits again.
///
/// # Errors
/// The first promise that was broken.
pub async fn everything(session: &mut Session, extent: Extent) -> anyhow::Result<()> {
    tables::verify(session, extent).await?;
    objects::verify(session, extent).await?;
    names(session, extent).await
}

/// Takes a last look at the tables of the current generation, before it is replaced.
///
/// # Errors
/// If a load fails.
pub async fn retire(session: &Session) -> anyhow::Result<Vec<Retired>> {
    tables::retire(session).await
}

/// Compares tables of earlier generations: nobody has changed them since.
///
/// # Errors
/// If one has changed.
pub async fn retired<'a>(
    session: &Session,
    tables: impl IntoIterator<Item = &'a Retired>,
) -> anyhow::Result<()> {
    for table in tables {
        tables::unchanged(session, table).await?;
    }
    Ok(())
}

async fn names(session: &mut Session, extent: Extent) -> anyhow::Result<()> {
    let listed = session.clients.iceberg.list_namespaces(&[]).await?;
    let count = listed.len();
    let listed: BTreeSet<String> = listed.into_iter().flatten().collect();
    ensure!(
        count == listed.len(),
        "namespaces are listed twice, or have several levels"
    );
    let spaces = session.world.names().all(|name| name.1.is_none());
    for name in &spaces {
        let there = listed.contains(&name.0);
        let found = if there {
            State::Present(None)
        } else {
            State::Absent
        };
        session.world.names().observe(name, found)?;
    }
    let known: BTreeSet<&String> = spaces.iter().map(|name| &name.0).collect();
    // Namespaces of generations start with this letter, those of clients do not.
    let foreign = |space: &&String| !known.contains(space) && !space.starts_with('g');
    if let Some(space) = listed.iter().find(foreign) {
        bail!("nobody created namespace {space}");
    }
    let marker = format!("c{}n", session.cycle);
    let mut tables = session.world.names().all(|name| name.1.is_some());
    if extent == Extent::Touched {
        let (mut chosen, rest): (Vec<Name>, Vec<Name>) = tables
            .into_iter()
            .partition(|name| name.0.contains(&marker));
        chosen.extend(rest.choose_multiple(&mut session.rng, 20).cloned());
        tables = chosen;
    }
    for name in &tables {
        short_lived(session, name, &listed).await?;
    }
    Ok(())
}

/// Looks a table up by its name and in its namespace's listing, which must agree.
async fn short_lived(
    session: &Session,
    name: &Name,
    listed: &BTreeSet<String>,
) -> anyhow::Result<()> {
    let (space, table) = (name.0.as_str(), name.1.as_deref().unwrap_or_default());
    let catalog = &session.clients.iceberg;
    let found = match catalog.load_table(&[space], table).await {
        Ok(loaded) => State::Present(Some(Observed::of(&loaded)?.uuid)),
        Err(error) if error.status() == Some(http::StatusCode::NOT_FOUND) => State::Absent,
        Err(error) => bail!("load of {name:?}: {error}"),
    };
    if listed.contains(space) {
        let siblings = catalog.list_tables(&[space]).await?;
        let expected = usize::from(found != State::Absent);
        ensure!(
            siblings.len() == expected,
            "{space} lists {siblings:?}, {table} is {found:?}"
        );
    } else {
        ensure!(found == State::Absent, "{name:?} outlived its namespace");
    }
    session.world.names().observe(name, found)?;
    Ok(())
}
