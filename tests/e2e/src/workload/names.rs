//! Creations and drops of namespaces and tables, each name by one client.

use crate::blobs::Ending;
use crate::names::{Name, State};
use crate::outcome::Outcome;
use crate::table::Observed;
use crate::world::{Session, create_table};
use anyhow::ensure;
use floeberg_client::ClientError;
use rand::Rng;

pub(super) async fn create_and_drop(mut session: Session) -> anyhow::Result<()> {
    let mut number = 0;
    while !session.is_over() {
        let space = format!(
            "{}c{}n{number}",
            session.name.replace('-', ""),
            session.cycle
        );
        number += 1;
        if round(&mut session, &space).await? == Ending::Unknown {
            break;
        }
    }
    Ok(())
}

/// A namespace with a table that is dropped, and made again, by chance; then all of it by chance.
async fn round(session: &mut Session, space: &str) -> anyhow::Result<Ending> {
    let namespace: Name = (space.to_owned(), None);
    let table: Name = (space.to_owned(), Some("t".to_owned()));
    let mut steps = vec![(&namespace, Step::Create), (&table, Step::Create)];
    if session.rng.random_ratio(2, 3) {
        steps.push((&table, Step::Drop));
        if session.rng.random_ratio(1, 2) {
            steps.push((&table, Step::Create));
        } else if session.rng.random_ratio(4, 5) {
            steps.push((&namespace, Step::Drop));
        }
    } else {
        refuse_drop(session, space).await?;
    }
    for (name, step) in steps {
        if take(session, name, step).await? == Ending::Unknown {
            return Ok(Ending::Unknown);
        }
    }
    Ok(Ending::Done)
}

#[derive(Clone, Copy, Debug, serde::Serialize)]
enum Step {
    Create,
    Drop,
}

async fn take(session: &Session, name: &Name, step: Step) -> anyhow::Result<Ending> {
    let target = match step {
        Step::Create => State::Present(None),
        Step::Drop => State::Absent,
    };
    session.world.names().begin(name, target);
    let outcome = Outcome::of(call(session, name, step).await);
    let ending = session.note("name", &(name, step), &outcome)?;
    ensure!(
        ending != Ending::Refused,
        "{}: {step:?} {name:?}: {outcome:?}",
        session.name
    );
    let uuid = match outcome {
        Outcome::Done(uuid) => uuid,
        _ => None,
    };
    session.world.names().end(name, ending, uuid);
    if ending == Ending::Done {
        session.world.tally().names += 1;
    }
    Ok(ending)
}

/// The UUID of a created table, if it was one.
async fn call(session: &Session, name: &Name, step: Step) -> Result<Option<String>, ClientError> {
    let (clients, space) = (&session.clients, name.0.as_str());
    match (&name.1, step) {
        (None, Step::Create) => clients
            .iceberg
            .create_namespace(&[space])
            .await
            .map(|()| None),
        (None, Step::Drop) => clients
            .iceberg
            .drop_namespace(&[space])
            .await
            .map(|()| None),
        (Some(table), Step::Drop) => clients
            .iceberg
            .drop_table(&[space], table)
            .await
            .map(|()| None),
        (Some(table), Step::Create) => {
            let loaded = create_table(clients, space, table).await?;
            let observed = Observed::of(&loaded).map_err(|error| ClientError::Answer {
                operation: "createTable",
                cause: error.to_string(),
            })?;
            Ok(Some(observed.uuid))
        }
    }
}

/// Dropping a namespace that does not exist, or one that is not empty, is refused and does nothing.
async fn refuse_drop(session: &Session, space: &str) -> anyhow::Result<()> {
    let absent = format!("{space}absent");
    for (space, expected) in [(absent.as_str(), 404), (&session.namespace(), 409)] {
        let outcome = Outcome::of(session.clients.iceberg.drop_namespace(&[space]).await);
        session.note("refused-drop", &space, &outcome)?;
        let refused = matches!(outcome, Outcome::Refused { status, .. } if status == expected);
        let unknown = matches!(outcome, Outcome::Unknown { .. });
        ensure!(
            refused || unknown,
            "{}: drop of {space}: {outcome:?}",
            session.name
        );
    }
    Ok(())
}
