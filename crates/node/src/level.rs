//! The feature level of a node that is the whole cluster: what it knows, everybody knows.

use crate::group_stores::GroupStores;
use crate::{ClusterPart, NodeConfig};
use floeberg_env::Env;
use floeberg_metastore::{Cx, Store};
use floeberg_state::FEATURE_LEVEL;
use tokio::task::JoinHandle;

/// How often a group is asked that does not lead yet; each time it is waited for.
const ATTEMPTS: usize = 10;

/// Raises each group to the level of this version, once it leads, if there are no other nodes.
pub(crate) fn raise_alone(
    config: &NodeConfig,
    stores: &GroupStores,
    env: &Env,
) -> Vec<JoinHandle<()>> {
    if !matches!(config.cluster, ClusterPart::Single) {
        return Vec::new();
    }
    let raise = |store: &Store| {
        let (store, account, own) = (store.clone(), config.account.clone(), env.clone());
        env.tasks.spawn("feature level", async move {
            for _ in 0..ATTEMPTS {
                let cx = Cx::own(account.clone(), &own);
                match store.raise_feature_level(&cx, FEATURE_LEVEL).await {
                    Ok(()) => return,
                    Err(error) => tracing::debug!(%error, "the feature level is not raised yet"),
                }
            }
        })
    };
    stores
        .each()
        .iter()
        .map(|(_, store)| raise(store))
        .collect()
}
