//! Object writes of all size classes under keys with one writer each: new keys, overwrites, deletes.

use crate::blobs::{Ending, Name};
use crate::connect::FILES;
use crate::content::Content;
use crate::outcome::Outcome;
use crate::world::Session;
use anyhow::{bail, ensure};
use rand::Rng;
use rand::seq::IndexedRandom as _;

/// A client keeps about this many objects, so that a long run does not fill the disk.
const KEPT: usize = 60;

pub(super) async fn write(mut session: Session) -> anyhow::Result<()> {
    let prefix = format!("{}/", session.name);
    let mut present = session.world.blobs().present(FILES, &prefix);
    let mut number = 0;
    while !session.is_over() {
        let deletes = if present.len() > KEPT { 6 } else { 1 };
        let ending = match session.rng.random_range(0..10) {
            roll if roll < deletes && !present.is_empty() => {
                let at = session.rng.random_range(0..present.len());
                delete(&session, &present.swap_remove(at)).await?
            }
            8.. if !present.is_empty() => {
                let name = present.choose(&mut session.rng).expect("not empty").clone();
                put(&mut session, &name).await?
            }
            _ => {
                let name = (
                    FILES.to_owned(),
                    format!("{prefix}c{}/{number}", session.cycle),
                );
                number += 1;
                let ending = put(&mut session, &name).await?;
                present.push(name);
                ending
            }
        };
        if ending == Ending::Unknown {
            break;
        }
        if session.rng.random_ratio(1, 6) && !present.is_empty() {
            let name = present.choose(&mut session.rng).expect("not empty").clone();
            if !read(&session, &name).await? {
                break;
            }
        }
    }
    Ok(())
}

async fn put(session: &mut Session, name: &Name) -> anyhow::Result<Ending> {
    let content = Content::random(&mut session.rng);
    session.world.blobs().begin(name, Some(vec![content]));
    let put = session
        .clients
        .s3
        .put_object(&name.0, &name.1, content.bytes())
        .await;
    let outcome = Outcome::of(put);
    let ending = session.note("put", &(name, content.seed, content.len), &outcome)?;
    session.world.blobs().end(name, ending);
    ensure!(
        ending != Ending::Refused,
        "{}: PUT of {name:?}: {outcome:?}",
        session.name
    );
    if ending == Ending::Done {
        session.world.tally().objects += 1;
    }
    Ok(ending)
}

async fn delete(session: &Session, name: &Name) -> anyhow::Result<Ending> {
    session.world.blobs().begin(name, None);
    let outcome = Outcome::of(session.clients.s3.delete_object(&name.0, &name.1).await);
    let ending = session.note("delete", name, &outcome)?;
    session.world.blobs().end(name, ending);
    ensure!(
        ending != Ending::Refused,
        "{}: DELETE of {name:?}: {outcome:?}",
        session.name
    );
    if ending == Ending::Done {
        session.world.tally().deletions += 1;
    }
    Ok(ending)
}

/// Reads one of the client's own objects back; false once the node is gone.
async fn read(session: &Session, name: &Name) -> anyhow::Result<bool> {
    match session.clients.s3.get_object(&name.0, &name.1).await {
        Ok(found) => {
            session.world.blobs().observe(name, Some(&found))?;
            session.world.tally().objects_read += 1;
            Ok(true)
        }
        Err(_) if session.is_over() => Ok(false),
        Err(error) => bail!("{}: GET of {name:?}: {error}", session.name),
    }
}
