//! Carries out the order to go on alone after a majority was lost for good.
//!
//! That happens before the node listens and without any way to other nodes, so that nobody of the
//! old cluster can have a say: both groups start with this node as their only voter, the rows of
//! everyone else are set to gone and their copies to dead, what was lost with them is written down,
//! and the groups stop again with all of this durable. Only then the order is removed, and the start
//! goes on as usual. After a crash anywhere before, the next start does all of it again.

use crate::group_stores::GroupStores;
use crate::network::{self, Network, Papers};
use crate::node::{Ground, begin};
use crate::{ClusterPart, StartError};
use floeberg_consensus::{AckMark, Begin, Footing, Standing};
use floeberg_env::OpenMode;
use floeberg_members::{RecoveryOrder, abandon_others, lift, present_members};
use floeberg_objects::stored_objects;
use floeberg_types::NodeId;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Says which objects were lost; replaced by the next recovery.
const REPORT: &str = "recovery-lost-objects.txt";

/// Objects looked at before others may run.
const PAGE: usize = 256;

/// Lost objects that the log names; the file has all.
const NAMED: usize = 20;

/// Carries out the order, if there is one.
pub(crate) async fn if_ordered(ground: &Ground<'_>, papers: &Papers) -> Result<(), StartError> {
    let Some(order) = papers.recovery else {
        return Ok(());
    };
    let others = others_that_answer(ground, papers).await?;
    if !others.is_empty() {
        return Err(StartError::NotAlone {
            others: others
                .iter()
                .map(NodeId::to_string)
                .collect::<Vec<_>>()
                .join(", "),
        });
    }
    tracing::warn!(
        ordered_at_ms = order.ordered_at.0,
        "going on alone, as ordered: commits that only the lost nodes had are gone"
    );
    let alone = |_| Footing::alone();
    let stores = ground
        .groups(&Network::none(), Begin::Survivor, alone)
        .await?;
    stores.ready().await;
    let gone = settle(ground, &stores).await;
    for (_, store) in stores.each().into_iter().rev() {
        store.shutdown().await?;
    }
    let gone = gone?;
    // Whatever kept this node from taking part was said in the cluster that is given up. Blocks for a few
    // syncs, before anybody is served.
    lift(&papers.home)?;
    RecoveryOrder::carried_out(&papers.home)?;
    tracing::warn!(
        gone = ?gone.iter().map(|node| node.0).collect::<Vec<_>>(),
        "this node is the whole cluster now: let new nodes join; the old ones are refused"
    );
    Ok(())
}

/// The members that are there: while one is, another cluster of the same name could go on beside this.
async fn others_that_answer(
    ground: &Ground<'_>,
    papers: &Papers,
) -> Result<Vec<NodeId>, StartError> {
    let me = ground.identity.node;
    // It only looks: it must not promise anything to anybody.
    let still = |_| Footing {
        standing: Standing::asking(),
        ..Footing::alone()
    };
    let stores = ground.groups(&Network::none(), begin(me), still).await?;
    say_what_is_missing(&stores, papers);
    let members = present_members(&stores.catalog);
    for (_, store) in stores.each().into_iter().rev() {
        store.shutdown().await?;
    }
    let ClusterPart::Member(member) = &ground.config.cluster else {
        return Ok(Vec::new());
    };
    let others = members?.into_iter().filter(|(node, _)| *node != me);
    network::who_answers(member, ground.identity, papers, ground.env, others).await
}

/// What others are known to have acknowledged and this node never got is gone with them.
fn say_what_is_missing(stores: &GroupStores, papers: &Papers) {
    for (group, store) in stores.each() {
        let here = store.group().mark();
        let known = papers.witnesses.marks(group);
        let more = known.iter().filter(|(_, mark)| **mark > here);
        let Some((node, most)) = more.max_by_key(|(_, mark)| **mark) else {
            tracing::info!(%group, %here, "no node is known to have more of the group");
            continue;
        };
        tracing::warn!(
            %group, %node, acknowledged = %most, %here, entries = ?missing(most, &here),
            "a node had acknowledged more of the group than there is here: what lies between is lost"
        );
    }
}

/// How many entries lie between two marks, if one leader wrote them.
fn missing(most: &AckMark, here: &AckMark) -> Option<u64> {
    let same = (most.term, most.node) == (here.term, here.node);
    let after = |mark: &AckMark| mark.accepted.map_or(0, |index| index + 1);
    (same && here.accepted.is_some()).then(|| after(most) - after(here))
}

async fn settle(ground: &Ground<'_>, stores: &GroupStores) -> Result<Vec<NodeId>, StartError> {
    let (account, me) = (&ground.config.account, ground.identity.node);
    let gone = abandon_others(&stores.catalog, account, ground.env, me).await?;
    let lost = lost_objects(ground, stores).await?;
    if lost.is_empty() {
        tracing::info!("every object that is known here is here");
        return Ok(gone);
    }
    for name in lost.iter().take(NAMED) {
        tracing::error!(%name, "an object was lost: this node has not all of its bytes");
    }
    let path = write_down(ground, &lost)?;
    tracing::error!(
        objects = lost.len(),
        list = %path.display(),
        "objects were lost with the other nodes; restore them from a backup, or drop the tables \
         that name them"
    );
    Ok(gone)
}

/// `bucket/key` of every object of which this node lacks a chunk.
async fn lost_objects(
    ground: &Ground<'_>,
    stores: &GroupStores,
) -> Result<Vec<String>, StartError> {
    let survey = |error| StartError::Survey(Box::new(error));
    let buckets = floeberg_catalog::bucket_names(&stores.catalog.local())
        .map_err(|error| StartError::Survey(Box::new(error)))?;
    let mut lost = Vec::new();
    let mut after = None;
    loop {
        // One for each page: the walk may take longer than a view lasts, and nobody writes meanwhile.
        let view = stores.objects.local();
        let page = stored_objects(&view, after.as_deref(), PAGE).map_err(survey)?;
        for object in &page {
            let mut here = true;
            for (chunk, _) in &object.chunks {
                here &= ground.volume.len_of(chunk)?.is_some();
            }
            if !here {
                let bucket = buckets.get(&object.bucket).map_or("?", String::as_str);
                lost.push(format!("{bucket}/{}", object.key));
            }
        }
        let Some(last) = page.into_iter().next_back() else {
            return Ok(lost);
        };
        after = Some(last.position);
        tokio::task::yield_now().await;
    }
}

fn write_down(ground: &Ground<'_>, lost: &[String]) -> Result<PathBuf, StartError> {
    let path = ground.config.data_dir().join(REPORT);
    let mut text = String::new();
    for name in lost {
        // Keys may hold line breaks.
        let _ = writeln!(text, "{}", name.escape_debug());
    }
    let failed = |source| StartError::DataDir {
        path: path.clone(),
        source,
    };
    let disk = &ground.env.disk;
    if disk.exists(&path) {
        disk.remove_file(&path).map_err(failed)?;
    }
    let file = disk.open(&path, OpenMode::CreateNew).map_err(failed)?;
    file.write_at(text.as_bytes(), 0).map_err(failed)?;
    file.sync_data().map_err(failed)?;
    Ok(path)
}
