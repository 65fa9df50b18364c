//! The rows of both groups of a node.

use floeberg_metastore::Store;
use floeberg_types::GroupId;
use std::time::Duration;

/// Pause between two attempts to read while the groups find their leaders.
const LOOK: Duration = Duration::from_millis(50);

/// The rows of both groups.
#[derive(Clone)]
pub(crate) struct GroupStores {
    pub(crate) catalog: Store,
    pub(crate) objects: Store,
}

impl GroupStores {
    pub(crate) const fn each(&self) -> [(GroupId, &Store); 2] {
        [
            (GroupId::CATALOG, &self.catalog),
            (GroupId::OBJECTS, &self.objects),
        ]
    }

    /// Waits until both groups have a leader that answers a read of this node.
    pub(crate) async fn ready(&self) {
        for (group, store) in self.each() {
            let leader = store.group().leader_watch();
            while store.read(|_| ()).await.is_err() {
                if leader.has_changed().is_err() {
                    // Its hook has been told, and requests will be.
                    tracing::error!(%group, "a group stopped before it was ready");
                    break;
                }
                tokio::time::sleep(LOOK).await;
            }
        }
    }
}
