//! Puts one machine back to an older image of itself, and starts it again and again.
//!
//! Only what the others have had the time to hear of can be noticed (docs/decisions/0008-marks.md), so
//! the machine is put back once each of them knows of something that the image lacks.

use crate::cluster::Cluster;
use floeberg_consensus::AckMark;
use floeberg_types::NodeId;
use std::sync::Arc;
use std::time::Duration;

/// Longer than two exchanges of marks whose questions are not answered.
const HEARD: Duration = Duration::from_secs(9);
const LOOK: Duration = Duration::from_millis(250);

/// One rollback of a run.
pub(crate) struct Rollback {
    cluster: Arc<Cluster>,
}

impl Rollback {
    pub(crate) fn new(cluster: &Arc<Cluster>) -> Self {
        Self {
            cluster: cluster.clone(),
        }
    }

    /// Goes on until it is dropped.
    pub(crate) async fn run(self) {
        let cluster = &self.cluster;
        self.pause(2_000).await;
        let members = cluster.members();
        let at = cluster.draw(members.len() as u64);
        let node = members[usize::try_from(at).unwrap_or(0)];
        let (image, then) = loop {
            let image = cluster.image(node);
            // After the image: what is durable may have grown meanwhile.
            if let (Some(image), Some(marks)) = (image, self.marks(node)) {
                break (image, marks);
            }
            tokio::time::sleep(LOOK).await;
        };
        cluster.record.note("image", &[node]);
        while !self.all_know_more(node, &then) {
            tokio::time::sleep(LOOK).await;
        }
        tokio::time::sleep(HEARD).await;
        while !self.all_know_more(node, &then) {
            tokio::time::sleep(LOOK).await;
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

    /// What a node that is up has acknowledged, group by group.
    fn marks(&self, node: u64) -> Option<Vec<AckMark>> {
        let door = self.cluster.door(node)?;
        let groups = door.node.groups();
        Some(groups.map(|(_, store)| store.group().mark()).to_vec())
    }

    /// Whether each of the others is up and has heard of more than `then`.
    fn all_know_more(&self, node: u64, then: &[AckMark]) -> bool {
        let members = self.cluster.members();
        members
            .into_iter()
            .filter(|other| *other != node)
            .all(|other| {
                let Some(door) = self.cluster.door(other) else {
                    return false;
                };
                let groups = door.node.groups();
                let mut known = groups.into_iter().zip(then);
                known.any(|((_, store), then)| {
                    let known = store.group().witness().known(NodeId(node));
                    known.is_some_and(|known| known > *then)
                })
            })
    }
}
