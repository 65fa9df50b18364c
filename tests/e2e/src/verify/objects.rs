//! Objects, their listings, and uploads that were interrupted.

use super::Extent;
use crate::blobs::{Ending, Name, bytes};
use crate::connect::{Clients, FILES};
use crate::workload;
use crate::world::Session;
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use futures::StreamExt as _;
use rand::seq::IndexedRandom as _;
use std::collections::{BTreeMap, BTreeSet};

/// Untouched objects that are read again after each restart.
const SAMPLE: usize = 40;
const PARALLEL: usize = 8;

pub(super) async fn verify(session: &mut Session, extent: Extent) -> anyhow::Result<()> {
    uploads(session).await?;
    let touched = session.world.blobs().take_touched();
    let all = session.world.blobs().names();
    let names: Vec<Name> = match extent {
        Extent::All => all,
        Extent::Touched => {
            let sample = all.choose_multiple(&mut session.rng, SAMPLE).cloned();
            touched.iter().cloned().chain(sample).collect()
        }
    };
    let clients = &session.clients;
    let mut found = futures::stream::iter(names)
        .map(|name| async move { get(clients, &name).await.map(|found| (name, found)) })
        .buffer_unordered(PARALLEL);
    while let Some(result) = found.next().await {
        let (name, found) = result?;
        session.world.blobs().observe(&name, found.as_ref())?;
        session.world.tally().objects_read += 1;
    }
    drop(found);
    listings(session, &touched, extent).await
}

/// The object's bytes, if it exists; its HEAD must agree.
async fn get(clients: &Clients, name: &Name) -> anyhow::Result<Option<Bytes>> {
    let absent = Some(http::StatusCode::NOT_FOUND);
    let head = match clients.s3.head_object(&name.0, &name.1).await {
        Ok(head) => Some(head.size),
        Err(error) if error.status() == absent => None,
        Err(error) => bail!("HEAD of {name:?}: {error}"),
    };
    let found = match clients.s3.get_object(&name.0, &name.1).await {
        Ok(found) => Some(found),
        Err(error) if error.status() == absent => None,
        Err(error) => bail!("GET of {name:?}: {error}"),
    };
    let length = found.as_ref().map(|found| found.len() as u64);
    ensure!(
        head == length,
        "{name:?}: HEAD says {head:?}, GET gives {length:?} bytes"
    );
    Ok(found)
}

async fn listings(
    session: &Session,
    touched: &BTreeSet<Name>,
    extent: Extent,
) -> anyhow::Result<()> {
    let folder = |name: &Name| match name.1.rsplit_once('/') {
        Some((folder, _)) if name.0 == FILES => Some(format!("{folder}/")),
        _ => None,
    };
    let prefixes: BTreeSet<String> = match extent {
        Extent::All => BTreeSet::from([String::new()]),
        Extent::Touched => touched.iter().filter_map(folder).collect(),
    };
    for prefix in prefixes {
        let mut listed = BTreeMap::new();
        let mut after: Option<String> = None;
        loop {
            let page = session
                .clients
                .s3
                .list_objects(FILES, &prefix, "", after.as_deref())
                .await?;
            for object in page.objects {
                let twice = listed.insert(object.key.clone(), object.size);
                ensure!(twice.is_none(), "{} is listed twice", object.key);
            }
            match page.next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        session
            .world
            .blobs()
            .check_listing(FILES, &prefix, &listed)?;
    }
    Ok(())
}

/// Takes up interrupted uploads with the parts that were acknowledged, and completes them.
async fn uploads(session: &Session) -> anyhow::Result<()> {
    let open = std::mem::take(&mut *session.world.uploads());
    for upload in open {
        let found = get(&session.clients, &upload.name).await?;
        if found.is_some_and(|found| found == bytes(&upload.blob)) {
            session.world.blobs().end(&upload.name, Ending::Done);
            continue;
        }
        let name = upload.name.clone();
        let ending = workload::finish_upload(session, upload).await;
        let ending = ending.with_context(|| format!("taking up the upload of {name:?}"))?;
        ensure!(
            ending == Ending::Done,
            "the upload of {name:?} could not be completed"
        );
    }
    Ok(())
}
