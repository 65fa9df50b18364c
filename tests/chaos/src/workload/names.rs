//! Namespaces and tables that several clients create, drop, rename and look for at once.

use super::Session;
use crate::connect::Clients;
use crate::history::{Answer, Call, NameCall};
use floeberg_client::{ClientError, ColumnType, CreateTableBody};
use rand::Rng;
use rand::rngs::StdRng;

/// Namespaces of a family.
pub(crate) const SPACES: [&str; 2] = ["a", "b"];
const NAMES: [&str; 3] = ["x", "y", "z"];

pub(super) async fn race(mut session: Session) {
    let family = session.stage.family();
    while !session.is_over() {
        let call = choose(&mut session.rng, &family);
        let node = session.node();
        let noted = Call::Name {
            family: family.clone(),
            call: call.clone(),
        };
        session.ask(noted, send(node, call), Clone::clone).await;
    }
}

fn choose(rng: &mut StdRng, family: &str) -> NameCall {
    let space = |rng: &mut StdRng| format!("{family}{}", SPACES[rng.random_range(0..SPACES.len())]);
    let table = |rng: &mut StdRng| {
        let name = NAMES[rng.random_range(0..NAMES.len())];
        (space(rng), name.to_owned())
    };
    match rng.random_range(0..20) {
        0..3 => NameCall::CreateSpace { space: space(rng) },
        3 => NameCall::DropSpace { space: space(rng) },
        4..9 => NameCall::CreateTable { at: table(rng) },
        9..12 => NameCall::DropTable { at: table(rng) },
        12..16 => loop {
            let (from, to) = (table(rng), table(rng));
            if from != to {
                return NameCall::Rename { from, to };
            }
        },
        16..18 => NameCall::Exists { at: table(rng) },
        _ => NameCall::List { space: space(rng) },
    }
}

/// Lists the tables of a namespace through a node.
pub(crate) async fn list(node: Clients, space: String) -> Result<Answer, ClientError> {
    send(node, NameCall::List { space }).await
}

async fn send(node: Clients, call: NameCall) -> Result<Answer, ClientError> {
    let catalog = &node.iceberg;
    let done = match call {
        NameCall::CreateSpace { space } => catalog.create_namespace(&[&space]).await,
        NameCall::DropSpace { space } => catalog.drop_namespace(&[&space]).await,
        NameCall::CreateTable { at: (space, name) } => {
            let body = CreateTableBody {
                name: &name,
                columns: &[("id", ColumnType::Long)],
                format_version: 2,
            };
            catalog.create_table(&[&space], &body).await.map(|_| ())
        }
        NameCall::DropTable { at: (space, name) } => catalog.drop_table(&[&space], &name).await,
        NameCall::Rename { from, to } => {
            let (source, target) = ([from.0.as_str()], [to.0.as_str()]);
            catalog
                .rename_table((&source, &from.1), (&target, &to.1))
                .await
        }
        NameCall::Exists { at: (space, name) } => {
            let exists = catalog.table_exists(&[&space], &name).await?;
            return Ok(Answer::Exists { exists });
        }
        NameCall::List { space } => {
            return match catalog.list_tables(&[&space]).await {
                Ok(names) => Ok(Answer::Tables {
                    tables: Some(names.into_iter().collect()),
                }),
                Err(error) if error.status().is_some_and(|s| s.as_u16() == 404) => {
                    Ok(Answer::Tables { tables: None })
                }
                Err(error) => Err(error),
            };
        }
    };
    done.map(|()| Answer::Done)
}
