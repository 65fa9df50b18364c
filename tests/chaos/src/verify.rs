//! What a run looks at once everything is healed: every table, object and name, through every node.

use crate::connect::Clients;
use crate::history::{Call, Event, Final, Line, NameCall};
use crate::record::Recorder;
use crate::workload::{self, Asked, Session, Stage};
use anyhow::bail;
use futures::future::try_join_all;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A healthy cluster answers within this time.
const PATIENCE: Duration = Duration::from_secs(20);
/// A node that gives no answer for so long after it was healed is a failure.
const LIMIT: Duration = Duration::from_secs(60);
/// Readers of objects at a time, for each node.
const LANES: usize = 6;

fn session(record: &Arc<Recorder>, stage: &Arc<Stage>, node: &Clients, lane: usize) -> Session {
    let name = format!("verifier-{}-{lane}", node.node);
    let mut session = Session::new(name, record, stage, std::slice::from_ref(node), 0, 0);
    session.patience = PATIENCE;
    session
}

/// Repeats a question until it is answered.
async fn insist<T>(what: &str, mut ask: impl AsyncFnMut() -> Asked<T>) -> anyhow::Result<T> {
    let begin = Instant::now();
    loop {
        match ask().await {
            Asked::Done(value) => return Ok(value),
            Asked::Refused(status @ (404 | 403)) => bail!("{what}: answered {status}"),
            Asked::Refused(_) | Asked::Unknown if begin.elapsed() < LIMIT => {}
            Asked::Refused(status) => bail!("{what}: still answered {status} after {LIMIT:?}"),
            Asked::Unknown => bail!("{what}: no answer within {LIMIT:?} although all is healed"),
        }
    }
}

/// Loads every table of a round through every node.
///
/// # Errors
/// If a node does not answer.
pub async fn tables(
    record: &Arc<Recorder>,
    stage: &Arc<Stage>,
    nodes: &[Clients],
) -> anyhow::Result<()> {
    try_join_all(nodes.iter().map(|node| tables_of(record, stage, node))).await?;
    Ok(())
}

async fn tables_of(
    record: &Arc<Recorder>,
    stage: &Arc<Stage>,
    node: &Clients,
) -> anyhow::Result<()> {
    let mut session = session(record, stage, node, 0);
    for index in 0..stage.tables.len() {
        let table = stage.table(index);
        let what = format!("load of {table} through node {}", node.node);
        let load = async || {
            let call = Call::Load {
                table: table.clone(),
            };
            let look = workload::look(node.clone(), stage, index);
            session.ask(call, look, workload::View::answer).await
        };
        let view = insist(&what, load).await?;
        record.table(Final {
            node: node.node,
            table,
            head: view.head,
            snapshots: view.snapshots,
        });
    }
    Ok(())
}

/// Reads every object and lists every namespace of a round through every node.
///
/// # Errors
/// If a node does not answer.
pub async fn objects_and_names(
    record: &Arc<Recorder>,
    stage: &Arc<Stage>,
    nodes: &[Clients],
    lines: &[Line],
) -> anyhow::Result<()> {
    let mut keys = BTreeSet::new();
    for line in lines {
        if let Event::Invoke {
            call: Call::Put { key, .. },
            ..
        } = &line.event
        {
            keys.insert(key.clone());
        }
    }
    let keys: Vec<String> = keys.into_iter().collect();
    let share = keys.len().div_ceil(LANES).max(1);
    let readers = nodes.iter().flat_map(|node| {
        let shares = keys.chunks(share).enumerate();
        shares.map(move |(lane, keys)| objects(session(record, stage, node, lane), node, keys))
    });
    try_join_all(readers).await?;
    let listings = nodes.iter().map(|node| names(record, stage, node));
    try_join_all(listings).await?;
    Ok(())
}

async fn objects(mut session: Session, node: &Clients, keys: &[String]) -> anyhow::Result<()> {
    for key in keys {
        let what = format!("read of {key} through node {}", node.node);
        let fetch = async || {
            let call = Call::Get { key: key.clone() };
            let fetch = workload::fetch(node.clone(), key.clone());
            session.ask(call, fetch, Clone::clone).await
        };
        insist(&what, fetch).await?;
    }
    Ok(())
}

async fn names(record: &Arc<Recorder>, stage: &Arc<Stage>, node: &Clients) -> anyhow::Result<()> {
    let mut session = session(record, stage, node, 0);
    let family = stage.family();
    for space in workload::SPACES.map(|space| format!("{family}{space}")) {
        let what = format!("list of {space} through node {}", node.node);
        let list = async || {
            let call = Call::Name {
                family: family.clone(),
                call: NameCall::List {
                    space: space.clone(),
                },
            };
            let list = workload::list(node.clone(), space.clone());
            session.ask(call, list, Clone::clone).await
        };
        insist(&what, list).await?;
    }
    Ok(())
}
