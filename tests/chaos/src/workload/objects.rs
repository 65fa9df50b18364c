//! Writes of objects under new keys and under a few that all clients overwrite, and reads of both.

use super::{Session, content};
use crate::connect::{Clients, FILES};
use crate::history::{Answer, Call};
use floeberg_client::ClientError;
use rand::Rng;

/// Keys that every client writes.
const CONTENDED: u32 = 2;

/// Reads an object through a node.
pub(crate) async fn fetch(node: Clients, key: String) -> Result<Answer, ClientError> {
    match node.s3.get_object(FILES, &key).await {
        Ok(read) => Ok(match content::marker(&read) {
            Ok(marker) => Answer::Object {
                marker: Some(marker),
            },
            Err(what) => Answer::Garbled { what },
        }),
        Err(ClientError::Service(error)) if error.code == "NoSuchKey" => {
            Ok(Answer::Object { marker: None })
        }
        Err(error) => Err(error),
    }
}

pub(super) async fn work(mut session: Session) {
    let mut own: Vec<String> = Vec::new();
    while !session.is_over() {
        let contended = session.rng.random_range(0..CONTENDED);
        let contended = session.stage.key(&format!("all-{contended}"));
        match session.rng.random_range(0..10) {
            0..4 => {
                let key = session
                    .stage
                    .key(&format!("{}-{}", session.name, own.len()));
                put(&mut session, key.clone()).await;
                own.push(key);
            }
            4..6 => put(&mut session, contended).await,
            6..8 if !own.is_empty() => {
                let at = session.rng.random_range(0..own.len());
                get(&mut session, own[at].clone()).await;
            }
            _ => get(&mut session, contended).await,
        }
    }
}

async fn put(session: &mut Session, key: String) {
    let marker: u64 = session.rng.random();
    let node = session.node();
    let call = Call::Put {
        key: key.clone(),
        marker,
    };
    let request = async {
        node.s3
            .put_object(FILES, &key, content::bytes(marker))
            .await
    };
    session.ask(call, request, |_| Answer::Done).await;
}

async fn get(session: &mut Session, key: String) {
    let node = session.node();
    let call = Call::Get { key: key.clone() };
    session.ask(call, fetch(node, key), Clone::clone).await;
}
