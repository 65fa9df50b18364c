//! Puts one machine, or its volume alone, back to an older image of itself, and starts it again and again.
//!
//! Only what the others have had the time to hear of can be noticed (docs/decisions/0008-marks.md), so
//! it is put back once each of them knows of something that the image lacks.

use crate::client::Client;
use crate::cluster::Cluster;
use crate::door::Door;
use crate::run::PutBack;
use floeberg_types::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// Longer than two exchanges of marks whose questions are not answered.
const HEARD: Duration = Duration::from_secs(9);
/// How long a node may take to count the copies that it lacks.
const PATIENCE: Duration = Duration::from_secs(4);
const LOOK: Duration = Duration::from_millis(250);

/// How often a machine whose volume was put back is started again before it is left alone.
const STARTS: u64 = 3;

/// One rollback of a run.
pub(crate) struct Rollback {
    cluster: Arc<Cluster>,
    kind: PutBack,
    client: Client,
}

impl Rollback {
    /// Of a cluster to which `client` writes what the image lacks.
    pub(crate) fn new(cluster: &Arc<Cluster>, kind: PutBack, client: Client) -> Self {
        Self {
            cluster: cluster.clone(),
            kind,
            client,
        }
    }

    /// Goes on until it is dropped.
    pub(crate) async fn run(mut self) {
        let cluster = &self.cluster.clone();
        self.pause(2_000).await;
        let members = cluster.members();
        let at = cluster.draw(members.len() as u64);
        let node = members[usize::try_from(at).unwrap_or(0)];
        let (image, knows_more) = loop {
            let image = cluster.image(node);
            // After the image: what is durable may have grown meanwhile.
            let door = cluster.door(node);
            let knows_more = door.and_then(|door| match self.kind {
                PutBack::Volume => of_volume(&door, NodeId(node)),
                _ => Some(of_groups(&door, NodeId(node))),
            });
            if let (Some(image), Some(knows_more)) = (image, knows_more) {
                break (image, knows_more);
            }
            tokio::time::sleep(LOOK).await;
        };
        cluster.record.note("image", &[node]);
        if self.kind == PutBack::Volume {
            // Other objects are written again and again, so that hardly one would be lost at the end.
            self.client.keep().await;
        }
        while !self.all(node, &*knows_more) {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(HEARD).await;
        while !self.all(node, &*knows_more) {
            tokio::time::sleep(LOOK).await;
        }
        if self.kind == PutBack::Volume {
            cluster.put_volume_back(node, &image);
            return self.missed(node).await;
        }
        cluster.put_back(node, &image);
        loop {
            cluster.boot(node).await;
            self.pause(3_000).await;
            cluster.crash(node);
            self.pause(300).await;
        }
    }

    async fn pause(&self, most_ms: u64) {
        let pause = Duration::from_millis(1 + self.cluster.draw(most_ms));
        tokio::time::sleep(pause).await;
    }

    /// A node takes part without trusting its volume, also when it is started again before that is whole.
    async fn missed(&self, node: u64) {
        let cluster = &self.cluster;
        for _ in 0..STARTS {
            cluster.boot(node).await;
            let Some(door) = cluster.door(node) else {
                continue;
            };
            while cluster
                .door(node)
                .is_some_and(|now| Arc::ptr_eq(&now, &door))
            {
                if door.node.takes_part() {
                    let marks = door.node.volume_marks();
                    if !marks.is_some_and(|marks| marks.are_missed()) {
                        let what = format!("node {node} trusts a volume that was put back");
                        cluster.record.broken(what);
                        self.lost(node, &door).await;
                    }
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
            self.pause(3_000).await;
            cluster.crash(node);
        }
        cluster.boot(node).await;
    }

    /// What that does: copies are lost and nobody brings them back. Looked for at once, because a new leader of
    /// the catalog compares all copies with the map, and would copy them by chance.
    async fn lost(&self, node: u64, door: &Door) {
        let missing = tokio::time::timeout(PATIENCE, door.node.missing_copies()).await;
        if let Ok(Some(missing)) = missing
            && missing > 0
        {
            let what = format!("node {node} has lost {missing} copies and does not know it");
            self.cluster.record.broken(what);
        }
    }

    /// Whether each of the others is up and `knows_more`.
    fn all(&self, node: u64, knows_more: &(dyn Fn(&Door) -> bool + Send + Sync)) -> bool {
        let others = self.cluster.members().into_iter();
        let mut others = others.filter(|other| *other != node);
        others.all(|other| {
            let door = self.cluster.door(other);
            door.is_some_and(|door| knows_more(&door))
        })
    }
}

type KnowsMore = Box<dyn Fn(&Door) -> bool + Send + Sync>;

/// Whether somebody has heard of more than a node has acknowledged by now in some group.
fn of_groups(door: &Door, node: NodeId) -> KnowsMore {
    let groups = door.node.groups();
    let then = groups.map(|(_, store)| store.group().mark());
    Box::new(move |other| {
        let groups = other.node.groups();
        let mut known = groups.into_iter().zip(then);
        known.any(|((_, store), then)| {
            let known = store.group().witness().known(node);
            known.is_some_and(|known| known > then)
        })
    })
}

/// The same of its volume.
fn of_volume(door: &Door, node: NodeId) -> Option<KnowsMore> {
    let then = door.node.volume_marks()?.own();
    Some(Box::new(move |other| {
        let known = other
            .node
            .volume_marks()
            .and_then(|marks| marks.known(node));
        known.is_some_and(|known| then.lacks(&known))
    }))
}
