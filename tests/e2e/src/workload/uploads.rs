//! Multipart uploads of one or two parts; what a crash interrupts is taken up after the restart.

use crate::blobs::{Blob, Ending};
use crate::connect::FILES;
use crate::content::Content;
use crate::outcome::Outcome;
use crate::world::{Session, Upload};
use anyhow::ensure;
use rand::Rng;

/// Every part but the last has at least this length (S3: 5 MiB).
const LEAST_PART: usize = 5 * 1024 * 1024;

pub(super) async fn upload(mut session: Session) -> anyhow::Result<()> {
    let mut number = 0;
    while !session.is_over() {
        let key = format!("{}/c{}/{number}", session.name, session.cycle);
        number += 1;
        let mut blob: Blob = Vec::new();
        if session.rng.random_ratio(1, 5) {
            blob.push(Content::of_len(&mut session.rng, LEAST_PART));
        }
        let len = session.rng.random_range(1..400 * 1024);
        blob.push(Content::of_len(&mut session.rng, len));
        let outcome = Outcome::of(session.clients.create_upload(FILES, &key).await);
        let ending = session.note("create-upload", &key, &outcome)?;
        let Outcome::Done(id) = outcome else {
            ensure!(
                ending == Ending::Unknown,
                "{}: creation was refused",
                session.name
            );
            break;
        };
        let etags = vec![None; blob.len()];
        let name = (FILES.to_owned(), key);
        session.world.blobs().begin(&name, Some(blob.clone()));
        // Known from here on, so that it can be taken up if the node is killed.
        let upload = Upload {
            name,
            id,
            blob,
            etags,
        };
        session.world.uploads().push(upload.clone());
        if finish(&session, upload).await? == Ending::Unknown {
            break;
        }
    }
    Ok(())
}

/// Sends the parts that are not acknowledged and completes the upload.
pub(crate) async fn finish(session: &Session, mut upload: Upload) -> anyhow::Result<Ending> {
    let name = upload.name.clone();
    let target = (name.0.as_str(), name.1.as_str());
    for part in 0..upload.blob.len() {
        if upload.etags[part].is_some() {
            continue;
        }
        let body = upload.blob[part].bytes();
        let sent = session
            .clients
            .upload_part(target, &upload.id, part + 1, body)
            .await;
        let outcome = Outcome::of(sent);
        let ending = session.note("upload-part", &(&name, part + 1), &outcome)?;
        let Outcome::Done(etag) = outcome else {
            ensure!(
                ending == Ending::Unknown,
                "{}: part {outcome:?}",
                session.name
            );
            return Ok(ending);
        };
        upload.etags[part] = Some(etag);
        replace(session, &upload);
    }
    let etags: Vec<String> = upload.etags.iter().flatten().cloned().collect();
    let completed = session
        .clients
        .complete_upload(target, &upload.id, &etags)
        .await;
    let outcome = Outcome::of(completed);
    let ending = session.note("complete-upload", &name, &outcome)?;
    ensure!(
        ending != Ending::Refused,
        "{}: {name:?}: {outcome:?}",
        session.name
    );
    if ending == Ending::Done {
        session.world.blobs().end(&name, Ending::Done);
        session
            .world
            .uploads()
            .retain(|other| other.id != upload.id);
        session.world.tally().uploads += 1;
    }
    Ok(ending)
}

fn replace(session: &Session, upload: &Upload) {
    let mut uploads = session.world.uploads();
    if let Some(known) = uploads.iter_mut().find(|other| other.id == upload.id) {
        *known = upload.clone();
    }
}
